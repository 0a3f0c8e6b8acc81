"""What is sent to find out whether an answer tells of others: every route of the application, as it is in its table of routes and in the
document of the API, by every kind of sender, with ids of the sender's own, of others, and of nobody."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from starlette.routing import Mount

from services.portal.api import figures
from services.portal.api.figures import Figures
from services.portal.api.values import encode_cursor
from services.portal.pages.seller import form_proof
from services.portal.panel.scope import LISTS
from tests.portal import api_document

Kind = Literal[
    "company_id",
    "account_id",
    "mailbox_id",
    "inquiry_id",
    "session_id",
    "request_id",
    "list_request_id",
    "folder",
    "linked_company_id",
    "token",
    "prefix",
]
KINDS: Final[frozenset[str]] = frozenset(Kind.__args__)  # type: ignore[attr-defined]
QUERY_NAMES: Final = {
    "account": "account_id",
    "inquiry": "inquiry_id",
    "request": "request_id",
    "confirms": "request_id",
    "folders": "folder",
}
"""Names of ids in queries and forms of pages → kind."""
FIXED: Final = {"role": "registered", "client_name": "microsoft"}
"""Parts of paths that are no ids."""
LISTS_OF_FOLDERS: Final = ("GET /connect/requests/{request_id}", "POST /connect/requests/{request_id}/folders")
"""Routes that show the list of a mailbox's folders, and take a choice from it."""
EXPORT: Final = "GET /panel/export/{name}"
MALFORMED: Final = {"\x00": "NUL", "x" * 200: "long", "' OR true --": "SQL"}
API: Final = "/v1"


@dataclass(frozen=True, slots=True)
class Row:
    """What a route takes beside its path. `query` and `form`: names of ids; `body`: with `{kind}` where an id belongs; `creates`: an
    unknown id of a child is registered, so only the company is varied; `waits`: an answer of the sender's own stays open; `cursor`: the
    parts of the key in `after`, with `{kind}` where an id belongs."""

    query: tuple[str, ...] = ()
    form: tuple[str, ...] | None = None
    body: str | None = None
    creates: bool = False
    waits: bool = False
    cursor: tuple[str, ...] = ()


_PAST: Final = datetime.now(UTC) - timedelta(days=10)
_COLUMNS: Final = {
    "account_id": "{account_id}",
    "inquiry_id": "{inquiry_id}",
    "bucket": "3",
    "column_name": "rate",
    "cause": "a",
    **dict.fromkeys(("as_of", "day", "unit_day"), _PAST.date().isoformat()),
    **dict.fromkeys(("valid_from", "due_at", "changed_at"), _PAST.isoformat()),
}
"""Columns of the keys of lists → what a cursor has there: times with rows before and after them."""


def cursor_of(listed: Figures) -> tuple[str, ...]:
    """The parts of the cursor of a list of figures."""
    return ("default", *(_COLUMNS[column] for column in listed.key))


_OF_COMPANY: Final = "GET /v1/companies/{company_id}/"
CURSORS: Final[dict[str, tuple[str, ...]]] = {
    "GET /v1/companies": ("{company_id}",),
    _OF_COMPANY + "accounts": ("{account_id}",),
    "GET /v1/mailboxes": ("{company_id}", "{mailbox_id}"),
    "GET /v1/rates": ("{company_id}",),
    "GET /v1/changes": ("{change_id}",),
    _OF_COMPANY + "rates": cursor_of(figures.LATEST_RATES),
    _OF_COMPANY + "rates/history": cursor_of(figures.HISTORY),
    _OF_COMPANY + "timeline": cursor_of(figures.TIMELINE),
    _OF_COMPANY + "histogram": cursor_of(figures.HISTOGRAM),
    _OF_COMPANY + "daily": cursor_of(figures.DAILY),
    _OF_COMPANY + "outcomes": cursor_of(figures.OUTCOMES),
    _OF_COMPANY + "corrections": cursor_of(figures.CORRECTIONS),
    _OF_COMPANY + "due-soon": cursor_of(figures.DUE_SOON),
    _OF_COMPANY + "diagnosis": cursor_of(figures.DIAGNOSIS),
}
"""Operations of the API with `after`."""

