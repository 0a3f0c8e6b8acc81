"""Texts of the panel in English and Chinese: texts.toml. A text is named by its table and its key: `rate.title`."""

from functools import cache
from typing import Any

from services.common.language import Language
from services.common.tables import read_table


@cache
def load() -> dict[str, dict[str, dict[Language, str]]]:
    """services/portal/panel/texts.toml."""
    return read_table("services.portal.panel", "texts.toml")


def text(name: str, language: Language, /, **values: Any) -> str:
    """A text with its placeholders filled in."""
    table, _, key = name.partition(".")
    return load()[table][key][language].format_map(values)
