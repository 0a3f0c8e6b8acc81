"""Records that a publisher sends together are what it would have sent one by one, and each has a result of its own."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.common.errors import TransientError
from services.common.kafka import Publisher
from services.common.kafka.client import REQUEST_MS
from services.common.kafka.publisher import BATCH_BYTES, BUILT_BYTES, Pending
from services.common.topics import SENT
from services.standalone.servers.kafka import EmbeddedKafka
from tests.support.topics import create_topics, kafka_settings, read_all, set_config

HEADERS = [("hash-key", b"f" * 32), ("traceparent", b"")]
DELIVERY_SECONDS = REQUEST_MS / 1000 + 1
"""About the least that kafka-python allows: longer than a request."""
SEVERAL_BATCHES = 3 * BUILT_BYTES // 600


def test_records_sent_together_are_those_sent_one_by_one(topics_gone: str) -> None:
    settings = kafka_settings(topics_gone)
    create_topics(settings)
    values = {
        f"company-{number}".encode(): [f"{number}/{index}".encode().ljust(600) for index in range(SEVERAL_BATCHES)]
        for number in range(5)
    }
    values[b"company-0"].insert(7, b"large".ljust(BATCH_BYTES + 1))
    values[b"company-1"].insert(7, b"as a batch".ljust(BATCH_BYTES))
    with Publisher(settings, "tests") as publisher:
        for key, records in values.items():
            pendings = publisher.send_all(SENT, key, records, headers=HEADERS)
            assert len(pendings) == len(records)
            assert publisher.wait([*pendings, publisher.send(SENT, key, b"last", headers=HEADERS)]) == []
        together = read_all(settings, SENT)
        for key, records in values.items():
            assert publisher.wait([publisher.send(SENT, key, value, headers=HEADERS) for value in records]) == []
            assert publisher.wait([publisher.send(SENT, key, b"last", headers=HEADERS)]) == []
    everything = read_all(settings, SENT)
    for key, records in values.items():
        of_key = [record for record in everything if record.key == key]
        assert [record.value for record in of_key] == 2 * [*records, b"last"]
        assert len({record.partition for record in of_key}) == 1
        assert all(list(record.headers) == HEADERS for record in of_key)
    assert len(together) == len(everything) / 2


def test_a_batch_that_the_broker_finds_too_large_is_split(topics_gone: str) -> None:
    settings = kafka_settings(topics_gone)
    create_topics(settings)
    set_config(topics_gone, SENT, "max.message.bytes", "2000")
    values = [str(index).encode().ljust(300) for index in range(40)]
    with Publisher(settings, "tests") as publisher:
        pendings = publisher.send_all(SENT, b"c1", values)
        assert publisher.wait(pendings) == []
    assert [record.value for record in read_all(settings, SENT)] == values


def test_a_closed_publisher_takes_no_records(topics_gone: str) -> None:
    settings = kafka_settings(topics_gone)
    create_topics(settings)
    with Publisher(settings, "tests") as publisher:
        assert publisher.wait(publisher.send_all(SENT, b"c1", [b"before"])) == []
    with pytest.raises(TransientError):
        publisher.send_all(SENT, b"c1", [b"after"])
    assert [record.value for record in read_all(settings, SENT)] == [b"before"]


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
def test_a_refused_record_costs_no_other(topics_gone: str, together: bool) -> None:
    settings = kafka_settings(topics_gone)
    create_topics(settings)
    set_config(topics_gone, SENT, "max.message.bytes", "2000")
    values = [str(index).encode().ljust(3000 if index in (11, 30) else 300) for index in range(40)]
    accepted = [value for value in values if len(value) == 300]
    with Publisher(settings, "tests") as publisher:
        if together:
            pendings = publisher.send_all(SENT, b"c1", values)
        else:
            pendings = [publisher.send(SENT, b"c1", value) for value in values]
        assert publisher.wait(pendings) == [11, 30]
        assert {record.value for record in read_all(settings, SENT)} == set(accepted)
        assert publisher.wait([publisher.send(SENT, b"c1", b"later")]) == []
    assert read_all(settings, SENT)[-1].value == b"later"


def test_threads_share_a_publisher_in_which_a_record_is_refused(topics_gone: str) -> None:
    settings = kafka_settings(topics_gone)
    create_topics(settings)
    set_config(topics_gone, SENT, "max.message.bytes", "2000")
    with Publisher(settings, "tests") as publisher, ThreadPoolExecutor(4) as pool:

        def publish(thread: int) -> list[int]:
            values = [b"%d/%d" % (thread, index) for index in range(60)]
            values[20 + thread] = b"large".ljust(3000)
            return publisher.wait([publisher.send(SENT, b"c%d" % thread, value) for value in values])

        assert list(pool.map(publish, range(4))) == [[20 + thread] for thread in range(4)]
    arrived = {record.value for record in read_all(settings, SENT)}
    assert arrived == {b"%d/%d" % (thread, index) for thread in range(4) for index in range(60) if index != 20 + thread}


def test_after_the_clock_was_corrected_records_are_accepted(topics_gone: str) -> None:
    settings = kafka_settings(topics_gone)
    create_topics(settings)
    set_config(topics_gone, SENT, "message.timestamp.before.max.ms", "0")
    with Publisher(settings, "tests") as publisher:
        with pytest.raises(TransientError, match="clock of this host"):
            publisher.wait([publisher.send(SENT, b"c1", b"%d" % index) for index in range(20)])
        set_config(topics_gone, SENT, "message.timestamp.before.max.ms", str(2**62))
        assert publisher.wait([publisher.send(SENT, b"c1", b"again")]) == []


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
def test_records_are_sent_after_the_broker_was_silent_for_longer_than_a_delivery(
    own_kafka: EmbeddedKafka, together: bool
) -> None:
    settings = kafka_settings(own_kafka.bootstrap_servers)
    create_topics(settings)
    with Publisher(settings, "tests", delivery_seconds=DELIVERY_SECONDS) as publisher:

        def send(value: bytes) -> list[Pending]:
            return publisher.send_all(SENT, b"c1", [value]) if together else [publisher.send(SENT, b"c1", value)]

        assert publisher.wait(send(b"before")) == []
        assert own_kafka.pid is not None
        os.kill(own_kafka.pid, signal.SIGSTOP)
        try:
            with pytest.raises(TransientError):
                publisher.wait(send(b"during"))
        finally:
            os.kill(own_kafka.pid, signal.SIGCONT)
        assert publisher.wait(send(b"after"), 60) == []
    values = [record.value for record in read_all(settings, SENT)]
    assert values[0] == b"before" and b"after" in values
