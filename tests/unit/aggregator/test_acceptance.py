"""The ledger takes complete records whose instants are not far after the clock."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from services.aggregator.ingest.acceptance import AHEAD, accepted
from services.common import codec
from services.common.errors import InvalidEvent
from services.common.events import CompanyErased, HashedBuyer, InquiryReplies, StatusFact

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
COMPLETE = InquiryReplies(
    company_id="c", inquiry_id="i", account_id="a", received_at=NOW, buyer=HashedBuyer(id="b"), channel="inquiry",
    facts_id=f"{1:032x}",
)  # fmt: skip
NO_DATE = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def record(event: InquiryReplies | CompanyErased, time: datetime = NOW) -> bytes:
    return codec.encode(event, id="1", source="tests", time=time)


def refusal(raw: bytes) -> tuple[str, str]:
    with pytest.raises(InvalidEvent) as refused:
        accepted(raw, NOW)
    return refused.value.reason, refused.value.detail


def test_a_complete_state_and_a_state_without_its_inquiry_are_taken() -> None:
    assert accepted(record(COMPLETE), NOW) == COMPLETE
    only_status = InquiryReplies(company_id="c", inquiry_id="i", statuses=(StatusFact(status="spam", at=NOW),))
    assert accepted(record(only_status), NOW) == only_status


@pytest.mark.parametrize("field", ["account_id", "buyer", "channel", "facts_id"])
def test_an_incomplete_inquiry_is_rejected(field: str) -> None:
    incomplete: dict[str, Any] = {field: None}
    reason, detail = refusal(record(replace(COMPLETE, **incomplete)))
    assert reason == "schema" and field in detail


def test_a_reassignment_to_nobody_is_rejected() -> None:
    reason, detail = refusal(record(replace(COMPLETE, statuses=(StatusFact(status="reassigned", at=NOW),))))
    assert reason == "schema" and "account_id" in detail


@pytest.mark.parametrize("event", [replace(COMPLETE, received_at=NO_DATE), CompanyErased(company_id="c", at=NO_DATE)])
def test_a_record_far_after_the_clock_is_rejected(event: InquiryReplies | CompanyErased) -> None:
    assert refusal(record(event, NO_DATE))[0] == "limit"
    assert refusal(record(event))[0] == "limit", "an instant of the data far after the time of the record"


def test_a_clock_may_differ_by_days() -> None:
    assert accepted(record(COMPLETE, NOW + AHEAD), NOW) == COMPLETE
    assert refusal(record(COMPLETE, NOW + AHEAD + timedelta(seconds=1)))[0] == "limit"
