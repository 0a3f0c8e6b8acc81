"""The version of this release, as dead letters and the command show it."""

import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path


@cache
def version() -> str:
    """`1.2.3`: of the installed distribution, else (an image, a bare tree) of pyproject.toml; `0` without both."""
    try:
        return metadata.version("replyrate")
    except metadata.PackageNotFoundError:
        pass
    try:
        text = (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
        return str(tomllib.loads(text)["project"]["version"])
    except (OSError, KeyError):
        return "0"
