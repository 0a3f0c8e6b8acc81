"""`python -m services.matcher`: joins sent messages with inquiries, until SIGTERM."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from logging import getLogger

from services.common import health, http, lifecycle, logs, metrics, retry, tracing, verify
from services.common.clocks import boot_seconds
from services.common.hashing import Hasher
from services.common.health import STUCK_SECONDS, UNREAD, ConsumerProgress, DependencyProbe, Problems
from services.common.kafka import Admin
from services.common.lifecycle import Heartbeat, Stop
from services.common.settings import MatcherConfig, load_settings
from services.common.topics import INQUIRIES, SENT
from services.common.tracing import Tracer
from services.common.version import version
from services.matcher.host import Clocks, Matcher

log = getLogger("services.matcher")


def main() -> None:
    """Load the settings, configure the logs, serve health and metrics, check the topics, then run the loop."""
    settings = load_settings(os.environ, MatcherConfig)
    logs.configure(settings.log.format, settings.log.level, "matcher")
    for warning in settings.warnings:
        log.warning("%s", warning, extra={"action": "setting-unknown"})
    hasher = Hasher(settings.hash_key())
    stop = Stop()
    # Faust may wait for ever for a stream that does not become idle; then the process ends and the batch is read again.
    with (
        lifecycle.on_signals(stop, lifecycle.STOP_SECONDS),
        tracing.tracer_for(settings.telemetry, "matcher", version()) as tracer,
    ):
        asyncio.run(work(settings, hasher, stop, tracer))
    log.info("stopped", extra={"action": "service-stopped"})


async def work(settings: MatcherConfig, hasher: Hasher, stop: Stop, tracer: Tracer) -> None:
    """Serve health and metrics, and run the loop once Kafka has answered."""
    heartbeat = Heartbeat(STUCK_SECONDS)
    matcher = Matcher(
        settings.kafka,
        settings.matcher,
        hasher,
        horizon_days=settings.horizon_days,
        version=version(),
        clocks=Clocks(lambda: datetime.now(UTC), boot_seconds),
        heartbeat=heartbeat,
        tracer=tracer,
    )
    progress = ConsumerProgress("offset was committed")

    def unknown() -> None:
        progress.unknown()
        matcher.stall.unknown()

    probe = DependencyProbe(
        "matcher",
        "kafka",
        lambda: Admin(settings.kafka, "replyrate-matcher-probe"),
        lambda admin: measure_lag(admin, settings.matcher.app_id, matcher, progress),
        failed=unknown,
    )

    def healthy() -> Problems:
        return [*heartbeat.problems("join"), *progress.problems()]

    def ready() -> Problems:
        return [*probe.problems(), *matcher.not_ready()]

    health.report_lag("matcher", healthy, ready, lambda: heartbeat.age_seconds)
    with probe, http.serve(settings.http, "matcher", healthy, ready):
        # Blocks the event loop, in which nothing else runs yet; health and metrics are served by threads of their own.
        if retry.until_answers(
            stop, "kafka", lambda: verify_kafka(settings, hasher), service="matcher", beat=heartbeat.beat
        ):
            await matcher.run(stop)


def verify_kafka(settings: MatcherConfig, hasher: Hasher) -> None:
    """ConfigError with the fix when a topic is missing or differs, or the fetcher hashes with another key."""
    client = "replyrate-matcher-check"
    verify.topics(settings, client)
    verify.hash_key_of_messages(settings.kafka, hasher, client)


def measure_lag(admin: Admin, group: str, matcher: Matcher, progress: ConsumerProgress) -> None:
    """Read the group's consumer position from the broker: the whole group for the gauges, our partitions for our health."""
    assigned = matcher.partitions()
    committed = admin.committed(group)
    lag = health.behind(admin.spans((INQUIRIES, SENT)), committed)
    for topic in (INQUIRIES, SENT):
        metrics.MATCHER_LAG_RECORDS.labels(topic).set(sum(lag[tp] for tp in lag if tp[0] == topic))
    positions = {tp: committed.get(tp, 0) for tp in lag if tp[1] in assigned}
    progress.note(any(lag[tp] > UNREAD for tp in positions), positions)
    readable = health.behind(admin.spans((INQUIRIES, SENT), readable=True), committed)
    matcher.note_lag(any(readable[tp] > UNREAD for tp in positions if tp in readable), positions)


if __name__ == "__main__":
    sys.exit(lifecycle.run(main))
