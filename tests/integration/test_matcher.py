"""The matcher as a process on a real Kafka: it publishes what the pure join computes, whatever happens to it."""

import os
import random
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

from services.common import codec
from services.common.events import (
    DEAD_LETTER,
    Buyer,
    CompanyErased,
    DeadLetter,
    Event,
    InquiryReplies,
)
from services.common.kafka import Publisher
from services.common.kafka.unpacking import BATCH_BYTES
from services.common.settings import KafkaSettings
from services.common.topics import (
    DEAD,
    INQUIRIES,
    REPLAYED,
    REPLIES,
    SENT,
    changelog_name,
    partial_key,
    partition_of,
    reply_key,
)
from services.matcher.decode import REJECTED_IN_A_ROW
from services.standalone.servers.child import free_port
from services.standalone.servers.environment import service_environ
from services.standalone.servers.kafka import EmbeddedKafka
from tests.poison.raw_records import RawRecord, batch, produce
from tests.support.builders import a_received_inquiry, a_sent_message, a_status, an_erase
from tests.support.matching import GROUP, HASHER, KEY, NOW, a_world, drained, expected, record, send
from tests.support.processes import Process, get, until
from tests.support.topics import (
    CODECS,
    PARTITIONS,
    RawName,
    committed,
    create_topics,
    kafka_settings,
    latest,
    publish,
    publish_compressed,
    read_all,
    set_config,
)

ACCEPT = frozenset({"replyrate.inquiry-replies.v1", "replyrate.company-erased.v1"})

NOT_LEADER = 6
"""The code of Kafka's error NOT_LEADER_OR_FOLLOWER."""


@pytest.fixture
def settings(topics_gone: str) -> KafkaSettings:
    broker = kafka_settings(topics_gone)
    create_topics(broker)
    return broker


@pytest.fixture
def environ(settings: KafkaSettings, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "hash.key").write_bytes(KEY)
    return service_environ(
        tmp_path,
        kafka=settings.bootstrap_servers,
        partitions=PARTITIONS,
        dsn="postgresql://unused",
        MATCHER__SESSION_TIMEOUT_SECONDS="6",
    )


def published(settings: KafkaSettings) -> dict[bytes, object]:
    """What the topic says by key, without the states that came before their inquiry: its own record includes them."""
    values = {
        key: None if value is None else codec.decode(value, accept=ACCEPT).data
        for key, value in latest(read_all(settings, REPLIES)).items()
    }

    def is_included(key: bytes, partial: object) -> bool:
        complete = values.get(key[:-1])
        if not isinstance(partial, InquiryReplies) or partial.received_at is not None:
            return False
        if not isinstance(complete, InquiryReplies) or complete.received_at is None:
            return False
        return {*partial.statuses, *partial.replies} <= {*complete.statuses, *complete.replies}

    return {key: value for key, value in values.items() if not is_included(key, value)}


@pytest.mark.parametrize("store", ["memory", "rocksdb"])
def test_it_publishes_the_result_of_the_join_in_the_partition_of_the_company(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path, store: str
) -> None:
    facts = a_world(1)
    send(settings, facts)
    with Process("services.matcher", {**environ, "REPLYRATE_MATCHER__STORE": store}, tmp_path / "log") as matcher:
        until(lambda: drained(settings), 60, "all input committed", (matcher,))
        assert matcher.terminate() == 0
    assert published(settings) == expected(facts)
    for state_record in read_all(settings, REPLIES):
        assert state_record.key is not None
        assert state_record.partition == partition_of(state_record.key.partition(b"\x1f")[0], PARTITIONS)


@pytest.mark.parametrize("moment", [0, 0.03, 0.1, 0.2, 0.35, 0.5, 0.8, 1.2])
def test_it_can_be_stopped_at_any_moment_of_its_start(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path, moment: float
) -> None:
    send(settings, a_world(5, 50))
    with Process("services.matcher", environ, tmp_path / "log") as matcher:
        until(lambda: "Starting" in matcher.log.read_text("utf-8"), 30, "it starts", (matcher,))
        time.sleep(moment)
        assert matcher.terminate() == 0


