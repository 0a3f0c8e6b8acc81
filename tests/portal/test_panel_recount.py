"""Every figure of the panel, read from its pages and files, equals the independent recount; and a figure that does not is found.

The worlds of the doctor are in tests/doctor/test_doctor.py; `python -m tests.portal.recount` compares all of them.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psycopg
import pytest

from services.common.postgres import connect
from tests.portal.recount import SEEDS, Reader, compare_seed, expected_of_seed
from tests.support.panel_recount import Expected, Fetch, PanelComparison
from tests.support.panel_world import seed_world
from tests.support.portal_in_process import frame_tokens, portal_in_process
from tests.support.portal_lab import portal_login
from tests.support.rates import edit_rates

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
TEXTILE, MAIN, WU = "lt-textile", "lt-main", "lt-sub-wu"
"""A company with a main account and two sub-accounts; the last one has no mailbox, and so no rate."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS if LONG else SEEDS[:2])
def test_every_figure_of_a_demo_world_equals_the_recount(dsn: str, seed: int) -> None:
    with connect(dsn, "tests") as owner, portal_login(dsn) as login, portal_in_process(login) as portal:
        compared = compare_seed(owner, dsn, portal, seed)
    assert compared.differences == []
    least = {
        "overview": 4000,
        "inquiries": 6000,
        "changes": 100,
        "due": 50,
        "diagnosis": 20,
        "explanation": 100,
        "outcomes.csv": 10_000,
    }
    assert {page: compared.figures[page] for page in least if compared.figures[page] < least[page]} == {}


@dataclass
class Panel:
    """The panel of the main account of one company, and what it must show."""

    owner: psycopg.Connection
    reader: Reader
    expected: Expected

    read: dict[tuple[str, str], str] = field(default_factory=dict)

    def read_once(self, path: str, **query: object) -> str:
        """A page or file, which was read before or is read now."""
        key = (path, str(query))
        if key not in self.read:
            self.read[key] = self.reader.fetch(path, **query)
        return self.read[key]

    def compared(self, fetch: Fetch | None = None) -> PanelComparison:
        """All pages and files about the company and one account without a rate."""
        comparison = PanelComparison(fetch or self.reader.fetch, self.expected, MAIN, is_main=True)
        comparison.mailboxes()
        for account_id in (None, WU):
            comparison.pages(account_id)
            comparison.exports(account_id)
        return comparison


@pytest.fixture(scope="module")
def panel(postgres: Callable[[], str]) -> Iterator[Panel]:
    dsn = postgres()
    with connect(dsn, "tests") as owner, portal_login(dsn) as login, portal_in_process(login) as portal:
        seeded = seed_world(owner, 1, ("default",), (TEXTILE,), is_late=True)
        (company,) = seeded.world.companies
        expected = expected_of_seed(seeded, dsn, TEXTILE, [account.account_id for account in company.accounts])
        token = frame_tokens(dsn, [(TEXTILE, MAIN)])[TEXTILE, MAIN]
        yield Panel(owner, Reader(portal, token), expected)


WRONG = {
    "rate": ("/panel", r'(id="rate">\s*<data value=")[^"]+', r"\g<1>0.5"),
    "rate that is shown": ("/panel", r'(id="rate">\s*<data value="[^"]+">)[\d.]+', r"\g<1>1.2"),
    "missing rate as 0": ("/panel", r'<p class="big none" id="rate"><data value="">Not measured', '<p id="rate"><data value="0">0.0 %'),
    "missing account as 0": ("/panel", r'<data value="">Not measured</data></span> <span', '<data value="0">0.0 %</data></span> <span'),
    "wrong reason of an account": ("/panel", r"mailboxes not read enough", "no counted inquiry"),
    "missing day as 0": ("/panel", r'<data value="">not measured', '<data value="0">0.0 %'),
    "sample": ("/panel", r"(Answered in time: \d+ of \d+)", r"\g<1>1"),
    "counted": ("/panel", r'(id="counted"><data value="\d+)', r"\g<1>1"),
    "coverage": ("/panel", r'(id="coverage"><data value=")[^"]*', r"\g<1>0.123"),
    "part": ("/panel", r'(Answered late <data value="\d+">\d+)', r"\g<1>1"),
    "day": ("/panel", r'(<tr><th scope="row"><a [^>]+>\d{4}-\d\d-\d\d</a></th><td class="number"><data value="[^"]+">[^<]+</data></td><td class="number">\d+)', r"\g<1>1"),
    "bar": ("/panel", r'(3 to 4 h</th><td class="number">\d+)', r"\g<1>1"),
    "order of accounts": ("/panel", r'(<a href="/panel\?account=)lt-main(">)lt-main', r"\g<1>x\g<2>x"),
    "outcome": ("/panel/inquiries", r'(data-outcome="late">)Answered late', r"\g<1>Not answered"),
    "time": ("/panel/inquiries", r'(<data value="\d+)', r"\g<1>1"),
    "deadline": ("/panel/due", r"(<time [^>]+>\d{4}-\d\d-\d\d \d\d:)\d\d", r"\g<1>99"),
    "change": ("/panel/changes", r'(<td class="number">)([^<]+)(</td><td class="number">)([^<]+)', r"\g<1>\g<4>\g<3>\g<2>"),
    "cause": ("/panel/diagnosis", r"<h1>", '<p data-cause="none"></p><h1>'),
    "mailbox's server": ("/panel/mailboxes", r"(<dd>imap\.)mail", r"\g<1>other"),
    "mailbox's address": ("/panel/mailboxes", r"\*\*\*@", "x***@"),
    "mailbox's state": ("/panel/mailboxes", r'badge active', "badge paused"),
    "mailbox's reading": ("/panel/mailboxes", r"(Last read</dt><dd><time [^>]+>\d{4}-\d\d-\d\d \d\d:)\d\d", r"\g<1>99"),
    "mailbox's gap": ("/panel/mailboxes", r"(Read without gaps</dt><dd>\d{4}-\d\d-\d\d \d\d:)\d\d", r"\g<1>99"),
    "csv": ("/panel/export/outcomes", r",timely,", ",late,"),
    "json": ("/v1/companies/lt-textile/timeline", r'"counted":(\d+)', r'"counted":\g<1>1'),
}  # fmt: skip
"""What is wrong → on which page, where, and how."""


@pytest.mark.parametrize("wrong", [pytest.param(values, id=name) for name, values in WRONG.items()])
def test_one_wrong_figure_is_found(panel: Panel, wrong: tuple[str, str, str]) -> None:
    """Pages are read once; then one figure of them is another."""
    page, pattern, replacement = wrong
    changed = 0

    def fetch(path: str, **query: object) -> str:
        nonlocal changed
        html = panel.read_once(path, **query)
        if path.partition("?")[0] == page and not changed:
            html, changed = re.subn(pattern, replacement, html, count=1)
        return html

    compared = panel.compared(fetch)
    assert changed == 1, "the page has no such figure"
    assert compared.differences != []


def test_a_wrong_row_of_the_database_is_found_on_pages_and_in_files(panel: Panel) -> None:
    assert panel.compared().differences == []
    edit_rates(panel.owner, "timely = timely + 1", "account_id = ''")
    names = {difference.rpartition(": ")[0].split()[3] for difference in panel.compared().differences}
    edit_rates(panel.owner, "timely = timely - 1", "account_id = ''")
    assert {"overview", "timeline.csv", "timeline.ndjson", "timeline.json"} <= names
    assert panel.compared().differences == []
