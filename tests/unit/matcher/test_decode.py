"""The matcher rejects records whose time is far after its clock, and goes on with the next one."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from services.common import codec
from services.common.errors import ConfigError
from services.common.events import Buyer, CompanyErased, Event, InquiryReceived, StatusChanged
from services.common.hashing import Hasher
from services.common.topics import INQUIRIES, partition_of
from services.matcher.decode import AHEAD, BatchDecoder

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NO_DATE = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def inquiry(at: datetime) -> Event:
    return InquiryReceived(company_id="c", account_id="a", inquiry_id="i", received_at=at, buyer=Buyer(id="b"))


def record(event: Event, time: datetime, sent: datetime = NOW) -> SimpleNamespace:
    """`sent`: Kafka's timestamp."""
    value = codec.encode(event, id="1", source="tests", time=time)
    timestamp = int(sent.timestamp() * 1000)
    return SimpleNamespace(
        topic=INQUIRIES, partition=partition_of(b"c", 4), value=value, headers=[], timestamp=timestamp
    )


@pytest.mark.parametrize(
    "event",
    [
        inquiry(NO_DATE),
        StatusChanged(company_id="c", inquiry_id="i", status="spam", at=NO_DATE),
        CompanyErased(company_id="c", at=NO_DATE),
    ],
    ids=["inquiry", "status", "erase"],
)
@pytest.mark.parametrize("time", [NO_DATE, NOW, NOW + AHEAD + timedelta(seconds=1)], ids=["no date", "now", "later"])
def test_an_instant_far_after_the_clock_becomes_a_dead_letter(event: Event, time: datetime) -> None:
    decoder = BatchDecoder(Hasher(bytes(32)), 4, lambda: NOW)
    batch = decoder.decode([record(event, time), record(inquiry(NOW), NOW + AHEAD)])
    assert [error.reason for _, error in batch.rejected] == ["limit"]
    assert len(batch.facts) == 1


def test_records_in_a_row_that_kafka_confirms_mean_that_this_clock_is_behind() -> None:
    later = NOW + timedelta(days=10)
    decoder = BatchDecoder(Hasher(bytes(32)), 4, lambda: NOW)
    good = record(inquiry(later), later, later)
    with pytest.raises(
        ConfigError, match=r"the clock of this host says 2026-03-01 12:00 UTC, and 3 records .* \(NTP\)"
    ):
        decoder.decode([good, good, good])


def test_a_producer_whose_own_clock_is_ahead_stops_nobody() -> None:
    later = NOW + timedelta(days=10)
    decoder = BatchDecoder(Hasher(bytes(32)), 4, lambda: NOW)
    one_sided, absurd = record(inquiry(later), later), record(inquiry(later), later, later)
    batch = decoder.decode([one_sided] * 5 + [absurd, absurd, record(inquiry(NOW), NOW), absurd, absurd])
    assert [error.reason for _, error in batch.rejected] == ["limit"] * 9
    assert len(batch.facts) == 1


def test_old_records_sent_by_a_right_clock_count_on_a_host_whose_clock_is_behind() -> None:
    decoder = BatchDecoder(Hasher(bytes(32)), 4, lambda: NOW)
    later = NOW + timedelta(days=10)
    assert len(decoder.decode([record(inquiry(NOW), NOW, later)] * 5).facts) == 5
