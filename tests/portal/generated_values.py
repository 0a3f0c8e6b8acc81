"""Hooks of schemathesis: ids and bodies that are accepted in a part of the calls, so that they reach more than a refusal."""

import json
from datetime import UTC, datetime
from typing import Any, Final

import schemathesis

REGISTERED: Final = {
    "company_id": "c1",
    "account_id": "main",
    "mailbox_id": "m-c1",
    "inquiry_id": "i5",
    "linked_company_id": "c1-new",
}
"""What is there before the calls (tests/support/seeded.py)."""
LINES: Final = [
    {"type": "company", "company_id": "c1"},
    {"type": "account", "company_id": "c1", "account_id": "main"},
    {"type": "account", "company_id": "c1-new", "account_id": "main", "kind": "sub"},
    {"type": "company", "company_id": "c1-new"},
    {"type": "mailbox", "company_id": "c1", "account_id": "main"},
]
ACCOUNT: Final = {"company_id": "c1", "account_id": "main"}
BODIES: Final[dict[str, Any]] = {
    "/connect-sessions": ACCOUNT,
    "/connection-tests": {**ACCOUNT, "login": {"address": "seller@qq.com", "password": "code"}},
    "/panel-sessions": ACCOUNT,
    "/panel-tokens": ACCOUNT,
    "/provider-lookups": {"address": "seller@qq.com"},
    "/companies/{company_id}/accounts/{account_id}/addresses/{role}": {"address": "seller@qq.com"},
}
"""Accepted bodies by path."""


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
        name: REGISTERED[name] if name in REGISTERED and len(str(value)) < 6 else value
        for name, value in path_parameters.items()
    }


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Chosen by the length of the body: a third is as generated, a third accepted, a third in between."""
    path: str = context.operation.path
    if isinstance(body, str) and path in ("/import", "/inquiries:batch"):
        lines = [*map(json.dumps, LINES if path == "/import" else [_inquiry(0)]), body[:20]]
        return "\n".join(lines[ord(character) % len(lines)] for character in body[:6])
    share = len(str(body)) % 3
    if isinstance(body, list) and path == "/inquiries:batch":
        return [body, [_inquiry(number) for number in range(len(body))], [*body, _inquiry(0)]][share]
    if isinstance(body, dict) and path in BODIES:
        return [body, BODIES[path], {**body, **BODIES[path]}][share]
    return body


def _inquiry(number: int) -> dict[str, Any]:
    return {
        "type": "inquiry", **ACCOUNT, "inquiry_id": f"generated-{number}", "received_at": datetime.now(UTC).isoformat(),
        "buyer": {"id": "buyer-1", "addresses": ["anna@mail.test"]},
    }  # fmt: skip
