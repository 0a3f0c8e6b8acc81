"""The laws of the join: any order, duplicates, splits into batches and crashes end in the same state.

The reference below is slow and simple: it keeps every fact and tests all pairs.
"""

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.events import (
    MATCH_ORDER,
    CompanyErased,
    HashedBuyer,
    InquiryReplies,
    MessageSent,
    ReplyFact,
    ReplyRecorded,
    StatusChanged,
    StatusFact,
)
from services.matcher import join, matching, state
from tests.support.builders import COMPANY, INQUIRY, T0, a_sent_message, an_erase, an_inquiry, hash_of

HASHES = [hash_of(number) for number in range(6)]
instants = st.sampled_from([T0 + timedelta(seconds=s) for s in (-90_000, -301, -300, -299, 0, 1, 60, 86_400, 200_000)])
hashes = st.lists(st.sampled_from(HASHES), max_size=2, unique=True).map(tuple)
companies = st.sampled_from(["c1", "c2"])
ids = st.sampled_from(["i1", "i2", "i3"])

inquiries = st.builds(
    InquiryReplies, company_id=companies, inquiry_id=ids, account_id=st.sampled_from(["a", "b"]), received_at=instants,
    buyer=st.builds(HashedBuyer, id=st.just("b1"), addresses=hashes), message_ids=hashes, reply_addresses=hashes,
    channel=st.just("inquiry"), facts_id=st.sampled_from(HASHES),
)  # fmt: skip
messages = st.builds(
    MessageSent, company_id=companies, account_id=st.just("a"), mailbox_id=st.sampled_from(["m1", "m2"]),
    message_id=st.sampled_from(HASHES), sent_at=instants | st.just(T0 + timedelta(days=8)), sent_at_basis=st.just("date"),
    date_header=st.sampled_from([None, T0, T0 - timedelta(days=9)]),
    evidence=st.sampled_from(["verified", "suspect"]), kind=st.sampled_from(["human", "forward", "automatic"]),
    recipients=hashes, in_reply_to=hashes, references=hashes, senders=hashes,
)  # fmt: skip
statuses = st.builds(
    StatusChanged, company_id=companies, inquiry_id=ids, status=st.sampled_from(["spam", "declined"]), at=instants
)
platform = st.builds(
    ReplyRecorded, company_id=companies, account_id=st.just("a"), inquiry_id=ids, reply_id=st.sampled_from(["r1", "r2"]),
    replied_at=instants, channel=st.just("chat"), automatic=st.booleans(),
)  # fmt: skip
facts = st.lists(inquiries | messages | statuses | platform, max_size=14)


def normal_facts(drawn: Iterable[Any]) -> list[Any]:
    """In production facts of one inquiry with one `facts_id` are equal; make the drawn ones equal, too."""
    seen: dict[tuple[str, str, Any, Any], Any] = {}
    return [
        seen.setdefault((fact.company_id, fact.inquiry_id, fact.received_at, fact.facts_id), fact)
        if isinstance(fact, InquiryReplies)
        else fact
        for fact in drawn
    ]


def joined(batches: list[list[Any]], store: dict[bytes, bytes] | None = None) -> dict[bytes, bytes]:
    store = {} if store is None else store
    for batch in batches:
        applied = join.apply(store.get, lambda prefix: [key for key in store if key.startswith(prefix)], batch)
        assert applied.refused == []
        for key, value in applied.changes.items():
            if value is None:
                store.pop(key, None)
            else:
                store[key] = value
    return store


def states(store: dict[bytes, bytes]) -> dict[tuple[str, str], InquiryReplies]:
    inquiry_states = {}
    for key, value in store.items():
        entry = state.unpack(key, value)
        if isinstance(entry, InquiryReplies):
            inquiry_states[entry.company_id, entry.inquiry_id] = entry
    return inquiry_states


