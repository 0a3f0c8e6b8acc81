"""Which clock of a mail counts, recounted from the table in docs/rules.md row by row, and not from the code."""

from datetime import datetime, timedelta
from typing import NamedTuple

MINUTE, HOUR, WEEK = timedelta(minutes=1), timedelta(hours=1), timedelta(days=7)


class Clocks(NamedTuple):
    """What is known of a mail: Date, INTERNALDATE, SAVEDATE, and the interval in which it was filed (`after` None: first scan)."""

    date: datetime | None
    internal: datetime | None
    save: datetime | None
    after: datetime | None
    seen: datetime
    kept_from_being_read: bool = False


class Counted(NamedTuple):
    """The time that counts, its basis and its evidence."""

    at: datetime
    basis: str
    evidence: str


def counted(clocks: Clocks) -> Counted:
    """The first row of the table that applies."""
    date, internal, save, after, seen, kept_from_being_read = clocks
    named = [(date, "date"), (internal, "internal-date")]
    bound = seen + 15 * MINUTE
    if save is not None and save <= bound:
        near = date is not None and -15 * MINUTE <= date - save <= 15 * MINUTE and date <= bound
        return Counted(date, "date", "verified") if near and date else Counted(save, "save-date", "suspect")

    inside = [(at, basis) for at, basis in named if at is not None and at <= seen and (after is None or after <= at)]
    latest = Counted(*max(inside), "suspect") if inside else Counted(seen, "interval-end", "suspect")
    agree = date is not None and internal is not None and abs((date - internal) / MINUTE) <= 10
    if after is None:
        return Counted(date, "date", "backfill") if agree and date and date <= seen + 5 * MINUTE else latest
    if seen - after > HOUR:
        believed = agree and len(inside) == 2 and not kept_from_being_read
        return Counted(date, "date", "verified") if believed and date else latest

    filed = next(((at, basis) for at, basis in inside if basis == "internal-date"), (seen, "interval-end"))
    if date is not None and date < filed[0] - WEEK:
        return Counted(*filed, "suspect")
    if date is not None and after - 15 * MINUTE <= date <= seen + 5 * MINUTE:
        return Counted(date, "date", "verified")
    return Counted(*filed, "verified" if filed[1] == "internal-date" else "suspect")
