"""Reads the facts of accounts whose newest rate is 0 or missing. Reads only; whole companies at a time."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from services.aggregator.doctor.causes import Symptoms
from services.aggregator.judge.rules import RuleSet
from services.common.postgres import load_statements
from services.providers import catalog

SQL: Final = load_statements("services.aggregator.doctor", "evidence.sql")
COUNTS: Final = (
    "inquiries", "excluded", "timely", "late", "unanswered", "unmeasured", "pending", "later_inquiries", "silent_units",
    "automatic_units", "suspect_units", "answered_by_mail", "backups_unconnected", "waiting_seconds",
)  # fmt: skip


def read(
    connection: psycopg.Connection, rule_set: RuleSet, companies: Sequence[str], now: datetime
) -> dict[str, list[Symptoms]]:
    """By company the evidence of its rows whose newest rate is 0 or null; the one with an empty account is the company's own."""
    values = {
        "rule_set": rule_set.name,
        "companies": list(companies),
        "now": now,
        "target_days": -(-rule_set.target_seconds // 86_400),
    }
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(SQL["planner"])
        accounts = cursor.execute((SQL["scope"] + SQL["accounts"]).encode(), values).fetchall()
        mailboxes = cursor.execute((SQL["scope"] + SQL["mailboxes"]).encode(), values).fetchall()
    found: dict[str, list[Symptoms]] = {}
    for row in accounts:
        held = [
            one for one in mailboxes if (one["company_id"], one["account_id"]) == (row["company_id"], row["account_id"])
        ]
        found.setdefault(row["company_id"], []).append(of_account(row, held, rule_set, now))
    return found


def of_account(
    row: Mapping[str, Any], mailboxes: Sequence[Mapping[str, Any]], rule_set: RuleSet, now: datetime
) -> Symptoms:
    """One account out of its row and its mailboxes."""
    providers = catalog.load()
    read_now = [one for one in mailboxes if one["state"] in ("active", "needs_reconnect")]
    # A server that is away for some hours fails too, but reaches no unit of the window.
    failing = [
        one for one in read_now if one["blind_from"] is not None and (one["units_blind"] or one["state"] != "active")
    ]
    # Beside others that are read a paused one makes units unmeasured; alone it is a mailbox that is not connected.
    failing += [one for one in mailboxes if read_now and one["state"] == "paused" and one["units_blind"]]
    changed = [one for one in read_now if one["changed_at"] is not None]
    healthy = [one for one in read_now if one not in failing and one not in changed]
    connected_at = min((one["connected_at"] for one in read_now), default=None)
    scanning = [one for one in healthy if one["complete_through"] is None]
    settle = timedelta(days=rule_set.settle_days)
    first = row["first_later_on"] or (connected_at.astimezone(rule_set.zone).date() if connected_at else None)
    visible = [one["visible_from"] for one in healthy if one["visible_from"] is not None]
    return Symptoms(
        company_id=row["company_id"],
        account_id=row["account_id"],
        as_of=row["as_of"],
        window_start=row["window_start"],
        window_end=row["window_end"],
        **{name: int(row[name]) for name in COUNTS},
        excluded_by=row["excluded_by"],
        last_inquiry_on=row["last_inquiry_on"],
        visible_on=None if first is None else first + settle,
        synced=row["synced"],
        mailboxes=len(read_now),
        mailboxes_read=len(healthy),
        mailboxes_off=len(mailboxes) - len(read_now),
        mailboxes_filing=sum(providers.files_all_sent(one["host"]) for one in read_now),
        mailboxes_scanning=len(scanning),
        mailboxes_failing=len(failing),
        failing_since_on=_day(min((one["last_success_at"] or one["connected_at"] for one in failing), default=None)),
        units_blind=_most(failing, "units_blind"),
        mailboxes_changed=len(changed),
        changed_on=_day(min((one["changed_at"] for one in changed), default=None)),
        # Where the new address is connected too, the old mailbox explains nothing any more.
        units_changed=0 if healthy else _most(changed, "units_changed"),
        connected_on=_day(connected_at),
        settling=connected_at is not None and (bool(scanning) or connected_at > now - settle - timedelta(days=1)),
        units_before=min((one["units_before"] for one in read_now), default=0),
        # What any mailbox shows is visible.
        visible_from_on=_day(min(visible, default=None)),
        units_invisible=min((one["units_invisible"] for one in healthy), default=0),
        sent=_sum(mailboxes, "sent"),
        sent_automatic=_sum(mailboxes, "sent_automatic"),
        sent_all=_sum(mailboxes, "sent_all"),
        sent_suspect=_sum(mailboxes, "sent_suspect"),
        last_sent_on=max((one["last_sent_on"] for one in mailboxes if one["last_sent_on"] is not None), default=None),
        gone=sum(
            int(one["gone_unseen"] + max(0, one["sent_ever"] - one["in_folder"]))
            for one in read_now
            if not one["limited"]
        ),
        other_folders=_sum(read_now, "other_folders"),
        other_messages=_sum(read_now, "other_messages"),
        other_grown=_sum(read_now, "other_grown"),
    )


def _day(at: datetime | None) -> date | None:
    return None if at is None else at.astimezone(UTC).date()


def _sum(mailboxes: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(int(one[name]) for one in mailboxes)


def _most(mailboxes: Sequence[Mapping[str, Any]], name: str) -> int:
    return max((int(one[name]) for one in mailboxes), default=0)
