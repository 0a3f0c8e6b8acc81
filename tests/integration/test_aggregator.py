"""The aggregator as a process with real Kafka and Postgres: every state takes effect exactly once, whatever happens."""

import base64
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from services.aggregator.ingest.ledger import Ledger
from services.aggregator.ingest.sink import MAX_CONSECUTIVE_REJECTS
from services.aggregator.judge import watermark
from services.common import codec
from services.common.errors import UnsureError
from services.common.events import (
    DEAD_LETTER,
    CompanyErased,
    DeadLetter,
    HashedBuyer,
    InquiryReplies,
    MatchedBy,
    ReplyFact,
    StatusFact,
)
from services.common.kafka import Admin, Publisher
from services.common.postgres import connect
from services.common.settings import KafkaSettings
from services.common.topics import DEAD, REPLAYED, REPLIES, STATE_BYTES, partition_of, reply_key
from services.common.trace_context import TRACEPARENT
from services.matcher import state
from services.standalone.servers.environment import service_environ
from tests.support.processes import Process, until
from tests.support.topics import (
    CODECS,
    PARTITIONS,
    create_topics,
    kafka_settings,
    publish,
    publish_compressed,
    read_all,
    set_config,
)

pytestmark = pytest.mark.pooled

NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass
class Lab:
    dsn: str
    kafka: KafkaSettings
    environ: dict[str, str]
    folder: Path

    def aggregator(self, name: str = "aggregator", **environ: str) -> Process:
        return Process("services.aggregator", {**self.environ, **environ}, self.folder / f"{name}.log")

    def count(self, statement: str) -> int:
        with connect(self.dsn, "tests") as connection:
            count = connection.execute(statement.encode()).fetchone()
        assert count is not None
        return int(count[0])

    def merged(self) -> bool:
        """Whether the ledger has merged the whole topic."""
        ends: dict[int, int] = {}
        for record in read_all(self.kafka, REPLIES):
            ends[record.partition] = record.offset + 1
        with connect(self.dsn, "tests") as connection:
            _, merged = watermark.merged_offsets(connection, REPLIES)
        return all(merged.get(partition, 0) >= end for partition, end in ends.items())

    def judged(self) -> bool:
        """Whether no company waits for a refresh."""
        return self.merged() and self.count("SELECT count(*) FROM ledger.dirty") == 0

    def held(self) -> dict[tuple[str, str], InquiryReplies]:
        return held(self.dsn)


def held(dsn: str) -> dict[tuple[str, str], InquiryReplies]:
    """The content of the ledger as states."""
    states: dict[tuple[str, str], InquiryReplies] = {}
    with connect(dsn, "tests") as connection:
        for facts in connection.execute(
            "SELECT company_id, inquiry_id, account_id, received_at, facts_id, buyer_id, thread_id, channel, buyer_addresses,"
            " message_ids, reply_addresses FROM ledger.inquiries"
        ):
            company, inquiry, account, received, facts_id, buyer, thread, channel, addresses, ids, relays = facts
            states[company, inquiry] = InquiryReplies(
                company_id=company, inquiry_id=inquiry, account_id=account, received_at=received, facts_id=facts_id,
                buyer=HashedBuyer(id=buyer, addresses=tuple(addresses)), thread_id=thread, channel=channel,
                message_ids=tuple(ids), reply_addresses=tuple(relays),
            )  # fmt: skip
        statuses: dict[tuple[str, str], list[StatusFact]] = {}
        for company, inquiry, status, at, account in connection.execute("SELECT * FROM ledger.statuses"):
            statuses.setdefault((company, inquiry), []).append(
                StatusFact(status=status, at=at, account_id=account or None)
            )
        replies: dict[tuple[str, str], list[ReplyFact]] = {}
        for company, inquiry, reply, source, account, mailbox, at, evidence, kind, reason, by in connection.execute(
            "SELECT * FROM ledger.replies"
        ):
            replies.setdefault((company, inquiry), []).append(
                ReplyFact(reply_id=reply, source=source, account_id=account, mailbox_id=mailbox or None, replied_at=at,
                          evidence=evidence or None, kind=kind, kind_reason=reason or None, matched_by=by)
            )  # fmt: skip
    for key in {*states, *statuses, *replies}:
        base = states.get(key, InquiryReplies(company_id=key[0], inquiry_id=key[1]))
        states[key] = state.normal(
            InquiryReplies(
                company_id=base.company_id, inquiry_id=base.inquiry_id, account_id=base.account_id, received_at=base.received_at,
                buyer=base.buyer, message_ids=base.message_ids, reply_addresses=base.reply_addresses, thread_id=base.thread_id,
                channel=base.channel, facts_id=base.facts_id, statuses=tuple(statuses.get(key, ())), replies=tuple(replies.get(key, ())),
            )
        )  # fmt: skip
    return states


