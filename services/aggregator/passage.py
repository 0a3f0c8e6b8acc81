"""Up to when everything that was published has been counted: marks over Kafka's offsets. Decides; watch.py asks.

A mark is an instant and the ends of the input topics read after it: what was published before the instant lies before those
ends. Once the matcher's group has committed them, all that came of it stands in inquiry-replies.v1, since the matcher's
outputs are acknowledged before its offsets move. Once the ledger has merged that topic up to the end it has then, the mark
has passed, and what is silent until its instant is silent indeed. No record's own clock is asked: producers choose those.

Until its partition's mark has passed, a company's coverage and deadlines wait (judge.sql): a stopped matcher must not turn
answers that lie in Kafka into "unanswered".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import psycopg

from services.common.health import STUCK_SECONDS, UNREAD
from services.common.postgres import load_statements

SQL: Final = load_statements("services.aggregator", "passage.sql")
Span = tuple[int, int]
"""First offset that still exists, offset behind the last record."""


@dataclass(frozen=True, slots=True)
class Look:
    """One partition at one look; what is asked first stands first, and the instant is Postgres' clock before all of it."""

    at: datetime
    merged: int
    """Next offset of inquiry-replies.v1 in the ledger."""
    alive: bool
    """Whether the matcher's group has members."""
    committed: Mapping[str, int]
    """Where the matcher's group stands, by input topic; nothing for a topic that it never committed."""
    inputs: Mapping[str, Span]
    replies: Span


@dataclass(slots=True)
class _Mark:
    at: datetime
    ends: dict[str, int]
    replies_end: int | None = None


@dataclass(slots=True)
class _Still:
    """Since when a topic's committed offset has not moved."""

    committed: int
    since: datetime


@dataclass(slots=True)
class Passage:
    """The mark of one partition that is under way."""

    _mark: _Mark | None = None
    _still: dict[str, _Still] = field(default_factory=dict)

    def note(self, look: Look) -> datetime | None:
        """The instant up to which everything has been counted, when this look shows a later one."""
        self._watch(look)
        mark = self._mark
        if mark is not None and any(look.inputs[topic][1] < end for topic, end in mark.ends.items()):
            mark = None  # another topic of the same name: the old ends say nothing
        passed = None
        if mark is not None and self._passes(mark, look):
            passed, mark = mark.at, None
        if mark is None:
            mark = _Mark(look.at, {topic: end for topic, (_, end) in look.inputs.items()})
            if self._passes(mark, look):
                passed, mark = mark.at, None
        self._mark = mark
        return passed

    def _passes(self, mark: _Mark, look: Look) -> bool:
        if mark.replies_end is None and all(self._joined(topic, end, look) for topic, end in mark.ends.items()):
            mark.replies_end = look.replies[1]
        first, end = look.replies
        if mark.replies_end is None or end < mark.replies_end:
            return False
        return max(look.merged, first) >= mark.replies_end

    def _joined(self, topic: str, wanted: int, look: Look) -> bool:
        first, end = look.inputs[topic]
        committed = look.committed.get(topic, 0)
        if committed > end:
            return False  # of a topic that is no more
        at = max(committed, first)
        # A producer's transaction ends with a marker that nobody reads. A matcher that is there has read what else waited
        # long before standing still makes it unhealthy.
        still = self._still.get(topic)
        marker = end - at <= UNREAD and still is not None and look.at - still.since >= timedelta(seconds=STUCK_SECONDS)
        return at >= wanted or marker

    def _watch(self, look: Look) -> None:
        for topic in look.inputs:
            committed, still = look.committed.get(topic, 0), self._still.get(topic)
            if not look.alive:
                self._still.pop(topic, None)
            elif still is None or still.committed != committed:
                self._still[topic] = _Still(committed, look.at)


def begin(connection: psycopg.Connection, partitions: int) -> None:
    """Every partition has a row from now on; what was judged before stands. Inside no transaction of the caller."""
    with connection.transaction():
        row = connection.execute(SQL["held"]).fetchone()
        assert row is not None
        if row[0] not in (0, partitions):
            connection.execute(SQL["other_count"])
            connection.execute(SQL["forget_partitions"])
        connection.execute(SQL["begin"], {"partitions": partitions})


def waiting_seconds(connection: psycopg.Connection, partition: int) -> int:
    """For how long what was published into a partition may have been waiting to be counted; 0 where nobody looks."""
    row = connection.execute(SQL["waiting"], {"partition": partition}).fetchone()
    return 0 if row is None else int(row[0])
