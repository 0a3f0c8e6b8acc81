"""The registry in Postgres: companies, accounts, and the life of their mailboxes. SQL is in registry.sql.

What polls read and write of it stands in services/fetcher/leases.py. Nothing here logs, and no error text holds an
address, a user name or a secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from services.common.errors import ReplyrateError
from services.common.hashing import Hasher
from services.common.postgres import Statements, load_statements
from services.fetcher.session import Login
from services.fetcher.vault import Misplaced, Vault, masked

SQL = load_statements("services.fetcher", "registry.sql")
CONSENT_TEXT_VERSION = "1"
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


class Registry:
    """Reads and writes of the registry over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, hasher: Hasher, vault: Vault) -> None:
        self._sql = Statements(connection, SQL)
        self._hasher = hasher
        self._vault = vault

    def add_company(self, company_id: str) -> bool:
        """Register a company; False when it was there."""
        _check_id("company", company_id)
        return self._sql.one("add_company", company_id=company_id) is not None

    def add_account(
        self, company_id: str, account_id: str, *, kind: str = "main", synced_from: datetime | None = None
    ) -> bool:
        """Register an account; False when it was there. `synced_from`: it answers through the platform's own mail."""
        _check_id("account", account_id)
        if self._sql.one("company", company_id=company_id) is None:
            raise RegistryError(f"there is no company {company_id}; add it: replyrate company add {company_id}")
        with self._sql.transaction():
            values = {"company_id": company_id, "account_id": account_id}
            added = self._sql.one("add_account", **values, kind=kind, synced_from=synced_from) is not None
            if added and synced_from is not None:
                self._sql.run("platform_coverage", **values, from_at=synced_from)
        return added

    def set_address(self, company_id: str, account_id: str, role: str, address: str) -> list[str]:
        """The platform's address of an account in a role; returns the mailboxes that must be connected again for it."""
        self._account(company_id, account_id)
        hashed = self._address_hash(company_id, address)
        values = {"company_id": company_id, "account_id": account_id, "role": role}
        with self._sql.transaction():
            sealed = self._vault.seal(address, company_id, account_id, role)
            self._sql.run("set_address", **values, sealed=sealed, masked=masked(address), hash=hashed)
            return [row["mailbox_id"] for row in self._sql.all("address_changed", **values, hash=hashed)]

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
            with self._sql.transaction():
                row = self._sql.one(
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
                self._sql.run("add_secret", **values, sealed=sealed, key_id=self._vault.key_id)
                self._sql.run(
                    "connected_coverage", **values, account_id=new.account_id, connected_at=row["connected_at"]
                )
        except psycopg.errors.UniqueViolation:
            self._check_free(new.company_id, new.host, new.user)
            raise RegistryError(f"there is a mailbox {new.mailbox_id} already; choose another id") from None
        connected_at: datetime = row["connected_at"]
        return connected_at

    def mailboxes(self, company_id: str | None = None, mailbox_id: str | None = None) -> list[dict[str, Any]]:
        """Mailboxes as a person may see them: addresses masked."""
        return self._sql.all("mailboxes", company_id=company_id, mailbox_id=mailbox_id)

    def mailbox(self, company_id: str, mailbox_id: str) -> dict[str, Any]:
        """One mailbox with its folders and its messages by kind."""
        found = self.mailboxes(company_id, mailbox_id)
        if not found:
            raise RegistryError(
                f"company {company_id} has no mailbox {mailbox_id}; see: replyrate mailbox list {company_id}"
            )
        values = {"company_id": company_id, "mailbox_id": mailbox_id}
        return {**found[0], "folders": self._sql.all("folders", **values), "kinds": self._sql.all("kinds", **values)}

    def pause(self, company_id: str, mailbox_id: str) -> None:
        """Read it no more until it is resumed."""
        self._set_state(company_id, mailbox_id, "paused", ["active"], "only an active mailbox can be paused")

    def resume(self, company_id: str, mailbox_id: str) -> None:
        """Read a paused mailbox again, at once."""
        self._set_state(company_id, mailbox_id, "active", ["paused"], "only a paused mailbox can be resumed")

    def rescan(self, company_id: str, mailbox_id: str) -> None:
        """Read everything within the horizon again."""
        if self._sql.one("rescan", company_id=company_id, mailbox_id=mailbox_id) is None:
            self.mailbox(company_id, mailbox_id)
            raise RegistryError(f"mailbox {mailbox_id} was removed; connect it again: replyrate mailbox add")

    def remove(self, company_id: str, mailbox_id: str) -> None:
        """Read it never again; its secrets go."""
        values = {"company_id": company_id, "mailbox_id": mailbox_id}
        with self._sql.transaction():
            row = self._sql.one("remove", **values)
            if row is not None:
                self._sql.run("remove_secret", **values)
                self._sql.run(
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
        row = self._sql.one("credentials", company_id=company_id, mailbox_id=mailbox_id)
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
        if self._sql.one("company", company_id=company_id) is None:
            raise RegistryError(f"there is no company {company_id}; add it: replyrate company add {company_id}")
        values = {"company_id": company_id, "login_hash": self._hasher.mailbox("", user)}
        with self._sql.transaction():
            self._sql.run("lock_tests", **values)
            tries = self._sql.one("tries", **values)
            assert tries is not None
            for count, most, oldest in (
                (tries["of_login"], TRIES_PER_HOUR, tries["login_again_at"]),
                (tries["of_company"], COMPANY_TRIES_PER_HOUR, tries["company_again_at"]),
            ):
                if count >= most:
                    raise TriesSpent(oldest)
            row = self._sql.one("begin_test", **values)
            assert row is not None
        return row["test_id"], row["tested_at"]

    def end_test(self, test_id: int, stage: str | None, code: str, detail: str) -> None:
        """How a test ended; `detail` is for the operator."""
        self._sql.run("end_test", test_id=test_id, stage=stage, code=code, detail=detail or None)

    def _account(self, company_id: str, account_id: str) -> Mapping[str, Any]:
        row = self._sql.one("account", company_id=company_id, account_id=account_id)
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
        row = self._sql.one("login_taken", login_hash=self._hasher.mailbox(host, user))
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
        if self._sql.one("set_state", **values, state=state, reason=None, states=states) is None:
            found = self.mailbox(company_id, mailbox_id)
            raise RegistryError(f"mailbox {mailbox_id} is {found['state']}; {why}")


def _check_id(what: str, text: str) -> None:
    if not 1 <= len(text) <= 128 or any(char < " " or "\x7f" <= char <= "\x9f" for char in text):
        raise RegistryError(f"the {what} id must have 1 to 128 characters and no control character")
