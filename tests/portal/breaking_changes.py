"""Compares two documents of the API: what breaks a platform that was written for the first one."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

Document = Mapping[str, Any]
METHODS: Final = ("get", "put", "post", "delete", "patch")
NARROWER: Final = {"maxLength": -1, "maximum": -1, "maxItems": -1, "minLength": 1, "minimum": 1, "minItems": 1}
"""Keyword of a limit → in which direction it narrows what is allowed."""


def breaking_changes(before: Document, after: Document) -> list[str]:
    """One sentence for each change that breaks a client of `before`."""
    changes = []
    for path, operations in before["paths"].items():
        for method in METHODS:
            if method in operations:
                following = after["paths"].get(path, {}).get(method)
                place = f"{method.upper()} {path}"
                if following is None:
                    changes.append(f"{place} is gone")
                else:
                    changes += _of_operation(place, before, operations[method], after, following)
    return changes


def _of_operation(place: str, before: Document, old: Document, after: Document, new: Document) -> Iterator[str]:
    old_parameters = {(entry["in"], entry["name"]): entry for entry in old.get("parameters", [])}
    new_parameters = {(entry["in"], entry["name"]): entry for entry in new.get("parameters", [])}
    for key, entry in old_parameters.items():
        if key not in new_parameters:
            yield f"{place}: parameter {key[1]} is gone"
        else:
            yield from _narrowed(
                f"{place}: parameter {key[1]}", before, entry["schema"], after, new_parameters[key]["schema"]
            )
    for key, entry in new_parameters.items():
        if entry.get("required") and not old_parameters.get(key, {}).get("required"):
            yield f"{place}: parameter {key[1]} is required now"
    for media_type, content in old.get("requestBody", {}).get("content", {}).items():
        following = new.get("requestBody", {}).get("content", {}).get(media_type)
        if following is None:
            yield f"{place}: request of type {media_type} is not taken any more"
        else:
            yield from _narrowed(f"{place}: request", before, content["schema"], after, following["schema"])
    if "requestBody" not in old and new.get("requestBody", {}).get("required"):
        yield f"{place}: request needs a body now"
    for status, response in old["responses"].items():
        for media_type, content in response.get("content", {}).items():
            following = new["responses"].get(status, {}).get("content", {}).get(media_type)
            if following is None:
                yield f"{place}: answer {status} of type {media_type} is gone"
            else:
                # An answer may be narrower than it was, so the roles are exchanged.
                yield from _narrowed(
                    f"{place}: answer {status}", after, following["schema"], before, content["schema"], is_answer=True
                )


def _narrowed(
    place: str, wide: Document, allowed: Document, narrow: Document, required: Document, *, is_answer: bool = False
) -> Iterator[str]:
    """Where a value that `allowed` permits is not permitted by `required`.

    An answer may get further members and further values of a list, which a platform ignores.
    """
    allowed, required = _resolved(wide, allowed), _resolved(narrow, required)
    choices = {_kind(narrow, choice) for choice in _choices(required)}
    for choice in _choices(allowed):
        if choices and _kind(wide, choice) not in choices:
            yield f"{place}: {_kind(wide, choice)} is not allowed"
    if "type" in required and "type" in allowed and allowed["type"] != required["type"]:
        yield f"{place}: {allowed['type']} is not allowed, only {required['type']}"
        return
    if not is_answer and "enum" in required and not set(allowed.get("enum", [None])) <= set(required["enum"]):
        yield f"{place}: only some of the values are allowed"
    for keyword, direction in NARROWER.items():
        if keyword in required and (keyword not in allowed or (required[keyword] - allowed[keyword]) * direction > 0):
            yield f"{place}: {keyword} is narrower"
    if "pattern" in required and required["pattern"] != allowed.get("pattern"):
        yield f"{place}: the pattern is another"
    gone = set(required.get("required", [])) - set(allowed.get("required", []))
    members, checked = allowed.get("properties", {}), required.get("properties", {})
    if not is_answer and (checked or required.get("type") == "object"):
        gone |= set(members) - set(checked)
    for name in sorted(gone):
        yield f"{place}: {name} is {'missing' if is_answer or name in members else 'required'}"
    for name in members.keys() & checked.keys():
        yield from _narrowed(f"{place}: {name}", wide, members[name], narrow, checked[name], is_answer=is_answer)
    if "items" in allowed and "items" in required:
        yield from _narrowed(
            f"{place}: an entry", wide, allowed["items"], narrow, required["items"], is_answer=is_answer
        )


def _resolved(document: Document, schema: Document) -> Document:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _choices(schema: Document) -> list[Document]:
    return list(schema.get("anyOf", schema.get("oneOf", [])))


def _kind(document: Document, schema: Document) -> Any:
    resolved = _resolved(document, schema)
    return schema.get("$ref", resolved.get("type", "anything"))