@pytest.fixture
def lab(dsn: str, topics_gone: str, tmp_path: Path) -> Lab:
    kafka = kafka_settings(topics_gone)
    create_topics(kafka)
    (tmp_path / "hash.key").write_bytes(bytes(32))
    environ = service_environ(
        tmp_path,
        kafka=kafka.bootstrap_servers,
        partitions=PARTITIONS,
        dsn=dsn,
        AGGREGATOR__REFRESH_INTERVAL_SECONDS="0.2",
        AGGREGATOR__SESSION_TIMEOUT_SECONDS="6",
    )
    return Lab(dsn, kafka, environ, tmp_path)


def a_state(chance: random.Random, company: str, number: int) -> InquiryReplies:
    """One of many partial states of an inquiry: different facts, replies and statuses from a small pool."""
    received = NOW - timedelta(days=number % 20 + 1, seconds=chance.choice([0, 0, 60]))
    ways: tuple[MatchedBy, ...] = ("in-reply-to", "buyer-address")
    replies = tuple(
        ReplyFact(
            reply_id=f"{chance.randint(0, 12):032x}", source="mail", account_id="a", mailbox_id="m", evidence="verified",
            replied_at=received + timedelta(minutes=chance.randint(-10, 20)), kind=chance.choice(["human", "automatic"]),
            matched_by=chance.choice(ways),
        )
        for _ in range(chance.randint(0, 6))
    )  # fmt: skip
    statuses = tuple(
        StatusFact(status="spam", at=received + timedelta(seconds=chance.randint(0, 60)))
        for _ in range(chance.choice([0, 0, 1, 20]))
    )
    is_known = chance.random() < 0.8
    facts = InquiryReplies(
        company_id=company, inquiry_id=f"i{number}", account_id="a", received_at=received, facts_id=f"{chance.randint(0, 3):032x}",
        buyer=HashedBuyer(id=f"b{number}", addresses=(f"{chance.randint(0, 99):032x}",)), channel="inquiry",
    )  # fmt: skip
    bare = InquiryReplies(company_id=company, inquiry_id=f"i{number}")
    base = facts if is_known else bare
    return state.normal(
        InquiryReplies(
            company_id=base.company_id, inquiry_id=base.inquiry_id, account_id=base.account_id, received_at=base.received_at,
            facts_id=base.facts_id, buyer=base.buyer, channel=base.channel, replies=replies if is_known else (), statuses=statuses,
        )
    )  # fmt: skip


def some_states(seed: int, count: int = 300) -> list[InquiryReplies]:
    chance = random.Random(seed)
    return [a_state(chance, f"c{chance.randint(0, 2)}", chance.randint(0, 30)) for _ in range(count)]


def union(states: list[InquiryReplies]) -> dict[tuple[str, str], InquiryReplies]:
    merged: dict[tuple[str, str], InquiryReplies] = {}
    for snapshot in states:
        key = (snapshot.company_id, snapshot.inquiry_id)
        merged[key] = state.merge_inquiries(merged[key], snapshot) if key in merged else snapshot
    return {key: value for key, value in merged.items() if value.received_at or value.statuses or value.replies}


