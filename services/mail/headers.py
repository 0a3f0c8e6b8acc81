"""Parser of mail headers, for the few fields that matter. Total: no bytes make it raise. Linear: no bytes make it slow. Pure.

The standard library's `policy.default`, `parseaddr` and `getaddresses` are neither (quadratic on hostile text, and
addresses that differ from those a server sees on Python < 3.11.10): fields are split as its compat32 parser splits them, and
our own scanners find addresses and Message-IDs. Text that cannot be decoded never fails a message: only addresses, ids and
dates carry weight.
"""

import email.utils
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from services.common.codec import EARLIEST
from services.common.encoded_words import decode_words
from services.common.header_lists import addresses, message_ids
from services.common.quoting import COMMENT, zones

FETCHED: Final = (
    "message-id", "in-reply-to", "references", "date", "from", "to", "cc", "bcc", "subject", "auto-submitted", "precedence",
    "list-id", "list-unsubscribe", "x-autoreply", "x-autorespond", "x-auto-response-suppress", "content-type",
)  # fmt: skip
"""The header fields that the fetcher asks for: BODY.PEEK[HEADER.FIELDS (…)]."""
MAX_BYTES: Final = 32 * 1024
"""More of them is never fetched: BODY.PEEK[…]<0.32768>."""
MAX_IDS_BYTES: Final = 128 * 1024
"""The same of the fields that name messages, where a header block was cut: BODY.PEEK[…]<0.131072>."""
MAX_RECIPIENTS: Final = 64
MAX_IN_REPLY_TO: Final = 4
MAX_REFERENCES: Final = 20
MAX_SUBJECT: Final = 2048
LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
CLASSIFYING: Final = frozenset({
    "auto-submitted", "precedence", "list-id", "list-unsubscribe", "x-autoreply", "x-autorespond",
    "x-auto-response-suppress", "content-type",
})  # fmt: skip
"""Fields by which a message is classified (services.mail.classify)."""


