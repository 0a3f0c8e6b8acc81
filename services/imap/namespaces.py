"""Whose folders a server lists: the answer to NAMESPACE (RFC 2342), and the usual names where a server does not offer it. Pure.

A server may show folders of other people, which they have shared with the owner of the mailbox. Their owners have consented to
nothing, so they are not read (docs/decisions, "Personal folders only").
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from imapclient import imap_utf7

from services.providers import sent_names


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Prefixes of folder names as raw bytes: the mailbox's own folders, and those of other users or shared by several."""

    personal: Sequence[bytes] = ()
    foreign: Sequence[bytes] = ()


def from_answer(parsed: Sequence[Any]) -> Namespaces:
    """The parsed answer to NAMESPACE: personal, other users', shared; each a list of (prefix, delimiter, …) or None.

    ValueError for any other form.
    """
    if len(parsed) < 3:
        raise ValueError("not an answer to NAMESPACE")
    personal, other_users, shared = ([_prefix(entry) for entry in group or ()] for group in parsed[:3])
    return Namespaces(personal, [*other_users, *shared])


def _prefix(entry: Any) -> bytes:
    if not isinstance(entry, tuple) or not entry:
        raise ValueError("not a namespace")
    prefix = entry[0]
    return prefix if isinstance(prefix, bytes) else str(prefix).encode()


def is_personal(name: bytes, namespaces: Namespaces) -> bool:
    """Whether a folder belongs to the owner of the mailbox. The longest prefix decides, and the foreign one of two equal ones.

    Names that are usual for shared folders are foreign unless a personal prefix covers them: servers can hide a namespace
    (Dovecot's `hidden = yes`) and still list its folders.
    """
    folded = name.lower()
    if folded == b"inbox":
        return True
    personal = _longest(folded, namespaces.personal)
    foreign = _longest(folded, [*namespaces.foreign, *_usual_prefixes(name)])
    if personal is None:
        return foreign is None and not namespaces.personal
    return foreign is None or len(personal) > len(foreign)


def _longest(folded: bytes, prefixes: Iterable[bytes]) -> bytes | None:
    matches = [prefix for prefix in prefixes if folded.startswith(prefix.lower())]
    return max(matches, key=len, default=None)


def _usual_prefixes(name: bytes) -> list[bytes]:
    """The first part of a name, with its delimiter, when it is usual for folders of other people."""
    match = re.match(rb"(?:inbox[/.\\])?([^/.\\]+)[/.\\]", name, re.I)
    if match is None:
        return [b"#"] if name.startswith(b"#") else []
    first = match[1].strip()
    return [match[0]] if first.startswith((b"#", b"~")) or sent_names.is_shared_name(_text(first)) else []


def _text(name: bytes) -> str:
    try:
        return str(imap_utf7.decode(name)) if name.isascii() else name.decode("utf-8", "replace")
    except Exception:  # not modified UTF-7: compared as it is
        return name.decode("utf-8", "replace")