def record(event: InquiryReplies | CompanyErased) -> tuple[bytes, bytes]:
    if isinstance(event, CompanyErased):
        return reply_key(event.company_id, ""), codec.encode(event, id="e", source="tests", time=event.at)
    time = state.latest_instant(event) or NOW
    return reply_key(event.company_id, event.inquiry_id), codec.encode(event, id="s", source="tests", time=time)


def send(lab: Lab, events: list[InquiryReplies]) -> None:
    """Publish as the matcher does: a company's records to its own partition."""
    by_partition: dict[int, list[tuple[bytes, bytes | None]]] = {}
    for event in events:
        by_partition.setdefault(partition_of(event.company_id.encode(), PARTITIONS), []).append(record(event))
    for partition, records in by_partition.items():
        publish(lab.kafka, REPLIES, records, partition=partition)


@pytest.mark.parametrize("seed", range(6))
def test_the_ledger_is_the_union_of_all_states_in_any_order_and_batches(postgres: Callable[[], str], seed: int) -> None:
    states = some_states(seed)
    chance = random.Random(seed)
    dsn = postgres()
    with connect(dsn, "tests") as connection:
        ledger = Ledger(connection, REPLIES)
        (owned,) = ledger.take([0])
        order = chance.sample(states, len(states)) + chance.sample(states, 50)
        at = 0
        while at < len(order):
            size = chance.choice([1, 5, 80])
            ledger.merge(owned, at + size, order[at : at + size])
            at += size
    assert held(dsn) == union(states)


def test_the_facts_of_an_inquiry_that_come_again_are_not_written(postgres: Callable[[], str]) -> None:
    """As with each reply: the matcher repeats them."""
    states = list(union(some_states(2)).values())
    versions = "SELECT company_id, inquiry_id, xmin::text, ctid::text FROM ledger.inquiries ORDER BY 1, 2"
    dsn = postgres()
    with connect(dsn, "tests") as connection:
        ledger = Ledger(connection, REPLIES)
        (owned,) = ledger.take([0])
        ledger.merge(owned, 1, states)
        written = connection.execute(versions).fetchall()
        ledger.merge(owned, 2, states)
        assert connection.execute(versions).fetchall() == written
    assert len(written) > 20 and held(dsn) == union(states)


def test_a_fenced_process_writes_nothing(postgres: Callable[[], str]) -> None:
    states = some_states(1, 4)
    dsn = postgres()
    with connect(dsn, "tests") as old_connection, connect(dsn, "tests") as new_connection:
        old, new = Ledger(old_connection, REPLIES), Ledger(new_connection, REPLIES)
        (first,) = old.take([0])
        old.merge(first, 2, states[:2])
        (second,) = new.take([0])
        assert second.next_offset == 2
        with pytest.raises(UnsureError):
            old.merge(first, 4, states[2:])
        assert held(dsn) == union(states[:2])
        new.merge(second, 4, states[2:])
    assert held(dsn) == union(states)


def test_states_become_rates(lab: Lab) -> None:
    states = some_states(10)
    send(lab, states)
    with lab.aggregator() as aggregator:
        until(lab.judged, 40, "merged and judged", (aggregator,))
        assert aggregator.terminate() == 0
    assert lab.held() == union(states)
    received = sum(state.received_at is not None for state in union(states).values())
    assert lab.count("SELECT count(*) FROM report_v1.inquiry_outcomes WHERE rule_set = 'default'") == received
    assert lab.count("SELECT count(*) FROM report_v1.reply_rate_latest WHERE level = 'company'") == 6


def test_states_are_read_with_every_codec_that_a_producer_may_use(lab: Lab) -> None:
    """A topic with `compression.type` stores with that codec what the matcher sends uncompressed."""
    states = some_states(14, 40)
    for number, event in enumerate(states):
        key, value = record(event)
        home = partition_of(event.company_id.encode(), PARTITIONS)
        publish_compressed(lab.kafka, REPLIES, key, value, compression=CODECS[number % 4], partition=home)
    with lab.aggregator() as aggregator:
        until(lab.judged, 40, "merged and judged", (aggregator,))
        assert aggregator.terminate() == 0
    assert lab.held() == union(states)
    assert read_all(lab.kafka, DEAD) == []


