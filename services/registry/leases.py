"""Leases: which process polls a mailbox, and the fence around what a poll writes. SQL is in leases.sql.

A lease is an owner, an end and an epoch, which each new lease increments. It fences the writes of a poll: each of them is a
transaction that first locks the mailbox's row and checks that the lease of its epoch has not ended. A process that was
frozen or cut off therefore writes nothing once another process has taken over (LeaseLost), and the other process waits for
a write in progress. No log line or error text holds an address, a user name or a secret.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from logging import getLogger
from typing import Any, Final

import psycopg

from services.common.errors import ReplyrateError
from services.common.postgres import Statements, load_statements
from services.providers.mail_server import TlsMode
from services.registry import states
from services.registry.coverage import CoverageRecords, PolledSpan
from services.registry.folder_records import NO_PROGRESS, FolderProgress, FolderRecords, SavedCursor
from services.registry.tokens import RegistryTokenStore, seal_context
from services.registry.vault import UnknownKey, Vault, WrongContext

log = getLogger(__name__)

SQL = load_statements("services.registry", "leases.sql")
UNREADABLE_SECONDS: Final = 600.0
"""How long a mailbox waits whose secret no key opens; no owner has to connect it again once the key is there."""
MOST_UNREADABLE: Final = 100
"""How many mailboxes with unreadable secrets are passed over in one call."""


class LeaseLost(ReplyrateError):
    """The lease has ended, and another process may own the mailbox; nothing was written."""


@dataclass(frozen=True, slots=True)
class LeasedMailbox:
    """A mailbox that this process may read until its lease ends. `now` is Postgres time at the start of the lease."""

    company_id: str
    mailbox_id: str
    account_id: str
    host: str
    port: int
    user: str = field(repr=False)
    password: str = field(repr=False)
    sent_override: tuple[bytes, ...]
    epoch: int
    now: datetime
    connected_at: datetime
    complete_from: datetime | None
    complete_through: datetime | None
    reconcile_after: datetime | None
    failures: int
    refusals: int = 0
    interrupted_at: datetime | None = None
    """When the mailbox was last not read for a reason that its owner can cause: paused, login refused, no Sent folder."""
    fruitless_polls: int = 0
    """Polls in a row that ended at a limit without progress in a folder known before."""
    kind: str = "password"
    """`oauth2`: `password` is a refresh token."""
    tls: TlsMode = "implicit"


@dataclass(frozen=True, slots=True)
class WaitingMailboxes:
    """Mailboxes by state; of the active ones: how long the most overdue waits, and the age of the oldest last good poll."""

    states: Mapping[str, int]
    delay_seconds: float
    age_seconds: float


class Leases:
    """Reads and writes of polls over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, vault: Vault) -> None:
        self._sql = Statements(connection, SQL)
        self._folders = FolderRecords(connection)
        self._coverage = CoverageRecords(connection)
        self._vault = vault

    @property
    def connection(self) -> psycopg.Connection:
        """The connection of this worker, which may use it between two calls."""
        return self._sql.connection

    def lease(self, owner: str, seconds: float) -> LeasedMailbox | None:
        """Lease the mailbox that is most overdue; None when no mailbox is due and free."""
        for _ in range(MOST_UNREADABLE):
            mailbox = self._sql.one("lease", owner=owner, seconds=seconds)
            if mailbox is None:
                return None
            place = (mailbox["company_id"], mailbox["mailbox_id"], mailbox["host"], str(mailbox["port"]))
            try:
                if mailbox["user_sealed"] is None or mailbox["secret"] is None:
                    raise WrongContext("a stored secret is missing; connect the mailbox again")
                user = self._vault.open(mailbox["user_sealed"], *place, field="user")
                context = seal_context(*place, user, kind=mailbox["kind"])
                password = self._vault.open(mailbox["secret"], *context, field="secret")
            except WrongContext:
                # Only this row was tampered with or mixed up: its owner must connect it again, other mailboxes are read on.
                self._end_unreadable(mailbox)
            except UnknownKey:
                if self._sql.one("opens_any", key_ids=self._vault.key_ids) is None:
                    raise
                # Only some are sealed with a key that is missing: they stay active, since the key may return.
                self._postpone_unreadable(mailbox)
            else:
                return _leased(mailbox, user, password)
        return None

    def token_store(self, leased: LeasedMailbox) -> RegistryTokenStore:
        """Where the refresh token of a leased mailbox is stored; it raises LeaseLost once another process owns it."""
        return RegistryTokenStore(
            self._sql.connection, self._vault, leased.company_id, leased.mailbox_id, epoch=leased.epoch,
            lost=lambda: _lost(leased),
        )  # fmt: skip

    def cursor(self, leased: LeasedMailbox, folder: bytes) -> SavedCursor | None:
        """The saved cursor of a folder; None when the folder was never read."""
        return self._folders.cursor(_key(leased), folder)

    def published(self, leased: LeasedMailbox, message_ids: Sequence[str]) -> dict[str, tuple[datetime, bytes]]:
        """(sent_at, record) of those messages that were published before; the record byte for byte."""
        return self._folders.published(_key(leased), message_ids)

    def save(
        self,
        leased: LeasedMailbox,
        folder: bytes,
        saved: SavedCursor,
        messages: int,
        progress: FolderProgress = NO_PROGRESS,
    ) -> None:
        """Save the cursor of a folder and what was published up to it, in one transaction. LeaseLost.

        `messages`: how many messages the folder has.
        """
        with self._fenced(leased):
            self._folders.save(_key(leased), folder, saved, messages, progress)

    def set_sent_folders(self, leased: LeasedMailbox, folders: Sequence[bytes]) -> None:
        """These are the Sent folders now; the completeness of the mailbox no longer depends on others. LeaseLost."""
        with self._fenced(leased):
            self._folders.set_sent_folders(_key(leased), folders)

    def set_unread_folders(self, leased: LeasedMailbox, messages: Mapping[bytes, int]) -> None:
        """Folders with the name of a Sent folder that are not read, and how many messages are in each. LeaseLost."""
        with self._fenced(leased):
            self._folders.set_unread_folders(_key(leased), messages)

    def end_poll(
        self,
        leased: LeasedMailbox,
        *,
        complete: bool,
        reconciled: bool,
        complete_from: datetime,
        next_seconds: float,
        fruitless: bool = False,
    ) -> None:
        """A poll ended well: release the lease, and if it was complete, store through when. LeaseLost.

        `reconciled`: everything within the horizon was read again. `fruitless`: it ended at a limit without progress in a
        folder known before; such polls in a row are counted.
        """
        key = _key(leased)
        with self._fenced(leased):
            mailbox = self._sql.one(
                "end_poll",
                **key,
                epoch=leased.epoch,
                complete=complete,
                reconciled=reconciled,
                due=leased.reconcile_after,
                complete_from=complete_from,
                through=leased.now,
                next_seconds=next_seconds,
                fruitless=fruitless,
            )
            assert mailbox is not None
            if complete:
                span = PolledSpan(
                    leased.company_id,
                    leased.account_id,
                    leased.mailbox_id,
                    leased.connected_at,
                    mailbox["complete_from"],
                    mailbox["complete_through"],
                )
                self._coverage.record([span])

    def fail_poll(
        self,
        leased: LeasedMailbox,
        *,
        reason: str | None,
        next_seconds: float,
        counts: bool,
        refused: bool = False,
        interrupted: bool = False,
        state: str | None = None,
    ) -> bool:
        """A poll failed: release the lease and store the reason. False when the lease had ended already.

        `counts`: as a failure of the mailbox, which postpones its next polls. `refused`: the server refused the login;
        refusals are counted until a poll ends well or a person acts. `interrupted`: for a reason that the mailbox's owner can
        cause, so clocks of mail sent meanwhile are not trusted. `state`: the state that follows, if another.
        """
        mailbox = self._sql.one(
            "fail_poll",
            **_key(leased),
            epoch=leased.epoch,
            reason=reason,
            next_seconds=next_seconds,
            counts=int(counts),
            refused=int(refused),
            interrupted=interrupted,
            state=state,
        )
        return mailbox is not None

    def waiting(self) -> WaitingMailboxes:
        """The state of all mailboxes together, without naming any."""
        counts = self._sql.all("states")
        waiting = self._sql.one("waiting")
        assert waiting is not None
        states = {count["state"]: count["mailboxes"] for count in counts}
        return WaitingMailboxes(states, waiting["delay"], waiting["age"])

    def _end_unreadable(self, mailbox: Mapping[str, Any]) -> None:
        event = states.load().events["secret-unreadable"]
        self._sql.run(
            "unreadable", company_id=mailbox["company_id"], mailbox_id=mailbox["mailbox_id"],
            epoch=mailbox["lease_epoch"], to=event.to, reason=event.name,
        )  # fmt: skip

    def _postpone_unreadable(self, mailbox: Mapping[str, Any]) -> None:
        reason = states.load().events["secret-unreadable"].name
        log.error(
            "a stored secret is sealed with a key that this fetcher does not have; `replyrate keys check` names every one",
            extra={
                "action": "mailbox-failed", "company_id": mailbox["company_id"], "mailbox_id": mailbox["mailbox_id"],
                "reason": reason,
            },
        )  # fmt: skip
        self._sql.run(
            "fail_poll", company_id=mailbox["company_id"], mailbox_id=mailbox["mailbox_id"], epoch=mailbox["lease_epoch"],
            reason=reason, next_seconds=UNREADABLE_SECONDS, counts=0, refused=0, interrupted=False, state=None,
        )  # fmt: skip

    @contextmanager
    def _fenced(self, leased: LeasedMailbox) -> Iterator[None]:
        """A transaction under a lease (see the head of this file). LeaseLost."""
        with self._sql.transaction():
            if self._sql.one("fence", **_key(leased), epoch=leased.epoch) is None:
                raise _lost(leased)
            yield


