"""Housekeeping: entries older than the horizon are dropped, a slice of each partition at a time, between two batches.

What the horizon is measured from is HorizonClock. The horizon is no verdict. What was published stays in the ledger, and a fact that comes later than the horizon allows is
rejected as `late`.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from logging import getLogger
from typing import Final

from services.common import metrics
from services.matcher import join
from services.matcher.handoff import Sender, changelog_rows, exit_unsafe
from services.matcher.stores import Stores

log = getLogger(__name__)

SWEEP_SECONDS: Final = 5.0
SWEEP_ENTRIES: Final = 2_000
DROP_REASONS: Final = ("horizon", "erased")
"""Why entries leave the state."""


AHEAD_OF_RECORDS: Final = timedelta(days=1)
"""How far the horizon's clock may be after the newest record."""


class HorizonClock:
    """The earliest instant that still counts, from this host's clock and the timestamps of the records that were read.

    The earlier of the two decides: a host whose clock runs ahead would drop every entry in one sweep, and its tombstones
    take them from all other hosts. Without records nothing becomes old.
    """

    def __init__(self, now: Callable[[], datetime], horizon: timedelta) -> None:
        self._now = now
        self._horizon = horizon
        self._newest_ms = 0

    def note(self, timestamp_ms: int) -> None:
        """A record with this timestamp (ms since 1970, set by its producer or the broker) was read."""
        self._newest_ms = max(self._newest_ms, timestamp_ms)

    def earliest(self) -> datetime | None:
        """Facts before this are late, and entries before it are dropped; None while no record was read."""
        now = self._now()
        newest_ms = min(self._newest_ms, now.timestamp() * 1000)
        if newest_ms <= 0:
            return None
        return min(now, datetime.fromtimestamp(newest_ms / 1000, UTC) + AHEAD_OF_RECORDS) - self._horizon


class HorizonSweeper:
    """Sweeps the stores for as long as the process runs, and keeps the gauges of their size."""

    def __init__(
        self,
        stores: Stores,
        sender: Sender,
        changelog: str,
        earliest: Callable[[], datetime | None],
        busy: asyncio.Lock,
    ) -> None:
        """`earliest`: the horizon of the moment, if it is known; `busy` is held while a batch is in hand."""
        self._stores = stores
        self._sender = sender
        self._changelog = changelog
        self._earliest = earliest
        self._busy = busy
        self._cursors: dict[int, bytes] = {}
        """The last key that was swept in each partition."""
        metrics.from_zero(metrics.STATE_DROPPED, DROP_REASONS)

    async def run(self, ready: Callable[[], bool]) -> None:
        """Sweep a slice of each partition every SWEEP_SECONDS, while `ready`."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            entries, size = self._stores.size()
            metrics.STATE_ENTRIES.labels("all").set(entries)
            metrics.STATE_BYTES.set(size)
            for partition in self._stores.partitions():
                try:
                    async with self._busy:
                        if ready() and partition in self._stores.partitions():
                            await self._sweep(partition)
                except Exception:
                    log.exception("the horizon could not be swept", extra={"action": "crashed"})
                    exit_unsafe("dropping old entries was not finished")

    def forget(self, partition: int) -> None:
        """The partition was taken away."""
        self._cursors.pop(partition, None)

    async def _sweep(self, partition: int) -> None:
        store, cutoff = self._stores[partition], self._earliest()
        if cutoff is None:
            return
        entries = store.slice(self._cursors.get(partition, b""), SWEEP_ENTRIES)
        self._cursors[partition] = entries[-1][0] if entries else b""
        changes = {key: remaining for key, value in entries if (remaining := join.sweep(key, value, cutoff)) != value}
        if not changes:
            return
        store.write(changes)
        await self._sender.send(changelog_rows(self._changelog, partition, changes))
        metrics.STATE_DROPPED.labels("horizon").inc(len(changes))
        log.info(
            "dropped entries older than the horizon",
            extra={"action": "state-dropped", "partition": partition, "entries": len(changes)},
        )
