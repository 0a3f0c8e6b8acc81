"""Rule sets as data: schema and struct agree, every problem is named, stored rule sets equal those read."""

import json
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest

from services.aggregator.judge import rules
from services.common.errors import ConfigError

DEFAULT = Path("services/aggregator/judge/rule_sets/default.toml").read_text("utf-8")
SCHEMA: dict[str, Any] = json.loads(Path("schemas/rule-set.schema.json").read_text("utf-8"))


def changed(old: str, new: str) -> str:
    assert old in DEFAULT
    return DEFAULT.replace(old, new)


@pytest.mark.parametrize("name", rules.builtin_names())
def test_every_builtin_rule_set_is_valid_and_can_be_stored(name: str) -> None:
    rule_set = rules.load_builtin(name)
    assert rule_set.name == name
    again = rules.stored(json.dumps(rule_set.parameters(), sort_keys=True))
    assert again == rule_set and again.identity == rule_set.identity


def test_a_rule_set_without_any_optional_key_can_be_stored() -> None:
    # A default of another type than its stored form would give another identity, and its recompute would never be shown.
    required = [line for line in DEFAULT.splitlines() if line.partition(" =")[0] in SCHEMA["required"]]
    rule_set = rules.parse("\n".join(required), "required.toml")
    again = rules.stored(json.dumps(rule_set.parameters(), sort_keys=True))
    assert again == rule_set and again.identity == rule_set.identity


def test_the_schema_and_the_struct_name_the_same_parameters_values_and_defaults() -> None:
    fields = {field.name: field for field in msgspec.structs.fields(rules.RuleSet)}
    assert set(SCHEMA["properties"]) == set(fields)
    assert set(SCHEMA["required"]) == {name for name, field in fields.items() if field.required}
    assert all(isinstance(parameter["decides"], bool) for parameter in SCHEMA["properties"].values())
    hints = get_type_hints(rules.RuleSet)
    for name, form in SCHEMA["properties"].items():
        if not fields[name].required:
            default = fields[name].default
            assert form["default"] == (list(default) if isinstance(default, tuple) else default), name
        if "enum" in form and get_origin(hints[name]) is not None and name != "calendar":
            assert set(form["enum"]) == set(get_args(hints[name])), name
    assert set(SCHEMA["properties"]["answered_by"]["items"]["enum"]) == set(get_args(rules.Answer))
    assert set(SCHEMA["properties"]["exclude"]["items"]["properties"]["when"]["enum"]) == set(get_args(rules.When))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('unit = "first-per-buyer-day"', 'unit = "day"', ("unit: 'day'", "each-inquiry", "first-per-thread")),
        ("target_seconds = 86400", "target_seconds = 0", ("target_seconds: 0 is less than the minimum of 1",)),
        ("window_days = 30", 'window_days = "30"', ("window_days: '30' is not of type 'integer'",)),
        ('calendar = "always"', 'calendar = "business"', ("calendar: 'business'", "'always'")),
        ('time_zone = "America/Los_Angeles"', 'time_zone = "Pacific"', ("time_zone: 'Pacific' is not an IANA time zone",)),
        ('when = "buyer-closed"', 'when = "closed"', ("exclude.4.when: 'closed'", "buyer-closed")),
        ('"human-reply",', '"reply",', ("answered_by.0: 'reply'", "human-reply")),
        ('small_sample = "show"', 'small_sample = "none"', ("small_sample: 'none' is none of", "mode = 'widen'")),
        (
            'small_sample = "show"',
            'small_sample = { mode = "widen", min_counted = 9, max_days = 20 }',
            ("small_sample.max_days: 20 is less than window_days",),
        ),
        ("version = 1", "version = 1\nwindow = 3", ("'window' was unexpected", "docs/rule-sets.md")),
        ('attribution = "current-owner"\n', "", ("'attribution' is a required property",)),
        ("version = 1", "version = ", ("not TOML",)),
    ],
)  # fmt: skip
def test_a_problem_names_the_key_its_value_and_what_is_allowed(old: str, new: str, said: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        rules.parse(changed(old, new), "mine.toml")
    (problem,) = caught.value.problems
    assert problem.startswith("mine.toml: ")
    assert all(part in problem for part in said), problem


def test_all_problems_are_reported_at_once() -> None:
    broken = changed('unit = "first-per-buyer-day"', 'unit = "day"').replace("settle_days = 5", "settle_days = -1", 1)
    with pytest.raises(ConfigError) as caught:
        rules.parse(broken, "mine.toml")
    assert len(caught.value.problems) == 2


def test_rule_sets_of_an_operators_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(changed('name = "default"', 'name = "mine"'), "utf-8")
    assert rules.load("mine", tmp_path).name == "mine"
    assert "mine" in rules.names(tmp_path) and "mine" not in rules.names(None)
    with pytest.raises(ConfigError, match=r"there is no rule set other; choose one of .*default.*mine"):
        rules.load("other", tmp_path)
    (tmp_path / "default.toml").write_text(DEFAULT, "utf-8")
    with pytest.raises(ConfigError, match="choose another name"):
        rules.load("default", tmp_path)
    (tmp_path / "wrong.toml").write_text(DEFAULT, "utf-8")
    with pytest.raises(ConfigError, match=r"rename the file to default\.toml"):
        rules.load("wrong", tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        rules.read(tmp_path / "missing.toml")


def test_a_window_longer_than_the_horizon_is_refused_with_the_value_to_set() -> None:
    with pytest.raises(ConfigError, match="REPLYRATE_HORIZON_DAYS=114"):
        rules.check_horizon(rules.load_builtin("airbnb"), 60)
    rules.check_horizon(rules.load_builtin("airbnb"), 114)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("target_seconds = 86400", "target_seconds = 99999999999", "target_seconds: 99999999999 is greater than"),
        ("within_seconds = 86400", "within_seconds = 99999999999999999999", "exclude.0.within_seconds: "),
        ("window_days = 30", "window_days = 30.0", "window_days"),
        ("min_coverage = 0.5", "min_coverage = nan", "min_coverage"),
        ('"America/Los_Angeles"', '"localtime"', "time_zone: 'localtime' is not an IANA time zone"),
        ('"America/Los_Angeles"', '"right/UTC"', "time_zone: 'right/UTC' is not an IANA time zone"),
        (
            'answered_by = ["human-reply", "platform-reply", "rejected", "declined"]',
            "answered_by = []",
            "answered_by: [] ",
        ),
    ],
)
def test_values_that_would_fail_later_are_refused_at_once(old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules.parse(changed(old, new), "mine.toml")
    assert any(said in problem for problem in caught.value.problems), caught.value.problems
