"""The dead letter of a record that a service rejects: what it holds, and what is left out so that it is never too large.

A topic's limit is one for compressed batches, so a record that was taken may be larger than any letter can be.
"""

import base64
from datetime import datetime
from typing import Final, NamedTuple

from msgspec.structs import replace

from services.common import codec
from services.common.errors import InvalidEvent
from services.common.events import DeadLetter
from services.common.kafka import Record
from services.common.topics import INQUIRIES, REPLAYED
from services.common.trace_context import TRACEPARENT

KEY_BYTES: Final = 300
"""More than any key of ours has: two ids of 128 bytes."""
HEADER_BYTES: Final = 100
"""More than any header that is handed on has."""
AROUND_BYTES: Final = 1024
"""More than headers and the frame of a batch take."""
TOO_LARGE: Final = "; the record of {} bytes is too large for a letter and stands at its position alone"


class RejectedRecord(NamedTuple):
    """A record for dead-letters.v1."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def position(record: Record) -> str:
    """Where a record stands: `topic/partition/offset`."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def letter(
    record: Record, error: InvalidEvent, *, service: str, version: str, at: datetime, most_bytes: int
) -> RejectedRecord:
    """The letter, of at most `most_bytes` with its key.

    The record's value is left out where it would be larger, and for inquiries.v1, which holds plain addresses: a replay reads
    it again from its position.
    """
    key = (record.key or b"")[:KEY_BYTES]
    open_ = record.topic != INQUIRIES and record.value is not None
    whole = DeadLetter(
        reason=error.reason,
        detail=error.detail[:1024],
        service=service,
        service_version=version,
        at=at,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=None if record.key is None else key.decode("utf-8", "replace"),
        value=base64.b64encode(record.value or b"").decode("ascii") if open_ else None,
    )
    source = f"replyrate/{service}"
    value = codec.encode(whole, id=position(record), source=source, time=at)
    if open_ and len(key) + len(value) + AROUND_BYTES > most_bytes:
        why = TOO_LARGE.format(len(record.value or b""))
        bare = replace(whole, value=None, detail=error.detail[: 1024 - len(why)] + why)
        value = codec.encode(bare, id=position(record), source=source, time=at)
    # They come from others as well: one that is longer is none that we wrote.
    kept = [one for one in record.headers if one[0] in (REPLAYED, TRACEPARENT) and len(one[1] or b"") <= HEADER_BYTES]
    return RejectedRecord(key, value, kept)
