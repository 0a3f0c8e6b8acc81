"""The table of conditions: facts about an account whose rate is 0 or missing → causes with a confidence. Pure.

Each cause has one function; its docstring is its condition as docs/doctor.md shows it. Most of them ask the same
question: how large a part of the units that were not answered in time does this cause reach? From 80 % on it explains
the number (`high`, if there are three units at least), from 40 % on it may (`medium`), below that it explains a part
(`low`). Where the facts cannot tell "answers from elsewhere" from "does not answer", no cause is more than `medium`, and
all of them are named.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from typing import Any, Final, Literal

Confidence = Literal["high", "medium", "low"]
ORDER: Final[tuple[Confidence, ...]] = ("high", "medium", "low")
MOST: Final = 0.8
MANY: Final = 0.4
QUIET: Final = 0.15
STRAYS: Final = 2
"""No more messages than this part of the silent units, or than two: practically nothing is filed."""
FEW: Final = 3
BEHIND_SECONDS: Final = 15 * 60
"""Facts of a healthy pipeline are counted within seconds."""


@dataclass(frozen=True, slots=True)
class Symptoms:
    """What is known of one account (or, added up, of a company) in the window of its newest row.

    Counts of units: `silent_units` were read completely and nothing answered them; `units_…` are those that a trouble of
    the mailboxes reaches. `sent…` are messages of the window's days; `_on` are days.
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
        """Units that the row counts or could not measure."""
        return self.timely + self.untimely

    @property
    def untimely(self) -> int:
        """Units that were not answered in time."""
        return self.late + self.unanswered + self.unmeasured

    @property
    def quiet(self) -> bool:
        """Practically no message of a person lies in the Sent folders."""
        return self.sent <= max(STRAYS, QUIET * self.silent_units)

    @property
    def weight(self) -> int:
        """How much of a company's number this account is."""
        return self.untimely or self.inquiries + self.later_inquiries or 1