def test_a_kill_during_work_changes_nothing(lab: Lab) -> None:
    states = some_states(11, 1500)
    send(lab, states[:500])
    with lab.aggregator("first") as aggregator:
        until(lambda: lab.count("SELECT count(*) FROM ledger.inquiries") > 0, 40, "work has begun", (aggregator,))
        send(lab, states[500:])
        aggregator.kill()
    with lab.aggregator("second") as aggregator:
        until(lab.judged, 60, "merged and judged", (aggregator,))
        assert aggregator.terminate() == 0
    assert lab.held() == union(states)


def test_an_invalid_record_becomes_a_dead_letter_and_the_next_record_counts(lab: Lab) -> None:
    states = some_states(12, 40)
    partition = partition_of(b"c0", PARTITIONS)
    for position in (0, 20, 40):
        send(lab, states[max(0, position - 20) : position])
        publish(
            lab.kafka,
            REPLIES,
            [(b"poison", b"{"), (b"poison", b'{"specversion":"1.0"}'), (b"gone", None)],
            partition=partition,
        )
    with lab.aggregator() as aggregator:
        until(lab.judged, 40, "merged and judged", (aggregator,))
        assert aggregator.terminate() == 0
    assert lab.held() == union(states)
    letters = [
        codec.decode(record.value or b"", accept=frozenset({"replyrate.dead-letter.v1"})).data
        for record in read_all(lab.kafka, DEAD)
    ]
    assert sorted(letter.reason for letter in letters) == ["not-json"] * 3 + ["schema"] * 3  # type: ignore[union-attr]


def test_a_host_whose_clock_is_days_behind_ends_and_rejects_no_good_record(lab: Lab) -> None:
    states = [
        InquiryReplies(
            company_id="c0", inquiry_id=f"i{number}", account_id="a", received_at=NOW, buyer=HashedBuyer(id="b"),
            channel="inquiry", facts_id=f"{1:032x}",
        )
        for number in range(20)
    ]  # fmt: skip
    send(lab, states)
    with Process("tests.faults.late_aggregator", lab.environ, lab.folder / "late.log") as aggregator:
        assert aggregator.wait(60) == 78
        assert "correct the clock (NTP)" in aggregator.log.read_text("utf-8")
    with lab.aggregator() as aggregator:
        until(lab.judged, 60, "merged and judged", (aggregator,))
        assert aggregator.terminate() == 0
    assert lab.held() == union(states)
    assert read_all(lab.kafka, DEAD) == []


def test_a_wrong_topic_stops_it_after_what_was_read_is_stored(lab: Lab) -> None:
    count, partition = MAX_CONSECUTIVE_REJECTS + 500, partition_of(b"c0", PARTITIONS)
    publish(lab.kafka, REPLIES, [(b"junk%d" % number, b"{") for number in range(count)], partition=partition)
    states = some_states(15, 20)
    with lab.aggregator("first") as aggregator:
        assert aggregator.wait(90) == 70
        (stopped,) = [line for line in aggregator.lines() if line.get("action") == "state-unsure"]
    assert "is inquiry-replies.v1 the right topic?" in stopped["text"]
    send(lab, states)
    with lab.aggregator("second") as aggregator:
        until(lab.judged, 90, "merged and judged", (aggregator,))
        assert aggregator.terminate() == 0
    assert lab.held() == union(states)
    assert len(read_all(lab.kafka, DEAD)) == count, "no letter was written again"


