"""Up to when everything that was published has been counted: marks over Kafka's offsets. Decides; watch.py asks.

A mark is an instant and the ends of the input topics read after it: what was published before the instant lies before those
ends. Once the matcher's group has committed them, all that came of it stands in inquiry-replies.v1, since the matcher's
outputs are acknowledged before its offsets move. Once the ledger has merged that topic up to the end it has then, the mark
has passed, and what is silent until its instant is silent indeed. No record's own clock is asked: producers choose those.

Until its partition's mark has passed, a company's coverage and deadlines wait (judge.sql): a stopped matcher must not turn
answers that lie in Kafka into "unanswered".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg

from services.common.postgres import load_statements
from services.common.topics import partition_of

SQL: Final = load_statements("services.aggregator.judge", "watermark.sql")
AT_ONCE: Final = 10_000
Span = tuple[int, int]
"""First offset that still exists, offset behind the last record."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One partition at one look; what is asked first stands first, and the instant is Postgres' clock before all of it."""

    at: datetime
    merged: int
    """Next offset of inquiry-replies.v1 in the ledger."""
    committed: Mapping[str, int]
    """Where the matcher's group stands, by input topic; nothing for a topic that it never committed."""
    inputs: Mapping[str, Span]
    replies: Span


@dataclass(slots=True)
class _PartitionMark:
    at: datetime
    ends: dict[str, int]
    replies_end: int | None = None


@dataclass(slots=True)
class PartitionWatermark:
    """The mark of one partition that is under way."""

    _mark: _PartitionMark | None = None

    def note(self, look: Observation) -> datetime | None:
        """The instant up to which everything has been counted, when this look shows a later one."""
        mark = self._mark
        if mark is not None and (
            any(look.inputs[topic][1] < end for topic, end in mark.ends.items())
            or look.replies[1] < (mark.replies_end or 0)
        ):
            mark = None  # another topic of the same name: the old ends say nothing
        passed = None
        if mark is not None and self._passes(mark, look):
            passed, mark = mark.at, None
        if mark is None:
            mark = _PartitionMark(look.at, {topic: end for topic, (_, end) in look.inputs.items()})
            if self._passes(mark, look):
                passed, mark = mark.at, None
        self._mark = mark
        return passed

    def _passes(self, mark: _PartitionMark, look: Observation) -> bool:
        if mark.replies_end is None and all(_reached(look, topic, end) for topic, end in mark.ends.items()):
            mark.replies_end = look.replies[1]
        return mark.replies_end is not None and position_in(look.replies, look.merged) >= mark.replies_end


def _reached(look: Observation, topic: str, end: int) -> bool:
    return position_in(look.inputs[topic], look.committed.get(topic, 0)) >= end


def position_in(span: Span, at: int) -> int:
    """Where who stands at `at` has read to: what expired is not waited for; an offset behind the end is another topic's."""
    first, end = span
    return max(first, at) if at <= end else -1


def unassigned_companies(connection: psycopg.Connection, partitions: int) -> None:
    """Every partition has a row from now on, and every company its partition. What was judged before stands."""
    with connection.transaction():
        row = connection.execute(SQL["held"]).fetchone()
        assert row is not None
        if row[0] not in (0, partitions):
            connection.execute(SQL["other_count"])
            connection.execute(SQL["forget_partitions"])
        connection.execute(SQL["begin"], {"partitions": partitions})
    while found := [company_id for (company_id,) in connection.execute(SQL["homeless"], {"most": AT_ONCE}).fetchall()]:
        assign_partitions(connection, found, partitions)


def assign_partitions(connection: psycopg.Connection, companies: Sequence[str], partitions: int) -> None:
    """Write down in which partition the inquiries of companies lie."""
    homes = [partition_of(company_id.encode(), partitions) for company_id in companies]
    connection.execute(SQL["homes"], {"companies": list(companies), "partitions": homes})


def watermark_lag_seconds(connection: psycopg.Connection, partition: int) -> int:
    """For how long what was published into a partition may have been waiting to be counted; 0 where nobody looks."""
    row = connection.execute(SQL["waiting"], {"partition": partition}).fetchone()
    return 0 if row is None else int(row[0])
