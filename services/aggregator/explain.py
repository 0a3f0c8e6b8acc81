"""Explains the outcome of an inquiry from the SQL steps that computed it, read before their last one.

Reads only, and judges nothing a second time: candidate answers, the verdicts on them and the coverage of mailboxes are rows
of the very statement that judges (judge.sql, `steps`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

import msgspec
import psycopg
from psycopg.rows import dict_row

from services.aggregator.archive.files import ArchiveFolder, ArchiveUnreadable
from services.aggregator.archive.unit_rows import Row, table_rows
from services.aggregator.judge import judge, rules
from services.aggregator.judge.days import judgement_of_outcomes
from services.aggregator.judge.plan import Delta, Plan, columns, plan_company
from services.aggregator.judge.rules import RuleSet
from services.common.events import MessageSent
from services.common.postgres import clock, load_statements
from services.common.stored_message import MailboxPlace, StoredMessage, event_of

SQL: Final = load_statements("services.aggregator", "explain.sql")
OUTCOME: Final = (
    "outcome", "reason", "state", "account_id", "owner", "excluded_by", "exclusion", "received_at", "counted_until", "reading_waits",
)  # fmt: skip
UNIT: Final = (
    "unit_inquiry_id", "unit_day", "start_at", "due_at", "members", "unit_outcome", "unit_reason", "first_reply_at", "reply_seconds",
    "reply_source", "reply_id", "matched_by", "mailbox_id", "evidence", "covered",
)  # fmt: skip
VERSION: Final = (
    "revision",
    "outcome",
    "reason",
    "account_id",
    "first_reply_at",
    "state",
    "rule_version",
    "changed_at",
)


def explain_inquiry(
    connection: psycopg.Connection,
    rule_set: RuleSet,
    company_id: str,
    inquiry_id: str,
    archive: ArchiveFolder | None = None,
) -> dict[str, Any]:
    """Everything that led to the outcome, as plain values; `outcome` is `unknown` when the inquiry is not known.

    An archived inquiry is read from `archive`; without that, its `outcome` is `unknown` and `archived_at` says since when.
    ArchiveUnreadable when its file cannot be read.

    Keys: company_id, inquiry_id, rule_set, rule_version, now, outcome, reason, state, account_id, owner, excluded_by,
    exclusion, counted_until (records published later may not have been counted yet; None: now), reading_waits (mailboxes
    were read, and what was found is not counted yet), archived_at (None: it is not archived), unit (first member, members, day, start_at, due_at, outcome, answer),
    considered, coverage, facts (inquiries, statuses, replies), parameters, history, waiting.
    """
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        now = clock(connection)
        judge.use_schema(connection, "ledger")
        (inputs,) = judge.planning_inputs(connection, rule_set, [company_id], now)
        plan = plan_company(rule_set, inputs, Delta(), now)
        key = {"company_id": company_id, "inquiry_id": inquiry_id, "rule_set": rule_set.name}
        values: dict[str, Any] = {}
        judged = None
        archived = _archived(cursor, key, archive)
        if plan.judgements and not archived.is_out_of_reach:
            plan = Plan(company_id, (judgement_of_outcomes(now),), plan.settled, plan.first_rate_day)
            values = {**judge.parameters(rule_set), **columns([plan], rule_set), **key, **archived.values}
            judged = cursor.execute(judge.judging(SQL["inquiry"], archived.inquiries), values).fetchone()
        members = [inquiry_id] if judged is None else judged["members"] or [inquiry_id]
        explanation: dict[str, Any] = {
            **key,
            "rule_version": rule_set.identity,
            "now": now,
            "outcome": "unknown",
            "archived_at": archived.archived_at,
            "facts": _facts(cursor, {**key, **archived.values, "inquiries": members}, archived.facts),
            "parameters": {name: rule_set.parameters()[name] for name in rules.deciding()},
            "history": [*archived.history(inquiry_id, rule_set.name), *cursor.execute(SQL["history"], key).fetchall()],
            **cursor.execute(SQL["waiting"], key).fetchall()[0],
        }
        if judged is None:
            return explanation
        explanation |= {name: judged[name] for name in OUTCOME}
        if judged["unit_inquiry_id"] is None:
            return explanation
        explanation["unit"] = {name: judged[name] for name in UNIT}
        values |= {"unit_inquiry_id": judged["unit_inquiry_id"]}
        explanation["considered"] = cursor.execute(
            judge.judging(SQL["candidate_answers"], archived.inquiries), values
        ).fetchall()
        explanation["coverage"] = cursor.execute(
            judge.judging(SQL["unit_coverage"], archived.inquiries), values
        ).fetchall()
    return explanation


@dataclass(frozen=True, slots=True)
class _Archived:
    """Where the facts of an inquiry are: the rows of its buyer in a file, or none if it is not archived.

    `inquiries` and `facts`: the texts before the steps of judge.sql and before the statements of facts, with `values`.
    """

    archived_at: datetime | None = None
    is_out_of_reach: bool = False
    rows: tuple[Row, ...] = ()

    @property
    def inquiries(self) -> LiteralString:
        return SQL["archived_inquiries"] if self.rows else SQL["unit_inquiries"]

    @property
    def facts(self) -> LiteralString:
        return SQL["archived_inquiries"] if self.rows else judge.JUDGE["every_inquiry"]

    @property
    def values(self) -> dict[str, Any]:
        if not self.rows:
            return {}
        return {
            "archived_buyer": self.rows[0]["buyer_id"],
            **{
                f"archived_{name}": msgspec.json.encode(table_rows(self.rows, name)).decode()
                for name in ("inquiries", "statuses", "replies")
            },
        }

    def history(self, inquiry_id: str, rule_set: str) -> list[dict[str, Any]]:
        """The archived rows of the statement `history`."""
        stored = [
            version
            for unit_row in self.rows
            if unit_row["inquiry_id"] == inquiry_id
            for version in (*unit_row["outcome_history"], *unit_row["outcomes"])
            if version["rule_set"] == rule_set
        ]
        versions = sorted(({name: version[name] for name in VERSION} for version in stored), key=_revision)
        became_final = [version for version in stored if version.get("provisional_revision") is not None]
        for final in became_final:
            following = next(version for version in versions if version["revision"] > final["provisional_revision"])
            before = {
                "revision": final["provisional_revision"],
                "state": "provisional",
                "changed_at": final["provisional_at"],
            }
            versions.append({**following, **before})
        return sorted(versions, key=_revision)


def _revision(version: Mapping[str, Any]) -> int:
    return int(version["revision"])


def _archived(
    cursor: psycopg.Cursor[dict[str, Any]], key: Mapping[str, str], archive: ArchiveFolder | None
) -> _Archived:
    part = cursor.execute(SQL["archived"], key).fetchone()
    if part is None:
        return _Archived()
    if archive is None:
        return _Archived(part["archived_at"], is_out_of_reach=True)
    try:
        rows = _rows_of_part(cursor, part, key, archive)
    except ArchiveUnreadable:
        # Another process may have written the file again meanwhile.
        rows = _rows_of_part(cursor, part, key, archive)
    (buyer,) = (unit_row["buyer_id"] for unit_row in rows if unit_row["inquiry_id"] == key["inquiry_id"])
    return _Archived(part["archived_at"], rows=tuple(unit_row for unit_row in rows if unit_row["buyer_id"] == buyer))


def _rows_of_part(
    cursor: psycopg.Cursor[dict[str, Any]], part: Mapping[str, Any], key: Mapping[str, str], archive: ArchiveFolder
) -> list[Row]:
    file = cursor.execute(SQL["archive_file"], part).fetchone()
    if file is None:
        raise ArchiveUnreadable("the unit is being restored; repeat the command")
    return archive.read(file["path"], file["sha256"], [key["company_id"]])


def _facts(
    cursor: psycopg.Cursor[dict[str, Any]], values: dict[str, Any], beginning: LiteralString
) -> dict[str, list[dict[str, Any]]]:
    replies = cursor.execute(beginning + "\n" + SQL["facts_replies"], values).fetchall()
    return {
        "inquiries": cursor.execute(beginning + "\n" + SQL["facts_inquiry"], values).fetchall(),
        "statuses": cursor.execute(beginning + "\n" + SQL["facts_statuses"], values).fetchall(),
        "replies": [_reply(values["company_id"], reply) for reply in replies],
    }


def _reply(company_id: str, reply: dict[str, Any]) -> dict[str, Any]:
    """A reply, with what each clock said about the time of a mail, and which one was trusted; None if that is no longer kept."""
    sent_at, first_seen, record = (reply.pop(name) for name in ("sent_at", "first_seen", "record"))
    if record is None:
        return {**reply, "clock": None}
    stored = StoredMessage(reply["reply_id"], sent_at, first_seen, bytes(record))
    sent = event_of(stored, MailboxPlace(company_id, reply["account_id"], reply["mailbox_id"]))
    return {**reply, "clock": None if sent is None else _clock(sent)}


def _clock(sent: MessageSent) -> dict[str, Any]:
    return {
        "basis": sent.sent_at_basis,
        "date_header": sent.date_header,
        "internal_date": sent.internal_date,
        "save_date": sent.save_date,
        "filed_after": sent.filed_after,
        "filed_before": sent.filed_before,
    }
