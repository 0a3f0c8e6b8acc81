"""`python -m services.portal`: the web pages for sellers and the HTTP API for platforms, until SIGTERM.

It has no key of the installation and no way to a mail server: what sellers type is sealed for the fetchers (docs/decisions/0070).
"""

import os
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime
from logging import getLogger
from typing import Final

from services.common import health, http, lifecycle, logs, retry, verify
from services.common.health import DependencyProbe, Problems
from services.common.kafka import Publisher
from services.common.lifecycle import Stop
from services.common.postgres import connect
from services.common.settings import PortalConfig, load_settings
from services.inquiries.publication import FactPublisher
from services.portal.app import create_app
from services.portal.database import TokenDatabase
from services.portal.expired_requests import delete_expired
from services.portal.resources import PortalResources
from services.portal.web_server import NOT_YET, ListeningPlace, serve

log = getLogger("services.portal")

DELIVERY_SECONDS: Final = 15.0
"""How long Kafka may take to acknowledge a batch of inquiries; more than one request to a broker takes."""


def main() -> None:
    """Answer requests until a signal."""
    settings = load_settings(os.environ, PortalConfig)
    logs.configure(settings.log.format, settings.log.level, "portal")
    for warning in settings.warnings:
        log.warning("%s", warning, extra={"action": "setting-unknown"})
    stop = Stop()
    dsn = settings.postgres.dsn.get_secret_value()
    postgres = DependencyProbe(
        "portal", "postgres", lambda: closing(connect(dsn, "replyrate-portal-health")), lambda client: client.execute("SELECT 1")
    )  # fmt: skip
    answering = threading.Event()

    def ready() -> Problems:
        return postgres.problems() + ([] if answering.is_set() else [NOT_YET])

    health.report_lag("portal", list, ready)
    with (
        lifecycle.on_signals(stop, lifecycle.STOP_SECONDS),
        postgres,
        http.serve(settings.http, "portal", list, ready),
        closing(TokenDatabase(dsn, settings.portal.connections)) as database,
        closing(
            FactPublisher(lambda: Publisher(settings.kafka, "replyrate-portal", delivery_seconds=DELIVERY_SECONDS))
        ) as facts,
    ):
        if retry.until_answers(
            stop, "postgres", lambda: verify.schema(settings.postgres, "replyrate-portal-check"), service="portal"
        ):
            resources = PortalResources(settings, database, lambda: datetime.now(UTC), facts)
            portal = settings.portal
            expiry = threading.Thread(
                target=retry.run_until_stopped,
                args=(stop, "postgres", lambda: delete_expired(database, stop)),
                kwargs={"service": "portal"},
                name="expired-requests",
                daemon=True,
            )
            expiry.start()
            place = ListeningPlace("PORTAL", portal.host, portal.port, portal.public_url)
            serve(create_app(resources), place, stop, answering)
            lifecycle.finish([expiry])
    log.info("stopped", extra={"action": "service-stopped"})


if __name__ == "__main__":
    sys.exit(lifecycle.run(main))
