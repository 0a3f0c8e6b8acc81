"""Brings archived units back to Postgres before a judgement that depends on them.

A refresh judges as if nothing was ever archived: it first merges what it needs of the archive into the ledger again, by the statements
that merge records, and then judges. Needed are units that are received in the windows of the days that are judged, or whose outcomes
are: because of a late fact, because coverage says something new about their time, or because an operator recomputes old days.
Outcomes alone, of a rule set that is new, bring nothing back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from logging import getLogger
from typing import Any, Final

import msgspec
import psycopg

from services.aggregator.archive.files import ArchiveFolder, ArchiveUnreadable
from services.aggregator.archive.unit_rows import Row, table_rows
from services.aggregator.judge import judge
from services.aggregator.judge.days import EVER, LAST_DAY, local_day, start_of
from services.aggregator.judge.plan import Delta, Plan, columns, plan_company
from services.aggregator.judge.rules import RuleSet
from services.common.postgres import Statements, load_statements

log = getLogger(__name__)

SQL: Final = load_statements("services.aggregator.archive", "restore.sql")
LEDGER: Final = load_statements("services.aggregator.ingest", "ledger.sql")
"""The statements that merge records."""
MOST_INQUIRIES: Final = 50_000
"""After how many inquiries a restore commits."""
STATEMENT_INQUIRIES: Final = 2_000
KEPT: Final = timedelta(days=7)
"""How long units that were needed again stay at least."""
TWO_DAYS: Final = timedelta(days=2)
"""An instant represents its local day, and a day may start a day earlier in another zone."""
EVER_RECEIVED: Final = datetime(1, 1, 2, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DaysToJudge:
    """A rule set, and the as_of days that are judged by it."""

    rule_set: RuleSet
    days_from: date = date.min
    days_to: date = date.max
    schema: judge.Schema = "ledger"


def needed_from(plan: Plan, rule_set: RuleSet, delta: Delta) -> datetime | None:
    """The first instant whose receipts a plan depends on; None when it judges no days and no certain outcomes."""
    days = [
        first
        for judgement, first in zip(plan.judgements, columns([plan], rule_set)["receipts_from"], strict=True)
        if judgement.day is not None or first != EVER
    ]
    if plan.includes_all_outcomes and plan.judgements and delta.connected and rule_set.is_reach_limited:
        # A new connection decides about mail of any age.
        return EVER_RECEIVED
    first_day = min(days, default=LAST_DAY)
    return None if first_day >= LAST_DAY else start_of(first_day, rule_set)


class Restorer:
    """Restores units inside the transactions of its callers. `folder` None: this process has no archive."""

    def __init__(self, connection: psycopg.Connection, folder: ArchiveFolder | None) -> None:
        self._connection = connection
        self._sql = Statements(connection, SQL, translates=False)
        self._folder = folder

    def restore_needed(self, judgements: Sequence[DaysToJudge], deltas: Mapping[str, Delta], now: datetime) -> set[str]:
        """Restore what these judgements of companies need; returns the companies that need more, in another transaction.

        The caller has locked the companies. ArchiveUnreadable when a file cannot be read.
        """
        archived = [stored["company_id"] for stored in self._sql.all("archived_companies", companies=list(deltas))]
        if not archived:
            return set()
        needed = self._needed_froms(judgements, {company_id: deltas[company_id] for company_id in archived}, now)
        parts = self._sql.all("needed_parts", companies=list(needed), needed_froms=list(needed.values()))
        inquiries, restored, waiting = 0, [], set()
        for part in parts:
            if inquiries >= MOST_INQUIRIES or part["company_id"] in waiting:
                waiting.add(part["company_id"])
                continue
            inquiries += part["inquiries"]
            restored.append(part)
        # By file: two transactions that restore from the same files lock these in the same order.
        for part in sorted(restored, key=lambda part: part["file_id"]):
            self._restore(part)
        if restored:
            companies = sorted({part["company_id"] for part in restored})
            self._sql.run("recompute_again", companies=companies)
            self._sql.run("archive_later", companies=companies, due_at=now + KEPT)
        return waiting

    def restore_for_today(self, rule_set: RuleSet, companies: Sequence[str], now: datetime) -> None:
        """Restore what today's rows of companies depend on, in the caller's transaction, however much it is."""
        today = local_day(now, rule_set)
        while self.restore_needed([DaysToJudge(rule_set, today, today)], dict.fromkeys(companies, Delta()), now):
            pass

    def _needed_froms(
        self, judgements: Sequence[DaysToJudge], deltas: Mapping[str, Delta], now: datetime
    ) -> dict[str, datetime | None]:
        instants: dict[str, list[datetime]] = {company_id: [] for company_id in deltas}
        for days in judgements:
            judge.use_schema(self._connection, days.schema)
            for inputs in judge.planning_inputs(self._connection, days.rule_set, list(deltas), now):
                delta = deltas[inputs["company_id"]]
                plan = plan_company(days.rule_set, inputs, delta, now, days_from=days.days_from, days_to=days.days_to)
                if (instant := needed_from(plan, days.rule_set, delta)) is not None:
                    instants[inputs["company_id"]].append(instant)
        # Whatever is planned: a company that is judged completely, by a new account for example, has late facts too.
        target = timedelta(seconds=max((days.rule_set.target_seconds for days in judgements), default=0))
        for company_id, delta in deltas.items():
            if delta.received_from:
                instants[company_id].append(delta.received_from - TWO_DAYS)
            if delta.covered_from:
                instants[company_id].append(delta.covered_from - target - TWO_DAYS)
        changed = {company_id: delta.received_from for company_id, delta in deltas.items() if delta.received_from}
        for shared in self._sql.all("shared_threads", companies=list(changed), received_froms=list(changed.values())):
            instants[shared["company_id"]].append(shared["received_from"])
        return {company_id: min(of_company, default=None) for company_id, of_company in instants.items()}

    def _restore(self, part: Mapping[str, Any]) -> None:
        if self._folder is None:
            raise ArchiveUnreadable(
                "archived units are needed and REPLYRATE_AGGREGATOR__ARCHIVE_DIR is not set; set it to the folder of the archive"
            )
        # Locked from here on: the archiver cannot write the file again meanwhile. It may just have done so; then the part is in the
        # new one. (A transaction with one snapshot fails instead, and is tried again.)
        while (file := self._sql.one("lock_file", part_id=part["part_id"])) is None:
            if self._sql.one("part", part_id=part["part_id"]) is None:
                return
        try:
            rows = self._folder.read(file["path"], file["sha256"], [part["company_id"]])
        except ArchiveUnreadable as error:
            log.error("%s", error, extra={"action": "archive-unreadable"})
            raise
        if part["erased_at"] is not None:
            # As an erase deletes them with the inquiry, whatever their time.
            for unit_row in rows:
                if unit_row["received_at"] <= part["erased_at"]:
                    unit_row["replies"] = [reply for reply in unit_row["replies"] if reply["source"] != "mail"]
        for start in range(0, len(rows), STATEMENT_INQUIRIES):
            merge_rows(self._connection, rows[start : start + STATEMENT_INQUIRIES])
        for name in ("outcomes", "outcome_history"):
            self._sql.run(f"restore_{name}", rows=_json(table_rows(rows, name)))
        self._sql.run("remove_part", part_id=part["part_id"])


def merge_rows(connection: psycopg.Connection, rows: Sequence[Row]) -> None:
    """Merge archived facts into the ledger as records are merged; facts of erased companies are refused."""
    keys = {
        "companies": [unit_row["company_id"] for unit_row in rows],
        "inquiries": [unit_row["inquiry_id"] for unit_row in rows],
    }
    for name, values in (
        ("merge_inquiries", {"inquiries": _json(table_rows(rows, "inquiries"))}),
        ("merge_statuses", {"statuses": _json(table_rows(rows, "statuses"))}),
        ("bound_statuses", keys),
        ("merge_replies", {"replies": _json(table_rows(rows, "replies"))}),
        ("bound_replies", keys),
    ):
        connection.execute(LEDGER[name], values)


def _json(rows: Iterable[Row]) -> str:
    return msgspec.json.encode(list(rows)).decode()