def test_a_record_that_the_ledger_cannot_store_becomes_a_dead_letter_and_the_others_count(lab: Lab) -> None:
    with connect(lab.dsn, "tests") as connection:
        connection.execute("ALTER TABLE ledger.inquiries ADD CHECK (inquiry_id <> 'i7')")
    states = [a_state(random.Random(14), "c0", number) for number in range(20)]
    send(lab, states)
    no_date = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    facts = InquiryReplies(
        company_id="c0", inquiry_id="no-date", account_id="a", received_at=no_date, buyer=HashedBuyer(id="b"), channel="inquiry",
        facts_id=f"{1:032x}",
    )  # fmt: skip
    send(lab, [facts, replace(facts, inquiry_id="no-buyer", received_at=NOW, buyer=None)])
    with lab.aggregator() as aggregator:
        until(lab.judged, 40, "merged and judged", (aggregator,))
        assert aggregator.terminate() == 0
    assert states[7].received_at is not None
    assert lab.held() == union([snapshot for snapshot in states if snapshot.inquiry_id != "i7"])
    letters = [
        codec.decode(letter.value or b"", accept=frozenset({DEAD_LETTER})).data for letter in read_all(lab.kafka, DEAD)
    ]
    reasons = [(letter.reason, "23514" in letter.detail) for letter in letters if isinstance(letter, DeadLetter)]
    assert sorted(reasons) == [("limit", False), ("schema", False), ("schema", True)]


def test_a_dead_letter_contains_the_largest_allowed_record_but_not_a_larger_one(lab: Lab) -> None:
    states = some_states(13, 10)
    partition = partition_of(b"c0", PARTITIONS)
    junk, more = b"{" * 1_040_000, b"{" * 1_700_000
    publish(lab.kafka, REPLIES, [(b"c0\x1fjunk", junk)], partition=partition)
    publish_compressed(
        lab.kafka, REPLIES, b"c0\x1fmore", more, [(REPLAYED, b"1"), (TRACEPARENT, b"x" * 5000)], partition=partition
    )
    send(lab, states)
    with lab.aggregator() as aggregator:
        until(lab.judged, 40, "merged and judged", (aggregator,))
        assert aggregator.terminate() == 0
    assert lab.held() == union(states)
    letters = read_all(lab.kafka, DEAD)
    whole, bare = (codec.decode(letter.value or b"", accept=frozenset({DEAD_LETTER})).data for letter in letters)
    assert isinstance(whole, DeadLetter) and isinstance(bare, DeadLetter)
    assert (whole.topic, whole.partition, whole.offset, whole.reason) == (REPLIES, partition, 0, "not-json")
    assert whole.value is not None and base64.b64decode(whole.value) == junk
    assert (bare.topic, bare.partition, bare.offset, bare.value) == (REPLIES, partition, 1, None)
    assert "the record of 1700000 bytes is too large for a letter" in bare.detail
    assert letters[1].headers == ((REPLAYED, b"1"),), "what is no traceparent is not handed on"


def test_a_dead_letter_that_its_topic_refuses_is_not_lost(lab: Lab) -> None:
    partition = partition_of(b"c0", PARTITIONS)
    publish(lab.kafka, REPLIES, [(b"c0\x1fjunk", b"{" * 1_000_000)], partition=partition)
    with lab.aggregator() as aggregator:
        until(lambda: len(read_all(lab.kafka, DEAD)) == 1, 40, "its letter", (aggregator,))
        # The limit of the topic is lowered while the service runs.
        set_config(lab.kafka.bootstrap_servers, DEAD, "max.message.bytes", "1000000")
        publish(lab.kafka, REPLIES, [(b"c0\x1fjunk", b"{" * 1_000_000)], partition=partition)
        assert aggregator.wait(40) == 78
        assert "replyrate topics check" in str(aggregator.lines())
    set_config(lab.kafka.bootstrap_servers, DEAD, "max.message.bytes", str(2 * STATE_BYTES))
    with lab.aggregator("again") as aggregator:
        until(lambda: len(read_all(lab.kafka, DEAD)) == 2, 40, "the second letter as well", (aggregator,))
        assert aggregator.terminate() == 0


