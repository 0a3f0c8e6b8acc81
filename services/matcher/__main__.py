"""`python -m services.matcher`: joins what was sent with what was asked, until SIGTERM."""

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from logging import getLogger

from services.common import http, lifecycle, logs, verify
from services.common.hashing import Hasher
from services.common.lifecycle import Heartbeat, Stop
from services.common.settings import Settings, load_settings
from services.common.version import version
from services.matcher.app import STUCK_SECONDS, Matcher

log = getLogger("services.matcher")


def main() -> None:
    """Settings → logs → topics checked → the loop, until a signal."""
    settings = load_settings(os.environ)
    logs.configure(settings.log.format, settings.log.level, "matcher")
    for warning in settings.warnings:
        log.warning("%s", warning, extra={"action": "setting-unknown"})
    hasher = Hasher(settings.hash_key())
    stop = Stop()
    with lifecycle.on_signals(stop):
        if lifecycle.until_answers(stop, "kafka", lambda: verify.topics(settings, "replyrate-matcher-check")):
            asyncio.run(work(settings, hasher, stop))
    log.info("stopped", extra={"action": "service-stopped"})


async def work(settings: Settings, hasher: Hasher, stop: Stop) -> None:
    """Run the loop with its health pages."""
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
    )
    with http.serve(settings.http.port, heartbeat.alive, matcher.ready, host=settings.http.host):
        await matcher.run(stop)


if __name__ == "__main__":
    sys.exit(lifecycle.run(main))
