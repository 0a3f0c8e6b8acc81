"""Which days are judged again after a change, and in which portions."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from services.aggregator.judge import plan, rules
from services.aggregator.judge.days import EVER
from services.aggregator.judge.plan import EVERYTHING, Delta

DEFAULT = rules.load_builtin("default")
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TODAY = date(2026, 11, 20)
INPUTS: dict[str, Any] = {
    "company_id": "c1", "first_received_at": NOW - timedelta(days=100), "passed_at": NOW, "mailboxes": 0, "complete_through": None,
    "settled": None, "last_as_of": TODAY, "provisional_from": None, "open_from": None, "announced_from": None, "never_judged": False,
    "inquiries": 1000,
}  # fmt: skip
"""A company of 1,000 inquiries in 100 days, judged today."""


def days_of(delta: Delta, **changes: Any) -> list[date]:
    planned = plan.plan_company(DEFAULT, INPUTS | changes, delta, NOW)
    return [judgement.day for judgement in planned.judgements if judgement.day is not None]


@pytest.mark.parametrize(
    ("earliest", "changes", "first"),
    [
        (None, {}, TODAY),
        (None, {"provisional_from": date(2026, 11, 1)}, date(2026, 11, 1)),
        (None, {"last_as_of": date(2026, 11, 17)}, date(2026, 11, 17)),
        (NOW - timedelta(days=10), {}, date(2026, 11, 10)),
        (NOW - timedelta(days=400), {}, date(2026, 8, 12)),
        (EVERYTHING, {"last_as_of": None}, TODAY - timedelta(days=DEFAULT.reach_days + rules.LATE_DAYS)),
    ],
    ids=["time-alone", "not-final", "missed-days", "fact", "fact-before-the-first-receipt", "new-rule-set"],
)
def test_judging_starts_on_the_first_day_that_may_have_changed(
    earliest: datetime | None, changes: dict[str, Any], first: date
) -> None:
    days = days_of(Delta(earliest), **changes)
    assert (days[0], days[-1]) == (first, TODAY)
    assert days == [first + timedelta(days=offset) for offset in range(len(days))]


def test_a_company_without_inquiries_has_no_judgement() -> None:
    planned = plan.plan_company(DEFAULT, INPUTS | {"first_received_at": None}, Delta(), NOW)
    assert planned.judgements == () and planned.includes_all_outcomes


def test_a_settled_day_stays_settled() -> None:
    unread = INPUTS | {"mailboxes": 1}
    assert plan.plan_company(DEFAULT, unread, Delta(), NOW).settled == date(2026, 11, 1)
    assert plan.plan_company(DEFAULT, unread | {"settled": date(2026, 11, 9)}, Delta(), NOW).settled == date(
        2026, 11, 9
    )


@pytest.mark.parametrize(
    ("delta", "changes", "first"),
    [
        (Delta(), {}, EVER),
        (Delta(None), {"never_judged": True}, EVER),
        (Delta(None), {}, date.max),
        (Delta(NOW, received_from=NOW - timedelta(days=3)), {}, date(2026, 11, 16)),
        (Delta(None, covered_from=NOW), {}, date(2026, 11, 18)),
        (Delta(None), {"open_from": NOW - timedelta(days=2)}, date(2026, 11, 17)),
    ],
    ids=["everything", "never-judged", "nothing", "fact", "coverage", "open"],
)
def test_outcomes_are_judged_from_the_first_receipt_that_may_have_changed(
    delta: Delta, changes: dict[str, Any], first: date
) -> None:
    assert plan.first_touched_receipt(DEFAULT, INPUTS | changes, delta) == first


@pytest.mark.parametrize("rows", [1, 350, 1000, 10**9])
def test_portions_are_the_same_judgements_in_the_same_order(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(plan, "STATEMENT_ROWS", rows)
    plans = [
        plan.plan_company(DEFAULT, INPUTS | {"company_id": company_id}, Delta(earliest), NOW)
        for company_id, earliest in (("c1", EVERYTHING), ("c2", None), ("c3", NOW - timedelta(days=10)))
    ]
    portions = [*plan.portions(plans)]
    assert [
        (part.company_id, judgement) for portion in portions for part in portion for judgement in part.judgements
    ] == [(whole.company_id, judgement) for whole in plans for judgement in whole.judgements]
    for portion in portions:
        weight = sum(part.statement_weight for part in portion)
        assert weight <= rows or (len(portion) == 1 and weight <= portion[0].weight * 3 // 2)
