"""`message FILE`: what the fetcher makes of a message, without a mailbox, a database or Kafka."""

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

import click

from services.aggregator.texts import Texts
from services.cli.context import as_json, environment, guarded
from services.cli.output import echo
from services.common.display import printable
from services.common.hashing import Hasher
from services.common.settings import load_hash_key
from services.common.tabular import plain
from services.mail import headers
from services.mail.classify import BULK_RECIPIENTS
from services.mail.inspection import DropReason, Inspection, NotAMessage, Situation, hashes, inspect, trusted_times
from services.mail.trust import TrustedTime

HEADER_BYTES: Final = 1024 * 1024
"""Enough for every header: mail servers accept far less."""
CHUNK_BYTES: Final = 1024 * 1024
DROPPED: Final[dict[DropReason, str]] = {
    "no-address": "a name without an address",
    "not-an-address": "not a valid address",
    "no-id": "no Message-ID in it",
    "not-an-id": "not a valid Message-ID",
    "over-limit": "over the limit",
    "repeated": "the field is repeated; only the first one is read",
    "not-a-date": "not a date between 2000 and 2100",
    "in-the-future": "more than a day in the future",
    "truncated": f"everything after the first {headers.MAX_BYTES} bytes of the fields that are read",
}
LIMITS: Final = {
    "message-id": "1 id",
    "in-reply-to": f"{headers.MAX_IN_REPLY_TO} ids",
    "references": f"the first id and the last {headers.MAX_REFERENCES - 1}",
    **dict.fromkeys(("to", "cc", "bcc"), f"{headers.MAX_RECIPIENTS} recipients"),
}
SITUATIONS: Final[dict[Situation, str]] = {
    "regular-poll": "sent while the mailbox is polled regularly",
    "gap": "sent in a gap of over an hour, or found by a rescan",
    "first-scan": "there when the mailbox was connected",
}
CLOCKS: Final = {
    "date": "Date counts",
    "internal-date": "INTERNALDATE counts",
    "save-date": "SAVEDATE counts",
    "interval-end": "the time at which the poll sees it counts",
}
KINDS: Final = {
    "human": f"no rule for automatic mail, bulk mail (over {BULK_RECIPIENTS} recipients), bounces or forwards applies",
}


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--company", "company_id", metavar="ID", help="Also print the hashes that this company's events carry.")
@as_json
@guarded
def message(file: BinaryIO, company_id: str | None, json_: bool) -> None:
    """Show what the fetcher makes of a message.

    FILE is a mail message (.eml); - reads standard input. Needs no mailbox, database or Kafka, and stores nothing.
    Addresses are printed in plain text.

    Only the header fields that the fetcher asks for are read. A file has no INTERNALDATE, no SAVEDATE and no flags.

    Exit 1 when FILE is not a mail message. --company needs REPLYRATE_HASH_KEY_FILE (exit 78 without it).
    """
    now = datetime.now(UTC)
    raw, size = read_message(file)
    inspection = inspect(raw, size, now)
    document = as_document(inspection)
    if company_id is not None:
        document["hashes"] = hashes(inspection, company_id, Hasher(load_hash_key(environment())), now)
    if json_:
        # ASCII only: a terminal must not interpret what a message contains.
        echo(json.dumps(plain(document)))
    else:
        for line in lines(inspection, document, now):
            echo(printable(line))


def read_message(file: BinaryIO) -> tuple[bytes, int]:
    """The start of a message with its header, and its size with CRLF line ends as a server reports it. NotAMessage."""
    start = file.read(HEADER_BYTES)
    if not start:
        raise NotAMessage("the message is empty; give a message as it is stored or sent (.eml)")
    size, last, chunk = 0, b"", start
    while chunk:
        bare_line_feeds = chunk.count(b"\n") - (last + chunk).count(b"\r\n")
        size += len(chunk) + bare_line_feeds
        last = chunk[-1:]
        chunk = file.read(CHUNK_BYTES)
    return start, size


def as_document(inspection: Inspection) -> dict[str, Any]:
    """The values of `--json`."""
    return {
        "message_id": inspection.message_id,
        "identity": inspection.identity,
        "in_reply_to": inspection.in_reply_to,
        "references": inspection.references,
        "recipients": inspection.recipients,
        "from": inspection.senders,
        "date": inspection.date,
        "kind": inspection.kind,
        "kind_reason": inspection.kind_reason,
        "dropped": [{"field": value.field, "reason": value.reason} for value in inspection.dropped],
    }


def lines(inspection: Inspection, document: dict[str, Any], now: datetime) -> list[str]:
    """The same for a person."""
    reasons = Texts("explain", "en")
    why = KINDS.get(inspection.kind) or reasons("kind_reason", inspection.kind_reason)
    code = "" if inspection.kind_reason is None else f" ({inspection.kind_reason})"
    identity = {
        "message-id": "by the Message-ID",
        "content": "by content (Date, From, To, Cc, Subject, size), as there is no usable Message-ID",
    }[inspection.identity]
    facts: list[tuple[str, list[str]]] = [
        ("Message-ID", [inspection.message_id or "–"]),
        ("identity", [identity]),
        ("In-Reply-To", list(inspection.in_reply_to)),
        ("References", list(inspection.references)),
        ("from", list(inspection.senders)),
        ("recipients", list(inspection.recipients)),
        ("Date", ["–" if inspection.date is None else plain(inspection.date)]),
        ("time that counts", _clock_lines(inspection, now)),
        ("kind", [f"{inspection.kind}: {why}{code}"]),
        ("dropped", _dropped_lines(inspection)),
    ]
    if "hashes" in document:
        for name, value in document["hashes"].items():
            facts.append((f"hash of {name}", [value] if isinstance(value, str) else value))
    printed: list[str] = []
    for label, values in facts:
        for number, value in enumerate(values or ["–"]):
            printed.append(f"{label if number == 0 else '':<22}{value}")
    return printed


def _clock_lines(inspection: Inspection, now: datetime) -> list[str]:
    """What the rules of time make of the Date, as a file has no other clock."""

    def sentence(situation: Situation, time: TrustedTime) -> str:
        return f"{SITUATIONS[situation]}: {CLOCKS[time.basis]}, {time.evidence}"

    times = trusted_times(inspection.date, now)
    return [
        *(sentence(situation, time) for situation, time in times.items()),
        "(without INTERNALDATE and SAVEDATE, which a file does not have and which can change this)",
    ]


def _dropped_lines(inspection: Inspection) -> list[str]:
    counts = Counter(inspection.dropped)
    printed = []
    for value, count in counts.items():
        limit = f" of {LIMITS[value.field]}" if value.reason == "over-limit" else ""
        times = f", {count} times" if count > 1 else ""
        printed.append(f"{value.field}: {DROPPED[value.reason]}{limit} ({value.reason}{times})")
    return printed or ["nothing"]
