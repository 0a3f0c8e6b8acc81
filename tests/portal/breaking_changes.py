"""Compares two documents of the API: what breaks a platform that was written for the first one."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

Document = Mapping[str, Any]
METHODS: Final = ("get", "put", "post", "delete", "patch")
ITEM_SCHEMA: Final = "x-itemSchema"
"""Beside the schema of a body of lines: that of one line."""
NARROWER: Final = {"maxLength": -1, "maximum": -1, "maxItems": -1, "minLength": 1, "minimum": 1, "minItems": 1}
"""Keyword of a limit → in which direction it narrows what is allowed."""
FIXED: Final = ("const", "pattern", "format")
"""Keywords of which another value is taken as narrower."""
INCLUDED: Final = {"number": "integer"}
"""Type → another one whose values it has."""


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
        elif ITEM_SCHEMA in content and ITEM_SCHEMA not in following:
            yield f"{place}: a line is not described any more"
        else:
            yield from _narrowed(f"{place}: request", before, content["schema"], after, following["schema"])
            if ITEM_SCHEMA in content:
                yield from _narrowed(f"{place}: a line", before, content[ITEM_SCHEMA], after, following[ITEM_SCHEMA])
    if new.get("requestBody", {}).get("required") and not old.get("requestBody", {}).get("required"):
        yield f"{place}: request needs a body now"
    for status, response in old["responses"].items():
        if status not in new["responses"]:
            yield f"{place}: answer {status} is gone"
            continue
        old_answer = _component(before, "responses", response)
        new_answer = _component(after, "responses", new["responses"][status])
        for name, header in old_answer.get("headers", {}).items():
            following = new_answer.get("headers", {}).get(name)
            if not _component(before, "headers", header).get("required"):
                continue
            if following is None:
                yield f"{place}: answer {status}: header {name} is gone"
            elif not _component(after, "headers", following).get("required"):
                yield f"{place}: answer {status}: header {name} may be missing"
        for media_type, content in old_answer.get("content", {}).items():
            following = new_answer.get("content", {}).get(media_type)
            if following is None:
                yield f"{place}: answer {status} of type {media_type} is gone"
            else:
                # An answer may be narrower than it was, so the roles are exchanged.
                yield from _narrowed(
                    f"{place}: answer {status}", after, following["schema"], before, content["schema"], is_answer=True
                )


def _component(document: Document, kind: str, entry: Document) -> Document:
    """An entry, or the component that it refers to."""
    if "$ref" not in entry:
        return entry
    component: Document = document["components"][kind][entry["$ref"].rpartition("/")[2]]
    return component


def _narrowed(
    place: str, wide: Document, allowed: Document, narrow: Document, required: Document, *, is_answer: bool = False
) -> Iterator[str]:
    """Where a value that `allowed` permits is not permitted by `required`.

    Each kind of value is compared with the closest kind on the other side: an optional field is a choice of its type and null. An answer
    may get further members and further values of a list, which a platform ignores.
    """
    choices = _choices(narrow, required)
    for choice in _choices(wide, allowed):
        compared = [
            list(_narrowed_choice(place, wide, choice, narrow, candidate, is_answer=is_answer))
            for candidate in choices
            if _is_same_type(choice, candidate)
        ]
        yield from min(compared, key=len, default=[f"{place}: {choice.get('type', 'anything')} is not allowed"])


def _narrowed_choice(
    place: str, wide: Document, allowed: Document, narrow: Document, required: Document, *, is_answer: bool
) -> Iterator[str]:
    """`_narrowed` for two schemas of the same type."""
    if not is_answer and "enum" in required and not set(allowed.get("enum", [None])) <= set(required["enum"]):
        yield f"{place}: only some of the values are allowed"
    for keyword, direction in NARROWER.items():
        if keyword in required and (keyword not in allowed or (required[keyword] - allowed[keyword]) * direction > 0):
            yield f"{place}: {keyword} is narrower"
    for keyword in FIXED:
        if keyword in required and required[keyword] != allowed.get(keyword):
            yield f"{place}: the {keyword} is another"
    members, checked = allowed.get("properties", {}), required.get("properties", {})
    needed = set(required.get("required", [])) - set(allowed.get("required", []))
    for name in sorted(needed):
        yield f"{place}: {name} is {'missing' if is_answer else 'required'}"
    if not is_answer and (checked or required.get("type") == "object"):
        for name in sorted(members.keys() - checked.keys() - needed):
            yield f"{place}: {name} is not taken any more"
    for name in sorted(members.keys() & checked.keys()):
        yield from _narrowed(f"{place}: {name}", wide, members[name], narrow, checked[name], is_answer=is_answer)
    for keyword in ("items", "additionalProperties"):
        if isinstance(allowed.get(keyword), Mapping) and isinstance(required.get(keyword), Mapping):
            yield from _narrowed(
                f"{place}: an entry", wide, allowed[keyword], narrow, required[keyword], is_answer=is_answer
            )


def _choices(document: Document, schema: Document) -> list[Document]:
    """The schemas of which a value has to fit into at least one; a schema without a choice is its only one."""
    if "$ref" in schema:
        return _choices(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    choices = schema.get("anyOf", schema.get("oneOf"))
    return [schema] if choices is None else [leaf for choice in choices for leaf in _choices(document, choice)]


def _is_same_type(allowed: Document, required: Document) -> bool:
    return "type" not in required or allowed.get("type", "anything") in (
        required["type"],
        INCLUDED.get(required["type"]),
    )
