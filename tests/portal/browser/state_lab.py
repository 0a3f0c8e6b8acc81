"""The states of the seller's pages without mail servers: sessions, mailboxes and requests as services store them, put into the database.

What a page shows follows from these rows and from cookies; the tests of the walk show that services write such rows.
"""

import base64
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final, Literal

import msgspec
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from services.common.hashing import Hasher
from services.common.postgres import connect
from services.connect import consent, texts
from services.connect.report import (
    PASSED,
    SKIPPED,
    STAGES,
    ConnectionTestReport,
    MailboxWarning,
    StageResult,
    unsupported,
)
from services.mail.values import OpenedFolder
from services.portal.pages.cookies import Draft
from services.providers import catalog
from services.registry.connect_requests import ConnectRequests, Purpose
from services.registry.portal_sessions import LinkRequest, PortalSessions, address_key, session_token
from services.registry.registry import Registry
from services.registry.sealing import SealingKey
from services.registry.vault import Vault
from tests.support.browser_lab import BrowserVisit
from tests.support.connect_lab import add_account
from tests.support.mailboxes import connected
from tests.support.portal_lab import Portal

ACCOUNT: Final = "main"
MINUTES: Final = 60
RETURN_URL: Final = "https://marketplace.example/mailboxes"
FAILED_AT: Final = {
    "dns": (
        "host-refused", "pop-host", "smtp-host", "pop-port", "smtp-port", "web-address", "plain-port", "other-domains-host",
        "tries-spent", "provider-busy",
    ),
    "tcp": ("unreachable",),
    "tls": ("tls-failed", "starttls-missing", "starttls-unsafe"),
    "greeting": ("server-broken", "throttled", "budget-spent"),
    "sent": ("no-sent-folder",),
    "examine": ("folder-missing",),
}  # fmt: skip
"""Stage → codes with which it fails; all others fail at the login."""
ADDRESSES: Final = {
    "authorization-code-needed": "liwei@163.com",
    "authorization-code-or-server": "liwei@163.com",
    "login-refused": "liwei@163.com",
    "login-unclear": "liwei@126.com",
    "client-password-needed": "liwei@exmail.qq.com",
    "app-password-needed": "liwei@gmail.com",
    "oauth2-needed": "liwei@outlook.com",
}
"""Code → an address of a provider that answers like that; the others are at a company's own server."""
ADDRESS: Final = "sales@qingdao-tools.com"
VALUES: Final = {
    "host": "imap.163.com",
    "again_at": "14:30 UTC",
    "candidates": "Drafts, 客户往来, Old mail",
    "earlier": "login-refused",
}
CANDIDATES: Final = (b"Drafts", b"&W6JiN18AZ2U-", b"Old mail")


@dataclass
class StateLab:
    """A portal and its database, with a key to seal with as if a fetcher had started."""

    portal: Portal
    dsn: str
    key: SealingKey
    companies: Iterator[int] = field(default_factory=lambda: count(100_482))

    def link(self, window: BrowserVisit, company_id: str, **wanted: Any) -> str:
        """The token of a new link; the company and its account are registered."""
        add_account(self.dsn, company_id, ACCOUNT)
        request = LinkRequest(company_id, ACCOUNT, "tests", language=window.language, return_url=RETURN_URL, **wanted)
        with self.database() as connection:
            return PortalSessions(connection).make_link(request, MINUTES).token

    def seller(self, window: BrowserVisit, *, consented: bool = True, **wanted: Any) -> "SellerAtState":
        """A window with an open session of a company of its own, and nothing else."""
        company_id = str(next(self.companies))
        token = self.link(window, company_id, **wanted)
        return self.open(window, company_id, token, consented=consented)

    def open(self, window: BrowserVisit, company_id: str, token: str, *, consented: bool = True) -> "SellerAtState":
        """The same with a link that exists."""
        opened = session_token(token, secrets.token_urlsafe(32))
        with self.database(opened) as connection:
            sessions = PortalSessions(connection)
            sessions.open_link(token, opened, MINUTES)
            if consented:
                sessions.give_consent("Li Wei", consent.load().current.version, window.language)
        set_cookie(window, "session", f"{opened}.{address_key(token).hex()}")
        return SellerAtState(self, window, company_id, opened)

    @contextmanager
    def database(self, token: str | None = None) -> Iterator[psycopg.Connection]:
        """A connection; with a session's token, one transaction of that session."""
        with connect(self.dsn, "tests") as connection:
            if token is None:
                yield connection
                return
            with connection.transaction():
                connection.execute("SELECT set_config('replyrate.token', %s, true)", [token])
                yield connection


