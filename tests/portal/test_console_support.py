"""What support does in the console from the first page to the seller's link, without a command line and without the API."""

import json
import re
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import psycopg
import pytest

from services.aggregator.doctor.causes import CAUSES
from services.aggregator.judge import rules
from services.common.display import percent
from services.common.postgres import connect
from services.portal.panel.display import rate_text
from services.registry import states
from services.registry.portal_sessions import PortalSessions, address_hash, address_key
from tests.portal.test_console import rows, value_of
from tests.support.archived_inquiry import put_archived
from tests.support.connect_lab import Browser
from tests.support.console_lab import NAME, MakeConsole, console_dsn, make_console, staff_browser
from tests.support.panel_world import PanelWorld, seed_world
from tests.support.portal_lab import Portal
from tests.support.rates import edit_rates

__all__ = ["console_dsn", "make_console"]

COMPANY = "lt-textile"
PORTAL = "https://replies.example"
COMMAND_HINT = re.compile(r'<p class="hint">[^<]*<code>[^<]*</code></p>|<(span|q) lang="en">[^<]*</\1>')
"""For operators: beside an action the command that does the same, and on the overview what a check of the installation says."""
NOT_OF_STAFF = re.compile(r"replyrate [a-z]|/v1/")


@pytest.fixture
def console(make_console: MakeConsole) -> Iterator[Portal]:
    with make_console(PORTAL__PUBLIC_URL=PORTAL) as started:
        yield started


@pytest.fixture
def world(dsn: str) -> PanelWorld:
    with connect(dsn, "tests") as owner:
        return seed_world(owner, 1, ("default", "etsy"), (COMPANY, "hx-tools"))


def run(dsn: str, statement: str, *values: object) -> None:
    with connect(dsn, "tests") as owner:
        owner.execute(statement.encode(), values)


def set_state(dsn: str, mailbox: str, state: str) -> None:
    """Put a mailbox into a state, whatever it was; the database allows only changes that the services make."""
    with connect(dsn, "tests") as owner, owner.transaction():
        owner.execute("SET LOCAL session_replication_role = replica")
        owner.execute("UPDATE registry.mailboxes SET state = %s WHERE mailbox_id = %s", (state, mailbox))


def links_of(browser: Browser) -> set[str]:
    """The addresses that a page leads to in the console, without downloads."""
    linked = re.findall(r'<a [^>]*?href="(/[^"#]*)"(?![^>]* download)', browser.answer.text)
    return {path.replace("&amp;", "&") for path in linked if not path.startswith("/static")}


@pytest.mark.parametrize("role", ["support", "operator"])
def test_no_page_sends_staff_to_the_command_line_or_the_api(
    world: PanelWorld, console: Portal, dsn: str, role: str
) -> None:
    """Every page that a link of the console leads to, with every cause and every state of a mailbox; pages of operators may name a command
    beside the action that does the same."""
    for cause in CAUSES:
        run(
            dsn,
            "INSERT INTO ledger.diagnoses (rule_set, company_id, account_id, cause, as_of, confidence, facts, advice_en, advice_zh,"
            " computed_at) VALUES ('default', %s, '', %s, current_date, 'medium', %s, '`replyrate x`', '`replyrate x`', now())"
            " ON CONFLICT DO NOTHING",
            COMPANY, cause.code, json.dumps(dict.fromkeys(cause.facts)),
        )  # fmt: skip
    with connect(dsn, "tests") as owner:
        mailboxes = [
            mailbox for (mailbox,) in owner.execute("SELECT mailbox_id FROM registry.mailboxes ORDER BY 1").fetchall()
        ]
        put_archived(owner, COMPANY, None, "lt-archived")
    for mailbox, state in zip(mailboxes, states.load().names, strict=False):
        set_state(dsn, mailbox, state)
    inquiry = value_of(dsn, f"SELECT min(inquiry_id) FROM ledger.inquiries WHERE company_id = '{COMPANY}'")
    browser = staff_browser(console, dsn, "operator" if role == "operator" else "support")
    seen: set[str] = set()
    to_see = {"/", "/?q=lt-", f"/companies/{COMPANY}/inquiries/{inquiry}", "/mailboxes/list"}
    while to_see:
        path = min(to_see)
        text = browser.get(path).answer.text
        assert browser.status == 200, path
        shown = COMMAND_HINT.sub("", text) if role == "operator" else text
        named = NOT_OF_STAFF.search(shown)
        assert named is None, f"{path}: {shown[named.start() - 80 : named.end() + 40]}"
        seen.add(path)
        to_see = {linked for linked in to_see | links_of(browser) if "/audit?" not in linked} - seen
    visited = {urlsplit(path).path for path in seen}
    assert sum("/mailboxes/" in path and path.startswith("/companies/") for path in visited) == len(mailboxes)
    assert {f"/companies/{COMPANY}", f"/companies/{COMPANY}/inquiries/lt-archived", "/mailboxes"} <= visited
    assert ("/rule-sets/etsy" in visited) == (role == "operator")


