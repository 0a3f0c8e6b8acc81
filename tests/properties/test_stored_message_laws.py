"""What is stored of a published message gives the record back byte for byte, whatever the message is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.common import codec
from services.common.events import MessageSent
from services.common.stored_message import JSON_START, MailboxPlace, event_of, record_of, sent_event, stored_message
from tests.support.strategies import events, ids

seen = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))


def record(event: MessageSent) -> bytes:
    """The event as the fetcher sends it: first seen is the time of the record."""
    assert event.filed_before is not None
    source = f"replyrate/fetcher/{event.mailbox_id}"
    return codec.encode(event, id=event.message_id, source=source, time=event.filed_before)


def place(event: MessageSent) -> MailboxPlace:
    return MailboxPlace(event.company_id, event.account_id, event.mailbox_id)


@given(events(MessageSent), seen)
def test_every_event_of_a_fetcher_is_compact_and_comes_back(event: MessageSent, at: datetime) -> None:
    event = msgspec.structs.replace(event, filed_before=at)
    sent = record(event)
    stored = stored_message(event, sent)
    assert not stored.record.startswith(JSON_START) and len(stored.record) < len(sent) / 3
    assert record_of(stored, place(event)) == sent
    assert event_of(stored, place(event)) == event


@given(events(MessageSent), seen, st.sampled_from(["unknown-field", "space", "time", "id"]))
def test_a_record_that_cannot_be_rebuilt_is_kept_as_it_was_sent(event: MessageSent, at: datetime, change: str) -> None:
    """Records of earlier releases have fewer fields; whatever differs, the bytes stay."""
    event = msgspec.structs.replace(event, filed_before=at)
    sent = {
        "unknown-field": record(event).replace(b'"data":{', b'"data":{"later":1,', 1),
        "space": record(event).replace(b'"specversion":"1.0"', b'"specversion": "1.0"', 1),
        "time": codec.encode(event, id=event.message_id, source=place(event).source, time=at + timedelta(seconds=1)),
        "id": codec.encode(event, id="another", source=place(event).source, time=at),
    }[change]
    stored = stored_message(event, sent)
    assert stored.record == sent == record_of(stored, place(event))
    assert event_of(stored, place(event)) == sent_event(sent)


@given(events(MessageSent), seen, ids)
def test_a_mailbox_with_other_ids_than_the_record_changes_nothing(
    event: MessageSent, at: datetime, account: str
) -> None:
    event = msgspec.structs.replace(event, filed_before=at)
    sent, now = record(event), replace(place(event), account_id=account)
    assert record_of(stored_message(event, sent, now), now) == sent
