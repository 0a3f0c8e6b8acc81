"""The threads of a fetcher: workers that poll mailboxes, those that carry out sellers' connect requests, and two that look after
all mailboxes (retention, pacing).

Each has a Postgres connection of its own and opens another one when Postgres was away. Any other error of a thread stops the
whole process, which ends with that error.
"""

import os
import secrets
import socket
import threading
from collections.abc import Callable
from logging import getLogger
from typing import Final

import psycopg

from services.common import lifecycle, retry
from services.common.health import STUCK_SECONDS
from services.common.lifecycle import Heartbeat, Stop
from services.common.postgres import connect
from services.common.settings import FetcherConfig
from services.fetcher import connect_requests
from services.fetcher.connect_requests import RequestResources
from services.fetcher.poller import Poller, PollerResources
from services.registry import pacing, retention
from services.registry.leases import Leases
from services.registry.vault import Vault

log = getLogger(__name__)

CLIENT: Final = "replyrate-fetcher"


class Workers:
    """The threads of this process."""

    def __init__(self, settings: FetcherConfig, vault: Vault, stop: Stop) -> None:
        self._settings = settings
        self._vault = vault
        self._stop = stop
        self._failure: BaseException | None = None
        self.started = False
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._heartbeats = {
            f"{self._owner}-{number}": Heartbeat(STUCK_SECONDS) for number in range(settings.fetcher.workers)
        }

    @property
    def slowest(self) -> Heartbeat:
        """The heartbeat of the worker that has not moved for longest."""
        return max(self._heartbeats.values(), key=lambda heartbeat: heartbeat.age_seconds)

    def beat(self) -> None:
        """Keep all heartbeats up while the workers cannot start yet."""
        for heartbeat in self._heartbeats.values():
            heartbeat.beat()

    def run(self, resources: PollerResources, requests: RequestResources) -> None:
        """Start the threads, wait for the stop, let them finish. Raises the error that ended one of them."""
        threads = [
            *(self._poll_thread(name, heartbeat, resources) for name, heartbeat in self._heartbeats.items()),
            *(self._request_thread(number, requests) for number in range(self._settings.fetcher.connect_workers)),
            self._thread(
                "retention", lambda connection: retention.run(connection, self._settings.horizon_days, self._stop)
            ),
            self._thread(
                "pacing",
                lambda connection: pacing.run(connection, self._settings.imap.poll_interval_seconds, self._stop),
            ),
        ]
        for thread in threads:
            thread.start()
        self.started = True
        log.info("polling mailboxes", extra={"action": "service-started", "workers": len(self._heartbeats)})
        self._stop.wait_for_ever()
        log.info("finishing the batches in flight", extra={"action": "service-stopping"})
        lifecycle.finish(threads)
        resources.tally.log_when_due(now=True)
        if self._failure is not None:
            raise self._failure

    def _poll_thread(self, name: str, heartbeat: Heartbeat, resources: PollerResources) -> threading.Thread:
        def poll(connection: psycopg.Connection) -> None:
            leases = Leases(connection, self._vault)
            Poller(name, leases, resources, stop=self._stop, heartbeat=heartbeat).run()

        return self._thread(name, poll, heartbeat.beat)

    def _request_thread(self, number: int, resources: RequestResources) -> threading.Thread:
        name = f"{self._owner}-request-{number}"
        return self._thread(name, lambda connection: connect_requests.run(connection, name, resources, self._stop))

    def _thread(
        self, name: str, work: Callable[[psycopg.Connection], None], beat: Callable[[], None] = lambda: None
    ) -> threading.Thread:
        """A thread that calls `work` with a connection until stop, again with a new one after Postgres was away."""

        def connected() -> None:
            with connect(self._settings.postgres.dsn.get_secret_value(), CLIENT) as connection:
                work(connection)

        def run() -> None:
            try:
                retry.run_until_stopped(self._stop, "postgres", connected, service="fetcher", beat=beat)
            except BaseException as error:
                self._failure = error
                self._stop.set()

        return threading.Thread(target=run, name=name, daemon=True)
