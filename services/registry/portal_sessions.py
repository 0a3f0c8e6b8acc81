"""Links that a platform hands to sellers, and the sessions that they are opened to. SQL is in portal_sessions.sql.

1. `make_link` stores a link for an account; its URL has a random token, of which the database stores the hash.
2. `open_link` turns it into a session, once. The session's token follows from the link and from a secret of the browser that
   opens it, so a form that is sent twice by one browser leads to one session, and another browser gets none.
3. The web process puts the session's token into each transaction, in which `own_session` and row-level security see its account.

The address that a link expects is stored as an HMAC whose key follows from the link's token. Neither a reader of the database
nor the web process alone can test addresses against it: the key exists only in the URL and then in the browser's cookie.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import psycopg

from services.common.language import Language
from services.common.normal_forms import normalise_address
from services.common.postgres import Statements, load_statements
from services.registry import states
from services.registry.accounts import Accounts
from services.registry.addresses import ROLES
from services.registry.errors import RegistryError, unknown_mailbox
from services.registry.refusals import reason
from services.registry.secret_tokens import new_id, new_token, token_hash
from services.registry.state_changes import refused

SQL = load_statements("services.registry", "portal_sessions.sql")
Purpose = Literal["connect", "panel"]
"""What a link opens: the connect page, or the panel, from which the seller also reaches the connect page."""
LINK_PREFIXES: Final[dict[Purpose, str]] = {"connect": "rrl_", "panel": "rrp_"}
"""Of the tokens of links, so that the page of a link says what it opens before it is used up."""
SESSION_PREFIX: Final = "rrs_"
URL_CHARACTERS: Final = 2000
"""The longest return URL."""
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """What a link is made for. `created_by`: the operator or the key of the platform.

    `mailbox_id`: the mailbox that is connected again; None to connect a new one. `expected_address`: the only address that may
    be connected. `return_url`: where the last page leads back to.
    """

    company_id: str
    account_id: str
    created_by: str
    role: str = "registered"
    language: Language = "en"
    mailbox_id: str | None = None
    expected_address: str | None = field(default=None, repr=False)
    return_url: str | None = None
    purpose: Purpose = "connect"


@dataclass(frozen=True, slots=True)
class PortalLink:
    """A link that was made. `token` is shown once and stored nowhere."""

    session_id: str
    token: str = field(repr=False)
    expires_at: datetime

    def url(self, origin: str, language: Language) -> str:
        """The URL for the seller at a portal's public address."""
        return f"{origin}/link/{self.token}?lang={language}"


@dataclass(frozen=True, slots=True)
class SellerSession:
    """An open session, and the consent that was given in it."""

    session_id: str
    company_id: str
    account_id: str
    role: str
    mailbox_id: str | None
    expected_address_hash: str | None
    language: Language
    return_url: str | None
    created_by: str
    expires_at: datetime
    consent_by: str | None
    consent_at: datetime | None
    consent_text_version: str | None
    consent_language: Language | None
    purpose: Purpose

    @property
    def return_site(self) -> str:
        """The host that the return URL leads to; "" without one."""
        return site_of(self.return_url)

    def expects(self, address_key: bytes, address: str) -> bool:
        """Whether this session may connect an address; without an expected one, any. False for what is no address."""
        hashed = address_hash(address_key, address)
        expected = self.expected_address_hash
        return hashed is not None and (expected is None or hmac.compare_digest(hashed, expected))


