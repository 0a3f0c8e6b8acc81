"""Parser of mail headers, for the few fields that matter. Total: no bytes make it raise. Linear: no bytes make it slow. Pure.

The standard library's `policy.default`, `parseaddr` and `getaddresses` are neither (quadratic on hostile text, and
addresses that differ from those a server sees on Python < 3.11.10): fields are split as its compat32 parser splits them, and
our own scanners find addresses and Message-IDs. Text that cannot be decoded never fails a message: only addresses, ids and
dates carry weight.
"""

import binascii
import email.utils
import io
import quopri
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from services.common.codec import EARLIEST
from services.common.quoting import PLAIN, zones

FETCHED: Final = (
    "message-id", "in-reply-to", "references", "date", "from", "to", "cc", "bcc", "subject", "auto-submitted", "precedence",
    "list-id", "list-unsubscribe", "x-autoreply", "x-autorespond", "x-auto-response-suppress", "content-type",
)  # fmt: skip
"""The header fields that the fetcher asks for: BODY.PEEK[HEADER.FIELDS (…)]."""
MAX_BYTES: Final = 32 * 1024
"""More of them is never fetched: BODY.PEEK[…]<0.32768>."""
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


def parse(raw: bytes) -> Headers | Skipped:
    """Parse the header block of one message. `Skipped('empty')` when it has no field at all."""
    values = split_fields(raw[:MAX_BYTES])
    if not values:
        return Skipped("empty")
    ids = message_ids(" ".join(values.get("message-id", ())[:1]))
    date_text = " ".join(values.get("date", ())[:1]).strip()
    subject_text = _unfold(" ".join(values.get("subject", ())[:1]))[:MAX_SUBJECT].strip()
    return Headers(
        message_id=ids[0] if ids else None,
        in_reply_to=message_ids(" ".join(values.get("in-reply-to", ())))[:MAX_IN_REPLY_TO],
        references=message_ids(" ".join(values.get("references", ())))[-MAX_REFERENCES:],
        date=parse_date(date_text),
        date_text=date_text,
        senders=addresses(values.get("from", ())),
        to=addresses(values.get("to", ())),
        cc=addresses(values.get("cc", ())),
        bcc=addresses(values.get("bcc", ())),
        from_text=_unfold(" ".join(values.get("from", ()))).strip(),
        subject=decode_words(subject_text),
        subject_text=subject_text,
        fields={name: tuple(texts) for name, texts in values.items() if name in CLASSIFYING},
    )


def addresses(values: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """The mailboxes in address header values, each `local@domain` still with its display name and comments, in order, once."""
    mailboxes: dict[str, None] = {}
    for value in values:
        for part in split_addresses(value):
            if "@" in part:
                mailboxes.setdefault(part.strip())
    return tuple(mailboxes)


def message_ids(text: str) -> tuple[str, ...]:
    """The Message-IDs in a header value, in order, once: the texts in <…>, or words with an @ where there are none."""
    ids: dict[str, None] = {}
    position = 0
    while (start := text.find("<", position)) >= 0:
        end = text.find(">", start + 1)
        if end < 0:
            break
        # `<<id>` and `<one <two>`: the innermost bracket opens the id.
        inner = text[start + 1 : end].rpartition("<")[2]
        bare = "".join(inner.split())
        if bare:
            ids.setdefault(bare)
        position = end + 1
    if not ids:
        for word in text.split():
            if "@" in word:
                ids.setdefault(word.strip("<>,;"))
    return tuple(ids)


def parse_date(text: str) -> datetime | None:
    """The instant of a Date header, UTC; None when there is none, or none between 2000 and 2100."""
    try:
        parts = email.utils.parsedate_tz(text[:128])
        if parts is None:
            return None
        offset = timezone(timedelta(seconds=parts[9] or 0))
        local = datetime(parts[0], parts[1], parts[2], parts[3], parts[4], min(parts[5], 59), tzinfo=offset)
        instant = local.astimezone(UTC)
    except Exception:  # the library's parser raises many kinds on odd text (gh-102988 and its kin); all mean "no date"
        return None
    return instant if EARLIEST <= instant < LATEST else None


def decode_words(text: str) -> str:
    """`text` with its encoded words (RFC 2047) decoded; those that cannot be decoded stay as they are."""
    if "=?" not in text:
        return _as_text(text)
    decoded: list[str] = []
    for match in _WORDS.finditer(text):
        plain, charset, encoding, payload = match.groups()
        if charset is None:
            # Blanks between two encoded words are not part of the text (RFC 2047 §6.2).
            if not (plain.isspace() and decoded and match.end() < len(text) and text.startswith("=?", match.end())):
                decoded.append(plain)
            continue
        decoded.append(_decode_word(charset, encoding, payload) or match.group())
    return _as_text("".join(decoded))


_SPECIAL = re.compile(r'["(\\:;]')
_FIELD = re.compile(r"([!-9;-~]*):")

# Either a run without an encoded word, or an encoded word. Each alternative consumes what it matched, so there is no
# backtracking over the text; the payload is bounded, so the look-ahead is as well.
_WORDS = re.compile(
    r"(?P<plain>[^=]+|=(?!\?[^?\s]{1,40}\?[bBqQ]\?[^?\s]{0,2000}\?=))|=\?([^?\s]{1,40})\?([bBqQ])\?([^?\s]{0,2000})\?="
)


def _decode_word(charset: str, encoding: str, payload: str) -> str | None:
    try:
        raw = payload.encode("ascii")
        if encoding in "bB":
            data = binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))
        else:
            data = quopri.decodestring(raw.replace(b"_", b" "))
        return data.decode(charset.partition("*")[0], "replace")
    except (LookupError, ValueError, UnicodeError):
        return None


def split_fields(raw: bytes) -> dict[str, list[str]]:
    """The fields by lower-case name, in order, values still folded; split as the standard library's compat32 parser does.

    That parser is right but does much that is not needed here (email.message, defects): it would take half of the time
    that a message costs. A property compares the two.
    """
    text = raw.decode("ascii", "surrogateescape")
    fields: dict[str, list[list[str]]] = {}
    lines: list[str] | None = None
    # newline="": lines end at \n, \r or \r\n and keep their end; at nothing else, unlike str.splitlines.
    for line in io.StringIO(text, newline=""):
        if line[0] in " \t":
            if lines is not None:
                lines.append(line)
            continue
        if (match := _FIELD.match(line)) is None:
            if not line.startswith("From "):
                break
            lines = None  # an mbox envelope line is not a field
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


def split_addresses(value: str) -> list[str]:
    """Split an address list at its commas and semicolons, outside quotes, comments and angle brackets. One pass."""
    if not _SPECIAL.search(value) and ("<" not in value or "," not in value):
        return value.split(",")  # nothing that could hide a comma: most values
    return _split_full(value)


def _split_full(value: str) -> list[str]:
    """`split_addresses` for any value: follows quotes, comments and angle brackets character by character."""
    parts: list[str] = []
    current: list[str] = []
    in_angle_brackets = False
    for char, zone in zones(value):
        current.append(char)
        if zone != PLAIN:
            continue
        if char == "<":
            in_angle_brackets = True
        elif char == ">":
            in_angle_brackets = False
        elif char == ":" and not in_angle_brackets:
            current = []  # `group name:` (RFC 5322 §3.4)
        elif char in ",;" and not in_angle_brackets:
            parts.append("".join(current[:-1]))
            current = []
    parts.append("".join(current))
    return parts