def test_a_kill_during_work_loses_and_duplicates_nothing(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    facts = a_world(2, 400)
    half = len(facts) // 2
    send(settings, facts[:half])
    with Process("services.matcher", environ, tmp_path / "first") as matcher:
        until(lambda: len(read_all(settings, REPLIES)) > 20, 60, "work has started", (matcher,))
        send(settings, facts[half:])
        matcher.kill()
    with Process("services.matcher", environ, tmp_path / "second") as matcher:
        until(lambda: drained(settings), 60, "all input committed", (matcher,))
        assert matcher.terminate() == 0
    assert published(settings) == expected(facts)


def test_duplicates_and_another_order_change_nothing(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    facts = a_world(3)
    again = facts + random.Random(3).sample(facts, len(facts))
    send(settings, again)
    with Process("services.matcher", environ, tmp_path / "log") as matcher:
        until(lambda: drained(settings), 60, "all input committed", (matcher,))
        send(settings, random.Random(4).sample(facts, len(facts)))
        until(lambda: drained(settings), 60, "all input committed", (matcher,))
        assert matcher.terminate() == 0
    assert published(settings) == expected(facts)


def test_a_second_worker_joins_and_leaves(settings: KafkaSettings, environ: dict[str, str], tmp_path: Path) -> None:
    facts = a_world(4, 300)
    third = len(facts) // 3
    second_environ = {**environ, "REPLYRATE_MATCHER__DATA_DIR": str(tmp_path / "other")}
    with Process("services.matcher", environ, tmp_path / "first") as first:
        send(settings, facts[:third])
        until(lambda: drained(settings), 60, "the first third", (first,))
        with Process("services.matcher", second_environ, tmp_path / "second") as second:
            until(
                lambda: any(line.get("action") == "service-started" for line in second.lines()), 60, "joined", (second,)
            )
            send(settings, facts[third : 2 * third])
            until(lambda: drained(settings), 90, "the second third", (first, second))
            assert second.terminate() == 0
        send(settings, facts[2 * third :])
        until(lambda: drained(settings), 90, "the last third", (first,))
        assert first.terminate() == 0
    assert published(settings) == expected(facts)


def test_state_is_restored_from_the_changelog_and_rebuilt_by_a_new_app_id(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    facts = a_world(5)
    mails = [fact for fact in facts if fact[0] == SENT]
    inquiries = [fact for fact in facts if fact[0] == INQUIRIES]
    send(settings, inquiries)
    with Process("services.matcher", environ, tmp_path / "first") as matcher:
        until(lambda: drained(settings), 60, "inquiries", (matcher,))
        assert matcher.terminate() == 0
    send(settings, mails)
    with Process("services.matcher", environ, tmp_path / "second") as matcher:
        until(lambda: drained(settings), 60, "mails", (matcher,))
        assert matcher.terminate() == 0
    assert published(settings) == expected(facts)
    rows = latest(read_all(settings, changelog_name()))
    create_topics(settings, "another-matcher")
    with Process(
        "services.matcher", {**environ, "REPLYRATE_MATCHER__APP_ID": "another-matcher"}, tmp_path / "third"
    ) as matcher:
        until(
            lambda: latest(read_all(settings, changelog_name("another-matcher"))) == rows,
            60,
            "the same rows",
            (matcher,),
        )
        assert matcher.terminate() == 0
    assert published(settings) == expected(facts)


def test_an_invalid_record_becomes_a_dead_letter_and_stops_nothing(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    facts = a_world(6, 10)
    early = a_received_inquiry(company_id="c0", inquiry_id="old", received_at=NOW - timedelta(days=90))
    wrong = (partition_of(b"c0", PARTITIONS) + 1) % PARTITIONS
    publish(settings, INQUIRIES, [(b"c0", b"{"), (b"c0", b'{"specversion":"1.0"}'), (b"c0", None), record(early)])
    send(settings, facts)
    stray = a_received_inquiry(company_id="c0", inquiry_id="stray", received_at=NOW)
    publish(settings, INQUIRIES, [record(stray)], partition=wrong)
    with Process("services.matcher", environ, tmp_path / "log") as matcher:
        until(lambda: drained(settings), 60, "all input committed", (matcher,))
        until(
            lambda: reply_key("c0", "stray") in published(settings),
            30,
            "the stray inquiry is in its partition",
            (matcher,),
        )
        assert matcher.terminate() == 0
    letters = [
        codec.decode(letter_record.value or b"", accept=frozenset({"replyrate.dead-letter.v1"})).data
        for letter_record in read_all(settings, DEAD)
    ]
    assert sorted(letter.reason for letter in letters) == ["late", "not-json", "not-json", "schema"]  # type: ignore[union-attr]
    assert all(letter.value is None for letter in letters)  # type: ignore[union-attr]
    assert expected(facts).items() <= published(settings).items()


def test_a_header_name_that_is_not_utf_8_costs_only_its_record(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    home, facts = partition_of(b"c0", PARTITIONS), a_world(6, 10)
    asked = record(a_received_inquiry(company_id="c0", inquiry_id="bad", received_at=NOW))[1]
    for topic in (INQUIRIES, SENT):
        publish_compressed(settings, topic, b"c0", asked, [(RawName(b"\xff\xfe"), b"v")], partition=home)
    send(settings, facts)
    with Process("services.matcher", environ, tmp_path / "log") as matcher:
        until(lambda: drained(settings), 60, "all input committed", (matcher,))
        assert matcher.terminate() == 0
    assert published(settings) == expected(facts)
    assert len(read_all(settings, DEAD)) == 2


def test_a_wrong_topic_stops_it_after_what_was_read_is_acknowledged(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    count = REJECTED_IN_A_ROW + 500
    publish(settings, INQUIRIES, [(b"c0", b"{")] * count)
    facts = a_world(6, 10)
    with Process("services.matcher", environ, tmp_path / "first") as matcher:
        assert matcher.wait(90) == 70
        (stopped,) = [line for line in matcher.lines() if line.get("action") == "state-unsure"]
    assert "dlq list" in stopped["text"] and "a restart continues behind them" in stopped["text"]
    send(settings, facts)
    with Process("services.matcher", environ, tmp_path / "second") as matcher:
        until(lambda: drained(settings), 60, "all input committed", (matcher,))
        assert matcher.terminate() == 0
    assert published(settings) == expected(facts)
    assert len(read_all(settings, DEAD)) == count, "no letter was written again"


def test_a_refused_timestamp_is_reported_as_the_clock_of_this_host_and_loses_nothing(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    """A record whose age passes the limit of the topic is, to the broker, one from a host whose clock is behind."""
    facts = a_world(16, 40)
    unsent = list(facts)
    set_config(settings.bootstrap_servers, REPLIES, "message.timestamp.before.max.ms", "0")

    def is_reported() -> bool:
        """A record that arrives within the broker's millisecond is accepted, so several are needed at times."""
        send(settings, unsent[:2])
        del unsent[:2]
        return "the clock of this host differs" in matcher.log.read_text("utf-8")

    with Process("services.matcher", environ, tmp_path / "log") as matcher:
        until(is_reported, 60, "the report", (matcher,))
        send(settings, unsent)
        set_config(settings.bootstrap_servers, REPLIES, "message.timestamp.before.max.ms", str(2**63 - 1))
        until(lambda: drained(settings), 60, "all input committed", (matcher,))
        assert matcher.terminate() == 0
    assert published(settings) == expected(facts)


def test_records_are_read_with_every_codec_that_a_producer_may_use(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    facts = a_world(14, 24)
    for number, (topic, event) in enumerate(facts):
        key, value = record(event)
        codec_name = (*CODECS, None)[number % 5]
        if codec_name is None:
            publish(settings, topic, [(key, value)], partition=partition_of(key, PARTITIONS))
        else:
            publish_compressed(
                settings, topic, key, value, compression=codec_name, partition=partition_of(key, PARTITIONS)
            )
    with Process("services.matcher", environ, tmp_path / "log") as matcher:
        until(lambda: drained(settings), 60, "all input committed", (matcher,))
        assert matcher.terminate() == 0
    assert published(settings) == expected(facts)
    assert read_all(settings, DEAD) == []


# The other codecs pack too little to pass the limit of the topic.
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_batch_that_unpacks_to_very_much_is_one_dead_letter_and_takes_no_memory(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path, compression: str
) -> None:
    home = partition_of(b"c0", PARTITIONS)
    blanks = b" " * 50_000_000
    for _ in range(12):
        publish_compressed(settings, INQUIRIES, b"c0", blanks, compression=compression, partition=home)
    facts = a_world(15, 10)
    send(settings, facts)
    with Process("services.matcher", environ, tmp_path / "log") as matcher:
        until(lambda: drained(settings), 90, "all input committed", (matcher,))
        status = Path(f"/proc/{matcher.pid}/status").read_text("utf-8")
        assert int(status.partition("VmHWM:")[2].split()[0]) < 400_000, "kB"
        assert matcher.terminate() == 0
    assert expected(facts).items() <= published(settings).items()
    letters = [
        codec.decode(letter.value or b"", accept=frozenset({DEAD_LETTER})).data for letter in read_all(settings, DEAD)
    ]
    assert [letter.reason for letter in letters] == ["limit"] * 12  # type: ignore[union-attr]
    assert all("unpacks to more than 16 MiB" in letter.detail for letter in letters)  # type: ignore[union-attr]
    assert {letter.offset for letter in letters} == set(range(12))  # type: ignore[union-attr]


def test_many_batches_just_under_the_limit_take_little_memory(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    """In every partition of both topics; unpacked they are 750 MB."""
    blanks = batch([RawRecord(b"c0", b" " * (BATCH_BYTES - 1000), (), int(time.time() * 1000))], "gzip")
    for topic in (INQUIRIES, SENT):
        for partition in range(PARTITIONS):
            for _ in range(6):
                assert produce(settings.bootstrap_servers, topic, partition, blanks)[0] == 0
    facts = a_world(15, 10)
    send(settings, facts)
    with Process("services.matcher", environ, tmp_path / "log") as matcher:
        until(lambda: drained(settings), 120, "all input committed", (matcher,))
        status = Path(f"/proc/{matcher.pid}/status").read_text("utf-8")
        assert int(status.partition("VmHWM:")[2].split()[0]) < 400_000, "kB"
        assert matcher.terminate() == 0
    assert expected(facts).items() <= published(settings).items()
    assert len(read_all(settings, DEAD)) == 6 * PARTITIONS * 2


def test_compressed_records_stop_nothing_however_large_they_are(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    """The limits of the topics apply to compressed batches, and the matcher sends uncompressed ones."""
    home = partition_of(b"c0", PARTITIONS)
    stray = a_received_inquiry(company_id="c0", inquiry_id="stray", received_at=NOW)
    wide = record(stray)[1][:-1] + b',"more":"' + b"x" * 3_000_000 + b'"}'
    publish_compressed(settings, SENT, b"c0", b"{" * 3_000_000, partition=home)
    publish_compressed(settings, INQUIRIES, b"k" * 2_000_000, b"{", [(REPLAYED, b"9" * 2_000_000)], partition=home)
    publish_compressed(settings, INQUIRIES, b"c0", wide, partition=(home + 1) % PARTITIONS)
    facts = a_world(8, 10)
    send(settings, facts)
    with Process("services.matcher", environ, tmp_path / "log") as matcher:
        until(lambda: drained(settings), 60, "all input committed", (matcher,))
        assert matcher.terminate() == 0
    assert expected(facts).items() <= published(settings).items()
    letters = {}
    for letter_record in read_all(settings, DEAD):
        letter = codec.decode(letter_record.value or b"", accept=frozenset({DEAD_LETTER})).data
        assert isinstance(letter, DeadLetter) and letter.value is None and letter_record.headers == ()
        letters[letter.topic, letter.partition] = letter
    assert len(letters) == 3
    assert "3000000 bytes is too large for a letter" in letters[SENT, home].detail
    assert letters[INQUIRIES, home].reason == "not-json" and letters[INQUIRIES, home].key == "k" * 300
    assert letters[INQUIRIES, (home + 1) % PARTITIONS].reason == "limit"


def test_an_erase_empties_state_and_topic_and_is_passed_on(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    facts = a_world(7, 30)
    send(settings, facts)
    with Process("services.matcher", environ, tmp_path / "log") as matcher:
        until(lambda: drained(settings), 60, "all input committed", (matcher,))
        publish(settings, INQUIRIES, [record(CompanyErased(company_id="c1", at=NOW + timedelta(hours=1)))])
        send(settings, facts)
        until(lambda: drained(settings), 60, "all input committed", (matcher,))
        assert matcher.terminate() == 0
    after = published(settings)
    assert after.pop(reply_key("c1", "")) == CompanyErased(company_id="c1", at=NOW + timedelta(hours=1))
    remaining = {key: value for key, value in after.items() if value is not None}
    assert remaining == {key: value for key, value in expected(facts).items() if not key.startswith(b"c1")}
    rows = [key for key, value in latest(read_all(settings, changelog_name())).items() if value is not None]
    assert [key for key in rows if key[1:].startswith(b"c1")] == [b"ec1"]


def test_recovery_does_not_restore_what_an_erase_removed_from_an_entry(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    """An erase leaves a smaller entry; the larger one is still in the changelog and must not be merged into it."""
    at = NOW - timedelta(days=5)
    asked = a_received_inquiry(received_at=at, buyer=Buyer(id="b1", addresses=("b@x.example",)))
    late = a_status(at=at + timedelta(hours=9))
    erased = an_erase(at=at + timedelta(hours=1))
    after = a_status(status="declined", at=at + timedelta(hours=10))
    steps: list[list[Event]] = [[asked, late], [erased], [after]]
    for number, facts in enumerate(steps):
        send(settings, [(INQUIRIES, fact) for fact in facts])
        with Process("services.matcher", environ, tmp_path / f"log-{number}") as matcher:
            until(lambda: drained(settings), 60, "everything is joined", (matcher,))
            matcher.kill()
    erased_state, state = (published(settings)[key] for key in (reply_key("c1", "i1"), partial_key("c1", "i1")))
    assert isinstance(erased_state, InquiryReplies) and isinstance(state, InquiryReplies)
    assert erased_state.received_at is None and erased_state.buyer is None
    assert state.received_at is None and state.buyer is None
    assert [fact.status for fact in state.statuses] == ["spam", "declined"]


def test_a_frozen_worker_that_resumes_sends_nothing_more(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    with Process("services.matcher", environ, tmp_path / "log") as matcher:
        until(
            lambda: any(line.get("action") == "service-started" for line in matcher.lines()), 60, "joined", (matcher,)
        )
        os.kill(matcher.pid, signal.SIGSTOP)
        with pytest.raises(Exception, match="timed out"):
            matcher.wait(4)
        os.kill(matcher.pid, signal.SIGCONT)
        assert matcher.wait(20) == 70


def test_a_matcher_that_stops_reading_ends_and_the_next_one_loses_nothing(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    facts = a_world(21, 40)
    half = len(facts) // 2
    send(settings, facts[:half])
    with Process("tests.faults.stalled", environ, tmp_path / "first") as matcher:
        until(lambda: bool(committed(settings, GROUP)), 90, "something was read", (matcher,))
        send(settings, facts[half:])
        assert matcher.wait(90) == 70
        (stopped,) = [line for line in matcher.lines() if line.get("action") == "state-unsure"]
    assert "although records wait: reading has stopped" in stopped["text"]
    with Process("services.matcher", environ, tmp_path / "second") as matcher:
        until(lambda: drained(settings), 90, "all input committed", (matcher,))
        assert matcher.terminate() == 0
    assert published(settings) == expected(facts)


def test_a_host_whose_clock_is_days_behind_ends_and_rejects_no_good_record(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    fresh: list[tuple[str, Event]] = [
        (INQUIRIES, a_received_inquiry(company_id="c0", inquiry_id=f"i{number}", received_at=NOW))
        for number in range(20)
    ]
    send(settings, fresh)
    with Process("tests.faults.late_matcher", environ, tmp_path / "late") as matcher:
        assert matcher.wait(60) == 78
        assert "correct the clock (NTP)" in matcher.log.read_text("utf-8")
    with Process("services.matcher", environ, tmp_path / "right") as matcher:
        until(lambda: drained(settings), 60, "all input committed", (matcher,))
        assert matcher.terminate() == 0
    assert published(settings) == expected(fresh)
    assert read_all(settings, DEAD) == []


def test_what_is_written_after_a_log_was_cut_counts(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    """An unclean leader election: the log ends before the committed offset, and new records get the lost offsets again."""
    cut_off = kafka_settings(own_kafka.bootstrap_servers)
    create_topics(cut_off)
    (tmp_path / "hash.key").write_bytes(KEY)
    environ = service_environ(
        tmp_path, kafka=cut_off.bootstrap_servers, partitions=PARTITIONS, dsn="postgresql://unused",
        MATCHER__SESSION_TIMEOUT_SECONDS="6",
    )  # fmt: skip
    home = partition_of(b"c0", PARTITIONS)
    events = [a_received_inquiry(company_id="c0", inquiry_id=f"i{number}", received_at=NOW) for number in range(12)]
    raw = [batch([RawRecord(*record(event), (), int(time.time() * 1000))]) for event in events]
    for packed in raw[:10]:
        assert produce(cut_off.bootstrap_servers, INQUIRIES, home, packed)[0] == 0
    with Process("services.matcher", environ, tmp_path / "first") as matcher:
        until(lambda: drained(cut_off), 90, "all input committed", (matcher,))
        assert matcher.terminate() == 0
    own_kafka.stop()
    segment = max((own_kafka.data_dir / "log" / f"{INQUIRIES}-{home}").glob("*.log"))
    os.truncate(segment, sum(map(len, raw[:5])))
    own_kafka.start()
    offsets = []
    for packed in raw[10:]:
        # A broker that has just started may not lead the partition yet, and then writes nothing.
        while (answer := produce(cut_off.bootstrap_servers, INQUIRIES, home, packed))[0] == NOT_LEADER:
            time.sleep(0.1)
        offsets.append(answer)
    assert offsets == [(0, 5), (0, 6)]
    with Process("services.matcher", environ, tmp_path / "second") as matcher:
        until(lambda: committed(cut_off, GROUP).get((INQUIRIES, home)) == 7, 90, "the rest is committed", (matcher,))
        assert matcher.terminate() == 0
        assert "the log ends before offset 10" in matcher.log.read_text("utf-8")
    assert published(cut_off) == expected([(INQUIRIES, event) for event in events])


def test_missing_topics_are_named_with_the_command(topics_gone: str, environ: dict[str, str], tmp_path: Path) -> None:
    from tests.support.servers import delete_topics

    delete_topics(topics_gone)
    with Process("services.matcher", environ, tmp_path / "log") as matcher:
        assert matcher.wait(30) == 78
        assert "topic inquiries.v1 is missing; run `replyrate topics create`" in matcher.log.read_text("utf-8")


def test_it_stops_while_kafka_is_away(environ: dict[str, str], tmp_path: Path) -> None:
    away = {**environ, "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9"}
    with Process("services.matcher", away, tmp_path / "log") as matcher:
        until(
            lambda: any(line.get("action") == "dependency-away" for line in matcher.lines()),
            60,
            "the failure is logged",
            (matcher,),
        )
        assert matcher.terminate() == 0


def test_a_trace_is_passed_on_with_the_state_that_its_fact_changed(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    asked, unsampled, answered = (
        f"00-{number:032x}-{number:016x}-{flags}".encode() for number, flags in ((1, "01"), (2, "00"), (3, "01"))
    )
    inquiries = [
        a_received_inquiry(
            inquiry_id=f"i{number}", received_at=NOW - timedelta(days=1),
            buyer=Buyer(id="b", addresses=(f"b{number}@shop.example",)),
        )
        for number in range(3)
    ]  # fmt: skip
    mail = a_sent_message(message_id="a" * 32, sent_at=NOW, recipients=(HASHER.address("c1", "b2@shop.example"),))
    with Publisher(settings, "tests") as publisher:
        for event, headers in ((inquiries[0], [("traceparent", asked)]), (inquiries[1], [("traceparent", unsampled)]),
                               (inquiries[2], [("traceparent", b"not a trace")])):  # fmt: skip
            assert publisher.wait([publisher.send(INQUIRIES, *record(event), headers=headers)]) == []
        with Process("services.matcher", environ, tmp_path / "log") as matcher:
            until(lambda: len(read_all(settings, REPLIES)) == 3, 60, "three states", (matcher,))
            assert publisher.wait([publisher.send(SENT, *record(mail), headers=[("traceparent", answered)])]) == []
            until(lambda: len(read_all(settings, REPLIES)) == 4, 60, "and the answer", (matcher,))
            assert matcher.terminate() == 0
            logged = [line["trace_id"] for line in matcher.lines() if line.get("action") == "record-traced"]
    headers_by_inquiry = {
        (state_record.key or b"").rpartition(b"\x1f")[2]: dict(state_record.headers)
        for state_record in read_all(settings, REPLIES)
    }
    assert headers_by_inquiry == {
        b"i0": {"traceparent": asked},
        b"i1": {"traceparent": unsampled},
        b"i2": {"traceparent": answered},
    }
    assert logged == [f"{1:032x}", f"{3:032x}"], "sampled ones only"


def test_a_crm_address_in_bcc_of_1000_mails_a_day_loses_no_answer(
    settings: KafkaSettings, environ: dict[str, str], tmp_path: Path
) -> None:
    """1,000 buyers, each answered by one mail of the same day with the same address in Bcc; some mails come before their inquiry."""
    received_at, crm = NOW - timedelta(days=2), HASHER.address("c0", "archive@crm.example")
    asked: list[tuple[str, Event]] = []
    answered: list[tuple[str, Event]] = []
    for number in range(1000):
        address = f"buyer{number}@shop{number}.example"
        inquiry = a_received_inquiry(
            company_id="c0",
            inquiry_id=f"i{number}",
            received_at=received_at,
            buyer=Buyer(id=f"b{number}", addresses=(address,)),
        )
        message = a_sent_message(
            company_id="c0", message_id=HASHER.message("c0", f"re-{number}@firm.example"),
            sent_at=received_at + timedelta(seconds=number), recipients=(crm, HASHER.address("c0", address)),
        )  # fmt: skip
        asked.append((INQUIRIES, inquiry))
        answered.append((SENT, message))
    port = free_port()
    with Process("services.matcher", {**environ, "REPLYRATE_HTTP__PORT": str(port)}, tmp_path / "log") as matcher:
        send(settings, [*asked[:500], *answered])
        until(lambda: drained(settings), 120, "half of the inquiries, and all mail", (matcher,))
        send(settings, asked[500:])
        until(lambda: drained(settings), 120, "the other half", (matcher,))
        cut = [line for line in get(port, "/metrics")[1].splitlines() if line.startswith("replyrate_matcher_cut_total")]
        assert matcher.terminate() == 0
    replies = {
        state.inquiry_id: [reply.reply_id for reply in state.replies]
        for state in published(settings).values()
        if isinstance(state, InquiryReplies)
    }
    assert replies == {f"i{number}": [HASHER.message("c0", f"re-{number}@firm.example")] for number in range(1000)}
    assert 'replyrate_matcher_cut_total{reason="join-day"} 744.0' in cut
    assert read_all(settings, DEAD) == []
