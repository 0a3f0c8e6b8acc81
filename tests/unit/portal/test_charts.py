"""The charts of the panel: which bars are in time, and where the line of the rates is interrupted."""

from datetime import date, timedelta
from typing import Any

import pytest

from services.portal.panel.charts import bar_chart, line_chart

LAST_DAY = date(2026, 3, 31)


def rates(states: str) -> list[dict[str, Any]]:
    """Rows of the days until the last one: `f` final, `p` provisional, `-` without a rate, ` ` without a row."""
    names = {"f": "final", "p": "provisional", "-": "final"}
    return [
        {"as_of": LAST_DAY - timedelta(days=ago), "rate": None if letter == "-" else 0.5, "state": names[letter]}
        for ago, letter in enumerate(reversed(states))
        if letter != " "
    ]


@pytest.mark.parametrize(
    ("target_seconds", "expected"),
    [
        (3600, "t" + "l" * 24),
        (5400, "tp" + "l" * 23),
        (86400, "t" * 24 + "l"),
        (86401, "t" * 24 + "p"),
        (172800, "t" * 24 + "p"),
    ],
)
def test_a_bar_that_the_target_divides_is_partly_in_time(target_seconds: int, expected: str) -> None:
    chart = bar_chart([{"bucket": bucket, "answered": 1} for bucket in range(1, 26)], target_seconds)
    assert chart is not None
    assert "".join(bar.in_time[0] for bar in chart.bars) == expected


@pytest.mark.parametrize("states", ["ffffpp", "ffppff", "ppffpp", "ff-fpp", "fp fpf", "f-pp-f", "-p", "p"])
def test_only_a_day_without_a_rate_interrupts_the_line(states: str) -> None:
    chart = line_chart(rates(states), LAST_DAY)
    days = {f"{point.left},{point.top}": point.day for point in chart.points}
    drawn = {
        frozenset((days[start], days[end]))
        for run in (*chart.final_runs, *chart.provisional_runs)
        for start, end in zip(run.split(), run.split()[1:], strict=False)
    }
    with_rate = [rate["as_of"] for rate in rates(states) if rate["rate"] is not None]
    assert drawn == {
        frozenset((day, day + timedelta(days=1))) for day in with_rate if day + timedelta(days=1) in with_rate
    }
    provisional = [days[point] for run in chart.provisional_runs for point in run.split()]
    for day, state in ((rate["as_of"], rate["state"]) for rate in rates(states) if rate["rate"] is not None):
        assert state == "final" or day in provisional
