"""The stored form of a published message: rows of earlier releases must stay readable."""

from datetime import timedelta
from typing import get_args

from services.common import codec
from services.common.events import Basis, Evidence, Kind, MessageSent
from services.common.stored_message import (
    BASES,
    EVIDENCES,
    KINDS,
    MailboxPlace,
    StoredMessage,
    event_of,
    record_of,
    sent_event,
    stored_message,
)
from tests.support.builders import ACCOUNT, COMPANY, MAILBOX, T0, a_sent_message, hash_of

PLACE = MailboxPlace(COMPANY, ACCOUNT, MAILBOX)
SEEN = T0 + timedelta(minutes=10, microseconds=123_456)
REPLY = a_sent_message(
    sent_at_basis="save-date", evidence="suspect", kind="automatic", kind_reason="auto-submitted",
    date_header=T0 - timedelta(days=1), internal_date=T0 + timedelta(seconds=2), save_date=T0,
    filed_after=T0 - timedelta(minutes=1), filed_before=SEEN, recipients=(hash_of(5), hash_of(6)), in_reply_to=(hash_of(7),),
    references=(hash_of(8), hash_of(7)), senders=(hash_of(6),),
)  # fmt: skip
STORED = bytes.fromhex(
    "9a010201ae6175746f2d7375626d6974746564d3ffffffebe228a000ce001e848000ce2758af40"
    f"c440{hash_of(5)}{hash_of(6)}{hash_of(7)}{hash_of(8)}c409020102000102030201"
)


def record(event: MessageSent) -> bytes:
    return codec.encode(event, id=event.message_id, source="replyrate/fetcher/m1", time=SEEN)


def test_the_form_that_is_in_databases_is_read() -> None:
    """If this fails, the form or the event has changed: what is stored must still give the bytes that were sent."""
    sent = record(REPLY)
    assert stored_message(REPLY, sent) == StoredMessage(REPLY.message_id, T0, SEEN, STORED)
    assert record_of(StoredMessage(REPLY.message_id, T0, SEEN, STORED), PLACE) == sent


def test_every_code_has_its_number() -> None:
    assert (set(BASES), set(EVIDENCES), set(KINDS)) == (
        set(get_args(Basis)),
        set(get_args(Evidence)),
        set(get_args(Kind)),
    )


def test_a_reply_with_one_recipient_takes_few_bytes() -> None:
    reply = a_sent_message(
        date_header=T0, internal_date=T0 + timedelta(seconds=2), filed_after=T0 - timedelta(minutes=1), filed_before=SEEN,
        recipients=(hash_of(5),), in_reply_to=(hash_of(7),), references=(hash_of(7),),
    )  # fmt: skip
    sent = record(reply)
    assert len(sent) > 700 and len(stored_message(reply, sent).record) <= 64


def test_a_record_of_another_version_has_no_event() -> None:
    record = b'{"specversion":"9"}'
    assert sent_event(record) is None
    assert event_of(StoredMessage(hash_of(2), T0, SEEN, record), PLACE) is None
