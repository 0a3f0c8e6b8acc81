"""For analysts, from schemas/report_v1.json: sources and a semantic model for dbt (examples/dbt), and the model in the form of OSI.

The semantic model has sums of counts and ratios of such sums; a mean of rates cannot be written with it.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from services.cli.pages.dictionary import contract

HEAD: Final = "# Rendered by `replyrate config docs --write docs` from schemas/report_v1.json.\n"
FACTS: Final = {"reply_daily": "level = 'account'", "coverage_daily": None}
"""View whose measures add up → the rows to add up."""
DIMENSIONS: Final = ("rule_sets", "accounts", "freshness")
View = Mapping[str, Any]


def pages() -> dict[str, str]:
    """File name, relative to the folder docs, → text."""
    views = contract()["views"]
    return {
        "../examples/dbt/models/sources/report_v1.yml": HEAD + "\n".join(_sources(views)) + "\n",
        "../examples/dbt/models/semantic/semantic_models.yml": HEAD + "\n".join(_semantic_models(views)) + "\n",
        "../schemas/report_v1.osi.yaml": HEAD + "\n".join(_interchange(views)) + "\n",
    }


def _text(value: object) -> str:
    """A YAML value in one line: JSON."""
    return json.dumps(value, ensure_ascii=False)


def _sources(views: Mapping[str, View]) -> Iterator[str]:
    yield from ("version: 2", "", "sources:", "  - name: report_v1", f"    description: {_text(contract()['comment'])}")
    yield from ("    schema: \"{{ var('report_schema', 'report_v1') }}\"", "    tables:")
    for name, view in views.items():
        yield from (f"      - name: {name}", f"        description: {_text(view['comment'] + ' ' + view['meaning'])}")
        if "freshness" in view:
            yield "        config:"
            yield f"          loaded_at_field: {view['freshness']['column']}"
            yield "          freshness:"
            for action in ("warn", "error"):
                yield f"            {action}_after: {{count: {view['freshness'][f'{action}_hours']}, period: hour}}"
        yield "        data_tests:"
        yield f"          - unique_rows: {{arguments: {{columns: {_text(view['key'])}}}}}"
        required = [column["name"] for column in view["columns"] if column["name"] not in view["nullable"]]
        yield f"          - never_null: {{arguments: {{columns: {_text(required)}}}}}"
        for reference in view["references"]:
            if len(reference["columns"]) > 1:
                to = f"source('report_v1', '{reference['view']}')"
                yield f"          - refers_to: {{arguments: {{columns: {_text(reference['columns'])}, to: {_text(to)}}}}}"
        yield "        columns:"
        for column in view["columns"]:
            yield f"          - name: {column['name']}"
            yield f"            data_type: {column['type']}"
            yield f"            description: {_text(column['comment'])}"
            if tests := list(_column_tests(view, column["name"])):
                yield "            data_tests:"
                yield from (f"              - {test}" for test in tests)


def _column_tests(view: View, column: str) -> Iterator[str]:
    if column in view["values"]:
        yield f"accepted_values: {{arguments: {{values: {_text(view['values'][column])}}}}}"
    for reference in view["references"]:
        if reference["columns"] == [column]:
            to = f"source('report_v1', '{reference['view']}')"
            yield f"relationships: {{arguments: {{to: {_text(to)}, field: {column}}}}}"


def _semantic_models(views: Mapping[str, View]) -> Iterator[str]:
    yield "semantic_models:"
    for name, condition in FACTS.items():
        view = views[name]
        key = [column for column in view["key"] if not (condition and column == "level")]
        yield from (f"  - name: {name}", f"    description: {_text(view['comment'] + ' ' + view['meaning'])}")
        yield from (
            f"    model: ref('stg_{name}')",
            "    defaults: {agg_time_dimension: date_day}",
            "    primary_entity: " + name,
        )
        yield from ("    entities:", "      - {name: company, type: foreign, expr: company_id}", "    dimensions:")
        yield "      - {name: date_day, type: time, expr: day, type_params: {time_granularity: day}}"
        for column in view["columns"]:
            if (
                column["name"] != "day"
                and (column["name"] in key or column["name"] in view["values"])
                and column["name"] != "level"
            ):
                yield f"      - {{name: {column['name']}, type: categorical, description: {_text(column['comment'])}}}"
        yield "    measures:"
        for column in view["columns"]:
            if column["name"] in view["measures"]:
                yield f"      - {{name: {column['name']}, agg: sum, description: {_text(column['comment'])}}}"
    yield from ("", "metrics:")
    for name in FACTS:
        for column in views[name]["columns"]:
            if column["name"] in views[name]["measures"]:
                yield from _metric(column["name"], column["comment"], "simple", f"{{measure: {column['name']}}}")
        for ratio in views[name]["ratios"]:
            parts = f"{{numerator: {ratio['numerator']}, denominator: {ratio['denominator']}}}"
            yield from _metric(ratio["name"], ratio["comment"], "ratio", parts)


def _metric(name: str, comment: str, kind: str, parameters: str) -> Iterator[str]:
    yield from (f"  - name: {name}", f"    label: {_text(name.replace('_', ' ').capitalize())}")
    yield from (f"    description: {_text(comment)}", f"    type: {kind}", f"    type_params: {parameters}")


def _interchange(views: Mapping[str, View]) -> Iterator[str]:
    """Open Semantic Interchange, version 1.0."""
    yield from (
        "semantic_model:",
        "  - name: replyrate",
        f"    description: {_text(contract()['comment'])}",
        "    datasets:",
    )
    for name in (*FACTS, *DIMENSIONS):
        view, condition = views[name], FACTS.get(name)
        source = f"SELECT * FROM report_v1.{name} WHERE {condition}" if condition else f"report_v1.{name}"  # noqa: S608 -- of this module
        yield from (f"      - name: {name}", f"        source: {_text(source)}")
        yield from (
            f"        primary_key: {_text(view['key'])}",
            f"        description: {_text(view['comment'])}",
            "        fields:",
        )
        for column in view["columns"]:
            is_time = column["type"] in ("date", "timestamp with time zone")
            yield from (f"          - name: {column['name']}", f"            expression: {_expression(column['name'])}")
            yield f"            description: {_text(column['comment'])}"
            if column["name"] not in view.get("measures", ()):
                yield f"            dimension: {{is_time: {_text(is_time)}}}"
    yield "    relationships:"
    for name in FACTS:
        for reference in views[name]["references"]:
            if reference["view"] in DIMENSIONS:
                yield f"      - name: {name}_{reference['view']}"
                yield from (f"        from: {name}", f"        to: {reference['view']}")
                yield from (f"        {side}_columns: {_text(reference['columns'])}" for side in ("from", "to"))
    yield "    metrics:"
    for name in FACTS:
        for column in views[name]["columns"]:
            if column["name"] in views[name]["measures"]:
                total = f"SUM({name}.{column['name']})"
                yield from (f"      - name: {column['name']}", f"        expression: {_expression(total)}")
                yield f"        description: {_text(column['comment'])}"
        for ratio in views[name]["ratios"]:
            division = f"SUM({name}.{ratio['numerator']}) * 1.0 / NULLIF(SUM({name}.{ratio['denominator']}), 0)"
            yield from (f"      - name: {ratio['name']}", f"        expression: {_expression(division)}")
            yield f"        description: {_text(ratio['comment'])}"


def _expression(text: str) -> str:
    return f"{{dialects: [{{dialect: ANSI_SQL, expression: {_text(text)}}}]}}"
