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
    """The meaning of a server's text at a stage; None when the text is not known. Linear in the text.

    An explicit response code (RFC 5530) outranks the words: a temporary one decides alone, and beside one that says that the
    login is wrong no word makes it temporary.
    """
    head = text[:1000]
    code = _response_code(head)
    if code in codes()["later"] or (stage == "login" and code in codes()["later_at_login"]):
        return ServerTextMeaning("later", "throttled")
    for entry in texts():
        if entry["kind"] == "later" and code in codes()["refused"]:
            continue
        if "at" in entry and stage not in entry["at"]:
            continue
        if re.search(entry["pattern"], head, re.I) and not (
            "unless" in entry and re.search(entry["unless"], head, re.I)
        ):
            return ServerTextMeaning(entry["kind"], entry["code"])
    return None


def _response_code(text: str) -> str | None:
    """The first response code that is known. Libraries put words of their own, or a bytes literal, around the server's text."""
    names = (name.upper() for name in re.findall(r"\[([A-Za-z][A-Za-z0-9/-]{1,30})[\] ]", text))
    return next((name for name in names if any(name in group for group in codes().values())), None)


@cache
def codes() -> dict[str, frozenset[str]]:
    """The response codes of server_texts.toml by what they mean."""
    return {
        meaning: frozenset(names)
        for meaning, names in read_table("services.providers", "server_texts.toml")["codes"].items()
    }


@cache
def texts() -> tuple[dict[str, Any], ...]:
    """The entries of server_texts.toml, in order."""
    return tuple(read_table("services.providers", "server_texts.toml")["text"])
