"""SIGTERM while a dependency hangs: every service exits with 0 in time, and the next process finishes its work."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

import pytest

from services.common import codec
from services.common.errors import TransientError
from services.common.events import Buyer, InquiryReceived
from services.common.postgres import connect
from services.common.topics import INQUIRIES
from services.standalone.servers.child import free_port
from services.standalone.servers.imap import EmbeddedImap
from services.standalone.servers.kafka import EmbeddedKafka
from tests.support.fetcher_lab import HASHER, USER, Lab, letter, make_lab
from tests.support.processes import STOP_SECONDS, Process, get, until
from tests.support.topics import publish

__all__ = ["make_lab"]

SERVICES = ("fetcher", "matcher", "aggregator")


@pytest.fixture
def topics_gone(own_kafka: EmbeddedKafka) -> str:
    """A broker of this test alone, so that it may be frozen, under the name of the session's one."""
    return own_kafka.bootstrap_servers


@pytest.fixture
def lab(make_lab: Callable[[EmbeddedImap], Lab], pymap: EmbeddedImap) -> Lab:
    lab = make_lab(pymap)
    lab.environ["REPLYRATE_MATCHER__DATA_DIR"] = str(lab.folder / "matcher")
    lab.environ["REPLYRATE_MATCHER__STORE"] = "memory"
    return lab


@contextmanager
def services(lab: Lab, fetcher_port: int = 0) -> Iterator[dict[str, Process]]:
    """The three services, started; the fetcher has its pages on `fetcher_port`."""
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(
                Process(
                    f"services.{name}",
                    {**lab.environ, "REPLYRATE_HTTP__PORT": str(fetcher_port if name == "fetcher" else 0)},
                    lab.folder / f"{name}.log",
                )
            )
            for name in SERVICES
        }
        started = tuple(running.values())
        until(lambda: all("service-started" in actions(process) for process in started), 60, "started", started)
        yield running


def actions(process: Process) -> list[str]:
    return [line.get("action", "") for line in process.lines()]


def stop_all(running: dict[str, Process]) -> dict[str, int]:
    """Send SIGTERM to all at once; returns their exit codes. Fails if one takes longer than promised."""
    deadline = time.monotonic() + STOP_SECONDS
    for process in running.values():
        process.signal(signal.SIGTERM)
    return {name: process.wait(max(0.1, deadline - time.monotonic())) for name, process in running.items()}


def publish_inquiry(lab: Lab, number: int) -> None:
    now = datetime.now(UTC)
    event = InquiryReceived(
        company_id="c1", account_id="main", inquiry_id=f"i{number}", received_at=now, buyer=Buyer(id="b")
    )
    publish(lab.kafka, INQUIRIES, [(b"c1", codec.encode(event, id=f"e{number}", source="tests", time=now))])


def batches(port: int) -> int:
    """Batches that the fetcher has decided to publish, by its metrics; counted before they are sent."""
    name = "replyrate_fetcher_batch_messages_count "
    lines = [line for line in get(port, "/metrics")[1].splitlines() if line.startswith(name)]
    return int(float(lines[0].removeprefix(name))) if lines else 0


def merged(lab: Lab) -> int:
    with connect(lab.dsn, "tests") as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM ledger.inquiries").fetchall()
        return int(count)


def test_every_service_stops_in_time_while_kafka_hangs(lab: Lab, own_kafka: EmbeddedKafka) -> None:
    first_sent_at = datetime.now(UTC)
    lab.server.append(USER, "Sent", letter(0, first_sent_at), first_sent_at)
    connected = lab.connect()
    port = free_port()
    with services(lab, port) as running:
        fetcher = running["fetcher"]
        publish_inquiry(lab, 1)
        until(lambda: merged(lab) == 1 and lab.complete(connected.mailbox_id), 60, "at work", tuple(running.values()))
        batches_before = batches(port)
        assert own_kafka.pid is not None
        os.kill(own_kafka.pid, signal.SIGSTOP)
        try:
            second_sent_at = datetime.now(UTC)
            lab.server.append(USER, "Sent", letter(1, second_sent_at), second_sent_at)

            until(lambda: batches(port) > batches_before, 60, "the second mail is on its way to Kafka", (fetcher,))
            assert stop_all(running) == dict.fromkeys(SERVICES, 0)
        finally:
            os.kill(own_kafka.pid, signal.SIGCONT)
        assert any("not finished because a dependency hangs" in line.get("text", "") for line in fetcher.lines())
        assert all("crashed" not in actions(process) for process in running.values())
    with connect(lab.dsn, "tests") as connection:
        connection.execute("UPDATE registry.mailboxes SET lease_until = clock_timestamp()")
    with lab.fetcher("next") as fetcher:
        until(lambda: published(lab, "sent-1@mail.test"), 120, "the mail that was in flight is published", (fetcher,))


def published(lab: Lab, message_id: str) -> bool:
    try:
        return HASHER.message("c1", message_id) in {event.message_id for event in lab.sent()}
    except TransientError:
        return False  # a broker that was frozen for long has to register again before it answers


def test_the_aggregator_stops_in_time_while_its_rows_are_locked(lab: Lab) -> None:
    with services(lab) as running:
        publish_inquiry(lab, 1)
        until(lambda: merged(lab) == 1, 60, "at work", tuple(running.values()))
        with connect(lab.dsn, "tests") as connection, connection.transaction():
            connection.execute("LOCK ledger.dirty, ledger.offsets IN ACCESS EXCLUSIVE MODE")
            publish_inquiry(lab, 2)
            until(lambda: waiting(lab) >= 2, 30, "both loops wait", tuple(running.values()))
            assert stop_all(running) == dict.fromkeys(SERVICES, 0)
        assert merged(lab) == 1
    with services(lab) as running:
        until(lambda: merged(lab) == 2, 60, "the work in progress of the first run", tuple(running.values()))
        assert stop_all(running) == dict.fromkeys(SERVICES, 0)


def waiting(lab: Lab) -> int:
    """Sessions of the two loops that wait for a lock."""
    with connect(lab.dsn, "tests") as connection:
        ((count,),) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            " AND application_name IN ('replyrate-aggregator', 'replyrate-aggregator-refresh')"
        ).fetchall()
        return int(count)
