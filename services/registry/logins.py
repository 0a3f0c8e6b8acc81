"""Logins: who holds one, and the sealed values that a mailbox is logged in with. SQL is in logins.sql.

A login is a server and a user name, stored as a hash; at most one mailbox holds it, unless an operator linked two companies.
Ports 993 and 143 of a name are one server; on another port another server may run. Mailboxes that were connected to such a port
before it belonged to the hash have the hash without it and are compared by the port beside it.
"""

from dataclasses import replace
from typing import Any

import psycopg

from services.common.hashing import Hasher
from services.common.postgres import Statements, load_statements
from services.mail.values import Login
from services.providers.mail_server import USUAL_PORTS
from services.registry import states
from services.registry.addresses import address_hash
from services.registry.errors import RegistryError, unknown_mailbox
from services.registry.refusals import reason
from services.registry.states import CONNECTED, NEVER_CONNECTED
from services.registry.tokens import RegistryTokenStore, opens_any_secret, seal_context
from services.registry.vault import UnknownKey, Vault, WrongContext, masked

SQL = load_statements("services.registry", "logins.sql")


class LoginTaken(RegistryError):
    """Another company reads this login. `holder` (company, mailbox) is for the operator alone."""

    def __init__(self, holder: tuple[str, str]) -> None:
        self.holder = holder
        super().__init__(
            "this login is connected by another company; it must be removed there first, or the operator links the two"
            " (docs/connecting.md, One mailbox in two companies)"
        )


