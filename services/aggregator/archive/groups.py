"""Which inquiries can be archived together. Pure.

Inquiries that can share a unit are archived together or not at all: those of a thread, whatever rule set is active, and those of a
buyer and local day where an active rule set counts each once. So what stays is judged without what is archived.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from services.aggregator.judge.rules import RuleSet

COMPANY_GROUPS: Final = 16
"""Companies are spread over this many groups by a hash of their id; a file has companies of one group (archiver.sql,
`due_group`)."""


@dataclass(frozen=True, slots=True)
class ArchiveCandidate:
    """An inquiry; `is_final`: nothing but a late fact can change its outcome by any active rule set."""

    inquiry_id: str
    buyer_id: str | None
    thread_id: str | None
    received_at: datetime
    is_final: bool


@dataclass(frozen=True, slots=True)
class UnitGroup:
    """Inquiries that are archived together; `month`: the first day of the UTC month of their latest receipt."""

    inquiry_ids: tuple[str, ...]
    month: date


def day_zones(rule_sets: Iterable[RuleSet]) -> list[ZoneInfo]:
    """The zones in which a rule set counts the inquiries of a buyer and day together."""
    return [
        ZoneInfo(name)
        for name in sorted({rule_set.time_zone for rule_set in rule_sets if rule_set.unit == "first-per-buyer-day"})
    ]


def final_groups(candidates: Sequence[ArchiveCandidate], zones: Sequence[ZoneInfo]) -> list[UnitGroup]:
    """The groups whose inquiries are all final, the oldest month first."""
    parents = list(range(len(candidates)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    first_with: dict[tuple[str, ...], int] = {}
    for index, candidate in enumerate(candidates):
        for key in _shared_keys(candidate, zones):
            parents[root(index)] = root(first_with.setdefault(key, index))
    members: dict[int, list[ArchiveCandidate]] = {}
    for index, candidate in enumerate(candidates):
        members.setdefault(root(index), []).append(candidate)
    groups = [
        UnitGroup(
            tuple(member.inquiry_id for member in group),
            max(member.received_at for member in group).date().replace(day=1),
        )
        for group in members.values()
        if all(member.is_final for member in group)
    ]
    return sorted(groups, key=lambda group: (group.month, group.inquiry_ids))


def _shared_keys(candidate: ArchiveCandidate, zones: Sequence[ZoneInfo]) -> list[tuple[str, ...]]:
    if candidate.buyer_id is None:
        return []
    keys: list[tuple[str, ...]] = [
        ("day", candidate.buyer_id, zone.key, candidate.received_at.astimezone(zone).date().isoformat())
        for zone in zones
    ]
    if candidate.thread_id is not None:
        keys.append(("thread", candidate.buyer_id, candidate.thread_id))
    return keys
