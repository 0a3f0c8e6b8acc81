"""When the numbers of a mailbox are complete and shown: the rule set and the data that `add` and `show` print."""

from typing import Any

from services.aggregator.judge import rules
from services.common.settings import Settings
from services.connect.completeness import NumbersForecast, SettlingRule


def settling_rule(config: Settings) -> SettlingRule:
    """The parameters of the rule set `default` that decide when a number is shown."""
    rule_set = rules.load("default", config.aggregator.rules_dir)
    return SettlingRule(
        rule_set.name, rule_set.zone, rule_set.target_seconds, rule_set.window_days, rule_set.settle_days
    )


def forecast_data(forecast: NumbersForecast) -> dict[str, Any]:
    """A forecast as plain values."""
    return {
        "first_day": forecast.first_day,
        "visible_on": forecast.visible_on,
        "whole_on": forecast.whole_on,
        "rule_set": "default",
    }
