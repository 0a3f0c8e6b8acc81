"""Why a dead letter is not replayed: the sentences of refusals.toml."""

from collections.abc import Mapping
from typing import Final, Literal

from services.common.language import Bilingual, filled
from services.common.tables import read_sentences

RefusalCode = Literal[
    "replayed-before", "no-origin", "no-company", "replays-spent", "gone", "no-partition", "unreadable", "broker",
]  # fmt: skip
NONE: Final = Bilingual("", "")
"""Of a letter that is replayed."""


def load() -> Mapping[str, Bilingual]:
    """The sentence of each code."""
    return read_sentences("services.dead_letters", "refusals.toml")


def refusal(code: RefusalCode, **values: str | int) -> Bilingual:
    """The sentence of a code with its placeholders filled in."""
    return filled(load()[code], **values)
