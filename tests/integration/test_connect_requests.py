"""What a seller types reaches a fetcher sealed, and comes back as stages and a result; the web process can open nothing."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import psycopg
import pytest
from psycopg import sql

from services.common.hashing import Hasher
from services.common.lifecycle import Stop
from services.common.postgres import connect
from services.common.settings import ImapSettings
from services.connect.consent import load as consent_texts
from services.connect.request_runner import RequestRunner
from services.connect.tester import ConnectionTester
from services.connect.typed_login import TypedLogin
from services.fetcher.connect_requests import RequestResources, RunningRequests, next_request
from services.imap.host_policy import resolve
from services.registry import connect_requests
from services.registry.connect_requests import ConnectRequests, Purpose, RequestLost
from services.registry.sealing import OpeningKeys
from services.registry.vault import Vault
from tests.support.fetcher_lab import USER, VAULT_KEY, Lab, lab, letter, make_lab
from tests.support.portal_lab import portal_login
from tests.support.servers import USERS

__all__ = ["lab", "make_lab"]

KEYS = OpeningKeys(VAULT_KEY)
SECONDS = 60
MAILBOX = "m-0123456789ab"
TOKEN, OTHER_TOKEN, KEY_TOKEN = "token-of-c1-main", "token-of-c2-main", "key-of-c"


class PortalLogin:
    """The database login of a web process, with the token of a seller or of a platform."""

    def __init__(self, dsn: str, token: str = TOKEN) -> None:
        self.connection = connect(dsn, "tests")
        self.connection.execute("SELECT set_config('replyrate.token', %s, false)", (token,))
        self.requests = ConnectRequests(self.connection)

    def submit(
        self, purpose: Purpose = "connect", account_id: str = "main", mailbox_id: str = MAILBOX, **changes: Any
    ) -> str:
        key = self.requests.sealing_key()
        assert key is not None
        typed = TypedLogin(**{**typed_values(), **changes})
        return self.requests.add(key, "c1", account_id, mailbox_id, purpose, typed.encoded())

    def result(self, request_id: str) -> dict[str, Any]:
        while True:
            status = self.requests.status(request_id)
            assert status is not None
            if status["state"] not in ("waiting", "running"):
                return status
            time.sleep(0.05)


def typed_values() -> dict[str, Any]:
    return {
        "address": USER, "password": USERS[USER], "consent_by": "seller 1",
        "text_version": consent_texts().current.version, "language": "en",
    }  # fmt: skip


@pytest.fixture
def portal_dsn(dsn: str) -> Iterator[str]:
    """The connection string of a web process; there are sessions of c1 and c2 and the key of a platform."""
    with portal_login(dsn) as portal, connect(dsn, "tests") as connection:
        for number, (company_id, token) in enumerate([("c1", TOKEN), ("c2", OTHER_TOKEN)]):
            connection.execute("INSERT INTO registry.companies VALUES (%s)", (company_id,))
            for account_id in ("main", "second"):
                connection.execute(
                    "INSERT INTO registry.accounts (company_id, account_id, kind) VALUES (%s, %s, 'main')",
                    (company_id, account_id),
                )
            connection.execute(
                "INSERT INTO registry.portal_sessions (session_id, token_hash, company_id, account_id, role, language, created_by,"
                " opened_at, expires_at) VALUES (%s, sha256(%s), %s, 'main', 'registered', 'en', 'tests', now(), now() + interval '1 hour')",
                (f"s-{number:012x}", token.encode(), company_id),
            )
        connection.execute(
            "INSERT INTO registry.addresses (company_id, account_id, role, address_sealed, address_masked, address_hash)"
            " SELECT company_id, 'main', 'registered', 'x', 'x', 'x' FROM registry.companies"
        )
        connection.execute("INSERT INTO registry.mailbox_links VALUES ('x', 'c1', 'c2', 'tests')")
        connection.execute(
            "INSERT INTO registry.api_keys (key_id, secret_hash, name, scopes, company_prefix, created_by)"
            " VALUES ('k-000000000000', sha256(%s), 'platform', '{connect:write}', 'c1', 'tests')",
            (KEY_TOKEN.encode(),),
        )
        yield portal


@pytest.fixture
def keys_published(dsn: str, portal_dsn: str) -> None:
    with connect(dsn, "tests") as connection:
        ConnectRequests(connection).publish_key(KEYS.current)


def test_a_seller_connects_a_mailbox_through_a_fetcher(lab: Lab, portal_dsn: str) -> None:
    server: dict[str, Any] = {"host": "localhost", "port": lab.server.port}
    sent_at = datetime.now(UTC)
    lab.server.append(USER, "Sent", letter(1, sent_at), sent_at)
    with lab.fetcher():
        portal, platform = PortalLogin(portal_dsn), PortalLogin(portal_dsn, KEY_TOKEN)
        while portal.requests.sealing_key() is None:
            time.sleep(0.05)
        refused = platform.result(platform.submit("test", password="wrong", **server))
        assert (refused["state"], refused["code"]) == ("failed", "login-refused")
        assert refused["report"]["next"]["zh"]
        tested = platform.result(platform.submit("test", **server))
        assert (tested["state"], tested["code"], tested["stage"]) == ("passed", "passed", "newest")
        with lab.registry() as registry:
            assert registry.mailboxes.summaries("c1") == [], "a test stores nothing"
        connected = portal.result(portal.submit(**server))
        assert connected["state"] == "passed", connected
        assert connected["report"]["sent_folders"]
        assert lab.mailbox(MAILBOX)["state"] == "active"
        again = portal.result(portal.submit("reconnect", **server))
        assert again["state"] == "passed", again
        for outdated in (
            portal.submit(text_version="1", **server),
            portal.submit("reconnect", text_version="1", **server),
        ):
            result = portal.result(outdated)
            assert (result["state"], result["code"]) == ("failed", "consent-changed"), result
        taken = portal.result(portal.submit(account_id="main", role="backup", **server))
        assert (taken["state"], taken["code"]) == ("failed", "login-connected")
        with connect(lab.dsn, "tests") as connection:
            # What a web process that somebody controls could store; the page itself refuses it.
            connection.execute("UPDATE registry.mailboxes SET account_id = 'second'")
        unknown = portal.submit("reconnect", mailbox_id="m-unknown", **server)
        nothing = portal.result(unknown)
        for purpose in ("reconnect", "withdraw"):
            foreign = portal.result(portal.submit(purpose, **server))
            assert (foreign["state"], foreign["code"]) == ("failed", "not-possible"), foreign
            reason = foreign["report"]["reason"]["en"].replace(MAILBOX, "m-unknown")
            assert reason == nothing["report"]["reason"]["en"], "an account learns nothing of another's mailboxes"
        assert lab.mailbox(MAILBOX)["state"] == "active"
    current = consent_texts().current
    for consent in lab.mailbox(MAILBOX)["consents"]:
        assert (consent["consented_by"], consent["language"]) == ("seller 1", "en")
        assert (consent["text_version"], consent["text_sha256"]) == (current.version, current.sha256)


def test_a_form_that_is_sent_twice_connects_one_mailbox_and_both_requests_pass(lab: Lab, portal_dsn: str) -> None:
    sent_at = datetime.now(UTC)
    lab.server.append(USER, "Sent", letter(1, sent_at), sent_at)
    portal = PortalLogin(portal_dsn)
    with connect(lab.dsn, "tests") as connection:
        ConnectRequests(connection).publish_key(KEYS.current)
    ids = [
        portal.submit(mailbox_id=mailbox_id, host="localhost", port=lab.server.port) for mailbox_id in ("m-1", "m-2")
    ]
    with lab.fetcher():
        results = [portal.result(request_id) for request_id in ids]
    assert [(result["state"], result["code"]) for result in results] == [("passed", "passed")] * 2, results
    with lab.registry() as registry:
        (mailbox,) = registry.mailboxes.summaries("c1")
    assert mailbox["state"] == "active"
    assert [result["mailbox_id"] for result in results] == [mailbox["mailbox_id"]] * 2


def test_nothing_that_was_typed_is_left_after_the_result_or_the_life(
    dsn: str, portal_dsn: str, keys_published: None
) -> None:
    portal = PortalLogin(portal_dsn)
    finished, expired, waiting = (portal.submit() for _ in range(3))
    with connect(dsn, "tests") as connection:
        fetcher = ConnectRequests(connection)
        connection.execute("SET ROLE replyrate_fetcher")
        taken = fetcher.take("fetcher", KEYS)
        assert taken is not None and taken.request_id == finished
        fetcher.finish(finished, "fetcher", passed=False, code="login-refused", mailbox_id=MAILBOX, report=None)
        connection.execute("RESET ROLE")
        connection.execute("UPDATE registry.connect_requests SET expires_at = now() WHERE request_id = %s", (expired,))
        status = portal.requests.status(expired)
        assert status is not None and (status["state"], status["code"]) == ("expired", "request-expired")
        connection.execute("SET ROLE replyrate_fetcher")
        assert fetcher.expire() == 1
        assert fetcher.expire() == 0
        connection.execute("RESET ROLE")
        sealed = connection.execute(
            "SELECT request_id FROM registry.connect_requests WHERE sealed IS NOT NULL"
        ).fetchall()
        assert sealed == [(waiting,)]


def test_a_request_of_a_fetcher_that_died_goes_to_another_one_and_the_first_writes_nothing(
    dsn: str, portal_dsn: str, keys_published: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = PortalLogin(portal_dsn).submit()
    with connect(dsn, "tests") as connection:
        fetcher = ConnectRequests(connection)
        monkeypatch.setattr(connect_requests, "LEASE_SECONDS", 0.0)
        first = fetcher.take("first", KEYS)
        monkeypatch.setattr(connect_requests, "LEASE_SECONDS", 60.0)
        second = fetcher.take("second", KEYS)
        assert first is not None and second is not None
        assert (first.request_id, first.tries, second.request_id, second.tries) == (request_id, 1, request_id, 2)
        assert fetcher.take("third", KEYS) is None
        with pytest.raises(RequestLost):
            fetcher.report_stage(request_id, "first", "login")
        with pytest.raises(RequestLost):
            fetcher.finish(request_id, "first", passed=True, code="passed", mailbox_id=MAILBOX, report=None)
        fetcher.report_stage(request_id, "second", "login")
        fetcher.finish(request_id, "second", passed=True, code="passed", mailbox_id=MAILBOX, report={})


def test_a_lease_is_renewed_while_its_thread_advances_and_not_for_one_that_lost_the_request(
    dsn: str, portal_dsn: str, keys_published: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id, seconds = PortalLogin(portal_dsn).submit(), 0.0
    running = RunningRequests(lambda: seconds)
    with connect(dsn, "tests") as connection:
        connection.execute("SET ROLE replyrate_fetcher")
        fetcher = ConnectRequests(connection)
        monkeypatch.setattr(connect_requests, "LEASE_SECONDS", 0.0)
        assert fetcher.take("first", KEYS) is not None
        monkeypatch.setattr(connect_requests, "LEASE_SECONDS", 60.0)
        running.enter_stage(request_id, "first")
        fetcher.renew(running.advancing())
        assert fetcher.take("second", KEYS) is None
        seconds = connect_requests.STAGE_SECONDS - 1
        running.enter_stage(request_id, "first")
        seconds += connect_requests.STAGE_SECONDS - 1
        assert running.advancing() == {request_id: "first"}, "a stage that began later"
        seconds += 1
        assert running.advancing() == {}, "the thread is stuck"
        connection.execute("UPDATE registry.connect_requests SET claimable_at = now()")
        assert fetcher.take("second", KEYS) is not None
        monkeypatch.setattr(connect_requests, "LEASE_SECONDS", 0.0)
        fetcher.renew({request_id: "first"})
        assert fetcher.take("third", KEYS) is None, "the lease of the second is as it was"
        fetcher.renew({request_id: "second"})
        assert fetcher.take("third", KEYS) is not None
        running.end(request_id)
        assert running.advancing() == {}


def test_while_a_thread_works_another_one_takes_the_next_request(
    dsn: str, portal_dsn: str, keys_published: None
) -> None:
    settings, stop = ImapSettings.model_validate({}), Stop()
    resources = RequestResources(
        RequestRunner(settings, ConnectionTester(settings, resolve, "0")), KEYS, Hasher(VAULT_KEY), Vault(VAULT_KEY)
    )
    expected = {PortalLogin(portal_dsn).submit() for _ in range(2)}

    def take(name: str) -> str | None:
        with connect(dsn, "tests") as connection:
            taken = next_request(ConnectRequests(connection), name, resources, stop, lambda: None)
        return None if taken is None else taken.request_id

    with ThreadPoolExecutor() as threads:
        futures = [threads.submit(take, f"thread-{number}") for number in range(3)]
        try:
            taken = {future.result() for future in islice(as_completed(futures, SECONDS), 2)}
        finally:
            stop.set()
    assert taken == expected
    assert {future.result() for future in futures} == expected | {None}


def test_a_fetcher_leaves_requests_that_it_cannot_open(dsn: str, portal_dsn: str, keys_published: None) -> None:
    PortalLogin(portal_dsn).submit()
    with connect(dsn, "tests") as connection:
        assert ConnectRequests(connection).take("other", OpeningKeys(b"x" * 32)) is None
        assert ConnectRequests(connection).take("rotating", OpeningKeys(b"x" * 32, VAULT_KEY)) is not None


TABLES = (
    "SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
    " WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname !~ '^(pg_|information_schema$)'"
)


def readable(dsn: str, token: str) -> dict[str, list[str]]:
    """Table → the rows that the login of a web process reads with a token, as JSON: all columns that it may read at all."""
    rows: dict[str, list[str]] = {}
    with connect(dsn, "tests") as connection:
        connection.execute("SELECT set_config('replyrate.token', %s, false)", (token,))
        for table_oid, schema, table in connection.execute(TABLES).fetchall():
            columns = connection.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"
                " AND has_schema_privilege(%s, 'USAGE') AND has_column_privilege(attrelid, attnum, 'SELECT')",
                (table_oid, schema),
            ).fetchall()
            if columns:
                selected = sql.SQL(", ").join(sql.Identifier(name) for (name,) in columns)
                statement = sql.SQL("SELECT to_json(r)::text FROM (SELECT {} FROM {}.{}) r").format(
                    selected, sql.Identifier(schema), sql.Identifier(table)
                )
                rows[f"{schema}.{table}"] = [text for (text,) in connection.execute(statement).fetchall()]
    return rows


OF_NO_COMPANY = {
    "registry.sealing_keys", "registry.mailbox_moves", "replyrate.migrations", "ledger.rule_sets", "ledger.pipeline",
    "report_token_v1.rule_sets",
}  # fmt: skip
"""Tables that the web process reads whatever its token is: nothing in them belongs to a company."""


@pytest.mark.parametrize(
    ("token", "accounts"),
    [(TOKEN, {("c1", "main")}), (KEY_TOKEN, {("c1", "main"), ("c1", "second")}), (OTHER_TOKEN, {("c2", "main")}), ("", set()), ("guessed", set())],
)  # fmt: skip
def test_the_login_of_the_web_process_reads_nothing_without_a_token_and_its_own_rows_with_one(
    portal_dsn: str, keys_published: None, token: str, accounts: set[tuple[str, str]]
) -> None:
    own = PortalLogin(portal_dsn).submit()
    tables = readable(portal_dsn, token)
    requests = [json.loads(text)["request_id"] for text in tables["registry.connect_requests"]]
    assert requests == ([own] if ("c1", "main") in accounts else [])
    accounts_read = {(data["company_id"], data["account_id"]) for data in map(json.loads, tables["registry.accounts"])}
    assert accounts_read == accounts
    companies = {company_id for company_id, _ in accounts}
    addresses = [json.loads(text)["company_id"] for text in tables["registry.addresses"]]
    assert addresses == (["c1"] if token == KEY_TOKEN else []), "a session needs no address of the platform"
    assert tables["registry.mailbox_links"] == [], "a link belongs to a key that has both companies"
    for table in set(tables) - OF_NO_COMPANY:
        for data in map(json.loads, tables[table]):
            assert data["company_id"] in companies, table
            assert not any("sealed" in column or column.startswith("secret") for column in data), table


@pytest.mark.parametrize("token", [TOKEN, KEY_TOKEN, ""])
def test_a_link_with_a_company_of_others_is_refused_by_the_database(portal_dsn: str, token: str) -> None:
    portal = PortalLogin(portal_dsn, token).connection
    assert portal.execute("DELETE FROM registry.mailbox_links").rowcount == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        portal.execute(
            "INSERT INTO registry.mailbox_links (login_hash, company_id, other_company_id, linked_by) VALUES ('y', 'c1', 'c2', 'x')"
        )


@pytest.mark.parametrize("token", ["", OTHER_TOKEN, "guessed"])
def test_a_request_for_another_company_is_refused_by_the_database(
    portal_dsn: str, keys_published: None, token: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        PortalLogin(portal_dsn, token).submit()


def test_a_seller_cannot_ask_for_another_account(portal_dsn: str, keys_published: None) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        PortalLogin(portal_dsn).submit(account_id="second")


@pytest.mark.parametrize("change", ["opened_at = NULL", "ended_at = now()", "expires_at = now()"])
def test_a_session_that_is_not_open_sees_nothing(dsn: str, portal_dsn: str, keys_published: None, change: str) -> None:
    portal = PortalLogin(portal_dsn)
    request_id = portal.submit()
    with connect(dsn, "tests") as connection:
        connection.execute(f"UPDATE registry.portal_sessions SET {change}".encode())
    assert portal.requests.status(request_id) is None


@pytest.mark.parametrize("change", ["revoked_at = now()", "expires_at = now()"])
def test_a_key_that_is_not_valid_sees_nothing(dsn: str, portal_dsn: str, keys_published: None, change: str) -> None:
    portal = PortalLogin(portal_dsn, KEY_TOKEN)
    request_id = portal.submit()
    with connect(dsn, "tests") as connection:
        connection.execute(f"UPDATE registry.api_keys SET {change}".encode())
    assert portal.requests.status(request_id) is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE registry.connect_requests SET state = 'passed'", "DELETE FROM registry.connect_requests",
        "SELECT sealed FROM registry.connect_requests", "SELECT runner FROM registry.connect_requests",
        "INSERT INTO registry.sealing_keys VALUES ('0123456789abcdef', sha256(''))", "SELECT * FROM registry.portal_sessions",
        "SELECT * FROM registry.api_keys", "SELECT * FROM registry.secrets", "SELECT * FROM registry.mailboxes", "SELECT address_sealed FROM registry.mailboxes",
        "SELECT address_sealed FROM registry.addresses", "SELECT address_hash FROM registry.addresses",
        "DELETE FROM registry.addresses", "UPDATE registry.mailbox_links SET linked_by = 'x'", "SELECT * FROM ledger.companies", "SET ROLE replyrate_fetcher", "CREATE TABLE registry.t ()",
        "UPDATE registry.portal_sessions SET expires_at = 'infinity'", "SELECT registry.erase_company('c1')",
    ],
)  # fmt: skip
def test_what_the_login_of_the_web_process_may_not_do(portal_dsn: str, keys_published: None, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        PortalLogin(portal_dsn).connection.execute(statement.encode())
