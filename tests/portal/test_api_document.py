"""The document of the API: its examples, calls that follow from it, and no change that breaks a platform."""

import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from services.inquiries.facts import check
from services.portal.api import answers, problems
from services.portal.api.bulk_import import EXAMPLE, LINE, LINE_MODELS
from services.portal.api.fact_schemas import EVENTS
from services.portal.api.inquiries import ACCEPTED
from services.standalone.servers.paths import ROOT
from tests.portal import api_document
from tests.portal.breaking_changes import ITEM_SCHEMA, breaking_changes
from tests.portal.generated_calls import MANY_EXAMPLES, REQUESTS_PER_MINUTE, prepare, run
from tests.support.portal_lab import MakePortal, make_portal, portal_dsn

__all__ = ["make_portal", "portal_dsn"]

EXAMPLES = ROOT / "schemas" / "api_examples"
EXAMPLES_OF_CALLS = MANY_EXAMPLES if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 4
"""For each operation and phase."""
RELEASED = ROOT / "schemas" / "api.v1.released.yaml"


@cache
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(api_document.FILE.read_text("utf-8"))
    return loaded


def examples(kind: str) -> list[Any]:
    return [pytest.param(file, id=file.stem) for file in sorted((EXAMPLES / kind).glob("*.json"))]


def problems_of(example: Any, name: str) -> list[str]:
    """What in an example breaks a schema of the document."""
    schemas = document()["components"]
    validator = Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": schemas})
    return [error.message for error in validator.iter_errors(example)]


def problems_of_file(file: Path) -> list[str]:
    """The same of a file, by the schema that its name begins with: `Schema.what-is-special.json`."""
    return problems_of(json.loads(file.read_text("utf-8")), file.name.split(".")[0])


@pytest.mark.parametrize("file", examples("valid"))
def test_a_valid_example_passes(file: Path) -> None:
    assert problems_of_file(file) == []


@pytest.mark.parametrize("file", examples("invalid"))
def test_an_invalid_example_fails(file: Path) -> None:
    assert problems_of_file(file) != []


def names(schema: Mapping[str, Any]) -> Iterator[str]:
    """Names of the schemas that a body, or an entry of it, may have."""
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2]
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), schema.get("items", {})):
        yield from names(choice) if choice else ()


def test_every_document_that_a_platform_sends_has_examples_of_both_kinds() -> None:
    sent = {
        name
        for operations in document()["paths"].values()
        for operation in operations.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        for schema in (content["schema"], content.get(ITEM_SCHEMA, {}))
        for name in names(schema)
    }
    assert {"AccountValues", "MailboxLine", "InquiryFact", "StatusEvent"} < sent
    for kind in ("valid", "invalid"):
        there = {file.name.split(".")[0] for file in (EXAMPLES / kind).glob("*.json")}
        assert sent - there == set(), f"write an example: schemas/api_examples/{kind}/NAME.what-is-special.json"


@pytest.mark.parametrize(
    "file", [file for file in examples("valid") if file.id.split(".")[0].endswith(("Fact", "Event"))]
)
def test_a_valid_fact_may_be_published(file: Path) -> None:
    entry = json.loads(file.read_text("utf-8"))
    now = datetime.fromisoformat(entry.get("time", "2026-11-30T00:00:00Z"))
    facts, problems = check([(0, entry)], now, 30, accept=ACCEPTED)
    assert (len(facts), problems) == (1, [])


@pytest.mark.parametrize("file", [file for file in examples("valid") if file.id.split(".")[0].endswith("Line")])
def test_a_valid_line_may_be_imported(file: Path) -> None:
    line = LINE.validate_json(file.read_text("utf-8"))
    assert type(line).__name__ == file.name.split(".")[0]


EVENT_FILES = [
    pytest.param(name, file, id=file.stem)
    for name, (event, _) in EVENTS.items()
    for file in sorted((ROOT / "schemas" / "examples" / "valid" / event.partition(".")[0]).glob("*.json"))
]


@pytest.mark.parametrize(("name", "file"), EVENT_FILES)
def test_an_event_of_the_topic_has_the_shape_of_a_fact(name: str, file: Path) -> None:
    event = json.loads(file.read_text("utf-8"))
    assert problems_of(event, f"{name}Event") == []
    kind = {"type": EVENTS[name][1]}
    assert problems_of(event["data"] | kind, f"{name}Fact") == []


def test_the_lines_of_the_example_of_an_import_may_be_imported() -> None:
    assert [type(LINE.validate_json(line)) for line in EXAMPLE.splitlines()] == list(LINE_MODELS)


