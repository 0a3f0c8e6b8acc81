"""Addresses and Message-IDs in the values of header fields (RFC 5322 §3.4, §3.6.4). Pure, total, and linear in the text."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from services.common.encoded_words import decode_words
from services.common.normal_forms import (
    AROUND_AT,
    AROUND_ID,
    AT_SIGNS,
    bare_id,
    closed_brackets,
    decoded_ids,
    without_unclosed,
)
from services.common.quoting import PLAIN, zones

_SEPARATORS: Final = re.compile("[\\s\uff0c\uff1b\u3001]+")
"""Between addresses without a comma: blanks, and the separators of Chinese and Japanese keyboards."""
_BETWEEN_IDS: Final = re.compile("[,;]")
_MARKED: Final = re.compile(r'[<>"()]')
_LIST_SIGNS: Final = re.compile(r'["(\\:;<\s]')

_ORDINARY: Final = r'(?>\s*"[^"\\]*+")?[^"()<>@,:;\\]*+(?:<[^"()<>@,:;\\]*+@[^"()<>@,:;\\]*+>\s*+|@[^"()<>@,:;\\]*+)'
"""An address with or without a name, which may be quoted; nothing in it could hide a comma or another address."""
_ORDINARY_ADDRESS: Final = re.compile(_ORDINARY)
_ORDINARY_LIST: Final = re.compile(rf"{_ORDINARY}(?:,{_ORDINARY})*+")


def addresses(values: Iterable[str]) -> tuple[str, ...]:
    """The mailboxes in address header values, each `local@domain` still with its display name and comments, in order, once."""
    mailboxes: dict[str, None] = {}
    for value in values:
        for part in split_addresses(value):
            if any(sign in part for sign in AT_SIGNS):
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
        *unclosed, closed = text[start + 1 : end].split("<")
        for inner in (*(inner for inner in unclosed if "@" in inner), closed):
            if bare := "".join(inner.split()):
                ids.setdefault(bare)
        position = end + 1
    if not ids:
        for word in text.split():
            bare = bare_id(word.strip(AROUND_ID).rpartition("<")[2].partition(">")[0])
            parts = _BETWEEN_IDS.split(bare)
            # `a@x,b@y` is two ids, `a,b@x` is one.
            for message_id in parts if all("@" in part for part in parts) else (bare,):
                if "@" in message_id:
                    ids.setdefault(message_id)
    return tuple(ids)


def split_addresses(value: str) -> list[str]:
    """Split an address list at its commas and semicolons, outside quotes, comments and angle brackets.

    Where a quote or comment is not closed, the list is read without it. Addresses with only a blank between them are two.
    """
    if value.isascii() and not _LIST_SIGNS.search(value) and "=?" not in value:
        return value.split(",")  # nothing that could hide a comma
    if _ORDINARY_LIST.fullmatch(value):
        return _ORDINARY_ADDRESS.findall(value)
    return split_any_addresses(value)


def split_any_addresses(value: str) -> list[str]:
    """`split_addresses` of a list in any form: what ordinary ones need no part of."""
    parts: list[str] = []
    for part in _between_brackets(_split(without_unclosed(value))):
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
            # `group name:` (RFC 5322 §3.4); an address with a colon behind it is no name, and a route is no address.
            name = "".join(current[:-1]).strip()
            if "@" in name.rpartition(" ")[2] and not name.startswith(("@", '"')):
                parts.append(name)
            current = []
        elif char in ",;" and not in_angle_brackets:
            parts.append("".join(current[:-1]))
            current = []
    parts.append("".join(current))
    return parts


def _between_brackets(parts: Iterable[str]) -> Iterator[str]:
    """The parts, those with several `<…@…>` cut behind each: a comma is missing between them."""
    for part in parts:
        if part.count("<") < 2 or part.count("@") < 2:
            yield part
            continue
        ends = [end + 1 for start, end in closed_brackets(list(zones(part))).items() if "@" in part[start + 1 : end]]
        yield from (part[start:end] for start, end in pairwise([0, *ends[:-1], len(part)]))
