"""Rejecting a record: counts it, logs it, and makes its dead letter, which is never too large for its topic.

The limit of a topic applies to compressed batches, so an accepted record may be larger than any letter can be.
"""

import base64
from datetime import datetime
from logging import getLogger
from typing import Final, NamedTuple

from msgspec.structs import replace

from services.common import codec, metrics
from services.common.errors import InvalidEvent
from services.common.events import DeadLetter
from services.common.kafka import Record
from services.common.topics import INQUIRIES, REPLAYED
from services.common.trace_context import TRACEPARENT

log = getLogger(__name__)

MAX_KEY_BYTES: Final = 300
"""More than any key of ours has: two ids of 128 bytes."""
MAX_HEADER_BYTES: Final = 100
"""More than any header that is copied has."""
AROUND_BYTES: Final = 1024
"""More than the headers and the frame of a batch need."""
TOO_LARGE: Final = "; the record of {} bytes is too large for a letter and is only at its position"


class RejectedRecord(NamedTuple):
    """A record for dead-letters.v1."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def reject(
    record: Record, error: InvalidEvent, *, service: metrics.Service, version: str, at: datetime, most_bytes: int
) -> RejectedRecord:
    """Count and log the rejection of `record`; returns its dead letter, of at most `most_bytes` with its key."""
    metrics.RECORDS_REJECTED.labels(service, error.reason).inc()
    log.warning(
        "rejected: %s", error.detail,
        extra={"action": "record-rejected", "reason": error.reason, "position": position(record)},
    )  # fmt: skip
    return _letter(record, error, service=service, version=version, at=at, most_bytes=most_bytes)


def rejections_from_zero(service: metrics.Service) -> None:
    """Start the counters of the service's reasons at 0."""
    metrics.from_zero(metrics.RECORDS_REJECTED, [service], metrics.REASONS[service])


def position(record: Record) -> str:
    """The position of a record: `topic/partition/offset`."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def _letter(
    record: Record, error: InvalidEvent, *, service: str, version: str, at: datetime, most_bytes: int
) -> RejectedRecord:
    """The letter. It has the record's value unless that would be too large, or the record is one of inquiries.v1, which
    contains plain addresses; a replay reads such a record again from its position.
    """
    key = (record.key or b"")[:MAX_KEY_BYTES]
    has_value = (
        record.topic != INQUIRIES and record.value is not None and not isinstance(record.value, codec.UnreadableBatch)
    )
    # Not encoded to find out: a record may be larger than a letter by far.
    is_too_large = has_value and len(record.value or b"") > most_bytes
    letter = DeadLetter(
        reason=error.reason,
        detail=error.detail[:1024],
        service=service,
        service_version=version,
        at=at,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=None if record.key is None else key.decode("utf-8", "replace"),
        value=base64.b64encode(record.value or b"").decode("ascii") if has_value and not is_too_large else None,
    )
    source = f"replyrate/{service}"
    value = codec.encode(letter, id=position(record), source=source, time=at)
    if is_too_large or (has_value and len(key) + len(value) + AROUND_BYTES > most_bytes):
        why = TOO_LARGE.format(len(record.value or b""))
        without_value = replace(letter, value=None, detail=error.detail[: 1024 - len(why)] + why)
        value = codec.encode(without_value, id=position(record), source=source, time=at)
    # Other producers set these headers too; one that is longer or null is not ours, and kafka-python sends no null.
    headers = [
        (name, text)
        for name, text in record.headers
        if name in (REPLAYED, TRACEPARENT) and text is not None and len(text) <= MAX_HEADER_BYTES
    ]
    return RejectedRecord(key, value, headers)
