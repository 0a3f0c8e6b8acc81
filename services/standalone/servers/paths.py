"""Folders of the embedded servers: the cache of downloads and the source tree."""

import os
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
"""The folder that contains `services/`: the source tree, or site-packages of an installed distribution."""


def cache_folder(environ: Mapping[str, str] | None = None) -> Path:
    """REPLYRATE_CACHE, else `.cache` in the source tree, else the user's cache folder (an installed distribution)."""
    environ = os.environ if environ is None else environ
    if named := environ.get("REPLYRATE_CACHE"):
        return Path(named).absolute()
    if (ROOT / "pyproject.toml").exists() or (ROOT / ".git").exists():
        return ROOT / ".cache"
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "replyrate"
