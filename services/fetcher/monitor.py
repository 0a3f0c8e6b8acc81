"""The health of a fetcher: probes of Postgres and Kafka, and what `/healthz`, `/readyz` and `/metrics` show of the mailboxes."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from services.common import health, metrics
from services.common.health import STUCK_SECONDS, ConsumerProgress, DependencyProbe, Problems
from services.common.kafka import Admin
from services.common.postgres import connect
from services.common.settings import FetcherConfig
from services.common.topics import SENT
from services.fetcher.workers import Workers
from services.registry import waiting_mailboxes
from services.registry.states import STATES


class FetcherMonitor:
    """Watches the workers and the dependencies of this process."""

    def __init__(self, settings: FetcherConfig, workers: Workers) -> None:
        self._workers = workers
        self._progress = ConsumerProgress("poll ended", what_waits="mailboxes")
        dsn = settings.postgres.dsn.get_secret_value()
        self._postgres = DependencyProbe(
            "fetcher",
            "postgres",
            lambda: connect(dsn, "replyrate-fetcher-probe"),
            self._measure_mailboxes,
            failed=self._progress.unknown,
        )
        self._kafka = DependencyProbe(
            "fetcher",
            "kafka",
            lambda: Admin(settings.kafka, "replyrate-fetcher-probe"),
            lambda admin: admin.spans((SENT,)),
        )

    @contextmanager
    def probing_dependencies(self) -> Iterator[None]:
        """Probe Postgres and Kafka until the block ends."""
        health.report_lag("fetcher", self.healthy, self.ready, lambda: self._workers.slowest.age_seconds)
        with self._postgres, self._kafka:
            yield

    def healthy(self) -> Problems:
        """Why the process is not healthy: a worker hangs (its thread is lost), or mailboxes wait and none is polled."""
        return [*self._workers.slowest.problems("poll"), *self._progress.problems()]

    def ready(self) -> Problems:
        """Why the process is not ready."""
        starting = [] if self._workers.started else ["starting: schema and topics have not been checked yet"]
        return [*self._postgres.problems(), *self._kafka.problems(), *starting]

    def _measure_mailboxes(self, connection: psycopg.Connection) -> None:
        """Mailboxes by state and how long they wait, from the registry: the same on every fetcher."""
        waiting = waiting_mailboxes.measure(connection)
        for state in STATES:
            metrics.MAILBOXES.labels(state).set(waiting.states.get(state, 0))
        metrics.POLL_DELAY_SECONDS.set(waiting.delay_seconds)
        metrics.POLL_AGE_SECONDS.set(waiting.age_seconds)
        # A mailbox that is due goes to any free worker: a process that ends no poll while one waits for long is stuck.
        polls = sum(sample.value for family in metrics.POLLS.collect() for sample in family.samples)
        self._progress.note(waiting.delay_seconds > STUCK_SECONDS, polls)
