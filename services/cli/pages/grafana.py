"""deploy/grafana/dashboards: the boards in English and Chinese, each rendered from one definition (boards/NAME.toml)."""

import json
from collections.abc import Mapping
from typing import Any, Final

from services.common.tables import read_table

BOARDS: Final = ("business", "operations")
LANGUAGES: Final = {"en": "English", "zh": "中文"}
"""Language of the texts → what it is called in the link that leads to it."""
POSTGRES: Final = {"type": "grafana-postgresql-datasource", "uid": "replyrate-postgres"}
PROMETHEUS: Final = {"type": "prometheus", "uid": "replyrate-prometheus"}
Definition = Mapping[str, Any]


def pages() -> dict[str, str]:
    """File name, relative to the folder docs, → JSON of each board in each language."""
    return {
        f"../deploy/grafana/dashboards/{language}/{name}.json": render(definition(name), language)
        for name in BOARDS
        for language in LANGUAGES
    }


def definition(name: str) -> dict[str, Any]:
    """What a board shows, with texts in every language."""
    return read_table("services.cli.pages", f"boards/{name}.toml")


def render(board: Definition, language: str) -> str:
    """A board in one language, as Grafana stores it."""
    content = {
        "uid": _uid(board, language),
        "title": board["title"][language],
        "description": board["description"][language],
        "tags": ["replyrate"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": board["refresh"],
        "time": {"from": board["from"], "to": "now"},
        "timezone": "utc",
        "templating": {"list": [_variable(variable, language) for variable in board.get("variables", ())]},
        "annotations": {"list": []},
        "links": [_link(board, other_language) for other_language in LANGUAGES if other_language != language],
        "panels": [_panel(board, number, panel, language) for number, panel in enumerate(board["panels"], 1)],
    }
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def _uid(board: Definition, language: str) -> str:
    """The English board keeps the id of the time when it was the only one."""
    return str(board["uid"]) if language == "en" else f"{board['uid']}-{language}"


def _link(board: Definition, language: str) -> dict[str, Any]:
    """To the same board in another language, with the time and the companies that are shown."""
    return {
        "type": "link", "title": LANGUAGES[language], "url": f"/d/{_uid(board, language)}", "keepTime": True, "includeVars": True,
        "icon": "external link", "targetBlank": False, "tags": [],
    }  # fmt: skip


def _variable(variable: Definition, language: str) -> dict[str, Any]:
    several = variable.get("several", False)
    return {
        "name": variable["name"],
        "label": variable["label"][language],
        "type": "query",
        "datasource": POSTGRES,
        "query": variable["sql"],
        "definition": variable["sql"],
        "refresh": 2,
        "multi": several,
        "includeAll": several,
        "sort": 1,
        "current": {"text": "All", "value": "$__all"} if several else {},
    }


def _panel(board: Definition, number: int, panel: Definition, language: str) -> dict[str, Any]:
    left, top, width, height = panel["place"]
    unit = panel.get("unit")
    defaults = {"noValue": board["no_value"][language], **({"unit": unit} if unit else {})}
    if panel["kind"] == "timeseries":
        defaults["custom"] = (
            {"drawStyle": "bars", "fillOpacity": 80, "stacking": {"mode": "normal", "group": "A"}}
            if panel.get("draw") == "bars"
            else {"spanNulls": False, "lineWidth": 2}
        )
    if unit == "percentunit":
        defaults |= {"min": 0, "max": 1}
    source = POSTGRES if "sql" in panel else PROMETHEUS
    return {
        "id": number,
        "type": panel["kind"],
        "title": panel["title"][language],
        "description": panel["description"][language],
        "datasource": source,
        "targets": [{"refId": reference, "datasource": source, **query} for reference, query in _queries(panel, language)],
        "fieldConfig": {
            "defaults": defaults,
            "overrides": [_column(board, panel, name, language) for name in panel.get("columns", ()) if name in board["columns"]],
        },
        "options": _options(panel),
        "gridPos": {"x": left, "y": top, "w": width, "h": height},
    }  # fmt: skip


def _queries(panel: Definition, language: str) -> list[tuple[str, dict[str, Any]]]:
    """Each query with its letter."""
    if "sql" in panel:
        form = "time_series" if panel["kind"] == "timeseries" else "table"
        text = panel["sql"].strip().replace("{lang}", language)
        return [("A", {"format": form, "rawQuery": True, "rawSql": text})]
    queries = []
    for letter, query in zip("ABCDEFGH", panel["queries"], strict=False):
        legend = query["legend"]
        queries.append(
            (letter, {"expr": query["expr"], "legendFormat": legend if isinstance(legend, str) else legend[language]})
        )
    return queries


def _column(board: Definition, panel: Definition, name: str, language: str) -> dict[str, Any]:
    """What a column is called, its unit, and words for its values."""
    properties: list[dict[str, Any]] = []
    # In a chart with a line for each company, the line is called like the company.
    if "metric" not in panel["columns"]:
        properties.append({"id": "displayName", "value": board["columns"][name][language]})
    if name in board["units"]:
        properties.append({"id": "unit", "value": board["units"][name]})
    if name in panel.get("values", {}):
        words = board["values"][panel["values"][name]]
        options = {value: {"text": text[language], "index": index} for index, (value, text) in enumerate(words.items())}
        properties.append({"id": "mappings", "value": [{"type": "value", "options": options}]})
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def _options(panel: Definition) -> dict[str, Any]:
    if panel["kind"] == "barchart":
        return {"xField": panel["columns"][0]}
    return {"textMode": "name"} if panel.get("shows_name") else {}
