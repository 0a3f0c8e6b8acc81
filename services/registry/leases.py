"""The registry's half for polling: leases, marks, what was published, coverage. SQL is in leases.sql.

Every write of a poll is fenced: it locks the mailbox's row and looks whether the lease of its epoch still stands, so
a process that was frozen or cut off writes nothing once another one took over. Nothing here logs, and no error text
holds an address, a user name or a secret.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import psycopg

from services.common.errors import ReplyrateError
from services.common.postgres import Statements, load_statements
from services.mail.plan import Cursor
from services.registry import states
from services.registry.tokens import RegistryTokenStore, seal_context
from services.registry.vault import Vault, WrongContext

SQL = load_statements("services.registry", "leases.sql")


class LeaseLost(ReplyrateError):
    """Another process owns the mailbox now; nothing was written."""


@dataclass(frozen=True, slots=True)
class LeasedMailbox:
    """A mailbox that this process may read until its lease ends. `now` is Postgres time at the lease."""

    company_id: str
    mailbox_id: str
    account_id: str
    host: str
    port: int
    user: str
    password: str
    sent_override: tuple[bytes, ...]
    epoch: int
    now: datetime
    connected_at: datetime
    complete_from: datetime | None
    complete_through: datetime | None
    reconcile_after: datetime | None
    failures: int
    refusals: int = 0
    kind: str = "password"
    """`oauth2`: `password` is a refresh token."""


@dataclass(frozen=True, slots=True)
class SavedCursor:
    """Marks of a folder and the lower bound for messages that its scan finds first."""

    marks: Cursor
    lower_bound_at: datetime | None
    scan_began_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PublishedMessage:
    """One message that was published for the first time."""

    message_id: str
    sent_at: datetime
    record: bytes
    kind: str
    suspect: bool


@dataclass(frozen=True, slots=True)
class WaitingMailboxes:
    """Mailboxes by state; of the active ones: how long the most overdue waits, and the oldest good poll's age."""

    states: Mapping[str, int]
    delay_seconds: float
    age_seconds: float


