"""The first page of the panel: the rate, or why there is none; its course; reply times; accounts; what is due; what changed."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from itertools import groupby
from typing import Any, Final

from fastapi import APIRouter
from psycopg import Connection
from starlette.requests import Request
from starlette.responses import Response

from services.aggregator.missing_rate import missing_rate
from services.common.display import percent
from services.common.postgres import Statements, clock
from services.portal.panel.charts import BUCKETS, bar_chart, line_chart
from services.portal.panel.findings import findings
from services.portal.panel.reader import PanelGate
from services.portal.panel.scope import SQL, PanelScope, chosen_scope
from services.portal.panel.steps import Whose
from services.registry import states

PART_ROWS: Final = 5
"""Rows of a list that has a page of its own."""
SHOWN_CAUSES: Final = 2
"""Equally likely causes that are named; the page of the causes has all."""
ACCOUNTS: Final = 100
"""Accounts that are listed; the export has all."""
LISTED_DAYS: Final = 130
"""Days that are listed each; older ones are folded by month. A rule set counts at most 366 days, which are settled within 60
(schemas/rule-set.schema.json), so a page has the links of at most 427 days."""
PARTS: Final = ("timely", "late", "unanswered", "unmeasured", "pending")
"""Outcomes of units, in the order of the bar."""


def routes(gate: PanelGate) -> APIRouter:
    """The route of the page."""
    router = APIRouter()

    @router.get("/panel")
    def overview(request: Request) -> Response:
        scope = chosen_scope(gate.reader(request))
        with scope.reader.transaction() as connection:
            rate = Statements(connection, SQL).one("rate", **scope.key())
            lists = None if rate is None else _lists(connection, scope)
            advice = what_to_connect(scope, Statements(connection, SQL)) if rate is None else ""
            now = clock(connection)
        values: dict[str, Any] = {"scope": scope, "rate": rate, "now": now, "here_name": "overview"}
        if rate is None or lists is None:
            return scope.reader.page("panel_empty.html", advice=advice, **values)
        timeline, histogram = lists.pop("timeline"), lists.pop("histogram")
        days = days_behind(rate)
        return scope.reader.page(
            "panel_overview.html", missing=missing(rate, scope), missing_page=missing_page, line=line_chart(timeline, rate["as_of"]),
            bars=bar_chart(histogram, scope.rule_set.target_seconds), parts=parts(rate), days=days[:LISTED_DAYS],
            older_months=older_months(days), **lists, **values,
        )  # fmt: skip

    return router


def _lists(connection: Connection, scope: PanelScope) -> dict[str, Any]:
    """What the page shows besides the rate."""
    whole_company = scope.account_id is None
    accounts, more_accounts = scope.page(connection, "accounts", ACCOUNTS) if whole_company else ([], None)
    due, more_due = scope.page(connection, "due-soon", PART_ROWS)
    likely = [finding for finding in findings(scope, connection) if finding.is_likely]
    return {
        "timeline": scope.page(connection, "timeline", 31)[0], "histogram": scope.page(connection, "histogram", BUCKETS)[0],
        "accounts": accounts, "more_accounts": more_accounts, "due": due, "more_due": more_due,
        "corrections": scope.page(connection, "corrections", PART_ROWS)[0], "findings": likely[:SHOWN_CAUSES],
        "more_findings": len(likely[SHOWN_CAUSES:]),
    }  # fmt: skip


def what_to_connect(scope: PanelScope, statements: Statements) -> str:
    """What is left to connect where there is no rate: the name of a text of the table `empty`."""
    if scope.whose != "own":
        return scope.whose
    account = statements.one("own_account", **scope.own_key())
    if account is not None and account["synced_by_platform_from"] is not None:
        return "synced"
    mailboxes = statements.all("mailboxes", **scope.own_key())
    return "connected" if any(mailbox["state"] not in states.NEVER_CONNECTED for mailbox in mailboxes) else "connect"


def missing(rate: Mapping[str, Any], scope: PanelScope) -> dict[str, str] | None:
    """Why there is no rate, and what to do, in the words of the panel, and the page that helps (or ""); None when there is one."""
    code = missing_rate(rate, scope.rule_set)
    if code is None:
        return None
    sample = scope.rule_set.small_sample
    values = {
        "coverage": percent(rate["coverage"]), "minimum": percent(scope.rule_set.min_coverage), "counted": rate["counted"],
        "least": 0 if sample == "show" else sample.min_counted, "account": scope.account_id,
    }  # fmt: skip
    # Mailboxes are those of the reader's own account: who reads figures of others is led to what can be done about theirs.
    of_others = f"_{scope.whose}" if code == "coverage" and scope.whose != "own" else ""
    return {
        "code": code,
        "page": missing_page(code, scope.whose),
        **{part: scope.reader.says(f"missing.{code}_{part}{of_others}", **values) for part in ("says", "next")},
    }


def missing_page(code: str, whose: Whose) -> str:
    """The page to which "what to do" leads, by the reason why a rate is missing; "" when there is none."""
    if code == "coverage":
        return "mailboxes" if whose == "own" else "diagnosis"
    return "inquiries" if code == "nothing" else ""


def days_behind(rate: Mapping[str, Any]) -> list[date]:
    """The days that lead to their inquiries, the newest first: those that the rate counts, and the later ones up to its own day."""
    length = (rate["as_of"] - rate["window_start"]).days
    return [rate["as_of"] - timedelta(days=number) for number in range(length + 1)]


def older_months(days: Sequence[date]) -> list[tuple[str, list[date]]]:
    """The days after the first LISTED_DAYS by month (`2026-08`), in the order of `days`."""
    return [(month, list(of_month)) for month, of_month in groupby(days[LISTED_DAYS:], "{:%Y-%m}".format)]


def parts(rate: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """Outcome, number of units and share of the width, for the bar of all units; empty when there is none."""
    total = sum(rate[name] for name in PARTS)
    return [(name, rate[name], rate[name] / total) for name in PARTS] if total else []
