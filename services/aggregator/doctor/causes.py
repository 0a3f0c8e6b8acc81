"""The causes of a rate that is 0 or missing, and the conditions under which each is found, with a confidence. Pure.

Each cause has one function; its docstring is its condition as the evaluation page shows it. Most of them compare the same
two numbers: how large a share of the untimely units (those not answered in time) does this cause reach? From 80 % it explains
the rate (`high`, if there are at least three units), from 40 % it may explain it (`medium`), below that it explains a part
(`low`). Where the facts cannot distinguish "answers from another mailbox" from "does not answer", every such cause is
named, none of them with more than `medium`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal

from services.aggregator.doctor.symptoms import Symptoms, added

Confidence = Literal["high", "medium", "low"]
ORDER: Final[tuple[Confidence, ...]] = ("high", "medium", "low")
HIGH_SHARE: Final = 0.8
MEDIUM_SHARE: Final = 0.4
MIN_UNITS: Final = 3
"""Fewer units, or messages, never support `high`."""
BEHIND_SECONDS: Final = 15 * 60
"""A healthy pipeline counts facts within seconds."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A code, the names of the facts that are shown with it, and its condition."""

    code: str
    facts: tuple[str, ...]
    confidence: Callable[[Symptoms], Confidence | None]


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause whose condition the facts meet."""

    cause: str
    confidence: Confidence
    facts: dict[str, Any]


def by_share(units: int, total: int) -> Confidence | None:
    """How well a cause that reaches `units` of `total` units explains them; of one or two units never with `high`."""
    if not units or not total:
        return None
    share = units / total
    return "high" if share >= HIGH_SHARE and total >= MIN_UNITS else "medium" if share >= MEDIUM_SHARE else "low"


def at_most(limit: Confidence, confidence: Confidence | None) -> Confidence | None:
    """The confidence, lowered to `limit` if it is higher."""
    return None if confidence is None else ORDER[max(ORDER.index(confidence), ORDER.index(limit))]


def highest(*confidences: Confidence | None) -> Confidence | None:
    """The highest of several confidences."""
    return min((confidence for confidence in confidences if confidence is not None), key=ORDER.index, default=None)


def silence(symptoms: Symptoms) -> Confidence | None:
    """Units that were read completely and not answered; at most `medium`, since there are several explanations."""
    return at_most("medium", by_share(symptoms.silent_units, symptoms.untimely))


def pipeline_behind(symptoms: Symptoms) -> Confidence | None:
    """Published records or facts have waited longer than 15 minutes to be counted: `high`, and every other cause is limited
    to `medium`."""
    return "high" if symptoms.waiting_seconds > BEHIND_SECONDS else None


def no_valid_inquiries(symptoms: Symptoms) -> Confidence | None:
    """No inquiry in the window and none after it: `high`."""
    return (
        "high"
        if not symptoms.inquiries and not symptoms.units and not symptoms.later_inquiries and not symptoms.pending
        else None
    )


def all_excluded(symptoms: Symptoms) -> Confidence | None:
    """There are inquiries in the window, and the rule set excludes each of them: `high`."""
    return (
        "high" if not symptoms.units and not symptoms.pending and 0 < symptoms.inquiries == symptoms.excluded else None
    )


def settling_not_over(symptoms: Symptoms) -> Confidence | None:
    """Nothing to count in the window, but later inquiries (or open ones): `high`. Otherwise by the share of the units that
    were due before the first mailbox was connected, if settling has not ended since then or the first scan has not ended; at
    most `medium` if the first scan covered most of them and found no answer."""
    if not symptoms.units:
        return (
            "high"
            if symptoms.inquiries > symptoms.excluded
            or (symptoms.later_inquiries and not symptoms.inquiries)
            or symptoms.pending
            else None
        )
    if not symptoms.settling or not symptoms.mailboxes or symptoms.synced:
        return None
    confidence = by_share(symptoms.units_before, symptoms.untimely)
    scanned = silence(symptoms) == "medium" and not symptoms.mailboxes_scanning
    return at_most("medium", confidence) if scanned else confidence


def mailbox_not_connected(symptoms: Symptoms) -> Confidence | None:
    """No mailbox of the account is read (none connected, or paused, removed, not tested) and the platform does not sync it:
    by the share of the units that were not measured, or counted as unanswered without being measured."""
    if symptoms.synced or symptoms.mailboxes:
        return None
    return by_share(symptoms.untimely - symptoms.late - symptoms.silent_units, symptoms.untimely)


def address_changed(symptoms: Symptoms) -> Confidence | None:
    """A mailbox is connected for an address that the account no longer has: by the share of the units that were due after
    the change. The platform may have reported the change late: as mailbox-does-not-answer if the Sent folders are practically
    empty; at least `low`."""
    if not symptoms.mailboxes_changed:
        return None
    return highest(
        by_share(symptoms.units_changed, symptoms.untimely),
        mailbox_does_not_answer(symptoms) if symptoms.quiet else None,
        "low",
    )


def login_failing_since(symptoms: Symptoms) -> Confidence | None:
    """A mailbox is not read (login refused, server unavailable, no Sent folder, paused while others are read, …): by the share
    of the units that were due after it was last read completely."""
    return by_share(symptoms.units_blind, symptoms.untimely) if symptoms.mailboxes_failing else None


def provider_window_too_short(symptoms: Symptoms) -> Confidence | None:
    """The provider shows only the newest messages or days: by the share of the units that were due before the first of
    them."""
    return by_share(symptoms.units_invisible, symptoms.untimely)


def only_automatic_replies(symptoms: Symptoms) -> Confidence | None:
    """By the share of the units that have replies, all of them automatic."""
    return by_share(symptoms.automatic_units, symptoms.untimely)


def clock_trouble(symptoms: Symptoms) -> Confidence | None:
    """At least 3 messages and 30 % of all sent messages have an implausible time: by the share of the units whose late answer
    is one of them; `medium` if there is none but half of all messages are implausible, since a wrong clock can also place an
    answer before its inquiry."""
    if symptoms.sent_suspect < MIN_UNITS or symptoms.sent_suspect < 0.3 * symptoms.sent_all:
        return None
    late = by_share(symptoms.suspect_units, symptoms.untimely)
    half_implausible = symptoms.sent_suspect >= 0.5 * symptoms.sent_all
    return highest(late, silence(symptoms) if half_implausible else None, "low")


def wrong_sent_folder(symptoms: Symptoms) -> Confidence | None:
    """Another folder with a name for sent mail has messages: by the share of the silent units. If the folders that are read
    are practically empty, at most `medium` unless the other folder grows; if they are not, at most `medium` if it grows,
    otherwise `low`."""
    if not symptoms.other_messages:
        return None
    if symptoms.quiet:
        limit: Confidence = "high" if symptoms.other_grown else "medium"
    else:
        limit = "medium" if symptoms.other_grown else "low"
    return at_most(limit, by_share(symptoms.silent_units, symptoms.untimely))


def copies_deleted(symptoms: Symptoms) -> Confidence | None:
    """Messages were filed and have disappeared (UIDs used up between polls, or fewer messages in the folder than were seen):
    by the share of the silent units. At most `medium` if no more have disappeared than are left; at most `low` if fewer than 3
    have, or fewer than 30 % of the silent units."""
    if not symptoms.gone:
        return None
    limit: Confidence = "low"
    if symptoms.gone >= max(MIN_UNITS, 0.3 * symptoms.silent_units):
        limit = "high" if symptoms.gone > symptoms.sent else "medium"
    return at_most(limit, by_share(symptoms.silent_units, symptoms.untimely))


def mailbox_does_not_answer(symptoms: Symptoms) -> Confidence | None:
    """Read completely and no answer found: by the share of the silent units, at most `medium`; `low` if more units were
    answered late than not at all."""
    return "low" if silence(symptoms) and symptoms.late > symptoms.silent_units else silence(symptoms)


def backup_not_connected(symptoms: Symptoms) -> Confidence | None:
    """As mailbox-does-not-answer, if the account has a backup address whose mailbox is not connected; without any mailbox by
    the share of the units that were not measured, at most `medium`."""
    if not symptoms.backups_unconnected:
        return None
    return mailbox_does_not_answer(symptoms) or at_most("medium", mailbox_not_connected(symptoms))


def sent_not_stored(symptoms: Symptoms) -> Confidence | None:
    """As mailbox-does-not-answer if the Sent folders are practically empty; `low` if they are not, or if the provider of
    every mailbox files sent mail by itself."""
    confidence = mailbox_does_not_answer(symptoms)
    if confidence is None:
        return None
    return confidence if symptoms.quiet and symptoms.mailboxes_filing < max(1, symptoms.mailboxes) else "low"


def buyers_second_address(symptoms: Symptoms) -> Confidence | None:
    """As mailbox-does-not-answer, if at least half as many messages were sent as there are silent units: the facts do not say
    to whom."""
    return mailbox_does_not_answer(symptoms) if 2 * symptoms.sent >= max(1, symptoms.silent_units) else None


def nothing_wrong(symptoms: Symptoms) -> Confidence | None:
    """By the share of the units that were answered late by trusted clocks. Silent units may simply not have been answered: by
    their share, at most `medium`. `high` if the platform syncs the account, or if too few units were counted to show a rate."""
    if symptoms.synced and symptoms.untimely:
        return "high"
    if symptoms.timely and not symptoms.unmeasured:
        return "high"
    late = by_share(symptoms.late - symptoms.suspect_units, symptoms.untimely)
    return highest(late, silence(symptoms))


OF_MAILBOXES: Final = frozenset({
    "silent_units", "sent", "sent_automatic", "sent_all", "sent_suspect", "answered_by_mail", "gone", "mailboxes_filing",
})  # fmt: skip
"""Facts that only mail which was read can show. Without a mailbox they are 0 because nothing was looked at."""
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
"""In the order in which causes of equal confidence are listed."""


def diagnose(symptoms: Symptoms) -> list[Finding]:
    """Causes of one account, most confident first; never empty: `none` if no other condition is met."""
    confidences = [(cause, confidence) for cause in CAUSES if (confidence := cause.confidence(symptoms)) is not None]
    if not confidences:
        confidences = [(cause, "medium") for cause in CAUSES if cause.code == "none"]
    if pipeline_behind(symptoms):
        confidences = [
            (cause, confidence if cause.confidence is pipeline_behind else at_most("medium", confidence) or "low")
            for cause, confidence in confidences
        ]
    return ranked([Finding(cause.code, confidence, facts(symptoms, cause)) for cause, confidence in confidences])


def of_company(accounts: Sequence[tuple[Symptoms, Sequence[Finding]]]) -> list[Finding]:
    """Causes of a company from those of its accounts, weighed by their units; facts are added up.

    A cause has the confidence that it reaches for at least half of the company, otherwise `low`.
    """
    if any(symptoms.untimely for symptoms, _ in accounts):
        accounts = [(symptoms, findings) for symptoms, findings in accounts if symptoms.untimely]
    elif any(symptoms.inquiries or symptoms.later_inquiries for symptoms, _ in accounts):
        accounts = [
            (symptoms, findings) for symptoms, findings in accounts if symptoms.inquiries or symptoms.later_inquiries
        ]
    total_weight = sum(symptoms.weight for symptoms, _ in accounts)
    company_findings: list[Finding] = []
    for cause in CAUSES:
        affected = [
            (symptoms, finding)
            for symptoms, findings in accounts
            for finding in findings
            if finding.cause == cause.code
        ]
        if not affected:
            continue
        confidence: Confidence = "low"
        for level in ORDER:
            reached = sum(
                symptoms.weight
                for symptoms, finding in affected
                if ORDER.index(finding.confidence) <= ORDER.index(level)
            )
            if 2 * reached >= total_weight:
                confidence = level
                break
        company = added([symptoms for symptoms, _ in affected])
        company_findings.append(Finding(cause.code, confidence, facts(company, cause)))
    return ranked(company_findings)


def ranked(findings: Sequence[Finding]) -> list[Finding]:
    """Most confident first; those of equal confidence in the order of CAUSES."""
    position = {cause.code: index for index, cause in enumerate(CAUSES)}
    return sorted(findings, key=lambda finding: (ORDER.index(finding.confidence), position[finding.cause]))


def facts(symptoms: Symptoms, cause: Cause) -> dict[str, Any]:
    """The facts of a cause: counts, and days as text; first the number of units that they are part of. What only a mailbox can show is
    None where there is no mailbox."""
    shown: dict[str, Any] = {"units": symptoms.units}
    for name in cause.facts:
        value = getattr(symptoms, name)
        if name in OF_MAILBOXES and not symptoms.mailboxes and not value:
            value = None
        shown[name] = value.isoformat() if isinstance(value, date) else dict(value) if name == "excluded_by" else value
    return shown
