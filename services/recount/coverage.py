"""What was read when: the coverage of a company's mailboxes, as known at an instant."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from services.recount.facts import Json
from services.recount.instants import instant, instant_or_none


@dataclass(slots=True)
class Mailbox:
    """What the known lines say about one mailbox."""

    account_id: str
    connected_at: int | None
    removed_at: int | None
    intervals: list[tuple[int, int]]
    connections: set[int] = field(default_factory=set)
    reads: list[tuple[int, int, int]] = field(default_factory=list)
    """The intervals with the instant of the connection that read them."""

    def within(self, reach: int) -> "Mailbox":
        """The mailbox as if each of its connections saw only `reach` microseconds of what was there before it."""
        seen = [(max(low, since - reach), high) for since, low, high in self.reads if high >= since - reach]
        return replace(self, intervals=seen)

    def found_by(self, at: int) -> int | None:
        """The connection that finds a mail of an earlier instant: the next one after it."""
        return min((since for since in self.connections if since > at), default=None)

    def covers(self, start: int, end: int) -> bool:
        """Whether one run of overlapping intervals covers all of [start, end]."""
        reach: tuple[int, int] | None = None
        for low, high in sorted(self.intervals):
            reach = (reach[0], max(reach[1], high)) if reach is not None and low <= reach[1] else (low, high)
            if reach[0] <= start and end <= reach[1]:
                return True
        return False


@dataclass(slots=True)
class Coverage:
    """One company's mailboxes and platform syncs, as known at an instant."""

    mailboxes: dict[str, Mailbox] = field(default_factory=dict)
    synced: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)
    """Account → (from, removed_at)."""
    unread: frozenset[str] = frozenset()
    """Mailboxes that are neither active nor to be reconnected: no day waits for them."""

    def covered(self, account_id: str, start: int, end: int, reach: int, noticed: Counter[str]) -> bool:
        """Whether an unanswered unit of the account would have been seen answered; `reach`: of a connection, in microseconds."""
        since, removed_at = self.synced.get(account_id, (None, None))
        if since is not None and since <= start:
            if removed_at is None or removed_at >= end:
                noticed["covered by platform sync"] += 1
                return True
            noticed["platform sync ended"] += 1
        whole = [mailbox for mailbox in self.mailboxes.values() if mailbox.account_id == account_id]
        own = [mailbox.within(reach) for mailbox in whole]
        if any(mailbox.covers(start, end) for mailbox in whole) and not any(
            mailbox.covers(start, end) for mailbox in own
        ):
            noticed["coverage beyond the reach of a connection"] += 1
        counted = [
            mailbox
            for mailbox in own
            if mailbox.connected_at is not None
            and mailbox.connected_at <= end
            and (mailbox.removed_at is None or mailbox.removed_at >= end)
        ]
        if counted:
            is_covered = all(mailbox.covers(start, end) for mailbox in counted)
            noticed[f"coverage by {'one mailbox' if len(counted) == 1 else 'mailboxes'}: {is_covered}"] += 1
            if not is_covered and any(mailbox.covers(start, end) for mailbox in counted):
                noticed["one of several mailboxes does not cover"] += 1
            return is_covered
        is_covered = any(mailbox.covers(start, end) for mailbox in own)
        if own:
            noticed[f"coverage without a mailbox in charge: {is_covered}"] += 1
        return is_covered

    def complete(self, through: int) -> bool:
        """Whether every mailbox that is not removed and should be read is complete through the instant."""
        return all(
            mailbox.removed_at is not None or max((high for _, high in mailbox.intervals), default=-1) >= through
            for mailbox_id, mailbox in self.mailboxes.items()
            if mailbox_id not in self.unread
        )


def coverages(
    lines: Sequence[Json], now: int, noticed: Counter[str]
) -> tuple[dict[str, Coverage], dict[str, set[str]]]:
    """Company → coverage as known at `now`, and company → accounts that any line names."""
    by_company: dict[str, Coverage] = defaultdict(Coverage)
    accounts: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        accounts[line["company_id"]].add(line["account_id"])
    known_lines = [line for line in lines if instant(line["recorded_at"]) < now]
    known_lines.sort(
        key=lambda line: instant(line["recorded_at"])
    )  # stable: of equal instants the later line comes later
    last: dict[tuple[str, str, str | None], tuple[str, str | None, str | None]] = {}
    for line in known_lines:
        coverage = by_company[line["company_id"]]
        connected_at, removed_at = instant_or_none(line.get("connected_at")), instant_or_none(line.get("removed_at"))
        low, high = instant_or_none(line.get("from")), instant_or_none(line.get("through"))
        name = (line["company_id"], line["account_id"], line.get("mailbox_id"))
        stated = (line["recorded_at"], line.get("connected_at"), line.get("removed_at"))
        if name in last and last[name][0] == stated[0] and last[name] != stated:
            noticed["coverage rows of one instant"] += 1
        last[name] = stated
        if line.get("mailbox_id") is None:
            since, _ = coverage.synced.get(line["account_id"], (None, None))
            coverage.synced[line["account_id"]] = (since if low is None else low, removed_at)
            continue
        mailbox = coverage.mailboxes.setdefault(line["mailbox_id"], Mailbox(line["account_id"], None, None, []))
        mailbox.connected_at, mailbox.removed_at = connected_at, removed_at
        if connected_at is not None:
            mailbox.connections.add(connected_at)
        if low is not None and high is not None:
            mailbox.intervals.append((low, high))
            mailbox.reads.append((low if connected_at is None else connected_at, low, high))
    return by_company, accounts
