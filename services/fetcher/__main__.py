"""`python -m services.fetcher`: reads Sent folders and publishes what was sent, until SIGTERM."""

import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import getLogger

import psycopg

from services.common import health, http, lifecycle, logs, metrics, retry, tracing, verify
from services.common.hashing import Hasher
from services.common.health import STUCK_SECONDS, ConsumerProgress, DependencyProbe, Problems
from services.common.kafka import Admin, Publisher
from services.common.lifecycle import Heartbeat, Stop
from services.common.postgres import connect
from services.common.settings import Settings, load_settings
from services.common.topics import DEAD, SENT
from services.common.tracing import Tracer
from services.common.version import version
from services.fetcher.poller import Poller, PollerResources
from services.imap.host_policy import resolve
from services.imap.tls import tls_context
from services.registry import login_slots, pacing, retention
from services.registry.leases import Leases
from services.registry.states import STATES
from services.registry.vault import Vault
from services.signin.access_tokens import AccessTokens

log = getLogger("services.fetcher")


def main() -> None:
    """Settings → logs → pages → schema and topics checked → workers, until a signal."""
    settings = load_settings(os.environ)
    logs.configure(settings.log.format, settings.log.level, "fetcher")
    for warning in settings.warnings:
        log.warning("%s", warning, extra={"action": "setting-unknown"})
    hasher, vault = Hasher(settings.hash_key()), Vault(settings.vault_key(), settings.old_vault_key())
    tls_context(settings.imap.ca_file)
    login_slots.check(settings.imap)
    stop = Stop()
    with (
        lifecycle.on_signals(stop, lifecycle.STOP_SECONDS),
        tracing.tracer_for(settings.telemetry, "fetcher", version()) as tracer,
    ):
        workers = Workers(settings, hasher, vault, stop, tracer)
        with workers.asking(), http.serve(settings.http.port, workers.healthy, workers.ready, host=settings.http.host):
            if workers.may_begin():
                workers.run()
    log.info("stopped", extra={"action": "service-stopped"})


