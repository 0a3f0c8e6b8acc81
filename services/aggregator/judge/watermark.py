"""Watermark: the instant up to which every published record has been counted.

The first part is pure: `PartitionWatermark` decides from observations of Kafka's offsets and the ledger's. The second part
stores watermarks in Postgres; monitor.py observes.

1. A mark is an instant and the ends of the input topics read after it: records published before the instant are before those
   ends.
2. Once the matcher's group has committed these ends, all of its output is in inquiry-replies.v1, since the matcher's outputs
   are acknowledged before its offsets are committed. The end of that topic at this moment is remembered.
3. Once the ledger has merged inquiry-replies.v1 up to that end, the mark is passed: an inquiry without an answer until its
   instant has none. The timestamps of records are not used, since producers choose them.

Until its partition's mark is passed, a company's coverage and deadlines wait (judge.sql): a stopped matcher must not turn
answers that are still in Kafka into "unanswered".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg

from services.common.postgres import load_statements
from services.common.topics import partition_of

SQL: Final = load_statements("services.aggregator.judge", "watermark.sql")
ASSIGN_BATCH: Final = 10_000
Span = tuple[int, int]
"""First offset that still exists, offset behind the last record."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Offsets of one partition, in the order in which they are read; the instant is Postgres' clock before all of them."""

    at: datetime
    merged: int
    """Next offset of inquiry-replies.v1 in the ledger."""
    committed: Mapping[str, int]
    """Offsets committed by the matcher's group, by input topic; a topic without a commit is missing."""
    inputs: Mapping[str, Span]
    replies: Span


@dataclass(slots=True)
class _PartitionMark:
    at: datetime
    ends: dict[str, int]
    replies_end: int | None = None


@dataclass(slots=True)
class PartitionWatermark:
    """The watermark of one partition: holds the mark that has not been passed yet."""

    _mark: _PartitionMark | None = None

    def advance(self, observation: Observation) -> datetime | None:
        """The instant up to which everything has been counted, if this observation shows a later one."""
        mark = self._mark
        if mark is not None and (
            any(observation.inputs[topic][1] < end for topic, end in mark.ends.items())
            or observation.replies[1] < (mark.replies_end or 0)
        ):
            mark = None  # a topic was recreated: its old ends are meaningless
        passed = None
        if mark is not None and self._is_passed(mark, observation):
            passed, mark = mark.at, None
        if mark is None:
            mark = _PartitionMark(observation.at, {topic: end for topic, (_, end) in observation.inputs.items()})
            if self._is_passed(mark, observation):
                passed, mark = mark.at, None
        self._mark = mark
        return passed

    def _is_passed(self, mark: _PartitionMark, observation: Observation) -> bool:
        if mark.replies_end is None and all(_committed(observation, topic, end) for topic, end in mark.ends.items()):
            mark.replies_end = observation.replies[1]
        return mark.replies_end is not None and position_in(observation.replies, observation.merged) >= mark.replies_end


def _committed(observation: Observation, topic: str, end: int) -> bool:
    return position_in(observation.inputs[topic], observation.committed.get(topic, 0)) >= end


def position_in(span: Span, position: int) -> int:
    """A consumer's position, raised to the oldest offset that still exists; -1 if it is beyond the end, since the topic was
    recreated."""
    first, end = span
    return max(first, position) if position <= end else -1


def initialize(connection: psycopg.Connection, partitions: int) -> None:
    """Give every partition a watermark, and every company its partition. Results judged before remain."""
    with connection.transaction():
        stored = connection.execute(SQL["count_partitions"]).fetchone()
        assert stored is not None
        if stored[0] not in (0, partitions):
            connection.execute(SQL["delete_partitions"])
            connection.execute(SQL["unassign_companies"])
        connection.execute(SQL["insert_partitions"], {"partitions": partitions})
    while companies := unassigned_companies(connection):
        assign_partitions(connection, companies, partitions)


def unassigned_companies(connection: psycopg.Connection) -> list[str]:
    """Some companies whose partition is not known; empty if there are none."""
    rows = connection.execute(SQL["unassigned_companies"], {"most": ASSIGN_BATCH}).fetchall()
    return [company_id for (company_id,) in rows]


def assign_partitions(connection: psycopg.Connection, companies: Sequence[str], partitions: int) -> None:
    """Store which partition holds the inquiries of each company."""
    assigned = [partition_of(company_id.encode(), partitions) for company_id in companies]
    connection.execute(SQL["assign_partitions"], {"companies": list(companies), "partitions": assigned})


def merged_offsets(connection: psycopg.Connection, topic: str) -> tuple[datetime, dict[int, int]]:
    """Postgres' time now, and then the next offset to merge of each partition of a topic."""
    rows = connection.execute(SQL["merged_offsets"], {"topic": topic}).fetchall()
    return rows[0][0], {partition: next_offset for _, partition, next_offset in rows if partition is not None}


def store(connection: psycopg.Connection, passed: Mapping[int, datetime]) -> None:
    """Move the watermarks of partitions forward."""
    connection.execute(SQL["advance"], {"partitions": [*passed], "instants": [*passed.values()]})


def max_lag_seconds(connection: psycopg.Connection) -> float:
    """Seconds by which the slowest partition's watermark is behind; 0 when no watermark is kept."""
    lag = connection.execute(SQL["max_lag"]).fetchone()
    assert lag is not None
    return float(lag[0])


def lag_seconds(connection: psycopg.Connection, partition: int) -> int:
    """Seconds for which records published to a partition may have been waiting to be counted; 0 when no watermark is kept."""
    lag = connection.execute(SQL["lag"], {"partition": partition}).fetchone()
    return 0 if lag is None else int(lag[0])
