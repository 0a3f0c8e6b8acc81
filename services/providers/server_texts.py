"""What a mail server means by a refusal: its words → a code of ours. Pure; the words themselves go no further."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from services.common.tables import read_table

Kind = Literal["refused", "unclear", "later"]


@dataclass(frozen=True, slots=True)
class ServerTextMeaning:
    """What a text says: whether a person must act, and the code of it."""

    kind: Kind
    code: str


def meaning(stage: str, text: str) -> ServerTextMeaning | None:
    """The meaning of what a server said at a stage; None when nothing is known of it. Linear in the text."""
    head = text[:1000]
    for entry in texts():
        if "at" in entry and stage not in entry["at"]:
            continue
        if re.search(entry["pattern"], head, re.I) and not (
            "unless" in entry and re.search(entry["unless"], head, re.I)
        ):
            return ServerTextMeaning(entry["kind"], entry["code"])
    return None


@cache
def texts() -> tuple[dict[str, Any], ...]:
    """The entries of server_texts.toml, in order."""
    return tuple(read_table("services.providers", "server_texts.toml")["text"])
