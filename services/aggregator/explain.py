"""Explains the outcome of an inquiry from the SQL steps that computed it, read before their last one.

Reads only, and judges nothing a second time: candidate answers, the verdicts on them and the coverage of mailboxes are rows
of the very statement that judges (judge.sql, `steps`).
"""

from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

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


def explain_inquiry(
    connection: psycopg.Connection, rule_set: RuleSet, company_id: str, inquiry_id: str
) -> dict[str, Any]:
    """Everything that led to the outcome, as plain values; `outcome` is `unknown` when the inquiry is not known.

    Keys: company_id, inquiry_id, rule_set, rule_version, now, outcome, reason, state, account_id, owner, excluded_by,
    exclusion, counted_until (records published later may not have been counted yet; None: now), reading_waits (mailboxes
    were read, and what was found is not counted yet), unit (first member, members, day, start_at, due_at, outcome, answer),
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
        if plan.judgements:
            plan = Plan(company_id, (judgement_of_outcomes(now),), plan.settled, plan.first_rate_day)
            values = {**judge.parameters(rule_set), **columns([plan], rule_set), **key}
            judged = cursor.execute(judge.judging(SQL["inquiry"], SQL["unit_inquiries"]), values).fetchone()
        members = [inquiry_id] if judged is None else judged["members"] or [inquiry_id]
        explanation: dict[str, Any] = {
            **key,
            "rule_version": rule_set.identity,
            "now": now,
            "outcome": "unknown",
            "facts": _facts(cursor, {**key, "inquiries": members}),
            "parameters": {name: rule_set.parameters()[name] for name in rules.deciding()},
            "history": cursor.execute(SQL["history"], key).fetchall(),
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
            judge.judging(SQL["candidate_answers"], SQL["unit_inquiries"]), values
        ).fetchall()
        explanation["coverage"] = cursor.execute(
            judge.judging(SQL["unit_coverage"], SQL["unit_inquiries"]), values
        ).fetchall()
    return explanation


def _facts(cursor: psycopg.Cursor[dict[str, Any]], values: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    replies = cursor.execute(SQL["facts_replies"], values).fetchall()
    return {
        "inquiries": cursor.execute(SQL["facts_inquiry"], values).fetchall(),
        "statuses": cursor.execute(SQL["facts_statuses"], values).fetchall(),
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
