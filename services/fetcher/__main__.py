"""`python -m services.fetcher`: read Sent folders and publish what was sent, until SIGTERM.

1. Read and check every setting and key; configure the logs.
2. Start the pages (`/healthz`, `/readyz`, `/metrics`) and the probes of Postgres and Kafka.
3. Wait until Postgres and Kafka answer, and verify the schema and the topics.
4. Run the workers until a signal (workers.py, poller.py).
5. Exit with the code of what happened (lifecycle.run).
"""

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from logging import getLogger

from services.common import http, lifecycle, logs, retry, tracing, verify
from services.common.hashing import Hasher
from services.common.kafka import Publisher
from services.common.lifecycle import Stop
from services.common.postgres import connect
from services.common.settings import FetcherConfig, load_settings
from services.common.topics import DEAD, SENT
from services.common.version import version
from services.connect.redirected_login import RedirectedLogin
from services.connect.request_runner import RequestRunner
from services.connect.tester import ConnectionTester
from services.fetcher.clock_check import ClockCheck
from services.fetcher.connect_requests import RequestResources
from services.fetcher.monitor import FetcherMonitor
from services.fetcher.poller import PollerResources
from services.fetcher.workers import CLIENT, Workers
from services.imap.host_policy import resolve
from services.imap.limits import SessionLimits
from services.imap.tls import tls_context
from services.registry import login_slots, retention
from services.registry.hash_key import check_hash_key
from services.registry.sealing import OpeningKeys
from services.registry.vault import Vault
from services.signin.access_tokens import AccessTokens

log = getLogger("services.fetcher")


def main() -> None:
    """Run the fetcher. ConfigError, TransientError, and the error that ended a worker."""
    settings = load_settings(os.environ, FetcherConfig)
    logs.configure(settings.log.format, settings.log.level, "fetcher")
    for warning in settings.warnings:
        log.warning("%s", warning, extra={"action": "setting-unknown"})
    hasher, vault = Hasher(settings.hash_key()), Vault(settings.vault_key(), settings.old_vault_key())
    tls_context(settings.imap.ca_file)  # a file that cannot be used ends the start, not the first poll
    login_slots.check(settings.imap)

    stop = Stop()
    workers = Workers(settings, vault, stop)
    monitor = FetcherMonitor(settings, workers)
    with (
        lifecycle.on_signals(stop, lifecycle.STOP_SECONDS),
        tracing.tracer_for(settings.telemetry, "fetcher", version()) as tracer,
        monitor.probing_dependencies(),
        http.serve(settings.http, "fetcher", monitor.healthy, monitor.ready),
    ):
        if verified(settings, hasher, stop, workers.beat):
            with Publisher(settings.kafka, CLIENT) as publisher:
                polls = PollerResources(
                    settings=settings,
                    publisher=publisher,
                    hasher=hasher,
                    tokens=AccessTokens(settings.oauth2),
                    tls_context=lambda: tls_context(settings.imap.ca_file),
                    resolve=resolve,
                    clock_check=ClockCheck(lambda: datetime.now(UTC)),
                    limits=SessionLimits(session_seconds=settings.imap.session_seconds),
                    tracer=tracer,
                )
                workers.run(polls, request_resources(settings, hasher, vault, polls.tokens))
    log.info("stopped", extra={"action": "service-stopped"})


def request_resources(settings: FetcherConfig, hasher: Hasher, vault: Vault, tokens: AccessTokens) -> RequestResources:
    """What the threads that carry out connect requests share."""
    tester = ConnectionTester(settings.imap, resolve, version(), settings.horizon_days, tokens=tokens)
    keys = OpeningKeys(settings.vault_key(), settings.old_vault_key())
    sign_in = RedirectedLogin(settings.oauth2, hasher, tokens, lambda: datetime.now(UTC))
    return RequestResources(RequestRunner(settings.imap, tester, sign_in=sign_in), keys, hasher, vault)


def verified(settings: FetcherConfig, hasher: Hasher, stop: Stop, beat: Callable[[], None]) -> bool:
    """Wait until Postgres and Kafka answer and verify schema, hash key and topics; False when the stop came first.
    ConfigError."""
    client = f"{CLIENT}-check"

    def verify_database() -> None:
        verify.schema(settings.postgres, client)
        with connect(settings.postgres.dsn.get_secret_value(), client) as connection:
            check_hash_key(connection, hasher)
            retention.keep_weeks(connection, settings.horizon_days)  # the first poll writes into one of them

    dependencies: tuple[tuple[str, Callable[[], None]], ...] = (
        ("postgres", verify_database),
        ("kafka", lambda: verify.topics(settings, client, (SENT, DEAD))),
    )
    return all(
        retry.until_answers(stop, dependency, check, service="fetcher", beat=beat) for dependency, check in dependencies
    )


if __name__ == "__main__":
    sys.exit(lifecycle.run(main))
