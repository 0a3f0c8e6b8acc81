"""Two tenants: whatever a hostile company does, the rows of the other are byte for byte the same as without it."""

import json
import random
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from pathlib import Path

import msgspec

from services.common.events import CompanyErased, Event, InquiryReceived, MessageSent
from services.common.postgres import connect
from services.common.settings import KafkaSettings
from services.common.topics import DEAD, INQUIRIES, SENT, partition_of
from services.standalone.servers.environment import service_environ
from tests.integration.test_aggregator import Lab
from tests.support.matching import HASHER, KEY, NOW, a_world, drained, record
from tests.support.processes import Process, until
from tests.support.servers import delete_topics
from tests.support.topics import PARTITIONS, create_topics, kafka_settings, publish, read_all

VICTIM = "c0"
ROWS = (
    "SELECT to_jsonb(t)::text FROM ledger.inquiries t WHERE company_id = 'c0' ORDER BY 1",
    "SELECT to_jsonb(t)::text FROM ledger.statuses t WHERE company_id = 'c0' ORDER BY 1",
    "SELECT to_jsonb(t)::text FROM ledger.replies t WHERE company_id = 'c0' ORDER BY 1",
    "SELECT (to_jsonb(t) - 'changed_at' - 'revision')::text FROM ledger.outcomes t WHERE company_id = 'c0' ORDER BY 1",
    "SELECT (to_jsonb(t) - 'computed_at' - 'valid_from' - 'valid_to')::text FROM ledger.rate_rows t"
    " WHERE company_id = 'c0' AND valid_to IS NULL ORDER BY 1",
)


def test_a_hostile_company_changes_no_byte_of_another(
    topics_gone: str, postgres: Callable[[], str], tmp_path: Path
) -> None:
    kafka = kafka_settings(topics_gone)
    facts = [(topic, event) for topic, event in a_world(9, 120) if event.company_id == VICTIM]  # type: ignore[union-attr]
    alone = rows(kafka, postgres(), tmp_path / "alone", facts, [])
    delete_topics(kafka.bootstrap_servers)
    harm = hostile(facts)
    beside = rows(kafka, postgres(), tmp_path / "beside", facts, harm)
    assert all(len(table) > 10 for table in (alone[0], alone[2], alone[3], alone[4]))
    assert beside == alone
    letters = [json.loads(record.value or b"{}")["data"] for record in read_all(kafka, DEAD)]
    assert letters == [], "no bound rejects a fact"


def hostile(facts: list[tuple[str, Event]]) -> list[tuple[str, Event]]:
    """A company in the same partition that copies the victim's ids and addresses, exceeds every bound, and is erased."""
    home = partition_of(VICTIM.encode(), PARTITIONS)
    name = next(f"evil{n}" for n in count() if partition_of(f"evil{n}".encode(), PARTITIONS) == home)
    harm: list[tuple[str, Event]] = [(topic, msgspec.structs.replace(event, company_id=name)) for topic, event in facts]
    asked = next(event for _, event in facts if isinstance(event, InquiryReceived))
    address = HASHER.address(name, asked.buyer.addresses[0])
    assert address is not None
    for number in range(400):
        message_id = HASHER.message(name, f"storm-{number}@evil.example")
        assert message_id is not None
        storm = MessageSent(
            company_id=name, account_id="main", mailbox_id="m1", message_id=message_id, sent_at=NOW - timedelta(days=1),
            sent_at_basis="date", evidence="verified", kind="human", recipients=(address,),
        )  # fmt: skip
        harm.append((SENT, storm))
        flood = msgspec.structs.replace(asked, company_id=name, inquiry_id=f"flood-{number}")
        harm.append((INQUIRIES, flood))
    harm.append((INQUIRIES, CompanyErased(company_id=name, at=NOW - timedelta(hours=3))))
    return harm


def rows(
    kafka: KafkaSettings, dsn: str, folder: Path, facts: list[tuple[str, Event]], harm: list[tuple[str, Event]]
) -> list[list[str]]:
    """Run matcher and aggregator over `facts` mixed with `harm`; returns the victim's rows."""
    folder.mkdir()
    (folder / "hash.key").write_bytes(KEY)
    environ = service_environ(
        folder,
        kafka=kafka.bootstrap_servers,
        partitions=PARTITIONS,
        dsn=dsn,
        MATCHER__SESSION_TIMEOUT_SECONDS="6",
        AGGREGATOR__SESSION_TIMEOUT_SECONDS="6",
        AGGREGATOR__REFRESH_INTERVAL_SECONDS="0.2",
    )
    create_topics(kafka)
    chance = random.Random(3)
    for topic in (INQUIRIES, SENT):
        # The victim's records keep their order; those of the other company are anywhere between them.
        mine: list[tuple[bytes, bytes | None]] = [record(event) for name, event in facts if name == topic]
        for attack in (record(event) for name, event in harm if name == topic):
            mine.insert(chance.randrange(len(mine) + 1), attack)
        publish(kafka, topic, mine)
    lab = Lab(dsn, kafka, environ, folder)
    with Process("services.matcher", environ, folder / "matcher.log") as matcher, lab.aggregator() as aggregator:
        until(lambda: drained(kafka), 60, "all input is joined", (matcher, aggregator))
        until(lab.judged, 60, "all is judged", (matcher, aggregator))
        assert matcher.terminate() == 0 and aggregator.terminate() == 0
    with connect(dsn, "tests") as connection:
        return [[record[0] for record in connection.execute(query.encode()).fetchall()] for query in ROWS]
