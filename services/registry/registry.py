"""The registry in Postgres: companies, accounts, and the life of their mailboxes. SQL is in registry.sql.

Every change of a mailbox's state is an event of states.toml. What polls read and write stands in leases.py. Nothing here
logs, and no error text holds an address, a user name or a secret.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg

from services.common.errors import ReplyrateError
from services.common.hashing import Hasher
from services.common.postgres import Statements, load_statements
from services.imap.session import Login
from services.registry import states
from services.registry.states import HOLDING, StateEvent
from services.registry.vault import Vault, WrongContext, masked
from services.signin.oauth import RegistryTokenStore, seal_context

SQL = load_statements("services.registry", "registry.sql")
ROLES: Final = ("registered", "backup")
ATTEMPTS: Final = ("pending_test", "refused")
"""States of a mailbox that was never connected."""
OPERATOR: Final = "operator"
"""Who acts when nobody else is named."""
TRIES_PER_HOUR = 5
"""Failed connection tests of one mailbox; as many passed ones as one likes."""
COMPANY_TRIES_PER_HOUR = 30
"""The same of all mailboxes of a company together: nobody looks for servers or passwords with us."""


class RegistryError(ReplyrateError):
    """A request that cannot be fulfilled; the text says why and what to do."""


class TooManyTests(RegistryError):
    """A mailbox, or the mailboxes of a company, were tried too often; `again_at` is when the next try may be made."""

    def __init__(self, again_at: datetime) -> None:
        self.again_at = again_at
        super().__init__(f"too many failed tries in the last hour; try again at {again_at:%H:%M} UTC")


class LoginTaken(RegistryError):
    """Another company reads this login. `holder` (company, mailbox) is for the operator alone."""

    def __init__(self, holder: tuple[str, str]) -> None:
        self.holder = holder
        super().__init__(
            "this login is connected by another company; it must be removed there first, or the operator links the two"
            " (docs/connecting.md, One mailbox in two companies)"
        )


@dataclass(frozen=True, slots=True)
class GivenConsent:
    """Who consented to which text."""

    by: str
    text_version: str
    language: str


@dataclass(frozen=True, slots=True)
class ConnectionAttempt:
    """A mailbox that somebody begins to connect; the password of `login` is not stored before it passed a test."""

    company_id: str
    account_id: str
    mailbox_id: str
    role: str
    login: Login
    consent: GivenConsent


class Registry:
    """Reads and writes of the registry over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, hasher: Hasher, vault: Vault) -> None:
        self._sql = Statements(connection, SQL)
        self._hasher = hasher
        self._vault = vault

    @property
    def connection(self) -> psycopg.Connection:
        """The connection that everything here goes over; whoever holds the registry may use it between two calls."""
        return self._sql.connection

    def add_company(self, company_id: str) -> bool:
        """Register a company; False when it was there."""
        _check_id("company", company_id)
        return self._sql.one("add_company", company_id=company_id) is not None

    def add_account(
        self, company_id: str, account_id: str, *, kind: str = "main", synced_from: datetime | None = None
    ) -> bool:
        """Register an account; False when it was there. `synced_from`: it answers through the platform's own mail."""
        _check_id("account", account_id)
        self._check_company(company_id)
        with self._sql.transaction():
            values = {"company_id": company_id, "account_id": account_id}
            added = self._sql.one("add_account", **values, kind=kind, synced_from=synced_from) is not None
            if added and synced_from is not None:
                self._sql.run("platform_coverage", **values, from_at=synced_from)
        if not added:
            self._same_account(company_id, account_id, kind, synced_from)
        return added

    def account(self, company_id: str, account_id: str) -> Mapping[str, Any]:
        """Its kind, and since when the platform syncs it. RegistryError when there is none."""
        row = self._sql.one("account", company_id=company_id, account_id=account_id)
        if row is None:
            raise RegistryError(
                f"company {company_id} has no account {account_id}; add it: replyrate account add {company_id} {account_id}"
            )
        return row

    def set_address(
        self, company_id: str, account_id: str, role: str, address: str, *, by: str = OPERATOR
    ) -> list[str]:
        """The platform's address of an account in a role; returns the mailboxes that must be connected again for it: those of
        the address before, and when none was known those of any other address."""
        self.account(company_id, account_id)
        hashed = self._address_hash(company_id, address)
        values = {"company_id": company_id, "account_id": account_id, "role": role}
        event = states.load().events["address-changed"]
        with self._acting(by, event):
            row = self._sql.one("address", **values)
            before = None if row is None else row["address_hash"]
            if before == hashed:
                return []
            sealed = self._vault.seal(address, company_id, account_id, role)
            self._sql.run("set_address", **values, sealed=sealed, masked=masked(address), hash=hashed)
            rows = self._sql.all(
                "address_changed", **values, before=before, hash=hashed, to=event.to, froms=list(event.froms), reason=event.name
            )  # fmt: skip
        return [row["mailbox_id"] for row in rows]

    def has_address(self, company_id: str, account_id: str, role: str, address: str) -> bool | None:
        """Whether this is the account's address in a role; None when it has none."""
        row = self._sql.one("address", company_id=company_id, account_id=account_id, role=role)
        return None if row is None else bool(row["address_hash"] == self._address_hash(company_id, address))

    def change_address(
        self, company_id: str, account_id: str, role: str, address: str, *, by: str | None = None
    ) -> list[str]:
        """An account's address changed on the platform, by an account of the company (None: by itself).

        A sub-account's registered address is changed by the main account alone. Returns as `set_address`.
        """
        kind = self.account(company_id, account_id)["kind"]
        actor = account_id if by is None else by
        main = self.account(company_id, actor)["kind"] == "main"
        if kind == "sub" and role == "registered" and not main:
            raise RegistryError(
                f"{account_id} is a sub-account: its registered address is changed by the main account;"
                " name that one: --by ACCOUNT"
            )
        if actor != account_id and not main:
            raise RegistryError(f"account {actor} is a sub-account and changes only its own backup address")
        return self.set_address(company_id, account_id, role, address, by=f"account {actor}")

    def begin_platform_sync(
        self, company_id: str, account_id: str, since: datetime, *, by: str = OPERATOR
    ) -> list[str]:
        """The account answers through the platform's own mail from an instant on: its mailboxes are not read any more, and
        their passwords go. Returns those that were connected; attempts are removed."""
        account = self.account(company_id, account_id)
        if account["synced_by_platform_from"] is not None:
            raise RegistryError(
                f"account {account_id} is synced by the platform since {account['synced_by_platform_from']:%Y-%m-%d} already"
            )
        values = {"company_id": company_id, "account_id": account_id}
        life = states.load()
        with self._sql.transaction():
            row = self._sql.one("set_synced", **values, synced_from=since)
            if row is None or since > row["now"] + timedelta(minutes=1):
                raise RegistryError("nothing changed: it was changed at the same moment, or --since lies in the future")
            since = min(since, row["now"])
            self._sql.run("platform_coverage", **values, from_at=since)
            for attempt in self._sql.all("of_account", **values, states=list(ATTEMPTS)):
                self._withdraw(company_id, attempt["mailbox_id"], by)
            event = life.events["platform-syncs"]
            moved = [one["mailbox_id"] for one in self._sql.all("of_account", **values, states=list(event.froms))]
            for mailbox_id in moved:
                with self._acting(by, event):
                    self._move(company_id, mailbox_id, event)
                    self._sql.run("shred_secret", company_id=company_id, mailbox_id=mailbox_id)
        return moved

    def end_platform_sync(self, company_id: str, account_id: str, *, by: str = OPERATOR) -> list[str]:
        """The platform does not sync the account any more. Returns its mailboxes, which must be connected again."""
        since = self.account(company_id, account_id)["synced_by_platform_from"]
        values = {"company_id": company_id, "account_id": account_id}
        event = states.load().events["platform-sync-ended"]
        with self._sql.transaction():
            row = self._sql.one("set_synced", **values, synced_from=None)
            if row is None:
                raise RegistryError(f"account {account_id} is not synced by the platform; nothing changed")
            self._sql.run("platform_ended", **values, from_at=since, removed_at=row["now"])
            moved = [one["mailbox_id"] for one in self._sql.all("of_account", **values, states=list(event.froms))]
            for mailbox_id in moved:
                with self._acting(by, event):
                    self._move(company_id, mailbox_id, event, reason=event.name)
        return moved

    def check_account(self, company_id: str, account_id: str) -> None:
        """RegistryError when an account needs no mailbox, or is none."""
        if self.account(company_id, account_id)["synced_by_platform_from"] is not None:
            raise RegistryError(
                f"account {account_id} answers through the platform's own mail: its replies are counted already,"
                " and it needs no mailbox"
            )

    def check_login(self, company_id: str, host: str, user: str, mailbox_id: str = "") -> bool:
        """RegistryError (LoginTaken) when a login belongs to another mailbox than this one; else whether it is shared with
        a company that an operator linked."""
        holders = self._sql.all(
            "holders", company_id=company_id, mailbox_id=mailbox_id, login_hash=self._hasher.mailbox(host, user),
            holding=list(HOLDING),
        )  # fmt: skip
        for holder in holders:
            if holder["company_id"] == company_id:
                raise RegistryError(
                    f"this login is connected already as mailbox {holder['mailbox_id']}; change how with: replyrate"
                    f" mailbox reconnect {company_id} {holder['mailbox_id']}"
                )
            if not holder["linked"]:
                raise LoginTaken((holder["company_id"], holder["mailbox_id"]))
        return bool(holders)

    def begin_mailbox(self, attempt: ConnectionAttempt) -> str:
        """Consent is there, and a mailbox that waits for its test: the one of an earlier attempt of this account and role,
        else a new one. Returns its id. Its password is not stored."""
        event = states.load().events["connecting"]
        login, consent = attempt.login, attempt.consent
        key = {"company_id": attempt.company_id, "account_id": attempt.account_id, "role": attempt.role}
        try:
            with self._acting(consent.by, event):
                held = self._sql.one("attempt", **key, states=list(ATTEMPTS))
                mailbox_id = attempt.mailbox_id if held is None else held["mailbox_id"]
                values = {
                    **key, "mailbox_id": mailbox_id, "to": event.to, "consent_by": consent.by, "text_version": consent.text_version,
                    **self._sealed(attempt.company_id, mailbox_id, login),
                }  # fmt: skip
                self._sql.run("begin_mailbox" if held is None else "begin_again", **values)
                self._sql.run("consent", **values, language=consent.language)
        except psycopg.errors.UniqueViolation as error:
            if error.diag.constraint_name == "mailboxes_attempt":
                raise RegistryError("somebody else connects a mailbox of this account just now; try again") from None
            raise RegistryError(f"there is a mailbox {attempt.mailbox_id} already; choose another id") from None
        return mailbox_id

    def test_failed(self, company_id: str, mailbox_id: str, code: str, *, by: str = OPERATOR) -> str:
        """The test of an attempt failed; returns the state it is in now, or of one that was connected the state it keeps."""
        event = states.load().after_test(code)
        with self._acting(by, event):
            state = self._state(company_id, mailbox_id)
            if not event.allows(state):
                return state
            self._move(company_id, mailbox_id, event, reason=code)
        return event.to

    def connect_mailbox(
        self, company_id: str, mailbox_id: str, login: Login, expected_from: datetime, *, by: str = OPERATOR
    ) -> datetime:
        """An attempt whose test has passed is read from now on; its password is sealed. Returns when it was connected."""
        event = states.load().events["connected"]
        values = {"company_id": company_id, "mailbox_id": mailbox_id}
        try:
            with self._acting(by, event):
                state = self._state(company_id, mailbox_id)
                linked = self.check_login(company_id, login.host, login.user, mailbox_id)
                row = self._sql.one("connect", **values, expected_from=expected_from, linked=linked)
                assert row is not None
                self._move(company_id, mailbox_id, event, state=state)
                self._set_secret(company_id, mailbox_id, login)
                self._sql.run("connected_coverage", **values, **row)
        except psycopg.errors.UniqueViolation:
            self.check_login(company_id, login.host, login.user, mailbox_id)
            raise RegistryError("this login was connected at the same moment; try again") from None
        connected_at: datetime = row["connected_at"]
        return connected_at

    def is_same_login(self, company_id: str, mailbox_id: str, login: Login) -> bool:
        """Whether these credentials lead to the mailbox that was read so far."""
        row = self._sql.one("lock", company_id=company_id, mailbox_id=mailbox_id)
        return row is not None and row["login_hash"] == self._hasher.mailbox(login.host, login.user)

    def check_reconnect(self, company_id: str, mailbox_id: str, login: Login) -> None:
        """RegistryError when a mailbox cannot be connected again with these credentials, before anything is tried."""
        shown = self.mailbox(company_id, mailbox_id)
        event = states.load().events["reconnected"]
        if shown["state"] == "synced_by_platform":
            self.check_account(company_id, shown["account_id"])
        if not event.allows(shown["state"]):
            raise RegistryError(f"mailbox {mailbox_id} is {shown['state']}; {event.only}")
        own = self.has_address(company_id, shown["account_id"], shown["role"], login.address)
        if shown["state_reason"] == "address-changed" and own is False:
            row = self._sql.one("address", company_id=company_id, account_id=shown["account_id"], role=shown["role"])
            assert row is not None
            raise RegistryError(
                f"the {shown['role']} address of account {shown['account_id']} is {row['address_masked']} now;"
                " connect that mailbox: --address ADDRESS"
            )

    def reconnect(
        self,
        company_id: str,
        mailbox_id: str,
        login: Login,
        expected_from: datetime,
        *,
        consent: GivenConsent | None,
        by: str,
    ) -> bool:
        """Other credentials passed the test. True when they lead to another mailbox, which is read from the start; else
        reading goes on where it was."""
        event = states.load().events["reconnected"]
        values: dict[str, Any] = {"company_id": company_id, "mailbox_id": mailbox_id}
        try:
            with self._acting(by, event):
                state = self._state(company_id, mailbox_id)
                anew = not self.is_same_login(company_id, mailbox_id, login)
                linked = self.check_login(company_id, login.host, login.user, mailbox_id)
                sealed = self._sealed(company_id, mailbox_id, login)
                if anew:
                    self._sql.run("shred_links", **values, holding=list(HOLDING))
                self._sql.run("reconnect", **values, **sealed, expected_from=expected_from, linked=linked)
                self._set_secret(company_id, mailbox_id, login)
                if consent is not None:
                    self._sql.run(
                        "consent", **values, consent_by=consent.by, text_version=consent.text_version, language=consent.language
                    )  # fmt: skip
                if anew:
                    row = self._sql.one("begin_anew", **values)
                    assert row is not None
                    self._sql.run("connected_coverage", **values, **row)
                self._move(company_id, mailbox_id, event, state=state, reconnected=True)
        except psycopg.errors.UniqueViolation:
            self.check_login(company_id, login.host, login.user, mailbox_id)
            raise RegistryError("this login was connected at the same moment; try again") from None
        return anew

    def mailboxes(self, company_id: str | None = None, mailbox_id: str | None = None) -> list[dict[str, Any]]:
        """Mailboxes as a person may see them: addresses masked."""
        return self._sql.all("mailboxes", company_id=company_id, mailbox_id=mailbox_id)

    def mailbox(self, company_id: str, mailbox_id: str) -> dict[str, Any]:
        """One mailbox with its folders, messages by kind, consents, history and links."""
        found = self.mailboxes(company_id, mailbox_id)
        if not found:
            raise RegistryError(
                f"company {company_id} has no mailbox {mailbox_id}; see: replyrate mailbox list {company_id}"
            )
        values = {"company_id": company_id, "mailbox_id": mailbox_id}
        return {
            **found[0],
            **{
                name: self._sql.all(name, **values)
                for name in (
                    "folders",
                    "kinds",
                    "consents",
                    "history",
                )
            },
            "links": self._sql.all("links", **values, holding=list(HOLDING)),
        }

    def pause(self, company_id: str, mailbox_id: str, *, by: str = OPERATOR) -> None:
        """Read it no more until it is resumed."""
        self._happen("paused", company_id, mailbox_id, by)

    def resume(self, company_id: str, mailbox_id: str, *, by: str = OPERATOR) -> None:
        """Read a paused mailbox again, at once."""
        self._happen("resumed", company_id, mailbox_id, by)

    def rescan(self, company_id: str, mailbox_id: str) -> None:
        """Read everything within the horizon again."""
        if self._sql.one("rescan", company_id=company_id, mailbox_id=mailbox_id) is None:
            self.mailbox(company_id, mailbox_id)
            raise RegistryError(f"mailbox {mailbox_id} was removed; connect it again: replyrate mailbox add")

    def remove(self, company_id: str, mailbox_id: str, *, by: str = OPERATOR) -> None:
        """Consent is withdrawn: read it never again, and shred what tells whose it was. consent.toml tells what remains."""
        with self._sql.transaction():
            self._withdraw(company_id, mailbox_id, by)

    def link(self, company_id: str, mailbox_id: str, other_id: str, *, by: str) -> None:
        """Let another company connect the login of a mailbox too."""
        self._check_company(other_id)
        if other_id == company_id:
            raise RegistryError("a company is not linked with itself; name the other company that reads this mailbox")
        shown = self.mailbox(company_id, mailbox_id)
        values = {"company_id": company_id, "mailbox_id": mailbox_id, "other_id": other_id, "holding": list(HOLDING)}
        if shown["state"] not in HOLDING:
            raise RegistryError(
                f"mailbox {mailbox_id} is {shown['state']}; link it from the company that has it connected"
            )
        if self._sql.one("link", **values, by=by) is None:
            raise RegistryError(f"companies {company_id} and {other_id} are linked for this mailbox already")

    def unlink(self, company_id: str, mailbox_id: str, other_id: str) -> None:
        """Take a link back; refused while both companies have the mailbox connected."""
        for link in self.mailbox(company_id, mailbox_id)["links"]:
            if link["company_id"] == other_id and link["mailbox_id"] is not None:
                raise RegistryError(
                    f"company {other_id} has it connected as mailbox {link['mailbox_id']}; remove it there first:"
                    f" replyrate mailbox remove {other_id} {link['mailbox_id']}"
                )
        if self._sql.one("unlink", company_id=company_id, mailbox_id=mailbox_id, other_id=other_id) is None:
            raise RegistryError(f"mailbox {mailbox_id} is not linked with company {other_id}; nothing changed")

    def stored(self, company_id: str, mailbox_id: str) -> Login:
        """How a mailbox was logged in to, with an empty password; address and user are empty when they cannot be read."""
        row = self._sql.one("credentials", company_id=company_id, mailbox_id=mailbox_id)
        if row is None:
            self.mailbox(company_id, mailbox_id)
            raise AssertionError("a mailbox without a row")
        place = (company_id, mailbox_id, row["host"], str(row["port"]))
        overrides = tuple(bytes(name) for name in row["sent_override"] or ())
        found = Login(address="", host=row["host"], port=row["port"], user="", password="", sent_override=overrides)
        try:
            if row["address_sealed"] is not None and row["user_sealed"] is not None:
                address = self._vault.open(row["address_sealed"], *place, "address")
                found = replace(found, address=address, user=self._vault.open(row["user_sealed"], *place, "user"))
        except WrongContext:
            pass
        return found

    def credentials(self, company_id: str, mailbox_id: str) -> Login:
        """How a mailbox is logged in to. RegistryError when it was removed or cannot be read."""
        row = self._sql.one("credentials", company_id=company_id, mailbox_id=mailbox_id)
        if row is None or row["user_sealed"] is None or row["secret"] is None:
            state = self.mailbox(company_id, mailbox_id)["state"]
            raise RegistryError(
                f"mailbox {mailbox_id} is {state} and has no password; connect it: replyrate mailbox"
                + (" add" if state in (*ATTEMPTS, "removed") else f" reconnect {company_id} {mailbox_id}")
            )
        place = (company_id, mailbox_id, row["host"], str(row["port"]))
        try:
            user = self._vault.open(row["user_sealed"], *place, "user")
            return Login(
                address=self._vault.open(row["address_sealed"], *place, "address"),
                host=row["host"],
                port=row["port"],
                user=user,
                password=self._vault.open(row["secret"], *seal_context(*place, user, kind=row["kind"])),
                sent_override=tuple(bytes(name) for name in row["sent_override"] or ()),
                kind=row["kind"],
            )
        except WrongContext:
            raise RegistryError(
                f"the sealed values of mailbox {mailbox_id} cannot be read; connect it again:"
                f" replyrate mailbox reconnect {company_id} {mailbox_id}"
            ) from None

    def token_store(self, company_id: str, mailbox_id: str) -> RegistryTokenStore:
        """Where the refresh token of a mailbox is kept."""
        return RegistryTokenStore(self._sql.connection, self._vault, company_id, mailbox_id)

    def begin_test(self, company_id: str, user: str) -> tuple[int, datetime]:
        """Count a try of the connection test; returns its number and Postgres time. TriesSpent when there were too many in the last hour.

        A try counts against the user name, whatever host is typed, and as failed until it has passed.
        """
        self._check_company(company_id)
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
                    raise TooManyTests(oldest)
            row = self._sql.one("begin_test", **values)
            assert row is not None
        return row["test_id"], row["tested_at"]

    def end_test(self, test_id: int, stage: str | None, code: str, detail: str) -> None:
        """How a test ended; `detail` is for the operator."""
        self._sql.run("end_test", test_id=test_id, stage=stage, code=code, detail=detail or None)

    def _same_account(self, company_id: str, account_id: str, kind: str, synced_from: datetime | None) -> None:
        """An account that is there is not changed by adding it: RegistryError with the command that changes it."""
        held = self.account(company_id, account_id)
        if held["kind"] != kind:
            raise RegistryError(f"account {account_id} is there as a {held['kind']} account; nothing changed")
        if synced_from is not None and held["synced_by_platform_from"] is None:
            raise RegistryError(
                f"account {account_id} is there and is not synced by the platform; change that:"
                f" replyrate account platform-sync {company_id} {account_id} --on"
            )

    def _check_company(self, company_id: str) -> None:
        if self._sql.one("company", company_id=company_id) is None:
            raise RegistryError(f"there is no company {company_id}; add it: replyrate company add {company_id}")

    def _address_hash(self, company_id: str, address: str) -> str:
        hashed = self._hasher.address(company_id, address)
        if hashed is None:
            raise RegistryError("this is no e-mail address; write it as name@domain")
        return hashed

    def _sealed(self, company_id: str, mailbox_id: str, login: Login) -> dict[str, Any]:
        """What is stored of a login, its password aside."""
        place = (company_id, mailbox_id, login.host, str(login.port))
        return {
            "address_sealed": self._vault.seal(login.address, *place, "address"),
            "address_masked": masked(login.address),
            "address_hash": self._address_hash(company_id, login.address),
            "host": login.host,
            "port": login.port,
            "user_sealed": self._vault.seal(login.user, *place, "user"),
            "login_hash": self._hasher.mailbox(login.host, login.user),
            "sent_override": list(login.sent_override) or None,
        }

    def _set_secret(self, company_id: str, mailbox_id: str, login: Login) -> None:
        place = seal_context(company_id, mailbox_id, login.host, str(login.port), login.user, kind=login.kind)
        self._sql.run(
            "set_secret", company_id=company_id, mailbox_id=mailbox_id, sealed=self._vault.seal(login.password, *place),
            key_id=self._vault.key_id, kind=login.kind,
        )  # fmt: skip

    @contextmanager
    def _acting(self, by: str, event: StateEvent) -> Iterator[None]:
        """A transaction in which somebody makes an event happen."""
        with self._sql.transaction():
            self._sql.run("acting", actor=by, reason=event.name)
            yield

    def _happen(self, name: str, company_id: str, mailbox_id: str, by: str) -> None:
        event = states.load().events[name]
        with self._acting(by, event):
            self._move(company_id, mailbox_id, event, state=self._state(company_id, mailbox_id))

    def _state(self, company_id: str, mailbox_id: str) -> str:
        """The state of a mailbox, whose row is locked. RegistryError when there is none."""
        row = self._sql.one("lock", company_id=company_id, mailbox_id=mailbox_id)
        return str(self.mailbox(company_id, mailbox_id)["state"] if row is None else row["state"])

    def _move(
        self,
        company_id: str,
        mailbox_id: str,
        event: StateEvent,
        *,
        reason: str | None = None,
        reconnected: bool = False,
        state: str | None = None,
    ) -> None:
        """Make an event happen to a mailbox. RegistryError when its state does not allow it; `state` is for the sentence."""
        row = self._sql.one(
            "move", company_id=company_id, mailbox_id=mailbox_id, froms=list(event.froms), to=event.to, reason=reason,
            reconnected=reconnected,
        )  # fmt: skip
        if row is None:
            raise RegistryError(f"mailbox {mailbox_id} is {state or 'in another state'}; {event.only}")

    def _withdraw(self, company_id: str, mailbox_id: str, by: str) -> None:
        event = states.load().events["withdrawn"]
        values = {"company_id": company_id, "mailbox_id": mailbox_id}
        with self._acting(by, event):
            state = self._state(company_id, mailbox_id)
            self._sql.run("shred_links", **values, holding=list(HOLDING))
            self._move(company_id, mailbox_id, event, state=state)
            self._sql.run("shred_secret", **values)
            self._sql.run("withdraw_consents", **values, by=by)
            row = self._sql.one("shred", **values)
            assert row is not None
            if state not in ATTEMPTS:
                self._sql.run(
                    "removed_coverage", **values, account_id=row["account_id"], connected_at=row["connected_at"],
                    removed_at=row["removed_at"], through=row["complete_through"],
                )  # fmt: skip


def _check_id(what: str, text: str) -> None:
    if not 1 <= len(text) <= 128 or any(char < " " or "\x7f" <= char <= "\x9f" for char in text):
        raise RegistryError(f"the {what} id must have 1 to 128 characters and no control character")
