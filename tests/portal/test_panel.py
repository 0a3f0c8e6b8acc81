"""The panel over HTTP, on demo worlds: a reader sees the figures of the own account (a main account those of its company), and what is
not measured is never 0. That every figure equals the independent recount is in test_panel_recount.py."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from html import escape
from math import hypot, isclose
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from zoneinfo import ZoneInfo

import psycopg
import pytest

from services.aggregator.doctor import diagnosis
from services.aggregator.explain import explain_inquiry
from services.aggregator.explanation_page import explanation_page
from services.aggregator.judge import rules
from services.aggregator.texts import Texts
from services.common.postgres import connect
from services.portal.api.seller_diagnosis import OF_COMPANY
from services.portal.panel.inquiries import account_choices
from services.recount.company import CompanyRecount
from tests.support.api_lab import NESTED_CURSOR
from tests.support.connect_lab import Browser
from tests.support.panel_lab import ShownFigures, number, panel_browser, shows_duration
from tests.support.panel_world import PanelWorld, seed_world
from tests.support.portal_lab import MakePortal, Portal, make_portal, portal_dsn
from tests.support.rates import edit_rates

__all__ = ["make_portal", "portal_dsn"]

PAGES = ("", "/inquiries", "/due", "/diagnosis", "/changes", "/mailboxes")
EXPORTS = ("accounts", "timeline", "histogram", "due-soon", "corrections", "outcomes", "diagnosis")
TEXTILE, MAIN, CHEN, WU = "lt-textile", "lt-main", "lt-sub-chen", "lt-sub-wu"
"""A company with a main account and two sub-accounts; the last one has no mailbox."""
DEFAULT = rules.load_builtin("default")


@dataclass
class Scene:
    """A world behind a web process."""

    seeded: PanelWorld
    owner: psycopg.Connection
    portal: Portal
    dsn: str

    def browser(self, company_id: str, account_id: str, **wanted: Any) -> Browser:
        """A browser that has opened the panel of an account."""
        return panel_browser(self.portal, self.dsn, company_id, account_id, **wanted)


MakeScene = Callable[..., Any]


@pytest.fixture
def make_scene(dsn: str, make_portal: MakePortal) -> MakeScene:
    @contextmanager
    def make(seed: int, companies: tuple[str, ...] | None = None) -> Iterator[Scene]:
        with connect(dsn, "tests") as owner, make_portal() as portal:
            yield Scene(seed_world(owner, seed, ("default",), companies), owner, portal, dsn)

    return make


@pytest.fixture
def scene(make_scene: MakeScene) -> Iterator[Scene]:
    with make_scene(1, (TEXTILE, "hx-tools", "bf-valves", "ds-toys")) as made_scene:
        yield made_scene


def assert_same_charts(page: ShownFigures) -> None:
    """The point of each day with a rate and the bar of each hour with answers are where the tables say."""
    rates = [number(cells[1]) for cells in reversed(page.tables["line-table"])]
    points = [(float(tag["cx"]), float(tag["cy"])) for tag in page.attributes if tag["tag"] == "circle"]
    expected = [(42 + 308 / 30 * (day + 0.5), 164 - 152 * rate) for day, rate in enumerate(rates) if rate is not None]
    assert len(points) == len(expected)
    assert all(hypot(x - left, y - top) < 0.1 for (x, y), (left, top) in zip(points, expected, strict=True))
    answered = {hour: int(cells[1]) for hour, cells in enumerate(page.tables.get("bars-table", [])) if cells[1] != "0"}
    bars = [tag for tag in page.attributes if tag["tag"] == "rect" and tag.get("width") == "8.9"]
    assert len(bars) == len(answered)
    for bar, (hour, count) in zip(bars, answered.items(), strict=True):
        assert abs(float(bar["x"]) + 4.45 - (42 + 308 / 25 * (hour + 0.5))) < 0.11
        assert isclose(
            float(bar["height"]) / count, float(bars[0]["height"]) / next(iter(answered.values())), abs_tol=0.11
        )
        assert abs(float(bar["y"]) + float(bar["height"]) - 164) < 0.11
        assert bar["class"] == ("timely" if hour < 24 else "late")


def inquiries_of(browser: Browser, query: str = "") -> dict[str, list[str]]:
    """Inquiry → the cells of its line, over all pages."""
    lines: dict[str, list[str]] = {}
    browser.get(f"/panel/inquiries{query}")
    while True:
        page = ShownFigures(browser.answer.text)
        lines |= {cells[0]: cells for cells in page.tables.get("inquiries", [])}
        following = next((entry["href"] for entry in page.attributes if entry.get("rel") == "next"), None)
        if following is None:
            return lines
        browser.get(following)


def test_charts_are_drawn_where_the_tables_say(scene: Scene) -> None:
    for company in scene.seeded.world.companies:
        browser = scene.browser(company.company_id, company.accounts[0].account_id)
        for account_id in ("", *(account.account_id for account in company.accounts)):
            assert_same_charts(ShownFigures(browser.get(f"/panel?account={account_id}").answer.text))


def test_a_reader_sees_the_own_account_and_a_main_account_its_company(scene: Scene) -> None:
    sub, main, stranger = (
        scene.browser(TEXTILE, CHEN),
        scene.browser(TEXTILE, MAIN),
        scene.browser("hx-tools", "hx-main"),
    )
    own_mailboxes = {
        mailbox.account_id: (mailbox.key, mailbox.address.partition("@")[2])
        for company in scene.seeded.world.companies
        for mailbox in company.mailboxes
        if mailbox.connected
    }
    every_id = {asked.inquiry_id: asked.account_id for asked in scene.seeded.facts[TEXTILE].asked}
    for query in ("", "?account=", f"?account={MAIN}", f"?account={WU}"):
        assert set(inquiries_of(sub, query)) == set(inquiries_of(sub)) != set(every_id)
        page = ShownFigures(sub.get(f"/panel{query}").answer.text)
        assert "accounts" not in page.tables
        assert sub.shows(f"Company {TEXTILE}, account {CHEN}")
    of_main = next(name for name, account in every_id.items() if account == MAIN)
    for path in (f"/panel/why?inquiry={of_main}", f"/panel/why?inquiry={of_main}&account={MAIN}"):
        assert sub.get(path).status == 404
        assert main.get(path).status == 200
        assert stranger.get(path).status == 404
    unknown = stranger.get("/panel/why?inquiry=no-such-inquiry").answer.text
    assert stranger.get(f"/panel/why?inquiry={of_main}").answer.text.replace(of_main, "no-such-inquiry") == unknown

    # A main account reads everything about its sub-account but its mailboxes.
    key, _ = own_mailboxes[CHEN]
    of_chen = list(inquiries_of(main, f"?account={CHEN}&outcome=timely"))
    assert of_chen
    seen = [main.get(f"/panel{page}?account={CHEN}").answer.text for page in PAGES]
    seen += [main.get(f"/panel/why?inquiry={name}").answer.text for name in of_chen[:3]]
    seen += [main.get(f"/panel/export/{name}?format=ndjson&account={CHEN}").answer.text for name in EXPORTS]
    seen += [main.get(f"/panel/export/{name}?format=csv").answer.text for name in EXPORTS]
    assert not any(key in text for text in seen)
    assert key in sub.get(f"/panel/why?inquiry={of_chen[0]}").answer.text, "its own account reads it"
    assert own_mailboxes[MAIN][0] in main.get("/panel/mailboxes").answer.text
    for name in EXPORTS:
        text = sub.get(f"/panel/export/{name}?format=ndjson&account={MAIN}").answer.text
        assert {json.loads(line)["account_id"] for line in text.splitlines()} <= {CHEN}, name
        text = stranger.get(f"/panel/export/{name}?format=ndjson").answer.text
        assert {json.loads(line)["company_id"] for line in text.splitlines()} <= {"hx-tools"}, name


def test_what_is_not_measured_is_never_0(scene: Scene) -> None:
    browser = scene.browser(TEXTILE, WU)
    page = ShownFigures(browser.get("/panel").answer.text)
    assert page.values["rate"] == "" and "Not measured" in page.texts["rate"]
    assert any(entry.get("data-code") == "coverage" for entry in page.attributes)
    assert browser.shows("This is not a rate of 0 %.") and browser.shows("What to do:")
    edit_rates(scene.owner, "rate = NULL, rate_shown = NULL", f"account_id = '{WU}'")
    page = ShownFigures(browser.get("/panel").answer.text)
    assert len(page.tables["line-table"]) == 30
    assert {cells[1] for cells in page.tables["line-table"]} == {""}
    assert not any(entry["tag"] in ("circle", "polyline") for entry in page.attributes), "no point is drawn"
    (gap,) = (entry for entry in page.attributes if entry.get("class") == "gap" and entry["tag"] == "rect")
    assert float(gap["width"]) > 300, "all days are marked"
    export = list(csv.DictReader(io.StringIO(browser.get("/panel/export/timeline?format=csv").answer.text)))
    assert {line["rate"] for line in export} == {""}
    scene.owner.execute("DELETE FROM ledger.rate_ranges WHERE account_id = %s", [WU])
    page = ShownFigures(browser.get("/panel").answer.text)
    assert page.values["rate"] == "" and browser.heading == "No reply rate yet"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_inquiry_is_explained_in_the_words_of_the_command(scene: Scene, language: str) -> None:
    """At most two clicks away: the list, and its link."""
    browser = scene.browser(TEXTILE, CHEN, language=language)
    lines = inquiries_of(browser)
    text = Texts("explain", language)
    for inquiry_id in list(lines)[::4]:
        shown = browser.get(f"/panel/why?inquiry={inquiry_id}").answer.text
        story = explain_inquiry(scene.owner, DEFAULT, TEXTILE, inquiry_id)
        page = explanation_page(story, text)
        for sentence in page.sentences:
            # An inquiry without an answer names the time of the explanation.
            before, _, after = (
                escape(sentence, quote=False).replace("'", "&#39;").partition(f"{story['now']:%Y-%m-%d %H:%M:%S}")
            )
            assert before in shown and after in shown, sentence
        for table in page.tables:
            for cells in table.rows:
                for cell in cells:
                    assert escape(cell).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in shown, (
                        table.name,
                        cell,
                    )


def test_an_inquiry_is_looked_up_by_its_id_and_the_filters_stay(scene: Scene) -> None:
    browser = scene.browser(TEXTILE, MAIN)
    inquiry_id = list(inquiries_of(browser, f"?account={CHEN}&outcome=timely&from=2020-01-01"))[-1]
    page = ShownFigures(browser.get(f"/panel/inquiries?account={CHEN}&outcome=timely&from=2020-01-01").answer.text)
    search = [entry for entry in page.attributes if entry.get("action") == "/panel/why"]
    hidden = {entry["name"]: entry["value"] for entry in page.attributes if entry.get("type") == "hidden"}
    del hidden["csrf"]  # of the form that ends the session
    assert search and hidden == {"account": CHEN, "outcome": "timely", "from": "2020-01-01"}
    browser.get(f"/panel/why?{urlencode({**hidden, 'inquiry': inquiry_id})}")
    assert browser.heading == f"Why inquiry {inquiry_id} counts like this"
    back = next(
        link for link in browser.page.links.values() if link.startswith("/panel/inquiries?") and "outcome" in link
    )
    assert dict(parse_qsl(urlsplit(back).query)) == hidden
    assert any("/panel/why?" in link and "outcome=timely" in link for link in browser.get(back).page.links.values())


def test_the_filter_offers_the_chosen_account_and_lists_no_more_than_it_can() -> None:
    assert account_choices(["a", "b"], "c", is_complete=True) == ["a", "b", "c"]
    assert account_choices(["a", "b"], None, is_complete=True) == ["a", "b"]
    assert account_choices(["a", "b"], "z", is_complete=False) is None


def test_the_causes_are_those_of_the_command_in_the_same_order(scene: Scene) -> None:
    examined = 0
    for company in scene.seeded.world.companies:
        diagnoses = diagnosis.diagnose(scene.owner, DEFAULT, [company.company_id], scene.seeded.now)
        browser = scene.browser(company.company_id, company.accounts[0].account_id)
        for account_id in (None, company.accounts[0].account_id):
            own = next((entry for entry in diagnoses if entry.account_id == (account_id or "")), None)
            text = browser.get(f"/panel/diagnosis?account={account_id or ''}").answer.text
            shown = [entry["data-cause"] for entry in ShownFigures(text).attributes if "data-cause" in entry]
            assert shown == ([] if own is None else [finding.cause for finding in own.findings])
            exports = [
                browser.get(f"/panel/export/diagnosis?format={form}&account={account_id or ''}").answer.text
                for form in ("csv", "ndjson")
            ]
            for seen in (text, *exports):
                assert "replyrate " not in seen and "--" not in seen.replace("--&gt;", "")
            causes = [json.loads(line) for line in exports[1].splitlines()]
            assert len(causes) == len(shown)
            assert account_id is not None or all(cause["facts"].keys() <= OF_COMPANY for cause in causes)
            examined += len(shown)
    assert examined > 5


def test_lists_show_durations_times_of_the_named_zone_and_what_changed(scene: Scene) -> None:
    zone = ZoneInfo(DEFAULT.time_zone)
    browser = scene.browser(TEXTILE, MAIN)
    due = scene.owner.execute(
        "SELECT inquiry_id, due_at, account_id FROM report_v1.due_soon WHERE company_id = %s AND rule_set = 'default'"
        " ORDER BY due_at, inquiry_id LIMIT 50",
        [TEXTILE],
    ).fetchall()
    shown = ShownFigures(browser.get("/panel/due").answer.text)
    assert (
        due
        and browser.shows(f"Days and times in the time zone {DEFAULT.time_zone}")
        and "UTC" not in browser.answer.text
    )
    for cells, (inquiry_id, due_at, account_id) in zip(shown.cells["due"], due, strict=True):
        assert cells[0] == inquiry_id and cells[3] == account_id
        assert cells[2] == f"{due_at.astimezone(zone):%Y-%m-%d %H:%M}"
        assert re.search(r"^\d+ (d|h|min)", cells[1]), cells
    received: dict[str, datetime] = dict(
        scene.owner.execute(
            "SELECT inquiry_id, received_at FROM report_v1.inquiry_outcomes WHERE company_id = %s AND rule_set = 'default'",
            [TEXTILE],
        ).fetchall()
    )
    outcomes = CompanyRecount(TEXTILE, scene.seeded.facts[TEXTILE], DEFAULT.parameters()).outcomes(scene.seeded.now)
    page = ShownFigures(browser.get("/panel/inquiries").answer.text)
    for cells in page.cells["inquiries"]:
        assert cells[5] == f"{received[cells[0]].astimezone(zone):%Y-%m-%d %H:%M}"
        assert shows_duration(cells[3], outcomes[cells[0]]["reply_seconds"])

    changed_at = datetime(2026, 7, 1, 6, 30, tzinfo=ZoneInfo("UTC"))
    changes = {
        "rate": ("0.8333333333", "0.5", "83.33 %", "50.00 %", "83.33 %", "50.00 %"),
        "rate_shown": ("83.3", "50", "83.3 %", "50 %", "83.3 %", "50 %"),
        "coverage": ("1", None, "100.00 %", "–", "100.00 %", "–"),
        "counted": ("12", "13", "12", "13", "12", "13"),
        "median_seconds": ("12000.5", "300", "3 h 20 min", "5 min", "3小时20分钟", "5分钟"),
        "state": ("provisional", "final", "Provisional", "Final", "暂定", "已确定"),
        "rule_version": ("1+0a1b2c3d", "1+d3c2b1a0", "earlier version", "later version", "原版本", "新版本"),
        "window_end": ("2026-06-01", "2026-06-02", "2026-06-01", "2026-06-02", "2026-06-01", "2026-06-02"),
        "*": (None, None, "–", "–", "–", "–"),
    }
    scene.owner.execute("DELETE FROM ledger.corrections")
    for column, (old, new, *_) in changes.items():
        scene.owner.execute(
            "INSERT INTO ledger.corrections (rule_set, rule_version, level, company_id, account_id, as_of, column_name, cause,"
            " changed_at, old_value, new_value) VALUES ('default', '1+0a1b2c3d', 'company', %s, '', '2026-06-05', %s, 'recompute', %s, %s, %s)",
            [TEXTILE, column, changed_at, old, new],
        )  # fmt: skip
    chinese = scene.browser(TEXTILE, MAIN, language="zh")
    for first, reader in enumerate((browser, chinese)):
        lines = ShownFigures(reader.get("/panel/changes").answer.text).cells["changes"]
        expected = [values[2 + 2 * first : 4 + 2 * first] for values in changes.values()]
        assert sorted(tuple(cells[3:5]) for cells in lines) == sorted(expected)
        assert {cells[6] for cells in lines} == {"2026-06-30 23:30"}
    assert chinese.shows("整条数据")


def test_a_passed_deadline_is_not_shown_as_time_that_is_left(scene: Scene) -> None:
    """An open unit is counted once every mailbox was read up to its deadline."""
    (inquiry_id,) = scene.owner.execute(
        "UPDATE ledger.outcomes SET due_at = now() - interval '2 hours' WHERE (rule_set, company_id, inquiry_id) = (SELECT rule_set,"
        " company_id, inquiry_id FROM ledger.outcomes WHERE outcome = 'pending' AND company_id = %s LIMIT 1) RETURNING inquiry_id",
        [TEXTILE],
    ).fetchone() or ("",)
    browser = scene.browser(TEXTILE, MAIN)
    for path in ("/panel", "/panel/due"):
        first, *later = ShownFigures(browser.get(path).answer.text).cells["due"]
        assert first[:2] == [inquiry_id, "deadline passed, not counted yet"]
        assert later and all(re.search(r"^\d+ (d|h|min)", cells[1]) for cells in later)
    assert browser.get("/panel/due?lang=zh").shows("已过截止时间，尚未统计")
    exported = browser.get("/panel/export/due-soon?format=ndjson").answer.text
    due = [json.loads(line) for line in exported.splitlines()]
    assert [unit["inquiry_id"] for unit in due if unit["deadline_passed"]] == [inquiry_id] and len(due) > 1


def test_a_mailbox_of_which_nothing_was_read_shows_no_number(scene: Scene) -> None:
    browser = scene.browser(TEXTILE, CHEN)
    for language, words in (
        ("en", "not measured: no Sent folder was read yet"),
        ("zh", "未能统计：尚未读取“已发送”文件夹"),
    ):
        assert browser.get(f"/panel/mailboxes?lang={language}").shows(words)
    scene.owner.execute(
        "INSERT INTO registry.folders (company_id, mailbox_id, folder, uidvalidity)"
        " SELECT company_id, mailbox_id, 'Sent', 1 FROM registry.mailboxes WHERE account_id = %s",
        [CHEN],
    )
    assert browser.get("/panel/mailboxes?lang=en").shows("0 (folders: 1)")


def test_a_paused_mailbox_is_connected_again_or_resumed_by_the_platform(scene: Scene) -> None:
    scene.owner.execute("UPDATE registry.mailboxes SET state = 'paused' WHERE account_id = %s", [CHEN])
    browser = scene.browser(TEXTILE, CHEN)
    assert browser.get("/panel/mailboxes").shows("connect it again, or ask the platform to resume it")
    assert any(form.action.endswith("/reconnect") for form in browser.page.forms)


def test_a_missing_rate_of_others_leads_to_no_mailbox_of_the_reader(scene: Scene) -> None:
    """The sub-account has no mailbox; the main account sees its rate, and that of the company."""
    edit_rates(scene.owner, "rate = NULL, rate_shown = NULL, coverage = 0.2", "account_id = ''")
    main = scene.browser(TEXTILE, MAIN)
    for query, words in (
        (f"?account={WU}", f"The mailboxes of account {WU} could be read"),
        ("", "The mailboxes of your company's accounts could be read"),
    ):
        html = main.get(f"/panel{query}").answer.text
        assert words in html.replace("&#39;", "'") and "Your mailboxes" not in html
        reason = html.partition('id="missing"')[2].partition("</section>")[0]
        assert "/panel/diagnosis" in reason and "/panel/mailboxes" not in reason
    own = scene.browser(TEXTILE, WU).get("/panel").answer.text
    assert "Your mailboxes could be read" in own
    assert "/panel/mailboxes" in own.partition('id="missing"')[2].partition("</section>")[0]


def test_the_excluded_inquiries_are_counted_also_where_all_are(scene: Scene) -> None:
    nothing = "timely = 0, late = 0, unanswered = 0, unmeasured = 0, pending = 0, counted = 0, rate = NULL, rate_shown = NULL, excluded = 7"
    edit_rates(scene.owner, nothing, f"account_id = '{CHEN}'")
    page = scene.browser(TEXTILE, CHEN).get("/panel")
    assert "parts" not in ShownFigures(page.answer.text).texts
    assert page.shows("Excluded by the rules: 7")


def test_a_company_with_one_account_begins_with_its_causes_and_steps(scene: Scene) -> None:
    browser = scene.browser("bf-valves", "bf-main")
    assert browser.get("/panel").shows("Company bf-valves, account bf-main") and not browser.shows("Show all accounts")
    browser.get("/panel/diagnosis")
    assert browser.shows("The connected mailbox sent") and not browser.shows("Look at the accounts")
    assert any(form.action != "/connect/end" for form in browser.page.forms) or "Send a test mail" in browser.page.links
    company = browser.get("/panel?account=")
    assert company.shows("Company bf-valves, all accounts")
    inquiries = next(link for link in company.page.links.values() if link.startswith("/panel/inquiries"))
    assert "account=" in inquiries, "its pages are about the company, too"
    assert scene.browser(TEXTILE, MAIN).get("/panel").shows(f"Company {TEXTILE}, all accounts")


@pytest.mark.parametrize(
    ("company_id", "account_id", "change", "words"),
    [
        ("bf-valves", "bf-main", "", "A mailbox of this account is connected."),
        ("bf-valves", "bf-main", "DELETE FROM registry.mailboxes WHERE account_id = 'bf-main'", "Connect the mailbox from which you answer."),
        ("bf-valves", "bf-main", "UPDATE registry.accounts SET synced_by_platform_from = now() WHERE account_id = 'bf-main'", "Nothing to connect"),
    ],
)  # fmt: skip
def test_a_page_without_figures_says_what_is_left_to_connect(
    scene: Scene, company_id: str, account_id: str, change: str, words: str
) -> None:
    scene.owner.execute("DELETE FROM ledger.rate_ranges WHERE company_id = %s", [company_id])
    if change:
        scene.owner.execute("SET session_replication_role = replica")
        scene.owner.execute(change.encode())
    browser = scene.browser(company_id, account_id)
    html = browser.get("/panel").answer.text
    assert browser.heading == "No reply rate yet" and words in html
    advice = {
        "A mailbox of this account is connected.",
        "Connect the mailbox from which you answer.",
        "Nothing to connect",
    }
    assert not any(text in html for text in advice - {words})


def test_the_first_page_says_how_many_causes_it_does_not_name(scene: Scene) -> None:
    causes = ("login-failing-since", "sent-not-stored", "copies-deleted", "none")
    scene.owner.execute("DELETE FROM ledger.diagnoses WHERE company_id = %s", [TEXTILE])
    scene.owner.execute(
        "INSERT INTO ledger.diagnoses SELECT 'default', %s, '', cause, current_date, 'medium', '{\"units\": 5}', 'a', 'z', now()"
        " FROM unnest(%s::text[]) cause",
        [TEXTILE, list(causes)],
    )
    edit_rates(scene.owner, "rate = 0, rate_shown = 0", f"company_id = '{TEXTILE}'")
    main = scene.browser(TEXTILE, MAIN)
    assert main.get("/panel").shows("More causes that are equally likely: 2")


def test_a_link_of_the_connect_page_opens_no_panel(scene: Scene) -> None:
    browser = panel_browser(scene.portal, scene.dsn, TEXTILE, MAIN, language="zh")
    assert browser.path == "/panel" and browser.shows("及时回复率")
    token = browser.client.cookies["replyrate-session"].partition(".")[0]
    assert browser.client.get("/panel", headers={"authorization": f"Bearer {token}"}).status_code == 401
    scene.owner.execute("UPDATE registry.portal_sessions SET purpose = 'connect'")
    assert browser.get("/panel").status == 401
    assert browser.get("/connect").status == 200


def test_a_wrong_value_in_an_address_is_no_error(scene: Scene) -> None:
    browser = scene.browser(TEXTILE, MAIN)
    wrong = "outcome=x&from=today&to=2026-99-99&rules=no-such-set"
    assert browser.get(f"/panel/inquiries?{wrong}").status == 200
    assert browser.get(f"/panel?{wrong}").status == 200
    for path in (
        "/panel/inquiries?after=W10",
        "/panel/changes?after=x",
        f"/panel/changes?after={NESTED_CURSOR}",
        "/panel/why?inquiry=",
        "/panel/why?inquiry=%00",
        "/panel/export/x",
        "/panel?account=no-such-account",
        "/panel/inquiries?account=%00",
        "/panel/export/accounts?account=%00",
        f"/panel/diagnosis?account={'x' * 129}",
        "/panel?account=hx-main",
    ):
        assert browser.get(path).status == 404, path


def test_a_cause_of_a_sub_account_touches_no_mailbox_of_the_main_account(scene: Scene) -> None:
    """The company's cause is the failing mailbox of a sub-account; the main account has one mailbox, which is read."""
    facts = '{"units": 5, "failing_since_on": "2026-11-01", "mailboxes_failing": 1, "units_blind": 5}'
    scene.owner.execute("DELETE FROM ledger.diagnoses WHERE company_id = %s", [TEXTILE])
    scene.owner.execute(
        "INSERT INTO ledger.diagnoses SELECT 'default', %s, account_id, 'login-failing-since', current_date, 'high', %s::jsonb, 'a', 'z', now()"
        " FROM unnest(ARRAY['', %s]) account_id",
        [TEXTILE, facts, CHEN],
    )
    edit_rates(scene.owner, "rate = 0, rate_shown = 0", f"account_id IN ('', '{CHEN}')")
    scene.owner.execute(
        "UPDATE registry.mailboxes SET state = 'needs_reconnect' WHERE (company_id, account_id) = (%s, %s)",
        [TEXTILE, CHEN],
    )
    main, sub = scene.browser(TEXTILE, MAIN), scene.browser(TEXTILE, CHEN)
    for query in ("", f"?account={CHEN}"):
        main.get(f"/panel/diagnosis{query}")
        assert [form.action for form in main.page.forms] == ["/connect/end"], query
        assert not main.shows("2026-11-01"), "when its mailbox began to fail"
        assert not main.shows("Send a test mail")
    assert main.shows(f"Account {CHEN} sees the causes in its own panel")
    main.get("/panel/diagnosis").follow(CHEN)
    assert main.path == f"/panel/diagnosis?account={CHEN}"
    sub.get("/panel/diagnosis")
    (form,) = (form for form in sub.page.forms if form.action != "/connect/end")
    assert form.action.startswith("/connect/mailboxes/") and CHEN in form.action


def test_a_mailbox_offers_the_pages_that_it_has(scene: Scene) -> None:
    """Whatever its id contains: here it has `/`."""
    browser = scene.browser(TEXTILE, CHEN)
    stored, withdraw = "What is stored about it", "Withdraw consent"
    assert browser.get("/panel/mailboxes").follow(stored).status == 200
    assert browser.get(f"{browser.path}?lang=en").status == 200
    assert browser.get("/panel/mailboxes").follow(withdraw).status == 200
    assert browser.fill_in("/connect/mailboxes/.*/withdraw", name="").status == 422
    assert browser.get("/panel/mailboxes").fill_in("/connect/mailboxes/.*/reconnect").path == "/connect/consent"
    scene.owner.execute("SET session_replication_role = replica")  # a mailbox that was connected never goes back there
    for state in ("pending_test", "refused"):
        scene.owner.execute("UPDATE registry.mailboxes SET state = %s WHERE account_id = %s", [state, CHEN])
        browser.get("/panel/mailboxes")
        assert browser.status == 200 and not {stored, withdraw} & set(browser.page.links)
        assert {form.action for form in browser.page.forms} == {"/connect/end", "/connect/new"}
