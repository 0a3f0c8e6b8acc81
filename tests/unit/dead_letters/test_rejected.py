"""Rejecting a record: its dead letter, its log line and its count."""

import base64
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from services.common import codec, metrics
from services.common.errors import InvalidEvent
from services.common.events import DEAD_LETTER, DeadLetter
from services.common.kafka import Record
from services.common.topics import INQUIRIES, LETTER_BYTES, REPLAYED, REPLIES
from services.common.trace_context import TRACEPARENT
from services.dead_letters.rejected import RejectedRecord, reject

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ERROR = InvalidEvent("schema", "data.x: wrong")


def rejected(record: Record, most_bytes: int = LETTER_BYTES) -> RejectedRecord:
    return reject(record, ERROR, service="aggregator", version="1", at=NOW, most_bytes=most_bytes)


def record(topic: str = REPLIES, value: bytes | None = b"{}", **changes: Any) -> Record:
    return Record(topic, 2, 7, b"c1", value, ())._replace(**changes)


def content(letter: RejectedRecord) -> DeadLetter:
    data = codec.decode(letter.value, accept=frozenset({DEAD_LETTER})).data
    assert isinstance(data, DeadLetter)
    return data


def test_a_letter_has_the_position_the_reason_and_the_value() -> None:
    letter = rejected(record())
    data = content(letter)
    assert letter.key == b"c1"
    assert (data.topic, data.partition, data.offset, data.reason, data.detail) == (
        REPLIES,
        2,
        7,
        ERROR.reason,
        ERROR.detail,
    )
    assert data.value is not None and base64.b64decode(data.value) == b"{}"


def test_an_inquiry_with_its_plain_addresses_is_only_at_its_position() -> None:
    assert content(rejected(record(INQUIRIES, b"buyer@shop.example"))).value is None


def test_a_value_that_would_make_the_letter_too_large_is_left_out_and_its_size_is_reported() -> None:
    letter = rejected(record(value=b"x" * 3000), most_bytes=4000)
    data = content(letter)
    assert data.value is None and "3000 bytes" in data.detail
    assert len(letter.key) + len(letter.value) < 4000


def test_headers_that_count_replays_and_carry_the_trace_are_copied_unless_they_are_too_long_to_be_ours() -> None:
    trace = (TRACEPARENT, b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    headers = ((REPLAYED, b"2"), trace, ("other", b"x"), (REPLAYED, b"9" * 101))
    assert rejected(record(headers=headers)).headers == [(REPLAYED, b"2"), trace]


def test_a_rejection_is_counted_by_reason_and_logged_with_the_position(caplog: pytest.LogCaptureFixture) -> None:
    def count() -> float:
        labels = {"service": "aggregator", "reason": "schema"}
        return metrics.EVERY_SERVICE.get_sample_value("replyrate_records_rejected_total", labels) or 0

    before = count()
    with caplog.at_level(logging.WARNING):
        rejected(record())
    assert count() == before + 1
    (line,) = caplog.records
    assert line.__dict__["action"] == "record-rejected" and line.__dict__["position"] == f"{REPLIES}/2/7"
