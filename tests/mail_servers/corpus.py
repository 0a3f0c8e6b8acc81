"""Three hundred and four messages of a Sent folder, as mail programs write them, with what must be published of each."""

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

COUNT: Final = 300
TOO_OLD: Final = 4
HASH_KEY: Final = bytes(range(32))
COMPANY: Final = "c1"


@dataclass(frozen=True, slots=True)
class SentMail:
    """One message: its bytes, when it was filed, its flags, its Message-ID (None without one), whether it is in the horizon."""

    message: bytes
    filed_at: datetime
    flags: str = ""
    message_id: str | None = None
    in_horizon: bool = True


def identity(message_id: str) -> str:
    """The published identity of a Message-ID (contracts: HMAC-SHA-256 over kind, company and value, first 16 bytes)."""
    text = "\x1f".join(("message", COMPANY, message_id)).encode()
    return hmac.new(HASH_KEY, text, hashlib.sha256).digest()[:16].hex()


def mail(number: int, at: datetime, *fields: bytes, message_id: str | None = "", body: bytes = b"Dear buyer") -> bytes:
    """A message with the usual fields; `fields` replace To, Date and Message-ID where they name them."""
    named = {field.split(b":")[0].strip().lower() for field in fields}
    lines = [b"From: Seller <seller@mail.example>", f"Subject: Re: inquiry {number}".encode()]
    if message_id is not None:
        lines.append(f"Message-ID: <{message_id or f'sent-{number}@mail.example'}>".encode())
    if b"to" not in named:
        lines.append(f"To: Buyer {number} <buyer-{number}@shop.example>".encode())
    if b"date" not in named:
        lines.append(f"Date: {at:%a, %d %b %Y %H:%M:%S} +0000".encode())
    return b"\r\n".join([*lines, *fields, b"", body, b""])


def forms(number: int) -> tuple[bytes, ...]:
    """The fields that make message `number` special; most have none."""
    reference = f"<inquiry-{number}@platform.example>".encode()
    chain = b"\r\n ".join(f"<thread-{number}-{position}@platform.example>".encode() for position in range(150))
    special: dict[int, tuple[bytes, ...]] = {
        0: (b"In-Reply-To: " + reference, b"References: " + reference),
        1: (b"In-Reply-To: " + reference, b"References: " + chain),
        2: (b"To: =?utf-8?B?5Lmw5a62?= <buyer@shop.example>",),
        3: ("To: 买家 <buyer@shop.example>".encode(),),
        4: ("To: Käufer <buyer@shop.example>".encode("latin-1"),),
        5: ("To: 买家 <buyer@shop.example>".encode("gb18030"),),
        6: (b"To: Team: buyer@shop.example, second@shop.example;",),
        7: (b"To: " + b",\r\n ".join(f"person-{position}@shop.example".encode() for position in range(19)),),
        8: (b'To: "Buyer, the \\"first\\"" (comment)\r\n <buyer@shop.example>',),
        9: (b"To: undisclosed-recipients:;", b"Bcc: buyer@shop.example"),
        10: (b"To: BUYER@SHOP.EXAMPLE",),
        11: (b"Auto-Submitted: auto-replied",),
        12: (b"X-Padding: " + b"\r\n ".join([b"x" * 70] * 800),),
        13: (b'Subject: brackets (1) and {10} and "quotes"',),
    }
    return special.get(number % 20, ())


def corpus(now: datetime) -> Iterator[SentMail]:
    """All messages, the oldest first. The newest was filed an hour before `now`."""
    for number in range(TOO_OLD):
        at = now - timedelta(days=100 + number)
        message_id = f"old-{number}@mail.example"
        previous = SentMail(mail(1000 + number, at, message_id=message_id), at, message_id=message_id, in_horizon=False)
        yield previous
    for number in range(COUNT):
        at = now - timedelta(hours=1 + 3 * (COUNT - number))
        if number % 50 == 33:
            yield SentMail(mail(number, at, message_id=None), at)
            continue
        if number % 50 == 41:
            yield previous  # the same message filed twice: one event
            continue
        message_id = f"sent-{number}@mail.example"
        flags = {14: "\\Flagged", 15: "$Forwarded", 16: "\\Answered"}.get(number % 20, "")
        previous = SentMail(mail(number, at, *forms(number), message_id=message_id), at, flags, message_id)
        yield previous