@dataclass(frozen=True, slots=True)
class Headers:
    """The parsed header of a message. Addresses and Message-IDs are as written, not yet normalised."""

    message_id: str | None
    in_reply_to: tuple[str, ...]
    references: tuple[str, ...]
    date: datetime | None
    date_text: str
    senders: tuple[str, ...]
    to: tuple[str, ...]
    cc: tuple[str, ...]
    bcc: tuple[str, ...]
    from_text: str
    subject: str
    subject_text: str
    fields: Mapping[str, tuple[str, ...]]

    @property
    def recipients(self) -> tuple[str, ...]:
        """To, Cc and Bcc in this order, each once, at most 64."""
        return tuple(dict.fromkeys((*self.to, *self.cc, *self.bcc)))[:MAX_RECIPIENTS]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A message that is dropped unread: `reason` is a code."""

    reason: str


def parse(raw: bytes, id_fields: bytes = b"") -> Headers | Skipped:
    """Parse the header block of one message. `Skipped('empty')` when it has no field at all. `id_fields`: a block of its own
    with the fields that name messages, which replaces theirs; empty unless `raw` was cut."""
    values = split_fields(raw[:MAX_BYTES])
    if is_cut(raw):
        _drop_cut_tail(values, raw[:MAX_BYTES])
    if id_fields:
        values |= {name: texts for name, texts in split_fields(id_fields[:MAX_IDS_BYTES]).items() if name in LIMITED}
    if not values:
        return Skipped("empty")
    ids = message_ids(" ".join(values.get("message-id", ())[:1]))
    date_text = " ".join(values.get("date", ())[:1]).strip()
    subject_text = _unfold(" ".join(values.get("subject", ())[:1]))[:MAX_SUBJECT].strip()
    return Headers(
        message_id=ids[0] if ids else None,
        in_reply_to=limit_in_reply_to(message_ids(" ".join(values.get("in-reply-to", ())))),
        references=limit_references(message_ids(" ".join(values.get("references", ())))),
        date=parse_date(date_text),
        date_text=date_text,
        senders=addresses(values.get("from", ())),
        to=addresses(values.get("to", ())),
        cc=addresses(values.get("cc", ())),
        bcc=addresses(values.get("bcc", ())),
        from_text=_unfold(" ".join(values.get("from", ()))).strip(),
        subject=_as_text(decode_words(subject_text)),
        subject_text=subject_text,
        fields={name: tuple(texts) for name, texts in values.items() if name in CLASSIFYING},
    )


def limit_in_reply_to(ids: tuple[str, ...]) -> tuple[str, ...]:
    """The first 4 ids of In-Reply-To."""
    return ids[:MAX_IN_REPLY_TO]


def limit_references(ids: tuple[str, ...]) -> tuple[str, ...]:
    """At most 20 ids of References: the first, which is the root of the conversation, and the last 19."""
    return ids if len(ids) <= MAX_REFERENCES else (ids[0], *ids[1 - MAX_REFERENCES :])


LIMITED: Final[Mapping[str, Callable[[tuple[str, ...]], tuple[str, ...]]]] = {
    "message-id": lambda ids: ids[:1],
    "in-reply-to": limit_in_reply_to,
    "references": limit_references,
}
"""Which ids of each field are used."""


def is_cut(raw: bytes) -> bool:
    """Whether a header block was cut at MAX_BYTES: it reaches the limit without the empty line that ends it."""
    return len(raw) >= MAX_BYTES and _END.search(raw[:MAX_BYTES]) is None


def _drop_cut_tail(values: dict[str, list[str]], block: bytes) -> None:
    """Remove what the cut left incomplete: a half address or id would be another one."""
    last_field = None
    for line in block.splitlines(keepends=True):
        if line[:1] not in (b" ", b"\t"):
            match = _FIELD.match(line.decode("ascii", "replace"))
            last_field = match[1].lower() if match else None
    if last_field not in values or last_field == "subject":
        return
    texts = values[last_field]
    value = texts.pop()
    if last_field in ("from", "to", "cc", "bcc"):
        value = value[: max(value.rfind(","), value.rfind(";"), 0)]
    else:
        value = value[: value.rfind(">") + 1] if last_field in LIMITED else ""
    if value:
        texts.append(value)
    elif not texts:
        del values[last_field]


def parse_date(text: str) -> datetime | None:
    """The instant of a Date header, UTC. None when there is none, none between 2000 and 2100, or its zone is not known.

    A written offset counts, also after a zone name (`GMT +0800`). A name that RFC 5322 §4.3 does not define, or no zone at all, says
    nothing about the instant: reading it as UTC would be wrong by up to 14 hours.
    """
    if (ordinary := _ORDINARY_DATE.fullmatch(text)) is not None:
        return _ordinary_date(ordinary)
    return parse_any_date(text)


def parse_any_date(text: str) -> datetime | None:
    """`parse_date` of a text in any form: what the form of RFC 5322 needs no part of."""
    try:
        text = "".join(char for char, zone in zones(decode_words(text[:256])[:128]) if zone != COMMENT)
        text = _FRACTION.sub(r"\1", _BEFORE_COMMA.sub(",", text))
        half_day = _HALF_DAY.search(text)
        text = _HALF_DAY.sub(r"\1 ", text)
        parts = email.utils.parsedate_tz(text)
        if parts is None or (offset := _offset(text)) is None:
            return None
        hour = parts[3] if half_day is None else parts[3] % 12 + 12 * (half_day[2] in "pP")
        year = parts[0] + 1900 if 100 <= parts[0] <= 999 else parts[0]  # three digits (RFC 5322 §4.3)
        local = datetime(year, *parts[1:3], hour, parts[4], min(parts[5], 59), tzinfo=timezone(offset))
        instant = local.astimezone(UTC)
    except Exception:  # the library's parser raises many kinds on odd text (gh-102988 and its kin); all mean "no date"
        return None
    return instant if EARLIEST <= instant < LATEST else None


def _ordinary_date(date: re.Match[str]) -> datetime | None:
    day, month, year, hour, minute, second, sign, offset_hours, offset_minutes = date.groups()
    offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
    try:
        local = datetime(
            int(year), _MONTHS[month], int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC
        )  # fmt: skip
    except ValueError:
        return None
    instant = local + offset if sign == "-" else local - offset
    return instant if EARLIEST <= instant < LATEST else None


def _offset(text: str) -> timedelta | None:
    """The offset from UTC that a date states after its time of day; None when it states none that is known."""
    time = _TIME.search(text)
    if time is None:
        return None
    zone = text[time.end() :]
    if written := _WRITTEN_OFFSET.search(zone):
        sign, hours, minutes = written.groups()
        if int(hours) < 24 and int(minutes or 0) < 60:
            offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
            return -offset if sign == "-" else offset
        return None
    names = _ZONE_NAME.findall(zone)
    hours_west = _ZONES.get(names[0].upper()) if len(names) == 1 else None
    return None if hours_west is None else timedelta(hours=-hours_west)


_MONTHS = {
    name: number
    for number, name in enumerate(("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)
}  # fmt: skip
_ORDINARY_DATE = re.compile(
    rf"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), )?(\d{{1,2}}) ({'|'.join(_MONTHS)}) (20\d\d) (\d\d):(\d\d):(\d\d)"
    r" ([+-])([01]\d|2[0-3])([0-5]\d)(?: \([A-Z]{1,5}\))?",
    re.ASCII,
)
_TIME = re.compile(r"(?<!\d)\d{1,2}:\d{1,2}(?::\d{1,2}(?:\.\d{1,9})?)?|(?<!\d)\d{1,2}\.\d{2}\.\d{2}(?!\d)")
_FRACTION = re.compile(r"(\d:\d{2}:\d{2})\.\d{1,9}(?!\d)")
_BEFORE_COMMA = re.compile(r"(?<!\s)\s+,")
_WRITTEN_OFFSET = re.compile(r"(?<![\d.:])([+-])\s?(\d{1,2}):?(\d{2})?(?![\d-])")
_HALF_DAY = re.compile(r"(?<!\d)(\d{1,2}:\d{2}(?::\d{2})?)\s{0,2}([AaPp])\.?[Mm]\b\.?")
"""A time of day on a clock of twelve hours."""
_ZONE_NAME = re.compile(r"[^\W\d_]+|[^\s\w\"'.,;]")
_ZONES = {
    "UT": 0, "UTC": 0, "GMT": 0, "Z": 0, "AST": 4, "ADT": 3, "EST": 5, "EDT": 4, "CST": 6, "CDT": 5, "MST": 7, "MDT": 6, "PST": 8, "PDT": 7,
}  # fmt: skip
"""Hours west of Greenwich: RFC 5322 §4.3, and AST and ADT as the standard library reads them."""
_END = re.compile(rb"(?>\r\n|\r|\n)(?:\r\n|\r|\n)")
_ORDINARY_FIELD = re.compile(r"([!-9;-~]++)[ \t]*+:[ \t]*+([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+)\r\n")
_ORDINARY_BLOCK = re.compile(rf"(?:{_ORDINARY_FIELD.pattern})*+(?:\r\n)?+")
_FIELD = re.compile(r"([!-9;-~]*)[ \t]*:")


def split_fields(raw: bytes) -> dict[str, list[str]]:
    """The fields by lower-case name, in order, values still folded.

    Blanks before the colon are allowed (RFC 5322 §4.5), and a line without a colon is passed over; otherwise fields are split as the
    standard library's compat32 parser splits them. That parser does much that is not needed here (email.message, defects): it would
    take half of the time that a message costs. A property compares the two.
    """
    text = raw.decode("ascii", "surrogateescape")
    if _ORDINARY_BLOCK.fullmatch(text) is None:
        return _split_any_fields(text)
    ordinary: dict[str, list[str]] = {}
    for name, value in _ORDINARY_FIELD.findall(text):
        ordinary.setdefault(name.lower(), []).append(_as_text(value))
    return ordinary


def _split_any_fields(text: str) -> dict[str, list[str]]:
    """The fields of a block in any form: what one whose lines all end with CRLF and belong to a field needs no part of."""
    fields: dict[str, list[list[str]]] = {}
    lines: list[str] | None = None
    # newline="": lines end at \n, \r or \r\n and keep their end; at nothing else, unlike str.splitlines.
    for line in io.StringIO(text, newline=""):
        if line[0] in " \t":
            if lines is not None:
                lines.append(line)
            continue
        if (match := _FIELD.match(line)) is None:
            if not line.strip("\r\n"):
                break
            lines = None  # a line that is no field is passed over alone, as is an mbox envelope line
            continue
        name = match[1].lower()
        lines = None
        if name:
            lines = [line[match.end() :].lstrip(" \t")]
            fields.setdefault(name, []).append(lines)
    return {name: [_as_text("".join(value).rstrip("\r\n")) for value in values] for name, values in fields.items()}


def _as_text(text: str) -> str:
    """Raw 8-bit header text decoded as UTF-8 where it is UTF-8 (RFC 6532), else with replacement characters."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeError:
        return text.encode("ascii", "replace").decode("ascii")


def _unfold(text: str) -> str:
    return text.replace("\r", "").replace("\n", "")
