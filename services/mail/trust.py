"""Which of a message's clocks counts, so that a seller never gains from one that is wrong or forged. Pure.

A client may write any Date and (with APPEND) any INTERNALDATE. What it cannot choose is SAVEDATE (RFC 8514), and when
the fetcher first saw the message: it was filed after the last complete poll before that, and no later than now. That span
is the *interval*; a clock is trusted only inside it. docs/rules.md shows the table.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.common.events import Basis, Evidence

SAVE_TOLERANCE: Final = timedelta(minutes=15)
SHORT_INTERVAL: Final = timedelta(hours=1)
EARLY_TOLERANCE: Final = timedelta(minutes=15)
LATE_TOLERANCE: Final = timedelta(minutes=5)
AGREEMENT: Final = timedelta(minutes=10)
STALE_DATE: Final = timedelta(days=7)
"""A Date this long before the filing is that of an old mail copied into the folder, and no answer that was just sent."""


@dataclass(frozen=True, slots=True)
class TrustedTime:
    """When a message counts as sent, by which clock, and how far the clock can be trusted."""

    sent_at: datetime
    basis: Basis
    evidence: Evidence


def trusted_time(
    *,
    date: datetime | None,
    internal: datetime | None,
    save: datetime | None,
    after: datetime | None,
    first_seen: datetime,
    interrupted: bool = False,
) -> TrustedTime:
    """The time of a message.

    `date`, `internal`, `save`: its clocks, where it has them (Date, INTERNALDATE, SAVEDATE). `after`: the start of the last
    complete poll before it was first seen, None in a first scan. `first_seen`: the poll that found it. All aware UTC.
    `interrupted`: in that time the mailbox was not read for a reason that its owner can cause (paused, login refused), so an
    interval of more than an hour proves nothing that SAVEDATE does not confirm.
    """
    latest = (
        first_seen + SAVE_TOLERANCE
    )  # whatever a clock says, the message had been filed by then (docs/decisions/0053)
    if save is not None and save <= latest:
        if date is not None and abs(date - save) <= SAVE_TOLERANCE and date <= latest:
            return TrustedTime(date, "date", "verified")
        return TrustedTime(save, "save-date", "suspect")
    agree = date is not None and internal is not None and abs(date - internal) <= AGREEMENT
    if after is None:
        if agree and date is not None and date <= first_seen + LATE_TOLERANCE:
            return TrustedTime(date, "date", "backfill")
        return _latest_inside(date, internal, after=None, first_seen=first_seen)
    if first_seen - after <= SHORT_INTERVAL:
        filed = internal if internal is not None and after <= internal <= first_seen else first_seen
        if date is not None and filed - date > STALE_DATE:
            return TrustedTime(filed, "internal-date" if filed is internal else "interval-end", "suspect")
        # The tolerance is for the client's clock alone: nothing puts the server's own stamp outside.
        if date is not None and after - EARLY_TOLERANCE <= date <= first_seen + LATE_TOLERANCE:
            return TrustedTime(date, "date", "verified")
        if internal is not None and after <= internal <= first_seen:
            return TrustedTime(internal, "internal-date", "verified")
        return TrustedTime(first_seen, "interval-end", "suspect")
    inside = all(clock is not None and after <= clock <= first_seen for clock in (date, internal))
    if agree and inside and date is not None and not interrupted:
        return TrustedTime(date, "date", "verified")
    return _latest_inside(date, internal, after=after, first_seen=first_seen)


def _latest_inside(
    date: datetime | None, internal: datetime | None, *, after: datetime | None, first_seen: datetime
) -> TrustedTime:
    """The latest of the clocks inside the interval; its upper end when none is."""
    clocks: list[tuple[datetime, Basis]] = []
    if date is not None:
        clocks.append((date, "date"))
    if internal is not None:
        clocks.append((internal, "internal-date"))
    inside = [(at, basis) for at, basis in clocks if at <= first_seen and (after is None or at >= after)]
    if not inside:
        return TrustedTime(first_seen, "interval-end", "suspect")
    at, basis = max(inside)
    return TrustedTime(at, basis, "suspect")
