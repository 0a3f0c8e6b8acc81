"""`python -m services.portal`: the web pages for sellers and the HTTP API for platforms, until SIGTERM.

It has no key of the installation and no way to a mail server: what sellers type is sealed for the fetchers (docs/decisions/0070).
"""

import os
import socket
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime
from logging import getLogger
from typing import Final

import uvicorn

from services.common import health, http, lifecycle, logs, retry, verify
from services.common.errors import ConfigError
from services.common.health import DependencyProbe, Problems
from services.common.kafka import Publisher
from services.common.lifecycle import Stop
from services.common.postgres import connect
from services.common.settings import PortalConfig, load_settings
from services.inquiries.publication import FactPublisher
from services.portal.app import create_app
from services.portal.database import TokenDatabase
from services.portal.resources import PortalResources

log = getLogger("services.portal")

DELIVERY_SECONDS: Final = 15.0
"""How long Kafka may take to acknowledge a batch of inquiries; more than one request to a broker takes."""
NOT_YET: Final = "starting: requests are not answered yet"


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
            serve(PortalResources(settings, database, lambda: datetime.now(UTC), facts), stop, answering)
    log.info("stopped", extra={"action": "service-stopped"})


def serve(resources: PortalResources, stop: Stop, answering: threading.Event) -> None:
    """Answer requests until `stop`; those in progress are finished. Sets `answering` once the port is open.

    ConfigError when the port cannot be used.
    """
    portal = resources.settings.portal
    listener = bound_listener(portal.host, portal.port)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(resources),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(portal.trusted_proxies),
            forwarded_allow_ips=[str(network) for network in portal.trusted_proxies],
            limit_concurrency=500,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=int(lifecycle.FINISH_SECONDS),
        )
    )
    stop.on_stop(lambda: setattr(server, "should_exit", True))
    log.info("answering requests", extra={"action": "service-started", "url": resources.origin})
    # In a thread of its own: the main thread receives the signals, and uvicorn installs its handlers only there.
    failures: list[BaseException] = []
    thread = threading.Thread(target=_run, args=(server, listener, stop, failures), name="requests", daemon=True)
    with listener:
        thread.start()
        while not (server.started or stop.wait(0.02)):
            pass
        answering.set()
        stop.wait_for_ever()
        log.info("stopping; finishing the current requests", extra={"action": "service-stopping"})
        lifecycle.finish([thread])
    if failures:
        raise failures[0]


def bound_listener(host: str, port: int) -> socket.socket:
    """A socket of that address, on which nothing is answered yet. ConfigError when it cannot be used."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. asyncio does not set it for them, since the protocol of a socket made like this one is 0
    # (asyncio.base_events, _set_nodelay); without it a body that follows its headers waits 40 ms for a delayed ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = (error.strerror or "cannot listen").lower()
        raise ConfigError(f"REPLYRATE_PORTAL__PORT: {reason}; write a port that is free on {host}") from None
    return listener


def _run(server: uvicorn.Server, listener: socket.socket, stop: Stop, failures: list[BaseException]) -> None:
    try:
        server.run([listener])
    except BaseException as error:
        failures.append(error)
    finally:
        stop.set()


if __name__ == "__main__":
    sys.exit(lifecycle.run(main))
