"""The simulated year: growth is measured from the second month to the last, and outcomes are compared with the plan."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.measure import write
from bench.page import simulated_year
from bench.year import SERVICES, Inquiry, Month, company, figures, planned_outcomes

AT = datetime(2026, 1, 1, tzinfo=UTC)


def a_month(memory: float, narrow_ms: float) -> Month:
    """A month of two steps."""
    cpu = dict.fromkeys((*SERVICES, "postgres"), 10.0)
    return Month(
        2,
        cpu,
        dict.fromkeys(SERVICES, memory),
        40,
        2.0,
        narrow_ms,
        {"ledger.outcomes": 4096},
        {"ledger.outcomes": 9},
        12,
    )


@pytest.mark.parametrize(("last", "reached"), [(105.0, True), (115.0, False)])
def test_memory_may_grow_by_a_tenth_after_the_second_month(last: float, reached: bool) -> None:
    months = [a_month(20, 1), a_month(100, 10), a_month(last, last / 10)]
    measured = {figure.name: figure for figure in figures(months, {"answered": 1}, {"answered": 1})}
    assert measured["year_rss_growth_matcher"].value == pytest.approx(last / 100)
    assert measured["year_rss_growth_matcher"].reached is reached
    assert measured["year_judgement_growth"].detail["ms_each_month"] == [1, 10, round(last / 10, 1)]
    assert measured["year_bytes"].value == 4096


def test_outcomes_other_than_the_plan_are_a_failure() -> None:
    plan = planned_outcomes(
        [
            Inquiry(company(number), "u", f"i{number}", AT, AT + timedelta(hours=1) if number else None)
            for number in range(3)
        ]
    )
    assert plan == {"answered": 2, "unanswered": 1}
    month = [a_month(1, 1)]
    right = {figure.name: figure for figure in figures(month, {"answered": 2, "unanswered": 1}, plan)}
    wrong = {figure.name: figure for figure in figures(month, {"answered": 1, "unanswered": 1}, plan)}
    assert right["year_outcomes_as_planned"].reached is True
    assert wrong["year_outcomes_as_planned"].reached is False


def test_the_page_has_a_column_for_each_month(tmp_path: Path) -> None:
    months = [a_month(20, 1), a_month(100, 10), a_month(105, 12.5)]
    write(figures(months, {"late": 4, "timely": 8}, {}), tmp_path / "year.json")
    lines = simulated_year(json.loads((tmp_path / "year.json").read_text("utf-8"))["figures"])
    assert "| | 1 | 2 | 3 |" in lines
    assert "| memory of matcher, MB | 20 | 100 | 105 |" in lines
    assert "| a narrow judgement, CPU of Postgres, ms | 1.0 | 10.0 | 12.5 |" in lines
    assert any("12 inquiries have an outcome (4 late, 8 timely)" in line for line in lines)