def is_older_mail(message: MessageSent, received_at: datetime) -> bool:
    """Whether a message has a Date more than a week old, from before the inquiry."""
    date = message.date_header
    return (
        date is not None and message.sent_at > date + timedelta(days=7) and date < received_at - timedelta(seconds=300)
    )


def reference(drawn: list[Any]) -> dict[tuple[str, str], InquiryReplies]:
    """All facts of an inquiry united, and every message of its company tested against it."""
    result: dict[tuple[str, str], InquiryReplies] = {}

    def add(company: str, inquiry: str, **values: Any) -> None:
        partial = InquiryReplies(company_id=company, inquiry_id=inquiry, **values)
        key = (company, inquiry)
        result[key] = state.merge_inquiries(result[key], partial) if key in result else state.normal(partial)

    for fact in drawn:
        if isinstance(fact, InquiryReplies):
            key = (fact.company_id, fact.inquiry_id)
            result[key] = state.merge_inquiries(result[key], fact) if key in result else state.normal(fact)
        elif isinstance(fact, StatusChanged):
            add(fact.company_id, fact.inquiry_id, statuses=(StatusFact(status=fact.status, at=fact.at),))
        elif isinstance(fact, ReplyRecorded):
            reply = ReplyFact(
                reply_id=fact.reply_id, source="platform", account_id=fact.account_id, replied_at=fact.replied_at,
                kind="automatic" if fact.automatic else "human", matched_by="platform",
            )  # fmt: skip
            add(fact.company_id, fact.inquiry_id, replies=(reply,))
    for (company, inquiry), joined_state in list(result.items()):
        if joined_state.received_at is None:
            continue
        for fact in drawn:
            if not isinstance(fact, MessageSent) or fact.company_id != company:
                continue
            if fact.sent_at < joined_state.received_at - timedelta(seconds=300):
                continue
            tests = {
                "in-reply-to": fact.kind != "forward" and set(fact.in_reply_to) & set(joined_state.message_ids),
                "references": fact.kind != "forward" and set(fact.references) & set(joined_state.message_ids),
                "relay-address": set(fact.recipients) & set(joined_state.reply_addresses),
                "buyer-address": joined_state.buyer is not None
                and set(fact.recipients) & set(joined_state.buyer.addresses)
                and not is_older_mail(fact, joined_state.received_at),
            }
            for name in MATCH_ORDER:
                if tests.get(name):
                    reply = ReplyFact(
                        reply_id=fact.message_id, source="mail", account_id=fact.account_id, mailbox_id=fact.mailbox_id,
                        replied_at=fact.sent_at, evidence=fact.evidence, kind=fact.kind, matched_by=name,
                    )  # fmt: skip
                    add(company, inquiry, replies=(reply,))
                    if joined_state.buyer is not None and set(fact.senders) & set(joined_state.buyer.addresses):
                        mark = msgspec.structs.replace(reply, kind_reason="from-buyer")
                        add(company, inquiry, replies=(mark,))
    return result


@given(facts)
def test_the_join_agrees_with_the_simple_reference(drawn: list[Any]) -> None:
    drawn = normal_facts(drawn)
    assert states(joined([drawn])) == reference(drawn)


def test_a_hash_that_gets_a_second_role_is_joined_again() -> None:
    """The same text first as the buyer's address and later as a Message-ID: the later test applies, too."""
    at, shared = datetime(2026, 10, 30, 23, tzinfo=UTC), "0" * 32
    asked = an_inquiry(received_at=at, facts_id=shared, buyer=HashedBuyer(id="b1", addresses=(shared,)))
    named = msgspec.structs.replace(asked, buyer=HashedBuyer(id="b1"), message_ids=(shared,), facts_id="1" * 32)
    sent = a_sent_message(message_id=shared, sent_at=at, references=(shared,))
    (state,) = states(joined([[asked], [sent], [named]])).values()
    assert [reply.matched_by for reply in state.replies] == ["references"]


