"""Texts of the console in English and Chinese: the tables of the files in FILES. A text is named by its table and its key: `search.title`."""

from functools import cache
from typing import Any, Final

from services.common.language import Language
from services.common.tables import read_table

FILES: Final = ("texts.toml", "operate_texts.toml")


@cache
def load() -> dict[str, dict[str, dict[Language, str]]]:
    """The texts of all files; a table may be in several of them."""
    merged: dict[str, dict[str, dict[Language, str]]] = {}
    for file in FILES:
        for table, texts in read_table("services.portal.console", file).items():
            merged.setdefault(table, {}).update(texts)
    return merged


def text(name: str, language: Language, /, **values: Any) -> str:
    """A text with its placeholders filled in."""
    table, _, key = name.partition(".")
    return load()[table][key][language].format_map(values)
