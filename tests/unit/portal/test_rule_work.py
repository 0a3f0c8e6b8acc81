"""What the page of a comparison shows: the largest changes first, in what inquiries differ, and whether it shows what an activation changes."""

from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from services.aggregator.judge import rules
from services.portal.console.operate.rule_work import ChosenRuleSet, RuleComparison, by_change, with_parts

DEFAULT, ETSY = rules.load_builtin("default"), rules.load_builtin("etsy")


def difference(company_id: str, before: str | None, after: str | None, inquiries: int = 0) -> dict[str, Any]:
    rates = {f"rate_{side}": None if rate is None else Decimal(rate) for side, rate in (("a", before), ("b", after))}
    return {"company_id": company_id, "inquiries": inquiries, **rates}


def test_the_largest_changes_come_first() -> None:
    ordered = [
        difference("c-appears", None, "0.01"),
        difference("c-disappears", "0.02", None),
        difference("c-falls", "0.9", "0.1"),
        difference("c-rises", "0.1", "0.5"),
        difference("c-many-inquiries", "0.5", "0.5", 7),
        difference("c-never-measured", None, None, 2),
        difference("c-few-inquiries", "0.5", "0.5", 1),
    ]
    for companies in permutations(ordered):
        assert sorted(companies, key=by_change) == ordered


def inquiry(**values: Any) -> dict[str, Any]:
    same = {
        f"{name}_{side}": value
        for side in "ab"
        for name, value in (("account", "a-1"), ("unit", "q-1"), ("day", "2026-11-20"), ("in_window", True))
    }
    return {"inquiry_id": "q-1", **same, **values}


@pytest.mark.parametrize(
    ("values", "parts_a", "parts_b"),
    [
        ({}, [], []),
        ({"account_b": "a-2"}, [("account", "a-1")], [("account", "a-2")]),
        ({"unit_b": "q-0"}, [("own-unit", "q-1")], [("unit", "q-0")]),
        ({"day_b": None, "in_window_b": None}, [("day", "2026-11-20"), ("window", None)], [("day", None), ("outside", None)]),
    ],
)  # fmt: skip
def test_what_differs_beside_the_outcome_is_named(
    values: dict[str, Any], parts_a: list[Any], parts_b: list[Any]
) -> None:
    shown = with_parts(inquiry(**values))
    assert (shown["parts_a"], shown["parts_b"]) == (parts_a, parts_b)


def compared(current: rules.RuleSet, proposed: ChosenRuleSet, company_id: str = "") -> RuleComparison:
    return RuleComparison(current, proposed, company_id, [], 1, 0, 0, [], [])


def test_a_comparison_is_for_the_activation_that_it_shows() -> None:
    new, next_version = ChosenRuleSet(ETSY), ChosenRuleSet(ETSY, "", ETSY.identity)
    assert compared(DEFAULT, new).is_for(new) and compared(ETSY, next_version).is_for(next_version)
    for comparison, chosen in (
        (compared(DEFAULT, new, "c1"), new),
        (compared(DEFAULT, new), ChosenRuleSet(DEFAULT)),
        (compared(DEFAULT, new), next_version),
        (compared(DEFAULT, next_version), next_version),
        (compared(ETSY, ChosenRuleSet(ETSY, "", "1+earlier")), ChosenRuleSet(ETSY, "", "1+earlier")),
    ):
        assert not comparison.is_for(chosen)
