"""Every rule parameter is tested with a value that is not its default, and everything that a rule can say has a sentence."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.aggregator.judge import rules
from services.common.events import FROM_BUYER
from services.common.tables import read_text
from services.recount.recount import DEFAULTS
from tests.integration.test_judge import RULES
from tests.oracle.drawn_rules import drawn

PROPERTIES: dict[str, dict[str, Any]] = rules.schema()["properties"]
OPTIONAL = {name: parameter["default"] for name, parameter in PROPERTIES.items() if "default" in parameter}
VARIED = sorted(name for name in OPTIONAL if len(PROPERTIES[name].get("enum", "ab")) > 1)
"""Parameters that have another value: `calendar` has only one."""
ORACLE = Path(__file__).parents[2] / "oracle" / "rule_sets"
EXPLAIN = tomllib.loads(read_text("services.aggregator", "texts/explain.toml"))


def plain(value: Any) -> Any:
    """A value as TOML has it."""
    return list(value) if isinstance(value, tuple) else value


def test_schema_rule_set_and_recount_have_the_same_defaults() -> None:
    fields = rules.load_builtin("default").__struct_defaults__
    in_rule_set = dict(zip(rules.RuleSet.__struct_fields__[-len(fields) :], fields, strict=True))
    assert DEFAULTS == OPTIONAL
    assert {name: plain(in_rule_set[name]) for name in OPTIONAL} == OPTIONAL


def test_a_parameter_that_was_added_later_changes_no_rule_version_until_it_is_used() -> None:
    """tests/upgrade compares the numbers that a database of an earlier release stored under this version."""
    default = rules.load_builtin("default")
    assert default.identity == "1+00cea29a3d63"
    for name, value in (("answer_to", "buyer-or-relay"), ("reach_back_days", 30)):
        assert name in rules.added_later()
        assert msgspec.structs.replace(default, **{name: value}).identity != default.identity


@pytest.mark.parametrize("name", VARIED)
def test_every_parameter_has_another_value_than_its_default_in_each_comparison(name: str) -> None:
    default = OPTIONAL[name]
    assert any(plain(rule_set.parameters()[name]) != default for rule_set in RULES)
    assert any(drawn(seed)[name] != default for seed in range(40))
    assert any(tomllib.loads(file.read_text()).get(name, default) != default for file in ORACLE.glob("*.toml"))


@pytest.mark.parametrize("name", VARIED)
def test_every_word_that_a_parameter_can_be_is_tried(name: str) -> None:
    words = PROPERTIES[name].get("enum", ())
    tried = {drawn(seed)[name] for seed in range(40)} if words else set()
    assert tried == set(words)


def test_every_verdict_and_reason_has_a_sentence_in_both_languages() -> None:
    steps = read_text("services.aggregator.judge", "judge.sql")
    rejections = re.search(r"CASE WHEN reply\.at < reply\.start_at.*?END AS rejected_because", steps, re.DOTALL)
    verdicts = re.search(
        r"CASE WHEN candidate\.rejected_because.*?END AS verdict",
        read_text("services.aggregator", "explain.sql"),
        re.DOTALL,
    )
    assert rejections is not None and verdicts is not None
    words = set(re.findall(r"(?:THEN|ELSE) '([a-z-]+)'", rejections[0] + verdicts[0]))
    words |= {"bulk", "bounce"}
    assert {"before-the-inquiry", "from-the-buyer", "to-somebody-else", "copy", "later"} <= words
    assert words <= EXPLAIN["verdict"].keys()
    assert FROM_BUYER in EXPLAIN["kind_reason"]
    for section in ("verdict", "kind_reason", "reason", "excluded"):
        for code, sentence in EXPLAIN[section].items():
            assert sentence.keys() == {"en", "zh"} and all(sentence.values()), code
