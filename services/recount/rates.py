"""One row of reply_rate: the counts and times of a window, of a company or of one of its accounts."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from fractions import Fraction
from math import ceil, floor

from services.recount.facts import Json
from services.recount.judge import Judge, Unit


def rate_row(
    judge: Judge, company_id: str, account_id: str | None, received: list[tuple[str, date, bool]], units: list[Unit]
) -> Json:
    """The row of the judge's day; `received`: (account, day, whether excluded) of each inquiry."""
    start, end, hidden = _window(judge, units)
    counted = _counted(units, start, end)

    def inside(outcome: str) -> int:
        return sum(unit.outcome == outcome and start <= unit.day <= end for unit in units)

    sums = Counter(unit.outcome for unit in counted)
    unmeasured = inside("unmeasured")
    measured = len(counted) + unmeasured
    coverage = Fraction(sum(unit.covered for unit in counted), measured) if measured else None
    rate = Fraction(sums["timely"], len(counted)) if counted and not hidden else None
    if rate is not None and coverage is not None:
        least = Fraction(str(judge.rule["min_coverage"]))
        if coverage == least:
            judge.noticed["exactly min_coverage"] += 1
        if coverage < least:
            judge.noticed["under min_coverage"] += 1
            rate = None
    seconds = sorted(unit.seconds for unit in counted if unit.seconds is not None)
    averaged = seconds
    if judge.rule["average_over"] == "fastest-80-percent":
        averaged = seconds[: ceil(Fraction(4, 5) * len(seconds))]
    days = [start + timedelta(days=n) for n in range((end - start).days + 1)]
    return {
        "rule_set": judge.rule["name"],
        "level": "company" if account_id is None else "account",
        "company_id": company_id,
        "account_id": account_id,
        "as_of": judge.as_of.isoformat(),
        "window_start": start.isoformat(),
        "window_end": end.isoformat(),
        "inquiries": sum(start <= day <= end for _, day, _ in received),
        "excluded": sum(excluded and start <= day <= end for _, day, excluded in received),
        "counted": len(counted),
        "timely": sums["timely"],
        "late": sums["late"],
        "unanswered": sums["unanswered"],
        "unmeasured": unmeasured,
        "pending": inside("pending"),
        "rate": number(rate),
        "mean_seconds": number(sum(averaged, Fraction(0)) / len(averaged)) if averaged else None,
        "median_seconds": number(percentile(seconds, Fraction(1, 2))),
        "p90_seconds": number(percentile(seconds, Fraction(9, 10))),
        "p95_seconds": number(percentile(seconds, Fraction(19, 20))),
        "rate_shown": number(rounded_percent(rate, judge.rule["rounding"])),
        "coverage": number(coverage),
        "state": "final" if all(judge.settled(day) for day in days) else "provisional",
    }


def _counted(units: list[Unit], start: date, end: date) -> list[Unit]:
    """The units of a window that count, in the order in which they started."""
    inside = [unit for unit in units if start <= unit.day <= end and unit.outcome in ("timely", "late", "unanswered")]
    return sorted(inside, key=lambda unit: (unit.start, unit.inquiry_id))


def _window(judge: Judge, units: list[Unit]) -> tuple[date, date, bool]:
    """First and last day, and whether the rate is hidden: a small sample hides the rate or widens the window."""
    end = judge.as_of - timedelta(days=judge.rule["settle_days"])
    start = end - timedelta(days=judge.rule["window_days"] - 1)
    small = judge.rule["small_sample"]
    if small == "show" or len(_counted(units, start, end)) >= small["min_counted"]:
        return start, end, False
    if small["mode"] == "hide":
        judge.noticed["hidden"] += 1
        return start, end, True
    wide = _counted(units, end - timedelta(days=small["max_days"] - 1), end)
    last = wide[-small["min_counted"] :]
    if not last:
        return start, end, False
    if len(last) < len(wide) and wide[-len(last) - 1].day == last[0].day:
        judge.noticed["widened, more on the first day"] += 1
    judge.noticed["widened" if last[0].day < start else "widened, the window stays"] += 1
    return min(start, last[0].day), end, False


def percentile(values: Sequence[Fraction], part: Fraction) -> Fraction | None:
    """`percentile_cont` of sorted values: between two neighbours in proportion."""
    if not values:
        return None
    place = part * (len(values) - 1)
    low = floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def rounded_percent(rate: Fraction | None, rounding: str) -> Fraction | None:
    """The percentage that people read."""
    if rate is None:
        return None
    percent = 100 * rate
    match rounding:
        case "none":
            return percent
        case "down-1":
            return Fraction(floor(percent * 10), 10)
        case "half-up-0":
            return Fraction(floor(percent + Fraction(1, 2)))
    raise ValueError(rounding)


def bucket(seconds: Fraction) -> int:
    """Which bar of the histogram an answer is in: whole hours from 1 to 24, then 25."""
    hours = max(1, ceil(seconds / 3600))
    return min(hours, 25)


def number(value: Fraction | None) -> float | None:
    """Where exact arithmetic ends."""
    return None if value is None else float(value)
