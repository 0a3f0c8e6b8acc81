"""The way of one fetched batch of one partition through the matcher.

 1. Decode the records into facts (decode.py).
 2. Join the facts with the state of the partition (join.py).
 3. Store the changed entries in memory or RocksDB (stores.py).
 4. Encode what changed: states, dead letters, rerouted records (encode.py).
 5. Send the outputs and wait until the brokers have acknowledged them (handoff.py).
 6. Send one changelog row for each changed entry and wait for the acknowledgements (handoff.py).
 7. Return. Only then does Faust acknowledge the batch, and its offset may be committed (faust_batches.py).

Correctness rests on the order "outputs acknowledged → rows acknowledged → offset committed". After a crash between 5 and
6 the state is the older one, the batch is read again, and the same outputs are published again; consumers merge them.
After a crash between 6 and 7 the batch is read again and changes nothing. If rows went first, a crash would leave a state
that claims an output was published when it was not.

The local store of step 3 may be ahead of the changelog: it is a cache, and is dropped with the process.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from services.common import metrics
from services.common.events import MATCH_ORDER
from services.dead_letters.rejected import rejections_from_zero
from services.matcher import join, state
from services.matcher.decode import BatchDecoder, DecodedBatch
from services.matcher.encode import OutputEncoder
from services.matcher.handoff import Handoff
from services.matcher.horizon import HorizonClock
from services.matcher.join import JoinResult
from services.matcher.stores import Stores

SLICE_RECORDS: Final = 500
"""Records that are joined in one go; while the next ones are joined, these are sent."""
LOOP_PASSES: Final = 4
"""Turns that the event loop gets between two slices, so that sends in flight make progress."""


class Pipeline:
    """Takes batches through steps 1 to 6. Never called twice at the same time."""

    def __init__(
        self,
        decoder: BatchDecoder,
        stores: Stores,
        encoder: OutputEncoder,
        handoff: Callable[[], Handoff],
        horizon: HorizonClock,
    ) -> None:
        """`handoff`: makes one for a batch; `horizon`: before it facts are late."""
        self._decoder = decoder
        self._stores = stores
        self._encoder = encoder
        self._handoff = handoff
        self._horizon = horizon
        rejections_from_zero("matcher")
        metrics.from_zero(metrics.FACTS_IGNORED, join.IGNORED_REASONS)
        metrics.from_zero(metrics.FACTS_CUT, state.CUT_REASONS)
        metrics.from_zero(metrics.MATCHES, MATCH_ORDER)

    @property
    def wrong_topic(self) -> str | None:
        """Why this process must stop once its offsets are committed; None: it goes on."""
        return self._decoder.wrong_topic

    async def process(self, records: Sequence[Any]) -> None:
        """One batch of one partition, slice by slice; returns when all of it is acknowledged."""
        metrics.MATCHER_BATCH_RECORDS.observe(len(records))
        partition = records[0].partition
        self._horizon.note(max(record.timestamp for record in records))
        handoff = self._handoff()
        for start in range(0, len(records), SLICE_RECORDS):
            batch = self._decoder.decode(records[start : start + SLICE_RECORDS])  # 1
            result = self._join(partition, batch)  # 2 and 3
            outputs = self._encoder.encode(partition, batch, result)  # 4
            _count(batch, result)
            handoff.add(partition, outputs, result.changes, batch.traces.end)  # 5 and 6, in tasks of their own
            for _ in range(LOOP_PASSES):
                await asyncio.sleep(0)
        await handoff.finish()  # 7

    def _join(self, partition: int, batch: DecodedBatch) -> JoinResult:
        store = self._stores[partition]
        result = join.apply(store.get, store.scan, batch.facts, earliest=self._horizon.earliest())
        batch.rejected += [(batch.origins[index], error) for index, error in result.refused]
        store.write(result.changes)
        return result


def _count(batch: DecodedBatch, result: JoinResult) -> None:
    """Count what became of the records, those that stop counting by reason."""
    for kind, count in Counter(map(type, batch.facts)).items():
        metrics.FACTS_APPLIED.labels(kind.__name__).inc(count)
    metrics.REROUTED.inc(sum(map(len, batch.rerouted.values())))
    metrics.IDS_DROPPED.inc(batch.ids_dropped)
    for reason, count in result.ignored.items():
        metrics.FACTS_IGNORED.labels(reason).inc(count)
    for cut, count in result.cut.items():
        metrics.FACTS_CUT.labels(cut).inc(count)
    metrics.STATE_DROPPED.labels("erased").inc(result.erased_entries)
    metrics.STATES_EMITTED.inc(len(result.changed))
    metrics.CHANGELOG_ROWS.inc(len(result.changes))
    metrics.CONFLICTS.inc(result.conflicts)
    for matched_by, count in result.matched.items():
        metrics.MATCHES.labels(matched_by).inc(count)
