"""What staff read about people and changed, the newest first."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.portal.console.problems import ConsoleProblem
from services.portal.console.staff import StaffGate
from services.portal.console.texts import load
from services.registry.staff_actions import NOBODY, ActionFilter, StaffActions

PAGE_ROWS: Final = 50
ID: Final = re.compile(r"[0-9]{1,18}")
"""An action's id, which is below 2**63."""
FILTERS: Final = ("who", "action", "company", "from", "to")


def routes(gate: StaffGate) -> APIRouter:
    """The route of the page."""
    router = APIRouter()

    @router.get("/audit")
    def show_audit(request: Request) -> Response:
        staff = gate.operating_reader(request)
        query = {name: request.query_params.get(name, "").strip().replace("\x00", "")[:255] for name in FILTERS}
        after = request.query_params.get("after", "")
        if after and not ID.fullmatch(after):
            raise ConsoleProblem("not-found")
        wanted = ActionFilter(
            query["who"] or None, query["action"] or None, query["company"] or None, _day_begins(query["from"]),
            _day_begins(query["to"], timedelta(days=1)),
        )  # fmt: skip
        with staff.transaction() as connection:
            actions = StaffActions(connection)
            actions.note("audit", NOBODY, **_recorded(actions, query))
            rows = actions.page(wanted, int(after) if after else None, PAGE_ROWS)
        kept_query = {name: value for name, value in query.items() if value}
        following = urlencode({**kept_query, "after": rows[-1]["action_id"]}) if len(rows) == PAGE_ROWS else None
        return staff.page(
            "console_audit.html", "audit", rows=rows, query=query, following=following, actions=sorted(load()["action"]),
            first=urlencode(kept_query) if after else None, has_first=bool(after),
        )  # fmt: skip

    return router


def _recorded(actions: StaffActions, query: Mapping[str, str]) -> dict[str, str]:
    """Filters as the audit has them: known actions, registered companies and days, and no other text that somebody typed."""
    days = {name: day.date().isoformat() for name in ("from", "to") if (day := _day_begins(query[name])) is not None}
    codes = {"action": query["action"]} if query["action"] in load()["action"] else {}
    companies = {"company": query["company"]} if actions.registered([query["company"]]) else {}
    return codes | companies | days


def _day_begins(text: str, later: timedelta = timedelta()) -> datetime | None:
    """The begin of a day in UTC, or of one `later`; None when the text is no day."""
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC) + later
    except (ValueError, OverflowError):
        return None
