"""Which of a message's clocks counts. A seller must never gain from one that is wrong or forged.

A client may write any Date and (with APPEND) any INTERNALDATE. What it cannot choose is SAVEDATE (RFC 8514), and when
we saw the message first: it was filed after the last good poll before that, and no later than now. That span is the
*interval*; a clock is believed as far as it lies in it. docs/rules.md shows the table.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.common.events import Basis, Evidence

SAVE_TOLERANCE: Final = timedelta(minutes=15)
SHORT: Final = timedelta(hours=1)
EARLY: Final = timedelta(minutes=15)
LATE: Final = timedelta(minutes=5)
AGREE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class TrustedTime:
    """When a message counts as sent, by which clock, and how far that can be trusted."""

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
) -> TrustedTime:
    """The time of a message.

    `date`, `internal`, `save` are its clocks where it has them; `after` is the start of the last complete poll before
    it was first seen (None in a first scan), `first_seen` the poll that found it. All aware UTC.
    """
    if save is not None:
        if date is not None and abs(date - save) <= SAVE_TOLERANCE:
            return TrustedTime(date, "date", "verified")
        return TrustedTime(save, "save-date", "suspect")
    agree = date is not None and internal is not None and abs(date - internal) <= AGREE
    if after is None:
        if agree and date is not None and date <= first_seen + LATE:
            return TrustedTime(date, "date", "backfill")
        return _later(date, internal, lower=None, upper=first_seen, end=first_seen)
    if first_seen - after <= SHORT:
        # The tolerance is for the client's clock alone; the server's own stamp has no reason to lie outside.
        if date is not None and after - EARLY <= date <= first_seen + LATE:
            return TrustedTime(date, "date", "verified")
        if internal is not None and after <= internal <= first_seen:
            return TrustedTime(internal, "internal-date", "verified")
        return TrustedTime(first_seen, "interval-end", "suspect")
    inside = all(clock is not None and after <= clock <= first_seen for clock in (date, internal))
    if agree and inside and date is not None:
        return TrustedTime(date, "date", "verified")
    return _later(date, internal, lower=after, upper=first_seen, end=first_seen)


def _later(
    date: datetime | None, internal: datetime | None, *, lower: datetime | None, upper: datetime, end: datetime
) -> TrustedTime:
    """The later of the clocks that lie in the interval; its upper end when none does."""
    clocks: list[tuple[datetime, Basis]] = []
    if date is not None:
        clocks.append((date, "date"))
    if internal is not None:
        clocks.append((internal, "internal-date"))
    inside = [(at, basis) for at, basis in clocks if at <= upper and (lower is None or at >= lower)]
    if not inside:
        return TrustedTime(end, "interval-end", "suspect")
    at, basis = max(inside)
    return TrustedTime(at, basis, "suspect")
