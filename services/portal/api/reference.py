"""The reference of the HTTP API as a page: rendered from its document, without a script and without anything from another site."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from services.common.tables import read_json
from services.portal.api.callers import BEARER
from services.portal.api.problems import ProblemText, load
from services.portal.api.values import ITEM_SCHEMA

PATH: Final = "/reference"
"""Below /v1."""
GROUPS: Final = {
    "registry": "Companies, accounts, mailboxes",
    "connect": "Connecting mailboxes",
    "inquiries": "Inquiries",
    "numbers": "Reply rates and what explains them",
    "panel": "The panel",
    "keys": "Keys and changes",
}
"""Tag of operations → heading of their group."""
_EXAMPLES: Final = "api_examples/valid"
_CODE: Final = re.compile(r"`([^`]+)`")
_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)  # fmt: skip


def render(document: Mapping[str, Any]) -> str:
    """The page of a document of the API (OpenAPI 3.1)."""
    problems: Mapping[str, ProblemText] = load()[0]
    return _ENVIRONMENT.get_template("reference.html").render(
        document=document,
        groups=list(groups(document)),
        problems=sorted(problems.items(), key=lambda entry: (entry[1].status, entry[0])),
        examples=examples(),
        text=text,
        type_of=type_of,
        credentials=credentials,
        reference=reference,
        pretty=pretty,
        anchor=anchor,
        item_schema=ITEM_SCHEMA,
        bodies=bodies(document),
        resolved=partial(resolved, document),
    )


def resolved(document: Mapping[str, Any], response: Mapping[str, Any]) -> Mapping[str, Any]:
    """An answer, or the one that it refers to."""
    name = reference(response)
    answer: Mapping[str, Any] = response if name is None else document["components"]["responses"][name]
    return answer


def bodies(document: Mapping[str, Any]) -> set[str]:
    """Names of schemas of bodies, whose examples are shown with their operation."""
    contents = [
        content
        for methods in document["paths"].values()
        for operation in methods.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
    ]
    return {name for content in contents if (name := reference(content["schema"])) is not None}


def groups(document: Mapping[str, Any]) -> Iterator[tuple[str, str, list[tuple[str, str, Mapping[str, Any]]]]]:
    """Groups in the order of the document: tag, heading, and operations (method, path, description)."""
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    for tag in dict.fromkeys(operation["tags"][0] for _, _, operation in operations):
        yield tag, GROUPS[tag], [entry for entry in operations if entry[2]["tags"][0] == tag]


@cache
def examples() -> Mapping[str, list[tuple[str, str]]]:
    """Examples that are tested (schemas/api_examples/valid), by the name of their schema: title and JSON."""
    by_schema: dict[str, list[tuple[str, str]]] = {}
    folder = resources.files("schemas").joinpath(*_EXAMPLES.split("/"))
    for name in sorted(file.name for file in folder.iterdir() if file.name.endswith(".json")):
        schema, title, _ = name.split(".")
        example = pretty(read_json("schemas", f"{_EXAMPLES}/{name}"))
        by_schema.setdefault(schema, []).append((title.replace("-", " "), example))
    return by_schema


def pretty(example: Any) -> str:
    """An example as text."""
    return example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)


def text(description: str) -> Markup:
    """A description as HTML: `code` between backticks, and nothing else."""
    parts = _CODE.split(description)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )


def credentials(operation: Mapping[str, Any]) -> Markup:
    """What an operation takes: a key with certain scopes, and the token of a frame where it may read this."""
    alternatives = [
        Markup("<code>{}</code>{}").format(name, _scopes(scopes) if name == BEARER.scheme_name else "")
        for alternative in operation["security"]
        for name, scopes in alternative.items()
    ]
    return Markup("Takes {}.").format(Markup(", or ").join(alternatives))


def _scopes(scopes: Sequence[str]) -> Markup:
    if not scopes:
        return Markup(" with any scope")
    names = Markup(" and ").join(Markup("<code>{}</code>").format(scope) for scope in scopes)
    return Markup(" with the {} {}").format("scopes" if len(scopes) > 1 else "scope", names)


def anchor(name: str) -> str:
    """The id of a schema on the page."""
    return f"schema-{name}"


def reference(schema: Mapping[str, Any]) -> str | None:
    """The name of the schema that this one refers to."""
    name: str = schema.get("$ref", "").rpartition("/")[2]
    return name or None


def type_of(schema: Mapping[str, Any]) -> Markup:
    """The type of a value in words, with links to schemas."""
    if (name := reference(schema)) is not None:
        return Markup('<a href="#{}">{}</a>').format(anchor(name), name)
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return Markup(" or ").join(type_of(part) for part in choices)
    if "const" in schema:
        return Markup("<code>{}</code>").format(schema["const"])
    if "enum" in schema:
        values = Markup(", ").join(Markup("<code>{}</code>").format(value) for value in schema["enum"])
        return Markup("one of {}").format(values)
    if schema.get("type") == "array":
        return Markup("list of {}{}").format(type_of(schema.get("items", {})), _bounds(schema, "Items", " entries"))
    kind = schema.get("format") or schema.get("type", "any value")
    unit = " characters" if schema.get("type") == "string" else ""
    bounds = _bounds(schema, "Length", unit) if unit else _bounds(schema, "imum", "")
    form = Markup(", form <code>{}</code>").format(schema["pattern"]) if "pattern" in schema else ""
    return Markup("{}{}{}").format(kind, bounds, form)


def _bounds(schema: Mapping[str, Any], name: str, unit: str) -> str:
    """`, 1 to 128 characters`; empty without bounds."""
    least, most = schema.get(f"min{name}"), schema.get(f"max{name}")
    if least is None and most is None:
        return ""
    if most is None:
        return f", {least:g} or more{unit}"
    return f", at most {most:g}{unit}" if least is None else f", {least:g} to {most:g}{unit}"