class Workers:
    """The worker threads, each with a Postgres connection of its own."""

    def __init__(self, settings: Settings, hasher: Hasher, vault: Vault, stop: Stop, tracer: Tracer) -> None:
        self._settings = settings
        self._hasher = hasher
        self._vault = vault
        self._stop = stop
        self._tokens = AccessTokens(settings.oauth2)
        self._tracer = tracer
        owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._heartbeats = {f"{owner}-{number}": Heartbeat(STUCK_SECONDS) for number in range(settings.fetcher.workers)}
        self._failure: BaseException | None = None
        self._begun = False
        self._progress = ConsumerProgress("poll ended", what_waits="mailboxes")
        dsn = settings.postgres.dsn.get_secret_value()
        self._postgres = DependencyProbe(
            "fetcher",
            "postgres",
            lambda: connect(dsn, "replyrate-fetcher-probe"),
            self._ask_postgres,
            failed=self._progress.unknown,
        )
        self._kafka = DependencyProbe(
            "fetcher",
            "kafka",
            lambda: Admin(settings.kafka, "replyrate-fetcher-probe"),
            lambda admin: admin.spans((SENT,)),
        )

    def may_begin(self) -> bool:
        """Whether schema and topics are as they must be, once Postgres and Kafka answer; False when to end first."""
        settings, client = self._settings, "replyrate-fetcher-check"
        dependencies: tuple[tuple[str, Callable[[], None]], ...] = (
            ("postgres", lambda: verify.schema(settings, client)),
            ("kafka", lambda: verify.topics(settings, client, (SENT, DEAD))),
        )
        return all(
            retry.until_answers(self._stop, dependency, check, service="fetcher", beat=self._beat)
            for dependency, check in dependencies
        )

    def run(self) -> None:
        """Work until stop; raises what made a worker end."""
        with Publisher(self._settings.kafka, "replyrate-fetcher") as publisher:
            threads = [
                threading.Thread(target=self._work, args=(name, heartbeat, publisher), name=name, daemon=True)
                for name, heartbeat in self._heartbeats.items()
            ]
            threads.append(threading.Thread(target=self._trim, name="retention", daemon=True))
            threads.append(threading.Thread(target=self._draw, name="pacing", daemon=True))
            for thread in threads:
                thread.start()
            self._begun = True
            log.info("reading", extra={"action": "service-started", "workers": len(self._heartbeats)})
            self._stop.wait_for_ever()
            log.info("finishing the chunks in hand", extra={"action": "service-stopping"})
            lifecycle.finish(threads)
        if self._failure is not None:
            raise self._failure

    def healthy(self) -> Problems:
        """Why it is not healthy: a worker that hangs is a part of the work that nobody does."""
        slowest = max(self._heartbeats.values(), key=lambda heartbeat: heartbeat.age_seconds)
        return [*slowest.problems("poll"), *self._progress.problems()]

    def ready(self) -> Problems:
        """Why it is not ready."""
        begun = [] if self._begun else ["starting: schema and topics are not looked at yet"]
        return [*self._postgres.problems(), *self._kafka.problems(), *begun]

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask Postgres and Kafka until the block ends."""
        health.report_lag(
            "fetcher",
            self.healthy,
            self.ready,
            lambda: max(heartbeat.age_seconds for heartbeat in self._heartbeats.values()),
        )
        with self._postgres, self._kafka:
            yield

    def _beat(self) -> None:
        for heartbeat in self._heartbeats.values():
            heartbeat.beat()

    def _work(self, name: str, heartbeat: Heartbeat, publisher: Publisher) -> None:
        """One worker."""
        self._keep_running(
            lambda connection: self._poller(name, Leases(connection, self._vault), heartbeat, publisher).run(),
            heartbeat.beat,
        )

    def _trim(self) -> None:
        """Deletes what need not be kept any longer."""
        self._keep_running(lambda connection: retention.run(connection, self._settings.horizon_days, self._stop))

    def _draw(self) -> None:
        """Draws polls forward for deadlines that come near."""
        interval = self._settings.imap.poll_interval_seconds
        self._keep_running(lambda connection: pacing.run(connection, interval, self._stop))

    def _keep_running(
        self, work: Callable[[psycopg.Connection], None], beat: Callable[[], None] = lambda: None
    ) -> None:
        """Call `work` with a connection of its own until stop, again with a new one after Postgres failed."""

        def connected() -> None:
            with connect(self._settings.postgres.dsn.get_secret_value(), "replyrate-fetcher") as connection:
                work(connection)

        try:
            retry.run_until_stopped(self._stop, "postgres", connected, service="fetcher", beat=beat)
        except BaseException as error:
            self._failure = error
            self._stop.set()

    def _poller(self, name: str, leases: Leases, heartbeat: Heartbeat, publisher: Publisher) -> Poller:
        resources = PollerResources(
            settings=self._settings,
            publisher=publisher,
            hasher=self._hasher,
            tokens=self._tokens,
            tls_context=lambda: tls_context(self._settings.imap.ca_file),
            resolve=resolve,
            tracer=self._tracer,
        )
        return Poller(name, leases, resources, stop=self._stop, heartbeat=heartbeat)

    def _ask_postgres(self, connection: psycopg.Connection) -> None:
        """How the mailboxes are, by the registry: the same on every fetcher."""
        waiting = Leases(connection, self._vault).waiting()
        for state in STATES:
            metrics.MAILBOXES.labels(state).set(waiting.states.get(state, 0))
        metrics.POLL_DELAY_SECONDS.set(waiting.delay_seconds)
        metrics.POLL_AGE_SECONDS.set(waiting.age_seconds)
        # A mailbox that is due goes to whoever is free: who ends no poll while one waits for long is stuck.
        polls = sum(sample.value for family in metrics.POLLS.collect() for sample in family.samples)
        self._progress.note(waiting.delay_seconds > STUCK_SECONDS, polls)


if __name__ == "__main__":
    sys.exit(lifecycle.run(main))
