"""Charts as SVG, drawn on the server from the rows of the table that is on the page. Positions are in units of the view box.

A day without a rate has no point: the line is interrupted, and the day is marked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Any, Final, Literal

WIDTH: Final = 360
HEIGHT: Final = 190
LEFT: Final = 42
"""Room for the labels of the vertical axis."""
RIGHT: Final = 10
TOP: Final = 12
BOTTOM: Final = 26
LINE_DAYS: Final = 30
BUCKETS: Final = 25
SLOT_SHARE: Final = 0.72
"""How much of its slot a bar fills."""
InTime = Literal["timely", "partly", "late"]
"""Whether all answers of a bar, some or none were within the target."""


@dataclass(frozen=True, slots=True)
class Label:
    """A text at a position."""

    left: float
    top: float
    text: str


@dataclass(frozen=True, slots=True)
class RatePoint:
    """The rate of a day. `rate`: its row of reply_rate; None when the day has none. `top`: None when it has no rate."""

    day: date
    rate: dict[str, Any] | None
    left: float
    top: float | None


@dataclass(frozen=True, slots=True)
class LineChart:
    """The rates of the last days. `runs`: points of consecutive days with a rate; `gaps`: left edges and widths of the runs of others."""

    points: tuple[RatePoint, ...]
    final_runs: tuple[str, ...]
    provisional_runs: tuple[str, ...]
    gaps: tuple[tuple[float, float], ...]
    grid: tuple[Label, ...]
    days: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar of a bucket. `hours`: 1 to 24, 25 for later; `height` is 0 only when nothing was answered in it."""

    hours: int
    answered: int
    in_time: InTime
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class BarChart:
    """Reply times."""

    bars: tuple[Bar, ...]
    grid: tuple[Label, ...]


def line_chart(rows: Sequence[dict[str, Any]], last_day: date) -> LineChart:
    """The chart of the 30 days that end with `last_day`; days without a row are gaps."""
    by_day = {rate["as_of"]: rate for rate in rows}
    slot = (WIDTH - LEFT - RIGHT) / LINE_DAYS
    points = []
    for number in range(LINE_DAYS):
        day = last_day - timedelta(days=LINE_DAYS - 1 - number)
        rate = by_day.get(day)
        value = None if rate is None else rate["rate"]
        top = None if value is None else round(_height_of(float(value)), 1)
        points.append(RatePoint(day, rate, round(LEFT + slot * (number + 0.5), 1), top))
    grid = tuple(Label(LEFT - 6, _height_of(share), f"{share * 100:.0f} %") for share in (0, 0.5, 1))
    days = tuple(
        Label(points[number].left, HEIGHT - 8, f"{points[number].day:%m-%d}")
        for number in (0, LINE_DAYS // 2, LINE_DAYS - 1)
    )
    return LineChart(
        tuple(points), _runs(points, "final"), _runs(points, "provisional"), _gaps(points, slot), grid, days
    )


def bar_chart(rows: Sequence[dict[str, Any]], target_seconds: int) -> BarChart | None:
    """The chart of a histogram; None when it was not recorded."""
    counts = {histogram_row["bucket"]: histogram_row["answered"] for histogram_row in rows}
    if not counts or any(count is None for count in counts.values()):
        return None
    step = _step(max(counts.values()))
    slot = (WIDTH - LEFT - RIGHT) / BUCKETS
    bars = []
    for bucket in range(1, BUCKETS + 1):
        answered = counts.get(bucket, 0)
        height = (HEIGHT - TOP - BOTTOM) * answered / (step * 2)
        bars.append(
            Bar(
                bucket, answered, _in_time(bucket, target_seconds),
                round(LEFT + slot * (bucket - 1 + (1 - SLOT_SHARE) / 2), 1), round(HEIGHT - BOTTOM - height, 1),
                round(slot * SLOT_SHARE, 1), round(height, 1),
            )
        )  # fmt: skip
    grid = tuple(Label(LEFT - 6, _height_of(part / 2), str(step * part)) for part in (0, 1, 2))
    return BarChart(tuple(bars), grid)


def _runs(points: Sequence[RatePoint], state: str) -> tuple[str, ...]:
    """The polylines of a state. Those of provisional days reach to the final days beside them, so that only a day without a rate
    interrupts the line."""
    groups = [
        (group_state, list(group))
        for group_state, group in groupby(
            points, lambda point: "" if point.rate is None or point.top is None else point.rate["state"]
        )
    ]
    runs: list[str] = []
    for position, (group_state, group) in enumerate(groups):
        if group_state != state:
            continue
        before, after = groups[position - 1 : position], groups[position + 1 : position + 2]
        if state == "provisional":
            group = [
                *(neighbours[-1] for name, neighbours in before if name),
                *group,
                *(neighbours[0] for name, neighbours in after if name),
            ]
        runs.append(" ".join(f"{point.left},{point.top}" for point in group))
    return tuple(runs)


def _gaps(points: Sequence[RatePoint], slot: float) -> tuple[tuple[float, float], ...]:
    """Left edge and width of each run of days without a rate; `slot`: the width of a day."""
    gaps: list[tuple[float, float]] = []
    for number, point in enumerate(points):
        if point.top is not None:
            continue
        if number and points[number - 1].top is None:
            left, width = gaps.pop()
            gaps.append((left, round(width + slot, 1)))
        else:
            gaps.append((round(point.left - slot / 2, 1), round(slot, 1)))
    return tuple(gaps)


def _in_time(bucket: int, target_seconds: int) -> InTime:
    """Of the answers after more than `bucket` - 1 hours, until `bucket` hours; those of the last bar have no upper limit."""
    if (bucket - 1) * 3600 >= target_seconds:
        return "late"
    return "timely" if bucket < BUCKETS and bucket * 3600 <= target_seconds else "partly"


def _height_of(share: float) -> float:
    """The vertical position of a share of the axis, 0 at the bottom."""
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def _step(most: int) -> int:
    """Half of the upper end of an axis that has room for `most`: 1, 2 or 5 times a power of ten, and at least 1."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if step * factor * 2 >= most:
                return step * factor
        step *= 10