def test_support_makes_a_link_that_connects_one_address(
    world: PanelWorld, console: Portal, console_dsn: str, dsn: str
) -> None:
    browser = staff_browser(console, dsn).get(f"/companies/{COMPANY}")
    assert browser.status == 200, browser.answer.text
    account = rows(browser, "accounts")[-1][0]
    browser.follow("Make a link")
    assert browser.path == f"/companies/{COMPANY}/accounts/{account}/link"
    form = "/companies/.*/link"
    forms_noted = (
        "SELECT count(*) FROM registry.staff_actions WHERE action = 'link-form' AND account_id = '" + account + "'"
    )
    assert value_of(dsn, forms_noted) == 1
    assert (
        browser.fill_in(form, address="nobody", language="en").status == 422
        and "Write the address" in browser.answer.text
    )
    assert value_of(dsn, forms_noted) == 2, "the form is shown again"
    browser.fill_in(form, address=" Sales@Shop.example ", role="backup", language="zh")
    assert browser.status == 201, browser.answer.text
    url = re.search(r'value="(https://replies.example/link/rrl_[^"]+)"', browser.answer.text)
    assert url is not None and url[1].endswith("?lang=zh")
    token = urlsplit(url[1]).path.removeprefix("/link/")
    with connect(dsn, "tests") as owner:
        stored = owner.execute(
            "SELECT account_id, role, mailbox_id, purpose, return_url, created_by, expected_address_hash, session_id,"
            " expires_at <= clock_timestamp() + interval '1 day' FROM registry.portal_sessions"
        ).fetchall()
        noted = owner.execute(
            "SELECT company_id, account_id, mailbox_id, detail, display_name FROM registry.staff_actions WHERE action = 'make-link'"
        ).fetchall()
        ((*values, created_by, hashed, session_id, is_short),) = stored
        assert values == [account, "backup", None, "connect", None] and is_short
        assert hashed == address_hash(address_key(token), "sales@shop.example")
        assert re.fullmatch(rf"{NAME} \(w-[0-9a-f]{{12}}\)", created_by)
        assert noted == [(COMPANY, account, None, {"session_id": session_id}, NAME)]
        assert PortalSessions(owner).open_link(token, "rrs_x", 30) and not PortalSessions(owner).open_link(
            token, "rrs_y", 30
        )
    assert browser.get(f"/companies/{COMPANY}").shows(session_id)
    log = console.process.log.read_text("utf-8")
    assert token not in log and "shop.example" not in log.lower()


