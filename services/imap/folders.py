"""Folders of a mailbox: their names as people and as servers write them, and which of them hold sent mail."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from imapclient import imap_utf7

from services.imap.errors import NoSentFolder
from services.imap.namespaces import Namespaces, is_personal
from services.providers import sent_names

CLOSED: Final = frozenset((b"\\noselect", b"\\nonexistent"))
"""Attributes of entries that cannot be opened."""
DISCARDED: Final = frozenset((b"\\trash", b"\\junk", b"\\spam"))
"""Attributes of folders for deleted and unwanted mail (RFC 6154; \\Spam is XLIST's): what is below them was thrown away."""
MAX_UNWATCHED: Final = 5
"""Sent folders that are counted without being read: a server's list is hostile until proven otherwise."""


@dataclass(frozen=True, slots=True)
class Folder:
    """An entry of LIST: its raw name, its attributes in lower case."""

    name: bytes
    flags: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class SentFolder:
    """A folder that holds sent mail: its raw name, and how it was found ("override", "special-use", "xlist", "name")."""

    name: bytes
    found_by: str


def readable(folders: Sequence[Folder], namespaces: Namespaces) -> list[Folder]:
    """Those folders that may be read without being named by the operator: they can be opened, belong to the owner of the
    mailbox, and are not below the trash or the junk folder."""
    bins = [folder.name for folder in folders if folder.flags & DISCARDED]
    return [
        folder
        for folder in folders
        if not folder.flags & CLOSED
        and is_personal(folder.name, namespaces)
        and not any(_is_below(folder.name, parent) for parent in bins)
        and not sent_names.is_below_discarded(folder_text(folder.name))
    ]


def _is_below(name: bytes, parent: bytes) -> bool:
    return name.startswith(parent) and name[len(parent) : len(parent) + 1] in (b"/", b".", b"\\")


def choose_sent_folders(folders: Sequence[Folder], by_xlist: Sequence[bytes]) -> list[SentFolder]:
    """All folders with \\Sent (those of XLIST where LIST shows none) and all with a known name. NoSentFolder.

    `folders` are those that may be read (`readable`); of `by_xlist` only these count.

    Both, because a mail program that did not find the server's folder makes its own and files there (docs/decisions,
    "Sent folders together").
    """
    chosen = dict.fromkeys(with_sent_attribute(folders), "special-use") or dict.fromkeys(
        (folder.name for folder in folders if folder.name in by_xlist), "xlist"
    )
    for folder in folders:
        if is_sent_name(folder.name):
            chosen.setdefault(folder.name, "name")
    if not chosen:
        raise NoSentFolder("sent", f"{len(folders)} folders, none of them holds sent mail by attribute or name")
    return [SentFolder(name, found_by) for name, found_by in sorted(chosen.items())]


def with_sent_attribute(folders: Sequence[Folder]) -> list[bytes]:
    """Names of the folders with \\Sent (RFC 6154)."""
    return [folder.name for folder in folders if b"\\sent" in folder.flags]


def other_sent_folders(folders: Sequence[Folder], watched: Sequence[bytes]) -> list[bytes]:
    """Those of the readable `folders` that hold sent mail and are not among `watched`; at most five.

    First those for sent mail by attribute or name, then the folders below any of them (`Sent/2025`, where archive rules move mail),
    the last in the order of their names first: names of years grow.
    """
    for_sent_mail = {folder.name for folder in folders if b"\\sent" in folder.flags or is_sent_name(folder.name)}
    parents = for_sent_mail | set(watched)
    below = {folder.name for folder in folders if any(_is_below(folder.name, parent) for parent in parents)} - parents
    return [*sorted(for_sent_mail - set(watched)), *sorted(below, reverse=True)][:MAX_UNWATCHED]


def is_sent_name(name: bytes) -> bool:
    """Whether the last part of a raw folder name is a known name for sent mail, in any of many languages."""
    return sent_names.is_sent_name(folder_text(name))


def folder_text(name: bytes) -> str:
    """A raw folder name for people: modified UTF-7 decoded (RFC 3501 §5.1.3), control characters replaced."""
    try:
        # Some servers list plain UTF-8, of which the library would make Latin letters.
        text = str(imap_utf7.decode(name)) if name.isascii() else _eight_bit_text(name)
    except Exception:  # not modified UTF-7: shown as it is
        text = name.decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _eight_bit_text(name: bytes) -> str:
    """Plain UTF-8, or GB18030 where it is none: servers in China list names in either."""
    for charset in ("utf-8", "gb18030"):
        try:
            return name.decode(charset)
        except UnicodeDecodeError:
            continue
    return name.decode("utf-8", "replace")


def folder_name(text: str) -> bytes:
    """The raw name of a folder that a person typed: in modified UTF-7, as servers list it, unless it is that already."""
    raw = bytes(imap_utf7.encode(text))
    if not text.isascii():
        return raw
    try:
        return text.encode() if imap_utf7.encode(imap_utf7.decode(text.encode())) == text.encode() else raw
    except ValueError:  # an & that starts no encoded run: a part of the name
        return raw


def may_be_listed_otherwise(name: bytes) -> bool:
    """Whether a server may list a raw name in another encoding: plain UTF-8 or GB18030 in place of modified UTF-7."""
    return not folder_text(name).isascii()


def as_listed(name: bytes, folders: Sequence[Folder]) -> bytes:
    """The raw name under which a server lists a folder that a person named; `name` itself where it lists none."""
    if any(folder.name == name for folder in folders):
        return name
    text = folder_text(name)
    return next((folder.name for folder in folders if folder_text(folder.name) == text), name)


def raw_name(name: str | bytes) -> bytes:
    """A folder name of imapclient as the raw bytes that the server sent."""
    return name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
