"""Print which records of a file are invalid, and why. Works offline; needs the Python package `jsonschema` and the folder schemas/.

    python examples/check_events.py FILE [--any-type]

FILE has one record (the JSON text of one event) per line; `-` is standard input. Exit 0: all are valid, 1: some are
not, 2: FILE cannot be read. Without --any-type only the events that a platform publishes to `inquiries.v1` are valid.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, relevance
from jsonschema.validators import extend
from referencing import Registry, Resource

PLATFORM_TYPES = (
    "replyrate.inquiry-received.v1",
    "replyrate.inquiry-status-changed.v1",
    "replyrate.reply-recorded.v1",
    "replyrate.company-erased.v1",
)
MAX_RECORD_BYTES = 64 * 1024
LEAD = timedelta(days=1)
LIMITS = {"maxLength", "maxItems"}
Problem = tuple[str, str]
"""Reason (`not-json`, `schema`, `limit`), and the field with the rule; never a value."""


def _integer(_: object, value: object) -> bool:
    # JSON Schema accepts 1.0 as an integer; replyrate does not.
    return isinstance(value, int) and not isinstance(value, bool)


Validator: type[Draft202012Validator] = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _integer)
)


class Checker:
    """Validates records against the schemas of one folder."""

    def __init__(self, folder: Traversable | Path) -> None:
        schemas = [json.loads(file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".json")]
        registry: Registry[Any] = Registry().with_resources(
            (schema["$id"], Resource.from_contents(schema)) for schema in schemas
        )
        self._validators = {
            schema["properties"]["type"]["const"]: Validator(schema, registry=registry)
            for schema in schemas
            if "const" in schema["properties"]["type"]
        }
        envelope = next(schema for schema in schemas if schema["title"] == "Envelope")
        self._envelope = Validator(envelope, registry=registry)
        self.types = tuple(sorted(self._validators))

    def problems(self, record: bytes, accept: Iterable[str]) -> list[Problem]:
        """What is wrong with `record`; empty when it is valid and its type is in `accept`."""
        try:
            event = json.loads(record.decode(), parse_constant=_no_constant)
            json.dumps(event, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            return [("not-json", "the record is not a JSON document in UTF-8")]
        accept = tuple(accept)
        kind = event.get("type") if isinstance(event, dict) else None
        validator = self._validators.get(kind, self._envelope) if isinstance(kind, str) else self._envelope
        problems = [_problem(error) for error in sorted(validator.iter_errors(event), key=relevance, reverse=True)]
        if isinstance(kind, str) and kind not in accept:
            problems.append(("schema", f"type: expected one of {', '.join(accept)}"))
        if not problems:
            problems = list(_instants(event))
        return list(dict.fromkeys(problems))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _problem(error: ValidationError) -> Problem:
    """A violation in our own words: the message of jsonschema would repeat the value, which may be an address."""
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    rule: Any = error.validator_value
    match error.validator:
        case "required":
            missing = [name for name in rule if isinstance(error.instance, Mapping) and name not in error.instance]
            text = f"required and missing: {', '.join(missing)}"
        case "type":
            text = f"must be {rule if isinstance(rule, str) else ' or '.join(rule)}"
        case "enum" | "const":
            allowed = rule if isinstance(rule, list) else [rule]
            text = f"must be one of {', '.join(map(str, filter(None, allowed)))}"
        case "maxLength":
            text = f"longer than {rule} characters"
        case "minLength":
            text = "must not be empty"
        case "minimum":
            text = f"must be at least {rule}"
        case "maxItems":
            text = f"more than {rule} entries, as sent"
        case "pattern":
            text = _pattern(error)
        case _:
            text = f"breaks {error.validator}"
    too_early = error.validator == "pattern" and "2000" in text
    return ("limit" if error.validator in LIMITS or too_early else "schema", f"{field or 'record'}: {text}")


def _pattern(error: ValidationError) -> str:
    schema = error.schema
    if isinstance(schema, Mapping) and schema.get("format") == "date-time":
        if str(error.instance)[:1] in ("0", "1") and _moment(str(error.instance)) is not None:
            return "an instant before 2000-01-01"
        return "must be an instant like 2026-01-31T08:00:00Z, in UTC with Z, at most microseconds"
    if "A-Z" in str(error.validator_value):
        return "must be two upper-case letters"
    if "0-9a-f" in str(error.validator_value):
        return "must be 32 lower-case hex digits"
    return "must not contain control characters"


def _instants(event: Mapping[str, Any]) -> Iterator[Problem]:
    """What a schema cannot check: days that do not exist, and instants more than a day after the envelope."""
    written = _moment(event["time"])
    if written is None:
        yield "schema", "time: no such day"
        return
    for field, text in _instants_in(event["data"], "data"):
        at = _moment(text)
        if at is None:
            yield "schema", f"{field}: no such day"
        elif at - written > LEAD:
            yield "limit", f"{field}: more than a day after the record's own time"


def _instants_in(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            if name in INSTANT_FIELDS and isinstance(part, str):
                yield f"{path}.{name}", part
            elif name in NESTED_FIELDS:
                yield from _instants_in(part, f"{path}.{name}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _instants_in(part, f"{path}[{index}]")


INSTANT_FIELDS = {
    "at", "received_at", "replied_at", "sent_at",
    "date_header", "internal_date", "save_date", "filed_after", "filed_before",
}  # fmt: skip
NESTED_FIELDS = {"statuses", "replies"}


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def schemas() -> Traversable | Path:
    """schemas/events of the checkout that contains this file, else of the installed package."""
    beside = Path(__file__).resolve().parent.parent / "schemas" / "events"
    return beside if beside.is_dir() else resources.files("schemas") / "events"


def main(arguments: list[str] | None = None) -> int:
    """Print the problems, line by line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", metavar="FILE", help="one record per line; - is standard input")
    parser.add_argument(
        "--any-type", action="store_true", help="accept the events that replyrate itself publishes, too"
    )
    options = parser.parse_args(arguments)
    checker = Checker(schemas())
    accept = checker.types if options.any_type else PLATFORM_TYPES
    total = bad = 0
    try:
        with sys.stdin.buffer if options.file == "-" else open(options.file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                record = line.strip(b"\r\n \t")
                if not record:
                    continue
                total += 1
                problems = checker.problems(record, accept)
                if len(record) > MAX_RECORD_BYTES and not options.any_type:
                    problems.insert(0, ("limit", f"record: more than {MAX_RECORD_BYTES} bytes"))
                bad += bool(problems)
                for reason, detail in problems:
                    print(f"line {number}: {reason}: {detail}")
    except OSError as error:
        print(f"cannot read {options.file}: {error.strerror}", file=sys.stderr)
        return 2
    print(f"{total} records, {bad} invalid")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
