"""What the aggregator's health pages know, the gauges that are the same on every aggregator, and the pipeline's passage."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Final, NamedTuple

import psycopg

from services.aggregator.judge import watermark
from services.aggregator.judge.watermark import Observation, PartitionWatermark
from services.common import health, metrics
from services.common.errors import ConfigError
from services.common.health import STUCK_SECONDS, UNREAD, ConsumerProgress, DependencyProbe, Problems
from services.common.kafka import Admin
from services.common.lifecycle import Heartbeat
from services.common.postgres import connect, load_statements, translate
from services.common.settings import Settings
from services.common.topics import DEAD, DEAD_GROUP, INQUIRIES, REPLIES, SENT
from services.dead_letters import progress

SQL: Final = load_statements("services.aggregator", "monitor.sql")
INPUTS: Final = (INQUIRIES, SENT)


class _Clients(NamedTuple):
    """What the passage needs: where the ledger stands, where the topics do."""

    connection: psycopg.Connection
    admin: Admin


class Monitor:
    """The two loops beat here; `positions` says where ingest reads which of its partitions next."""

    def __init__(self, settings: Settings) -> None:
        self.ingest = Heartbeat(STUCK_SECONDS)
        self.refresh = Heartbeat(STUCK_SECONDS)
        self.positions: Mapping[int, int] = {}
        self._offsets: dict[tuple[str, int], int] | None = None
        self._progress = ConsumerProgress("record was merged")
        dsn = settings.postgres.dsn.get_secret_value()
        self._kafka = DependencyProbe(
            "aggregator",
            "kafka",
            lambda: Admin(settings.kafka, "replyrate-aggregator-probe"),
            self._ask_kafka,
            failed=self._progress.unknown,
        )
        self._postgres = DependencyProbe(
            "aggregator", "postgres", lambda: connect(dsn, "replyrate-aggregator-probe"), self._ask_postgres
        )
        self._group = settings.matcher.app_id
        self._passages: defaultdict[int, PartitionWatermark] = defaultdict(PartitionWatermark)

        @contextmanager
        def both() -> Iterator[_Clients]:
            with connect(dsn, "replyrate-aggregator-passage") as connection:
                with Admin(settings.kafka, "replyrate-aggregator-passage") as admin:
                    yield _Clients(connection, admin)

        self._pipeline = DependencyProbe("aggregator", "any", both, self._ask_pipeline)

    def beat(self) -> None:
        """Both loops wait for what must answer before they begin, and so do not stand still."""
        self.ingest.beat()
        self.refresh.beat()

    def healthy(self) -> Problems:
        """Why it is not healthy."""
        return [
            *self.ingest.problems("ingest"),
            *self.refresh.problems("refresh"),
            *self._progress.problems(),
        ]

    def ready(self) -> Problems:
        """Why it is not ready."""
        assigned = [] if self.positions else ["no partition is assigned"]
        return [*self._postgres.problems(), *self._kafka.problems(), *assigned]

    @contextmanager
    def probing_dependencies(self) -> Iterator[None]:
        """Ask Postgres and Kafka until the block ends."""
        health.report_lag(
            "aggregator", self.healthy, self.ready, lambda: max(self.ingest.age_seconds, self.refresh.age_seconds)
        )
        with self._postgres, self._kafka:
            yield

    @contextmanager
    def advancing_watermark(self) -> Iterator[None]:
        """Note the pipeline's passage until the block ends; not before the schema is known to be the right one."""
        with self._pipeline:
            yield

    def _ask_postgres(self, connection: psycopg.Connection) -> None:
        with translate():
            rows = connection.execute(SQL["offsets"], {"topic": REPLIES}).fetchall()
            settled = connection.execute(SQL["settled"]).fetchone()
            # Here, so that it grows also while Kafka cannot be asked.
            age = connection.execute(watermark.SQL["age"]).fetchone()
        self._offsets = {(REPLIES, partition): offset for partition, offset in rows}
        assert settled is not None
        if settled[0] is not None:
            metrics.REFRESH_AGE_SECONDS.set(settled[0])
        metrics.SETTLE_LAG_SECONDS.set(settled[1])
        assert age is not None
        metrics.PIPELINE_AGE_SECONDS.set(age[0])

    def _ask_kafka(self, admin: Admin) -> None:
        spans = admin.spans((REPLIES, DEAD))
        letters = {where: span for where, span in spans.items() if where[0] == DEAD}
        states = {where: span for where, span in spans.items() if where[0] == REPLIES}
        try:
            open_ = progress.waiting(letters, admin.commits(DEAD_GROUP))
            metrics.DEAD_LETTERS_WAITING.set(sum(b - a for spans in open_.values() for a, b in spans))
        except ConfigError:
            # Another group than ours: a broker's access rules may keep it from us, and nothing here depends on it.
            metrics.DEAD_LETTERS_WAITING.set(math.nan)
        if self._offsets is not None:
            metrics.LAG_RECORDS.set(sum(health.behind(states, self._offsets).values()))
        # By the reader's position and not the ledger's: what compaction removed at the end is never merged.
        own = {(REPLIES, partition): position for partition, position in self.positions.items()}
        lag = health.behind({where: span for where, span in states.items() if where in own}, own)
        self._progress.note(any(records > UNREAD for records in lag.values()), own)

    def _ask_pipeline(self, both: _Clients) -> None:
        """Each partition's passage, noted by one look and written down."""
        with translate():
            rows = both.connection.execute(watermark.SQL["merged"], {"topic": REPLIES}).fetchall()
        now: datetime = rows[0][0]
        merged = {partition: offset for _, partition, offset in rows}
        committed = both.admin.committed(self._group)
        spans = both.admin.spans((*INPUTS, REPLIES))
        passed = {}
        for partition in sorted(partition for topic, partition in spans if topic == REPLIES):
            look = Observation(
                at=now,
                merged=merged.get(partition, 0),
                committed={topic: committed[topic, partition] for topic in INPUTS if (topic, partition) in committed},
                inputs={topic: spans[topic, partition] for topic in INPUTS},
                replies=spans[REPLIES, partition],
            )
            if (at := self._passages[partition].note(look)) is not None:
                passed[partition] = at
        values = {"partitions": [*passed], "instants": [*passed.values()]}
        with translate():
            both.connection.execute(watermark.SQL["passed"], values)
