"""The Grafana boards are whole: every panel has a place, a source that is provisioned, and names metrics that exist."""

from itertools import combinations

import pytest
import yaml

from tests.support.monitoring import BOARDS, GRAFANA, unknown

SOURCES = {
    source["uid"]: source["type"]
    for source in yaml.safe_load((GRAFANA / "provisioning/datasources/replyrate.yml").read_text("utf-8"))["datasources"]
}


def test_there_are_two_boards() -> None:
    assert set(BOARDS) == {"business", "operations"}
    assert len({board["uid"] for board in BOARDS.values()}) == 2


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_whole(name: str) -> None:
    board = BOARDS[name]
    assert {"uid", "title", "panels", "time", "templating", "schemaVersion"} <= set(board)
    panels = board["panels"]
    assert sorted(panel["id"] for panel in panels) == list(range(1, len(panels) + 1))
    for panel in panels:
        assert panel["title"] and panel["description"].endswith("."), panel["title"]
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


def test_the_operations_board_names_only_what_services_show() -> None:
    for panel in BOARDS["operations"]["panels"]:
        for target in panel["targets"]:
            assert unknown(target["expr"].replace("$__rate_interval", "5m")) == [], panel["title"]