@dataclass(frozen=True, slots=True)
class Cause:
    """A code, the facts that are shown with it, and its condition."""

    code: str
    facts: tuple[str, ...]
    confidence: Callable[[Symptoms], Confidence | None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause that the facts allow."""

    cause: str
    confidence: Confidence
    facts: dict[str, Any]


def part(units: int, of: int) -> Confidence | None:
    """How well something that reaches `units` of `of` units explains them; of one or two units never surely."""
    if not units or not of:
        return None
    share = units / of
    return "high" if share >= MOST and of >= FEW else "medium" if share >= MANY else "low"


def no_more_than(most: Confidence, found: Confidence | None) -> Confidence | None:
    """`found`, held down to `most`."""
    return None if found is None else ORDER[max(ORDER.index(found), ORDER.index(most))]


def best(*found: Confidence | None) -> Confidence | None:
    """The highest of several."""
    return min((one for one in found if one is not None), key=ORDER.index, default=None)


def silence(e: Symptoms) -> Confidence | None:
    """What was read to the end and not answered; at most medium, since it has several explanations."""
    return no_more_than("medium", part(e.silent_units, e.untimely))


def pipeline_behind(e: Symptoms) -> Confidence | None:
    """What was published, or a fact, waits longer than 15 minutes to be counted: `high`, and no other cause is more than
    `medium`."""
    return "high" if e.waiting_seconds > BEHIND_SECONDS else None


def no_valid_inquiries(e: Symptoms) -> Confidence | None:
    """No inquiry in the window and none after it: `high`."""
    return "high" if not e.inquiries and not e.units and not e.later_inquiries and not e.pending else None


def all_excluded(e: Symptoms) -> Confidence | None:
    """Inquiries in the window, and the rule set excludes each of them: `high`."""
    return "high" if not e.units and not e.pending and 0 < e.inquiries == e.excluded else None


def settling_not_over(e: Symptoms) -> Confidence | None:
    """Nothing to count in the window, but later inquiries (or open ones): `high`. Else by the part of the units that were
    due before the first mailbox was connected, when that is not longer ago than settling takes or its first scan is not
    over; at most `medium` when the first scan could read the time of most of them and found no answer."""
    if not e.units:
        return "high" if e.inquiries > e.excluded or (e.later_inquiries and not e.inquiries) or e.pending else None
    if not e.settling or not e.mailboxes or e.synced:
        return None
    found = part(e.units_before, e.untimely)
    return no_more_than("medium", found) if silence(e) == "medium" and not e.mailboxes_scanning else found


def mailbox_not_connected(e: Symptoms) -> Confidence | None:
    """No mailbox of the account is read (none connected, or paused, removed, not tested) and the platform does not sync it:
    by the part of the units that were not measured, or were counted as unanswered without being measured."""
    if e.synced or e.mailboxes:
        return None
    return part(e.untimely - e.late - e.silent_units, e.untimely)


def address_changed(e: Symptoms) -> Confidence | None:
    """A mailbox was connected for an address that the account does not have any more: by the part of the units that were
    due after the change. The platform may have told of the change late: as mailbox-does-not-answer, when practically
    nothing lies in the Sent folders; at least `low`."""
    if not e.mailboxes_changed:
        return None
    return best(part(e.units_changed, e.untimely), mailbox_does_not_answer(e) if e.quiet else None, "low")


def login_failing_since(e: Symptoms) -> Confidence | None:
    """A mailbox is not read (login refused, server away, no Sent folder, paused beside others that are read, …): by the part of
    the units that were due after it was read to the end for the last time."""
    return part(e.units_blind, e.untimely) if e.mailboxes_failing else None


def provider_window_too_short(e: Symptoms) -> Confidence | None:
    """The provider shows only the newest messages or days: by the part of the units that were due before the first of
    them."""
    return part(e.units_invisible, e.untimely)


def only_automatic_replies(e: Symptoms) -> Confidence | None:
    """By the part of the units that have replies, all of them automatic."""
    return part(e.automatic_units, e.untimely)


def clock_trouble(e: Symptoms) -> Confidence | None:
    """At least 3 messages and 30 % of what was sent have a time in doubt: by the part of the units whose late answer is one
    of them; `medium` when there is none but half of all messages are in doubt, for a wrong clock can also put an answer
    before its inquiry."""
    if e.sent_suspect < FEW or e.sent_suspect < 0.3 * e.sent_all:
        return None
    found = part(e.suspect_units, e.untimely)
    doubt = no_more_than("medium", part(e.silent_units, e.untimely)) if e.sent_suspect >= 0.5 * e.sent_all else None
    return best(found, doubt, "low")


def wrong_sent_folder(e: Symptoms) -> Confidence | None:
    """Another folder with a name for sent mail has messages: by the part of the silent units. Where the folders that are
    read are practically empty at most `medium`, unless the other one grows; where they are not, at most `medium` when it
    grows, else `low`."""
    if not e.other_messages:
        return None
    if e.quiet:
        most: Confidence = "high" if e.other_grown else "medium"
    else:
        most = "medium" if e.other_grown else "low"
    return no_more_than(most, part(e.silent_units, e.untimely))


def copies_deleted(e: Symptoms) -> Confidence | None:
    """Messages were filed and are gone (UIDs used up between polls, or fewer messages in the folder than were seen): by the
    part of the silent units. At most `medium` when no more are gone than are left; at most `low` when they are fewer than 3,
    or than 30 % of the silent units."""
    if not e.gone:
        return None
    most: Confidence = "low"
    if e.gone >= max(FEW, 0.3 * e.silent_units):
        most = "high" if e.gone > e.sent else "medium"
    return no_more_than(most, part(e.silent_units, e.untimely))


def mailbox_does_not_answer(e: Symptoms) -> Confidence | None:
    """Read to the end and no answer found: by the part of the silent units, at most `medium`; `low` when more units were
    answered late than not at all."""
    return "low" if silence(e) and e.late > e.silent_units else silence(e)


def backup_not_connected(e: Symptoms) -> Confidence | None:
    """As mailbox-does-not-answer, and the account has a backup address whose mailbox is not connected; without any mailbox
    by the part of the units that were not measured, at most `medium`."""
    if not e.backups_unconnected:
        return None
    return mailbox_does_not_answer(e) or no_more_than("medium", mailbox_not_connected(e))


def sent_not_stored(e: Symptoms) -> Confidence | None:
    """As mailbox-does-not-answer while practically nothing lies in the Sent folders; `low` when something does, or when
    every mailbox's provider files what it sends by itself."""
    found = mailbox_does_not_answer(e)
    if found is None:
        return None
    return found if e.quiet and e.mailboxes_filing < max(1, e.mailboxes) else "low"


def buyers_second_address(e: Symptoms) -> Confidence | None:
    """As mailbox-does-not-answer, when people are sent at least half as many messages as there are silent units: the facts
    do not tell whom."""
    return mailbox_does_not_answer(e) if 2 * e.sent >= max(1, e.silent_units) else None


def nothing_wrong(e: Symptoms) -> Confidence | None:
    """By the part of the units that were answered late by trusted clocks. Silent units may simply not be answered: by their
    part, at most `medium`. `high` when the platform syncs the account, or when too few units were counted to show a rate."""
    if e.synced and e.untimely:
        return "high"
    if e.timely and not e.unmeasured:
        return "high"
    late = part(e.late - e.suspect_units, e.untimely)
    return best(late, silence(e))


_ROW = ("timely", "late", "unanswered", "unmeasured")
_SENT = ("silent_units", "sent", "answered_by_mail")
CAUSES: Final = (
    Cause("pipeline-behind", ("waiting_seconds",), pipeline_behind),
    Cause("no-valid-inquiries", ("inquiries", "last_inquiry_on"), no_valid_inquiries),
    Cause("all-excluded", ("inquiries", "excluded", "excluded_by"), all_excluded),
    Cause("address-changed", ("changed_on", "connected_on", "mailboxes_changed", "units_changed"), address_changed),
    Cause("login-failing-since", ("failing_since_on", "mailboxes_failing", "units_blind"), login_failing_since),
    Cause("mailbox-not-connected", ("mailboxes_off", "unanswered", "unmeasured"), mailbox_not_connected),
    Cause("only-automatic-replies", ("automatic_units", "sent_automatic"), only_automatic_replies),
    Cause("provider-window-too-short", ("visible_from_on", "units_invisible"), provider_window_too_short),
    Cause("wrong-sent-folder", (*_SENT, "other_folders", "other_messages", "other_grown"), wrong_sent_folder),
    Cause("copies-deleted", (*_SENT, "gone"), copies_deleted),
    Cause("clock-trouble", ("sent_suspect", "sent_all", "suspect_units"), clock_trouble),
    Cause("backup-not-connected", (*_SENT, "backups_unconnected"), backup_not_connected),
    Cause("sent-not-stored", (*_SENT, "last_sent_on", "mailboxes_filing"), sent_not_stored),
    Cause("mailbox-does-not-answer", (*_SENT, "last_sent_on", "mailboxes_read"), mailbox_does_not_answer),
    Cause("buyers-second-address", _SENT, buyers_second_address),
    Cause(
        "settling-not-over",
        ("later_inquiries", "pending", "units_before", "connected_on", "mailboxes_scanning", "visible_on"),
        settling_not_over,
    ),
    Cause("none", _ROW, nothing_wrong),
)
"""In the order in which equally confident ones are told."""


def diagnose(e: Symptoms) -> list[Finding]:
    """Causes of one account, most confident first; never empty: `none` is what is left when nothing is found."""
    found = [(cause, confidence) for cause in CAUSES if (confidence := cause.confidence(e)) is not None]
    if not found:
        found = [(cause, "medium") for cause in CAUSES if cause.code == "none"]
    if pipeline_behind(e):
        found = [
            (cause, confidence if cause.confidence is pipeline_behind else no_more_than("medium", confidence) or "low")
            for cause, confidence in found
        ]
    return ranked([Finding(cause.code, confidence, facts(e, cause)) for cause, confidence in found])


def of_company(accounts: Sequence[tuple[Symptoms, Sequence[Finding]]]) -> list[Finding]:
    """Causes of a company out of those of its accounts, weighed by their units; facts are added up.

    A cause has the confidence that it reaches for at least half of the company, else it is `low`.
    """
    if any(e.untimely for e, _ in accounts):
        accounts = [(e, findings) for e, findings in accounts if e.untimely]
    elif any(e.inquiries or e.later_inquiries for e, _ in accounts):
        accounts = [(e, findings) for e, findings in accounts if e.inquiries or e.later_inquiries]
    whole = sum(e.weight for e, _ in accounts)
    found: list[Finding] = []
    for cause in CAUSES:
        held = [(e, one) for e, findings in accounts for one in findings if one.cause == cause.code]
        if not held:
            continue
        confidence: Confidence = "low"
        for level in ORDER:
            reached = sum(e.weight for e, one in held if ORDER.index(one.confidence) <= ORDER.index(level))
            if 2 * reached >= whole:
                confidence = level
                break
        found.append(Finding(cause.code, confidence, facts(added([e for e, _ in held]), cause)))
    return ranked(found)


def ranked(findings: Sequence[Finding]) -> list[Finding]:
    """Most confident first; among equals as CAUSES stand."""
    place = {cause.code: number for number, cause in enumerate(CAUSES)}
    return sorted(findings, key=lambda one: (ORDER.index(one.confidence), place[one.cause]))


def facts(e: Symptoms, cause: Cause) -> dict[str, Any]:
    """The facts of a cause: counts, and days as text; the number of units they are part of first."""
    shown: dict[str, Any] = {"units": e.units}
    for name in cause.facts:
        value = getattr(e, name)
        shown[name] = value.isoformat() if isinstance(value, date) else dict(value) if name == "excluded_by" else value
    return shown


def added(evidence: Sequence[Symptoms]) -> Symptoms:
    """Several accounts as one: counts added, the earliest day of what began, the latest of what was last."""
    values: dict[str, Any] = {}
    for one in fields(Symptoms):
        held = [getattr(e, one.name) for e in evidence]
        days = [day for day in held if isinstance(day, date)]
        if one.name == "excluded_by":
            values[one.name] = {
                name: sum(h.get(name, 0) for h in held) for name in sorted({n for h in held for n in h})
            }
        elif days:
            values[one.name] = max(days) if one.name.startswith("last_") else min(days)
        elif one.name == "waiting_seconds":
            values[one.name] = max(held)
        elif isinstance(held[0], bool):
            values[one.name] = all(held)
        elif isinstance(held[0], int):
            values[one.name] = sum(held)
    return replace(
        evidence[0], account_id="", **{k: v for k, v in values.items() if k not in ("company_id", "account_id")}
    )
