"""Leases: which process polls a mailbox, and the fence around what a poll writes. SQL is in leases.sql.

A lease is an owner, an end and an epoch, which each new lease increments. It fences the writes of a poll: each of them is a
transaction that first locks the mailbox's row and checks that the lease of its epoch has not ended. A process that was
frozen or cut off therefore writes nothing once another process has taken over (LeaseLost), and the other process waits for
a write in progress. No log line or error text holds an address, a user name or a secret.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from logging import getLogger
from typing import Any, Final

from services.common.clocks import boot_seconds
from services.common.errors import ReplyrateError
from services.common.postgres import ConnectionSource, Statements, load_statements
from services.common.stored_message import MailboxPlace
from services.providers.mail_server import TlsMode
from services.registry import states
from services.registry.coverage import CoverageRecords, PolledSpan
from services.registry.folder_records import NO_PROGRESS, FolderProgress, FolderRecords, SavedCursor, cursors_of
from services.registry.tokens import RegistryTokenStore, opens_any_secret, seal_context
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
    """A mailbox that this process may read until its lease ends. `now` is Postgres time at the start of the poll."""

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
    cursors: Mapping[bytes, SavedCursor] = field(default_factory=dict)
    """How far the folders are read that earlier polls knew, at the start of the lease."""
    leased_at: float = 0.0
    """When the answer of Postgres with the lease arrived, in seconds of `clocks.boot_seconds`: a lease goes on while the machine is suspended."""

    def started(self) -> "LeasedMailbox":
        """The same when its poll starts now, some time after it was leased."""
        return replace(
            self, now=self.now + timedelta(seconds=boot_seconds() - self.leased_at), leased_at=boot_seconds()
        )


@dataclass(frozen=True, slots=True)
class PollEnd:
    """The end of a good poll. `complete_from`: the earliest instant from which its mailbox may be complete.

    `reconciled`: everything within the horizon was read again. `fruitless`: it ended at a limit without progress in a folder
    known before; such polls in a row are counted.
    """

    leased: LeasedMailbox
    complete: bool
    reconciled: bool
    complete_from: datetime
    next_seconds: float
    fruitless: bool = False


class Leases:
    """Reads and writes of polls over one connection (autocommit, not to be shared by threads) or over a pool."""

    def __init__(self, connection: ConnectionSource, vault: Vault) -> None:
        self._sql = Statements(connection, SQL)
        self._folders = FolderRecords(connection)
        self._coverage = CoverageRecords(connection)
        self._vault = vault

    @property
    def connection(self) -> ConnectionSource:
        """The connection or the pool, for others to use between two calls."""
        return self._sql.connection

    def lease(self, owner: str, seconds: float) -> LeasedMailbox | None:
        """Lease the mailbox that is most overdue; None when no mailbox is due and free."""
        return next(iter(self.lease_due(owner, seconds, 1)), None)

    def lease_due(self, owner: str, seconds: float, most: int) -> list[LeasedMailbox]:
        """Lease the mailboxes that are most overdue, at most `most`; none when no mailbox is due and free."""
        for _ in range(MOST_UNREADABLE):
            mailboxes = self._sql.all("lease", owner=owner, seconds=seconds, most=most)
            leased_at = boot_seconds()
            opened = [self._opened(mailbox, leased_at) for mailbox in mailboxes]
            readable = [leased for leased in opened if leased is not None]
            if readable or not mailboxes:
                return readable
        return []

    def _opened(self, mailbox: Mapping[str, Any], leased_at: float) -> LeasedMailbox | None:
        """A leased mailbox with its secret; None, and its lease ended, when no key of this process opens it."""
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
            if not opens_any_secret(self._sql.connection, self._vault):
                raise
            # Only some are sealed with a key that is missing: they stay active, since the key may return.
            self._postpone_unreadable(mailbox)
        else:
            return _leased(mailbox, user, password, leased_at)
        return None

    def token_store(self, leased: LeasedMailbox) -> RegistryTokenStore:
        """Where the refresh token of a leased mailbox is stored; it raises LeaseLost once another process owns it."""
        return RegistryTokenStore(
            self._sql.connection, self._vault, leased.company_id, leased.mailbox_id, epoch=leased.epoch,
            lost=lambda: _lost(leased),
        )  # fmt: skip

    def cursor(self, leased: LeasedMailbox, folder: bytes) -> SavedCursor | None:
        """The saved cursor of a folder; None when the folder was never read."""
        cursor = leased.cursors.get(folder)
        return self._folders.cursor(_key(leased), folder) if cursor is None else cursor

    def published(self, leased: LeasedMailbox, message_ids: Sequence[str]) -> dict[str, tuple[datetime, bytes]]:
        """(sent_at, record) of those messages that were published before; the record byte for byte."""
        place = MailboxPlace(leased.company_id, leased.account_id, leased.mailbox_id)
        return self._folders.published(place, message_ids)

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

    def end_polls(self, ends: Sequence[PollEnd]) -> list[bool]:
        """Polls ended well: release their leases, and for complete ones store through when; for each whether its lease still held.

        The rows of a poll whose lease has ended stay as they are. One transaction for all.
        """
        with self._sql.transaction():
            mailboxes = self._sql.all(
                "end_polls",
                company_ids=[end.leased.company_id for end in ends],
                mailbox_ids=[end.leased.mailbox_id for end in ends],
                epochs=[end.leased.epoch for end in ends],
                complete=[end.complete for end in ends],
                reconciled=[end.reconciled for end in ends],
                dues=[end.leased.reconcile_after for end in ends],
                complete_froms=[end.complete_from for end in ends],
                throughs=[end.leased.now for end in ends],
                next_seconds=[end.next_seconds for end in ends],
                fruitless=[end.fruitless for end in ends],
            )
            spans = [
                PolledSpan(
                    mailbox["company_id"],
                    mailbox["account_id"],
                    mailbox["mailbox_id"],
                    mailbox["connected_at"],
                    mailbox["complete_from"],
                    mailbox["complete_through"],
                )
                for mailbox in mailboxes
                if mailbox["complete"]
            ]
            if spans:
                self._coverage.record(spans)
        ended = {(mailbox["company_id"], mailbox["mailbox_id"]) for mailbox in mailboxes}
        return [(end.leased.company_id, end.leased.mailbox_id) in ended for end in ends]

    def hand_back(self, mailboxes: Sequence[LeasedMailbox]) -> None:
        """End the leases of mailboxes that were not read."""
        self._sql.run(
            "hand_back",
            company_ids=[leased.company_id for leased in mailboxes],
            mailbox_ids=[leased.mailbox_id for leased in mailboxes],
            epochs=[leased.epoch for leased in mailboxes],
        )

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


def _leased(mailbox: Mapping[str, Any], user: str, password: str, leased_at: float) -> LeasedMailbox:
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
        cursors=cursors_of(mailbox["cursors"]),
        leased_at=leased_at,
    )


def _key(leased: LeasedMailbox) -> dict[str, str]:
    return {"company_id": leased.company_id, "mailbox_id": leased.mailbox_id}


def _lost(leased: LeasedMailbox) -> LeaseLost:
    return LeaseLost(f"the lease of mailbox {leased.mailbox_id} has ended")
