"""Answers to UID FETCH: parsed with regular expressions where they have the one form that servers send, else with imapclient.

imapclient's lexer (response_lexer.py of 4.1.0) looks at every character in Python: 36 µs per message against 6 µs for
`parse_fast` (200 messages, CPython 3.11). Classifying and hashing a message costs 20 µs.
Any other form (a literal where a string could be, a second literal, data about other messages) is left to the lexer; a
property compares the two.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from imapclient.response_parser import parse_fetch_response

from services.imap.errors import ServerBroken
from services.mail.values import FetchedHeader

_ATTRIBUTE: Final = (
    rb'(?:UID \d{1,10}|RFC822\.SIZE \d{1,20}|FLAGS \([^()"\r\n]{0,4096}\)|INTERNALDATE "[^"\\\r\n]{20,30}"'
    rb'|SAVEDATE (?:NIL|"[^"\\\r\n]{20,30}"))'
)
_BEFORE_LITERAL: Final = re.compile(
    rb"\d{1,10} \(((?:" + _ATTRIBUTE + rb" )*)BODY\[HEADER\.FIELDS \([^()]*\)\](?:<0>)? \{\d{1,10}\}", re.I
)
_AFTER_LITERAL: Final = re.compile(rb"((?: " + _ATTRIBUTE + rb")*)\)", re.I)
_VALUES: Final = re.compile(rb'([A-Z0-9.]+) (?:"([^"]*)"|\(([^()]*)\)|([^ ()"]+))', re.I)
_DATE_TIME: Final = re.compile(rb" ?(\d{1,2})-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"), 1
    )
}


def parse_headers(data: Sequence[Any], uids: Sequence[int]) -> dict[int, FetchedHeader]:
    """Those of the messages `uids` that the answers to a FETCH of headers hold; `data` as imaplib returns it.

    ServerBroken, or what imapclient raises on an answer that is not IMAP.
    """
    answers = [part for part in data if not is_unsolicited(part, b"BODY[")]
    headers = parse_fast(answers)
    if headers is None:
        parsed = parse_fetch_response(_with_uid(answers), normalise_times=False)
        headers = {uid: from_lexer(uid, parsed[uid]) for uid in uids if uid in parsed}
    return {uid: headers[uid] for uid in uids if uid in headers}


def complete_answers(data: Sequence[Any]) -> Sequence[Any]:
    """`data` of an answer that was cut off, without the message in which it was: after a literal the rest of its line is missing."""
    end = len(data)
    while end and isinstance(data[end - 1], tuple):
        end -= 1
    return data[:end]


def parse_times(data: Sequence[Any], uids: Sequence[int]) -> dict[int, datetime | None]:
    """INTERNALDATE of those of `uids` that the answers hold; None where the server does not report it."""
    answers = [part for part in data if not is_unsolicited(part, b"BODY[", b"INTERNALDATE")]
    parsed = parse_fetch_response(_with_uid(answers), normalise_times=False)
    return {uid: _aware(parsed[uid].get(b"INTERNALDATE")) for uid in uids if uid in parsed}


def _with_uid(parts: Sequence[Any]) -> list[Any]:
    """The parts of those answers that name a UID. imapclient would take the sequence number of the others for one, and a header
    for that of another message; such a message counts as omitted from the answer."""
    answers: list[list[Any]] = []
    for part in parts:
        line = part[0] if isinstance(part, tuple) else part
        if not answers or (isinstance(line, bytes) and re.match(rb"\d{1,10} \(", line)):
            answers.append([])
        answers[-1].append(part)
    return [part for answer in answers if _names_uid(answer) for part in answer]


def _names_uid(answer: Sequence[Any]) -> bool:
    lines = [part[0] if isinstance(part, tuple) else part for part in answer]
    if lines and isinstance(lines[0], bytes) and re.match(rb"\d{1,10} \(", lines[0]) is None:
        return True  # not an answer about a message: for the parser to judge
    return any(isinstance(line, bytes) and re.search(rb"[( ]UID +\d", line, re.I) for line in lines)


def is_unsolicited(part: Any, *requested: bytes) -> bool:
    """Whether an answer about a message carries none of the `requested` items: a server may report changed flags at any time.

    Where it has no UID imapclient would take the sequence number for one, and those flags for another message's.
    """
    return (
        isinstance(part, bytes)
        and re.match(rb"\d{1,10} \(", part) is not None
        and not any(item in part.upper() for item in requested)
    )


def parse_fast(data: Sequence[Any]) -> dict[int, FetchedHeader] | None:
    """Answers that all have the usual form, parsed without a lexer; None when any has another."""
    if len(data) % 2:
        return None
    headers: dict[int, FetchedHeader] = {}
    for line_and_literal, end in zip(data[::2], data[1::2], strict=True):
        if not isinstance(line_and_literal, tuple) or not isinstance(end, bytes):
            return None
        line, header = line_and_literal
        before, after = _BEFORE_LITERAL.fullmatch(line), _AFTER_LITERAL.fullmatch(end)
        if before is None or after is None:
            return None
        values = {
            match[1].upper(): match[match.lastindex or 1]  # one of the three forms of a value
            for match in _VALUES.finditer(before[1] + after[1])
        }
        internal, save = values.get(b"INTERNALDATE"), values.get(b"SAVEDATE", b"NIL")
        if b"UID" not in values or (uid := int(values[b"UID"])) in headers:
            return None
        internal_date = None if internal is None else parse_date_time(internal)
        if internal is not None and internal_date is None:
            return None
        headers[uid] = FetchedHeader(
            uid=uid,
            internal_date=internal_date,
            save_date=None if save.upper() == b"NIL" else parse_date_time(save),
            size=int(values.get(b"RFC822.SIZE", 0)),
            draft=b"\\draft" in values.get(b"FLAGS", b"").lower().split(),
            header=header,
        )
    return headers


def from_lexer(uid: int, attributes: Any) -> FetchedHeader:
    """A message out of what imapclient parsed; NIL in place of a header is an empty one. ServerBroken when its header is missing."""
    headers = [value for key, value in attributes.items() if key.upper().startswith(b"BODY[")]
    if not headers:
        raise ServerBroken("fetch", "an answer without the header")
    header = headers[0]
    flags = {flag.lower() for flag in attributes.get(b"FLAGS") or () if isinstance(flag, bytes)}
    return FetchedHeader(
        uid=uid,
        internal_date=_aware(attributes.get(b"INTERNALDATE")),
        save_date=_aware(attributes.get(b"SAVEDATE")),
        size=int(attributes.get(b"RFC822.SIZE") or 0),
        draft=b"\\draft" in flags,
        header=header if isinstance(header, bytes) else b"",
    )


def parse_date_time(text: bytes) -> datetime | None:
    """`date-time` of RFC 3501 §9 as an instant in UTC; None when it is not one."""
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    day, month, year, hour, minute, second, sign, offset_hours, offset_minutes = match.groups()
    offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
    try:
        local = datetime(int(year), _MONTHS[month.lower()], int(day), int(hour), int(minute), int(second), tzinfo=UTC)
        return local - offset if sign == b"+" else local + offset
    except (ValueError, KeyError, OverflowError):
        return None


def _aware(value: Any) -> datetime | None:
    if isinstance(value, bytes):
        return parse_date_time(value.strip())
    if not isinstance(value, datetime):
        return None
    try:
        return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)
    except OverflowError:
        return None