def test_every_answer_has_an_example() -> None:
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                for media_type, content in response.get("content", {}).items():
                    if status.startswith("2") and "$ref" in content.get("schema", {}):
                        name = content["schema"]["$ref"].rpartition("/")[2]
                        file = f"schemas/api_examples/valid/{name}.what-is-special.json"
                        assert content.get("examples"), f"{method} {path} {media_type}: {file}"


def test_every_problem_has_a_place_and_every_header_is_described_where_it_may_be() -> None:
    assert set(answers.PLACES) == set(problems.load()[0])
    described, used = document()["components"], set[str]()
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            statuses = set(operation["responses"])
            assert {"401", "421", "429", "500", "503"} < statuses, f"{method} {path}"
            assert ("409" in statuses) == any(
                "Idempotency-Key" in entry["name"] for entry in operation.get("parameters", ())
            )
            for response in operation["responses"].values():
                name = response.get("$ref", "").rpartition("/")[2]
                used |= set((described["responses"][name] if name else response).get("headers", {}))
    assert used == set(described["headers"]) == set(answers.HEADERS)
    codes = {code for name in described["responses"] for code in name.split(".")}
    assert set(answers.PLACES) - codes == {"not-found", "method-not-allowed"}


def test_nothing_breaks_a_platform_that_uses_the_last_release() -> None:
    released = yaml.safe_load(RELEASED.read_text("utf-8"))
    assert breaking_changes(released, document()) == []


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def with_operation(request: Mapping[str, Any] | None, answer: Mapping[str, Any], **operation: Any) -> dict[str, Any]:
    body = {} if request is None else {"requestBody": {"content": {"application/json": {"schema": request}}}}
    responses = {"200": {"content": {"application/json": {"schema": answer}}}}
    return {"paths": {"/x": {"post": {"responses": responses, **body, **operation}}}, "components": {"schemas": {}}}


TEXT = {"type": "string"}
OPTIONAL = {"anyOf": [TEXT, {"type": "null"}]}
"""An optional field, as pydantic writes it."""


def optional(**keywords: Any) -> dict[str, Any]:
    return {"anyOf": [{**TEXT, **keywords}, {"type": "null"}]}


