"""The registry in Postgres: companies, accounts, mailboxes, their marks, leases and coverage. SQL is in registry.sql.

Every write of a poll is fenced: it locks the mailbox's row and looks whether the lease of its epoch still stands, so
a process that was frozen or cut off writes nothing once another one took over. Nothing here logs, and no error text
holds an address, a user name or a secret.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import psycopg
from psycopg.rows import dict_row

from services.common.errors import ConfigError, ReplyrateError
from services.common.hashing import Hasher
from services.common.postgres import load_statements, translate
from services.fetcher.plan import Marks
from services.fetcher.session import Login
from services.fetcher.vault import Misplaced, Vault, masked

SQL = load_statements("services.fetcher", "registry.sql")
CONSENT_TEXT_VERSION = "1"
SEALED_TOGETHER = 50
"""Rows that are sealed anew in one transaction; pollers wait for their rows that long, some milliseconds."""
MAILBOX_STATES = ("pending_test", "active", "paused", "needs_reconnect", "refused", "synced_by_platform", "removed")
"""As the check of registry.mailboxes allows them."""
TRIES_PER_HOUR = 5
"""Failed connection tests of one mailbox; as many passed ones as one likes."""
COMPANY_TRIES_PER_HOUR = 30
"""The same of all mailboxes of a company together: nobody looks for servers or passwords with us."""


class RegistryError(ReplyrateError):
    """A request that cannot be fulfilled; the text says why and what to do."""


class TriesSpent(RegistryError):
    """A mailbox, or the mailboxes of a company, were tried too often; `again_at` is when the next try may be made."""

    def __init__(self, again_at: datetime) -> None:
        self.again_at = again_at
        super().__init__(f"too many failed tries in the last hour; try again at {again_at:%H:%M} UTC")


class LeaseLost(ReplyrateError):
    """Another process owns the mailbox now; nothing was written."""


@dataclass(frozen=True, slots=True)
class NewMailbox:
    """What is stored of a mailbox whose test has passed."""

    company_id: str
    account_id: str
    mailbox_id: str
    role: str
    address: str
    host: str
    port: int
    user: str
    password: str
    consent_by: str
    sent_override: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Leased:
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


@dataclass(frozen=True, slots=True)
class HeldMarks:
    """Marks of a folder and the lower bound for messages that its scan finds first."""

    marks: Marks
    lower_bound_at: datetime | None
    scan_began_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Remembered:
    """One message that was published for the first time."""

    message_id: str
    sent_at: datetime
    record: bytes
    kind: str
    suspect: bool


State = Literal["current", "old", "rotated", "another-key", "unreadable"]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A row with sealed values: `what` is a mailbox, or an account and a role; the key it is under now."""

    company_id: str
    what: str
    state: State


@dataclass(frozen=True, slots=True)
class Waiting:
    """Mailboxes by state; of the active ones: how long the most overdue waits, and the oldest good poll's age."""

    states: Mapping[str, int]
    delay_seconds: float
    age_seconds: float


