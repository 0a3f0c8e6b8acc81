"""Which records of inquiry-replies.v1 the ledger takes. Pure: the clock is an argument.

The matcher publishes complete states only. Another producer on the topic, or a damaged record, may not: one inquiry without a
buyer would keep its whole company from being judged, so such a record becomes a dead letter instead.
"""

from datetime import datetime, timedelta
from typing import Final

from services.common import codec
from services.common.errors import InvalidEvent
from services.common.events import CompanyErased, InquiryReplies
from services.common.topics import ACCEPTED, REPLIES

AHEAD: Final = timedelta(days=4)
"""How far the `time` of a record may be after this host's clock: the matcher takes records of up to two days ahead, whose
instants may be a day later, and stamps its own with the latest of them; a day is left for the difference of two hosts."""


def accepted(raw: bytes, now: datetime) -> InquiryReplies | CompanyErased:
    """The event of a record. InvalidEvent with reason `not-json`, `schema` or `limit`."""
    event = codec.decode(raw, accept=ACCEPTED[REPLIES], latest=now + AHEAD).data
    assert isinstance(event, InquiryReplies | CompanyErased)
    if isinstance(event, InquiryReplies) and event.received_at is not None:
        for field in ("account_id", "buyer", "channel", "facts_id"):
            if getattr(event, field) is None:
                raise InvalidEvent("schema", f"data.{field}: required when received_at is given")
    if isinstance(event, InquiryReplies) and any(
        status.status == "reassigned" and status.account_id is None for status in event.statuses
    ):
        raise InvalidEvent("schema", "data.statuses[...].account_id: required when status is reassigned")
    return event
