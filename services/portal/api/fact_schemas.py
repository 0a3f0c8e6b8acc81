"""The shapes of facts about inquiries, as the document of the API describes them: from the schemas of the events (schemas/events).

A fact is a whole event, or its `data` with a `type`; then instants may have any offset, since they are published in UTC.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from services.common.tables import read_json

EVENTS: Final = {
    "Inquiry": ("inquiry-received.v1", "inquiry"),
    "Status": ("inquiry-status-changed.v1", "status"),
    "Reply": ("reply-recorded.v1", "reply"),
}
"""Beginning of the names of the schemas → file of the event, and `type` of the fact."""
DEFAULT: Final = "inquiry"
"""Type of a fact that names none."""
_INSTANT: Final = {"type": "string", "format": "date-time"}
_ADDRESSES: Final = (
    "E-mail addresses of the buyer; a fact with another text is refused. Read as a set; repeats are valid, and count."
)
"""The matcher drops such a text, and counts it."""
_INSTANTS: Final = {
    "received_at": "When the buyer sent it; the clock starts here.",
    "at": "When the status changed.",
    "replied_at": "When the seller replied.",
}
_ENVELOPE: Final = "envelope.schema.json"


def fact_schemas() -> dict[str, Any]:
    """The schemas by name, `InquiryFact` and `InquiryEvent` for example, and those that they refer to."""
    schemas: dict[str, Any] = {}
    envelope = read_json("schemas", f"events/{_ENVELOPE}")
    for name, (file, kind) in EVENTS.items():
        event = read_json("schemas", f"events/{file}.schema.json")
        for inner, schema in event["$defs"].items():
            schemas[f"{name}Data" if inner == "data" else inner.title()] = _resolved(name, schema, envelope)
        schemas[f"{name}Fact"] = _fact(name, kind, event["description"], schemas[f"{name}Data"])
        members = {**envelope["properties"], **event["properties"]}
        whole = {
            **envelope,
            "title": f"{name}Event",
            "description": f"{event['description']} CloudEvents 1.0.",
            "properties": members,
        }
        schemas[f"{name}Event"] = _resolved(name, {key: whole[key] for key in whole if key[0] != "$"}, envelope)
    schemas["Buyer"]["properties"]["addresses"]["description"] = _ADDRESSES
    return schemas


FACT: Final[dict[str, Any]] = {
    "description": "An event of the topic inquiries.v1 (schemas/events, CloudEvents 1.0), or only its `data` with a `type`:"
    " inquiry (default), status or reply. A fact without an event id gets one from its content.",
    "anyOf": [
        {"$ref": f"#/components/schemas/{name}{form}"} for form in ("Fact", "Event") for name in EVENTS
    ],
}  # fmt: skip
"""A fact of any of these shapes."""


def _fact(name: str, kind: str, description: str, data: Mapping[str, Any]) -> dict[str, Any]:
    members = {
        member: {**_INSTANT, "description": _INSTANTS[member]} if member in _INSTANTS else schema
        for member, schema in data["properties"].items()
    }
    is_default = kind == DEFAULT
    return {
        **data,
        "title": f"{name}Fact",
        "description": f"{description} Unknown fields are ignored.",
        "required": [*data["required"], *([] if is_default else ["type"])],
        "properties": {"type": {"const": kind, **({"default": kind} if is_default else {})}, **members},
    }


def _resolved(name: str, schema: Any, envelope: Mapping[str, Any]) -> Any:
    """A schema whose references lead into the document of the API, and in which null is a choice of its own."""
    if isinstance(schema, list):
        return [_resolved(name, entry, envelope) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    resolved = {key: _resolved(name, value, envelope) for key, value in schema.items() if key != "$ref"}
    if "$ref" in schema:
        inner = schema["$ref"].rpartition("/")[2]
        if not schema["$ref"].startswith(_ENVELOPE) and inner not in envelope["$defs"]:
            return {"$ref": f"#/components/schemas/{f'{name}Data' if inner == 'data' else inner.title()}"}
        resolved = {**_resolved(name, envelope["$defs"][inner], envelope), **resolved}
    return dict(_nullable(resolved))


def _nullable(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    types = schema.get("type")
    if not isinstance(types, list):
        yield from schema.items()
        return
    value = {key: entry for key, entry in schema.items() if key not in ("type", "description")}
    yield "anyOf", [{"type": types[0], **value}, {"type": "null"}]
    if "description" in schema:
        yield "description", schema["description"]
