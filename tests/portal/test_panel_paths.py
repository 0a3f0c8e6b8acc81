"""From the first page of the panel to the explanation of any inquiry that its rate counts, in a company with more inquiries than a page has."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from msgspec.structs import replace as replace_fields
from psycopg.types.json import Jsonb

from services.aggregator.judge import judge, rules
from services.aggregator.judge.plan import Delta
from services.common.postgres import connect
from services.portal.panel import changes
from services.portal.panel.inquiries import PAGE_ROWS
from services.portal.panel.overview import LISTED_DAYS
from services.recount.company import AskedInquiry, CompanyFacts, CoveredInterval
from services.registry.panel_sessions import PanelSessions
from tests.integration.test_judge import put
from tests.support.archived_inquiry import put_archived
from tests.support.panel_lab import ShownFigures
from tests.support.panel_world import add_rules
from tests.support.portal_in_process import PortalInProcess, frame_tokens, portal_in_process
from tests.support.portal_lab import portal_login

COMPANY, ACCOUNT, IDLE = "c-large", "main", "idle"
DEFAULT = rules.load_builtin("default")
BUSY_DAY_INQUIRIES = 2 * PAGE_ROWS + 20
EXPLANATION = f"/v1/companies/{COMPANY}/inquiries/{{}}/explanation"
OTHER_DAYS = 40
"""So that some inquiries are older than the days that the rate counts."""


@dataclass
class Panel:
    """The panel of the main account, without scripts."""

    owner: psycopg.Connection
    portal: PortalInProcess
    token: str
    busy_day: str

    def html(self, address: str) -> str:
        """A page that is there; `address` may have a query."""
        answer = self.portal.request("GET", address, headers={"authorization": f"Bearer {self.token}"})
        assert answer.status_code == 200, address
        return answer.text

    def page(self, address: str) -> ShownFigures:
        """The elements of a page."""
        return ShownFigures(self.html(address))

    def days(self) -> list[str]:
        """The addresses of the days on the first page, which need no other click to be seen."""
        html = self.html("/panel")
        return links(ShownFigures(html.partition('id="days"')[2].partition("</ul>")[0]), "/panel/inquiries")


def links(page: ShownFigures, path: str) -> list[str]:
    """The addresses of the links of a page that lead to `path`."""
    return [tag["href"] for tag in page.attributes if tag["tag"] == "a" and urlsplit(tag["href"]).path == path]


@pytest.fixture
def panel(dsn: str) -> Iterator[Panel]:
    now = datetime.now(UTC).replace(microsecond=0)
    busy = (now - timedelta(days=12)).replace(hour=18, minute=0, second=0)  # a day in the time zone of the rules, too
    received = [busy + timedelta(seconds=number) for number in range(BUSY_DAY_INQUIRIES)]
    received += [now - timedelta(days=number, hours=1) for number in range(OTHER_DAYS)]
    asked = [
        AskedInquiry(f"q-{number:04}", ACCOUNT, at, buyer_id=f"b-{number}") for number, at in enumerate(received, 1)
    ]
    begin = now - timedelta(days=OTHER_DAYS + 20)
    covered = [CoveredInterval(ACCOUNT, "m-1", begin, begin, from_at=begin, through_at=now)]
    with connect(dsn, "tests") as owner, portal_login(dsn) as login, portal_in_process(login) as portal:
        put(owner, COMPANY, CompanyFacts(accounts={ACCOUNT, IDLE}, asked=asked, covered=covered))
        owner.execute("UPDATE registry.accounts SET kind = 'sub' WHERE account_id = %s", [IDLE])
        owner.execute("INSERT INTO ledger.companies (company_id) VALUES (%s)", [COMPANY])
        with owner.transaction():
            judge.judge_companies(owner, DEFAULT, {COMPANY: Delta()}, now=now)
        add_rules(owner, [DEFAULT.name])
        busy_day = f"{busy.astimezone(DEFAULT.zone):%Y-%m-%d}"
        yield Panel(owner, portal, frame_tokens(dsn, [(COMPANY, ACCOUNT)])[COMPANY, ACCOUNT], busy_day)


def test_each_counted_inquiry_is_two_clicks_and_the_pages_of_its_day_away(panel: Panel) -> None:
    counted = {
        inquiry_id
        for (inquiry_id,) in panel.owner.execute(
            "SELECT outcome.inquiry_id FROM report_v1.inquiry_outcomes outcome JOIN report_v1.reply_rate_latest rate USING (rule_set, company_id)"
            " WHERE rate.level = 'company' AND unit_day BETWEEN window_start AND window_end AND outcome IN ('timely', 'late', 'unanswered')"
        )
    }
    assert len(counted) > BUSY_DAY_INQUIRIES
    reached: dict[str, str] = {}
    pages_of_day: dict[str, int] = {}
    for first_click in panel.days():
        (day,) = parse_qs(urlsplit(first_click).query)["from"]
        following: str | None = first_click
        while following is not None:
            page = panel.page(following)
            query = parse_qs(urlsplit(following).query)
            assert query["from"] == query["to"] == [day], "paging stays within the day"
            pages_of_day[day] = pages_of_day.get(day, 0) + 1
            for second_click in links(page, "/panel/why"):
                (inquiry_id,) = parse_qs(urlsplit(second_click).query)["inquiry"]
                reached[inquiry_id] = second_click
            following = next((tag["href"] for tag in page.attributes if tag.get("rel") == "next"), None)
    assert counted <= reached.keys()
    assert pages_of_day[panel.busy_day] == 3
    assert {day for day, pages in pages_of_day.items() if pages > 1} == {panel.busy_day}
    for inquiry_id in (min(counted), max(counted), sorted(counted)[len(counted) // 2]):
        html = panel.html(reached[inquiry_id])
        assert f"Why inquiry {inquiry_id} counts like this" in html and 'id="sentences"' in html


def days_by_rules(panel: Panel, name: str, window_days: int) -> tuple[rules.RuleSet, str]:
    """The days of the first page under a further rule set, as HTML."""
    further = replace_fields(DEFAULT, name=name, window_days=window_days)
    with panel.owner.transaction():
        judge.judge_companies(panel.owner, further, {COMPANY: Delta()}, now=datetime.now(UTC))
    panel.owner.execute(
        "INSERT INTO ledger.rule_sets (name, identity, parameters) VALUES (%s, %s, %s)",
        [further.name, further.identity, Jsonb(further.parameters())],
    )
    html = panel.html(f"/panel?rules={name}")
    return further, html.partition('id="days"')[2].partition("</section>")[0]


def test_days_of_a_quarter_are_not_folded(panel: Panel) -> None:
    quarter, section = days_by_rules(panel, "quarter", 90)
    assert "<details>" not in section
    assert section.count("<li>") == 90 + quarter.settle_days


def test_days_of_a_long_window_are_folded_by_month(panel: Panel) -> None:
    long, section = days_by_rules(panel, "long", 200)
    days = [parse_qs(urlsplit(link).query)["from"][0] for link in links(ShownFigures(section), "/panel/inquiries")]
    newest = date.fromisoformat(days[0])
    assert days == [f"{newest - timedelta(days=number)}" for number in range(200 + long.settle_days)]
    listed, *folded = section.split("<details>")
    assert listed.count("<li>") == LISTED_DAYS
    months = sorted({day[:7] for day in days[LISTED_DAYS:]}, reverse=True)
    counts = [sum(day.startswith(month) for day in days[LISTED_DAYS:]) for month in months]
    assert [part.partition("</summary>")[0].partition("<summary>")[2] for part in folded] == [
        f"{month}: {count} days" for month, count in zip(months, counts, strict=True)
    ]
    assert "<details>" not in panel.html("/panel").partition('id="days"')[2].partition("</section>")[0]


def test_each_day_of_the_line_leads_to_its_inquiries(panel: Panel) -> None:
    html = panel.html("/panel")
    table = ShownFigures(html.partition('id="line-table"')[2].partition("</table>")[0])
    days = [tag["href"] for tag in table.attributes if "aria-label" in tag]
    assert len(days) == 30
    (busy,) = (href for href in days if f"from={panel.busy_day}&to={panel.busy_day}" in href)
    shown = panel.page(busy).cells["inquiries"]
    assert len(shown) == PAGE_ROWS and {cells[1] for cells in shown} == {"Not answered"}


def test_a_missing_rate_of_a_table_says_why_and_leads_to_what_can_be_done(panel: Panel) -> None:
    page = panel.page("/panel")
    (idle,) = (cells for cells in page.cells["accounts"] if cells[0] == IDLE)
    assert idle[1] == "Not measured no counted inquiry"
    (href,) = (link for link in links(page, "/panel") if link.endswith("#missing"))
    assert href == f"/panel?account={IDLE}#missing"
    of_idle = panel.page(href.partition("#")[0])
    assert "What to do:" in of_idle.texts["missing"]
    cells = of_idle.cells["line-table"][0]
    assert cells[1] == "not measured no counted inquiry"
    assert any("from=" in link and "to=" in link for link in links(of_idle, "/panel/inquiries"))
    assert panel.html(f"/panel?account={IDLE}&lang=zh").count("没有计入的询盘") >= 30


def test_a_list_of_accounts_that_is_cut_says_how_many_more_there_are(
    panel: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel.owner.execute(
        "INSERT INTO ledger.diagnoses VALUES ('default', %s, '', 'none', current_date, 'medium', '{}', 'a', 'z', now())",
        [COMPANY],
    )
    assert "More accounts" not in panel.html("/panel/diagnosis")
    monkeypatch.setattr(changes, "CONCERNED", 1)
    assert "More accounts: 1." in panel.html("/panel/diagnosis")
    assert "另有 1 个账号。" in panel.html("/panel/diagnosis?lang=zh")


def test_the_readers_of_an_archived_inquiry_are_told_that_it_is_final_and_where_its_explanation_is(
    panel: Panel,
) -> None:
    put_archived(panel.owner, COMPANY, IDLE, "a-0001")
    of_before = put_archived(panel.owner, COMPANY, None, "a-0002")
    sub = replace(
        panel,
        token=PanelSessions(panel.owner).make_frame_token(COMPANY, IDLE, language="en", by="tests", minutes=5).token,
    )
    for reader in (panel, sub):
        html = reader.html("/panel/why?inquiry=a-0001")
        shown_sentences = " ".join(ShownFigures(html).texts["sentences"].split())
        assert "Inquiry a-0001 is archived" in html and ">Final<" in html
        assert shown_sentences == (
            "This inquiry is final. Its details were moved to the archive at 2026-03-04 05:06:07 UTC. It still counts in the reply rates,"
            " daily counts and corrections of its time; they stay as they are. Its explanation is in the archive of the platform:"
            " ask the platform's support for it, and name inquiry a-0001."
        )
        chinese = reader.html("/panel/why?inquiry=a-0001&lang=zh")
        assert (
            "询盘 a-0001 已归档" in chinese
            and "已于 2026-03-04 05:06:07 UTC 移入归档" in chinese
            and "平台客服" in chinese
        )
        (story,) = panel.portal.get(EXPLANATION.format("a-0001"), reader.token).json()["items"]
        assert story["outcome"] == "unknown" and story["archived_at"] == "2026-03-04T05:06:07Z"
        assert " ".join(story["sentences"]["en"]) == shown_sentences and "平台客服" in story["sentences"]["zh"][-1]
    # Rows from before the account was stored are for the main account alone.
    assert f"Inquiry {of_before} is archived" in panel.html(f"/panel/why?inquiry={of_before}")
    hidden = panel.portal.request(
        "GET", f"/panel/why?inquiry={of_before}", headers={"authorization": f"Bearer {sub.token}"}
    )
    assert hidden.status_code == 404
