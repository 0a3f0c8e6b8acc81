"""The doctor in worlds with a known cause."""

import re
from collections.abc import Callable

import pytest

from services.aggregator.doctor.causes import CAUSES
from services.common.postgres import connect
from services.standalone.servers.paths import ROOT
from tests.doctor.evaluation import EACH, HEALTHY, SEED, Case, conditions, evaluate, render
from tests.doctor.worlds import STORIES, worlds
from tests.portal.recount import compare_doctor, prepare_doctor
from tests.support.portal_in_process import portal_in_process
from tests.support.portal_lab import portal_login

BLOCKS = {
    name: (f"<!-- {name}: rendered by `python -m tests.doctor` -->\n", f"<!-- end of {name} -->")
    for name in ("conditions", "confusion")
}
CAUSES_OF, WHOLE = 4, 96
"""In every how many worlds the causes are compared, or every page and file."""
PAGE = ROOT / "docs" / "doctor.md"
PAGES = {"conditions": PAGE, "confusion": ROOT / "docs" / "dev" / "doctor-evaluation.md"}


def block(name: str) -> str:
    """A rendered block of the page."""
    begin, end = BLOCKS[name]
    text = PAGES[name].read_text("utf-8")
    return text[text.index(begin) + len(begin) : text.index(end)]


@pytest.fixture(scope="module")
def worlds_dsn(postgres: Callable[[], str]) -> str:
    """The database of the worlds."""
    return postgres()


@pytest.fixture(scope="module")
def cases(worlds_dsn: str) -> list[Case]:
    with connect(worlds_dsn, "tests") as connection:
        return evaluate(connection)


@pytest.mark.timeout(900)
def test_the_panel_of_every_world_shows_what_was_recounted(cases: list[Case], worlds_dsn: str) -> None:
    """The overview of every world, the causes of a quarter, every page and file of some; `python -m tests.portal.recount` reads more."""
    evaluated = worlds(SEED, EACH, HEALTHY)
    assert {world.company_id for world in evaluated} == {case.company_id for case in cases}
    with (
        connect(worlds_dsn, "tests") as owner,
        portal_login(worlds_dsn) as login,
        portal_in_process(login) as portal,
    ):
        prepare_doctor(owner, evaluated[::CAUSES_OF])
        compared = compare_doctor(owner, worlds_dsn, portal, evaluated, every=WHOLE, causes_of=CAUSES_OF)
    assert compared.differences == []
    assert compared.figures["overview"] > 150_000 and compared.figures["diagnosis"] > 500


@pytest.mark.parametrize("cause", [name for name in STORIES if name != "none"])
def test_the_true_cause_is_among_the_top_causes(cases: list[Case], cause: str) -> None:
    of_cause = [case for case in cases if case.cause == cause and case.findings]
    assert len(of_cause) >= 30
    wrong = [(case.company_id, case.rule_set, case.findings) for case in of_cause if cause not in case.top]
    assert len(wrong) <= 0.05 * len(of_cause), wrong


def test_no_cause_is_high_in_a_healthy_world(cases: list[Case]) -> None:
    of_cause = [case for case in cases if case.cause == "none"]
    assert sum(bool(case.findings) for case in of_cause) >= 100
    assert [case for case in of_cause if case.high] == []


def test_a_rate_above_zero_has_no_diagnosis(cases: list[Case]) -> None:
    assert any(case.cause == "none" and not case.findings for case in cases)


def test_the_top_causes_are_few(cases: list[Case]) -> None:
    """Being among the top means little if every cause is: at most five causes, and one where the facts allow it."""
    assert max(len(case.top) for case in cases) <= 5
    for cause in ("address-changed", "login-failing-since", "all-excluded", "no-valid-inquiries", "pipeline-behind"):
        of_cause = [case for case in cases if case.cause == cause and case.findings]
        assert sum(case.top == {cause} for case in of_cause) >= 0.8 * len(of_cause), cause


def test_the_page_shows_these_figures(cases: list[Case]) -> None:
    assert block("confusion") == render(cases), "run `python -m tests.doctor`"


def test_the_page_shows_the_conditions() -> None:
    assert block("conditions") == conditions(), "run `python -m tests.doctor`"


def test_the_page_describes_every_cause() -> None:
    described = set(re.findall(r"^### `([a-z-]+)`", PAGE.read_text("utf-8"), re.MULTILINE))
    assert described == {cause.code for cause in CAUSES}
