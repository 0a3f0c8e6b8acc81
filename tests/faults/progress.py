"""Whether a pipeline still moves, and how much of its work is left: what tells a late number from a lost one.

On a slow machine a run needs longer, never another result. So nothing here waits for a fixed time: a run waits for as long
as offsets, counts or cursors change, and ends when they have been the same for a while. What is missing then is lost;
what is missing while records still wait is late.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import psycopg

from services.aggregator.judge import watermark
from services.common.errors import TransientError
from services.common.kafka import Admin
from services.common.postgres import connect
from services.common.settings import KafkaSettings
from services.common.topics import DEAD, INQUIRIES, REPLIES, SENT

TOPICS: Final = (INQUIRIES, SENT, REPLIES, DEAD)
TABLES: Final = """
    SELECT (SELECT count(*) FROM ledger.inquiries), (SELECT count(*) FROM ledger.statuses),
        (SELECT count(*) FROM ledger.replies), (SELECT count(*) FROM ledger.rate_rows),
        (SELECT count(*) FROM ledger.outcomes), (SELECT sum(revision) FROM ledger.outcomes),
        (SELECT count(*) FROM ledger.dirty)"""
FOLDERS: Final = """
    SELECT mailbox_id, folder, uidvalidity, current, high_uid, scan_down_to_uid, scan_done, messages
    FROM registry.folders ORDER BY 1, 2, 3"""
"""Cursors of the fetcher; without instants, which move with every poll."""


@dataclass(frozen=True, slots=True)
class Observation:
    """How far each step of a pipeline is. Two that are equal: nothing moved between them."""

    ends: dict[tuple[str, int], int]
    """End offsets of the topics."""
    joined: dict[tuple[str, int], int]
    """Offsets that the matcher committed."""
    merged: dict[int, int]
    """Offsets of inquiry-replies.v1 that the ledger merged."""
    tables: tuple[int, ...] = field(default=())
    folders: tuple[object, ...] = field(default=())

    def waiting(self) -> dict[str, int]:
        """The work that is left, by what it is; empty when there is none."""
        counts = {
            f"records of {topic} to join": sum(
                end - self.joined.get((name, partition), 0)
                for (name, partition), end in self.ends.items()
                if name == topic
            )
            for topic in (INQUIRIES, SENT)
        }
        counts["joined states to merge"] = self.behind
        counts["companies to judge"] = self.tables[-1] if self.tables else 0
        return {what: count for what, count in counts.items() if count > 0}

    @property
    def behind(self) -> int:
        """Joined states that the ledger has not merged."""
        ends = {partition: end for (topic, partition), end in self.ends.items() if topic == REPLIES}
        return sum(end - self.merged.get(partition, 0) for partition, end in ends.items())


def read_offsets(admin: Admin, connection: psycopg.Connection, app_id: str = "replyrate-matcher") -> Observation:
    """How far the offsets of matcher and ledger are behind their topics, without tables and folders."""
    return Observation(
        {tp: end for tp, (_, end) in admin.spans(TOPICS).items()},
        admin.committed(app_id),
        watermark.merged_offsets(connection, REPLIES)[1],
    )


def observe(kafka: KafkaSettings, dsn: str, app_id: str = "replyrate-matcher") -> Observation:
    """The state of the pipeline of one matcher and one database. TransientError while a server is away."""
    with Admin(kafka, "faults") as admin, connect(dsn, "faults") as connection:
        return replace(
            read_offsets(admin, connection, app_id),
            tables=connection.execute(TABLES).fetchone() or (),
            folders=tuple(connection.execute(FOLDERS).fetchall()),
        )


def wait_until_still(
    differences: Callable[[], list[str]],
    look: Callable[[], Observation],
    *,
    still_seconds: float,
    longest_seconds: float,
    pause: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Wait until nothing differs, or nothing has moved for `still_seconds`; the differences at that time.

    Work that waits is a difference too. After `longest_seconds` the wait ends whatever moves, and says that it did.
    """
    started = moved = time.monotonic()
    observation: Observation | None = None
    while True:
        pause(1)
        now = time.monotonic()
        try:
            current = look()
            # The differences last: what they do not show was counted before they were computed.
            remaining = [f"late, not lost: {count} {what}" for what, count in current.waiting().items()]
            remaining += differences()
        except TransientError as error:
            current, remaining = observation, [str(error)]  # type: ignore[assignment]
        if not remaining:
            return []
        if current != observation:
            observation, moved = current, now
        if now - moved > still_seconds:
            return [*remaining, f"nothing has moved for {now - moved:.0f} s"]
        if now - started > longest_seconds:
            return [*remaining, f"late, not lost: still moving after {now - started:.0f} s"]