def test_a_link_for_a_mailbox_is_offered_where_the_seller_can_connect_it_again(
    world: PanelWorld, console: Portal, dsn: str
) -> None:
    browser = staff_browser(console, dsn)
    mailbox = value_of(
        dsn, f"SELECT min(mailbox_id) FROM registry.mailboxes WHERE company_id = '{COMPANY}' AND state = 'active'"
    )
    segment = quote(mailbox, safe="")
    path = f"/companies/{COMPANY}/mailboxes/{segment}"
    assert "Make a link" in browser.get(path).page.links, (browser.path, browser.answer.text)
    browser.follow("Make a link")
    browser.fill_in("/companies/.*/link", address="sales@shop.example", language="en")
    assert browser.status == 201
    assert value_of(dsn, "SELECT mailbox_id FROM registry.portal_sessions") == mailbox
    set_state(dsn, mailbox, "removed")
    assert "Make a link" not in browser.get(path).page.links
    account = value_of(dsn, f"SELECT account_id FROM registry.mailboxes WHERE mailbox_id = '{mailbox}'")
    browser.get(f"/companies/{COMPANY}/accounts/{account}/link?mailbox={segment}")
    browser.fill_in("/companies/.*/link", address="sales@shop.example", language="en")
    assert browser.status == 422 and value_of(dsn, "SELECT count(*) FROM registry.portal_sessions") == 1
    for address in (
        "/companies/hx-tools/accounts/none/link",
        f"/companies/hx-tools/accounts/{account}/link?mailbox={segment}",
    ):
        assert browser.get(address).status == 404


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": "panel"}, {"return_url": "https://evil.example"}, {"expected_address_hash": None},
        {"created_by": "Somebody (w-000000000000)"}, {"minutes": 1441},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_the_login_of_the_console_makes_no_other_kind_of_link(
    world: PanelWorld, console: Portal, console_dsn: str, dsn: str, change: dict[str, object]
) -> None:
    token = staff_browser(console, dsn).client.cookies["replyrate-staff"]
    session_id = value_of(dsn, "SELECT session_id FROM registry.staff_sessions")
    account = value_of(dsn, f"SELECT min(account_id) FROM registry.accounts WHERE company_id = '{COMPANY}'")
    allowed = {
        "company_id": COMPANY, "account_id": account, "purpose": "connect", "return_url": None, "expected_address_hash": "0" * 64,
        "created_by": f"{NAME} ({session_id})", "minutes": 1440,
    }  # fmt: skip
    statement = (
        "INSERT INTO registry.portal_sessions (session_id, token_hash, company_id, account_id, role, expected_address_hash, language,"
        " return_url, created_by, purpose, expires_at) VALUES ('s-000000000000', sha256('x'), %(company_id)s, %(account_id)s,"
        " 'registered', %(expected_address_hash)s, 'en', %(return_url)s, %(created_by)s, %(purpose)s,"
        " clock_timestamp() + make_interval(mins => %(minutes)s))"
    )

    def insert(own_token: str, values: dict[str, object]) -> None:
        with connect(console_dsn, "tests") as connection, connection.transaction(force_rollback=True):
            connection.execute("SELECT set_config('replyrate.token', %s, true)", (own_token,))
            connection.execute(statement.encode(), values)

    insert(token, allowed)
    for refused_token, values in ((token, allowed | change), ("", allowed)):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            insert(refused_token, values)


def test_staff_see_the_rate_that_the_seller_sees(world: PanelWorld, console: Portal, dsn: str) -> None:
    """The rule set of Etsy rounds down, so a share that is nearer to the next digit shows the lower one."""
    browser = staff_browser(console, dsn).get(f"/companies/{COMPANY}?rules=etsy")
    with connect(dsn, "tests") as owner:
        cursor = owner.cursor(row_factory=psycopg.rows.dict_row)
        stored = cursor.execute(
            "SELECT rate, rate_shown FROM report_v1.reply_rate_latest WHERE company_id = %s AND rule_set = 'etsy'"
            " ORDER BY coalesce(account_id, '') COLLATE \"C\"",
            (COMPANY,),
        ).fetchall()
    etsy = rules.load_builtin("etsy")
    expected = ["not measured" if rate["rate"] is None else rate_text(rate, etsy) for rate in stored]
    assert expected != ["not measured" if rate["rate"] is None else percent(rate["rate"]) for rate in stored]
    assert [cells[2] for cells in rows(browser, "rates")] == expected


def test_a_company_without_causes_says_what_was_judged(world: PanelWorld, console: Portal, dsn: str) -> None:
    run(dsn, "DELETE FROM ledger.diagnoses")
    browser = staff_browser(console, dsn).get(f"/companies/{COMPANY}")
    assert "not measured" in {cells[2] for cells in rows(browser, "rates")}
    assert browser.shows("its causes have not been examined yet")
    with connect(dsn, "tests") as owner:
        edit_rates(owner, "rate = 0.5, rate_shown = 0.5", f"company_id = '{COMPANY}'")
    assert browser.get(f"/companies/{COMPANY}").shows("None of the newest rates is 0 or missing.")
    run(dsn, "INSERT INTO registry.companies (company_id) VALUES ('z-new')")
    browser.get("/companies/z-new")
    assert browser.answer.text.count("Nothing was judged yet.") == 2


def test_a_search_for_control_characters_says_that_nothing_was_searched(console: Portal, dsn: str) -> None:
    browser = staff_browser(console, dsn).get("/?q=lt%09main")
    assert browser.shows("An id has no control characters") and "lt\tmain" not in browser.answer.text