@given(facts, st.randoms(use_true_random=False))
def test_order_duplicates_and_batches_do_not_matter(drawn: list[Any], chance: random.Random) -> None:
    drawn = normal_facts(drawn)
    again = drawn + [chance.choice(drawn) for _ in range(3) if drawn]
    chance.shuffle(again)
    batches, unread = [], again
    while unread:
        size = chance.randint(1, 4)
        batches.append(unread[:size])
        unread = unread[size:]
    assert joined(batches) == joined([drawn])


@given(facts, facts, st.randoms(use_true_random=False))
def test_replay_repairs_a_crash_between_any_two_rows_of_the_changelog(
    first: list[Any], second: list[Any], chance: random.Random
) -> None:
    everything = normal_facts(first + second)
    first, second = everything[: len(first)], everything[len(first) :]
    store = joined([first])
    applied = join.apply(store.get, lambda _: (), second)
    rows = list(applied.changes.items())
    chance.shuffle(rows)
    for key, value in rows[: chance.randint(0, len(rows))]:
        assert value is not None
        store[key] = value
    assert joined([second], store) == joined([everything])


@given(facts, facts)
def test_recovery_merges_old_rows_without_losing_anything(first: list[Any], second: list[Any]) -> None:
    everything = normal_facts(first + second)
    first, second = everything[: len(first)], everything[len(first) :]
    old = joined([first])
    new = joined([second], dict(old))
    for key, value in old.items():
        assert state.merge(key, new[key], value) == new[key]
        assert state.merge(key, value, new[key]) == new[key]


@given(inquiries, inquiries, inquiries)
def test_merging_inquiries_is_commutative_associative_and_idempotent(
    first: InquiryReplies, second: InquiryReplies, third: InquiryReplies
) -> None:
    left, middle, right = (
        state.normal(msgspec.structs.replace(inquiry, company_id="c", inquiry_id="i"))
        for inquiry in normal_facts([first, second, third])
    )
    if len({(inquiry.received_at, inquiry.facts_id) for inquiry in (left, middle, right)}) < 3:
        return
    assert state.merge_inquiries(left, middle) == state.merge_inquiries(middle, left)
    assert state.merge_inquiries(left, left) == left
    left = state.merge_inquiries(state.merge_inquiries(left, middle), right)
    assert left == state.merge_inquiries(left, state.merge_inquiries(middle, right))


@given(facts, instants)
@settings(max_examples=100)
def test_after_an_erase_the_company_is_as_if_only_later_facts_had_been(drawn: list[Any], at: datetime) -> None:
    drawn = [fact for fact in normal_facts(drawn) if not isinstance(fact, MessageSent)]
    erase = CompanyErased(company_id="c1", at=at)
    erasing: list[Any] = [erase]
    after = states(joined([list(drawn), erasing, list(drawn)]))
    before = states(joined([erasing, list(drawn)]))
    # Facts of one inquiry that were merged before the erase are erased together with the earliest of them.
    single = {
        key
        for key in before
        if sum(isinstance(fact, InquiryReplies) and (fact.company_id, fact.inquiry_id) == key for fact in drawn) < 2
    }
    assert {key: after.get(key) for key in single} == {key: before[key] for key in single}


@pytest.mark.parametrize("apart", [True, False], ids=["one after another", "in one batch"])
def test_an_erase_leaves_of_its_own_day_only_what_came_later(apart: bool) -> None:
    def asked(name: str, at: datetime) -> InquiryReplies:
        return an_inquiry(inquiry_id=name, received_at=at, message_ids=(HASHES[0],))

    def sent(number: int, at: datetime) -> MessageSent:
        return a_sent_message(message_id=hash_of(number), sent_at=at, in_reply_to=(HASHES[0],))

    noon = T0 + timedelta(hours=12)
    before: list[Any] = [asked("early", T0 + timedelta(hours=1)), sent(1, T0 + timedelta(hours=2))]
    after: list[Any] = [asked("late", noon + timedelta(hours=1)), sent(2, noon + timedelta(hours=2))]
    erase: list[Any] = [an_erase(at=noon)]

    def state_after(*groups: list[Any]) -> dict[bytes, bytes]:
        return joined(list(groups) if apart else [[fact for group in groups for fact in group]])

    assert set(state_after(before, erase)) == {state.erasure_key(COMPANY)}
    assert state_after(before, after, erase) == state_after(erase, after) == state_after(before, erase, after, before)


