"""Connect requests: what a seller typed on a web page, on its way to a fetcher that may open it. SQL is in connect_requests.sql.

1. The web process seals what was typed with the fetchers' public key (sealing.py) and stores the request.
2. A fetcher takes it, tests the login, connects the mailbox, and reports each stage. It renews its lease every few seconds, so that another
   one takes the request soon after it has died.
3. The web process reads the stages and the result.

A request lives for ten minutes. What was typed is deleted when the request finishes or expires, whichever comes first. Fetchers check for expired
requests every second, and web processes every ten seconds in case no fetcher is running.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from psycopg.types.json import Jsonb

from services.common.postgres import ConnectionSource, Statements, load_statements
from services.registry.sealing import OpeningKeys, SealingKey

SQL = load_statements("services.registry", "connect_requests.sql")

Purpose = Literal[
    "look-up", "test", "connect", "reconnect", "folders", "folder-choice", "withdraw", "platform-sync-on", "platform-sync-off",
    "address-change", "address-removal",
]  # fmt: skip
"""Find the server of an address; test a login only; connect a new mailbox with it; connect a mailbox again with it; list the folders of a
connected mailbox; read those of them that were chosen; withdraw the consent to read a mailbox, which removes it; say that the account
answers, or no longer answers, through the platform's own mail; change or forget an address of the account on the platform."""
OF_SELLERS: Final[tuple[Purpose, ...]] = ("test", "connect", "reconnect", "folders", "folder-choice", "withdraw")
"""Purposes of requests that a seller's page shows while they are open."""
OF_MAILBOXES: Final[tuple[Purpose, ...]] = ("reconnect", "folders", "folder-choice", "withdraw")
"""Purposes of requests about a mailbox that exists; it must be one of the account that asks."""
LEASE_SECONDS: Final = 20.0
"""A fetcher that has not renewed its lease for so long has lost the request: how long a seller waits for another one."""
STAGE_SECONDS: Final = 90.0
"""A fetcher renews the lease of a request for so long after the last stage; above the longest stage (services/imap/limits.py)."""
MOST_TRIES: Final = 3
"""Fetchers that may take one request, so that a request which ends its fetcher cannot end all of them."""


@dataclass(frozen=True, slots=True)
class TakenRequest:
    """A request that this fetcher works on."""

    request_id: str
    company_id: str
    account_id: str
    mailbox_id: str
    """The mailbox that is connected again, or the id that a new one gets."""
    purpose: Purpose
    sealed: bytes
    tries: int
    """How many fetchers have taken it, with this one."""
    created_at: datetime


GIVEN_UP: Final = ("request-expired", "request-interrupted", "request-unreadable")
"""Codes of requests that no fetcher carried out to their end."""
NOT_POSSIBLE: Final = "not-possible"
"""Code of a request that the state of the registry refuses; its report has the `reason` in both languages."""


class RequestLost(Exception):
    """Another fetcher has taken the request, or it has expired: nothing of it may be written any more."""


def new_request_id() -> str:
    """An id that cannot be guessed."""
    return f"r-{secrets.token_hex(16)}"


def seal(key: SealingKey, request_id: str, company_id: str, typed: bytes) -> bytes:
    """What was typed, sealed for this request of this company."""
    return key.seal(typed, "connect-request", request_id, company_id)


def open_sealed(keys: OpeningKeys, taken: TakenRequest) -> bytes:
    """What was typed. UnknownKey, WrongContext."""
    return keys.open(taken.sealed, "connect-request", taken.request_id, taken.company_id)


class ConnectRequests:
    """Reads and writes registry.connect_requests over one connection (autocommit, not to be shared by threads) or a pool."""

    def __init__(self, connection: ConnectionSource) -> None:
        self._sql = Statements(connection, SQL)

    def publish_key(self, key: SealingKey) -> None:
        """Announce the key that requests should be sealed with from now on."""
        self._sql.run("publish_key", key_id=key.key_id, public_key=key.public)

    def sealing_key(self) -> SealingKey | None:
        """The key to seal with; None until the first fetcher has started."""
        stored = self._sql.one("sealing_key")
        return None if stored is None else SealingKey(bytes(stored["public_key"]))

    def add(
        self, key: SealingKey, company_id: str, account_id: str, mailbox_id: str, purpose: Purpose, typed: bytes
    ) -> str:
        """Store a request; returns its id. `mailbox_id` as in TakenRequest."""
        request_id = new_request_id()
        self._sql.run(
            "insert_request", request_id=request_id, company_id=company_id, account_id=account_id, mailbox_id=mailbox_id,
            purpose=purpose, key_id=key.key_id, sealed=seal(key, request_id, company_id, typed),
        )  # fmt: skip
        return request_id

    def status(self, request_id: str) -> dict[str, Any] | None:
        """The state (waiting, running, passed, failed, expired), stage, code and report of a request; None when there is none."""
        return self._sql.one("request", request_id=request_id)

    def open_requests(self, company_id: str, account_id: str) -> list[dict[str, Any]]:
        """The requests of an account that wait or run (`request_id`, `mailbox_id`, `purpose`), the newest first."""
        return self._sql.all("open_requests", company_id=company_id, account_id=account_id)

    def take(self, runner: str, keys: OpeningKeys) -> TakenRequest | None:
        """The request that waits for longest and that these keys open; None when none waits."""
        taken = self._sql.one("take_request", runner=runner, key_ids=list(keys.key_ids), lease_seconds=LEASE_SECONDS)
        return None if taken is None else TakenRequest(**{**taken, "sealed": bytes(taken["sealed"])})

    def report_stage(self, request_id: str, runner: str, stage: str) -> None:
        """A stage starts. RequestLost."""
        values = {"request_id": request_id, "runner": runner, "stage": stage, "lease_seconds": LEASE_SECONDS}
        if self._sql.one("report_stage", **values) is None:
            raise RequestLost

    def renew(self, runners: Mapping[str, str]) -> None:
        """Keep the leases of requests (request id → who carries it out) that nobody else has taken."""
        self._sql.run(
            "renew_requests", request_ids=list(runners), runners=list(runners.values()), lease_seconds=LEASE_SECONDS
        )

    def finish(
        self,
        request_id: str,
        runner: str,
        *,
        passed: bool,
        code: str,
        mailbox_id: str,
        report: dict[str, Any] | None,
    ) -> None:
        """Store the result and delete what was typed. RequestLost."""
        finished = self._sql.one(
            "finish_request", request_id=request_id, runner=runner, state="passed" if passed else "failed", code=code,
            mailbox_id=mailbox_id, report=None if report is None else Jsonb(report),
        )  # fmt: skip
        if finished is None:
            raise RequestLost

    def expire(self) -> int:
        """Delete what was typed into expired requests; returns how many."""
        return len(self._sql.all("expire_requests"))

    def expire_without_reading(self) -> int:
        """The same with the rights of a web process, which reads no request of others."""
        expired = self._sql.one("expire_without_reading")
        assert expired is not None
        return int(expired["requests"])
