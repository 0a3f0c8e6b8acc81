"""Why a rule set cannot be used, in both languages."""

import re
from typing import get_args

import pytest

from services.aggregator.judge import rule_problems, rules
from services.aggregator.judge.rule_problems import RuleProblem
from services.common.errors import ConfigError
from services.common.language import Bilingual
from services.common.tables import read_table, schema
from tests.support.operator_lab import RULES

PLACEHOLDER = re.compile(r"\{(\w+)\}")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def test_each_code_has_its_sentence_with_the_same_values_in_both_languages() -> None:
    assert rule_problems.load().keys() == set(get_args(RuleProblem))
    for code, text in rule_problems.load().items():
        assert text.en and CHINESE.search(text.zh), code
        assert set(PLACEHOLDER.findall(text.en)) == set(PLACEHOLDER.findall(text.zh)), code


@pytest.mark.parametrize(
    ("definition", "english", "chinese"),
    [
        (RULES.replace("each-inquiry", "each-day"), "'each-day' is not one of", "'each-day' 不在允许的取值之内"),
        (RULES.replace("window_days = 30\n", ""), "'window_days' is a required property", "缺少必需的键 window_days"),
        (RULES + "wrong = 1\n", "'wrong' was unexpected", "不认识的键：wrong"),
        (RULES.replace("window_days = 30", 'window_days = "x"'), "'x' is not of type", "'x' 的类型不符"),
        (RULES.replace("window_days = 30", "window_days = 0"), "0 is less than the minimum", "0 小于最小值 1"),
        (RULES.replace("America/Los_Angeles", "Mars"), "'Mars' is not an IANA time zone", "'Mars' 不是 IANA 时区"),
        (RULES.replace("version = 1", "version ="), "not TOML: Invalid value", "不是有效的 TOML（系统原文：Invalid value"),
    ],
)  # fmt: skip
def test_a_definition_that_is_invalid_is_explained_in_both_languages(
    definition: str, english: str, chinese: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        rules.parse(definition, "definition")
    (sentence,) = raised.value.sentences
    assert isinstance(sentence, Bilingual)
    assert english in sentence.en and sentence.en == str(raised.value)
    assert chinese in sentence.zh


def test_every_keyword_of_the_schema_of_rule_sets_has_a_chinese_sentence() -> None:
    def keywords(part: object) -> set[str]:
        if isinstance(part, dict):
            return set(part) | {keyword for value in part.values() for keyword in keywords(value)}
        return {keyword for value in part for keyword in keywords(value)} if isinstance(part, list) else set()

    checked = {"required", "additionalProperties", "enum", "const", "type", "minimum", "maximum", "minLength", "maxLength",
               "minItems", "maxItems", "uniqueItems", "pattern"}  # fmt: skip
    assert keywords(schema("rule-set")) & checked <= read_table("services.common", "schema_problems.toml").keys()