_ACCOUNT: Final = '{"company_id": "{company_id}", "account_id": "{account_id}"'
_LOGIN: Final = '"login": {"address": "seller@qq.com", "password": "code"}'
BODIES: Final[dict[str, Row]] = {
    "PUT /v1/companies/{company_id}": Row(creates=True),
    "PUT /v1/companies/{company_id}/accounts/{account_id}": Row(body="{}", creates=True),
    "PUT /v1/companies/{company_id}/accounts/{account_id}/addresses/{role}": Row(body='{"address": "seller@qq.com"}'),
    "POST /v1/companies/{company_id}/accounts/{account_id}/platform-sync": Row(body='{"on": false}'),
    "POST /v1/connect-sessions": Row(body=_ACCOUNT + ', "mailbox_id": "{mailbox_id}"}'),
    "POST /v1/connection-tests": Row(body=_ACCOUNT + ", " + _LOGIN + "}"),
    "POST /v1/panel-sessions": Row(body=_ACCOUNT + "}"),
    "POST /v1/panel-tokens": Row(body=_ACCOUNT + "}"),
    "POST /v1/provider-lookups": Row(body='{"domain": "qq.com"}'),
    "POST /v1/import": Row(body='{"type": "account", "company_id": "{company_id}", "account_id": "{account_id}"}', creates=True),
    "POST /v1/inquiries:batch": Row(
        body='{"type": "inquiry", "company_id": "{company_id}", "account_id": "{account_id}", "inquiry_id": "{inquiry_id}",'
        ' "received_at": "2026-01-01T00:00:00Z", "buyer": {"id": "b", "addresses": ["b@mail.test"]}}',
        creates=True,
    ),
}  # fmt: skip
"""Operations of the API that take a body or create what they name."""
_SCOPED: Final = Row(query=("account",))
PAGES: Final[dict[str, Row]] = {
    "GET /": Row(),
    "GET /link/{token}": Row(),
    "POST /link/{token}": Row(form=()),
    "POST /connect/end": Row(form=()),
    "GET /connect/consent": Row(),
    "POST /connect/consent": Row(form=()),
    "GET /connect/address": Row(),
    "POST /connect/address": Row(form=()),
    "GET /connect/login": Row(query=("request",)),
    "POST /connect/login": Row(form=()),
    "POST /connect/sign-in": Row(form=("confirms",)),
    "GET /connect/sign-in/callback/{client_name}": Row(),
    "GET /connect/requests/{request_id}": Row(),
    "GET /connect/requests/{request_id}/result": Row(waits=True),
    "GET /connect/requests/{request_id}/events": Row(waits=True),
    "GET /connect": Row(),
    "POST /connect/new": Row(form=()),
    "POST /connect/mailboxes/{mailbox_id}/reconnect": Row(form=()),
    "POST /connect/mailboxes/{mailbox_id}/folders": Row(form=()),
    "POST /connect/requests/{request_id}/folders": Row(form=("folders",)),
    "GET /connect/mailboxes/{mailbox_id}/stored": Row(),
    "GET /connect/mailboxes/{mailbox_id}/withdraw": Row(),
    "POST /connect/mailboxes/{mailbox_id}/withdraw": Row(form=()),
    "GET /panel/frame": Row(),
    "GET /panel": _SCOPED,
    "GET /panel/inquiries": Row(query=("account",), cursor=cursor_of(LISTS["outcomes"])),
    "GET /panel/due": Row(query=("account",), cursor=cursor_of(LISTS["due-soon"])),
    "GET /panel/why": Row(query=("account", "inquiry")),
    "GET /panel/changes": Row(query=("account",), cursor=cursor_of(LISTS["corrections"])),
    "GET /panel/diagnosis": _SCOPED,
    "GET /panel/mailboxes": _SCOPED,
    EXPORT: _SCOPED,
    "GET /panel/questions": _SCOPED,
    "GET /panel/providers": _SCOPED,
    "GET /panel/test-mail": _SCOPED,
    "POST /panel/test-mail": Row(form=()),
    "GET /panel/test-mail/result": Row(waits=True),
    "GET /panel/test-mail/events": Row(waits=True),
}
"""Routes of pages; one without an entry fails the test."""
OUTSIDE_THE_DOCUMENT: Final = frozenset({"GET /v1/openapi.yaml", "GET /v1/reference"})
"""Documents of the API, the same for everybody."""


