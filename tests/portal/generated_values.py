"""Hooks of schemathesis: ids and bodies that are accepted in a part of the calls, so that they reach more than a refusal."""

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

import schemathesis

MANY: Final = 64
"""Mailboxes of the company c1, and companies that the first of them is linked with. What succeeds once for each of them (pausing one, ending
a link) takes the next one with every call, and the opposite operation makes it possible again."""
MAILBOXES: Final = ("m-c1", *(f"m-c1-{number}" for number in range(1, MANY)))
LINKED: Final = tuple(f"c1-{number}" for number in range(MANY))
REGISTERED: Final = {
    "company_id": ("c1",),
    "account_id": ("main",),
    "mailbox_id": ("m-c1",),
    "inquiry_id": ("i5",),
    "linked_company_id": LINKED,
}
"""What is there before the calls (generated_calls.prepare)."""
SHORT, LONGEST = 10, 128
"""Characters of an id: a shorter one is replaced by one that exists, and of the others up to the longest id three in four."""
EXAMPLE_IDS: Final = {"shop-1": "c1", "m-7d21c0a4e5f6": "m-c1"}
"""Ids in the examples of the document → ids that exist."""
EXAMPLES: Final = {"address": "seller@qq.com", "by_account": "main", "company_id": "c1", "account_id": "main"}
"""Member of a document → its example, where the document has none."""
RARE_HEADERS: Final = ("If-Match", "Idempotency-Key")
IN_TURN: Final = ("/pause", "/resume")
"""Ends of paths of which each call takes the next mailbox."""
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
    "/companies/{company_id}/accounts/{account_id}/addresses/{role}": {
        "address": "seller@qq.com", "by_account": "main",
    },
}  # fmt: skip
"""Accepted bodies by path."""
_turns: Final[defaultdict[tuple[str, str], Iterator[int]]] = defaultdict(count)
"""By operation and parameter: whose turn it is."""


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx: Any, value: Any) -> bytes:
    """The body as it was generated."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: Any) -> None:
    """Without `default`, with which any other status would conform, and with examples that are accepted."""
    text = json.dumps(raw_schema)
    for example, exists in EXAMPLE_IDS.items():
        text = text.replace(example, exists)
    raw_schema.update(json.loads(text))
    for document in raw_schema["components"]["schemas"].values():
        for name in EXAMPLES.keys() & document.get("properties", {}):
            document["properties"][name].setdefault("example", EXAMPLES[name])
    for operations in raw_schema["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("default")


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """Ids that exist in place of most that are generated."""
    if not isinstance(path_parameters, dict):
        return path_parameters
    operation = f"{context.operation.method} {context.operation.path}"
    return {
        name: _registered(operation, name) if name in REGISTERED and _is_replaced(str(value)) else value
        for name, value in path_parameters.items()
    }


def _is_replaced(value: str) -> bool:
    """Whether an id that exists takes the place of a generated one; chosen by its length."""
    return len(value) < SHORT or (len(value) <= LONGEST and len(value) % 4 > 0)


def _registered(operation: str, name: str) -> str:
    """An id that exists; where there are several, the next one."""
    ids = MAILBOXES if name == "mailbox_id" and operation.endswith(IN_TURN) else REGISTERED[name]
    return ids[next(_turns[operation, name]) % len(ids)]


@schemathesis.hook
def map_headers(context: Any, headers: Any) -> Any:
    """Without If-Match and Idempotency-Key in two thirds of the calls that have them, chosen by their length: a generated one is that of no
    mailbox, or of another request."""
    if not isinstance(headers, dict):
        return headers
    return {name: value for name, value in headers.items() if name not in RARE_HEADERS or not len(str(value)) % 3}


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    """An account that exists instead of a short one."""
    if isinstance(query, dict) and len(str(query.get("by_account", "long enough"))) < SHORT:
        return {**query, "by_account": "main"}
    return query


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Chosen by the length of the body: a third is as generated, a third accepted, a third in between; of one document a quarter is as
    generated and a quarter in between."""
    path: str = context.operation.path
    if isinstance(body, str) and path in ("/import", "/inquiries:batch"):
        lines = [*map(json.dumps, LINES if path == "/import" else [_inquiry(0)]), body[:20]]
        return "\n".join(lines[ord(character) % len(lines)] for character in body[:6])
    share = len(str(body)) % 3
    if isinstance(body, list) and path == "/inquiries:batch":
        return [body, [_inquiry(number) for number in range(len(body))], [*body, _inquiry(0)]][share]
    if isinstance(body, dict) and path in BODIES:
        return [body, BODIES[path], {**body, **BODIES[path]}, BODIES[path]][len(str(body)) % 4]
    return body


def _inquiry(number: int) -> dict[str, Any]:
    return {
        "type": "inquiry", **ACCOUNT, "inquiry_id": f"generated-{number}", "received_at": datetime.now(UTC).isoformat(),
        "buyer": {"id": "buyer-1", "addresses": ["anna@mail.test"]},
    }  # fmt: skip
