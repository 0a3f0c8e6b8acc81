"""Under which keys the matcher publishes its states in the compacted topic."""

from datetime import timedelta

from services.common import codec
from services.common.events import CompanyErased, InquiryReplies
from services.common.hashing import Hasher
from services.common.topics import REPLIES, partial_key, reply_key
from services.common.tracing import OFF
from services.matcher import join
from services.matcher.decode import DecodedBatch
from services.matcher.encode import OutputEncoder
from services.matcher.join import Fact
from services.matcher.traces import BatchTraces
from tests.support.builders import COMPANY, INQUIRY, T0, a_status, an_erase, an_inquiry

ACCEPT = frozenset({"replyrate.inquiry-replies.v1", "replyrate.company-erased.v1"})
KEY, PARTIAL = reply_key(COMPANY, INQUIRY), partial_key(COMPANY, INQUIRY)


class Topic:
    """A matcher's store, and the compacted topic that it writes."""

    def __init__(self) -> None:
        self.store: dict[bytes, bytes] = {}
        self.records: dict[bytes, InquiryReplies | CompanyErased | None] = {}

    def add(self, *facts: Fact) -> None:
        result = join.apply(
            self.store.get, lambda prefix: [key for key in self.store if key.startswith(prefix)], list(facts)
        )
        self.write(result.changes)
        rows = OutputEncoder(Hasher(bytes(32)), 4, "0", lambda: T0).encode(0, DecodedBatch(BatchTraces(OFF)), result)
        for key, value, _ in rows[REPLIES].get(0, []):
            assert key is not None
            self.records[key] = None if value is None else codec.decode(value, accept=ACCEPT).data  # type: ignore[assignment]

    def write(self, changes: dict[bytes, bytes | None]) -> None:
        for key, value in changes.items():
            if value is None:
                self.store.pop(key, None)
            else:
                self.store[key] = value

    def sweep(self) -> None:
        self.write({key: join.sweep(key, value, T0 + timedelta(days=2)) for key, value in self.store.items()})


def test_a_status_of_an_inquiry_behind_the_horizon_does_not_replace_its_facts() -> None:
    topic = Topic()
    topic.add(an_inquiry())
    asked = topic.records[KEY]
    topic.sweep()
    assert topic.store == {}
    topic.add(a_status(at=T0 + timedelta(days=61)))
    assert topic.records[KEY] == asked
    late = topic.records[PARTIAL]
    assert isinstance(late, InquiryReplies) and late.received_at is None and len(late.statuses) == 1


def test_an_inquiry_that_follows_its_status_is_published_with_it() -> None:
    topic = Topic()
    topic.add(a_status(at=T0 + timedelta(hours=1)))
    assert set(topic.records) == {PARTIAL}
    topic.add(an_inquiry())
    complete = topic.records[KEY]
    assert isinstance(complete, InquiryReplies) and complete.received_at == T0 and len(complete.statuses) == 1


def test_an_erase_takes_both_records_of_an_inquiry() -> None:
    topic = Topic()
    topic.add(a_status(at=T0 + timedelta(hours=1)))
    topic.add(an_inquiry())
    topic.add(an_erase(at=T0 + timedelta(hours=2)))
    assert topic.records[KEY] is None and topic.records[PARTIAL] is None


def test_what_an_erase_leaves_of_an_inquiry_replaces_its_facts() -> None:
    topic = Topic()
    topic.add(a_status(at=T0 + timedelta(hours=9)))
    topic.add(an_inquiry())
    topic.add(an_erase(at=T0 + timedelta(hours=2)))
    remaining = topic.records[KEY]
    assert isinstance(remaining, InquiryReplies) and remaining.received_at is None and len(remaining.statuses) == 1
    assert topic.records[PARTIAL] is None