def served(app: Any) -> set[str]:
    """`METHOD path` of every route of the application, those of the API with its prefix."""
    while not hasattr(app, "routes"):
        app = app._app
    return set(_served(app.routes, ""))


def _served(routes: Sequence[Any], prefix: str) -> Iterator[str]:
    for route in routes:
        if isinstance(route, Mount):
            yield from _served(route.routes, prefix + route.path)
        elif hasattr(route, "original_router"):
            yield from _served(route.original_router.routes, prefix)
        else:
            yield from (f"{method} {prefix}{route.path}" for method in route.methods - {"HEAD"})


def rows_of_the_document() -> dict[str, Row]:
    """Operation of the API → its row: the ids in its query, and its body."""
    rows: dict[str, Row] = {}
    for path, operations in api_document.described()["paths"].items():
        for method, operation in operations.items():
            key = f"{method.upper()} {API}{path}"
            query = tuple(
                parameter["name"]
                for parameter in operation.get("parameters", ())
                if parameter["in"] == "query" and parameter["name"] in KINDS
            )
            given = BODIES.get(key, Row())
            assert given.body is not None or "requestBody" not in operation, (
                f"{key} takes a body: give it one in BODIES"
            )
            cursor = CURSORS.get(key, ())
            assert bool(cursor) == any(parameter["name"] == "after" for parameter in operation.get("parameters", ())), (
                f"{key} has a cursor: give it one in CURSORS"
            )
            rows[key] = Row(query, None, given.body, given.creates, cursor=cursor)
    return rows


