"""`python -m services.portal.console`: the pages of the platform's staff, until SIGTERM.

A process of its own beside the one that sellers reach (docs/decisions/0091), with a login of its own. It has no key of the installation
and no way to a mail server.
"""

import os
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime
from logging import getLogger

from services.common import health, http, lifecycle, logs, retry, verify
from services.common.health import DependencyProbe, Problems
from services.common.lifecycle import Stop
from services.common.postgres import connect
from services.common.settings import ConsoleConfig, load_settings
from services.portal.console.app import create_console
from services.portal.console.long_work import LongWork
from services.portal.console.resources import ConsoleResources
from services.portal.database import TokenDatabase
from services.portal.web_server import NOT_YET, ListeningPlace, serve

log = getLogger("services.portal.console")


def main() -> None:
    """Answer requests until a signal."""
    settings = load_settings(os.environ, ConsoleConfig)
    logs.configure(settings.log.format, settings.log.level, "console")
    for warning in settings.warnings:
        log.warning("%s", warning, extra={"action": "setting-unknown"})
    stop = Stop()
    console = settings.console
    dsn = settings.postgres.dsn.get_secret_value()
    postgres = DependencyProbe(
        "console", "postgres", lambda: closing(connect(dsn, "replyrate-console-health")), lambda client: client.execute("SELECT 1")
    )  # fmt: skip
    answering = threading.Event()

    def ready() -> Problems:
        return postgres.problems() + ([] if answering.is_set() else [NOT_YET])

    health.report_lag("console", list, ready)
    with (
        lifecycle.on_signals(stop, lifecycle.STOP_SECONDS),
        postgres,
        http.serve(settings.http, "console", list, ready),
        closing(TokenDatabase(dsn, console.connections, "replyrate-console")) as database,
        closing(LongWork()) as work,
    ):
        if retry.until_answers(
            stop, "postgres", lambda: verify.schema(settings.postgres, "replyrate-console-check"), service="console"
        ):
            resources = ConsoleResources(settings, database, lambda: datetime.now(UTC), work)
            place = ListeningPlace("CONSOLE", console.host, console.port, console.public_url)
            serve(create_console(resources), place, stop, answering)
    log.info("stopped", extra={"action": "service-stopped"})


if __name__ == "__main__":
    sys.exit(lifecycle.run(main))