def _leased(mailbox: Mapping[str, Any], user: str, password: str) -> LeasedMailbox:
    return LeasedMailbox(
        company_id=mailbox["company_id"],
        mailbox_id=mailbox["mailbox_id"],
        account_id=mailbox["account_id"],
        host=mailbox["host"],
        port=mailbox["port"],
        user=user,
        password=password,
        sent_override=tuple(bytes(name) for name in mailbox["sent_override"] or ()),
        epoch=mailbox["lease_epoch"],
        now=mailbox["now"],
        connected_at=mailbox["connected_at"],
        complete_from=mailbox["complete_from"],
        complete_through=mailbox["complete_through"],
        reconcile_after=mailbox["reconcile_after"],
        failures=mailbox["failures"],
        refusals=mailbox["login_refusals"],
        interrupted_at=mailbox["interrupted_at"],
        fruitless_polls=mailbox["fruitless_polls"],
        kind=mailbox["kind"],
        tls=mailbox["tls"],
    )


def _key(leased: LeasedMailbox) -> dict[str, str]:
    return {"company_id": leased.company_id, "mailbox_id": leased.mailbox_id}


def _lost(leased: LeasedMailbox) -> LeaseLost:
    return LeaseLost(f"the lease of mailbox {leased.mailbox_id} has ended")
