"""All mailboxes by state, provider and reason: how many there are of each kind, the list of a kind, and the list as CSV or NDJSON."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter
from psycopg import Connection
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services.common.postgres import Statements
from services.connect import texts
from services.portal.api.figures import EXPORT_ROWS, MEDIA_TYPES, TEXTS, Rows
from services.portal.api.mailboxes import as_mailbox
from services.portal.api.values import encode_cursor
from services.portal.console.lookups import SQL, cursor_ids
from services.portal.console.problems import ConsoleProblem
from services.portal.console.staff import Staff, StaffGate
from services.providers import catalog
from services.registry import states
from services.registry.keyset import KeysetRange
from services.registry.lists import MailboxFilter, RegistryLists
from services.registry.staff_actions import StaffActions

PAGE_ROWS: Final = 50
COLUMNS: Final = (
    "company_id", "account_id", "mailbox_id", "role", "state", "reason", "state_changed_at", "address_masked", "provider", "host",
    "port", "connected_at", "reconnected_at", "removed_at", "expected_from", "complete_from", "complete_through", "last_success_at",
    "last_attempt_at", "next_poll_at",
)  # fmt: skip
"""Of an export; instants in UTC, texts as codes."""
Position = tuple[str, str]
"""Company and mailbox behind which a page begins; ("", ""): the first one."""


class MailboxKind(NamedTuple):
    """Which mailboxes; "": of every one. A server that is in no provider's entry stands for itself. `company`: lists alone have it."""

    state: str = ""
    provider: str = ""
    reason: str = ""
    company: str = ""

    def filter(self) -> MailboxFilter:
        """The same for the registry."""
        hosts = None if not self.provider else (catalog.load().hosts_of(self.provider) or [self.provider])
        return MailboxFilter(
            KeysetRange.of(self.company), self.company or None, states=[self.state] if self.state else None,
            reason=self.reason or None, hosts=hosts,
        )  # fmt: skip

    def address(self, page: str = "list", **values: str) -> str:
        """The address of the list or the export of these mailboxes."""
        query = {**self._asdict(), **values}
        return f"/mailboxes/{page}?{urlencode({name: value for name, value in query.items() if value})}"

    def read(self, connection: Connection, action: str, after: Position, limit: int) -> Rows:
        """At most `limit` mailboxes behind a position, noted in the audit for each of their companies."""
        stored = RegistryLists(connection).mailboxes(self.filter(), after, limit)
        StaffActions(connection).note_each(
            action, {mailbox["company_id"] for mailbox in stored}, **self.recorded(has_rows=bool(stored)), mailboxes=len(stored)
        )  # fmt: skip
        return stored

    def recorded(self, *, has_rows: bool) -> dict[str, str]:
        """The filters as the audit has them: known states, providers and reasons, and no other text that somebody typed. What stored
        mailboxes have (`has_rows`) is known, also the host of a server that is in no provider's entry."""
        is_known = {
            "state": self.state in states.load().names,
            "provider": bool(catalog.load().hosts_of(self.provider)),
            "reason": self.reason in texts.load()["code"],
        }
        return {
            name: value if has_rows or is_known[name] else ""
            for name, value in self._asdict().items()
            if name in is_known
        }


def routes(gate: StaffGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()

    @router.get("/mailboxes")
    def show_kinds(request: Request) -> Response:
        return _kinds_page(gate.reader(request))

    @router.get("/mailboxes/list")
    def list_mailboxes(request: Request) -> Response:
        staff, chosen = gate.reader(request), _chosen(request)
        company, mailbox = cursor_ids(request.query_params.get("after"), 2)
        with staff.transaction() as connection:
            stored = chosen.read(connection, "mailbox-list", (company, mailbox), PAGE_ROWS)
        following = None
        if len(stored) == PAGE_ROWS:
            following = chosen.address(after=encode_cursor(stored[-1]["company_id"], stored[-1]["mailbox_id"]))
        return staff.page(
            "console_mailbox_list.html", "mailboxes", mailboxes=[as_mailbox(mailbox) for mailbox in stored], chosen=chosen,
            following=following, first=chosen.address() if company else None, state_names=state_names(staff),
            reason_text=lambda code: texts.state_reason(code, staff.language),
        )  # fmt: skip

    @router.get("/mailboxes/export")
    def export_mailboxes(request: Request) -> Response:
        staff, chosen = gate.reader(request), _chosen(request)
        form = request.query_params.get("format", "csv")
        if form not in MEDIA_TYPES:
            raise ConsoleProblem("not-found")
        return StreamingResponse(
            _export(staff, chosen, form, _export_page(staff, chosen, ("", ""))), media_type=MEDIA_TYPES[form],
            headers={"Content-Disposition": f'attachment; filename="mailboxes.{form}"'},
        )  # fmt: skip

    return router


def state_names(staff: Staff) -> dict[str, str]:
    """State of a mailbox → its name in the language of the reader."""
    return {state: name.text(staff.language) for state, name in states.load().names.items()}


def _export(staff: Staff, chosen: MailboxKind, form: str, page: Rows) -> Iterator[str]:
    """The text of an export, read page by page. StaffSessionEnded when the session ends meanwhile: the answer breaks off then."""
    if form == "csv" and not page:
        yield ",".join(COLUMNS) + "\r\n"
    is_first = True
    while page:
        rows = [_exported(mailbox) for mailbox in page]
        yield TEXTS[form](rows, is_first)
        is_first = False
        if len(page) < EXPORT_ROWS:
            break
        page = _export_page(staff, chosen, (page[-1]["company_id"], page[-1]["mailbox_id"]))


def _export_page(staff: Staff, chosen: MailboxKind, after: Position) -> Rows:
    with staff.transaction() as connection:
        return chosen.read(connection, "mailbox-export", after, EXPORT_ROWS)


def _exported(stored: dict[str, Any]) -> dict[str, Any]:
    provider = catalog.load().by_host(stored["host"])
    values = {**stored, "reason": stored["state_reason"], "provider": None if provider is None else provider.id}
    return {column: values[column] for column in COLUMNS}


def _kinds_page(staff: Staff) -> Response:
    """The counts, as far as the filters of the request choose them."""
    chosen = _chosen(staff.request)._replace(company="")
    with staff.transaction() as connection:
        kinds = _kinds(connection)
    shown = [
        (kind, mailboxes)
        for kind, mailboxes in sorted(kinds.items(), key=lambda entry: (-entry[1], entry[0]))
        if all(value in ("", part) for value, part in zip(chosen, kind, strict=True))
    ]
    return staff.page(
        "console_mailboxes.html", "mailboxes", kinds=shown, total=sum(mailboxes for _, mailboxes in shown),
        chosen=chosen, choices=[sorted({kind[part] for kind in kinds} - {""}) for part in range(3)],
        state_names=state_names(staff), reason_text=lambda code: texts.state_reason(code, staff.language),
    )  # fmt: skip


def _chosen(request: Request) -> MailboxKind:
    """The filters in a query."""
    chosen = MailboxKind(*(request.query_params.get(name, "")[:253] for name in MailboxKind._fields))
    if any("\x00" in value for value in chosen):
        raise ConsoleProblem("not-found")
    return chosen


def _kinds(connection: Connection) -> Counter[MailboxKind]:
    directory, kinds = catalog.load(), Counter[MailboxKind]()
    for stored in Statements(connection, SQL).all("kinds"):
        provider = directory.by_host(stored["host"])
        kind = MailboxKind(
            stored["state"], stored["host"] if provider is None else provider.id, stored["state_reason"] or ""
        )
        kinds[kind] += stored["mailboxes"]
    return kinds
