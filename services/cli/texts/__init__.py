"""What a seller can read, in English and Chinese: one TOML file per command, a line per sentence.

    [section]
    code = { en = "… {name} …", zh = "… {name} …" }

A test holds that every code has both languages with the same names in braces.
"""

import tomllib
from functools import cache
from importlib import resources
from typing import Any

LANGUAGES = ("en", "zh")


class Texts:
    """The sentences of one file in one language; a code that has none stands for itself."""

    def __init__(self, name: str, language: str) -> None:
        self._sections = load(name)
        self._language = language

    def __call__(self, section: str, code: object, **values: Any) -> str:
        """The sentence for `code`, with `values` filled in."""
        found = self._sections.get(section, {}).get(str(code))
        return str(code) if found is None else found[self._language].format(**values)


@cache
def load(name: str) -> dict[str, dict[str, dict[str, str]]]:
    """All sections of `name`.toml."""
    text = resources.files("services.cli.texts").joinpath(f"{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


def names() -> list[str]:
    """Names of the files there are."""
    folder = resources.files("services.cli.texts")
    return sorted(one.name.removesuffix(".toml") for one in folder.iterdir() if one.name.endswith(".toml"))