def with_each_export(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Rows in which the route of the exports stands once for each list."""
    exports = {EXPORT.replace("{name}", name): rows[EXPORT] for name in LISTS}
    return {route: route_row for route, route_row in rows.items() if route != EXPORT} | exports


def with_lists_of_folders(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Rows in which the routes of a list of folders stand a second time, for a request that has listed them."""
    return {**rows, **{route.replace("{request_id}", "{list_request_id}"): rows[route] for route in LISTS_OF_FOLDERS}}


@dataclass(frozen=True, slots=True)
class Case:
    """Ids of one request, by kind. `twin`: the ids of nobody that must be answered in the same way; None: only facts are looked for."""

    name: str
    ids: Mapping[str, str]
    twin: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends. `kind`: what a token is good for; `own` and `of_colleague`: ids of the account and of another one of the company."""

    name: str
    kind: Literal["none", "cookie", "frame", "key"]
    token: str = field(repr=False)
    is_alive: bool
    sees_company: bool
    own: Mapping[str, str]
    of_colleague: Mapping[str, str]

    def headers(self, *, is_form: bool) -> dict[str, str]:
        """Of a request, with the cookie or the header."""
        headers = {"origin": "http://127.0.0.1:1"} if is_form else {}
        if self.kind == "cookie":
            headers["cookie"] = f"replyrate-session={self.token}.00"
        elif self.kind != "none":
            headers["authorization"] = f"Bearer {self.token}"
        return headers

    def may_ask(self, route: str) -> bool:
        """Whether its token is for such routes at all."""
        path = route.partition(" ")[2]
        if not self.is_alive:
            return False
        if path.startswith(API):
            return self.kind in ("key", "frame")
        return self.kind == "cookie" or (self.kind == "frame" and path.startswith("/panel"))


def kinds_of(route: str, route_row: Row) -> set[str]:
    """Which ids a request has."""
    path = route.partition(" ")[2]
    kinds = {
        kind
        for kind in KINDS
        if f"{{{kind}}}" in path or (route_row.body is not None and f"{{{kind}}}" in route_row.body)
    }
    return kinds | {QUERY_NAMES.get(name, name) for name in (*route_row.query, *(route_row.form or ()))}


def cases(route: str, route_row: Row, sender: Sender, foreign: Mapping[str, str]) -> Iterator[Case]:
    """The requests of a sender to a route. `foreign`: ids of another company."""
    kinds = kinds_of(route, route_row)
    only_reads, company = route.startswith("GET "), "company_id"
    nobody = {kind: unknown(value) for kind, value in foreign.items()}
    if not sender.may_ask(route):
        twin = {kind: unknown(value) for kind, value in sender.own.items()}
        yield Case("own", sender.own, twin if kinds and (sender.is_alive or sender.kind == "none") else None)
        return
    if only_reads and not route_row.waits:
        yield Case("own", sender.own)
    if route_row.cursor:
        yield Case("cursor", with_cursor(route_row, sender.own, sender.own))
        others_by_name = {"another company": foreign}
        if not sender.sees_company and sender.kind != "key":
            others_by_name["another account"] = sender.of_colleague
        for name, foreign_ids in others_by_name.items():
            yield Case(
                f"cursor of {name}",
                with_cursor(route_row, sender.own, foreign_ids),
                with_cursor(
                    route_row,
                    sender.own,
                    {
                        kind: value if value == sender.own[kind] else following(value)
                        for kind, value in foreign_ids.items()
                    },
                ),
            )
    if not kinds:
        return
    yield Case("of another company", {**sender.own, **foreign}, {**sender.own, **nobody})
    for kind in sorted(kinds - {company}):
        if not route_row.creates and kinds != {kind}:
            yield Case(
                f"{kind} of another company", {**sender.own, kind: foreign[kind]}, {**sender.own, kind: nobody[kind]}
            )
        if (
            not route_row.creates
            and not (sender.sees_company and kind in ("account_id", "inquiry_id", "prefix"))
            and sender.kind != "key"
        ):
            another = sender.of_colleague[kind]
            yield Case(
                f"{kind} of another account", {**sender.own, kind: another}, {**sender.own, kind: unknown(another)}
            )
    for text, name in MALFORMED.items():
        yield Case(f"malformed: {name}", {**sender.own, **dict.fromkeys(kinds, text)})


def unknown(value: str) -> str:
    """An id of nobody, of the same form and length."""
    return value[:-1] + ("0" if value[-1] != "0" else "1")


def with_cursor(route_row: Row, ids: Mapping[str, str], foreign_ids: Mapping[str, str]) -> dict[str, str]:
    """Ids of a request that begins behind a key of others."""
    key = [foreign_ids.get(part[1:-1], part) if part.startswith("{") else part for part in route_row.cursor]
    is_number = route_row.cursor == ("{change_id}",)
    return {**ids, "cursor": encode_cursor(*(int(part) if is_number else part for part in key))}


def following(value: str) -> str:
    """An id of nobody that no other one of the worlds is before: a list of a third one's has the same rows behind both."""
    return str(int(value) + 1) if value.isdecimal() else f"{value}0"


def request(route: str, route_row: Row, sender: Sender, ids: Mapping[str, str]) -> tuple[str, str, dict[str, Any]]:
    """Method, path with query, and the options of the request."""
    method, _, path = route.partition(" ")
    for name, value in {**FIXED, **ids}.items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    query = {name: ids[QUERY_NAMES.get(name, name)] for name in route_row.query}
    if "cursor" in ids:
        query["after"] = ids["cursor"]
    if query:
        path = f"{path}?{urlencode(query)}"
    is_form = route_row.form is not None
    options: dict[str, Any] = {"headers": sender.headers(is_form=is_form)}
    if route_row.form is not None:
        values = {name: ids[QUERY_NAMES.get(name, name)] for name in route_row.form}
        options["data"] = {"csrf": form_proof(sender.token, "form"), "name": "Li Wei", **values}
    if route_row.body is not None:
        body = route_row.body
        for name, value in ids.items():
            body = body.replace(f'"{{{name}}}"', json.dumps(value))
        is_lines = path in (f"{API}/import", f"{API}/inquiries:batch")
        options["content"] = body
        options["headers"]["content-type"] = "application/x-ndjson" if is_lines else "application/json"
    return method, path, options
