"""Hooks of schemathesis: ids that exist in a part of the calls, so that they reach more than a 404, and lines for the import."""

import json
from typing import Any, Final

import schemathesis

KNOWN: Final = {"company_id": "shop-1", "account_id": "main", "mailbox_id": "m1"}
"""What the test registers before the calls."""
LINES: Final = [
    {"type": "company", "company_id": "shop-1"},
    {"type": "account", "company_id": "shop-1", "account_id": "main"},
    {"type": "account", "company_id": "shop-2", "account_id": "main", "kind": "sub"},
    {"type": "mailbox", "company_id": "shop-1", "account_id": "main"},
]


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx: Any, value: Any) -> bytes:
    """The body as it was generated."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """Ids that exist wherever a generated one is short."""
    if not isinstance(path_parameters, dict):
        return path_parameters
    return {
        name: KNOWN[name] if name in KNOWN and len(str(value)) < 6 else value for name, value in path_parameters.items()
    }


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Lines for the import, chosen by the characters of the generated text."""
    if context.operation.path != "/import" or not isinstance(body, str):
        return body
    lines = [*map(json.dumps, LINES), body[:20]]
    return "\n".join(lines[ord(character) % len(lines)] for character in body[:6])
