"""The answers of each operation beside its own, as the document of the API describes them: problems by status, and headers.

Which operation may be answered with a problem follows from its parameters, its body and its other answers; every code of
problems.toml has its entry here.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.portal.api.posts import REPLAYED
from services.portal.api.problem_schema import PROBLEM_RESPONSE
from services.portal.api.problems import load
from services.portal.api.reference import examples

BATCH: Final = "/inquiries:batch"
IMPORT: Final = "/import"


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the document."""

    method: str
    path: str
    content: Mapping[str, Any]

    def has(self, parameter: str) -> bool:
        """Whether it has a parameter."""
        return any(entry["name"] == parameter for entry in self.content.get("parameters", ()))

    @property
    def media_types(self) -> Mapping[str, Any]:
        """Its bodies by media type."""
        bodies: Mapping[str, Any] = self.content.get("requestBody", {}).get("content", {})
        return bodies

    @property
    def is_change(self) -> bool:
        """Whether it is carried out once for each Idempotency-Key (posts.py)."""
        return self.has("Idempotency-Key")

    @property
    def needs_scope(self) -> bool:
        """Whether a key may lack a scope for it."""
        return any(scopes for alternative in self.content["security"] for scopes in alternative.values())

    @property
    def has_model(self) -> bool:
        """Whether its body is one JSON document with a schema."""
        return any("$ref" in body["schema"] for body in self.media_types.values())

    def concerns(self, name: str) -> bool:
        """Whether it is about a company, an account or a mailbox that must exist; a body names the first two."""
        is_list = self.method == "get" and self.path == f"/{name}s"
        named = self.has(f"{name}_id") and f"{{{name}_id}}" in self.path
        return not is_list and (named or (self.has_model and self.is_change and "{" not in self.path))


def everywhere(_: Operation) -> bool:
    """Any operation."""
    return True


def nowhere(_: Operation) -> bool:
    """Paths and methods that the document does not have."""
    return False


PLACES: Final[Mapping[str, Callable[[Operation], bool]]] = {
    "invalid-request": lambda operation: "parameters" in operation.content or operation.has_model,
    "not-json": lambda operation: operation.has_model,
    "not-authenticated": everywhere,
    "scope-missing": lambda operation: operation.needs_scope,
    "company-not-allowed": lambda operation: operation.method == "put" and operation.is_change,
    "not-found": nowhere,
    "company-unknown": lambda operation: operation.concerns("company"),
    "account-unknown": lambda operation: operation.concerns("account"),
    "mailbox-unknown": lambda operation: operation.concerns("mailbox"),
    "request-unknown": lambda operation: operation.has("request_id"),
    "session-unknown": lambda operation: operation.has("session_id"),
    "inquiry-unknown": lambda operation: operation.has("inquiry_id"),
    "invalid-lines": lambda operation: operation.path == IMPORT,
    "no-fetcher": lambda operation: operation.path == IMPORT or "202" in operation.content["responses"],
    "facts-invalid": lambda operation: operation.path == BATCH,
    "batch-too-large": lambda operation: operation.path == BATCH,
    "not-possible": lambda operation: operation.is_change,
    "changed-meanwhile": lambda operation: operation.has("If-Match"),
    "idempotency-key-used": lambda operation: operation.is_change,
    "method-not-allowed": nowhere,
    "body-too-slow": lambda operation: bool(operation.media_types),
    "body-too-large": lambda operation: bool(operation.media_types),
    "media-type-unsupported": lambda operation: operation.path in (BATCH, IMPORT),
    "wrong-host": everywhere,
    "too-many-requests": everywhere,
    "server-error": everywhere,
    "unavailable": everywhere,
}
"""Code of a problem → whether an operation may be answered with it."""

