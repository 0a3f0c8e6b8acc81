"""Reads the facts about accounts whose newest rate is 0 or missing, for whole companies at a time. Reads only."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from services.aggregator.doctor.symptoms import Symptoms
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
    """By company the symptoms of its rows whose newest rate is 0 or null; those with an empty account are the company's."""
    values = {
        "rule_set": rule_set.name,
        "companies": list(companies),
        "now": now,
        "zone": rule_set.time_zone,
        "target_days": -(-rule_set.target_seconds // 86_400),
    }
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(SQL["planner_settings"])
        accounts = cursor.execute((SQL["steps"] + SQL["accounts"]).encode(), values).fetchall()
        mailboxes = cursor.execute((SQL["steps"] + SQL["mailboxes"]).encode(), values).fetchall()
    by_company: dict[str, list[Symptoms]] = {}
    for account in accounts:
        of_this_account = [mailbox for mailbox in mailboxes if _key(mailbox) == _key(account)]
        symptoms = of_account(account, of_this_account, rule_set, now)
        by_company.setdefault(symptoms.company_id, []).append(symptoms)
    return by_company


def of_account(
    account: Mapping[str, Any], mailboxes: Sequence[Mapping[str, Any]], rule_set: RuleSet, now: datetime
) -> Symptoms:
    """The symptoms of one account from its row and those of its mailboxes (evidence.sql)."""
    providers = catalog.load()
    reading = [mailbox for mailbox in mailboxes if mailbox["state"] in ("active", "needs_reconnect")]
    failing = _failing(mailboxes, reading)
    changed = [mailbox for mailbox in reading if mailbox["changed_at"] is not None]
    healthy = [mailbox for mailbox in reading if mailbox not in failing and mailbox not in changed]
    scanning = [mailbox for mailbox in healthy if mailbox["complete_through"] is None]
    in_zone = partial(_day, rule_set)
    connected_at = min((mailbox["connected_at"] for mailbox in reading), default=None)
    settling = timedelta(days=rule_set.settle_days)
    first_day = account["first_later_on"] or in_zone(connected_at)
    visible_on = [mailbox["visible_from_on"] for mailbox in healthy if mailbox["visible_from_on"] is not None]
    sent_on = [mailbox["last_sent_on"] for mailbox in mailboxes if mailbox["last_sent_on"] is not None]
    return Symptoms(
        company_id=account["company_id"],
        account_id=account["account_id"],
        as_of=account["as_of"],
        window_start=account["window_start"],
        window_end=account["window_end"],
        **{name: int(account[name]) for name in COUNTS},
        excluded_by=account["excluded_by"],
        last_inquiry_on=account["last_inquiry_on"],
        visible_on=None if first_day is None else first_day + settling,
        synced=account["synced"],
        mailboxes=len(reading),
        mailboxes_read=len(healthy),
        mailboxes_off=len(mailboxes) - len(reading),
        mailboxes_filing=sum(providers.files_all_sent(mailbox["host"]) for mailbox in reading),
        mailboxes_scanning=len(scanning),
        mailboxes_failing=len(failing),
        failing_since_on=in_zone(
            min((mailbox["last_success_at"] or mailbox["connected_at"] for mailbox in failing), default=None)
        ),
        units_blind=_max(failing, "units_blind"),
        mailboxes_changed=len(changed),
        changed_on=in_zone(min((mailbox["changed_at"] for mailbox in changed), default=None)),
        # If the new address is connected too, the old mailbox no longer explains anything.
        units_changed=0 if healthy else _max(changed, "units_changed"),
        connected_on=in_zone(connected_at),
        settling=connected_at is not None and (bool(scanning) or connected_at > now - settling - timedelta(days=1)),
        units_before=min((mailbox["units_before"] for mailbox in reading), default=0),
        # Mail that any of the mailboxes shows is visible.
        visible_from_on=min(visible_on, default=None),
        units_invisible=min((mailbox["units_invisible"] for mailbox in healthy), default=0),
        **{name: _sum(mailboxes, name) for name in ("sent", "sent_automatic", "sent_all", "sent_suspect")},
        last_sent_on=max(sent_on, default=None),
        gone=sum(
            int(mailbox["gone_unseen"] + max(0, mailbox["sent_ever"] - mailbox["in_folder"]))
            for mailbox in reading
            if not mailbox["limited"]
        ),
        **{name: _sum(reading, name) for name in ("other_folders", "other_messages", "other_grown")},
    )


def _failing(mailboxes: Sequence[Mapping[str, Any]], reading: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    # An active mailbox whose server is unavailable for some hours fails too, but affects no unit of the window.
    failing = [
        mailbox
        for mailbox in reading
        if mailbox["blind_from"] is not None and (mailbox["units_blind"] or mailbox["state"] != "active")
    ]
    # A paused mailbox beside others that are read makes units unmeasured; alone it counts as not connected.
    if reading:
        failing += [mailbox for mailbox in mailboxes if mailbox["state"] == "paused" and mailbox["units_blind"]]
    return failing


def _key(account_row: Mapping[str, Any]) -> tuple[str, str]:
    return account_row["company_id"], account_row["account_id"]


def _day(rule_set: RuleSet, at: datetime | None) -> date | None:
    """The day of an instant in the time zone of a rule set."""
    return None if at is None else at.astimezone(rule_set.zone).date()


def _sum(mailboxes: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(int(mailbox[name]) for mailbox in mailboxes)


def _max(mailboxes: Sequence[Mapping[str, Any]], name: str) -> int:
    return max((int(mailbox[name]) for mailbox in mailboxes), default=0)
