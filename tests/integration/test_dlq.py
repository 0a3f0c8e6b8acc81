"""`replyrate dlq` on the real broker with the real matcher: list, replay, limit the replays of a record, purge."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec import structs

from services.cli.__main__ import main
from services.common import codec
from services.common.events import Buyer, DeadLetter, InquiryReceived
from services.common.hashing import Hasher
from services.common.kafka import Admin, Publisher
from services.common.postgres import connect
from services.common.settings import KafkaSettings
from services.common.topics import DEAD, DEAD_GROUP, INQUIRIES, REPLAYED, REPLIES, REROUTED, SENT, partition_of
from services.common.trace_context import TRACEPARENT
from services.dead_letters.letters import DeadLetters
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.standalone.servers.environment import service_environ
from services.standalone.servers.kafka import EmbeddedKafka
from tests.support.mailboxes import connected
from tests.support.processes import Process, until
from tests.support.topics import PARTITIONS, create_topics, kafka_settings, publish, read_all

NOW = datetime.now(UTC).replace(microsecond=0)
COMPANY = b"c1"
HOME = partition_of(COMPANY, PARTITIONS)
Run = Callable[..., Result]


@pytest.fixture
def kafka_(topics_gone: str) -> KafkaSettings:
    settings = kafka_settings(topics_gone)
    create_topics(settings)
    return settings


@pytest.fixture
def environ(kafka_: KafkaSettings, dsn: str, tmp_path: Path) -> dict[str, str]:
    for key in ("hash.key", "vault.key"):
        (tmp_path / key).write_bytes(bytes(32))
    environ = service_environ(tmp_path, kafka=kafka_.bootstrap_servers, partitions=PARTITIONS, dsn=dsn)
    return {**environ, "COLUMNS": "250"}


@pytest.fixture
def run(environ: dict[str, str]) -> Run:
    def call(*args: str, code: int = 0) -> Result:
        done = CliRunner().invoke(main, ["dlq", *args], env=environ)
        assert done.exit_code == code, (args, done.stdout, done.stderr, done.exception)
        return done

    return call


def inquiry(number: int) -> bytes:
    event = InquiryReceived(
        company_id="c1", account_id="main", inquiry_id=f"i{number}", received_at=NOW,
        buyer=Buyer(id="b", addresses=("buyer-canary@shop.example",)),
    )  # fmt: skip
    return codec.encode(event, id=f"e{number}", source="tests", time=NOW)


def publish_letter(
    kafka: KafkaSettings, letter: DeadLetter, key: bytes = COMPANY, replayed: int = 0, trace: bytes | None = None
) -> None:
    """Publish a dead letter as a service would."""
    with Publisher(kafka, "tests") as publisher:
        value = codec.encode(letter, id="x", source="tests", time=letter.at)
        headers = [(REPLAYED, str(replayed).encode())] if replayed else []
        headers += [] if trace is None else [(TRACEPARENT, trace)]
        assert publisher.wait([publisher.send(DEAD, key, value, headers=headers)]) == []


def letter(**place: Any) -> DeadLetter:
    return DeadLetter(reason="schema", detail="data.x: wrong", service="matcher", service_version="0", at=NOW, **place)


def rows(done: Result) -> Any:
    return json.loads(done.stdout)


def test_a_record_that_can_be_read_now_counts_and_another_is_replayed_three_times_at_most(
    kafka_: KafkaSettings, environ: dict[str, str], run: Run, tmp_path: Path
) -> None:
    with Publisher(kafka_, "tests") as publisher:
        # Moved once and in the wrong partition again: rejected; a replay by its key puts it into the right one.
        misrouted = publisher.send(
            INQUIRIES, COMPANY, inquiry(1), partition=(HOME + 1) % PARTITIONS, headers=[REROUTED]
        )
        broken = publisher.send(INQUIRIES, COMPANY, b"no json, canary@shop.example")
        assert publisher.wait([misrouted, broken]) == []
    with Process("services.matcher", environ, tmp_path / "log") as matcher:
        until(lambda: len(read_all(kafka_, DEAD)) == 2, 60, "two dead letters", (matcher,))
        listed = {letter_row["reason"]: letter_row for letter_row in rows(run("list", "--json"))}
        assert set(listed) == {"misrouted", "not-json"}
        assert listed["not-json"]["origin"] == f"{INQUIRIES}/{HOME}/0" and listed["not-json"]["company_id"] == "c1"
        assert rows(run("list", "--json", "--reason", "misrouted")) == [listed["misrouted"]]
        position = listed["not-json"]["position"]
        shown = run("show", position)
        assert "not-json" in shown.stdout and "canary" not in shown.stdout + run("list").stdout
        assert rows(run("show", position, "--json"))["needs"] == "read-again"

        planned = rows(run("replay", "--json"))
        assert planned["done"] is False and planned["counts"] == {"replayed": 2}
        assert len(read_all(kafka_, INQUIRIES)) == 2, "a dry run sends nothing"
        assert rows(run("replay", "--yes", "--json"))["counts"] == {"replayed": 2}
        until(lambda: len(read_all(kafka_, REPLIES)) == 1, 30, "the inquiry counts", (matcher,))
        for turn in (1, 2, 3):
            until(lambda turn=turn: len(read_all(kafka_, DEAD)) == 2 + turn, 30, "rejected again", (matcher,))  # type: ignore[misc]
            (waiting,) = rows(run("list", "--json"))
            assert (waiting["reason"], waiting["replayed"]) == ("not-json", turn)
            if turn < 3:
                assert rows(run("replay", "--yes", "--json"))["counts"] == {"replayed": 1}
        replay_counts = [
            dict(record.headers)[REPLAYED]
            for record in read_all(kafka_, INQUIRIES)
            if record.offset and record.value != inquiry(1)
        ]
        assert sorted(replay_counts) == [b"1", b"2", b"3"]
        ended = run("replay", "--yes", code=1)
        assert "1 loops" in ended.stderr and "replayed 3 times" in ended.stdout
        assert len(read_all(kafka_, INQUIRIES)) == 6, "it is not sent once more"
        assert rows(run("list", "--json")) == []
        states = [letter_row["state"] for letter_row in rows(run("list", "--json", "--all"))]
        assert sorted(states) == ["left", *4 * ["replayed"]]
        assert matcher.terminate() == 0
    assert "canary" not in matcher.log.read_text("utf-8")


def test_each_letter_is_replayed_in_its_own_way(kafka_: KafkaSettings, dsn: str, run: Run) -> None:
    with connect(dsn, "tests") as connection:
        registry = Registry(connection, Hasher(bytes(32)), Vault(bytes(32)))
        registry.companies.add("c1")
        registry.accounts.add("c1", "main")
        connected(registry, "c1")
    publish_letter(kafka_, letter(topic=REPLIES, partition=2, offset=5, value="e30="), key=b"c1\x1fi1")
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    publish_letter(kafka_, letter(topic=SENT, partition=1, offset=5, value="e30="), trace=trace)
    publish_letter(kafka_, letter(topic=INQUIRIES, partition=HOME, offset=77))
    publish_letter(kafka_, letter(topic="secrets.v1", partition=0, offset=0, value="e30="))
    publish_letter(kafka_, letter(mailbox_id="m1", uidvalidity=1, uid=5))
    publish_letter(kafka_, letter(mailbox_id="m1", uidvalidity=1, uid=6))
    publish_letter(kafka_, letter(mailbox_id="m-none", uidvalidity=1, uid=6))
    publish_letter(kafka_, letter(topic=SENT, partition=1, offset=6, value="e30="), replayed=3)
    publish(kafka_, DEAD, [(COMPANY, b"not even a letter")])

    planned = rows(run("replay", "--json"))
    assert planned["counts"] == {"replayed": 2, "gone": 1, "refused": 2, "rescan": 3, "loops": 1}
    done = rows(run("replay", "--yes", "--json", code=1))
    assert done["counts"] == {"replayed": 2, "gone": 1, "refused": 3, "rescan": 2, "loops": 1}
    why = {letter_row["origin"]: letter_row["why"] for letter_row in done["letters"]}
    assert "does not exist any more" in why[f"{INQUIRIES}/{HOME}/77"]
    assert "replyrate mailbox list c1" in why["m-none/1/6"]
    (state,) = read_all(kafka_, REPLIES)
    assert (state.partition, state.key, state.value) == (2, b"c1\x1fi1", b"{}")
    (sent,) = read_all(kafka_, SENT)
    assert (sent.partition, sent.headers) == (HOME, ((REPLAYED, b"1"), (TRACEPARENT, trace)))
    with connect(dsn, "tests") as connection:
        is_due = connection.execute("SELECT reconcile_after <= clock_timestamp() FROM registry.mailboxes").fetchone()
    assert is_due == (True,)
    assert "No open dead letters." in run("replay", "--yes").stderr


def test_progress_continues_where_it_was_and_purge_moves_or_deletes(kafka_: KafkaSettings, run: Run) -> None:
    assert "No open dead letters." in run("list").stderr
    assert "No open dead letters." in run("replay").stderr
    for offset in range(4):
        publish_letter(kafka_, letter(topic=SENT, partition=0, offset=offset, value="e30="))
    (first, second, third, fourth) = [letter_row["position"] for letter_row in rows(run("list", "--json"))]
    assert "would be purged. Dry run. Pass --yes" in run("purge").stderr
    assert len(rows(run("list", "--json"))) == 4
    assert "2 letters purged" in run("purge", "--through", second, "--yes").stderr
    assert [letter_row["position"] for letter_row in rows(run("list", "--json"))] == [third, fourth]
    assert "0 letters" in run("purge", "--through", first, "--yes").stderr, "progress never goes back"
    assert [letter_row["position"] for letter_row in rows(run("list", "--json"))] == [third, fourth]
    # A purged letter can still be replayed by its position; the list does not change.
    assert rows(run("replay", first, "--yes", "--json"))["counts"] == {"replayed": 1}
    assert [letter_row["position"] for letter_row in rows(run("list", "--json"))] == [third, fourth]
    assert len(read_all(kafka_, SENT)) == 1
    deleted = rows(run("purge", "--delete", "--through", third, "--yes", "--json"))
    assert (deleted["letters"], deleted["deleted"]) == (3, True)
    assert [letter_row["position"] for letter_row in rows(run("list", "--all", "--json"))] == [fourth]
    with DeadLetters(kafka_) as letters:
        assert letters.waiting() == letters.everything() == {HOME: [(3, 4)]}


def states(run: Run) -> dict[str, str]:
    """The state of each letter in `dlq list --all`, by the offset of its record."""
    return {
        letter_row["origin"].rpartition("/")[2]: letter_row["state"]
        for letter_row in rows(run("list", "--all", "--limit", "9999", "--json"))
    }


def test_chosen_letters_are_remembered_and_the_others_stay_open(kafka_: KafkaSettings, run: Run) -> None:
    for offset in range(6):
        publish_letter(kafka_, letter(topic=SENT, partition=0, offset=offset, value="e30="))
    late = DeadLetter(
        reason="late", detail="behind the horizon", service="matcher", service_version="0", at=NOW,
        topic=SENT, partition=0, offset=6, value="e30=",
    )  # fmt: skip
    publish_letter(kafka_, late)
    positions = [letter_row["position"] for letter_row in rows(run("list", "--json"))]
    # One in the middle: nothing before it counts as processed.
    assert rows(run("replay", positions[2], "--yes", "--json"))["counts"] == {"replayed": 1}
    assert [letter_row["position"] for letter_row in rows(run("list", "--json"))] == [
        positions[0],
        positions[1],
        *positions[3:],
    ]
    assert rows(run("show", positions[2], "--json"))["state"] == "replayed"
    # A letter does not show that its record was replayed, so a second replay needs --again.
    refused = rows(run("replay", positions[2], "--yes", "--json", code=1))
    assert refused["counts"] == {"refused": 1} and "--again" in refused["letters"][0]["why"]
    assert len(read_all(kafka_, SENT)) == 1
    assert rows(run("replay", positions[2], "--again", "--yes", "--json"))["counts"] == {"replayed": 1}
    assert len(read_all(kafka_, SENT)) == 2
    # By reason, after a dry run that changes nothing.
    assert rows(run("replay", "--reason", "late", "--json"))["counts"] == {"replayed": 1}
    assert states(run)["6"] == "open"
    assert "1 letters purged" in run("purge", "--reason", "late", "--yes").stderr
    assert "takes --through" in run("purge", "--reason", "late", "--delete", code=2).stderr
    assert "2 letters purged" in run("purge", "--through", positions[1], "--yes").stderr
    assert states(run) == {
        "0": "purged", "1": "purged", "2": "replayed", "3": "open", "4": "open", "5": "open", "6": "purged",
    }  # fmt: skip
    # The group's offset is behind everything that is processed without a gap; other tools see that.
    with Admin(kafka_, "tests") as admin:
        assert admin.committed(DEAD_GROUP) == {(DEAD, HOME): 3}
    assert rows(run("replay", "--reason", "schema", "--yes", "--json"))["counts"] == {"replayed": 3}
    with Admin(kafka_, "tests") as admin:
        assert admin.committed(DEAD_GROUP) == {(DEAD, HOME): 7}
    assert "No open dead letters." in run("list").stderr and len(read_all(kafka_, SENT)) == 5
    shown = run("list", "--all").stdout
    assert shown.count("replayed") >= 4 and shown.count("purged") == 3


def test_progress_of_an_older_release_is_understood(kafka_: KafkaSettings, run: Run) -> None:
    for offset in range(3):
        publish_letter(kafka_, letter(topic=SENT, partition=0, offset=offset, value="e30="))
    with Admin(kafka_, "tests") as admin:
        admin.commit(DEAD_GROUP, DEAD, {HOME: (2, "")})
    assert states(run) == {"0": "done", "1": "done", "2": "open"}
    run("purge", "--yes")
    assert states(run) == {"0": "done", "1": "done", "2": "purged"}


def test_a_replay_of_letters_with_too_many_gaps_stops_before_its_batch_is_sent(kafka_: KafkaSettings, run: Run) -> None:
    with Publisher(kafka_, "tests") as publisher:
        pendings = []
        for offset in range(4000):
            dead_letter = letter(topic=SENT, partition=0, offset=offset, value="e30=")
            if offset % 2:
                dead_letter = structs.replace(dead_letter, reason="limit")
            pendings.append(publisher.send(DEAD, COMPANY, codec.encode(dead_letter, id="x", source="tests", time=NOW)))
        assert publisher.wait(pendings) == []
    error = run("replay", "--reason", "limit", "--yes", code=1).stderr
    assert "too many gaps" in error and "replyrate dlq purge --through" in error
    # What was sent is stored, and the command that the error names works.
    sent = len(read_all(kafka_, SENT))
    assert sent == sum(state == "replayed" for state in states(run).values()) > 400
    assert f"{4000 - sent} letters purged" in run("purge", "--yes").stderr
    assert "No open dead letters." in run("list").stderr


def test_errors_say_what_to_do(kafka_: KafkaSettings, run: Run, environ: dict[str, str]) -> None:
    assert "replyrate dlq list" in run("show", "0/0", code=1).stderr
    assert "write PARTITION/OFFSET" in run("show", "latest", code=1).stderr
    assert "write PARTITION/OFFSET" in run("purge", "--through", "1/-1", code=1).stderr
    assert "replyrate dlq list" in run("replay", "9/1", "--yes", code=1).stderr
    unreachable = CliRunner().invoke(
        main, ["dlq", "list"], env={**environ, "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9"}
    )
    assert unreachable.exit_code == 69 and "Kafka is not reachable" in unreachable.stderr


def test_a_new_cluster_without_a_group_coordinator_is_waited_for(
    own_kafka: EmbeddedKafka, environ: dict[str, str]
) -> None:
    create_topics(kafka_settings(own_kafka.bootstrap_servers))
    new = {**environ, "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": own_kafka.bootstrap_servers}
    done = CliRunner().invoke(main, ["dlq", "list"], env=new)
    assert done.exit_code == 0, done.stderr