def test_a_dead_letter_whose_timestamp_is_refused_waits_for_the_right_clock(lab: Lab) -> None:
    set_config(lab.kafka.bootstrap_servers, DEAD, "message.timestamp.before.max.ms", "0")
    sent = 0

    def is_reported() -> bool:
        """A letter that arrives within the broker's millisecond is accepted, so several are needed at times."""
        nonlocal sent
        publish(lab.kafka, REPLIES, [(b"c0\x1fjunk", b"{")], partition=partition_of(b"c0", PARTITIONS))
        sent += 1
        return "the clock of this host differs" in str(aggregator.lines())

    with lab.aggregator() as aggregator:
        until(is_reported, 40, "the report", (aggregator,))
        set_config(lab.kafka.bootstrap_servers, DEAD, "message.timestamp.before.max.ms", str(2**63 - 1))
        until(lambda: len(read_all(lab.kafka, DEAD)) == sent, 40, "all letters", (aggregator,))
        assert aggregator.terminate() == 0


def test_a_recreated_topic_is_read_from_its_start(lab: Lab) -> None:
    from tests.support.servers import delete_topics

    states = some_states(13, 60)
    send(lab, states[:30])
    with lab.aggregator("first") as aggregator:
        until(lab.judged, 40, "the first topic", (aggregator,))
        assert aggregator.terminate() == 0
    delete_topics(lab.kafka.bootstrap_servers)
    create_topics(lab.kafka)
    send(lab, states[30:])
    with lab.aggregator("second") as aggregator:
        until(lambda: lab.held() == union(states), 40, "the second topic", (aggregator,))
        assert aggregator.terminate() == 0


def test_an_erase_removes_everything_and_older_facts_do_not_return(lab: Lab) -> None:
    states = list(some_states(14, 120))
    send(lab, states)
    at = NOW + timedelta(hours=1)
    publish(
        lab.kafka, REPLIES, [record(CompanyErased(company_id="c1", at=at))], partition=partition_of(b"c1", PARTITIONS)
    )
    send(lab, states)
    with lab.aggregator() as aggregator:
        until(lab.judged, 40, "merged and judged", (aggregator,))
        assert aggregator.terminate() == 0
    assert lab.held() == {key: value for key, value in union(states).items() if key[0] != "c1"}
    for view in ("reply_rate", "inquiry_outcomes"):
        assert lab.count(f"SELECT count(*) FROM report_v1.{view} WHERE company_id = 'c1'") == 0


def test_two_aggregators_share_the_work(lab: Lab) -> None:
    states = some_states(15, 400)
    with lab.aggregator("first") as first, lab.aggregator("second") as second:
        for part in range(4):
            send(lab, states[part * 100 : part * 100 + 100])
            time.sleep(0.5)
        until(lab.judged, 60, "merged and judged", (first, second))
        assert second.terminate() == 0
        assert first.terminate() == 0
    assert lab.held() == union(states)


def test_it_stops_in_time_while_postgres_is_away(lab: Lab) -> None:
    with lab.aggregator(REPLYRATE_POSTGRES__DSN="postgresql://127.0.0.1:9/none") as aggregator:
        until(
            lambda: any(line.get("action") == "dependency-away" for line in aggregator.lines()),
            30,
            "the log reports that Postgres is away",
            (aggregator,),
        )
        assert aggregator.terminate() == 0


def test_admin_returns_the_id_of_an_existing_topic(lab: Lab) -> None:
    with Admin(lab.kafka, "tests") as admin:
        assert admin.topic_id(REPLIES) is not None
        assert admin.topic_id("nothing.v1") is None


def test_a_sampled_trace_can_be_found_by_its_id(lab: Lab) -> None:
    (state,) = some_states(3, 1)
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with Publisher(lab.kafka, "tests") as publisher, lab.aggregator() as aggregator:
        assert publisher.wait([publisher.send(REPLIES, *record(state), headers=[("traceparent", trace)])]) == []
        until(lab.judged, 60, "merged and judged", (aggregator,))
        assert aggregator.terminate() == 0
        traced = [line for line in aggregator.lines() if line.get("action") == "record-traced"]
    assert [line["trace_id"] for line in traced] == ["0af7651916cd43dd8448eb211c80319c"]
    assert traced[0]["position"].startswith(f"{REPLIES}/")
