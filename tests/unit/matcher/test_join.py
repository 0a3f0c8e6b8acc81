"""What the join reports about facts that do not count: each has a reason."""

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.common import metrics
from services.common.events import HashedBuyer
from services.common.lifecycle import Heartbeat
from services.matcher import join, state
from services.matcher.horizon import DROP_REASONS
from services.matcher.join import Fact, JoinResult
from services.matcher.matching import entry_of
from tests.support.builders import T0, a_sent_message, a_status, an_erase, an_inquiry
from tests.support.matching import a_matcher


def joined(*batches: list[Fact]) -> JoinResult:
    """The result of the last batch, all over one store."""
    store: dict[bytes, bytes] = {}
    for facts in batches:
        result = join.apply(store.get, lambda prefix: [key for key in store if key.startswith(prefix)], facts)
        for key, value in result.changes.items():
            if value is None:
                store.pop(key)
            else:
                store[key] = value
    return result


def test_facts_that_an_erase_covers_are_counted_as_erased() -> None:
    later = T0 + timedelta(hours=1)
    result = joined([an_erase(at=T0)], [an_inquiry(received_at=T0), a_status(at=T0), an_inquiry(received_at=later)])
    assert result.ignored == {"erased": 2}
    assert [inquiry.received_at for inquiry in result.changed] == [later]


def test_a_message_without_any_hash_is_counted_as_unmatchable() -> None:
    forward = a_sent_message(kind="forward", in_reply_to=("0" * 32,))
    result = joined([a_sent_message(), forward, a_sent_message(recipients=("0" * 32,))])
    assert result.ignored == {"no-join-key": 2}


def test_what_the_bounds_cut_is_counted_by_what_it_is() -> None:
    statuses: list[Fact] = [a_status(at=T0 + timedelta(seconds=second)) for second in range(2 * state.STATUSES + 3)]
    assert joined(statuses).cut == {"statuses": 3}
    hashes = [f"{number:032x}" for number in range(state.HASHES + 2)]
    inquiries: list[Fact] = [
        an_inquiry(message_ids=tuple(hashes[start : start + 6]), facts_id=f"{start:032x}")
        for start in range(0, len(hashes), 6)
    ]
    assert joined(inquiries).cut == {"addresses-and-ids": 2}
    asked = an_inquiry(message_ids=("0" * 32,))
    replies: list[Fact] = [
        a_sent_message(message_id=f"{number:032x}", sent_at=T0 + timedelta(hours=number), in_reply_to=("0" * 32,))
        for number in range(state.MAIL_REPLIES + 2)
    ]
    assert joined([asked, *replies]).cut == {"replies": 2}
    assert joined([asked, *replies[: state.MAIL_REPLIES]]).cut == {}


def test_the_entries_that_an_erase_drops_are_counted() -> None:
    asked = an_inquiry(message_ids=("0" * 32,))
    reply = a_sent_message(sent_at=T0 + timedelta(hours=1), in_reply_to=("0" * 32,))
    result = joined([asked, reply], [an_erase(at=T0 + timedelta(days=1))])
    assert result.erased_entries == 3, "the inquiry, the join key and the day"
    assert result.ignored == {}


def series(counter: Any) -> set[str]:
    """The values of the counter's `reason` label that are exported."""
    return {sample.labels["reason"] for metric in counter.collect() for sample in metric.samples}


def test_every_reason_is_exported_from_the_start(tmp_path: Path) -> None:
    a_matcher(tmp_path, Heartbeat(300), time.monotonic)
    assert series(metrics.FACTS_IGNORED) == set(join.IGNORED_REASONS) == {"erased", "no-join-key"}
    assert series(metrics.FACTS_CUT) == set(state.CUT_REASONS)
    assert series(metrics.STATE_DROPPED) == set(DROP_REASONS)


def test_mail_from_an_address_of_the_buyer_is_marked_also_when_the_address_becomes_known_later() -> None:
    address, question = "a" * 32, "0" * 32
    anonymous = an_inquiry(message_ids=(question,))
    asked = an_inquiry(message_ids=(question,), buyer=HashedBuyer(id="b1", addresses=(address,)), facts_id="2" * 32)
    own_mail = a_sent_message(in_reply_to=(question,), senders=(address,))
    alias_mail = a_sent_message(in_reply_to=(question,), senders=("b" * 32,), message_id="3" * 32)
    orders: list[list[Fact]] = [[asked, own_mail, alias_mail], [anonymous, own_mail, alias_mail, asked]]
    for facts in orders:
        (inquiry,) = joined(*([fact] for fact in facts)).changed
        reasons = [(reply.reply_id, reply.kind_reason) for reply in inquiry.replies]
        assert reasons == [
            (own_mail.message_id, None),
            (own_mail.message_id, "from-buyer"),
            (alias_mail.message_id, None),
        ]


def test_marks_of_the_buyers_own_mail_take_no_place_of_an_answer() -> None:
    address, question = "a" * 32, "0" * 32
    asked = an_inquiry(message_ids=(question,), buyer=HashedBuyer(id="b1", addresses=(address,)))
    own: list[Fact] = [
        a_sent_message(
            message_id=f"{number:032x}",
            sent_at=T0 + timedelta(minutes=number),
            in_reply_to=(question,),
            senders=(address,),
        )
        for number in range(3)
    ]
    answer: Fact = a_sent_message(message_id="f" * 32, sent_at=T0 + timedelta(hours=1), in_reply_to=(question,))
    (inquiry,) = joined([asked, *own, answer]).changed
    assert [reply.reply_id for reply in inquiry.replies][-1] == "f" * 32


@pytest.mark.parametrize("known_first", [True, False])
@pytest.mark.parametrize(
    ("written_days_ago", "asked_days_ago", "is_attached"),
    [(730, 0, False), (21, 1, False), (8, 7, False), (8, 9, True), (6, 0, True), (None, 0, True)],
)
def test_old_mail_to_the_buyer_answers_nothing_that_was_asked_since(
    written_days_ago: int | None, asked_days_ago: int, is_attached: bool, known_first: bool
) -> None:
    address, question, relay = "a" * 32, "0" * 32, "e" * 32
    asked = an_inquiry(
        received_at=T0 - timedelta(days=asked_days_ago),
        message_ids=(question,),
        reply_addresses=(relay,),
        buyer=HashedBuyer(id="b1", addresses=(address,)),
    )
    date = None if written_days_ago is None else T0 - timedelta(days=written_days_ago)

    def attached(**fields: Any) -> set[str]:
        filed = a_sent_message(date_header=date, **fields)
        result = joined([asked], [filed]) if known_first else joined([filed], [asked])
        return {reply.matched_by for inquiry in result.changed for reply in inquiry.replies}

    assert attached(recipients=(address,)) == ({"buyer-address"} if is_attached else set())
    assert attached(recipients=(relay,)) == {"relay-address"}
    assert attached(in_reply_to=(question,)) == {"in-reply-to"}


def test_entries_of_earlier_versions_lack_the_senders_and_the_date() -> None:
    entry = state.JoinDayEntry([entry_of(a_sent_message(), state.RECIPIENT)])
    ((message,),) = msgspec.msgpack.decode(state.pack(entry))
    assert message[8:] == [[], 0]
    for length in (8, 9):
        earlier = msgspec.msgpack.encode([[message[:length]]])
        key = state.join_day("c1", "0" * 32, 1)
        assert state.unpack(key, earlier) == entry
