"""The poison table: every kind of record on every topic that we read, among good ones. docs/dev/records.md shows the kinds.

The good records all count, each bad one is told once, and no process ends.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from pprint import pformat

import pytest

from services.aggregator.judge import watermark
from services.common import codec
from services.common.events import DEAD_LETTER, DeadLetter, InquiryReplies
from services.common.kafka import Admin
from services.common.postgres import connect
from services.common.topics import DEAD, REPLIES, SENT, reply_key
from services.standalone.servers.child import free_port
from services.standalone.servers.environment import service_environ
from services.standalone.servers.kafka import EmbeddedKafka
from tests.poison.field import Fact, PoisonField, Position
from tests.poison.kinds import TOPICS
from tests.support.matching import KEY, drained
from tests.support.processes import Process, get, until
from tests.support.topics import PARTITIONS, create_topics, kafka_settings, latest, read_all, set_config

SECONDS = 240


@pytest.fixture
def field(own_kafka: EmbeddedKafka) -> PoisonField:
    settings = kafka_settings(own_kafka.bootstrap_servers)
    create_topics(settings)
    for topic in TOPICS:
        set_config(own_kafka.bootstrap_servers, topic, "message.timestamp.after.max.ms", str(2**63 - 1))
    # Some kinds have one key for several records, and all of them are to be read.
    set_config(own_kafka.bootstrap_servers, REPLIES, "min.compaction.lag.ms", str(2**62))
    poison = PoisonField(settings)
    poison.send()
    with Admin(settings, "tests") as admin:
        ends = {tp: end for tp, (_, end) in admin.spans(TOPICS).items()}
    own_kafka.stop()
    poison.write(own_kafka.data_dir / "log", ends)
    own_kafka.start()
    poison.send_asked()
    return poison


def merged(poison: PoisonField, dsn: str) -> bool:
    """Whether the ledger has merged the whole topic."""
    with Admin(poison.settings, "tests") as admin, connect(dsn, "tests") as connection:
        ends = {partition: end for (_, partition), (_, end) in admin.spans([REPLIES]).items()}
        positions = watermark.merged_offsets(connection, REPLIES)[1]
    return all(positions.get(partition, 0) >= end for partition, end in ends.items())


def counted(poison: PoisonField, dsn: str) -> Callable[[Fact], bool]:
    """Whether a fact has reached the end of its path."""
    states = {key: value for key, value in latest(read_all(poison.settings, REPLIES)).items() if value}
    with connect(dsn, "tests") as connection:
        ledger = set(connection.execute("SELECT company_id, inquiry_id FROM ledger.inquiries").fetchall())
        answered = set(connection.execute("SELECT company_id, inquiry_id FROM ledger.replies").fetchall())

    def reached(fact: Fact) -> bool:
        inquiry = (fact.company_id, fact.inquiry_id)
        if fact.topic != SENT:
            return inquiry in ledger
        value = states.get(reply_key(*inquiry))
        published = None if value is None else codec.decode(value, accept=frozenset({"replyrate.inquiry-replies.v1"}))
        return inquiry in answered and isinstance(published.data, InquiryReplies) and bool(published.data.replies)  # type: ignore[union-attr]

    return reached


@pytest.mark.timeout(900)
def test_every_kind_costs_at_most_its_own_records(field: PoisonField, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "hash.key").write_bytes(KEY)
    environ = service_environ(
        tmp_path, kafka=field.settings.bootstrap_servers, partitions=PARTITIONS, dsn=dsn,
        MATCHER__SESSION_TIMEOUT_SECONDS="6", AGGREGATOR__SESSION_TIMEOUT_SECONDS="6",
    )  # fmt: skip
    ports = {name: free_port() for name in ("matcher", "aggregator")}
    services = tuple(
        Process(f"services.{name}", {**environ, "REPLYRATE_HTTP__PORT": str(port)}, tmp_path / f"{name}.log")
        for name, port in ports.items()
    )
    with services[0], services[1]:
        until(lambda: drained(field.settings), SECONDS, "all input committed", services)
        until(lambda: merged(field, dsn), SECONDS, "all states merged", services)
        told = sum(rejected(get(port, "/metrics")[1]) for port in ports.values())
        assert [service.terminate() for service in services] == [0, 0]
    reached = counted(field, dsn)
    letters = [letter_of(record.value) for record in read_all(field.settings, DEAD)]
    reasons = Counter((position_of(letter), letter.reason) for letter in letters)
    expected_reasons = Counter(field.letters.items())
    differences = {
        "lost": Counter((fact.topic, fact.kind) for fact in field.counting if not reached(fact)),
        "counted though bad": Counter((fact.topic, fact.kind) for fact in field.silent if reached(fact)),
        "not told": [(*where, field.kinds[where[0]]) for where in expected_reasons - reasons],
        "told without need, twice, or with another reason": [(*where, field.kinds.get(where[0])) for where in reasons - expected_reasons],
        "taken by the broker": [kind for kind, errors in field.refused.items() if 0 in errors],
        "told and not counted": len(letters) - told,
    }  # fmt: skip
    assert not any(differences.values()), pformat(differences, width=200)


def rejected(page: str) -> int:
    """The sum of the counters of rejected records on a page of metrics."""
    lines = [line for line in page.splitlines() if line.startswith("replyrate_records_rejected_total{")]
    assert lines
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def letter_of(value: bytes | None) -> DeadLetter:
    letter = codec.decode(value or b"", accept=frozenset({DEAD_LETTER})).data
    assert isinstance(letter, DeadLetter)
    return letter


def position_of(letter: DeadLetter) -> Position:
    assert letter.topic is not None and letter.partition is not None and letter.offset is not None
    return letter.topic, letter.partition, letter.offset
