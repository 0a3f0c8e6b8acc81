"""The version is known also in a tree or an image where the distribution is not installed."""

import re
from importlib import metadata

import pytest

from services.common.version import version


def test_the_version_without_an_installed_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    installed = version()
    monkeypatch.setattr(metadata, "version", missing)
    assert version() == installed
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", installed)
