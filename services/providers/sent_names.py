"""Names of Sent folders on servers without \\Sent, in many languages (sent_names.toml). Pure."""

import re
import unicodedata
from functools import cache
from typing import Final

from services.common.tables import read_table

_LETTERS: Final = str.maketrans("łøıđ", "loid")
"""Letters that have no decomposition in Unicode."""
_UNACCENTED: Final = 6
"""Length from which a name counts without its accents: shorter ones are other words (`sänt`, `sända`)."""


def is_sent_name(name: str) -> bool:
    """Whether the last part of a folder name is a known name for sent mail; a name with a further word is a user's folder."""
    last = _parts(name)[-1]
    return last in sent_names() or _without_accents(last) in sent_names_without_accents()


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
def sent_names_without_accents() -> frozenset[str]:
    """Those names in Latin letters as servers and people write them without accents (`Messages envoyes`, `Wyslane`)."""
    return frozenset(
        plain
        for name in sent_names()
        if len(plain := _without_accents(name)) >= _UNACCENTED and plain.isascii() and plain != name
    )


def _without_accents(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name.translate(_LETTERS))
    return "".join(char for char in decomposed if not unicodedata.combining(char))


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
