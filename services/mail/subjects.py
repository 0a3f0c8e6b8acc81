"""Marks at the start or end of a subject: an automatic reply, a forward, or neither. Pure; the marks are in subjects.toml."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

from services.common.normal_forms import without_invisible
from services.common.tables import read_table

MAX_TAGS: Final = 4


def _bracketed(pairs: tuple[str, ...], shortest: int, longest: int) -> str:
    """A pattern of a text in one of several pairs of brackets, with a group for each pair."""
    escaped = [(re.escape(pair[0]), re.escape(pair[1])) for pair in pairs]
    return "|".join(
        f"{opening}([^{opening}{closing}]{{{shortest},{longest}}}){closing}" for opening, closing in escaped
    )


_TAG_BRACKETS: Final = ("[]", "【】", "〔〕", "{}", "<>", "《》", "〈〉", "「」", "『』")
_TAG: Final = re.compile(rf"\s*(?:{_bracketed(_TAG_BRACKETS, 0, 200)})\s*")
_OPENING_PARENTHESIS: Final = re.compile(r"\s*\(([^()]{1,80})\)")
_FINAL_BRACKET: Final = re.compile(rf"(?:{_bracketed(('()', *_TAG_BRACKETS), 1, 80)})\s*$")
_FORWARD_TRAILER: Final = " (fwd)"
"""Pine and its successors; RFC 5256 §2.1 (subj-trailer)."""
_COUNT_AND_COLON: Final = re.compile(r"\.?\s{0,4}(?:[\[(^]\d{1,3}[\])]?|\d{1,2})?\s{0,4}:")
"""`Fwd[2]:`, `Fwd (2):`, `Fwd2:`, `Doorst.:`."""
_COUNT_IN_BRACKETS_AND_COLON: Final = re.compile(r"\s{0,4}(?:[\[(^]\d{1,3}[\])]?)?\s{0,4}:")
"""Behind a mark that is also the code of a part: `TR90: 20 pcs` is no forward."""
_ACCENTS: Final = re.compile("[\u0300-\u036f]+")
_COLON: Final = re.compile(r"\s{0,4}:")
_JOINED: Final = re.compile(r"[-_/'’](?=[^\W\d_])")

Mark = Literal["automatic", "forward"]


@dataclass(frozen=True, slots=True)
class _Marks:
    automatic: tuple[tuple[str, bool, bool], ...]
    """(form, needs a colon, is ambiguous), longest first."""
    forward: tuple[tuple[str, bool, bool], ...]
    """(form, is ambiguous, counts alone in brackets), longest first."""
    continuations: tuple[str, ...]
    automatic_forms: tuple[str, ...]
    forward_forms: tuple[str, ...]
    """All forms, for one look at a subject that starts with none of them."""


def mark_of(subject: str, *, is_reply: bool) -> Mark | None:
    """The mark of a decoded subject. `is_reply`: the message carries In-Reply-To."""
    text = normalised(subject)
    for part, is_bracketed in _parts(text):
        if _is_automatic(part, is_bracketed=is_bracketed, is_reply=is_reply):
            return "automatic"
        if _is_forward(part, is_bracketed=is_bracketed, is_reply=is_reply):
            return "forward"
    if not is_reply and text.endswith(_FORWARD_TRAILER):
        return "forward"
    final = _FINAL_BRACKET.search(text[-100:])
    if final is not None and _is_whole_form(next(content for content in final.groups() if content is not None)):
        return "automatic"
    return None


def normalised(text: str) -> str:
    """A subject as marks are compared: NFKC, case folded, without accents (capitals and plain keyboards often lack them) and
    invisible characters, runs of blanks as one blank."""
    if text.isascii():
        return " ".join(text.casefold().split())
    folded = without_invisible(unicodedata.normalize("NFKC", text)).casefold().replace("\u0131", "i")
    bare = _ACCENTS.sub("", unicodedata.normalize("NFD", folded))
    return " ".join(unicodedata.normalize("NFC", bare).split())


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """The contents of the brackets at the start of a subject, at most 4, then what follows them; and whether it is in brackets."""
    position = 0
    for _ in range(MAX_TAGS):
        tag = _TAG.match(text, position)
        if tag is None:
            break
        yield next(content for content in tag.groups() if content is not None).strip(), True
        position = tag.end()
    if parenthesis := _OPENING_PARENTHESIS.match(text, position):
        yield parenthesis[1].strip(), True
    yield text[position:].lstrip(" :") if position else text, False


def _is_automatic(text: str, *, is_bracketed: bool, is_reply: bool) -> bool:
    if not text.startswith(_marks().automatic_forms):
        return False
    if is_bracketed and _is_whole_form(text):
        return True
    for form, needs_colon, is_ambiguous in _marks().automatic:
        if not text.startswith(form):
            continue
        if _COLON.match(text, len(form)):
            return is_reply or not is_ambiguous
        if not is_bracketed and not needs_colon and is_reply and _is_boundary(text, len(form)):
            return True
    return False


def _is_whole_form(text: str) -> bool:
    bare = text.strip(" :!.")
    return any(bare == form for form, needs_colon, ambiguous in _marks().automatic if not (needs_colon or ambiguous))


def _is_forward(text: str, *, is_bracketed: bool, is_reply: bool) -> bool:
    if not text.startswith(_marks().forward_forms):
        return False
    for form, is_ambiguous, counts_alone in _marks().forward:
        if not text.startswith(form) or (is_ambiguous and is_reply):
            continue
        if (_COUNT_IN_BRACKETS_AND_COLON if is_ambiguous else _COUNT_AND_COLON).match(text, len(form)):
            return True
        if is_bracketed and counts_alone and text == form:
            return True
    return False


def _is_boundary(text: str, position: int) -> bool:
    """Whether a form ends here and is no part of a longer phrase: `Out of office until Monday`, not `Out of office chairs`."""
    following = text[position:].lstrip()
    if not following:
        return True
    has_blank = text[position].isspace()
    if not has_blank and _JOINED.match(following):
        return False
    if not following[0].isalpha():
        return has_blank or not following[0].isdigit()
    if text[position - 1] >= "\u0e00" and has_blank:
        return True  # in a script without blanks between words, a blank ends the phrase
    return any(
        following.startswith(word) and (word[0] >= "\u3000" or not following[len(word) : len(word) + 1].isalnum())
        for word in _marks().continuations
    )


@cache
def _marks() -> _Marks:
    table: dict[str, list[dict[str, Any]]] = read_table("services.mail", "subjects.toml")

    def longest_first(marks: list[Any]) -> tuple[Any, ...]:
        return tuple(sorted(marks, key=lambda mark: -len(mark[0])))

    automatic = longest_first(
        [
            (normalised(form), entry["colon"], entry.get("ambiguous", False))
            for entry in table["automatic"]
            for form in entry["forms"]
        ]
    )
    forward = longest_first(
        [
            (normalised(form), entry.get("ambiguous", False), entry.get("bracketed", False))
            for entry in table["forward"]
            for form in entry["forms"]
        ]
    )
    return _Marks(
        automatic=automatic,
        forward=forward,
        continuations=tuple(normalised(word) for entry in table["continuations"] for word in entry["words"]),
        automatic_forms=tuple(form for form, *_ in automatic),
        forward_forms=tuple(form for form, *_ in forward),
    )