@dataclass
class SellerAtState:
    """A seller with an open session in a window."""

    lab: StateLab
    window: BrowserVisit
    company_id: str
    token: str

    def draft(self, address: str, **values: Any) -> None:
        """What was typed so far."""
        encoded = msgspec.json.encode(Draft(address, **values))
        set_cookie(self.window, "draft", base64.urlsafe_b64encode(encoded).decode())

    def mailbox(self, mailbox_id: str, address: str = ADDRESS, **changed: Any) -> str:
        """A connected mailbox of the account; returns its id."""
        with self.lab.database() as connection:
            # A key of its own: companies of several states have the same mailbox.
            registry = Registry(connection, Hasher(self.company_id.encode().ljust(32)), Vault(bytes(32)))
            host = "imap.qingdao-tools.com"
            connected(registry, self.company_id, ACCOUNT, mailbox_id, address=address, host=host, by="Li Wei")
            days = {"expected_from": 1, "complete_from": 1, "last_success_at": 0}
            instants = {name: datetime.now(UTC) - timedelta(days=passed) for name, passed in days.items()}
            for column, value in (instants | changed).items():
                statement = sql.SQL("UPDATE registry.mailboxes SET {} = %s WHERE company_id = %s AND mailbox_id = %s")
                connection.execute(statement.format(sql.Identifier(column)), [value, self.company_id, mailbox_id])
        return mailbox_id

    def request(
        self,
        purpose: Purpose,
        state: Literal["waiting", "running", "passed", "failed"] = "waiting",
        *,
        stage: str | None = None,
        code: str | None = None,
        report: dict[str, Any] | None = None,
        mailbox_id: str = "m-new",
    ) -> str:
        """A request in a state; returns the path of its page."""
        with self.lab.database() as connection:
            request_id = ConnectRequests(connection).add(
                self.lab.key, self.company_id, ACCOUNT, mailbox_id, purpose, b"typed"
            )
            connection.execute(
                "UPDATE registry.connect_requests SET state = %s, stage = %s, code = %s, report = %s,"
                " sealed = CASE WHEN %s IN ('waiting', 'running') THEN sealed END WHERE request_id = %s",
                [state, stage, code, None if report is None else Jsonb(msgspec.to_builtins(report)), state, request_id],
            )
        return f"/connect/requests/{request_id}"

    def open(self, path: str) -> None:
        """A page, in the window."""
        self.window.open(path)


def set_cookie(window: BrowserVisit, name: str, value: str) -> None:
    """A cookie as the portal sets it."""
    window.page.context.add_cookies([{"name": f"replyrate-{name}", "value": value, "url": window.origin}])


def failed_report(code: str) -> dict[str, Any]:
    """The report of a connection test that failed with a code."""
    address = ADDRESSES.get(code, ADDRESS)
    provider = catalog.load().by_domain(address.partition("@")[2])
    if code == "provider-unsupported":
        provider = next(entry for entry in catalog.load().providers if entry.support == "unsupported")
        return texts.as_data(unsupported(provider))
    failed_stage = next((stage for stage, codes in FAILED_AT.items() if code in codes), "login")
    failed_index = STAGES.index(failed_stage)
    stages = tuple(
        StageResult(name, PASSED if index < failed_index else code if index == failed_index else SKIPPED, 0.1)
        for index, name in enumerate(STAGES)
    )
    candidates = CANDIDATES if failed_stage in ("sent", "examine") else ()
    values = VALUES | {"folders": "3", "names": "Old mail", "messages": "0", "newest": ""}
    return texts.as_data(ConnectionTestReport("imap.example.com", 993, provider, stages, values, candidates=candidates))


def passed_report(*, folders: tuple[str, ...] = ("Sent",), warnings: tuple[MailboxWarning, ...] = ()) -> dict[str, Any]:
    """The report of a connection test that passed."""
    now = datetime.now(UTC)
    opened = tuple(
        OpenedFolder(name.encode(), "attribute", 1240, now - timedelta(days=400), now - timedelta(hours=3))
        for name in folders
    )
    values = {"folders": "8", "names": ", ".join(folders), "messages": str(1240 * len(folders))}
    stages = tuple(StageResult(name, PASSED, 0.1) for name in STAGES)
    return texts.as_data(ConnectionTestReport("imap.example.com", 993, None, stages, values, opened, warnings))


def folder_list() -> dict[str, Any]:
    """The report of a list of folders. Names are what people and servers wrote."""
    names = (b"&XfJT0ZAB-", b"Sent", b"Sent/2025", b"&W6JiN18AZ2U-", b'<b>Archive</b> &- "old"', b"Long" * 40)
    stages = tuple(
        StageResult(name, PASSED if index <= STAGES.index("list") else SKIPPED, 0.1)
        for index, name in enumerate(STAGES)
    )
    report = ConnectionTestReport("imap.example.com", 993, None, stages, VALUES | {"folders": "8"}, candidates=names)
    return texts.as_data(report) | {"watched": ["&XfJT0ZAB-"]}
