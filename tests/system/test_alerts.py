"""Each alert fires on the series it is for, and is silent on good ones: Prometheus' own `promtool` evaluates the rules."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from services.standalone.servers.paths import ROOT

RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
STEP = "2m"
STEPS = 900  # 30 h, for what looks back a day

ALL = {
    f'replyrate_build_info{{service="{name}",version="1"}}': "1"
    for name in ("fetcher", "matcher", "aggregator", "portal")
}
HUMAN = 'replyrate_fetcher_messages_seen_total{kind="human"}'
MATCHED = 'replyrate_matcher_matches_total{evidence="buyer-address"}'
DONE, REFUSED = (f'replyrate_fetcher_logins_total{{result="{name}"}}' for name in ("done", "login-refused"))
AWAY = 'replyrate_dependency_failures_total{service="matcher",dependency="kafka"}'
REJECTED, LATE = (
    f'replyrate_records_rejected_total{{service="matcher",reason="{name}"}}' for name in ("schema", "late")
)
EMITTED = "replyrate_matcher_states_emitted_total"
ACTIVE, RECONNECT = (f'replyrate_fetcher_mailboxes{{state="{name}"}}' for name in ("active", "needs_reconnect"))

GOOD = {
    **ALL,
    'replyrate_healthy{service="matcher"}': "1", 'replyrate_ready{service="matcher"}': "1", AWAY: "+0.1",
    "replyrate_fetcher_poll_delay_seconds": "3", "replyrate_fetcher_poll_age_seconds": "700", DONE: "+10", REFUSED: "+1",
    ACTIVE: "100", RECONNECT: "3", 'replyrate_matcher_lag_records{topic="inquiries.v1"}': "10",
    "replyrate_aggregator_lag_records": "10", "replyrate_aggregator_pipeline_age_seconds": "7", "replyrate_dead_letters_waiting": "0", REJECTED: "+1", LATE: "+0.1",
    "replyrate_matcher_rerouted_total": "0", HUMAN: "+10", EMITTED: "+10", MATCHED: "+1",
    "replyrate_aggregator_dirty_age_seconds": "2", "replyrate_aggregator_settle_lag_seconds": "60",
}  # fmt: skip
"""Series of a day on which all is well: `5` stays, `+5` grows by so much each step."""

BAD: dict[str, dict[str, str | None]] = {
    "ReplyrateServiceMissing": {'replyrate_build_info{service="matcher",version="1"}': None},
    "ReplyrateUnhealthy": {'replyrate_healthy{service="matcher"}': "0"},
    "ReplyrateNotReady": {'replyrate_ready{service="matcher"}': "0"},
    "ReplyrateDependencyAway": {AWAY: "+20"},
    "ReplyrateVersionsDiffer": {'replyrate_build_info{service="matcher",version="2"}': "1"},
    "ReplyrateMailboxesOverdue": {"replyrate_fetcher_poll_delay_seconds": "2000"},
    "ReplyratePollsTooOld": {"replyrate_fetcher_poll_age_seconds": "90000"},
    "ReplyrateLoginsFail": {REFUSED: "+5"},
    "ReplyrateMailboxesNeedReconnect": {RECONNECT: "20"},
    "ReplyrateMatcherLags": {'replyrate_matcher_lag_records{topic="inquiries.v1"}': "200000"},
    "ReplyrateAggregatorLags": {"replyrate_aggregator_lag_records": "200000"},
    "ReplyratePipelineStands": {"replyrate_aggregator_pipeline_age_seconds": "1000"},
    "ReplyrateDeadLetters": {"replyrate_dead_letters_waiting": "1"},
    "ReplyrateManyRejected": {REJECTED: "+600"},
    "ReplyrateLateFacts": {LATE: "+10"},
    "ReplyrateRerouted": {"replyrate_matcher_rerouted_total": "+1"},
    "ReplyrateNothingMatches": {MATCHED: None},
    "ReplyrateRefreshBehind": {"replyrate_aggregator_dirty_age_seconds": "1000"},
    "ReplyrateSettleBehind": {"replyrate_aggregator_settle_lag_seconds": "4000"},
    "ReplyrateCompanyUnjudged": {"replyrate_aggregator_companies_unjudged": "1"},
}
"""Alert → what is another way on the day on which it alone fires."""


@pytest.fixture(scope="module")
def promtool() -> str:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: run .ci/install-prometheus"
    return promtool


def test_the_rules_are_valid(promtool: str) -> None:
    done = subprocess.run([promtool, "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert f"{len(BAD)} rules found" in done.stdout


def test_each_alert_fires_when_it_should_and_none_on_a_good_day(promtool: str, tmp_path: Path) -> None:
    tests = [scenario({}, []), *(scenario(changes, [alert]) for alert, changes in BAD.items())]
    file = tmp_path / "tests.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": STEP, "tests": tests}, width=1000), "utf-8"
    )
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def test_a_burst_is_seen_where_the_series_was_there_before(promtool: str, tmp_path: Path) -> None:
    """Why services export reasons without rejected records: a series that starts with its first value has no increase."""
    # Ten minutes before the end 500 facts come at once.
    before, burst = STEPS - 35, "500+0x60"
    tests = [
        expecting(burst_of(f"0+0x{before - 1} {burst}"), ["ReplyrateLateFacts"]),
        expecting(burst_of(f"_x{before} {burst}"), []),
    ]
    file = tmp_path / "tests.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": STEP, "tests": tests}, width=1000), "utf-8"
    )
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def burst_of(late: str) -> dict[str, str]:
    """The good day with other late facts, as promtool's series."""
    return {**written(GOOD), LATE: late}


def written(series: dict[str, str]) -> dict[str, str]:
    """Series as promtool wants them."""
    return {
        name: f"0{value}x{STEPS}" if value.startswith("+") else f"{value}+0x{STEPS}" for name, value in series.items()
    }


def scenario(changes: dict[str, str | None], alerts: list[str]) -> dict[str, object]:
    """A day with `changes`, at whose end exactly `alerts` fire."""
    return expecting(written({name: value for name, value in {**GOOD, **changes}.items() if value is not None}), alerts)


def expecting(series: dict[str, str], alerts: list[str]) -> dict[str, object]:
    """The same for series in promtool's words."""
    return {
        "interval": STEP,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": "29h",
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts],
            }
        ],
    }
