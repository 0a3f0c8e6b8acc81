"""The comparison reports every change, and nothing else."""

import json
from pathlib import Path

import jsonschema
import pytest

from services.recount.facts import Json
from services.recount.recount import recount, rule_set
from tests.oracle.compare import IGNORED, KEYS, differences, disorder
from tests.oracle.drawn_rules import drawn, file_text
from tests.oracle.histories import KEY, history

PRESETS = Path(__file__).parents[2] / "services" / "aggregator" / "judge" / "rule_sets"


@pytest.fixture(scope="module")
def answer() -> Json:
    """The oracle's answer for one history."""
    own = history(0)
    rules = [rule_set(PRESETS / "default.toml"), rule_set(PRESETS / "airbnb.toml")]
    return recount(own.inquiries, own.sent, own.coverage, rules, own.judgements[0].as_of, KEY)


def copied(answer: Json) -> Json:
    """A copy, by way of JSON."""
    copy: Json = json.loads(json.dumps(answer))
    return copy


def test_equal_answers_have_no_differences(answer: Json) -> None:
    assert differences(copied(answer), answer) == []
    altered = copied(answer)
    for line in altered["inquiry_outcomes"]:
        line |= {"changed_at": "2026-01-01T00:00:00Z", "more": 1}
        if "." not in line["received_at"]:
            line["received_at"] = line["received_at"].replace("Z", ".000Z")
    for line in altered["reply_rate"]:
        line |= {"rule_version": "1"}
        line["rate"] = None if line["rate"] is None else line["rate"] * (1 + 1e-12)
    assert differences(altered, answer) == []


@pytest.mark.parametrize("array", KEYS)
def test_every_column_is_compared(answer: Json, array: str) -> None:
    for place, line in enumerate(answer[array]):
        for column, value in line.items():
            assert column not in IGNORED
            for change in (None if value is not None else 0, "x", 1.0000001, not value):
                if change == value and type(change) is type(value):
                    continue
                altered = copied(answer)
                altered[array][place][column] = change
                assert differences(altered, answer), (line, column, change)
            altered = copied(answer)
            del altered[array][place][column]
            assert differences(altered, answer)


@pytest.mark.parametrize("array", KEYS)
def test_missing_added_and_repeated_rows_are_reported(answer: Json, array: str) -> None:
    missing, added, repeated = copied(answer), copied(answer), copied(answer)
    missing[array].pop()
    added[array].append(added[array][0] | {"company_id": "other"})
    repeated[array].append(repeated[array][0])
    assert [len(differences(altered, answer)) for altered in (missing, added, repeated)] == [1, 1, 1]
    assert "is missing" in differences(missing, answer)[0]
    assert "should not be there" in differences(added, answer)[0]
    assert "2 times" in differences(repeated, answer)[0]
    assert differences({name: rows for name, rows in answer.items() if name != array}, answer)


def test_unsorted_rows_are_reported(answer: Json) -> None:
    ordered: Json = {
        array: sorted(rows, key=lambda line, array=array: tuple(line[name] or "" for name in KEYS[array]))  # type: ignore[misc]
        for array, rows in answer.items()
    }
    assert disorder(ordered) == []
    assert len(disorder({array: rows[::-1] for array, rows in ordered.items()})) == 2


@pytest.mark.parametrize("seed", range(40))
def test_drawn_rule_sets_are_valid(tmp_path: Path, seed: int) -> None:
    schema = json.loads((Path(__file__).parents[2] / "schemas" / "rule-set.schema.json").read_text())
    (tmp_path / "drawn.toml").write_text(file_text(drawn(seed)))
    read_back = rule_set(tmp_path / "drawn.toml")
    jsonschema.Draft202012Validator(schema).validate(read_back)
    assert read_back == drawn(seed)
