"""Why a dead letter is not replayed: the sentences of refusals.toml."""

from collections.abc import Mapping
from functools import cache
from typing import Final, Literal

import msgspec

from services.common.errors import ReplyrateError
from services.common.language import Bilingual, filled
from services.common.tables import read_table

RefusalCode = Literal[
    "replayed-before", "no-origin", "no-company", "replays-spent", "gone", "no-partition", "unreadable", "broker",
]  # fmt: skip
NONE: Final = Bilingual("", "")
"""Of a letter that is replayed."""


class RescanRefused(ReplyrateError):
    """A mailbox cannot be read again; `reason`: why, in both languages."""

    def __init__(self, reason: Bilingual) -> None:
        self.reason = reason
        super().__init__(reason.en)


@cache
def load() -> Mapping[str, Bilingual]:
    """The sentence of each code."""
    return msgspec.convert(read_table("services.dead_letters", "refusals.toml"), dict[str, Bilingual])


def refusal(code: RefusalCode, **values: str | int) -> Bilingual:
    """The sentence of a code with its placeholders filled in."""
    return filled(load()[code], **values)
