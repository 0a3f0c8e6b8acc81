"""The Grafana boards are whole: every panel has a place, a source that is provisioned, and names metrics that exist."""

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
import yaml

from services.cli.pages import dictionary, grafana
from tests.support.monitoring import BOARDS, GRAFANA, unknown

CHINESE = re.compile(r"[\u4e00-\u9fff]")
SOURCES = {
    source["uid"]: source["type"]
    for source in yaml.safe_load((GRAFANA / "provisioning/datasources/replyrate.yml").read_text("utf-8"))["datasources"]
}


def test_there_are_two_boards_in_two_languages() -> None:
    assert set(BOARDS) == {
        f"{language}/{name}" for language in grafana.LANGUAGES for name in ("business", "operations")
    }
    assert len({board["uid"] for board in BOARDS.values()}) == 4
    urls = {link["url"] for board in BOARDS.values() for link in board["links"]}
    assert urls == {f"/d/{board['uid']}" for board in BOARDS.values()}


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_whole(name: str) -> None:
    board = BOARDS[name]
    assert {"uid", "title", "panels", "time", "templating", "schemaVersion"} <= set(board)
    panels = board["panels"]
    assert sorted(panel["id"] for panel in panels) == list(range(1, len(panels) + 1))
    for panel in panels:
        assert panel["title"] and panel["description"].endswith((".", "。")), panel["title"]
        for target in [panel, *panel["targets"]]:
            source = target["datasource"]
            assert SOURCES[source["uid"]] == source["type"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    for upper, lower in combinations((panel["gridPos"] for panel in panels), 2):
        apart = (
            upper["x"] + upper["w"] <= lower["x"] or lower["x"] + lower["w"] <= upper["x"]
            or upper["y"] + upper["h"] <= lower["y"] or lower["y"] + lower["h"] <= upper["y"]
        )  # fmt: skip
        assert apart, "two panels overlap"


@pytest.mark.parametrize("name", grafana.BOARDS)
def test_every_text_of_a_board_has_both_languages(name: str) -> None:
    texts = list(texts_of(grafana.definition(name)))
    assert len(texts) > 20
    for text in texts:
        assert set(text) == set(grafana.LANGUAGES), text
        assert CHINESE.search(text["zh"]) and not CHINESE.search(text["en"]), text


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_shows_one_language(name: str) -> None:
    """Names of metrics, labels and services are the same in both."""
    shown = list(shown_by(BOARDS[name]))
    assert len(shown) > 40
    if name.startswith("en/"):
        assert [text for text in shown if CHINESE.search(text)] == []
    else:
        assert [text for text in shown if not CHINESE.search(text)] == [
            text
            for text in shown
            if re.fullmatch(r"(\{\{\w+\}\}[ →]*)+|fetcher|matcher|aggregator|inquiry-replies\.v1", text)
        ]


@pytest.mark.parametrize("name", grafana.BOARDS)
def test_both_languages_show_the_same(name: str) -> None:
    english, chinese = BOARDS[f"en/{name}"], BOARDS[f"zh/{name}"]
    assert list(shapes_of(english)) == [text.replace("advice_zh", "advice_en") for text in shapes_of(chinese)]


@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_turns_missing_data_into_a_number(name: str) -> None:
    for panel in BOARDS[name]["panels"]:
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["noValue"] and not re.search(r"\d", defaults["noValue"]), panel["title"]
        assert defaults.get("custom", {}).get("spanNulls", False) is False, panel["title"]
        for target in panel["targets"]:
            query = target.get("rawSql") or target["expr"]
            assert not re.search(r"coalesce|\bvector\(|\bor\b|count\(\*\)", query, re.IGNORECASE), panel["title"]


def test_every_column_with_words_for_its_values_has_words_for_each() -> None:
    """The lists of the board and those of the contract of report_v1 are the same."""
    views, words = dictionary.contract()["views"], grafana.definition("business")["values"]
    for column, view, listed in (
        ("outcome", "inquiry_outcomes", "outcome"), ("state", "mailbox_health", "mailbox"), ("state", "reply_rate", "state"),
        ("role", "mailbox_health", "role"), ("kind", "accounts", "kind"), ("cause", "corrections", "cause"),
    ):  # fmt: skip
        assert set(views[view]["values"][column]) == set(words[listed]), (view, column)


def test_a_text_in_one_language_only_is_noticed() -> None:
    board = grafana.definition("business")
    del board["columns"]["rate"]["zh"]
    with pytest.raises(KeyError):
        grafana.render(board, "zh")


def texts_of(definition: Any) -> Iterator[dict[str, str]]:
    """The texts of a definition: tables with a language."""
    if isinstance(definition, dict):
        if {"en", "zh"} & set(definition):
            yield definition
        else:
            for value in definition.values():
                yield from texts_of(value)
    elif isinstance(definition, list):
        for value in definition:
            yield from texts_of(value)


def shown_by(board: dict[str, Any]) -> Iterator[str]:
    """Every text that a reader of a board sees."""
    yield board["title"]
    yield board["description"]
    yield from (variable["label"] for variable in board["templating"]["list"])
    for panel in board["panels"]:
        yield panel["title"]
        yield panel["description"]
        yield panel["fieldConfig"]["defaults"]["noValue"]
        yield from (target["legendFormat"] for target in panel["targets"] if "legendFormat" in target)
        for override in panel["fieldConfig"]["overrides"]:
            for part in override["properties"]:
                if part["id"] == "displayName":
                    yield part["value"]
                elif part["id"] == "mappings":
                    yield from (word["text"] for mapping in part["value"] for word in mapping["options"].values())


def shapes_of(board: dict[str, Any]) -> Iterator[str]:
    """Everything of a board but its texts."""
    for panel in board["panels"]:
        queries = [target.get("rawSql") or target["expr"] for target in panel["targets"]]
        columns = [
            (override["matcher"]["options"], [part["value"] for part in override["properties"] if part["id"] == "unit"],
             [list(part["value"][0]["options"]) for part in override["properties"] if part["id"] == "mappings"])
            for override in panel["fieldConfig"]["overrides"]
        ]  # fmt: skip
        defaults = {**panel["fieldConfig"]["defaults"], "noValue": None}
        yield repr((panel["id"], panel["type"], panel["gridPos"], panel["options"], defaults, queries, columns))


def test_the_operations_board_names_only_what_services_show() -> None:
    for panel in BOARDS["en/operations"]["panels"]:
        for target in panel["targets"]:
            assert unknown(target["expr"].replace("$__rate_interval", "5m")) == [], panel["title"]
