"""`python -m services.matcher`: joins what was sent with what was asked, until SIGTERM."""

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from logging import getLogger

from services.common import health, http, lifecycle, logs, metrics, telemetry, verify
from services.common.hashing import Hasher
from services.common.health import STUCK_SECONDS, UNREAD, ConsumerProgress, DependencyProbe, Problems
from services.common.kafka import Admin
from services.common.lifecycle import Heartbeat, Stop
from services.common.settings import Settings, load_settings
from services.common.telemetry import Tracing
from services.common.topics import INQUIRIES, SENT
from services.common.version import version
from services.matcher.host import Matcher

log = getLogger("services.matcher")


def main() -> None:
    """Settings → logs → pages → topics checked → the loop, until a signal."""
    settings = load_settings(os.environ)
    logs.configure(settings.log.format, settings.log.level, "matcher")
    for warning in settings.warnings:
        log.warning("%s", warning, extra={"action": "setting-unknown"})
    hasher = Hasher(settings.hash_key())
    stop = Stop()
    # Faust may wait for ever for a stream that does not come to rest; the batch is replayed then.
    with (
        lifecycle.on_signals(stop, lifecycle.STOP_SECONDS),
        telemetry.telling(settings.telemetry, "matcher", version()) as tracing,
    ):
        asyncio.run(work(settings, hasher, stop, tracing))
    log.info("stopped", extra={"action": "service-stopped"})


async def work(settings: Settings, hasher: Hasher, stop: Stop, tracing: Tracing) -> None:
    """Serve the pages, and run the loop once Kafka has answered."""
    heartbeat = Heartbeat(STUCK_SECONDS)
    matcher = Matcher(
        settings.kafka,
        settings.matcher,
        hasher,
        horizon_days=settings.horizon_days,
        version=version(),
        clock=lambda: datetime.now(UTC),
        monotonic=time.monotonic,
        heartbeat=heartbeat,
        tracing=tracing,
    )
    progress = ConsumerProgress("offset was committed")
    probe = DependencyProbe(
        "matcher",
        "kafka",
        lambda: Admin(settings.kafka, "replyrate-matcher-probe"),
        lambda admin: look(admin, settings.matcher.app_id, matcher.partitions(), progress),
        failed=progress.unknown,
    )

    def healthy() -> Problems:
        return [*heartbeat.problems("join"), *progress.problems()]

    def ready() -> Problems:
        return [*probe.problems(), *matcher.not_ready()]

    health.report_lag("matcher", healthy, ready, lambda: heartbeat.age_seconds)
    with probe, http.serve(settings.http.port, healthy, ready, host=settings.http.host):
        # Nothing else runs in this event loop yet, and the pages have threads of their own.
        if lifecycle.until_answers(
            stop, "kafka", lambda: verify.topics(settings, "replyrate-matcher-check"), heartbeat.beat
        ):
            await matcher.run(stop)


def look(admin: Admin, group: str, mine: frozenset[int], progress: ConsumerProgress) -> None:
    """How far the group is, as the broker knows it: for the gauges all of it, for our health our partitions."""
    at = admin.committed(group)
    lag = health.behind(admin.spans((INQUIRIES, SENT)), at)
    for topic in (INQUIRIES, SENT):
        metrics.MATCHER_LAG_RECORDS.labels(topic).set(sum(lag[where] for where in lag if where[0] == topic))
    own = {where: at.get(where, 0) for where in lag if where[1] in mine}
    progress.note(any(lag[where] > UNREAD for where in own), own)


if __name__ == "__main__":
    sys.exit(lifecycle.run(main))
