"""The whole pipeline on real servers: each service is killed once while it works, facts are duplicated and out of order.

Data, recount and servers are the demo's. At the end every outcome and every rate in Postgres equals the recount.
"""

import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.common.postgres import connect
from services.common.topics import DEAD, INQUIRIES, REPLIES, SENT
from services.standalone.demo.demo import EmbeddedStage
from services.standalone.demo.report import DemoReport
from services.standalone.servers.postgres import scratch_folder
from services.standalone.world import cast
from services.standalone.world.world import Wave, World
from tests.support.topics import kafka_settings, read_all


@pytest.fixture
def folder() -> Iterator[Path]:
    scratch = scratch_folder("replyrate-pipeline-")
    yield scratch
    shutil.rmtree(scratch, ignore_errors=True)


class Disturbed(EmbeddedStage):
    """Kills a service after each wave of facts, and publishes every wave twice in another order."""

    kills = ("matcher", "aggregator", "fetcher")

    def environ(self) -> dict[str, str]:
        # A killed fetcher keeps its leases until they end, a killed worker its partitions until its session ends.
        return super().environ() | {
            "REPLYRATE_FETCHER__LEASE_SECONDS": "30",
            "REPLYRATE_IMAP__SESSION_SECONDS": "20",
            "REPLYRATE_MATCHER__SESSION_TIMEOUT_SECONDS": "6",
            "REPLYRATE_AGGREGATOR__SESSION_TIMEOUT_SECONDS": "6",
        }

    def _publish(self, wave: Wave) -> None:
        world = self.world
        self.world = shuffled(world, 1)
        super()._publish(wave)
        self.world = shuffled(world, 2)
        super()._publish(wave)
        self.world = world
        if wave == "second":
            self._replace("matcher")
            self._replace("aggregator")
        elif wave == "live":
            self._replace("fetcher")

    def _replace(self, name: str) -> None:
        self.supervisor.kill(name)
        self.supervisor.start((name,))


def shuffled(world: World, seed: int) -> World:
    chance = random.Random(seed)

    def mixed(facts: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(chance.sample(facts, len(facts)))

    return replace(
        world,
        inquiries=mixed(world.inquiries),  # type: ignore[arg-type]
        statuses=mixed(world.statuses),  # type: ignore[arg-type]
        platform_replies=mixed(world.platform_replies),  # type: ignore[arg-type]
    )


def test_kills_duplicates_and_disorder_change_no_number(folder: Path) -> None:
    report = DemoReport()
    with ExitStack() as stack:
        stage = Disturbed(folder, cast.build(3, datetime.now(UTC).replace(microsecond=0)), lambda _: None, stack)
        stage.open()
        stage.play()
        stage.read(report)
        assert report.differences == []
        assert report.checked_outcomes > 800 and report.checked_rows > 30
        assert read_all(kafka_settings(stage.kafka.bootstrap_servers), DEAD) == []
        secrets_nowhere(stage)
        codes = stage.supervisor.stop()
    assert codes == {"matcher": 0, "fetcher": 0, "aggregator": 0, "portal": 0}


def secrets_nowhere(stage: EmbeddedStage) -> None:
    """No password, address or subject of the world in any log, topic (inquiries aside) or table."""
    kafka = kafka_settings(stage.kafka.bootstrap_servers)
    logs = b"".join(file.read_bytes() for file in (stage.folder / "services").glob("*.log"))
    topics = b"".join(
        (record.key or b"") + (record.value or b"")
        for name in (SENT, REPLIES, DEAD)
        for record in read_all(kafka, name)
    )
    assert read_all(kafka, INQUIRIES)
    with connect(stage.dsn, "tests") as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables"
            " WHERE table_schema IN ('registry', 'ledger', 'report_v1', 'replyrate')"
        ).fetchall()
        rows = b"".join(
            str(connection.execute(f'SELECT json_agg(t)::text FROM "{schema}"."{name}" t'.encode()).fetchone()).encode()
            for schema, name in tables
        )
    assert logs and topics and rows
    canaries = [mailbox.password for mailbox in stage.world.mailboxes] + [
        mailbox.address for mailbox in stage.world.mailboxes
    ]
    canaries += [address for inquiry in stage.world.inquiries for address in inquiry.addresses]
    for canary in canaries:
        text = canary.encode()
        assert text not in logs and text not in topics and text not in rows and text.hex().encode() not in rows
