"""Carries out the connect requests of sellers, one at a time for each thread.

1. Wait until no other thread looks for a request.
2. Delete what was typed into requests whose life is over, and take the request that waits for longest; look again after a second when
   none does. Then another thread looks, so idle threads cost no statement, and a burst of requests keeps all of them busy.
3. Open it with the private key and run it; each stage is stored when it starts.
4. Store the result, which deletes what was typed.

A fetcher that dies leaves its request to another one; a request that ended three fetchers is given up.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from logging import getLogger
from typing import Final

import psycopg

from services.common import metrics
from services.common.errors import TransientError
from services.common.hashing import Hasher
from services.common.lifecycle import Stop
from services.connect import typed_login
from services.connect.request_runner import RequestResult, RequestRunner
from services.registry.connect_requests import MOST_TRIES, ConnectRequests, RequestLost, TakenRequest, open_sealed
from services.registry.registry import Registry
from services.registry.sealing import OpeningKeys
from services.registry.vault import UnknownKey, Vault, WrongContext

log = getLogger(__name__)

EVERY_SECONDS: Final = 1.0
"""How often a thread without work looks for a request."""


@dataclass(frozen=True, slots=True)
class RequestResources:
    """What the threads share."""

    runner: RequestRunner
    keys: OpeningKeys
    hasher: Hasher
    vault: Vault
    looking: threading.Lock = field(default_factory=threading.Lock)
    """Held by the thread that looks for a request."""


def run(
    connection: psycopg.Connection,
    name: str,
    resources: RequestResources,
    stop: Stop,
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Carry out requests until `stop` is set. TransientError when Postgres is away."""
    requests = ConnectRequests(connection)
    registry = Registry(connection, resources.hasher, resources.vault)
    requests.publish_key(resources.keys.current)
    while (taken := next_request(requests, name, resources, stop, beat)) is not None:
        try:
            result = _carried_out(registry, requests, taken, name, resources)
            requests.finish(
                taken.request_id, name, passed=result.passed, code=result.code, mailbox_id=result.mailbox_id, report=result.report
            )  # fmt: skip
        except RequestLost:
            metrics.CONNECT_REQUESTS.labels("lost").inc()
            continue
        metrics.CONNECT_REQUESTS.labels("passed" if result.passed else "failed").inc()
        log.info(
            "a connect request ended with %s", result.code,
            extra={"action": "connect-request-ended", "company_id": taken.company_id, "code": result.code},
        )  # fmt: skip


def next_request(
    requests: ConnectRequests, name: str, resources: RequestResources, stop: Stop, beat: Callable[[], None]
) -> TakenRequest | None:
    """The request that waits for longest, as soon as there is one that no other thread has taken; None when `stop` is set."""
    while not stop.is_set():
        beat()
        if not resources.looking.acquire(timeout=EVERY_SECONDS):
            continue
        try:
            metrics.CONNECT_REQUESTS.labels("expired").inc(requests.expire())
            taken = requests.take(name, resources.keys)
            if taken is not None:
                return taken
            stop.wait(EVERY_SECONDS)
        finally:
            resources.looking.release()
    return None


def _carried_out(
    registry: Registry, requests: ConnectRequests, taken: TakenRequest, name: str, resources: RequestResources
) -> RequestResult:
    """The result of a request, also of one that cannot be read or that ends with an unexpected error. RequestLost."""
    if taken.tries > MOST_TRIES:
        return RequestResult(False, "request-interrupted", taken.mailbox_id)
    try:
        typed = typed_login.decode(open_sealed(resources.keys, taken))
    except (UnknownKey, WrongContext, ValueError):
        return RequestResult(False, "request-unreadable", taken.mailbox_id)
    try:
        return resources.runner.run(
            registry, taken, typed, lambda stage: requests.report_stage(taken.request_id, name, stage)
        )
    except (TransientError, RequestLost):
        raise
    except Exception:
        # As in a poll: an error of one request must not end the others. The trace has no value of what was typed.
        log.exception(
            "a connect request failed", extra={"action": "connect-request-failed", "company_id": taken.company_id}
        )
        return RequestResult(False, "request-interrupted", taken.mailbox_id)
