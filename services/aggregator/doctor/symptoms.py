"""The facts about an account from which the doctor concludes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from typing import Any, Final

QUIET_SHARE: Final = 0.15
QUIET_MESSAGES: Final = 2
"""Sent folders with no more messages than this share of the silent units, or than this number, are practically empty."""


@dataclass(frozen=True, slots=True)
class Symptoms:
    """What is known of one account (or, added up, of a company) in the window of its newest row.

    Counts of units: `silent_units` were read completely and no message answers them; `units_…` are those that a problem of
    the mailboxes reaches. `sent…` count messages of the window's days; `…_on` are days.
    """

    company_id: str
    account_id: str
    as_of: date
    window_start: date
    window_end: date
    visible_on: date | None = None
    inquiries: int = 0
    excluded: int = 0
    excluded_by: Mapping[str, int] = field(default_factory=dict)
    timely: int = 0
    late: int = 0
    unanswered: int = 0
    unmeasured: int = 0
    pending: int = 0
    later_inquiries: int = 0
    last_inquiry_on: date | None = None
    silent_units: int = 0
    automatic_units: int = 0
    suspect_units: int = 0
    answered_by_mail: int = 0
    synced: bool = False
    mailboxes: int = 0
    mailboxes_read: int = 0
    mailboxes_off: int = 0
    mailboxes_filing: int = 0
    mailboxes_scanning: int = 0
    mailboxes_failing: int = 0
    failing_since_on: date | None = None
    units_blind: int = 0
    mailboxes_changed: int = 0
    changed_on: date | None = None
    units_changed: int = 0
    connected_on: date | None = None
    settling: bool = False
    units_before: int = 0
    visible_from_on: date | None = None
    units_invisible: int = 0
    backups_unconnected: int = 0
    sent: int = 0
    sent_automatic: int = 0
    sent_all: int = 0
    sent_suspect: int = 0
    last_sent_on: date | None = None
    gone: int = 0
    other_folders: int = 0
    other_messages: int = 0
    other_grown: int = 0
    waiting_seconds: int = 0

    @property
    def units(self) -> int:
        """Units that the row counts or that could not be measured."""
        return self.timely + self.untimely

    @property
    def untimely(self) -> int:
        """Units that were not answered in time."""
        return self.late + self.unanswered + self.unmeasured

    @property
    def quiet(self) -> bool:
        """Practically no message written by a person is in the Sent folders."""
        return self.sent <= max(QUIET_MESSAGES, QUIET_SHARE * self.silent_units)

    @property
    def weight(self) -> int:
        """How much this account weighs in its company's diagnosis."""
        return self.untimely or self.inquiries + self.later_inquiries or 1


def added(accounts: Sequence[Symptoms]) -> Symptoms:
    """Several accounts as one: counts are added, of days the first is taken, of `last_…` days the latest."""
    totals: dict[str, Any] = {}
    for symptom in fields(Symptoms):
        values = [getattr(account, symptom.name) for account in accounts]
        days = [day for day in values if isinstance(day, date)]
        if symptom.name == "excluded_by":
            reasons = sorted({reason for counts in values for reason in counts})
            totals[symptom.name] = {reason: sum(counts.get(reason, 0) for counts in values) for reason in reasons}
        elif days:
            totals[symptom.name] = max(days) if symptom.name.startswith("last_") else min(days)
        elif symptom.name == "waiting_seconds":
            totals[symptom.name] = max(values)
        elif isinstance(values[0], bool):
            totals[symptom.name] = all(values)
        elif isinstance(values[0], int):
            totals[symptom.name] = sum(values)
    return replace(accounts[0], **(totals | {"account_id": ""}))