def test_tables_of_a_company_go_on_on_further_pages(world: PanelWorld, console: Portal, dsn: str) -> None:
    run(
        dsn,
        "INSERT INTO registry.accounts (company_id, account_id, kind) SELECT %s, 'z-' || lpad(n::text, 3, '0'), 'sub'"
        " FROM generate_series(1, 120) n",
        COMPANY,
    )
    browser = staff_browser(console, dsn).get(f"/companies/{COMPANY}?rules=etsy")
    assert {cells[1] for cells in rows(browser, "rates")} == {"etsy"}
    shown = pages_of(browser, "accounts")
    assert "rules=etsy" in browser.path
    with connect(dsn, "tests") as owner:
        stored = owner.execute(
            "SELECT account_id FROM registry.accounts WHERE company_id = %s ORDER BY 1", (COMPANY,)
        ).fetchall()
    assert shown == [account for (account,) in stored] and len(shown) > 120
    for name in ("rates", "causes", "accounts", "links", "sessions"):
        assert browser.get(f"/companies/{COMPANY}?{name}=none").status == 404


def test_links_and_sessions_of_a_company_go_on_on_further_pages(world: PanelWorld, console: Portal, dsn: str) -> None:
    account = value_of(dsn, f"SELECT min(account_id) FROM registry.accounts WHERE company_id = '{COMPANY}'")
    run(
        dsn,
        "INSERT INTO registry.portal_sessions (session_id, token_hash, company_id, account_id, role, language, created_by, created_at,"
        " expires_at) SELECT 's-' || lpad(n::text, 12, '0'), sha256(n::text::bytea), %s, %s, 'registered', 'en', 'tests',"
        " now() - make_interval(hours => n / 3), now() + interval '1 day' FROM generate_series(1, 120) n",
        COMPANY, account,
    )  # fmt: skip
    browser = staff_browser(console, dsn).get(f"/companies/{COMPANY}")
    shown = pages_of(browser, "sessions")
    with connect(dsn, "tests") as owner:
        stored = owner.execute(
            "SELECT session_id FROM registry.portal_sessions ORDER BY created_at DESC, session_id DESC"
        ).fetchall()
    assert shown == [session for (session,) in stored] and len(shown) == 120


def pages_of(browser: Browser, table: str) -> list[str]:
    """The first cell of each row of a table, on this page and those that follow."""
    shown = [cells[0] for cells in rows(browser, table)]
    while "Next page" in browser.page.links:
        browser.follow("Next page")
        shown += [cells[0] for cells in rows(browser, table)]
    return shown


def test_a_search_has_further_pages_and_an_empty_one_lists_the_companies(
    world: PanelWorld, console: Portal, dsn: str
) -> None:
    run(dsn, "INSERT INTO registry.companies (company_id) SELECT 'z-' || n FROM generate_series(1, 45) n")
    run(
        dsn,
        "INSERT INTO registry.accounts (company_id, account_id, kind) SELECT 'z-' || n, 'shop-' || m, 'sub'"
        " FROM generate_series(1, 45) n, generate_series(1, 2) m",
    )
    browser = staff_browser(console, dsn)
    assert rows(browser.get("/"), "companies") == []
    browser.get("/?q=")
    with connect(dsn, "tests") as owner:
        companies = [
            company for (company,) in owner.execute("SELECT company_id FROM registry.companies ORDER BY 1").fetchall()
        ]
        accounts = owner.execute(
            "SELECT account_id, company_id FROM registry.accounts WHERE account_id LIKE 'shop-%' ORDER BY 1, 2"
        ).fetchall()
    assert pages_of(browser, "companies") == companies and len(companies) > 45
    assert value_of(dsn, "SELECT count(*) FROM registry.staff_actions WHERE action = 'search'") == len(companies)
    assert rows(browser, "accounts") == []
    browser.get("/?q=shop-")
    assert pages_of(browser, "accounts") == [account for account, _ in accounts] and len(accounts) == 90
    assert [cells[1] for cells in rows(browser, "accounts")] == [company for _, company in accounts[80:]]
    assert rows(browser, "companies") == []
    assert "Next page" not in browser.get("/?q=z-1").page.links
    for query in ("q=&kind=accounts", "q=z&kind=none", "q=z&kind=accounts&after=none"):
        assert browser.get(f"/?{query}").status == 404, query


def test_the_mailboxes_of_a_company_are_a_list(world: PanelWorld, console: Portal, dsn: str) -> None:
    with connect(dsn, "tests") as owner:
        stored = owner.execute(
            "SELECT mailbox_id FROM registry.mailboxes WHERE company_id = %s ORDER BY 1", [COMPANY]
        ).fetchall()
    browser = staff_browser(console, dsn).get(f"/mailboxes/list?company={COMPANY}")
    listed = rows(browser, "mailboxes")
    assert [(cells[0],) for cells in listed] == stored and {cells[1] for cells in listed} == {COMPANY}
    assert browser.get("/mailboxes/list?company=lt").shows("No mailbox matches.")
