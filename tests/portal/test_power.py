"""What somebody with full control of the web process has, and what it is good for; and what is left when a process is killed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, get_args

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from services.common.postgres import connect
from services.portal.api.seller_diagnosis import OF_COMPANY
from services.registry.api_keys import SCOPES, ApiKeys, ApiScope
from services.registry.connect_requests import ConnectRequests, Purpose
from services.registry.panel_sessions import PanelSessions
from services.registry.portal_sessions import LinkRequest, PortalSessions, session_token
from services.registry.portal_sessions import Purpose as SessionPurpose
from services.registry.sealing import OpeningKeys
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.imap import EmbeddedImap
from tests.imap_lab.profiles import DOVECOT
from tests.imap_lab.server import LabServer
from tests.integration.test_connect_requests import OF_NO_COMPANY, readable
from tests.support.api_lab import add_account as add_registered_account
from tests.support.api_lab import new_key
from tests.support.connect_lab import Browser, ConnectLab, add_account, make_connect_lab, running_fetcher
from tests.support.fetcher_lab import KEY, VAULT_KEY, make_lab
from tests.support.panel_world import seed_world
from tests.support.portal_in_process import frame_tokens
from tests.support.portal_lab import MakePortal, make_portal, portal_dsn, portal_login
from tests.support.processes import until

__all__ = ["make_connect_lab", "make_lab", "make_portal", "portal_dsn"]

MakeConnectLab = Callable[..., ConnectLab]
OF_PAGES: Final[frozenset[Purpose]] = frozenset(
    {"look-up", "connect", "reconnect", "folders", "folder-choice", "withdraw"}
)
OF_SCOPES: Final[dict[ApiScope, frozenset[Purpose]]] = {
    "connect:write": frozenset({"test", "connect"}),
    "registry:write": frozenset({"withdraw", "platform-sync-on", "platform-sync-off", "address-change", "address-removal"}),
}  # fmt: skip
"""What each scope of an API key lets the fetchers be asked for; other scopes let nothing."""
MAY_ASK_FOR: Final[dict[str, frozenset[Purpose]]] = {
    "none": frozenset(), "link": frozenset(), "connect": OF_PAGES, "panel": OF_PAGES, "frame": frozenset(),
    **{scope: OF_SCOPES.get(scope, frozenset()) for scope in SCOPES},
    "every scope": frozenset().union(*OF_SCOPES.values()),
}  # fmt: skip
"""Kind of token → purposes of requests that the database stores with it. A link that was not opened is no session."""


@pytest.fixture
def server(tmp_path: Path, ca: CertificateAuthority) -> object:
    with LabServer(tmp_path / "imap", ca, DOVECOT) as started:
        yield started


def typed_login(browser: Browser, server: LabServer) -> Browser:
    """The page of a test with a password."""
    browser.fill_in("/connect/address", address=server.user).until_finished()
    return browser.fill_in("/connect/login", host="localhost", port=str(server.port), password=server.secret)


def test_the_web_process_opens_no_secret_reads_no_other_company_and_reaches_no_mail_server(
    make_connect_lab: MakeConnectLab, server: LabServer
) -> None:
    lab = make_connect_lab(server, with_fetcher=False)
    add_account(lab.lab.dsn, "c2")
    with running_fetcher(lab.lab):
        stranger = typed_login(lab.seller(company_id="c2"), server).until_finished()
        assert stranger.heading == "Your mailbox is connected", stranger.answer.text
    with lab.lab.registry() as registry:
        for company_id in ("c1", "c2"):
            registry.addresses.set(company_id, "main", "registered", server.user)
        (mailbox,) = registry.mailboxes.summaries("c2")
        registry.links.add("c2", mailbox["mailbox_id"], "c1", by="tests")
    server.wire.clear()
    browser = lab.seller().fill_in("/connect/address", address="seller@163.com")
    browser.fill_in("/connect/login", host="localhost", port=str(server.port), password=server.secret)
    assert browser.shows("The test begins in a moment.")
    assert server.wire == [], "without a fetcher nothing reaches a mail server"

    environment = Path(f"/proc/{lab.portal.process.pid}/environ").read_text("utf-8")
    names = [entry.partition("=")[0] for entry in environment.split("\0") if entry.startswith("REPLYRATE_")]
    assert not any("KEY" in name or "OAUTH2" in name or "IMAP" in name for name in names), names
    open_files = [str(link.readlink()) for link in Path(f"/proc/{lab.portal.process.pid}/fd").iterdir()]
    assert not any("key" in Path(file).name for file in open_files)

    token = browser.client.cookies["replyrate-session"].partition(".")[0]
    for own_token, companies in ((token, {"c1"}), ("", set())):
        for table, rows in readable(lab.portal.dsn, own_token).items():
            text = "\n".join(rows)
            for secret in (server.secret, server.user, KEY.hex(), VAULT_KEY.hex()):
                assert secret not in text, table
            if table not in OF_NO_COMPANY:
                assert all(f'"company_id":"{company}"' in text_row for company in companies for text_row in rows), table
                assert companies or not rows, table
    with connect(lab.portal.dsn, "tests") as connection:
        for table, column in (("secrets", "sealed"), ("connect_requests", "sealed"), ("mailboxes", "user_sealed")):
            statement = sql.SQL("SELECT {} FROM registry.{}").format(sql.Identifier(column), sql.Identifier(table))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    log = lab.portal.process.log.read_text("utf-8")
    assert not any(secret in log for secret in (server.secret, server.user, token, "seller@163.com"))


def test_the_seller_goes_on_after_the_web_process_was_killed(
    make_connect_lab: MakeConnectLab, make_portal: MakePortal, server: LabServer
) -> None:
    lab = make_connect_lab(server, with_fetcher=False)
    with running_fetcher(lab.lab) as fetcher:
        browser = lab.seller()
        browser.fill_in("/connect/address", address=server.user).until_finished()
        fetcher.kill()
    browser.fill_in("/connect/login", host="localhost", port=str(server.port), password=server.secret)
    waiting = browser.path
    lab.portal.process.kill()
    with make_portal() as started, running_fetcher(lab.lab):
        again = Browser(started.origin)
        again.client.cookies.update(browser.client.cookies)
        assert again.get(waiting).until_finished().heading == "Your mailbox is connected"


def test_nothing_that_was_typed_is_left_after_its_life(make_connect_lab: MakeConnectLab, server: LabServer) -> None:
    lab = make_connect_lab(server, with_fetcher=False)
    with running_fetcher(lab.lab) as fetcher:
        browser = lab.seller()
        browser.fill_in("/connect/address", address=server.user).until_finished()
        fetcher.kill()
    browser.fill_in("/connect/login", host="localhost", port=str(server.port), password=server.secret)
    with connect(lab.lab.dsn, "tests") as connection:
        connection.execute("UPDATE registry.connect_requests SET expires_at = now() WHERE sealed IS NOT NULL")
        assert browser.get(browser.path).shows(
            "The test did not finish within ten minutes. What you typed was deleted."
        )
        with running_fetcher(lab.lab) as fetcher:
            count = "SELECT count(*) FROM registry.connect_requests WHERE sealed IS NOT NULL"
            until(lambda: connection.execute(count).fetchone() == (0,), 30, "what was typed is deleted", (fetcher,))
    browser.follow("Try again")
    assert browser.page.forms[-1].values["host"] == "localhost"


def test_a_server_that_starts_without_fetchers_stores_nothing(
    make_connect_lab: MakeConnectLab, pymap: EmbeddedImap
) -> None:
    lab = make_connect_lab(pymap, with_fetcher=False)
    assert lab.seller().fill_in("/connect/address", address="seller@unknown.example").status == 503
    with connect(lab.lab.dsn, "tests") as connection:
        assert connection.execute("SELECT count(*) FROM registry.connect_requests").fetchone() == (0,)


def test_each_kind_of_token_asks_the_fetchers_only_for_what_its_pages_and_scopes_offer(
    dsn: str, portal_dsn: str
) -> None:
    add_registered_account(dsn, "c1")
    add_registered_account(dsn, "c2")
    tokens = tokens_of_each_kind(dsn)
    assert tokens.keys() == MAY_ASK_FOR.keys()
    with connect(portal_dsn, "tests") as connection:
        for kind, token in tokens.items():
            connection.execute("SELECT set_config('replyrate.token', %s, false)", (token,))
            for company_id, allowed in (("c1", MAY_ASK_FOR[kind]), ("c2", frozenset())):
                stored = {purpose for purpose in get_args(Purpose) if is_stored(connection, company_id, purpose)}
                assert stored == allowed, (kind, company_id)


def tokens_of_each_kind(dsn: str) -> dict[str, str]:
    """Tokens of sessions of the account main of c1, and of keys for that company."""
    tokens = {"none": ""}
    with connect(dsn, "tests") as connection:
        sessions, keys = PortalSessions(connection), ApiKeys(connection)
        tokens["link"] = sessions.make_link(LinkRequest("c1", "main", "tests"), 30).token
        for purpose in get_args(SessionPurpose):
            link = sessions.make_link(LinkRequest("c1", "main", "tests", purpose=purpose), 30)
            tokens[purpose] = session_token(link.token, "browser")
            assert sessions.open_link(link.token, tokens[purpose], 30)
        frames = PanelSessions(connection)
        tokens["frame"] = frames.make_frame_token("c1", "main", language="en", by="tests", minutes=30).token
        for scope in SCOPES:
            tokens[scope] = keys.add("platform", (scope,), "c1", by="tests").secret
        tokens["every scope"] = keys.add("platform", SCOPES, "c1", by="tests").secret
    return tokens


def is_stored(connection: psycopg.Connection, company_id: str, purpose: Purpose) -> bool:
    """Whether the database stores a request about the account main with this purpose."""
    try:
        with connection.transaction():
            ConnectRequests(connection).add(
                OpeningKeys(VAULT_KEY).current, company_id, "main", "m-1", purpose, b"typed"
            )
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


MAIN, SUB, OTHER_SUB = "lt-main", "lt-sub-chen", "lt-sub-wu"
OF_MAILBOXES = {"failing_since_on": "2026-11-01", "mailboxes_failing": 1}


def visible(dsn: str, token: str) -> dict[str, list[dict[str, Any]]]:
    """View of report_token_v1 → the rows that a person who controls the web process reads with a token."""
    with connect(dsn, "tests") as connection, connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("SELECT set_config('replyrate.token', %s, false)", (token,))
        views = cursor.execute("SELECT viewname FROM pg_views WHERE schemaname = 'report_token_v1'").fetchall()
        return {
            view["viewname"]: cursor.execute(
                sql.SQL("SELECT * FROM report_token_v1.{}").format(sql.Identifier(view["viewname"]))
            ).fetchall()
            for view in views
        }


def test_a_token_of_a_panel_shows_no_causes_of_the_company_but_counts_to_its_main_account(dsn: str) -> None:
    with connect(dsn, "tests") as owner, portal_login(dsn) as login:
        seed_world(owner, 1, ("default",), ("lt-textile",))
        facts = dict.fromkeys(OF_COMPANY, 5) | OF_MAILBOXES
        owner.execute("DELETE FROM ledger.diagnoses")
        owner.execute(
            "INSERT INTO ledger.diagnoses SELECT 'default', 'lt-textile', account_id, 'login-failing-since', current_date, 'high', %s,"
            " 'since 2026-11-01', 'since 2026-11-01', now() FROM unnest(%s::text[]) account_id",
            [Jsonb(facts), ["", MAIN, SUB, OTHER_SUB]],
        )
        tokens = frame_tokens(dsn, [("lt-textile", MAIN), ("lt-textile", SUB)])
        of_sub, of_main = (visible(login, tokens["lt-textile", account]) for account in (SUB, MAIN))
        of_platform = visible(login, new_key(dsn, "lt-").secret)["zero_rate_diagnosis"]
        with connect(login, "tests") as web_process, pytest.raises(psycopg.errors.InsufficientPrivilege):
            web_process.execute("SELECT * FROM ledger.diagnoses")
    assert of_sub["reply_rate_latest"] and of_sub["zero_rate_diagnosis"]
    for view, rows in of_sub.items():
        assert all(view_row["account_id"] == SUB for view_row in rows if "account_id" in view_row), view
        assert all("account_id" in view_row for view_row in rows if "company_id" in view_row), (
            f"{view} has rows of no account"
        )
    causes = {cause["account_id"]: cause for cause in of_main["zero_rate_diagnosis"]}
    assert set(causes) == {None, MAIN}
    assert causes[MAIN]["facts"] == facts
    assert set(causes[None]["facts"]) == OF_COMPANY, "the counts that the page shows, and no more"
    assert (causes[None]["advice_en"], causes[None]["advice_zh"]) == (None, None)
    assert {cause["account_id"] for cause in of_platform} == {None, MAIN, SUB, OTHER_SUB}
    assert all(cause["facts"] == facts and cause["advice_en"] for cause in of_platform), (
        "a key reads what operators read"
    )


def test_a_cause_that_was_stored_while_the_company_waited_is_shown_once(dsn: str) -> None:
    """And not at all when it waits no more."""
    causes = "SELECT cause FROM report_v1.zero_rate_diagnosis WHERE account_id = %s ORDER BY cause"
    with connect(dsn, "tests") as owner:
        seed_world(owner, 1, ("default",), ("lt-textile",))
        owner.execute("DELETE FROM ledger.diagnoses")
        owner.execute(
            "INSERT INTO ledger.diagnoses SELECT 'default', 'lt-textile', %s, cause, current_date, 'high', '{}', 'a', 'z', now()"
            " FROM unnest(ARRAY['none', 'pipeline-behind']) cause",
            [SUB],
        )
        for since, expected in (("1 hour", ["none", "pipeline-behind"]), ("1 second", ["none"])):
            owner.execute("UPDATE ledger.companies SET due_at = now() - %s::interval", [since])
            assert [cause for (cause,) in owner.execute(causes, [SUB]).fetchall()] == expected


READ_BY_THE_PORTAL_ALONE: Final = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname IN ('registry', 'ledger', 'replyrate', 'report_token_v1') AND c.relkind IN ('r', 'p', 'v')
    AND has_column_privilege('replyrate_portal', c.oid, a.attnum, 'SELECT')
    AND NOT has_column_privilege('replyrate_console', c.oid, a.attnum, 'SELECT')
UNION
SELECT DISTINCT p.oid::regproc::text FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
JOIN pg_proc p ON p.oid = d.refobjid
WHERE d.refclassid = 'pg_proc'::regclass AND v.relnamespace = 'report_token_v1'::regnamespace
    AND has_function_privilege('replyrate_portal', p.oid, 'EXECUTE') AND NOT has_function_privilege('replyrate_console', p.oid, 'EXECUTE')
"""
MORE_OF_THE_PORTAL: Final = {"registry.api_answers", "registry.api_changes"}
"""What only the web process for sellers and platforms reads."""


def test_the_console_may_read_what_the_web_process_reads(dsn: str) -> None:
    """Both run the same statements: a right that a migration gives to one alone breaks pages of the other."""
    with connect(dsn, "tests") as connection:
        missing = connection.execute(READ_BY_THE_PORTAL_ALONE).fetchall()
    assert {name for (name,) in missing} <= MORE_OF_THE_PORTAL
