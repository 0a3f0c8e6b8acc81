"""The threads of a fetcher: workers that poll mailboxes, the queue that leases and settles for them, those that carry out sellers'
connect requests and one that renews their leases, and two that look after all mailboxes (retention, pacing).

They share a few connections to Postgres (a thread for connect requests has its own), and start again after Postgres was away. Any other error of a thread stops the whole
process, which ends with that error.
"""

import os
import secrets
import socket
import threading
from collections.abc import Callable
from logging import getLogger
from typing import Final

from services.common import lifecycle, retry
from services.common.connection_pool import ConnectionPool
from services.common.health import STUCK_SECONDS
from services.common.lifecycle import Heartbeat, Stop
from services.common.postgres import connect
from services.common.settings import FetcherConfig
from services.fetcher import connect_requests
from services.fetcher.connect_requests import RequestResources
from services.fetcher.mailbox_queue import MailboxQueue
from services.fetcher.poller import Poller, PollerResources
from services.fetcher.settlement import Settlement
from services.registry import pacing, retention
from services.registry.leases import Leases
from services.registry.login_slots import LoginSlots
from services.registry.pacing import Pacing
from services.registry.vault import Vault

log = getLogger(__name__)

CLIENT: Final = "replyrate-fetcher"
PROBES: Final = 1
"""Connections of the health pages (monitor.py); the others are shared by the threads."""


class Workers:
    """The threads of this process."""

    def __init__(self, settings: FetcherConfig, vault: Vault, stop: Stop) -> None:
        self._settings = settings
        self._vault = vault
        self._stop = stop
        self._failure: BaseException | None = None
        self.started = False
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._heartbeats = {f"worker-{number}": Heartbeat(STUCK_SECONDS) for number in range(settings.fetcher.workers)}
        self._queue_heartbeat = Heartbeat(STUCK_SECONDS)

    @property
    def slowest(self) -> Heartbeat:
        """The heartbeat of the worker, or of the queue, that has not moved for longest."""
        return max((*self._heartbeats.values(), self._queue_heartbeat), key=lambda heartbeat: heartbeat.age_seconds)

    def beat(self) -> None:
        """Keep all heartbeats up while the workers cannot start yet."""
        for heartbeat in (*self._heartbeats.values(), self._queue_heartbeat):
            heartbeat.beat()

    def run(self, resources: PollerResources, requests: RequestResources | None = None) -> None:
        """Start the threads, wait for the stop, let them finish; without `requests` none that carries those out. Raises the error that ended one of them."""
        settings = self._settings
        pool = ConnectionPool(
            lambda: connect(settings.postgres.dsn.get_secret_value(), CLIENT), settings.fetcher.connections - PROBES
        )
        leases, interval = Leases(pool, self._vault), settings.imap.poll_interval_seconds
        queue = MailboxQueue(
            self._owner, leases, LoginSlots(pool, settings.imap), Settlement(leases, Pacing(pool, interval)), resources,
            self._stop,
        )  # fmt: skip
        threads = [
            *(self._poll_thread(name, beat, leases, resources, queue) for name, beat in self._heartbeats.items()),
            *(self._request_thread(number, requests) for number in range(settings.fetcher.connect_workers) if requests),
            *self._request_lease_threads(pool, requests),
            self._thread("queue", lambda: queue.run(self._queue_heartbeat)),
            self._repeating_thread("retention", lambda: retention.run(pool, settings.horizon_days, self._stop)),
            self._repeating_thread("pacing", lambda: pacing.run(pool, interval, self._stop)),
        ]
        for thread in threads:
            thread.start()
        self.started = True
        log.info("polling mailboxes", extra={"action": "service-started", "workers": len(self._heartbeats)})
        self._stop.wait_for_ever()
        log.info("finishing the batches in flight", extra={"action": "service-stopping"})
        lifecycle.finish(threads)
        pool.close()
        if self._failure is not None:
            raise self._failure

    def _request_lease_threads(
        self, pool: ConnectionPool, resources: RequestResources | None
    ) -> list[threading.Thread]:
        if resources is None:
            return []
        running = resources.running
        return [
            self._repeating_thread("request-leases", lambda: connect_requests.keep_leases(pool, running, self._stop))
        ]

    def _request_thread(self, number: int, resources: RequestResources) -> threading.Thread:
        name = f"{self._owner}-request-{number}"

        def connected() -> None:
            with connect(self._settings.postgres.dsn.get_secret_value(), CLIENT) as connection:
                connect_requests.run(connection, name, resources, self._stop)

        return self._repeating_thread(name, connected)

    def _poll_thread(
        self, name: str, heartbeat: Heartbeat, leases: Leases, resources: PollerResources, queue: MailboxQueue
    ) -> threading.Thread:
        poller = Poller(leases, resources, stop=self._stop, heartbeat=heartbeat, finish=queue.finish)
        return self._repeating_thread(name, lambda: poller.run(queue), heartbeat.beat)

    def _repeating_thread(
        self, name: str, work: Callable[[], None], beat: Callable[[], None] = lambda: None
    ) -> threading.Thread:
        """A thread that calls `work` until stop, again after Postgres was away."""
        return self._thread(
            name, lambda: retry.run_until_stopped(self._stop, "postgres", work, service="fetcher", beat=beat)
        )

    def _thread(self, name: str, work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                self._failure = error
                self._stop.set()

        return threading.Thread(target=run, name=name, daemon=True)