class Registry:
    """Reads and writes of the registry over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, hasher: Hasher, vault: Vault) -> None:
        self._connection = connection
        self._hasher = hasher
        self._vault = vault

    def add_company(self, company_id: str) -> bool:
        """Register a company; False when it was there."""
        _check_id("company", company_id)
        return self._one("add_company", company_id=company_id) is not None

    def add_account(
        self, company_id: str, account_id: str, *, kind: str = "main", synced_from: datetime | None = None
    ) -> bool:
        """Register an account; False when it was there. `synced_from`: it answers through the platform's own mail."""
        _check_id("account", account_id)
        if self._one("company", company_id=company_id) is None:
            raise RegistryError(f"there is no company {company_id}; add it: replyrate company add {company_id}")
        with self._transaction():
            values = {"company_id": company_id, "account_id": account_id}
            added = self._one("add_account", **values, kind=kind, synced_from=synced_from) is not None
            if added and synced_from is not None:
                self._run("platform_coverage", **values, from_at=synced_from)
        return added

    def set_address(self, company_id: str, account_id: str, role: str, address: str) -> list[str]:
        """The platform's address of an account in a role; returns the mailboxes that must be connected again for it."""
        self._account(company_id, account_id)
        hashed = self._address_hash(company_id, address)
        values = {"company_id": company_id, "account_id": account_id, "role": role}
        with self._transaction():
            sealed = self._vault.seal(address, company_id, account_id, role)
            self._run("set_address", **values, sealed=sealed, masked=masked(address), hash=hashed)
            return [row["mailbox_id"] for row in self._all("address_changed", **values, hash=hashed)]

    def check_new_mailbox(self, company_id: str, account_id: str, host: str, user: str) -> None:
        """RegistryError when such a mailbox cannot be connected, before anything is tried."""
        account = self._account(company_id, account_id)
        if account["synced_by_platform_from"] is not None:
            raise RegistryError(
                f"account {account_id} answers through the platform's own mail: its replies are counted already,"
                " and it needs no mailbox"
            )
        self._check_free(company_id, host, user)

    def add_mailbox(self, new: NewMailbox) -> datetime:
        """Store a mailbox whose test has passed; returns when it was connected."""
        values: dict[str, Any] = {"company_id": new.company_id, "mailbox_id": new.mailbox_id}
        place = (new.company_id, new.mailbox_id, new.host, str(new.port))
        try:
            with self._transaction():
                row = self._one(
                    "add_mailbox",
                    **values,
                    account_id=new.account_id,
                    role=new.role,
                    address_sealed=self._vault.seal(new.address, *place, "address"),
                    address_masked=masked(new.address),
                    address_hash=self._address_hash(new.company_id, new.address),
                    host=new.host,
                    port=new.port,
                    user_sealed=self._vault.seal(new.user, *place, "user"),
                    login_hash=self._hasher.mailbox(new.host, new.user),
                    sent_override=list(new.sent_override) or None,
                    consent_by=new.consent_by,
                    consent_text_version=CONSENT_TEXT_VERSION,
                )
                assert row is not None
                sealed = self._vault.seal(new.password, *place, new.user)
                self._run("add_secret", **values, sealed=sealed, key_id=self._vault.key_id)
                self._run("connected_coverage", **values, account_id=new.account_id, connected_at=row["connected_at"])
        except psycopg.errors.UniqueViolation:
            self._check_free(new.company_id, new.host, new.user)
            raise RegistryError(f"there is a mailbox {new.mailbox_id} already; choose another id") from None
        connected_at: datetime = row["connected_at"]
        return connected_at

    def mailboxes(self, company_id: str | None = None, mailbox_id: str | None = None) -> list[dict[str, Any]]:
        """Mailboxes as a person may see them: addresses masked."""
        return self._all("mailboxes", company_id=company_id, mailbox_id=mailbox_id)

    def mailbox(self, company_id: str, mailbox_id: str) -> dict[str, Any]:
        """One mailbox with its folders and its messages by kind."""
        found = self.mailboxes(company_id, mailbox_id)
        if not found:
            raise RegistryError(
                f"company {company_id} has no mailbox {mailbox_id}; see: replyrate mailbox list {company_id}"
            )
        values = {"company_id": company_id, "mailbox_id": mailbox_id}
        return {**found[0], "folders": self._all("folders", **values), "kinds": self._all("kinds", **values)}

    def pause(self, company_id: str, mailbox_id: str) -> None:
        """Read it no more until it is resumed."""
        self._set_state(company_id, mailbox_id, "paused", ["active"], "only an active mailbox can be paused")

    def resume(self, company_id: str, mailbox_id: str) -> None:
        """Read a paused mailbox again, at once."""
        self._set_state(company_id, mailbox_id, "active", ["paused"], "only a paused mailbox can be resumed")

    def rescan(self, company_id: str, mailbox_id: str) -> None:
        """Read everything within the horizon again."""
        if self._one("rescan", company_id=company_id, mailbox_id=mailbox_id) is None:
            self.mailbox(company_id, mailbox_id)
            raise RegistryError(f"mailbox {mailbox_id} was removed; connect it again: replyrate mailbox add")

    def remove(self, company_id: str, mailbox_id: str) -> None:
        """Read it never again; its secrets go."""
        values = {"company_id": company_id, "mailbox_id": mailbox_id}
        with self._transaction():
            row = self._one("remove", **values)
            if row is not None:
                self._run("remove_secret", **values)
                self._run(
                    "removed_coverage",
                    **values,
                    account_id=row["account_id"],
                    connected_at=row["connected_at"],
                    removed_at=row["removed_at"],
                    through=row["complete_through"],
                )
        if row is None:
            self.mailbox(company_id, mailbox_id)
            raise RegistryError(f"mailbox {mailbox_id} was removed before; nothing changed")

    def credentials(self, company_id: str, mailbox_id: str) -> Login:
        """How a mailbox is logged in to. RegistryError when it was removed or cannot be read."""
        row = self._one("credentials", company_id=company_id, mailbox_id=mailbox_id)
        if row is None or row["user_sealed"] is None or row["secret"] is None:
            state = self.mailbox(company_id, mailbox_id)["state"]
            raise RegistryError(
                f"mailbox {mailbox_id} is {state} and has no password; connect it: replyrate mailbox add"
            )
        place = (company_id, mailbox_id, row["host"], str(row["port"]))
        try:
            user = self._vault.open(row["user_sealed"], *place, "user")
            return Login(
                address=self._vault.open(row["address_sealed"], *place, "address"),
                host=row["host"],
                port=row["port"],
                user=user,
                password=self._vault.open(row["secret"], *place, user),
                sent_override=tuple(bytes(name) for name in row["sent_override"] or ()),
            )
        except Misplaced:
            raise RegistryError(f"the sealed values of mailbox {mailbox_id} cannot be read; connect it again") from None

    def begin_test(self, company_id: str, user: str) -> tuple[int, datetime]:
        """Count a try of the connection test; returns its number and Postgres time. TriesSpent when there were too many in the last hour.

        A try counts against the user name, whatever host is typed, and as failed until it has passed.
        """
        if self._one("company", company_id=company_id) is None:
            raise RegistryError(f"there is no company {company_id}; add it: replyrate company add {company_id}")
        values = {"company_id": company_id, "login_hash": self._hasher.mailbox("", user)}
        with self._transaction():
            self._run("lock_tests", **values)
            tries = self._one("tries", **values)
            assert tries is not None
            for count, most, oldest in (
                (tries["of_login"], TRIES_PER_HOUR, tries["login_again_at"]),
                (tries["of_company"], COMPANY_TRIES_PER_HOUR, tries["company_again_at"]),
            ):
                if count >= most:
                    raise TriesSpent(oldest)
            row = self._one("begin_test", **values)
            assert row is not None
        return row["test_id"], row["tested_at"]

    def end_test(self, test_id: int, stage: str | None, code: str, detail: str) -> None:
        """How a test ended; `detail` is for the operator."""
        self._run("end_test", test_id=test_id, stage=stage, code=code, detail=detail or None)

    def lease(self, owner: str, seconds: float) -> Leased | None:
        """The mailbox that is longest due, for so many seconds; None when none is due and free."""
        row = self._one("lease", owner=owner, seconds=seconds)
        if row is None:
            return None
        place = (row["company_id"], row["mailbox_id"], row["host"], str(row["port"]))
        try:
            user = self._vault.open(row["user_sealed"], *place, "user")
            password = self._vault.open(row["secret"], *place, user)
        except Misplaced:
            # This row alone was tampered with or mixed up: its owner must connect it again, the others go on.
            self._run(
                "unreadable", company_id=row["company_id"], mailbox_id=row["mailbox_id"], epoch=row["lease_epoch"]
            )
            return None
        return Leased(
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
        )

    def marks(self, leased: Leased, folder: bytes) -> HeldMarks | None:
        """The marks of a folder; None when it was never read."""
        row = self._one("marks", **_place(leased), folder=folder)
        if row is None:
            return None
        marks = Marks(
            row["uidvalidity"], row["high_uid"], row["scan_down_to_uid"], row["uidnext"], tuple(row["recent_uids"])
        )
        return HeldMarks(marks, row["lower_bound_at"], row["scan_began_at"])

    def known(self, leased: Leased, message_ids: Sequence[str]) -> dict[str, tuple[datetime, bytes]]:
        """(sent_at, record) of those messages that were published before; the record byte for byte."""
        rows = self._all("known", **_place(leased), message_ids=list(message_ids))
        return {row["message_id"]: (row["sent_at"], bytes(row["record"])) for row in rows}

    def save(
        self,
        leased: Leased,
        folder: bytes,
        held: HeldMarks,
        *,
        messages: int,
        remembered: Sequence[Remembered] = (),
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
            self._run("retire_marks", **place, folder=folder, uidvalidity=held.marks.uidvalidity)
            self._run(
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
                self._run(
                    "remember",
                    **place,
                    message_ids=[one.message_id for one in remembered],
                    sent_ats=[one.sent_at for one in remembered],
                    records=[one.record for one in remembered],
                )
                self._run(
                    "count",
                    **place,
                    folder=folder,
                    days=[one.sent_at.date() for one in remembered],
                    kinds=[one.kind for one in remembered],
                    suspects=[one.suspect for one in remembered],
                )

    def watch(self, leased: Leased, folders: Sequence[bytes]) -> None:
        """These are the Sent folders now; others are not waited for any more."""
        with self._fenced(leased):
            self._run("unwatched", **_place(leased), folders=list(folders))

    def others(self, leased: Leased, messages: Mapping[bytes, int]) -> None:
        """Folders named like Sent that are not read, and how many messages are in them."""
        with self._fenced(leased):
            self._run("others", **_place(leased), folders=list(messages), counts=list(messages.values()))

    def polled(
        self,
        leased: Leased,
        *,
        complete: bool,
        reconciled: bool,
        complete_from: datetime,
        next_seconds: float,
        earliest: datetime,
    ) -> None:
        """A poll ended well: release the lease, and when it was complete say through when."""
        place = _place(leased)
        with self._fenced(leased):
            row = self._one(
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
                self._run(
                    "covered",
                    **place,
                    account_id=leased.account_id,
                    connected_at=leased.connected_at,
                    from_at=row["complete_from"],
                    through_at=row["complete_through"],
                )
                self._run("forget", **place, earliest=earliest)

    def failed(
        self,
        leased: Leased,
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
        row = self._one(
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

    def waiting(self) -> Waiting:
        """How all mailboxes are, without naming any."""
        rows = self._all("waiting")
        return Waiting(
            {row["state"]: row["mailboxes"] for row in rows},
            max((row["delay"] for row in rows), default=0.0),
            max((row["age"] for row in rows), default=0.0),
        )

    def rotate(self, *, write: bool = True) -> Iterator[Sealed]:
        """Open every sealed value and seal it with the vault key, some rows in one transaction; each row as it is done.

        What is under the vault key already is left, so a rotation that was ended goes on where it was. With `write`
        False nothing is changed: each row says what it is.
        """
        last = {"company_id": "", "mailbox_id": ""}
        while rows := self._rotate_some("sealed_mailboxes", last, self._seal_mailbox, write):
            yield from (sealed for _, sealed in rows)
            last = {name: rows[-1][0][name] for name in last}
        last = {"company_id": "", "account_id": "", "role": ""}
        while rows := self._rotate_some("sealed_addresses", last, self._seal_address, write):
            yield from (sealed for _, sealed in rows)
            last = {name: rows[-1][0][name] for name in last}

    def sealed(self) -> int:
        """How many rows `rotate` goes through."""
        row = self._one("sealed")
        assert row is not None
        count: int = next(iter(row.values()))
        return count

    def _rotate_some(
        self, name: str, last: Mapping[str, str], seal: Callable[[dict[str, Any], bool], State], write: bool
    ) -> list[tuple[dict[str, Any], Sealed]]:
        with self._transaction():
            done = []
            for row in self._all(name, **last, count=SEALED_TOGETHER):
                what = row.get("mailbox_id") or f"{row['account_id']}/{row['role']}"
                try:
                    state = seal(row, write)
                except ConfigError:
                    state = "another-key"
                except Misplaced:
                    state = "unreadable"
                done.append((row, Sealed(row["company_id"], what, state)))
            return done

    def _seal_mailbox(self, row: dict[str, Any], write: bool) -> State:
        vault, place = self._vault, (row["company_id"], row["mailbox_id"], row["host"], str(row["port"]))
        user = vault.open(row["user_sealed"], *place, "user")
        address = None if row["address_sealed"] is None else vault.open(row["address_sealed"], *place, "address")
        password = None if row["secret"] is None else vault.open(row["secret"], *place, user)
        values = [value for value in (row["user_sealed"], row["address_sealed"], row["secret"]) if value is not None]
        if all(vault.is_current(value) for value in values):
            return "current"
        if write:
            key = {"company_id": row["company_id"], "mailbox_id": row["mailbox_id"]}
            sealed = None if address is None else vault.seal(address, *place, "address")
            self._run("seal_mailbox", **key, user=vault.seal(user, *place, "user"), address=sealed)
            if password is not None:
                self._run("seal_secret", **key, sealed=vault.seal(password, *place, user), key_id=vault.key_id)
        return "rotated" if write else "old"

    def _seal_address(self, row: dict[str, Any], write: bool) -> State:
        place = (row["company_id"], row["account_id"], row["role"])
        address = self._vault.open(row["address_sealed"], *place)
        if self._vault.is_current(row["address_sealed"]):
            return "current"
        if write:
            key = dict(zip(("company_id", "account_id", "role"), place, strict=True))
            self._run("seal_address", **key, sealed=self._vault.seal(address, *place))
        return "rotated" if write else "old"

    def _account(self, company_id: str, account_id: str) -> Mapping[str, Any]:
        row = self._one("account", company_id=company_id, account_id=account_id)
        if row is None:
            raise RegistryError(
                f"company {company_id} has no account {account_id}; add it: replyrate account add {company_id} {account_id}"
            )
        return row

    def _address_hash(self, company_id: str, address: str) -> str:
        hashed = self._hasher.address(company_id, address)
        if hashed is None:
            raise RegistryError("this is no e-mail address; write it as name@domain")
        return hashed

    def _check_free(self, company_id: str, host: str, user: str) -> None:
        row = self._one("login_taken", login_hash=self._hasher.mailbox(host, user))
        if row is None:
            return
        if row["company_id"] == company_id:
            mailbox_id = row["mailbox_id"]
            raise RegistryError(
                f"this login is connected already as mailbox {mailbox_id};"
                f" remove it first: replyrate mailbox remove {company_id} {mailbox_id}"
            )
        # Another company's ids are none of this one's business.
        raise RegistryError("this login is connected by another company; it must be removed there first")

    def _set_state(self, company_id: str, mailbox_id: str, state: str, states: list[str], why: str) -> None:
        values = {"company_id": company_id, "mailbox_id": mailbox_id}
        if self._one("set_state", **values, state=state, reason=None, states=states) is None:
            found = self.mailbox(company_id, mailbox_id)
            raise RegistryError(f"mailbox {mailbox_id} is {found['state']}; {why}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with translate(), self._connection.transaction():
            yield

    @contextmanager
    def _fenced(self, leased: Leased) -> Iterator[None]:
        with self._transaction():
            if self._one("held", **_place(leased), epoch=leased.epoch) is None:
                raise LeaseLost(f"the lease of mailbox {leased.mailbox_id} is gone")
            yield

    def _run(self, name: str, **values: Any) -> None:
        with translate():
            self._connection.execute(SQL[name], values)

    def _one(self, name: str, **values: Any) -> dict[str, Any] | None:
        with translate(), self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(SQL[name], values).fetchone()

    def _all(self, name: str, **values: Any) -> list[dict[str, Any]]:
        with translate(), self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(SQL[name], values).fetchall()


def _place(leased: Leased) -> dict[str, str]:
    return {"company_id": leased.company_id, "mailbox_id": leased.mailbox_id}


def _check_id(what: str, text: str) -> None:
    if not 1 <= len(text) <= 128 or any(char < " " or "\x7f" <= char <= "\x9f" for char in text):
        raise RegistryError(f"the {what} id must have 1 to 128 characters and no control character")
