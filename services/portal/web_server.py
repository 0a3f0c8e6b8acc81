"""Answers requests of a web application in this process, until a signal."""

import socket
import threading
from dataclasses import dataclass
from logging import getLogger
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from services.common import lifecycle
from services.common.errors import ConfigError
from services.common.lifecycle import Stop

log = getLogger(__name__)

NOT_YET: Final = "starting: requests are not answered yet"


@dataclass(frozen=True, slots=True)
class ListeningPlace:
    """Where a web process listens. `group`: the group of its settings, PORTAL or CONSOLE; `origin`: its public address."""

    group: str
    host: str
    port: int
    origin: str


def serve(app: ASGIApp, place: ListeningPlace, stop: Stop, answering: threading.Event) -> None:
    """Answer requests until `stop`; those in progress are finished. Sets `answering` once the port is open.

    ConfigError when the port cannot be used.
    """
    listener = bound_listener(place.group, place.host, place.port)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            # The public address is a setting, and the address of a client is used for nothing.
            proxy_headers=False,
            limit_concurrency=500,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=int(lifecycle.FINISH_SECONDS),
        )
    )
    stop.on_stop(lambda: setattr(server, "should_exit", True))
    log.info("answering requests", extra={"action": "service-started", "url": place.origin})
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


def bound_listener(group: str, host: str, port: int) -> socket.socket:
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
        raise ConfigError(f"REPLYRATE_{group}__PORT: {reason}; write a port that is free on {host}") from None
    return listener


def _run(server: uvicorn.Server, listener: socket.socket, stop: Stop, failures: list[BaseException]) -> None:
    try:
        server.run([listener])
    except BaseException as error:
        failures.append(error)
    finally:
        stop.set()
