"""The staff console over HTTP: who gets in, what they see, and what is recorded of it."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql

from services.aggregator.explain import explain_inquiry
from services.aggregator.explanation_page import explanation_page
from services.aggregator.judge import rules
from services.aggregator.texts import Texts
from services.cli.__main__ import main
from services.common.postgres import connect
from services.common.settings import ConsoleSettings
from services.portal.console import mailbox_lists
from services.portal.console.provider import role_of
from services.registry.staff_sessions import StaffSessionLimits, StaffSessions
from services.standalone.servers.ca import CertificateAuthority
from tests.support.api_lab import NESTED_CURSOR
from tests.support.archived_inquiry import put_archived
from tests.support.connect_lab import Browser
from tests.support.console_lab import (
    NAME,
    MakeConsole,
    actions,
    console,
    console_dsn,
    console_link,
    make_console,
    staff_browser,
)
from tests.support.panel_lab import ShownFigures
from tests.support.panel_world import PanelWorld, seed_world
from tests.support.portal_in_process import PortalInProcess, console_in_process
from tests.support.portal_lab import Portal, ServedPages, portal_dsn
from tests.support.sign_in_provider import SignInProvider

__all__ = ["console", "console_dsn", "make_console", "portal_dsn"]


@pytest.fixture
def console_process(make_console: MakeConsole) -> Iterator[Portal]:
    with make_console() as started:
        yield started


def test_a_link_of_the_command_line_begins_one_session_in_one_browser(console: ServedPages, dsn: str) -> None:
    browser = Browser(console.origin).get("/")
    assert browser.path == "/sign-in" and browser.shows("replyrate console-link")
    link = console_link(dsn, "operator")
    assert browser.get(link).heading == "Open the console"
    assert actions(dsn) == [], "opening the page begins no session"
    browser.fill_in("/link/.*")
    assert browser.path == "/" and browser.heading == "Search" and browser.shows(f"{NAME} (operator)")
    stranger = Browser(console.origin).get(link).fill_in("/link/.*")
    assert stranger.status == 410 and stranger.heading == "This link cannot be used any more"
    assert actions(dsn) == [("sign-in", None, None, None)]
    browser.fill_in("/sign-out")
    assert browser.path == "/sign-in?signed-out=1" and browser.get("/").path == "/sign-in"
    assert [action for action, *_ in actions(dsn)] == ["sign-in", "sign-out"]


@pytest.mark.parametrize(
    "change",
    [
        "expires_at = clock_timestamp()",
        "used_at = clock_timestamp() - interval '31 minutes'",
        "ended_at = clock_timestamp()",
    ],
)
def test_a_session_ends(console: ServedPages, dsn: str, change: str) -> None:
    browser = staff_browser(console, dsn)
    with connect(dsn, "tests") as connection:
        connection.execute(f"UPDATE registry.staff_sessions SET {change}".encode())
    assert browser.get("/").path == "/sign-in"


def test_a_form_of_another_site_or_session_is_refused(console: ServedPages, dsn: str) -> None:
    browser = staff_browser(console, dsn)
    form = browser.page.forms[0]
    assert browser.post("/sign-out", form.values, Origin="https://other.example").status == 403
    assert browser.post("/sign-out", {"csrf": "guessed"}).status == 403
    assert browser.get("/").heading == "Search"


COMPANY = "lt-textile"


@pytest.fixture
def world(dsn: str) -> PanelWorld:
    """A company with several accounts, and one whose mailbox has to be connected again."""
    with connect(dsn, "tests") as owner:
        return seed_world(owner, 1, ("default",), (COMPANY, "hx-tools"))


@pytest.fixture
def in_process(console_dsn: str) -> Iterator[PortalInProcess]:
    with console_in_process(console_dsn) as started:
        yield started


def rows(browser: Browser, table: str) -> list[list[str]]:
    """The cells of a table as the page shows them."""
    return ShownFigures(browser.answer.text).cells.get(table, [])


def value_of(dsn: str, statement: str) -> Any:
    with connect(dsn, "tests") as connection:
        stored = connection.execute(statement.encode()).fetchone()
    assert stored is not None
    return stored[0]


def test_support_looks_a_seller_up_and_explains_a_number(world: PanelWorld, console: ServedPages, dsn: str) -> None:
    browser = staff_browser(console, dsn)
    browser.get("/?q=lt-")
    assert [cells[0] for cells in rows(browser, "companies")] == [COMPANY]
    assert len(rows(browser, "accounts")) > 1
    browser.get(f"/companies/{COMPANY}")
    assert browser.heading == f"Company {COMPANY}"
    with connect(dsn, "tests") as connection:
        stored = connection.execute(
            "SELECT coalesce(account_id, 'whole company'), rate::text FROM report_v1.reply_rate_latest"
            " WHERE company_id = %s ORDER BY coalesce(account_id, '') COLLATE \"C\"",
            (COMPANY,),
        ).fetchall()
    shown = ShownFigures(browser.answer.text).tables["rates"]
    assert [(cells[0], cells[2] or None) for cells in shown] == [(name, rate) for name, rate in stored]
    assert {cells[2] for cells in rows(browser, "rates") if not cells[2].endswith("%")} <= {"not measured"}
    mailbox = rows(browser, "mailboxes")[0][0]
    browser.follow(mailbox)
    assert browser.heading.startswith(f"Mailbox {mailbox}") and rows(browser, "history")
    inquiry = value_of(dsn, f"SELECT min(inquiry_id) FROM ledger.inquiries WHERE company_id = '{COMPANY}'")
    browser.get(f"/companies/{COMPANY}/inquiry?inquiry={inquiry}")
    assert browser.path == f"/companies/{COMPANY}/inquiries/{quote(inquiry)}"
    with connect(dsn, "tests") as connection:
        story = explain_inquiry(connection, rules.load_builtin("default"), COMPANY, inquiry)
    for language in ("en", "zh"):
        page = explanation_page(story, Texts("explain", language))
        text = browser.client.get(f"{browser.path}/text?lang={language}").text
        assert text.startswith(page.title) and all(sentence in text for sentence in page.sentences)
        assert page.sentences[0] in ShownFigures(browser.answer.text).texts[f"text-{language}"]
    assert actions(dsn) == [
        ("sign-in", None, None, None), ("search", COMPANY, None, None), ("company", COMPANY, None, None),
        ("mailbox", COMPANY, mailbox, None), *[("explanation", COMPANY, None, inquiry)] * 3,
    ]  # fmt: skip


def test_an_archived_inquiry_is_found_and_says_that_it_is_final_and_who_can_read_its_explanation(
    world: PanelWorld, console: ServedPages, dsn: str
) -> None:
    with connect(dsn, "tests") as owner:
        inquiry = put_archived(owner, COMPANY, None, "archived-1")
        put_archived(owner, "hx-tools", "hx-main", inquiry)
        late = owner.execute(
            "SELECT inquiry_id FROM ledger.inquiries WHERE company_id = %s LIMIT 1", [COMPANY]
        ).fetchone()
        assert late is not None
        put_archived(owner, COMPANY, "lt-main", late[0])
    browser = staff_browser(console, dsn).get(f"/?q={late[0]}")
    assert [cells[:2] for cells in rows(browser, "inquiries")] == [[late[0], COMPANY]], "a late record is no second one"
    browser.get("/?q=archived-")
    assert [cells[:3] for cells in rows(browser, "inquiries")] == [
        [inquiry, "hx-tools", "hx-main"], [inquiry, COMPANY, "–"],
    ]  # fmt: skip
    assert [company for action, company, *_ in actions(dsn) if action == "search"][1:] == ["hx-tools", COMPANY]
    browser.get(f"/companies/{COMPANY}/inquiries/{inquiry}")
    assert browser.shows("This inquiry is final. Its details were moved to the archive at 2026-03-04 05:06:07 UTC.")
    assert browser.shows("It still counts in the reply rates")
    assert browser.shows(
        f"Ask those who run the installation for it, and name company {COMPANY} and inquiry {inquiry}."
    )
    assert "ask the platform's support" in ShownFigures(browser.answer.text).texts["text-en"], "it is for the seller"
    text = browser.client.get(f"{browser.path}/text?lang=zh").text
    assert "已于 2026-03-04 05:06:07 UTC 移入归档" in text and f"请联系平台客服并提供询盘编号 {inquiry}" in text
    assert "replyrate explain" not in browser.answer.text + text
    assert browser.get(f"/companies/{COMPANY}/inquiries/archived-2").status == 404


def test_mailboxes_are_counted_by_state_provider_and_reason(world: PanelWorld, console: ServedPages, dsn: str) -> None:
    browser = staff_browser(console, dsn).get("/mailboxes")
    stored = value_of(dsn, "SELECT count(*) FROM registry.mailboxes")
    assert sum(int(cells[3]) for cells in rows(browser, "kinds")) == stored > 1
    browser.get("/mailboxes/list")
    assert len(rows(browser, "mailboxes")) == stored
    assert browser.get("/mailboxes/list?state=removed").shows("No mailbox matches.")
    assert [company for _, company, *_ in actions(dsn)] == [None, "hx-tools", COMPANY, None]
    with connect(dsn, "tests") as owner:
        owner.execute("INSERT INTO registry.companies (company_id) VALUES ('lt-other')")
    browser.get("/?q=lt-")
    assert [company for action, company, *_ in actions(dsn) if action == "search"] == ["lt-other", COMPANY]
    for after in ("none", NESTED_CURSOR):
        assert browser.get(f"/mailboxes/list?after={after}").status == 404


def test_the_list_of_mailboxes_is_exported_page_by_page_with_the_filters_of_the_page(
    world: PanelWorld, in_process: PortalInProcess, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_lists, "EXPORT_ROWS", 2)
    with connect(dsn, "tests") as owner:
        owner.execute("UPDATE registry.mailboxes SET state = 'needs_reconnect' WHERE company_id = 'hx-tools'")
        owner.execute(
            "UPDATE registry.mailboxes SET host = '=1+1' WHERE mailbox_id = (SELECT min(mailbox_id) FROM registry.mailboxes)"
        )
        stored = owner.execute(
            "SELECT company_id, mailbox_id, state, host FROM registry.mailboxes ORDER BY company_id, mailbox_id"
        ).fetchall()
        token = StaffSessions(owner).begin("s", NAME, "support", StaffSessionLimits(60, 60, 90))
    assert len(stored) > 2

    def export(query: str) -> str:
        answer = in_process.request("GET", f"/mailboxes/export?{query}", headers={"cookie": f"replyrate-staff={token}"})
        assert answer.status_code == 200 and "attachment" in answer.headers["content-disposition"], answer.text
        return answer.text

    lines = list(csv.DictReader(io.StringIO(export("format=csv"))))
    assert [
        (line["company_id"], line["mailbox_id"], line["state"], line["host"].lstrip("'")) for line in lines
    ] == stored
    pages = [text for text in in_process.statements if "ORDER BY company_id, mailbox_id LIMIT" in text]
    assert len(pages) == len(stored) // 2 + 1
    assert "'=1+1" in export("") and set(lines[0]) == set(mailbox_lists.COLUMNS)
    objects = [json.loads(line) for line in export("format=ndjson").splitlines()]
    assert [tuple(line[name] for name in ("company_id", "mailbox_id", "state", "host")) for line in objects] == stored
    chosen = [line for line in stored if line[2] == "needs_reconnect"]
    assert 0 < len(chosen) < len(stored)
    assert [json.loads(line)["mailbox_id"] for line in export("format=ndjson&state=needs_reconnect").splitlines()] == [
        mailbox_id for _, mailbox_id, *_ in chosen
    ]
    assert (
        export("state=removed") == ",".join(mailbox_lists.COLUMNS) + "\r\n"
        and export("format=ndjson&state=removed") == ""
    )
    with connect(dsn, "tests") as owner:
        noted = owner.execute(
            "SELECT DISTINCT company_id, detail->>'state' FROM registry.staff_actions WHERE action = 'mailbox-export'"
        ).fetchall()
        sealed = owner.execute("SELECT address_hash, login_hash FROM registry.mailboxes").fetchall()
    text = export("format=ndjson")
    assert {company for company, _ in noted} == {*{company for company, *_ in stored}, None}
    assert {state for _, state in noted} == {"", "needs_reconnect", "removed"}
    assert not [value for values in sealed for value in values if value and value in text]
    assert not re.search(r"[^*]@", text), "addresses are masked"
    cookie = {"cookie": f"replyrate-staff={token}"}
    assert in_process.request("GET", "/mailboxes/export?format=xml", headers=cookie).status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/companies/none", "/companies/none/mailboxes/m", "/companies/none/inquiries/i", "/nothing", "/companies/%00"],
)
def test_what_is_not_stored_has_no_page_and_leaves_no_record(console: ServedPages, dsn: str, path: str) -> None:
    browser = staff_browser(console, dsn).get(path)
    assert browser.status == 404 and browser.heading == "There is no such page"
    browser.get("/?q=someone@mail.example")
    assert browser.shows("cannot be searched here") and actions(dsn)[-1][0] == "sign-in"


def test_operators_alone_read_the_audit(console: ServedPages, dsn: str) -> None:
    support = staff_browser(console, dsn, "support", "Li Na")
    assert "Audit" not in support.page.links and support.get("/audit").status == 403
    operator = staff_browser(console, dsn, "operator").get("/audit")
    assert [cells[1] for cells in rows(operator, "actions")] == [NAME, NAME, "Li Na"]
    subject = value_of(dsn, "SELECT subject FROM registry.staff_actions WHERE display_name = 'Li Na'")
    for who in ("Li+Na", subject):
        operator.get(f"/audit?who={who}&action=sign-in")
        assert [cells[1:3] for cells in rows(operator, "actions")] == [["Li Na", subject]]
    assert operator.get("/audit?who=nobody").shows("No record matches.")
    for after in (10**20, "9" * 5000, "x", "٣"):
        assert operator.get(f"/audit?after={after}").status == 404, after
    assert operator.get("/audit?to=2020-01-01").shows("No record matches.")


def test_the_audit_stores_no_filter_that_somebody_typed(world: PanelWorld, console: ServedPages, dsn: str) -> None:
    typed = quote("li@shop.example")
    operator = staff_browser(console, dsn, "operator")
    filters = dict.fromkeys(("who", "company", "action", "from", "to"), typed)
    operator.get("/audit?" + urlencode(filters))
    operator.get(f"/audit?company={COMPANY}&action=sign-in&from=2026-01-01&to=2026-01-31")
    for path in ("list", "export"):
        operator.get(f"/mailboxes/{path}?state={typed}&provider={typed}&reason={typed}&company={typed}")
        operator.get(f"/mailboxes/{path}?state=removed&provider=qq&reason=login-refused")
    with connect(dsn, "tests") as owner:
        host = "imap.of-a-seller.example"
        owner.execute("UPDATE registry.mailboxes SET host = %s WHERE company_id = 'hx-tools'", [host])
        operator.get(f"/mailboxes/list?provider={host}")
        noted = owner.execute(
            "SELECT detail FROM registry.staff_actions WHERE action <> 'sign-in' ORDER BY action_id"
        ).fetchall()
    details = [{name: value for name, value in detail.items() if value} for (detail,) in noted]
    codes = {"state": "removed", "provider": "qq", "reason": "login-refused"}
    assert details[:2] == [{}, {"company": COMPANY, "action": "sign-in", "from": "2026-01-01", "to": "2026-01-31"}]
    assert details[2:6] == [{}, codes, {}, codes]
    assert details[6]["provider"] == host and "shop" not in str(details)


SHOWN = ("registry.mailboxes", "registry.mailbox_history", "ledger.inquiries", "report_token_v1.reply_rate")


def test_the_login_of_the_console_sees_nothing_without_a_session_and_no_secret_with_one(
    world: PanelWorld, console_process: Portal, console_dsn: str, portal_dsn: str, dsn: str
) -> None:
    token = staff_browser(console_process, dsn, "operator").client.cookies["replyrate-staff"]

    def counted(login: str, own_token: str) -> list[int]:
        with connect(login, "tests") as connection, connection.transaction():
            connection.execute("SELECT set_config('replyrate.token', %s, true)", (own_token,))
            counts = []
            for table in SHOWN:
                name = sql.Identifier(*table.split("."))
                row_count = connection.execute(sql.SQL("SELECT count(company_id) FROM {}").format(name)).fetchone()
                assert row_count is not None
                counts.append(row_count[0])
            return counts

    assert all(counted(console_dsn, token)) and counted(console_dsn, "") == [0] * len(SHOWN)
    assert counted(portal_dsn, token) == [0] * len(SHOWN), (
        "the token of the staff is of no use in the web process for sellers"
    )
    with connect(console_dsn, "tests") as connection:
        for refused in (
            "SELECT sealed FROM registry.secrets", "SELECT address_sealed FROM registry.mailboxes",
            "SELECT address_sealed FROM registry.addresses", "SELECT token_hash FROM registry.staff_sessions",
            "INSERT INTO registry.staff_actions DEFAULT VALUES", "DELETE FROM registry.staff_actions",
            "UPDATE registry.mailboxes SET consent_by = 'x'", "SELECT sealed FROM registry.connect_requests",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused.encode())
        assert connection.execute("SELECT count(*) FROM registry.staff_actions").fetchone() == (0,)
    with connect(portal_dsn, "tests") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT registry.begin_staff_session('w-000000000000', '', 'x', 'x', 'operator', 9, 9, 9)")
    environment = Path(f"/proc/{console_process.process.pid}/environ").read_text("utf-8")
    names = [entry.partition("=")[0] for entry in environment.split("\0") if entry.startswith("REPLYRATE_")]
    assert not any("KEY" in name or "IMAP" in name for name in names), names
    assert token not in console_process.process.log.read_text("utf-8")


@pytest.fixture
def provider(ca: CertificateAuthority) -> Iterator[SignInProvider]:
    with SignInProvider(ca) as started:
        yield started


@pytest.fixture
def signing_in(make_console: MakeConsole, provider: SignInProvider, ca: CertificateAuthority) -> Iterator[Portal]:
    with make_console(
        CONSOLE__ISSUER=provider.issuer, CONSOLE__CLIENT_ID="our-client", CONSOLE__CLIENT_SECRET="Client-canary",
        CONSOLE__CA_FILE=str(ca.ca_file), CONSOLE__SCOPES="openid,profile,phone", CONSOLE__SUPPORT_VALUES="staff",
        CONSOLE__OPERATOR_VALUES="admins,owners",
    ) as started:  # fmt: skip
        yield started


def leave(browser: Browser) -> str:
    """Start the sign-in; where the browser is led to."""
    answer = browser.client.get("/sign-in/start", follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def come_back(browser: Browser, location: str) -> Browser:
    return browser.get(location.removeprefix(browser.origin))


def test_staff_sign_in_at_the_provider_and_get_the_role_of_the_claim(
    signing_in: Portal, provider: SignInProvider, dsn: str
) -> None:
    provider.name_account("u-1", name="Zhao Lei", roles=["mail", "admins", "staff"])
    provider.name_account("u-2", name="Nobody", roles=["mail"])
    browser = Browser(signing_in.origin).get("/sign-in")
    assert browser.shows(f"Sign in with {provider.issuer}")
    url = leave(browser)
    query = parse_qs(urlsplit(url).query)
    assert query["code_challenge_method"] == ["S256"] and query["nonce"] and query["state"]
    location = provider.sign_in(url, "u-1")
    stranger = Browser(signing_in.origin)
    assert come_back(stranger, location).status == 403, "the answer belongs to the browser that started the sign-in"
    assert come_back(browser, location).shows("Zhao Lei (operator)")
    assert browser.client.cookies["replyrate-staff"] not in str(
        value_of(dsn, "SELECT token_hash FROM registry.staff_sessions")
    )
    assert come_back(Browser(signing_in.origin), location).status == 403, "once"
    stranger.get("/sign-in")
    assert come_back(stranger, provider.sign_in(leave(stranger), "u-2")).heading == "You have no access to the console"
    assert stranger.get("/").path == "/sign-in"
    assert come_back(stranger, provider.refuse(leave(stranger))).heading == "The sign-in did not work"
    other_issuer = provider.sign_in(leave(stranger), "u-1").replace(
        quote(provider.issuer, safe=""), quote("https://evil.example", safe="")
    )
    assert come_back(stranger, other_issuer).status == 403
    assert [action for action, *_ in actions(dsn)] == ["sign-in"]
    log = signing_in.process.log.read_text("utf-8")
    assert "Client-canary" not in log and "Zhao Lei" not in log and query["state"][0] not in log


def test_a_provider_that_is_away_is_a_page(signing_in: Portal, provider: SignInProvider) -> None:
    provider.name_account("u-1", roles=["staff"])
    browser = Browser(signing_in.origin)
    location = provider.sign_in(leave(browser), "u-1")
    provider.is_away = True
    assert come_back(browser, location).heading == "The sign-in did not work"


@pytest.mark.parametrize(
    ("claim", "role"),
    [("owners", "operator"), (["x", "staff"], "support"), (["staff", "admins"], "operator"), ("adminsx", None), (None, None), ([1], None)],
)  # fmt: skip
def test_the_role_follows_from_the_claim(claim: object, role: str | None) -> None:
    settings = ConsoleSettings.model_validate({"support_values": "staff", "operator_values": "admins,owners"})
    assert role_of(claim, settings) == role


def test_the_command_prints_a_link_but_not_where_staff_sign_in_at_a_provider(
    console: ServedPages, dsn: str, kafka: str, tmp_path: Path
) -> None:
    (tmp_path / "hash.key").write_bytes(bytes(32))
    environ = {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": kafka, "REPLYRATE_POSTGRES__DSN": dsn,
        "REPLYRATE_HASH_KEY_FILE": str(tmp_path / "hash.key"), "REPLYRATE_CONSOLE__PUBLIC_URL": console.origin,
    }  # fmt: skip
    done = CliRunner().invoke(main, ["console-link", "--role", "operator"], env=environ)
    assert done.exit_code == 0, done.output
    browser = Browser(console.origin).get(done.stdout.strip().removeprefix(console.origin)).fill_in("/link/.*")
    assert browser.shows("Link of the command line (operator)")
    environ |= {
        "REPLYRATE_CONSOLE__ISSUER": "https://login.example", "REPLYRATE_CONSOLE__CLIENT_ID": "x",
        "REPLYRATE_CONSOLE__CLIENT_SECRET": "x",
    }  # fmt: skip
    refused = CliRunner().invoke(main, ["console-link"], env=environ)
    assert refused.exit_code == 1 and "--force" in refused.stderr and "https://login.example" in refused.stderr
    assert CliRunner().invoke(main, ["console-link", "--force"], env=environ).exit_code == 0
