"""Recovery: the state of a partition from the changelog, when the partition is assigned to this process.

 1. Drop what the process may still have of the partition.
 2. Read the changelog from its beginning to the end it has now, and merge its rows into the empty store. Merging, not
    overwriting: an old row, from a worker that did not know it was replaced, takes nothing away.
 3. Apply the erases again: the union of an old row with a new one brings back what an erase took out of an entry.

What the bounds cut in step 2 was cut and counted when the rows were written, so it is not counted here.
"""

from collections.abc import Callable, Iterable
from logging import getLogger
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.common import metrics
from services.common.events import CompanyErased
from services.common.lifecycle import Heartbeat
from services.matcher import join, state
from services.matcher.stores import Stores

log = getLogger(__name__)

FETCH_MS = 500


class StateRecovery:
    """Which partitions are here with their state, and how they get it."""

    def __init__(
        self,
        stores: Stores,
        changelog: str,
        client: dict[str, Any],
        heartbeat: Heartbeat,
        monotonic: Callable[[], float],
    ) -> None:
        """`changelog`: the topic; `client`: options of an aiokafka client."""
        self._stores = stores
        self._changelog = changelog
        self._client = client
        self._heartbeat = heartbeat
        self._monotonic = monotonic
        self._loaded: set[int] = set()
        self.running = False
        """Whether state is being rebuilt now."""

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are here with their state."""
        return frozenset(self._loaded)

    async def load(self, partitions: set[int]) -> None:
        """Rebuild the state of those `partitions` that are new here."""
        new = partitions - self._loaded
        if not new:
            return
        self.running, started = True, self._monotonic()
        for partition in new:
            self._stores.drop(partition)
        rows = await read_changelog(self._client, self._changelog, new, self.merge)
        for partition in new:
            self._erase_again(partition)
        self._loaded |= new
        self.running = False
        seconds = self._monotonic() - started
        metrics.RECOVERY_SECONDS.set(seconds)
        entries, size = self._stores.size()
        log.info(
            "state restored",
            extra={
                "action": "recovery-done", "partitions": len(new), "rows": rows, "seconds": round(seconds, 3),
                "entries": entries, "bytes": size,
            },
        )  # fmt: skip

    def merge(self, partition: int, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Merge rows of the changelog into the store of their partition."""
        self._stores.recover(partition, rows)
        # A recovery that makes progress is healthy, however long it takes: a restart would only start it over.
        self._heartbeat.beat()

    def revoke(self, partition: int) -> None:
        """The partition was taken away, or is about to be loaded: drop its state."""
        self._loaded.discard(partition)
        self._stores.drop(partition)

    def _erase_again(self, partition: int) -> None:
        store = self._stores[partition]
        for key in [*store.scan(b"e")]:
            erasure = state.unpack(key, store.get(key) or b"")
            assert isinstance(erasure, state.ErasureEntry)
            fact = CompanyErased(company_id=state.company_of(key), at=erasure.at)
            store.write(join.apply(store.get, store.scan, [fact]).changes)


async def read_changelog(
    client: dict[str, Any],
    topic: str,
    partitions: set[int],
    merge: Callable[[int, Iterable[tuple[bytes, bytes | None]]], None],
) -> int:
    """Hand the rows that `partitions` have now to `merge`, a batch at a time, oldest first; returns their number."""
    consumer = AIOKafkaConsumer(**client, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    count = 0
    try:
        wanted = [TopicPartition(topic, partition) for partition in sorted(partitions)]
        consumer.assign(wanted)
        await consumer.seek_to_beginning(*wanted)
        ends = await consumer.end_offsets(wanted)
        unfinished = set(wanted)
        while unfinished:
            # Compare positions, not offsets: compaction leaves gaps, and the last row may be one of them.
            unfinished = {tp for tp in unfinished if await consumer.position(tp) < ends[tp]}
            for records in (await consumer.getmany(timeout_ms=FETCH_MS)).values() if unfinished else ():
                if records:  # all of a fetch may have been compacted away
                    merge(records[0].partition, ((record.key, record.value) for record in records))
                    count += len(records)
    finally:
        await consumer.stop()
    return count
