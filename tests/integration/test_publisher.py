"""Records that a publisher sends together are what it would have sent one by one, and each has a result of its own."""

import pytest

from services.common.errors import TransientError
from services.common.kafka import Publisher
from services.common.kafka.publisher import BATCH_BYTES, BUILT_BYTES
from services.common.topics import SENT
from tests.support.topics import create_topics, kafka_settings, read_all, set_config

HEADERS = [("hash-key", b"f" * 32), ("traceparent", b"")]
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
        for pending in pendings:
            pending.future.get(60)
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
