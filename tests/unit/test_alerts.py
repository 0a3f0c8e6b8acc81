"""The alert rules name what there is: metrics and labels of the registry, an entry of the runbook each."""

import ast
import json
import re
from typing import Any

import pytest

from services.common.metrics import REASONS
from services.standalone.servers.paths import ROOT
from tests.support.monitoring import LABELS, RULES, selectors, unknown

EARLIER_REASONS = {"over-bound"}
"""Reasons of dead letters that only earlier releases wrote; such letters may still be in the topic."""
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_can_be_evaluated_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert unknown(rule["expr"]) == []
    assert list(selectors(rule["expr"])), "it looks at nothing"
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_alerts_and_runbook_are_one_to_one() -> None:
    entries = re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)
    assert [rule["alert"] for rule in RULES] == entries, "in the same order"
    for body in re.split(r"^## \w+$", RUNBOOK, flags=re.MULTILINE)[1:]:
        assert len(body.split()) > 20


def test_metrics_that_the_runbook_names_exist() -> None:
    named = set(re.findall(r"replyrate_[a-z_]+", RUNBOOK))
    assert named and named <= set(LABELS)


def test_reasons_of_dead_letters_are_those_that_the_services_give() -> None:
    """Each reason has a series from the start on, so a new one must be added to services.common.metrics too."""
    decoding = reasons("common/codec.py")
    assert decoding == {"not-json", "schema", "limit"}
    assert set(REASONS["aggregator"]) == decoding | reasons("aggregator/*.py")
    assert set(REASONS["matcher"]) == decoding | reasons("matcher/*.py")
    assert set(REASONS["fetcher"]) == {"unreadable-message"} and reasons("fetcher/*.py") == set()
    schema = json.loads((ROOT / "schemas" / "events" / "dead-letter.v1.schema.json").read_text("utf-8"))
    documented = schema["$defs"]["data"]["properties"]["reason"]["examples"]
    assert set(documented) == {reason for service in REASONS.values() for reason in service} | EARLIER_REASONS


def reasons(pattern: str) -> set[str]:
    """The words that `InvalidEvent(…)` is called with first."""
    return {
        word.value
        for file in (ROOT / "services").glob(pattern)
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "InvalidEvent"
        for word in ast.walk(node.args[0])
        if isinstance(word, ast.Constant) and isinstance(word.value, str)
    }


def test_what_does_not_exist_is_found_out() -> None:
    assert unknown("rate(replyrate_nothing_total[5m]) > 0") == ["no metric replyrate_nothing_total"]
    assert unknown('replyrate_ready{company_id="c"}') == ["replyrate_ready has no label company_id"]
    with pytest.raises(ValueError):
        list(selectors("sum(replyrate_ready"))
