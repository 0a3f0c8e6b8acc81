"""What the reason of a dead letter means and what to do: the sentences of reasons.toml."""

from collections.abc import Mapping
from functools import cache

import msgspec

from services.common.language import Bilingual
from services.common.tables import read_table


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happened, and what to do."""

    meaning: Bilingual
    cure: Bilingual


@cache
def load() -> Mapping[str, Reason]:
    """The sentences of each code."""
    return msgspec.convert(read_table("services.dead_letters", "reasons.toml"), dict[str, Reason])


def explain(code: str) -> Reason:
    """The sentences of a code; a code of another version has general ones."""
    return load().get(code) or load()["other"]
