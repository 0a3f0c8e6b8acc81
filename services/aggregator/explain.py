"""Why an inquiry has its outcome: the same steps of SQL that made the number, read before their last one.

Reads only. Nothing is judged here a second time: what may have answered, what became of it, who looked at the mailboxes
are rows of the very statement that judges (judge.sql, `judgement`).
"""

from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from services.aggregator.judge import judge
from services.aggregator.judge.judge import Delta, Plan
from services.aggregator.judge.rules import RuleSet
from services.common import codec
from services.common.errors import InvalidEvent
from services.common.events import MESSAGE_SENT, MessageSent
from services.common.postgres import clock, load_statements

SQL: Final = load_statements("services.aggregator", "explain.sql")
DECIDING: Final = (
    "time_zone", "target_seconds", "unit", "answered_by", "exclude", "attribution", "evidence", "unmeasured",
    "window_days", "settle_days", "max_settle_days", "period_by",
)  # fmt: skip
"""Parameters that decide about one inquiry."""


def explain_inquiry(
    connection: psycopg.Connection, rule_set: RuleSet, company_id: str, inquiry_id: str
) -> dict[str, Any]:
    """Everything that led to the outcome, as plain values; `outcome` is `unknown` when the inquiry is not known.

    Keys: company_id, inquiry_id, rule_set, rule_version, now, outcome, reason, state, account_id, owner, excluded_by,
    exclusion, counted_until (what was published later may not have been counted yet; None: now), reading_waits (mailboxes
    were read and what was found is not counted yet), unit (first member, members, day, start_at, due_at, outcome, answer),
    considered, coverage, facts (inquiries, statuses, replies), parameters, history, waiting.
    """
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        now = clock(connection)
        judge.use_schema(connection, "ledger")
        (span,) = judge.spans(connection, rule_set, [company_id], now)
        place = {"company_id": company_id, "inquiry_id": inquiry_id, "rule_set": rule_set.name}
        plan = judge.plan(rule_set, span, Delta(), now)
        judged = None
        values: dict[str, Any] = {}
        if plan.judgements:
            plan = Plan(company_id, (judge.outcomes_of_units_at(now),), plan.settled, plan.begin)
            values = {**judge.parameters(rule_set), **judge.arrays([plan], rule_set), **place}
            judged = cursor.execute(_after("inquiry"), values).fetchone()
        members = [inquiry_id] if judged is None else judged["members"] or [inquiry_id]
        facts = {
            name: cursor.execute(SQL[f"facts_{name}"], {**place, "inquiries": members}).fetchall()
            for name in ("inquiry", "statuses", "replies")
        }
        (state,) = cursor.execute(SQL["waiting"], place).fetchall()
        found: dict[str, Any] = {
            **place,
            "rule_version": rule_set.identity,
            "now": now,
            "outcome": "unknown",
            "facts": {
                "inquiries": facts["inquiry"],
                "statuses": facts["statuses"],
                "replies": [{**reply, "clock": _clock(reply.pop("record"))} for reply in facts["replies"]],
            },
            "parameters": {name: rule_set.parameters()[name] for name in DECIDING},
            "history": cursor.execute(SQL["history"], place).fetchall(),
            **state,
        }
        if judged is None:
            return found
        found |= {
            name: judged[name]
            for name in (
                "outcome", "reason", "state", "account_id", "owner", "excluded_by", "exclusion", "received_at",
                "counted_until", "reading_waits",
            )
        }  # fmt: skip
        if judged["unit_inquiry_id"] is None:
            return found
        values |= {"unit_inquiry_id": judged["unit_inquiry_id"]}
        found["unit"] = {
            name: judged[name]
            for name in (
                "unit_inquiry_id", "unit_day", "start_at", "due_at", "members", "unit_outcome", "unit_reason",
                "first_reply_at", "reply_seconds", "reply_source", "reply_id", "matched_by", "mailbox_id", "evidence", "covered",
            )
        }  # fmt: skip
        found["considered"] = cursor.execute(_after("considered"), values).fetchall()
        found["coverage"] = cursor.execute(_after("watch"), values).fetchall()
    return found


def _after(name: str) -> bytes:
    return (judge.SQL["judgement"] + "\n" + SQL[name]).encode()


def _clock(record: bytes | None) -> dict[str, Any] | None:
    """Which of a mail's clocks counted, and what each of them said; None when its record is not kept any more."""
    if record is None:
        return None
    try:
        sent = codec.decode(bytes(record), accept=frozenset({MESSAGE_SENT})).data
    except InvalidEvent:
        return None
    assert isinstance(sent, MessageSent)
    return {
        "basis": sent.sent_at_basis,
        "date_header": sent.date_header,
        "internal_date": sent.internal_date,
        "save_date": sent.save_date,
        "filed_after": sent.filed_after,
        "filed_before": sent.filed_before,
    }