def entries(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


def with_query(schema: Mapping[str, Any]) -> dict[str, Any]:
    return with_operation(None, TEXT, parameters=[{"name": "q", "in": "query", "schema": schema}])


def with_body(*, is_required: bool) -> dict[str, Any]:
    content = {"application/json": {"schema": TEXT}}
    return with_operation(None, TEXT, requestBody={"required": is_required, "content": content})


def with_lines(*choices: Mapping[str, Any]) -> dict[str, Any]:
    content = {"application/x-ndjson": {"schema": TEXT, ITEM_SCHEMA: {"oneOf": list(choices)}}}
    return with_operation(None, TEXT, requestBody={"content": content})


def with_answers(*statuses: str) -> dict[str, Any]:
    return with_operation(None, TEXT, responses={status: {"description": "Done"} for status in statuses})


def with_header(header: Mapping[str, Any] | None) -> dict[str, Any]:
    """An operation whose answer is a component, with a header that is another one."""
    described = {} if header is None else {"ETag": header}
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in described}
    response = {"description": "Done", "headers": headers}
    document = with_operation(None, TEXT, responses={"200": {"$ref": "#/components/responses/done"}})
    return {**document, "components": {"schemas": {}, "headers": described, "responses": {"done": response}}}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (with_operation(None, schema(a=TEXT)), {"paths": {}, "components": {"schemas": {}}}, "is gone"),
        (with_operation(None, schema(a=TEXT, b=TEXT)), with_operation(None, schema(a=TEXT)), "answer"),
        (with_operation(None, schema(a=TEXT)), with_operation(None, schema(a={"type": "integer"})), "answer"),
        (with_operation(schema(a=TEXT), TEXT), with_operation(schema(a=TEXT, b=TEXT), TEXT), "request"),
        (with_operation(schema(a=TEXT), TEXT), with_operation(schema(), TEXT), "request"),
        (with_operation(schema(a=TEXT), TEXT), with_operation(schema(a={"type": "string", "maxLength": 3}), TEXT), "request"),
        (with_operation(schema(a={"enum": ["x", "y"]}), TEXT), with_operation(schema(a={"enum": ["x"]}), TEXT), "request"),
        (with_operation(None, TEXT), with_operation(None, TEXT, parameters=[{"name": "q", "in": "query", "required": True, "schema": TEXT}]), "parameter"),
        (with_operation(None, schema(a=TEXT)), with_operation(None, schema(a=OPTIONAL)), "answer 200: a: null is not allowed"),
        (with_operation(None, schema(a=entries(TEXT))), with_operation(None, schema(a=entries(OPTIONAL))), "answer 200: a: an entry: null is not allowed"),
        (with_operation(schema(a=OPTIONAL), TEXT), with_operation(schema(a=TEXT), TEXT), "request: a: null is not allowed"),
        (with_query(OPTIONAL), with_query(TEXT), "parameter q: null is not allowed"),
        (with_operation(schema(a=optional(maxLength=9)), TEXT), with_operation(schema(a=optional(maxLength=3)), TEXT), "request: a: maxLength is narrower"),
        (with_operation(schema(a=optional(enum=["x", "y"])), TEXT), with_operation(schema(a=optional(enum=["x"])), TEXT), "request: a: only some of the values are allowed"),
        (with_operation(schema(a=OPTIONAL), TEXT), with_operation(schema(a=optional(format="date-time")), TEXT), "request: a: the format is another"),
        (with_operation(None, schema(a=TEXT)), with_operation(None, schema(a={})), "answer 200: a: anything is not allowed"),
        (with_operation({**schema(a=TEXT), "required": []}, TEXT), with_operation(schema(a=TEXT), TEXT), "request: a is required"),
        (with_body(is_required=False), with_body(is_required=True), "request needs a body now"),
        (with_answers("200", "204"), with_answers("200"), "answer 204 is gone"),
        (with_header({"required": True}), with_header(None), "answer 200: header ETag is gone"),
        (with_header({"required": True}), with_header({"required": False}), "answer 200: header ETag may be missing"),
        (with_lines(schema(a=TEXT)), with_lines(schema(a=TEXT, b=TEXT)), "a line: b is required"),
        (with_lines(schema(a={"const": "x"}), schema(a={"const": "y"})), with_lines(schema(a={"const": "x"})), "a line: a: the const is another"),
        (with_lines(schema(a=TEXT)), with_operation(None, TEXT, requestBody={"content": {"application/x-ndjson": {"schema": TEXT}}}), "not described"),
    ],
)  # fmt: skip
def test_a_breaking_change_is_recognised(before: Any, after: Any, expected: str) -> None:
    (change,) = breaking_changes(before, after)
    assert expected in change


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (with_operation(None, schema(a=TEXT)), with_operation(None, schema(a=TEXT, b=TEXT))),
        (with_operation(schema(a=TEXT), TEXT), with_operation({**schema(a=TEXT, b=TEXT), "required": ["a"]}, TEXT)),
        (with_operation(schema(a={"enum": ["x"]}), TEXT), with_operation(schema(a={"enum": ["x", "y"]}), TEXT)),
        (with_operation(None, TEXT), with_operation(None, TEXT, parameters=[{"name": "q", "in": "query", "schema": TEXT}])),
        (with_operation(None, schema(a=OPTIONAL)), with_operation(None, schema(a=TEXT))),
        (with_operation(schema(a=TEXT), TEXT), with_operation(schema(a=OPTIONAL), TEXT)),
        (with_operation(schema(a=optional(maxLength=3)), TEXT), with_operation(schema(a={"anyOf": [{"type": "null"}, TEXT]}), TEXT)),
        (with_operation(schema(a={"type": "integer"}), TEXT), with_operation(schema(a={"type": "number"}), TEXT)),
        (with_answers("200"), with_answers("200", "204")),
        (with_header(None), with_header({"required": True})),
        (with_header({"required": False}), with_header(None)),
    ],
)  # fmt: skip
def test_an_addition_is_no_breaking_change(before: Any, after: Any) -> None:
    assert breaking_changes(before, after) == []


def test_the_table_of_generated_calls_names_every_operation() -> None:
    page = (ROOT / "docs" / "dev" / "testing.md").read_text("utf-8")
    for path, operations in document()["paths"].items():
        for method in operations:
            assert f"\n| {method.upper()} {path} | " in page, "python -m tests.portal.generated_calls prints the table"


@pytest.mark.timeout(3600 if EXAMPLES_OF_CALLS == MANY_EXAMPLES else 900)
def test_generated_calls_meet_no_server_error(
    make_portal: MakePortal, dsn: str, topics_gone: str, tmp_path: Path
) -> None:
    secret = prepare(dsn, topics_gone)
    with make_portal(PORTAL__API_REQUESTS_PER_MINUTE=REQUESTS_PER_MINUTE) as portal:
        counts = run(portal.origin, secret, tmp_path, examples=EXAMPLES_OF_CALLS)
    print(counts.table())
    assert counts.exit_code == 0, counts.output[-6000:]
    assert counts.server_errors == 0
    assert counts.calls > (10_000 if EXAMPLES_OF_CALLS == MANY_EXAMPLES else 1_000)
    assert counts.without_success() == []
