"""The meaning of a mail server's refusal: its words → a code (server_texts.toml). Pure; the words themselves go no further."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from services.common.tables import read_table

Reaction = Literal["refused", "unclear", "later"]


@dataclass(frozen=True, slots=True)
class ServerTextMeaning:
    """How to react to a refusal, and the code of its sentence."""

    kind: Reaction
    code: str


def meaning(stage: str, text: str) -> ServerTextMeaning | None:
    """The meaning of a server's text at a stage; None when the text is not known. Linear in the text."""
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
