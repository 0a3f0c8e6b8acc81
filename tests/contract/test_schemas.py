"""The types of the code and the published schemas say the same: on every example, on generated and on broken records."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from examples import check_events
from services.common import codec
from services.common.errors import InvalidEvent
from services.common.events import TYPES
from services.common.topics import INPUT_BYTES
from tests.support import strategies

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
EXAMPLES = sorted((SCHEMAS / "examples").glob("*/*/*.json"))
FILES = {file.name: json.loads(file.read_text()) for file in sorted((SCHEMAS / "events").glob("*.json"))}
EVERY = frozenset(TYPES)
CHECKER = check_events.Checker(check_events.schemas())
SHORT = {name.split(".")[1]: name for name in TYPES}


def verdict(record: bytes) -> str:
    """`valid`, or the codec's reason."""
    try:
        codec.decode(record, accept=EVERY)
    except InvalidEvent as error:
        return error.reason
    return "valid"


def published(record: bytes) -> list[str]:
    """Reasons that the published schemas (and what they cannot say) give against a record."""
    return [reason for reason, _ in CHECKER.problems(record, EVERY)]


def test_one_schema_per_type_and_nothing_else() -> None:
    assert set(FILES) == {"envelope.schema.json", *(f"{name.removeprefix('replyrate.')}.schema.json" for name in TYPES)}
    for name in TYPES:
        schema = FILES[f"{name.removeprefix('replyrate.')}.schema.json"]
        assert schema["properties"]["type"] == {"const": name}


@pytest.mark.parametrize("name", FILES)
def test_a_schema_is_a_schema_and_finds_what_it_refers_to(name: str) -> None:
    Draft202012Validator.check_schema(FILES[name])
    assert FILES[name]["$id"].endswith(f"/{name}")
    registry: Registry[Any] = Registry().with_resources(
        (schema["$id"], Resource.from_contents(schema)) for schema in FILES.values()
    )
    resolver = registry.resolver(FILES[name]["$id"])
    for reference in references(FILES[name]):
        resolver.lookup(reference)


def references(value: object) -> list[str]:
    """Every $ref in a document."""
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [reference for part in value.values() for reference in references(part)]
    return [reference for part in value for reference in references(part)] if isinstance(value, list) else []


@pytest.mark.parametrize("name", TYPES)
def test_schema_and_type_have_the_same_fields_and_required_ones(name: str) -> None:
    schema = FILES[f"{name.removeprefix('replyrate.')}.schema.json"]
    compare(TYPES[name], schema["$defs"]["data"], schema)


def compare(cls: type[msgspec.Struct], part: dict[str, Any], schema: dict[str, Any]) -> None:
    """Field names and required ones, also of the objects inside."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(cls)}
    assert list(part["properties"]) == list(fields)
    assert part["required"] == [name for name, field in fields.items() if field.required]
    for name, field in fields.items():
        declared = part["properties"][name]
        declared = declared.get("items", declared)
        inner = struct_in(field.type)
        if inner is not None:
            compare(inner, schema["$defs"][declared["$ref"].rpartition("/")[2]], schema)


def struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """The struct somewhere inside a type."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    inner = (struct_in(part) for part in getattr(kind, "__args__", ()))
    return next((struct for struct in inner if struct is not None), None)


def test_every_event_has_valid_and_invalid_examples() -> None:
    for verdict_ in ("valid", "invalid"):
        assert {file.parent.name for file in EXAMPLES if file.parts[-3] == verdict_} == set(SHORT)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: "/".join(file.parts[-3:]))
def test_an_example_is_what_its_name_says(file: Path) -> None:
    sort, event, name = file.parts[-3], file.parts[-2], file.stem
    record = file.read_bytes()
    expected = "valid" if sort == "valid" else name.partition("--")[0]
    assert expected in ("valid", "not-json", "schema", "limit")
    assert verdict(record) == expected
    assert published(record) == ([] if sort == "valid" else [expected])
    assert len(record) < INPUT_BYTES
    if expected == "valid":
        assert json.loads(record)["type"] == SHORT[event]


@pytest.mark.parametrize(
    "file", [file for file in EXAMPLES if file.stem.startswith(("schema--", "limit--"))], ids=lambda file: file.stem
)
def test_the_detail_names_the_field_of_the_file_name_and_no_value(file: Path) -> None:
    with pytest.raises(InvalidEvent) as caught:
        codec.decode(file.read_bytes(), accept=EVERY)
    detail = caught.value.detail
    assert "@" not in detail
    assert "1001" not in detail
    path = detail.partition(":")[0].split(".")
    named = [name.partition("[")[0] for name in (path[-1], *detail.split("`")[1:2])]
    assert any(name in file.stem.replace("-", "_") for name in named), detail


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
def test_both_accept_what_is_generated(name: str, data: st.DataObject) -> None:
    record = data.draw(strategies.records(TYPES[name]))
    assert verdict(record) == "valid"
    assert published(record) == []


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
def test_both_agree_on_what_is_broken(name: str, data: st.DataObject) -> None:
    broken = data.draw(strategies.broken(TYPES[name]))
    ours, theirs = verdict(broken.record), published(broken.record)
    # The codec stops at the first problem, the schemas report all of them.
    assert ours in (theirs or ["valid"]), broken.change


@given(data=st.data())
def test_both_agree_on_bytes_cut_or_changed(data: st.DataObject) -> None:
    record = data.draw(strategies.records())
    at = data.draw(st.integers(0, len(record) - 1))
    changed = data.draw(st.sampled_from([record[:at], record[at:], record[:at] + b"\xff" + record[at + 1 :]]))
    assert (verdict(changed) == "valid") == (published(changed) == [])
