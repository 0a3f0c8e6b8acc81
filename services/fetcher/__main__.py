"""`python -m services.fetcher`: reads Sent folders and publishes what was sent, until SIGTERM."""

import os
import secrets
import socket
import sys
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from logging import getLogger

from services.common import http, lifecycle, logs, metrics, verify
from services.common.backoff import Backoff
from services.common.errors import ReplyrateError, TransientError
from services.common.hashing import Hasher
from services.common.kafka import Publisher
from services.common.lifecycle import Heartbeat, Stop
from services.common.postgres import connect
from services.common.settings import Settings, load_settings
from services.common.topics import DEAD, SENT
from services.common.version import version
from services.fetcher.poller import Poller
from services.fetcher.registry import Registry
from services.fetcher.session import Budgets, resolve, tls_context
from services.fetcher.vault import Vault

log = getLogger("services.fetcher")
STUCK_SECONDS = 300.0
GAUGES_SECONDS = 10.0


def main() -> None:
    """Settings → logs → clients → schema and topics checked → workers, until a signal."""
    settings = load_settings(os.environ)
    logs.configure(settings.log.format, settings.log.level, "fetcher")
    for warning in settings.warnings:
        log.warning("%s", warning, extra={"action": "setting-unknown"})
    hasher, vault = Hasher(settings.hash_key()), Vault(settings.vault_key())
    stop = Stop()
    with lifecycle.on_signals(stop), ExitStack() as stack:
        if not lifecycle.until_answers(stop, "postgres", lambda: verify.schema(settings, "replyrate-fetcher-check")):
            return
        if not lifecycle.until_answers(
            stop, "kafka", lambda: verify.topics(settings, "replyrate-fetcher-check", (SENT, DEAD))
        ):
            return
        publisher = stack.enter_context(Publisher(settings.kafka, "replyrate-fetcher"))
        heartbeat = Heartbeat(STUCK_SECONDS)
        stack.enter_context(http.serve(settings.http.port, heartbeat.alive, lambda: True, host=settings.http.host))
        workers = Workers(settings, hasher, vault, publisher, stop, heartbeat)
        workers.run()
    log.info("stopped", extra={"action": "service-stopped"})


class Workers:
    """The worker threads, each with a Postgres connection of its own."""

    def __init__(
        self, settings: Settings, hasher: Hasher, vault: Vault, publisher: Publisher, stop: Stop, heartbeat: Heartbeat
    ) -> None:
        self._settings = settings
        self._hasher = hasher
        self._vault = vault
        self._publisher = publisher
        self._stop = stop
        self._heartbeat = heartbeat
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Work until stop; raises what made a worker end."""
        names = [f"{self._owner}-{number}" for number in range(self._settings.fetcher.workers)]
        threads = [threading.Thread(target=self._work, args=(name,), name=name, daemon=True) for name in names]
        for thread in threads:
            thread.start()
        log.info("reading", extra={"action": "service-started", "workers": len(threads)})
        while not self._stop.wait(GAUGES_SECONDS):
            self._gauges()
        log.info("finishing the chunks in hand", extra={"action": "service-stopping"})
        for thread in threads:
            thread.join(20)
        if self._failure is not None:
            raise self._failure

    def _work(self, name: str) -> None:
        """One worker; while Postgres is away it waits and begins anew."""
        backoff, attempt = Backoff(0.5, 2, 10), 0
        while not self._stop.is_set():
            try:
                with connect(self._settings.postgres.dsn.get_secret_value(), "replyrate-fetcher") as connection:
                    registry = Registry(connection, self._hasher, self._vault)
                    attempt = 0
                    self._poller(name, registry).run()
            except TransientError as error:
                attempt += 1
                metrics.DEPENDENCY_FAILURES.labels("fetcher", "postgres").inc()
                log.warning("%s", error, extra={"action": "dependency-away", "attempt": attempt})
                self._stop.wait(backoff.delay(attempt, 0.5))
                self._heartbeat.beat()
            except BaseException as error:
                self._failure = error
                self._stop.set()

    def _poller(self, name: str, registry: Registry) -> Poller:
        return Poller(
            name,
            registry,
            self._publisher,
            self._hasher,
            self._settings,
            tls_context(self._settings.imap.ca_file),
            version=version(),
            resolve=resolve,
            clock=lambda: datetime.now(UTC),
            stop=self._stop,
            heartbeat=self._heartbeat,
            budgets=Budgets(),
        )

    def _gauges(self) -> None:
        try:
            with connect(self._settings.postgres.dsn.get_secret_value(), "replyrate-fetcher-gauges") as connection:
                states, delay = Registry(connection, self._hasher, self._vault).waiting()
        except ReplyrateError:
            return
        for state, count in states.items():
            metrics.MAILBOXES.labels(state).set(count)
        metrics.POLL_DELAY_SECONDS.set(delay)


if __name__ == "__main__":
    sys.exit(lifecycle.run(main))
