"""`python -m services.aggregator`: keeps the ledger and the rates in Postgres up to date, until SIGTERM.

1. main         read settings and rule sets, serve the health pages, wait for Postgres and Kafka and check schema and topics
2. run_loops    run the loops, each in a thread that retries while Kafka or Postgres are away:
     ingest     inquiry-replies.v1 → ledger (ingest/sink.py)
     refresh    ledger → outcomes and rates (refresh/refresh.py)
     archive    final units → Parquet files (archive/archiver.py), if a folder is set
   and advance the watermark (monitor.py)
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from logging import getLogger

from services.aggregator.archive.archiver import Archiver, warn_without_folder
from services.aggregator.archive.files import ArchiveFolder, archive_folder
from services.aggregator.ingest.ledger import Ledger
from services.aggregator.ingest.sink import Sink
from services.aggregator.judge import rules
from services.aggregator.judge.rules import RuleSet
from services.aggregator.monitor import Monitor
from services.aggregator.refresh.refresh import Refresher
from services.aggregator.refresh.trace_handoff import TraceHandoff
from services.common import http, lifecycle, logs, retry, tracing, verify
from services.common.errors import ConfigError
from services.common.health import STUCK_SECONDS
from services.common.kafka import Admin, Publisher, Reader
from services.common.lifecycle import Heartbeat, Stop
from services.common.postgres import connect
from services.common.settings import AggregatorConfig, load_settings
from services.common.topics import DEAD, INQUIRIES, REPLIES, SENT
from services.common.version import version

log = getLogger("services.aggregator")


def main() -> None:
    """Run the aggregator until a signal."""
    settings = load_settings(os.environ, AggregatorConfig)
    logs.configure(settings.log.format, settings.log.level, "aggregator")
    for warning in settings.warnings:
        log.warning("%s", warning, extra={"action": "setting-unknown"})
    rule_sets = [rules.load(name, settings.aggregator.rules_dir) for name in settings.aggregator.rule_sets]
    for rule_set in rule_sets:
        rules.check_horizon(rule_set, settings.horizon_days)
    check_archive(settings, rule_sets)
    stop = Stop()
    monitor = Monitor(settings)
    with (
        lifecycle.on_signals(stop, lifecycle.STOP_SECONDS),
        tracing.tracer_for(settings.telemetry, "aggregator", version()) as tracer,
        monitor.probing_dependencies(),
        http.serve(settings.http, "aggregator", monitor.healthy, monitor.ready),
    ):
        dependencies: tuple[tuple[str, Callable[[], None]], ...] = (
            ("postgres", lambda: verify.schema(settings.postgres, "replyrate-aggregator-check")),
            ("kafka", lambda: verify_kafka(settings)),
        )
        if all(
            retry.until_answers(stop, dependency, check, service="aggregator", beat=monitor.beat)
            for dependency, check in dependencies
        ):
            run_loops(settings, rule_sets, stop, monitor, TraceHandoff(tracer))
    log.info("stopped", extra={"action": "service-stopped"})


def verify_kafka(settings: AggregatorConfig) -> None:
    """ConfigError if a topic is missing or misconfigured, or if this user lacks a right that the aggregator needs."""
    verify.topics(settings, "replyrate-aggregator-check", (INQUIRIES, SENT, REPLIES, DEAD))
    verify.matcher_group(settings.kafka, settings.matcher.app_id, "replyrate-aggregator-check")


def run_loops(
    settings: AggregatorConfig, rule_sets: list[RuleSet], stop: Stop, monitor: Monitor, traces: TraceHandoff
) -> None:
    """Run ingest and refresh, a thread each, until `stop`. Raises the error that ended one of them."""
    failures: list[BaseException] = []

    def loop(name: str, heartbeat: Heartbeat, run: Callable[[], None]) -> threading.Thread:
        def target() -> None:
            try:
                retry.run_until_stopped(stop, "any", run, service="aggregator", beat=heartbeat.beat)
            except BaseException as error:
                failures.append(error)
                stop.set()

        return threading.Thread(target=target, name=name, daemon=True)

    threads = [
        loop("ingest", monitor.ingest, lambda: ingest(settings, stop, monitor, traces)),
        loop("refresh", monitor.refresh, lambda: refresh(settings, rule_sets, stop, monitor.refresh, traces)),
    ]
    if (folder := archive_folder(settings.aggregator)) is not None:
        # It may wait for a disk; nothing else waits for it.
        threads.append(loop("archive", Heartbeat(STUCK_SECONDS), lambda: archive(settings, folder, stop)))
    with monitor.advancing_watermark():
        for thread in threads:
            thread.start()
        log.info("merging and judging", extra={"action": "service-started", "rule_sets": len(rule_sets)})
        # The main thread runs no loop itself: it receives the signals, also while a statement or a broker hangs.
        stop.wait_for_ever()
        log.info("stopping; finishing the current work", extra={"action": "service-stopping"})
        lifecycle.finish(threads)
    if failures:
        raise failures[0]


def check_archive(settings: AggregatorConfig, rule_sets: list[RuleSet]) -> None:
    """ConfigError when units cannot be archived as the settings say."""
    keep_days = settings.aggregator.keep_units_days
    if keep_days is None:
        return
    if settings.aggregator.archive_dir is None:
        raise ConfigError(
            "REPLYRATE_AGGREGATOR__KEEP_UNITS_DAYS needs REPLYRATE_AGGREGATOR__ARCHIVE_DIR; set it to the folder of the archive"
        )
    rules.check_kept(rule_sets, settings.horizon_days, keep_days)


def archive(settings: AggregatorConfig, folder: ArchiveFolder, stop: Stop) -> None:
    """Run the archive loop with a new connection."""
    with connect(settings.postgres.dsn.get_secret_value(), "replyrate-aggregator-archive") as connection:
        Archiver(connection, folder, settings.aggregator.keep_units_days).run(stop, time.monotonic)


def ingest(settings: AggregatorConfig, stop: Stop, monitor: Monitor, traces: TraceHandoff) -> None:
    """Run the ingest loop with new clients."""
    kafka, aggregator = settings.kafka, settings.aggregator
    with ExitStack() as stack:
        connection = stack.enter_context(connect(settings.postgres.dsn.get_secret_value(), "replyrate-aggregator"))
        publisher = stack.enter_context(Publisher(kafka, "replyrate-aggregator"))
        admin = stack.enter_context(Admin(kafka, "replyrate-aggregator-admin"))
        reader = stack.enter_context(
            Reader(
                kafka,
                "replyrate-aggregator",
                REPLIES,
                group=aggregator.group,
                session_timeout_seconds=aggregator.session_timeout_seconds,
            )
        )
        stack.callback(lambda: setattr(monitor, "positions", {}))
        sink = Sink(
            reader,
            Ledger(connection, REPLIES),
            publisher,
            version=version(),
            topic_id=lambda: admin.topic_id(REPLIES),
            clock=lambda: datetime.now(UTC),
            monotonic=time.monotonic,
            traces=traces,
        )
        reader.subscribe()
        while not stop.is_set():
            monitor.ingest.beat()
            sink.step(0.5)
            monitor.positions = sink.positions()


def refresh(
    settings: AggregatorConfig, rule_sets: list[RuleSet], stop: Stop, heartbeat: Heartbeat, traces: TraceHandoff
) -> None:
    """Run the refresh loop with a new connection."""
    with connect(settings.postgres.dsn.get_secret_value(), "replyrate-aggregator-refresh") as connection:
        if settings.aggregator.archive_dir is None:
            warn_without_folder(connection)
        refresher = Refresher(
            connection,
            rule_sets,
            partitions=settings.kafka.partitions,
            traces=traces,
            archive=archive_folder(settings.aggregator),
        )
        refresher.activate()
        refresher.run(stop, heartbeat, settings.aggregator.refresh_interval_seconds)


if __name__ == "__main__":
    sys.exit(lifecycle.run(main))
