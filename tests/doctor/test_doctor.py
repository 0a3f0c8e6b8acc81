"""The doctor against worlds whose cause is known."""

import re
from collections.abc import Callable, Iterator

import pytest

from services.aggregator.doctor.causes import CAUSES
from services.common.postgres import connect
from services.standalone.servers.paths import ROOT
from tests.doctor.evaluation import Case, conditions, evaluate, render
from tests.doctor.worlds import STORIES

BLOCKS = {
    name: (f"<!-- {name}: rendered by `python -m tests.doctor` -->\n", f"<!-- end of {name} -->")
    for name in ("conditions", "confusion")
}
PAGE = ROOT / "docs" / "doctor.md"
PAGES = {"conditions": PAGE, "confusion": ROOT / "docs" / "dev" / "doctor-evaluation.md"}


def block(name: str) -> str:
    """A rendered block of the page."""
    begin, end = BLOCKS[name]
    text = PAGES[name].read_text("utf-8")
    return text[text.index(begin) + len(begin) : text.index(end)]


@pytest.fixture(scope="module")
def cases(postgres: Callable[[], str]) -> Iterator[list[Case]]:
    with connect(postgres(), "tests") as connection:
        yield evaluate(connection)


@pytest.mark.parametrize("cause", [name for name in STORIES if name != "none"])
def test_the_true_cause_is_among_the_top_ones(cases: list[Case], cause: str) -> None:
    held = [one for one in cases if one.cause == cause and one.findings]
    assert len(held) >= 30
    wrong = [(one.company_id, one.rule_set, one.findings) for one in held if cause not in one.top]
    assert len(wrong) <= 0.05 * len(held), wrong


def test_nothing_is_almost_sure_where_nothing_is_wrong(cases: list[Case]) -> None:
    held = [one for one in cases if one.cause == "none"]
    assert sum(bool(one.findings) for one in held) >= 100
    assert [one for one in held if one.high] == []


def test_a_rate_above_zero_has_no_diagnosis(cases: list[Case]) -> None:
    assert any(one.cause == "none" and not one.findings for one in cases)


def test_the_top_tells_causes_apart(cases: list[Case]) -> None:
    """Being among the top is worth nothing when everything is: at most five causes, and one where the facts allow it."""
    assert max(len(one.top) for one in cases) <= 5
    for cause in ("address-changed", "login-failing-since", "all-excluded", "no-valid-inquiries", "pipeline-behind"):
        held = [one for one in cases if one.cause == cause and one.findings]
        assert sum(one.top == {cause} for one in held) >= 0.8 * len(held), cause


def test_the_page_shows_these_figures(cases: list[Case]) -> None:
    assert block("confusion") == render(cases), "run `python -m tests.doctor`"


def test_the_page_shows_the_conditions() -> None:
    assert block("conditions") == conditions(), "run `python -m tests.doctor`"


def test_the_page_tells_every_cause() -> None:
    told = set(re.findall(r"^### `([a-z-]+)`", PAGE.read_text("utf-8"), re.MULTILINE))
    assert told == {cause.code for cause in CAUSES}