_TEXT: Final = {"type": "string"}
HEADERS: Final[dict[str, Any]] = {
    "RateLimit": {
        "description": "How many requests the key may send at once (`r`), and after how many seconds one more (`t`).",
        "schema": {"type": "string", "pattern": r'^"key";r=[0-9]+;t=[0-9]+$'},
    },
    "RateLimit-Policy": {
        "description": "How many requests (`q`) the key may send in how many seconds (`w`).",
        "schema": {"type": "string", "pattern": r'^"key";q=[0-9]+;w=[0-9]+$'},
    },
    "Retry-After": {
        "description": "After how many seconds to send the same request again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "Location": {"description": "Where the status of what was created is read.", "schema": {"type": "string", "pattern": "^/v1/"}},
    "ETag": {"description": "The version of the mailbox, for If-Match.", "schema": {"type": "string", "pattern": '^"[0-9a-f]+"$'}},
    REPLAYED: {
        "description": "`true`: the answer of an earlier request with this Idempotency-Key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Content-Language": {"description": "The language of the texts.", "schema": {"type": "string", "enum": ["en", "zh-CN"]}},
    "Content-Disposition": {"description": "The name of a file, when the rows are sent as CSV or NDJSON.", "schema": _TEXT},
    "WWW-Authenticate": {"description": "What to send: a key.", "schema": {"type": "string", "enum": ["Bearer"]}},
}  # fmt: skip
"""Header → what it says."""
OPTIONAL: Final = (REPLAYED, "Content-Disposition")
_LIMITS: Final = ("RateLimit", "RateLimit-Policy")
_BEFORE_KEY: Final = (400, 401, 408, 413, 421, 500, 503)
"""Statuses that a request may get before its key is known."""
_OF_STATUS: Final = {401: "WWW-Authenticate", 412: "ETag", 429: "Retry-After", 503: "Retry-After"}


def describe(document: dict[str, Any]) -> None:
    """Add problems and headers to every operation of a document."""
    components = document["components"]
    components["headers"] = {name: {"required": name not in OPTIONAL, **header} for name, header in HEADERS.items()}
    components["responses"] = {}
    for path, operations in document["paths"].items():
        for method, content in operations.items():
            operation = Operation(method, path, content)
            for status, response in content["responses"].items():
                if status.startswith("2"):
                    response["headers"] = _references(_headers_of_success(operation, status, response))
                    _add_examples(response)
            for status, codes in problems_of(operation).items():
                name = ".".join(codes)
                components["responses"][name] = _problem_response(status, codes)
                content["responses"][str(status)] = {"$ref": f"#/components/responses/{name}"}
            content["responses"] = dict(sorted(content["responses"].items()))
    components["responses"] = dict(sorted(components["responses"].items()))


def problems_of(operation: Operation) -> Mapping[int, list[str]]:
    """The codes of problems that an operation may be answered with, by status."""
    by_status: dict[int, list[str]] = {}
    for code, text in sorted(load()[0].items()):
        if PLACES[code](operation):
            by_status.setdefault(text.status, []).append(code)
    return by_status


def _problem_response(status: int, codes: list[str]) -> dict[str, Any]:
    texts = load()[0]
    names = [*(() if status in _BEFORE_KEY else _LIMITS), "Content-Language"]
    if status in _OF_STATUS:
        names.append(_OF_STATUS[status])
    described = "; ".join(f"`{code}`: {texts[code].title.en}" for code in codes)
    return {**PROBLEM_RESPONSE, "description": f"{described}.", "headers": _references(names)}


def _headers_of_success(operation: Operation, status: str, response: Mapping[str, Any]) -> list[str]:
    names = [*_LIMITS]
    schemas = [content.get("schema", {}).get("$ref", "") for content in response.get("content", {}).values()]
    if status == "202" or any(schema.endswith("/ConnectLink") for schema in schemas):
        names.append("Location")
    if any(schema.endswith("/MailboxResource") for schema in schemas):
        names.append("ETag")
    if operation.is_change:
        names.append(REPLAYED)
    if len(response.get("content", {})) > 1:
        names.append("Content-Disposition")
    return names


def _add_examples(response: Mapping[str, Any]) -> None:
    for content in response.get("content", {}).values():
        named = examples().get(content.get("schema", {}).get("$ref", "").rpartition("/")[2], ())
        if named:
            content["examples"] = {title.replace(" ", "-"): {"value": json.loads(text)} for title, text in named}


def _references(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