class Logins:
    """Reads and writes logins over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, hasher: Hasher, vault: Vault) -> None:
        self._sql = Statements(connection, SQL)
        self._hasher = hasher
        self._vault = vault

    def check_available(self, company_id: str, login: Login, mailbox_id: str = "") -> bool:
        """RegistryError (LoginTaken) when another mailbox than this one holds a login; else whether it is shared with a
        company that an operator linked."""
        holders = self._sql.all(
            "holders", company_id=company_id, mailbox_id=mailbox_id, login_hash=self._hash(login),
            earlier_hash=self._hasher.mailbox(login.host, login.user), port=login.port, connected=list(CONNECTED),
        )  # fmt: skip
        for holder in holders:
            if holder["company_id"] == company_id:
                raise login_connected(company_id, holder["mailbox_id"])
            if not holder["linked"]:
                raise LoginTaken((holder["company_id"], holder["mailbox_id"]))
        return bool(holders)

    def is_same(self, company_id: str, mailbox_id: str, login: Login) -> bool:
        """Whether a login leads to the mailbox that was read so far."""
        stored = self._sql.one("login_hash", company_id=company_id, mailbox_id=mailbox_id)
        if stored is None:
            return False
        earlier = (self._hasher.mailbox(login.host, login.user), login.port)
        return stored["login_hash"] == self._hash(login) or (stored["login_hash"], stored["port"]) == earlier

    def _hash(self, login: Login) -> str:
        return self._hasher.mailbox(login.host, login.user, None if login.port in USUAL_PORTS else login.port)

    def columns(self, company_id: str, mailbox_id: str, login: Login) -> dict[str, Any]:
        """The columns of registry.mailboxes that a login fills; its password is stored elsewhere, by `store_secret`."""
        place = (company_id, mailbox_id, login.host, str(login.port))
        return {
            "address_sealed": self._vault.seal(login.address, *place, field="address"),
            "address_masked": masked(login.address),
            "address_hash": address_hash(self._hasher, company_id, login.address),
            "host": login.host,
            "port": login.port,
            "tls": login.tls,
            "user_sealed": self._vault.seal(login.user, *place, field="user"),
            "login_hash": self._hash(login),
            "sent_override": list(login.sent_override) or None,
        }

    def store_secret(self, company_id: str, mailbox_id: str, login: Login) -> None:
        """Store the sealed password or refresh token of a login."""
        context = seal_context(company_id, mailbox_id, login.host, str(login.port), login.user, kind=login.kind)
        self._sql.run(
            "store_secret", company_id=company_id, mailbox_id=mailbox_id, sealed=self._vault.seal(login.password, *context, field="secret"),
            key_id=self._vault.key_id, kind=login.kind,
        )  # fmt: skip

    def without_password(self, company_id: str, mailbox_id: str) -> Login:
        """The stored login of a mailbox with an empty password; address and user are empty when they cannot be opened."""
        stored = self._sql.one("login", company_id=company_id, mailbox_id=mailbox_id)
        if stored is None:
            raise unknown_mailbox(company_id, mailbox_id)
        place = (company_id, mailbox_id, stored["host"], str(stored["port"]))
        login = Login(
            address="", host=stored["host"], port=stored["port"], user="", password="", sent_override=_folders(stored),
            tls=stored["tls"],
        )  # fmt: skip
        if stored["address_sealed"] is None or stored["user_sealed"] is None:
            return login
        try:
            address = self._vault.open(stored["address_sealed"], *place, field="address")
            return replace(login, address=address, user=self._vault.open(stored["user_sealed"], *place, field="user"))
        except (WrongContext, UnknownKey):
            return login

    def with_password(self, company_id: str, mailbox_id: str) -> Login:
        """The stored login of a mailbox. RegistryError when it has no password or its sealed values cannot be opened.

        UnknownKey when no stored secret opens: then the keys are wrong, and not this mailbox.
        """
        stored = self._sql.one("login", company_id=company_id, mailbox_id=mailbox_id)
        if stored is None:
            raise unknown_mailbox(company_id, mailbox_id)
        if stored["user_sealed"] is None or stored["secret"] is None:
            state = stored["state"]
            raise RegistryError(
                reason("mailbox-without-password", mailbox_id=mailbox_id, state=states.shown(state)),
                "mailbox-connect" if state in (*NEVER_CONNECTED, "removed") else "mailbox-reconnect",
                company_id=company_id, mailbox_id=mailbox_id,
            )  # fmt: skip
        place = (company_id, mailbox_id, stored["host"], str(stored["port"]))
        try:
            user = self._vault.open(stored["user_sealed"], *place, field="user")
            return Login(
                address=self._vault.open(stored["address_sealed"], *place, field="address"),
                host=stored["host"],
                port=stored["port"],
                user=user,
                password=self._vault.open(
                    stored["secret"], *seal_context(*place, user, kind=stored["kind"]), field="secret"
                ),
                sent_override=_folders(stored),
                kind=stored["kind"],
                tls=stored["tls"],
            )
        except UnknownKey:
            if not opens_any_secret(self._sql.connection, self._vault):
                raise
            raise RegistryError(
                reason("login-key-unknown", mailbox_id=mailbox_id), "vault-key-name", company_id=company_id, mailbox_id=mailbox_id,
            ) from None  # fmt: skip
        except WrongContext:
            raise RegistryError(
                reason("login-unreadable", mailbox_id=mailbox_id), "mailbox-reconnect",
                company_id=company_id, mailbox_id=mailbox_id,
            ) from None  # fmt: skip

    def token_store(self, company_id: str, mailbox_id: str) -> RegistryTokenStore:
        """Where the refresh token of a mailbox is stored."""
        return RegistryTokenStore(self._sql.connection, self._vault, company_id, mailbox_id)


def login_connected(company_id: str, mailbox_id: str) -> RegistryError:
    """The refusal of a login that a mailbox of the company holds."""
    return RegistryError(
        reason("login-connected", mailbox_id=mailbox_id), "mailbox-reconnect-differently", company_id=company_id, mailbox_id=mailbox_id
    )  # fmt: skip


def _folders(stored: dict[str, Any]) -> tuple[bytes, ...]:
    """The Sent folders that a person named instead of those that are found."""
    return tuple(bytes(name) for name in stored["sent_override"] or ())
