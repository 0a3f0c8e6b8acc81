"""Names of Sent folders on servers without \\Sent, in many languages (sent_names.toml). Pure."""

import re
import unicodedata
from functools import cache

from services.common.tables import read_table


def is_sent_name(name: str) -> bool:
    """Whether the last part of a folder name is a known name for sent mail; a name with a further word is a user's folder."""
    return _parts(name)[-1] in sent_names()


def is_below_discarded(name: str) -> bool:
    """Whether a folder is below one for deleted or unwanted mail, by the names of its parents."""
    return not discarded().isdisjoint(_parts(name)[:-1])


def is_shared_name(part: str) -> bool:
    """Whether the first part of a folder name is one under which servers list folders of other people."""
    return _folded(part) in shared()


def _parts(name: str) -> list[str]:
    return [part.strip() for part in re.split(r"[/.\\]", _folded(name))]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip()


@cache
def sent_names() -> frozenset[str]:
    """The names of sent_names.toml after NFKC and case folding."""
    return _names("names")


@cache
def discarded() -> frozenset[str]:
    """Names of folders for deleted and unwanted mail, folded in the same way."""
    return _names("discarded")


@cache
def shared() -> frozenset[str]:
    """Names under which servers list folders of other people, folded in the same way."""
    return _names("shared")


def _names(key: str) -> frozenset[str]:
    data = read_table("services.providers", "sent_names.toml")
    return frozenset(_folded(name) for name in data[key])
