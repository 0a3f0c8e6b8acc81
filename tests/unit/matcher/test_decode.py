"""The matcher rejects records whose time is far after its clock, and goes on with the next one."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from services.common import codec
from services.common.events import Buyer, CompanyErased, Event, InquiryReceived, StatusChanged
from services.common.hashing import Hasher
from services.common.topics import INQUIRIES, partition_of
from services.matcher.decode import AHEAD, BatchDecoder

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NO_DATE = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def inquiry(at: datetime) -> Event:
    return InquiryReceived(company_id="c", account_id="a", inquiry_id="i", received_at=at, buyer=Buyer(id="b"))


def record(event: Event, time: datetime) -> SimpleNamespace:
    value = codec.encode(event, id="1", source="tests", time=time)
    return SimpleNamespace(topic=INQUIRIES, partition=partition_of(b"c", 4), value=value, headers=[])


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