@pytest.mark.parametrize("seconds", [300, 301])
def test_a_reply_may_be_300_seconds_early_and_no_more(seconds: int) -> None:
    inquiry = an_inquiry(message_ids=(HASHES[0],))
    message = a_sent_message(sent_at=T0 - timedelta(seconds=seconds), in_reply_to=(HASHES[0],))
    orders: list[list[list[Any]]] = [[[inquiry], [message]], [[message], [inquiry]]]
    for batches in orders:
        assert len(states(joined(batches))[COMPANY, INQUIRY].replies) == (1 if seconds == 300 else 0)


def own_hash(number: int) -> str:
    """A hash that no other fact of the test carries."""
    return hash_of(1_000 + number)


def shuffled_batches(everything: list[Any], chance: random.Random) -> list[list[Any]]:
    facts = chance.sample(everything, len(everything))
    return [facts[start : start + 50] for start in range(0, len(facts), 50)]


@pytest.mark.parametrize("seed", range(4))
def test_an_address_in_every_mail_takes_no_answer_from_400_buyers(seed: int) -> None:
    crm = HASHES[0]
    everything: list[Any] = []
    for number in range(400):
        asked = an_inquiry(inquiry_id=f"i{number}", buyer=HashedBuyer(id="b", addresses=(own_hash(number),)))
        at = T0 + timedelta(minutes=number)
        everything += [
            asked,
            a_sent_message(message_id=hash_of(number), sent_at=at, recipients=(own_hash(number), crm)),
        ]
    store = joined(shuffled_batches(everything, random.Random(seed)))
    answered = [inquiry for inquiry in states(store).values() if len(inquiry.replies) == 1]
    assert len(answered) == 400
    day = state.unpack(b"d", store[state.join_day(COMPANY, crm, state.day_of(T0))])
    assert isinstance(day, state.JoinDayEntry)
    earliest = [hash_of(number) for number in range(state.JOIN_DAY_MESSAGES)]
    assert [message.message_id for message in day.messages] == earliest, "in whichever order they came"


@pytest.mark.parametrize("seed", range(4))
def test_300_inquiries_that_share_an_address_are_all_known_and_joined_by_their_own_ids(seed: int) -> None:
    shared = HASHES[0]
    everything: list[Any] = []
    for number in range(300):
        buyer = HashedBuyer(id="b", addresses=(shared,))
        everything += [
            an_inquiry(inquiry_id=f"i{number:03}", buyer=buyer, message_ids=(own_hash(number),)),
            a_sent_message(message_id=hash_of(number), in_reply_to=(own_hash(number),)),
        ]
    store = joined(shuffled_batches(everything, random.Random(seed)))
    replies = {key[1]: [reply.reply_id for reply in inquiry.replies] for key, inquiry in states(store).items()}
    assert replies == {f"i{number:03}": [hash_of(number)] for number in range(300)}
    key = state.unpack(b"k", store[state.join_key(COMPANY, shared)])
    assert isinstance(key, state.JoinKeyEntry)
    assert sorted(key.inquiries) == [f"i{number:03}" for number in range(state.JOIN_KEY_INQUIRIES)]


def test_what_an_overfull_address_no_longer_finds_is_counted() -> None:
    day = [a_sent_message(message_id=hash_of(number), recipients=(HASHES[0],)) for number in range(258)]
    asked = [
        an_inquiry(inquiry_id=f"i{number:03}", buyer=HashedBuyer(id="b", addresses=(HASHES[1],)))
        for number in range(259)
    ]
    applied = join.apply(lambda _: None, lambda _: (), [*day, *asked])
    assert applied.refused == []
    assert applied.cut == {"join-day": 2, "join-key": 3}


