"""A row of an archive file: an inquiry with its statuses, replies, outcomes and their history. Pure.

`SCHEMA_VERSION` counts the changes of these columns; each file names the one that it was written with.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

SCHEMA_VERSION: Final = 1
INQUIRY: Final = (
    "company_id", "inquiry_id", "account_id", "received_at", "facts_id", "buyer_id", "buyer_region", "buyer_sent_from_region",
    "thread_id", "channel", "buyer_addresses", "message_ids", "reply_addresses",
)  # fmt: skip
NESTED: Final[Mapping[str, tuple[str, ...]]] = {
    "statuses": ("status", "at", "account_id"),
    "replies": (
        "reply_id", "source", "account_id", "mailbox_id", "replied_at", "evidence", "kind", "kind_reason", "matched_by",
    ),
    "outcomes": (
        "rule_set", "rule_version", "account_id", "owner", "buyer_id", "own_day", "unit_day", "unit_inquiry_id", "received_at",
        "first_reply_at", "reply_seconds", "outcome", "reason", "reply_source", "matched_by", "mailbox_id", "evidence", "covered",
        "due_at", "state", "changed_at", "revision", "provisional_at", "provisional_revision",
    ),
    "outcome_history": (
        "rule_set", "revision", "rule_version", "account_id", "outcome", "reason", "first_reply_at", "state", "changed_at",
    ),
}  # fmt: skip
"""Lists of a row: the tables of the ledger that they come from, and their columns beside company and inquiry."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ArchivedAccount:
    """An account that archived facts name, and since when."""

    account_id: str
    named_at: datetime


def unit_rows(tables: Mapping[str, Iterable[Mapping[str, Any]]]) -> list[Row]:
    """Rows of the ledger's tables (`inquiries`, and those of NESTED), an inquiry each."""
    nested: dict[str, dict[tuple[str, str], list[Row]]] = {}
    for name, columns in NESTED.items():
        lists: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for stored in tables[name]:
            lists[stored["company_id"], stored["inquiry_id"]].append({column: stored[column] for column in columns})
        nested[name] = lists
    rows = []
    for inquiry in tables["inquiries"]:
        key = (inquiry["company_id"], inquiry["inquiry_id"])
        rows.append(
            {column: inquiry[column] for column in INQUIRY} | {name: nested[name].get(key, []) for name in NESTED}
        )
    return sorted(rows, key=lambda unit_row: (unit_row["company_id"], unit_row["received_at"], unit_row["inquiry_id"]))


def table_rows(rows: Iterable[Row], name: str) -> list[Row]:
    """The rows of one of the ledger's tables again."""
    if name == "inquiries":
        return [{column: unit_row[column] for column in INQUIRY} for unit_row in rows]
    return [
        {"company_id": unit_row["company_id"], "inquiry_id": unit_row["inquiry_id"], **fact}
        for unit_row in rows
        for fact in unit_row[name]
    ]


def fact_instants(rows: Sequence[Row]) -> list[datetime]:
    """When each inquiry was received and each status and reply happened."""
    return [
        instant
        for unit_row in rows
        for instant in (
            unit_row["received_at"],
            *(status["at"] for status in unit_row["statuses"]),
            *(reply["replied_at"] for reply in unit_row["replies"]),
        )
    ]


def accounts(rows: Iterable[Row]) -> list[ArchivedAccount]:
    """The accounts that the facts name, as rates.sql takes them from facts (`named_account`)."""
    named: dict[str, datetime] = {}
    for unit_row in rows:
        received_at = unit_row["received_at"]
        mentions = [
            (unit_row["account_id"], received_at),
            *((reply["account_id"], max(reply["replied_at"], received_at)) for reply in unit_row["replies"]),
            *((status["account_id"], max(status["at"], received_at)) for status in unit_row["statuses"]),
        ]
        for account_id, at in mentions:
            if account_id:
                named[account_id] = min(at, named.get(account_id, at))
    return [ArchivedAccount(account_id, at) for account_id, at in sorted(named.items())]


def outcome_account(unit_row: Row) -> str | None:
    """The account of the inquiry's outcomes, to which the panel shows it; None where rule sets attribute it to different accounts."""
    outcome_accounts = {outcome["account_id"] for outcome in unit_row["outcomes"]}
    return outcome_accounts.pop() if len(outcome_accounts) == 1 else None


def day_counts(rows: Iterable[Row]) -> list[Row]:
    """Counts by rule set, account, day and outcome, as the view ledger.outcome_days has them of single outcomes."""
    counts: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for unit_row in rows:
        for outcome in unit_row["outcomes"]:
            is_excluded = outcome["outcome"] == "excluded"
            own = (
                outcome["rule_set"],
                outcome["owner"] or outcome["account_id"],
                outcome["own_day"] or outcome["unit_day"],
                "",
            )
            counts[own][0] += 1
            counts[own][1] += is_excluded
            if outcome["unit_inquiry_id"] == unit_row["inquiry_id"]:
                counts[outcome["rule_set"], outcome["account_id"], outcome["unit_day"], outcome["outcome"]][2] += 1
    return [
        {
            "rule_set": rule_set, "account_id": account_id, "day": day, "outcome": outcome,
            "inquiries": inquiries, "excluded": excluded, "units": units,
        }
        for (rule_set, account_id, day, outcome), (inquiries, excluded, units) in sorted(counts.items())
    ]  # fmt: skip
