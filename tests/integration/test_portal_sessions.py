"""Links for sellers: what the database stores of them, what opens them, and what a session knows."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from services.common.postgres import connect
from services.registry.accounts import Accounts
from services.registry.companies import Companies
from services.registry.errors import RegistryError
from services.registry.portal_sessions import (
    LinkRequest,
    PortalLink,
    PortalSessions,
    SellerSession,
    address_hash,
    address_key,
    session_token,
)
from tests.support.commands import run
from tests.support.portal_lab import portal_dsn

__all__ = ["portal_dsn", "run"]

ADDRESS = "Seller@Example.COM"
BROWSER = "a secret of the browser"


@pytest.fixture
def owner(dsn: str) -> Iterator[psycopg.Connection]:
    with connect(dsn, "tests") as connection:
        Companies(connection).add("c1")
        Accounts(connection).add("c1", "main")
        yield connection


@pytest.fixture
def web(portal_dsn: str) -> Iterator[psycopg.Connection]:
    with connect(portal_dsn, "tests") as connection:
        yield connection


def make(owner: psycopg.Connection, minutes: int = 10, **changes: Any) -> PortalLink:
    return PortalSessions(owner).make_link(
        LinkRequest(**({"company_id": "c1", "account_id": "main", "created_by": "tests"} | changes)), minutes
    )


def session_of(web: psycopg.Connection, token: str) -> SellerSession | None:
    with web.transaction():
        web.execute("SELECT set_config('replyrate.token', %s, true)", (token,))
        return PortalSessions(web).own_session()


def test_a_link_becomes_one_session_that_knows_its_account(owner: psycopg.Connection, web: psycopg.Connection) -> None:
    link = make(owner, role="backup", language="zh", return_url="https://platform.example/x?y=1")
    token = session_token(link.token, BROWSER)
    assert session_of(web, token) is None
    assert PortalSessions(web).open_link(link.token, token, 10)
    assert not PortalSessions(web).open_link(link.token, session_token(link.token, "another browser"), 10)
    session = session_of(web, token)
    assert session is not None
    assert (session.company_id, session.account_id, session.role, session.language) == ("c1", "main", "backup", "zh")
    assert session.return_url == "https://platform.example/x?y=1"
    assert session.expires_at - datetime.now(UTC) < timedelta(minutes=11)
    assert session_of(web, link.token) is None
    assert session_of(web, session_token(link.token, "another browser")) is None


def test_the_token_is_stored_nowhere_and_the_address_only_with_a_key_of_the_token(owner: psycopg.Connection) -> None:
    link = make(owner, expected_address=ADDRESS)
    assert link.token not in repr(link)
    stored = str(owner.execute("SELECT s::text, s.expected_address_hash FROM registry.portal_sessions s").fetchone())
    assert link.token not in stored
    assert "example.com" not in stored.lower()
    assert (address_hash(address_key(link.token), "seller@example.com") or "?") in stored


@pytest.mark.parametrize(
    ("address", "expected"), [("seller@example.com", True), ("other@example.com", False), ("nonsense", False)]
)
def test_a_session_expects_the_address_of_its_link(
    owner: psycopg.Connection, web: psycopg.Connection, address: str, expected: bool
) -> None:
    link = make(owner, expected_address=ADDRESS)
    token = session_token(link.token, BROWSER)
    assert PortalSessions(web).open_link(link.token, token, 10)
    session = session_of(web, token)
    assert session is not None
    assert session.expects(address_key(link.token), address) is expected
    assert not session.expects(address_key("another link"), ADDRESS)


def test_the_consent_is_noted_in_the_session_and_an_ended_session_is_gone(
    owner: psycopg.Connection, web: psycopg.Connection
) -> None:
    link = make(owner)
    token = session_token(link.token, BROWSER)
    assert PortalSessions(web).open_link(link.token, token, 10)
    with web.transaction():
        web.execute("SELECT set_config('replyrate.token', %s, true)", (token,))
        PortalSessions(web).give_consent("Li Wei", "2", "zh")
    session = session_of(web, token)
    assert session is not None
    assert (session.consent_by, session.consent_text_version, session.consent_language) == ("Li Wei", "2", "zh")
    with web.transaction():
        web.execute("SELECT set_config('replyrate.token', %s, true)", (token,))
        PortalSessions(web).end_session()
    assert session_of(web, token) is None
    assert not PortalSessions(web).open_link(link.token, token, 10)


def test_an_expired_link_is_not_opened(owner: psycopg.Connection, web: psycopg.Connection) -> None:
    link = make(owner)
    owner.execute("UPDATE registry.portal_sessions SET expires_at = clock_timestamp()")
    assert not PortalSessions(web).open_link(link.token, session_token(link.token, BROWSER), 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"role": "owner"}, "the role must be"),
        ({"account_id": "unknown"}, "has no account"),
        ({"mailbox_id": "m-unknown"}, "has no mailbox"),
        ({"expected_address": "nonsense"}, "not an e-mail address"),
        *[
            ({"return_url": url}, "the return URL must")
            for url in (
                "http://platform.example/", "javascript:alert(1)", "//platform.example", "/path", "https://", "https://u:p@platform.example",
                "https://platform.example\\@evil.example", "https://platform.example/ x", "https://platform.example/\r\nX: y", "ftp://platform.example",
                "https://platform.example/" + "x" * 2000, "https://[::1",
            )
        ],
    ],
)  # fmt: skip
def test_a_link_that_makes_no_sense_is_refused(
    owner: psycopg.Connection, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RegistryError, match=message):
        make(owner, **changes)
    assert owner.execute("SELECT count(*) FROM registry.portal_sessions").fetchone() == (0,)


def test_a_link_for_an_account_that_needs_no_mailbox_is_refused(owner: psycopg.Connection) -> None:
    Accounts(owner).add("c1", "synced", synced_from=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(RegistryError, match="needs no mailbox"):
        make(owner, account_id="synced")


def test_the_command_prints_a_link(owner: psycopg.Connection, web: psycopg.Connection, run: Callable[..., Any]) -> None:
    printed = run("connect-link", "c1", "main", "--lang", "zh", "--minutes", "5", "--by", "platform")
    origin, _, token = printed.stdout.strip().partition("/link/")
    assert origin == "http://127.0.0.1:8480"
    assert token.endswith("?lang=zh")
    link_token = token.partition("?")[0]
    assert PortalSessions(web).open_link(link_token, session_token(link_token, BROWSER), 10)
    refused = run("connect-link", "c1", "nobody", code=1)
    assert "replyrate account add c1 nobody" in refused.stderr
