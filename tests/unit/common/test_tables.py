"""Data files: what is wrong with one is said with the file, the key and the place that explains every key."""

import pytest

from services.common import tables
from services.common.errors import ConfigError

REMAINS = {"en": ["a"], "zh": ["b"]}


def test_a_file_that_is_not_toml_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^mine\.toml: not TOML: ."):
        tables.parse_table("x = ", "mine.toml")


def test_a_data_file_is_named_by_its_path_in_the_repository() -> None:
    assert tables.origin_of("services.mail", "subjects.toml") == "services/mail/subjects.toml"
    assert tables.read_table("services.mail", "subjects.toml")["automatic"]


def test_a_wrong_value_is_named_by_its_key() -> None:
    (problem,) = tables.schema_problems({"text": [], "remains": REMAINS}, "consent", "mine.toml")
    assert problem.startswith("mine.toml: text: ") and problem.endswith(
        "; schemas/consent.schema.json explains every key"
    )


def test_a_missing_key_is_named_by_the_message() -> None:
    problems = tables.schema_problems({}, "consent", "mine.toml", explained_in="docs/consent.md")
    assert len(problems) == 2
    assert all(
        problem.startswith("mine.toml: '") and problem.endswith("docs/consent.md explains every key")
        for problem in problems
    )


def test_words_may_replace_those_of_the_library() -> None:
    (problem,) = tables.schema_problems(
        {"text": [], "remains": REMAINS}, "consent", "mine.toml", wording=lambda error: "write some"
    )
    assert problem == "mine.toml: text: write some; schemas/consent.schema.json explains every key"
