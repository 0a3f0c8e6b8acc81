"""Addresses and Message-IDs in the values of header fields (RFC 5322 §3.4, §3.6.4). Pure, total, and linear in the text."""

import re
from collections.abc import Iterable
from typing import Final

from services.common.encoded_words import decode_words
from services.common.normal_forms import AROUND_AT, bare_id, closed_brackets, decoded_ids, without_unclosed
from services.common.quoting import PLAIN, zones

_SEPARATORS: Final = re.compile("[\\s\uff0c\uff1b\u3001]+")
"""Between addresses without a comma: blanks, and the separators of Chinese and Japanese keyboards."""
_MARKED: Final = re.compile(r'[<>"()]')
_LIST_SIGNS: Final = re.compile(r'["(\\:;<\s]')


def addresses(values: Iterable[str]) -> tuple[str, ...]:
    """The mailboxes in address header values, each `local@domain` still with its display name and comments, in order, once."""
    mailboxes: dict[str, None] = {}
    for value in values:
        for part in split_addresses(value):
            if "@" in part or "\uff20" in part:
                mailboxes.setdefault(part.strip())
    return tuple(mailboxes)


def message_ids(text: str) -> tuple[str, ...]:
    """The Message-IDs in a header value without their angle brackets, in order, once.

    These are the texts in <…>, or the words with an @ where there are none.
    """
    ids: dict[str, None] = {}
    text = decoded_ids(text)
    position = 0
    while (start := text.find("<", position)) >= 0:
        end = text.find(">", start + 1)
        if end < 0:
            break
        bare = "".join(text[start + 1 : end].rpartition("<")[2].split())
        if bare:
            ids.setdefault(bare)
        position = end + 1
    if not ids:
        for word in text.split():
            bare = bare_id(word.strip("<>,;").rpartition("<")[2].partition(">")[0])
            if "@" in bare:
                ids.setdefault(bare)
    return tuple(ids)


def split_addresses(value: str) -> list[str]:
    """Split an address list at its commas and semicolons, outside quotes, comments and angle brackets.

    Where a quote or comment is not closed, the list is read without it. Addresses with only a blank between them are two.
    """
    if value.isascii() and not _LIST_SIGNS.search(value) and "=?" not in value:
        return value.split(",")  # nothing that could hide a comma
    parts: list[str] = []
    for part in _split(without_unclosed(value)):
        if "@" not in part and "=?" in part and "@" in (decoded := decode_words(part)):
            # A program encoded the address as well (RFC 2047 §5 forbids it).
            parts += _split(without_unclosed(decoded))
        elif (
            part.count("@") > 1
            and not _MARKED.search(part)
            and len(words := _SEPARATORS.split(AROUND_AT.sub("", part).strip())) > 1
        ):
            parts += words if "@" in words[-1] else [part]
        else:
            parts.append(part)
    return parts


def _split(value: str) -> list[str]:
    marked = list(zones(value))
    closed = closed_brackets(marked)
    parts: list[str] = []
    current: list[str] = []
    in_angle_brackets = False
    for index, (char, zone) in enumerate(marked):
        current.append(char)
        if zone != PLAIN:
            continue
        if char == "<":
            in_angle_brackets = index in closed
        elif char == ">":
            in_angle_brackets = False
        elif char == ":" and not in_angle_brackets:
            current = []  # `group name:` (RFC 5322 §3.4)
        elif char in ",;" and not in_angle_brackets:
            parts.append("".join(current[:-1]))
            current = []
    parts.append("".join(current))
    return parts
