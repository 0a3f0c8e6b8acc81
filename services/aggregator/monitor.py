"""Health pages, the gauges that are the same on every aggregator, and the watermark.

Three probes run in threads of their own: Postgres and Kafka for the health pages and gauges, and the pipeline for the
watermark of each partition (watermark.py decides).
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
from services.common.settings import AggregatorConfig
from services.common.topics import DEAD, DEAD_GROUP, INQUIRIES, REPLIES, SENT
from services.dead_letters import progress

SQL: Final = load_statements("services.aggregator", "monitor.sql")
INPUTS: Final = (INQUIRIES, SENT)


class _Clients(NamedTuple):
    """What the watermark is observed with: offsets of the ledger and of the topics."""

    connection: psycopg.Connection
    admin: Admin


class Monitor:
    """The state of this aggregator: both loops beat here, and ingest stores its consumer `positions` by partition."""

    def __init__(self, settings: AggregatorConfig) -> None:
        self.ingest = Heartbeat(STUCK_SECONDS)
        self.refresh = Heartbeat(STUCK_SECONDS)
        self.positions: Mapping[int, int] = {}
        self._merged: dict[tuple[str, int], int] | None = None
        self._progress = ConsumerProgress("record was merged")
        self._matcher_group = settings.matcher.app_id
        self._watermarks: defaultdict[int, PartitionWatermark] = defaultdict(PartitionWatermark)
        dsn = settings.postgres.dsn.get_secret_value()

        @contextmanager
        def clients() -> Iterator[_Clients]:
            with connect(dsn, "replyrate-aggregator-watermark") as connection:
                with Admin(settings.kafka, "replyrate-aggregator-watermark") as admin:
                    yield _Clients(connection, admin)

        self._kafka = DependencyProbe(
            "aggregator",
            "kafka",
            lambda: Admin(settings.kafka, "replyrate-aggregator-probe"),
            self._probe_kafka,
            failed=self._progress.unknown,
        )
        self._postgres = DependencyProbe(
            "aggregator", "postgres", lambda: connect(dsn, "replyrate-aggregator-probe"), self._probe_postgres
        )
        self._pipeline = DependencyProbe("aggregator", "any", clients, self._advance_watermarks)

    def beat(self) -> None:
        """Both loops are alive while they wait for dependencies at the start."""
        self.ingest.beat()
        self.refresh.beat()

    def healthy(self) -> Problems:
        """Reasons why the process is not healthy."""
        return [
            *self.ingest.problems("ingest"),
            *self.refresh.problems("refresh"),
            *self._progress.problems(),
        ]

    def ready(self) -> Problems:
        """Reasons why the process is not ready."""
        unassigned = [] if self.positions else ["no partition is assigned"]
        return [*self._postgres.problems(), *self._kafka.problems(), *unassigned]

    @contextmanager
    def probing_dependencies(self) -> Iterator[None]:
        """Probe Postgres and Kafka until the block ends."""
        health.report_lag(
            "aggregator", self.healthy, self.ready, lambda: max(self.ingest.age_seconds, self.refresh.age_seconds)
        )
        with self._postgres, self._kafka:
            yield

    @contextmanager
    def advancing_watermark(self) -> Iterator[None]:
        """Advance the watermarks until the block ends. Enter it only after the schema has been checked."""
        with self._pipeline:
            yield

    def _probe_postgres(self, connection: psycopg.Connection) -> None:
        with translate():
            offsets = connection.execute(SQL["merged_offsets"], {"topic": REPLIES}).fetchall()
            refresh_lag = connection.execute(SQL["refresh_lag"]).fetchone()
            # Read here, so that the gauge grows also while Kafka does not answer.
            watermark_lag = watermark.max_lag_seconds(connection)
        self._merged = {(REPLIES, partition): next_offset for partition, next_offset in offsets}
        assert refresh_lag is not None
        refresh_age, settle_lag = refresh_lag
        if refresh_age is not None:
            metrics.REFRESH_AGE_SECONDS.set(refresh_age)
        metrics.SETTLE_LAG_SECONDS.set(settle_lag)
        metrics.PIPELINE_AGE_SECONDS.set(watermark_lag)

    def _probe_kafka(self, admin: Admin) -> None:
        spans = admin.spans((REPLIES, DEAD))
        letters = {position: span for position, span in spans.items() if position[0] == DEAD}
        states = {position: span for position, span in spans.items() if position[0] == REPLIES}
        try:
            waiting = progress.open_letters(letters, admin.commits(DEAD_GROUP))
            metrics.DEAD_LETTERS_WAITING.set(sum(end - start for spans in waiting.values() for start, end in spans))
        except ConfigError:
            # The operators' consumer group: the broker's access rules may hide it, and nothing here depends on it.
            metrics.DEAD_LETTERS_WAITING.set(math.nan)
        if self._merged is not None:
            metrics.LAG_RECORDS.set(sum(health.behind(states, self._merged).values()))
        # By the reader's position and not the ledger's: records removed by compaction at the end are never merged.
        own = {(REPLIES, partition): position for partition, position in self.positions.items()}
        lag = health.behind({position: span for position, span in states.items() if position in own}, own)
        self._progress.note(any(records > UNREAD for records in lag.values()), own)

    def _advance_watermarks(self, clients: _Clients) -> None:
        """Observe every partition once and store the watermarks that have moved."""
        with translate():
            now, merged = watermark.merged_offsets(clients.connection, REPLIES)
        committed = clients.admin.committed(self._matcher_group)
        spans = clients.admin.spans((*INPUTS, REPLIES))
        passed = {}
        for partition in sorted(partition for topic, partition in spans if topic == REPLIES):
            observation = Observation(
                at=now,
                merged=merged.get(partition, 0),
                committed={topic: committed[topic, partition] for topic in INPUTS if (topic, partition) in committed},
                inputs={topic: spans[topic, partition] for topic in INPUTS},
                replies=spans[REPLIES, partition],
            )
            if (passed_at := self._watermarks[partition].advance(observation)) is not None:
                passed[partition] = passed_at
        with translate():
            watermark.store(clients.connection, passed)
