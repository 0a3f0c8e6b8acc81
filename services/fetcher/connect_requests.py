"""Carries out the connect requests of sellers, one at a time for each thread.

1. Wait until no other thread looks for a request.
2. Delete what was typed into expired requests, and take the request that waits for longest; look again after a second when
   none does. Then another thread looks, so idle threads cost no statement, and a burst of requests keeps all of them busy.
3. Open it with the private key and run it; each stage is stored when it starts.
4. Store the result, which deletes what was typed.

Meanwhile another thread renews the leases of the requests that run. A fetcher that dies leaves its requests to another one within seconds, and so
does a thread that is stuck in a stage; a request that ended three fetchers is given up.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from logging import getLogger
from typing import Final

import psycopg

from services.common import metrics
from services.common.clocks import boot_seconds
from services.common.errors import TransientError
from services.common.hashing import Hasher
from services.common.lifecycle import Stop
from services.common.postgres import ConnectionSource
from services.connect import typed_login
from services.connect.request_runner import RequestResult, RequestRunner
from services.registry.connect_requests import (
    MOST_TRIES,
    STAGE_SECONDS,
    ConnectRequests,
    RequestLost,
    TakenRequest,
    open_sealed,
)
from services.registry.registry import Registry
from services.registry.sealing import OpeningKeys
from services.registry.vault import UnknownKey, Vault, WrongContext

log = getLogger(__name__)

EVERY_SECONDS: Final = 1.0
"""How often a thread without work looks for a request."""
RENEW_SECONDS: Final = 4.0
"""How often leases are renewed: five times within one."""


class RunningRequests:
    """The requests that the threads of this process carry out. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float] = boot_seconds) -> None:
        """`clock`: seconds that only grow."""
        self._clock = clock
        self._lock = threading.Lock()
        self._stages: dict[str, tuple[str, float]] = {}

    def enter_stage(self, request_id: str, runner: str) -> None:
        """A thread begins a request, or a stage of it."""
        with self._lock:
            self._stages[request_id] = (runner, self._clock())

    def end(self, request_id: str) -> None:
        """A thread has done with a request."""
        with self._lock:
            del self._stages[request_id]

    def advancing(self) -> dict[str, str]:
        """Request id → its thread, without those that are in one stage for longer than it may take."""
        since = self._clock() - STAGE_SECONDS
        with self._lock:
            return {request_id: runner for request_id, (runner, began) in self._stages.items() if began > since}


@dataclass(frozen=True, slots=True)
class RequestResources:
    """What the threads share."""

    runner: RequestRunner
    keys: OpeningKeys
    hasher: Hasher
    vault: Vault
    looking: threading.Lock = field(default_factory=threading.Lock)
    """Held by the thread that looks for a request."""
    running: RunningRequests = field(default_factory=RunningRequests)


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
        resources.running.enter_stage(taken.request_id, name)
        try:
            result = _carried_out(registry, requests, taken, name, resources)
            requests.finish(
                taken.request_id, name, passed=result.passed, code=result.code, mailbox_id=result.mailbox_id, report=result.report
            )  # fmt: skip
        except RequestLost:
            metrics.CONNECT_REQUESTS.labels("lost").inc()
            continue
        finally:
            resources.running.end(taken.request_id)
        metrics.CONNECT_REQUESTS.labels("passed" if result.passed else "failed").inc()
        log.info(
            "a connect request ended with %s", result.code,
            extra={"action": "connect-request-ended", "company_id": taken.company_id, "code": result.code},
        )  # fmt: skip


def keep_leases(connection: ConnectionSource, running: RunningRequests, stop: Stop) -> None:
    """Renew the leases of the requests that run until `stop` is set. TransientError when Postgres is away."""
    requests = ConnectRequests(connection)
    while not stop.wait(RENEW_SECONDS):
        if advancing := running.advancing():
            requests.renew(advancing)


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

    def enter_stage(stage: str) -> None:
        resources.running.enter_stage(taken.request_id, name)
        requests.report_stage(taken.request_id, name, stage)

    if taken.tries > MOST_TRIES:
        return RequestResult(False, "request-interrupted", taken.mailbox_id)
    try:
        typed = typed_login.decode(open_sealed(resources.keys, taken))
    except (UnknownKey, WrongContext, ValueError):
        return RequestResult(False, "request-unreadable", taken.mailbox_id)
    try:
        return resources.runner.run(registry, taken, typed, enter_stage)
    except (TransientError, RequestLost):
        raise
    except Exception:
        # As in a poll: an error of one request must not end the others. The trace has no value of what was typed.
        log.exception(
            "a connect request failed", extra={"action": "connect-request-failed", "company_id": taken.company_id}
        )
        return RequestResult(False, "request-interrupted", taken.mailbox_id)