class Leases:
    """Reads and writes of polls over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, vault: Vault) -> None:
        self._sql = Statements(connection, SQL)
        self._vault = vault

    def lease(self, owner: str, seconds: float) -> LeasedMailbox | None:
        """The mailbox that is longest due, for so many seconds; None when none is due and free."""
        row = self._sql.one("lease", owner=owner, seconds=seconds)
        if row is None:
            return None
        place = (row["company_id"], row["mailbox_id"], row["host"], str(row["port"]))
        try:
            user = self._vault.open(row["user_sealed"], *place, "user")
            password = self._vault.open(row["secret"], *seal_context(*place, user, kind=row["kind"]))
        except WrongContext:
            # This row alone was tampered with or mixed up: its owner must connect it again, the others go on.
            event = states.load().events["secret-unreadable"]
            self._sql.run(
                "unreadable", company_id=row["company_id"], mailbox_id=row["mailbox_id"], epoch=row["lease_epoch"],
                to=event.to, reason=event.name,
            )  # fmt: skip
            return None
        return LeasedMailbox(
            company_id=row["company_id"],
            mailbox_id=row["mailbox_id"],
            account_id=row["account_id"],
            host=row["host"],
            port=row["port"],
            user=user,
            password=password,
            sent_override=tuple(bytes(name) for name in row["sent_override"] or ()),
            epoch=row["lease_epoch"],
            now=row["now"],
            connected_at=row["connected_at"],
            complete_from=row["complete_from"],
            complete_through=row["complete_through"],
            reconcile_after=row["reconcile_after"],
            failures=row["failures"],
            refusals=row["login_refusals"],
            kind=row["kind"],
        )

    def token_store(self, leased: LeasedMailbox) -> RegistryTokenStore:
        """Where the refresh token of a leased mailbox is kept. LeaseLost when another process owns it now."""
        return RegistryTokenStore(
            self._sql.connection, self._vault, leased.company_id, leased.mailbox_id, epoch=leased.epoch,
            lost=lambda: LeaseLost(f"the lease of mailbox {leased.mailbox_id} is gone"),
        )  # fmt: skip

    @property
    def connection(self) -> psycopg.Connection:
        """The connection that everything here goes over; its worker may use it between two calls."""
        return self._sql.connection

    def marks(self, leased: LeasedMailbox, folder: bytes) -> SavedCursor | None:
        """The marks of a folder; None when it was never read."""
        row = self._sql.one("marks", **_place(leased), folder=folder)
        if row is None:
            return None
        marks = Cursor(
            row["uidvalidity"], row["high_uid"], row["scan_down_to_uid"], row["uidnext"], tuple(row["recent_uids"])
        )
        return SavedCursor(marks, row["lower_bound_at"], row["scan_began_at"])

    def known(self, leased: LeasedMailbox, message_ids: Sequence[str]) -> dict[str, tuple[datetime, bytes]]:
        """(sent_at, record) of those messages that were published before; the record byte for byte."""
        rows = self._sql.all("known", **_place(leased), message_ids=list(message_ids))
        return {row["message_id"]: (row["sent_at"], bytes(row["record"])) for row in rows}

    def save(
        self,
        leased: LeasedMailbox,
        folder: bytes,
        held: SavedCursor,
        *,
        messages: int,
        remembered: Sequence[PublishedMessage] = (),
        read: int = 0,
        restarted: bool = False,
        passed: int = 0,
        found: int = 0,
    ) -> None:
        """Marks of a folder and what was published up to them, together. LeaseLost when the lease is gone.

        `passed` UIDs were given away since the last poll, and `found` of their messages were there.
        """
        place = _place(leased)
        with self._fenced(leased):
            self._sql.run("retire_marks", **place, folder=folder, uidvalidity=held.marks.uidvalidity)
            self._sql.run(
                "save_marks",
                **place,
                folder=folder,
                uidvalidity=held.marks.uidvalidity,
                high=held.marks.high,
                scan_down_to=held.marks.scan_down_to,
                uidnext=held.marks.uidnext,
                recent=list(held.marks.recent),
                messages=messages,
                lower_bound_at=held.lower_bound_at,
                read=read,
                restarted=restarted,
                passed=passed,
                found=found,
            )
            if remembered:
                self._sql.run(
                    "remember",
                    **place,
                    message_ids=[one.message_id for one in remembered],
                    sent_ats=[one.sent_at for one in remembered],
                    records=[one.record for one in remembered],
                )
                self._sql.run(
                    "count",
                    **place,
                    folder=folder,
                    days=[one.sent_at.date() for one in remembered],
                    kinds=[one.kind for one in remembered],
                    suspects=[one.suspect for one in remembered],
                )

    def watch(self, leased: LeasedMailbox, folders: Sequence[bytes]) -> None:
        """These are the Sent folders now; others are not waited for any more."""
        with self._fenced(leased):
            self._sql.run("unwatched", **_place(leased), folders=list(folders))

    def others(self, leased: LeasedMailbox, messages: Mapping[bytes, int]) -> None:
        """Folders named like Sent that are not read, and how many messages are in them."""
        with self._fenced(leased):
            self._sql.run("others", **_place(leased), folders=list(messages), counts=list(messages.values()))

    def polled(
        self,
        leased: LeasedMailbox,
        *,
        complete: bool,
        reconciled: bool,
        complete_from: datetime,
        next_seconds: float,
    ) -> None:
        """A poll ended well: release the lease, and when it was complete say through when."""
        place = _place(leased)
        with self._fenced(leased):
            row = self._sql.one(
                "polled",
                **place,
                epoch=leased.epoch,
                complete=complete,
                reconciled=reconciled,
                due=leased.reconcile_after,
                complete_from=complete_from,
                through=leased.now,
                next_seconds=next_seconds,
            )
            assert row is not None
            if complete:
                self._sql.run(
                    "covered",
                    **place,
                    account_id=leased.account_id,
                    connected_at=leased.connected_at,
                    from_at=row["complete_from"],
                    through_at=row["complete_through"],
                )

    def failed(
        self,
        leased: LeasedMailbox,
        *,
        reason: str | None,
        next_seconds: float,
        counts: bool,
        refused: bool = False,
        state: str | None = None,
    ) -> bool:
        """A poll failed: release the lease with the reason. False when the lease was gone anyway.

        `refused`: the login was; refusals are counted until a poll ends well or a person acts.
        """
        row = self._sql.one(
            "failed",
            **_place(leased),
            epoch=leased.epoch,
            reason=reason,
            next_seconds=next_seconds,
            counts=int(counts),
            refused=int(refused),
            state=state,
        )
        return row is not None

    def waiting(self) -> WaitingMailboxes:
        """How all mailboxes are, without naming any."""
        rows = self._sql.all("waiting")
        return WaitingMailboxes(
            {row["state"]: row["mailboxes"] for row in rows},
            max((row["delay"] for row in rows), default=0.0),
            max((row["age"] for row in rows), default=0.0),
        )

    @contextmanager
    def _fenced(self, leased: LeasedMailbox) -> Iterator[None]:
        with self._sql.transaction():
            if self._sql.one("held", **_place(leased), epoch=leased.epoch) is None:
                raise LeaseLost(f"the lease of mailbox {leased.mailbox_id} is gone")
            yield


def _place(leased: LeasedMailbox) -> dict[str, str]:
    return {"company_id": leased.company_id, "mailbox_id": leased.mailbox_id}