class PortalSessions:
    """Reads and writes registry.portal_sessions over one connection; not to be shared by threads.

    Without an API key's or a session's token in the transaction, the web process can only open links.
    """

    def __init__(self, connection: psycopg.Connection) -> None:
        self._sql = Statements(connection, SQL)
        self._accounts = Accounts(connection)

    def make_link(self, wanted: LinkRequest, minutes: int) -> PortalLink:
        """Store a link that can be opened for some minutes. RegistryError that says what of `wanted` is not possible."""
        if wanted.role not in ROLES:
            raise RegistryError(reason("role-unknown"))
        if wanted.purpose == "connect":
            self._accounts.check_needs_mailbox(wanted.company_id, wanted.account_id)
        else:
            self._accounts.get(wanted.company_id, wanted.account_id)
        if wanted.mailbox_id is not None:
            self._check_mailbox(wanted, wanted.mailbox_id)
        if wanted.return_url is not None:
            check_return_url(wanted.return_url)
        token = new_token(LINK_PREFIXES[wanted.purpose])
        expected_hash = None
        if wanted.expected_address is not None:
            expected_hash = address_hash(address_key(token), wanted.expected_address)
            if expected_hash is None:
                raise RegistryError(reason("expected-address-malformed"))
        session_id = new_id("s")
        stored = self._sql.one(
            "insert_link", session_id=session_id, token_hash=token_hash(token), company_id=wanted.company_id,
            account_id=wanted.account_id, role=wanted.role, mailbox_id=wanted.mailbox_id, expected_address_hash=expected_hash,
            language=wanted.language, return_url=wanted.return_url, created_by=wanted.created_by,
            purpose=wanted.purpose, minutes=minutes,
        )  # fmt: skip
        assert stored is not None
        return PortalLink(session_id, token, stored["expires_at"])

    def open_link(self, link_token: str, session_token: str, minutes: int) -> bool:
        """Turn a link into the session of `session_token`; False when it is unknown, used or expired."""
        opened = self._sql.one(
            "open_link", link_hash=token_hash(link_token), session_hash=token_hash(session_token), minutes=minutes
        )
        return opened is not None and opened["session_id"] is not None

    def own_session(self) -> SellerSession | None:
        """The session of this transaction's token; None when it is unknown, expired or ended."""
        stored = self._sql.one("own_session")
        return None if stored is None or stored["session_id"] is None else SellerSession(**stored)

    def give_consent(self, by: str, text_version: str, language: Language) -> None:
        """Note in this transaction's session who consented to which text."""
        self._sql.run("give_consent", consent_by=by, text_version=text_version, language=language)

    def own_mailboxes(self) -> list[dict[str, Any]]:
        """The mailboxes that this transaction's session is about, without those that were removed."""
        return self._sql.all("own_mailboxes")

    def end_session(self) -> None:
        """End this transaction's session."""
        self._sql.run("end_session")

    def _check_mailbox(self, wanted: LinkRequest, mailbox_id: str) -> None:
        mailbox = self._sql.one("mailbox_of_link", company_id=wanted.company_id, mailbox_id=mailbox_id)
        if mailbox is None or (mailbox["account_id"], mailbox["role"]) != (wanted.account_id, wanted.role):
            raise unknown_mailbox(wanted.company_id, mailbox_id)
        event = states.load().events["reconnected"]
        if not event.allows(mailbox["state"]):
            raise refused(event, wanted.company_id, mailbox_id, mailbox["state"])


def link_purpose(link_token: str) -> Purpose:
    """What a link opens, by the beginning of its token; the database has the last word."""
    return "panel" if link_token.startswith(LINK_PREFIXES["panel"]) else "connect"


def session_token(link_token: str, browser_secret: str) -> str:
    """The token of the session that a browser opens with a link."""
    return derived_token(SESSION_PREFIX, link_token, browser_secret)


def derived_token(prefix: str, link_token: str, browser_secret: str) -> str:
    """The token that a link and a browser's 256-bit secret make together: HMAC-SHA-256 of the link with the secret."""
    digest = hmac.digest(browser_secret.encode(), link_token.encode(), "sha256")
    return prefix + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def address_key(link_token: str) -> bytes:
    """The key of the hash of the address that a link expects."""
    return hashlib.sha256(b"address" + link_token.encode()).digest()


def address_hash(key: bytes, address: str) -> str | None:
    """The hash of an address, as hexadecimal HMAC-SHA-256; None when it is not an address."""
    normal = normalise_address(address)
    return None if normal is None else hmac.digest(key, normal.encode("utf-8", "surrogatepass"), "sha256").hex()


def return_origin(url: str) -> str:
    """Scheme, host and port of a URL that was checked, as settings write origins: `https://market.example`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def site_of(return_url: str | None) -> str:
    """The host that a return URL leads to; "" without one."""
    return urlsplit(return_url or "").hostname or ""


def check_return_url(url: str) -> None:
    """RegistryError when a URL must not be linked to: only https (http on this computer), a host, no user."""
    try:
        parts = urlsplit(url)
        is_secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        good = is_secure and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good or len(url) > URL_CHARACTERS or not url.isascii() or not url.isprintable() or set(url) & set(' "<>\\'):
        raise RegistryError(reason("return-url-malformed", characters=str(URL_CHARACTERS)))
