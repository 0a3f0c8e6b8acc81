"""`python -m services.aggregator`: keeps the ledger and the rates in Postgres, until SIGTERM."""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from logging import getLogger

from services.aggregator.ingest.ledger import Ledger
from services.aggregator.ingest.sink import Sink
from services.aggregator.judge import rules
from services.aggregator.judge.rules import RuleSet
from services.aggregator.monitor import Monitor
from services.aggregator.refresh.refresh import Refresher
from services.aggregator.refresh.trace_handoff import TraceHandoff
from services.common import http, lifecycle, logs, retry, tracing, verify
from services.common.kafka import Admin, Publisher, Reader
from services.common.lifecycle import Heartbeat, Stop
from services.common.postgres import connect
from services.common.settings import Settings, load_settings
from services.common.topics import DEAD, INQUIRIES, REPLIES, SENT
from services.common.version import version

log = getLogger("services.aggregator")


def main() -> None:
    """Settings → logs → rule sets → pages → schema and topics checked → ingest and refresh, until a signal."""
    settings = load_settings(os.environ)
    logs.configure(settings.log.format, settings.log.level, "aggregator")
    for warning in settings.warnings:
        log.warning("%s", warning, extra={"action": "setting-unknown"})
    rule_sets = [rules.load(name, settings.aggregator.rules_dir) for name in settings.aggregator.rule_sets]
    for rule_set in rule_sets:
        rules.check_horizon(rule_set, settings.horizon_days)
    stop = Stop()
    watch = Monitor(settings)
    with (
        lifecycle.on_signals(stop, lifecycle.STOP_SECONDS),
        tracing.tracer_for(settings.telemetry, "aggregator", version()) as tracer,
        watch.probing_dependencies(),
        http.serve(settings.http.port, watch.healthy, watch.ready, host=settings.http.host),
    ):
        dependencies: tuple[tuple[str, Callable[[], None]], ...] = (
            ("postgres", lambda: verify.schema(settings, "replyrate-aggregator-check")),
            ("kafka", lambda: verify_kafka(settings)),
        )
        if all(
            retry.until_answers(stop, dependency, check, service="aggregator", beat=watch.beat)
            for dependency, check in dependencies
        ):
            work(settings, rule_sets, stop, watch, TraceHandoff(tracer))
    log.info("stopped", extra={"action": "service-stopped"})


def verify_kafka(settings: Settings) -> None:
    """ConfigError when a topic is missing or differs, or when Kafka does not let this user see what it must."""
    verify.topics(settings, "replyrate-aggregator-check", (INQUIRIES, SENT, REPLIES, DEAD))
    verify.matcher_group(settings, "replyrate-aggregator-check")


def work(settings: Settings, rule_sets: list[RuleSet], stop: Stop, watch: Monitor, merged: TraceHandoff) -> None:
    """Ingest and refresh, a thread each; each begins anew when Kafka or Postgres were away. Raises what ended one."""
    failures: list[BaseException] = []

    def loop(name: str, heartbeat: Heartbeat, run: Callable[[], None]) -> threading.Thread:
        def go_on() -> None:
            try:
                retry.run_until_stopped(stop, "any", run, service="aggregator", beat=heartbeat.beat)
            except BaseException as error:
                failures.append(error)
                stop.set()

        return threading.Thread(target=go_on, name=name, daemon=True)

    threads = (
        loop("ingest", watch.ingest, lambda: sink(settings, stop, watch, merged)),
        loop("refresh", watch.refresh, lambda: settle(settings, rule_sets, stop, watch.refresh, merged)),
    )
    with watch.advancing_watermark():
        for thread in threads:
            thread.start()
        log.info("merging and judging", extra={"action": "service-started", "rule_sets": len(rule_sets)})
        # Not a loop itself: the main thread takes the signals, also while a statement or a broker hangs.
        stop.wait_for_ever()
        log.info("finishing what is in hand", extra={"action": "service-stopping"})
        lifecycle.finish(threads)
    if failures:
        raise failures[0]


def sink(settings: Settings, stop: Stop, watch: Monitor, merged: TraceHandoff) -> None:
    """Ingest with fresh clients."""
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
        stack.callback(lambda: setattr(watch, "positions", {}))
        worker = Sink(
            reader,
            Ledger(connection, REPLIES),
            publisher,
            version=version(),
            topic_id=lambda: admin.topic_id(REPLIES),
            clock=lambda: datetime.now(UTC),
            monotonic=time.monotonic,
            merged=merged,
        )
        reader.subscribe()
        while not stop.is_set():
            watch.ingest.beat()
            worker.step(0.5)
            watch.positions = worker.positions()


def settle(
    settings: Settings, rule_sets: list[RuleSet], stop: Stop, heartbeat: Heartbeat, merged: TraceHandoff
) -> None:
    """Refresh with a fresh connection."""
    with connect(settings.postgres.dsn.get_secret_value(), "replyrate-aggregator-refresh") as connection:
        settler = Refresher(connection, rule_sets, partitions=settings.kafka.partitions, merged=merged)
        settler.activate()
        settler.run(stop, heartbeat, settings.aggregator.refresh_interval_seconds)


if __name__ == "__main__":
    sys.exit(lifecycle.run(main))
