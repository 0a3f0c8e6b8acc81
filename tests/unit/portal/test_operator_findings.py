"""What the overview of operators calls a problem, and the alerts of Prometheus with the same conditions."""

import re

import pytest
import yaml

from services.aggregator.pipeline_state import KafkaState, NumbersState
from services.portal.console import texts
from services.portal.console.operate.findings import THRESHOLDS, UNCHECKED, findings
from services.registry.waiting_mailboxes import WaitingMailboxes
from services.standalone.servers.paths import ROOT

IN_ORDER = NumbersState(1.0, 1.0, 0.0, 0.0, 0)
READ = WaitingMailboxes({"active": 3}, 0.0, 60.0)


def alerts() -> dict[str, str]:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


@pytest.mark.parametrize("alert", sorted(THRESHOLDS))
def test_a_problem_begins_where_its_alert_does(alert: str) -> None:
    condition = re.search(r"> ([\d.]+)\s*$", alerts()[alert])
    assert condition is not None and float(condition[1]) == THRESHOLDS[alert]


def test_every_alert_is_checked_or_named_as_unchecked() -> None:
    checked = {*THRESHOLDS, "ReplyrateDependencyAway", "ReplyrateNotReady"}
    assert checked | UNCHECKED == set(alerts()) and not checked & UNCHECKED
    paragraph = (ROOT / "docs/console.md").read_text("utf-8").partition("**What the overview does not know**")[2]
    named = set(re.findall(r"`(Replyrate\w+)`", paragraph.partition("\n\n")[0]))
    assert named == UNCHECKED


def test_the_share_of_mailboxes_to_connect_again_is_of_those_that_should_be_read() -> None:
    def problems_of(**states: int) -> list[tuple[str, float]]:
        problems = findings(IN_ORDER, KafkaState(0, 0, 0), WaitingMailboxes(states, 0.0, 0.0), ())
        return [(problem.unit, problem.value) for problem in problems]

    assert problems_of(active=9, needs_reconnect=1) == [] == problems_of(paused=5)
    assert problems_of(active=8, needs_reconnect=2, paused=90) == [("share", 0.2)]


def test_every_problem_has_an_entry_in_the_runbook_and_a_text() -> None:
    runbook = (ROOT / "docs/runbook.md").read_text("utf-8")
    names = {*THRESHOLDS, "ReplyrateDependencyAway", "ReplyrateNotReady"}
    assert names == set(texts.load()["finding"])
    assert all(f"\n## {name}\n" in runbook for name in names)


def test_problems_follow_from_the_figures() -> None:
    assert findings(IN_ORDER, KafkaState(0, 0, 0), READ, ()) == []
    assert findings(IN_ORDER, KafkaState(None, 100_000, None), READ, ()) == [], "what is unknown is no problem"
    assert [problem.alert for problem in findings(IN_ORDER, None, READ, ())] == ["ReplyrateDependencyAway"]
    (missing,) = findings(IN_ORDER, KafkaState(0, 0, 0), READ, ("the topic x is missing",))
    assert (missing.alert, missing.sentences) == ("ReplyrateNotReady", ("the topic x is missing",))
    refused = findings(IN_ORDER, None, READ, ("the broker refuses the user x",))
    assert [(problem.alert, problem.sentences) for problem in refused] == [
        ("ReplyrateNotReady", ("the broker refuses the user x",))
    ], "a broker that refuses does answer"
    late = findings(
        NumbersState(901.0, None, 3601.0, 901.0, 2),
        KafkaState(100_001, 100_001, 1),
        WaitingMailboxes({}, 1801.0, 90_000.0),
        (),
    )
    assert {problem.alert: problem.value for problem in late} == {
        "ReplyrateMailboxesOverdue": 1801, "ReplyratePollsTooOld": 90_000, "ReplyrateMatcherLags": 100_001,
        "ReplyrateAggregatorLags": 100_001, "ReplyratePipelineStands": 901, "ReplyrateDeadLetters": 1,
        "ReplyrateRefreshBehind": 901, "ReplyrateSettleBehind": 3601,
    }  # fmt: skip
    assert late[4].unit == "seconds" and late[4].runbook == "runbook.md#replyratepipelinestands"
