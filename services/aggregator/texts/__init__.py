"""Sentences about the numbers that a seller may read, in English and Chinese: a TOML file for each command, a line for each sentence.

    [section]
    code = { en = "… {name} …", zh = "… {name} …" }

A test checks that every code has both languages with the same names in braces.
"""

from functools import cache
from importlib import resources
from typing import Any

from services.common.display import duration_in_words, printable
from services.common.tables import read_table

LANGUAGES = ("en", "zh")


class Texts:
    """The sentences of one file in one language."""

    def __init__(self, name: str, language: str) -> None:
        self._sections = load(name)
        self._language = language

    def __call__(self, section: str, code: object, **values: Any) -> str:
        """The sentence for `code` with `values` filled in, made printable; the code itself when it has no sentence."""
        sentence = self._sections.get(section, {}).get(str(code))
        if sentence is None:
            return printable(str(code))
        shown = {name: printable(value) if isinstance(value, str) else value for name, value in values.items()}
        return sentence[self._language].format(**shown)

    def duration(self, seconds: float | None) -> str:
        """A duration in words of the language."""
        return duration_in_words(seconds, "zh" if self._language == "zh" else "en")


@cache
def load(name: str) -> dict[str, dict[str, dict[str, str]]]:
    """All sections of `name`.toml."""
    return read_table("services.aggregator.texts", f"{name}.toml")


def names() -> list[str]:
    """Names of the files, without their ending."""
    folder = resources.files("services.aggregator.texts")
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))