@given(facts, st.randoms(use_true_random=False))
def test_overfull_addresses_take_nothing_from_what_others_join(drawn: list[Any], chance: random.Random) -> None:
    """With tiny bounds: the index is the same in any order, and only matches by an overfull hash may be missing."""
    drawn = normal_facts(drawn)
    with pytest.MonkeyPatch.context() as patch:
        for bound in ("JOIN_DAY_MESSAGES", "JOIN_KEY_INQUIRIES"):
            patch.setattr(state, bound, 1)
        patch.setattr(state, "MAIL_REPLIES", 1_000)
        stores = [joined(shuffled_batches(drawn + drawn, chance)) for _ in range(2)]
        everything = reference(drawn)
        indexes = [{key: value for key, value in store.items() if key[:1] in b"kd"} for store in stores]
        assert indexes[0] == indexes[1]
        for key, value in indexes[0].items():
            assert state.merge(key, value, value) == value == state.merge(key, value, indexes[1][key])
        for store in stores:
            bounded = states(store)
            assert bounded.keys() == everything.keys()
            for name, inquiry in bounded.items():
                complete = everything[name]
                assert set(inquiry.replies) <= set(complete.replies)
                for reply in set(complete.replies) - set(inquiry.replies):
                    assert only_by_overfull_hashes(drawn, complete, reply)


def only_by_overfull_hashes(drawn: list[Any], inquiry: InquiryReplies, reply: ReplyFact) -> bool:
    """Whether each hash by which the message is this reply is one of several inquiries or of several messages of its day."""
    own = [fact for fact in drawn if fact.company_id == inquiry.company_id]
    waiting: dict[str, set[str]] = {}
    carried: dict[tuple[str, int], set[state.MessageEntry]] = {}
    for fact in own:
        if isinstance(fact, InquiryReplies):
            for hashed_value in matching.hashes_of(fact):
                waiting.setdefault(hashed_value, set()).add(fact.inquiry_id)
        elif isinstance(fact, MessageSent):
            for hashed_value, role in matching.roles_of(fact).items():
                day = carried.setdefault((hashed_value, state.day_of(fact.sent_at)), set())
                day.add(matching.entry_of(fact, role))
    joining = [
        (hashed_value, messages)
        for (hashed_value, _), messages in carried.items()
        if any(reply in matching.matches(inquiry, hashed_value, message) for message in messages)
    ]
    return bool(joining) and all(len(waiting[value]) > 1 or len(messages) > 1 for value, messages in joining)


@given(st.lists(st.sampled_from([f"i{number}" for number in range(6)]), max_size=9), st.data())
def test_full_entries_merge_in_any_order(names: list[str], data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "JOIN_KEY_INQUIRIES", 2)
        keys = [state.JoinKeyEntry({name: data.draw(st.integers(1, 3))}, []) for name in names]
        left, right = state.JoinKeyEntry(), state.JoinKeyEntry()
        for key in keys:
            left = state.merge_keys(left, key)
        for key in reversed(keys):
            right = state.merge_keys(key, right)
        assert state.pack(left) == state.pack(right) == state.pack(state.merge_keys(left, right))


def test_facts_before_the_horizon_are_late_and_entries_are_swept() -> None:
    inquiry = an_inquiry(message_ids=(HASHES[0],))
    applied = join.apply(lambda _: None, lambda _: (), [inquiry], earliest=T0 + timedelta(seconds=1))
    assert [error.reason for _, error in applied.refused] == ["late"]
    store = joined([[inquiry]])
    assert all(join.sweep(key, value, T0 - timedelta(days=1)) == value for key, value in store.items())
    assert all(join.sweep(key, value, T0 + timedelta(days=2)) is None for key, value in store.items())
