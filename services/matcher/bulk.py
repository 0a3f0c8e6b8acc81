"""The seam below Faust: one Faust message per (topic-partition, fetched batch) instead of one per record.

Faust's own machinery costs some 450 µs for each message that passes it, the join about 5. So a whole fetched batch is
handed through as one message: its value is the list of raw records, its offset the last one's. What Faust is asked for
stays: transport, assignment, offsets, and when a partition's turn comes.

Written against faust-streaming 0.15.3 and aiokafka 0.14.0, both pinned exactly: it overrides and uses private names
(`_wait_next_records`, `_read_offset`, `_acked`, `_acked_index`, `_buffered_partitions`, `_committed_offset`,
`_create_worker_consumer`, `_isolation_level`); what must hold is said by tests/contract/test_faust_traps.py. The traps:

- A batch that ends before the position to read from is dropped by Faust further down without an ack. It must not enter
  our queue of batch ends, or commits stop for ever.
- Faust commits up to the first gap in acknowledged offsets; batches are nothing but gaps. A queue of batch ends per
  partition replaces that: what is committed is the end of the acknowledged prefix.
- Seek and revoke start anew from the committed offset: the queues are forgotten then.
- What ends a producer's transaction is a record that nobody reads: the position passes it and no batch does, so a partition
  that ends with one would look for ever as if something waited. It is passed as a batch of nothing.
- What a producer took back (an aborted transaction) reaches everybody who does not ask for committed records alone, and
  Faust asks for them only with its own transactions on.
- Faust's own recovery of tables hangs now and then; PartitionTable keeps it away from the changelog.
"""

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import TP, ConsumerMessage


class BulkConsumer(driver.Consumer):  # type: ignore[misc]
    """Delivers one message per fetched batch of the topics in `app.bulk_topics`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batch_ends: defaultdict[Any, deque[int]] = defaultdict(deque)
        """Per partition the last offsets of batches that were delivered and not yet committed."""
        self._undelivered: set[Any] = set()
        """Partitions of which something was fetched and not handed on: their position says nothing until the next seek."""

    def _new_consumer_thread(self) -> "CommittedThread":
        return CommittedThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[Any, ConsumerMessage]]:
        """The same prologue as the original, then one message per batch; other topics as before."""
        records, active = await self._wait_next_records(timeout)
        if records is None or self.should_stop:
            return
        generation = self.app.consumer_generation_id
        if not self.flow_active:
            try:
                await self.perform_seek()
            except Exception as error:
                self.log.warning("seek while the flow is stopped: %s", type(error).__name__)
            return
        self._undelivered |= {where for where, found in records.items() if found}
        self._pass_gaps()
        for where, found, is_bulk in self._batches(records):
            if not self.flow_active or self.app.consumer_generation_id != generation:
                break
            if not (active is None or where in active or where in self._buffered_partitions):
                continue
            self.app.monitor.track_tp_end_offset(where, self.highwater(where))
            if not is_bulk:
                yield where, self._to_message(where, found)
                continue
            read, last = self._read_offset[where], found[-1].offset
            if read is not None and last < read:
                self._undelivered.discard(where)
                continue
            self._batch_ends[where].append(last)
            self._undelivered.discard(where)
            yield where, self._bulk_message(where, found)

    def _pass_gaps(self) -> None:
        """Let the committed offset follow the position over what is no record, where every record before it is done with."""
        # Nothing is fetched between two calls of getmany, so what the library's thread holds stands still meanwhile.
        subscription = self._thread._ensure_consumer()._subscription.subscription
        for where in subscription.assignment.tps if subscription and subscription.assignment else ():
            found = subscription.assignment.state_value(where)
            if where.topic not in self.app.bulk_topics or not found.has_valid_position:
                continue
            tp = TP(where.topic, where.partition)
            if tp in self._undelivered or self._batch_ends[tp] or self._acked[tp]:
                continue
            if found.position > (self._committed_offset[tp] or 0):
                self._batch_ends[tp].append(found.position - 1)
                self._acked[tp].append(found.position - 1)
                self._acked_index[tp].add(found.position - 1)

    def _batches(self, records: dict[Any, list[Any]]) -> Iterator[tuple[Any, Any, bool]]:
        bulk = self.app.bulk_topics
        for where, found in records.items():
            if where.topic in bulk and found:
                yield where, found, True
        rest = {where: found for where, found in records.items() if where.topic not in bulk}
        for where, record in self.scheduler.iterate(rest):
            yield where, record, False

    def _bulk_message(self, where: Any, records: list[Any]) -> ConsumerMessage:
        last = records[-1]
        return ConsumerMessage(
            where.topic, where.partition, last.offset, last.timestamp / 1000.0, last.timestamp_type, (),
            None, records, None, 0, 0, where, generation_id=self.app.consumer_generation_id,
        )  # fmt: skip

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        if tp.topic not in self.app.bulk_topics:
            await super()._add_gap(tp, offset_from, offset_to)

    def _new_offset(self, tp: Any) -> int | None:
        """What may be committed: behind the last batch of the acknowledged prefix."""
        if tp.topic not in self.app.bulk_topics:
            found: int | None = super()._new_offset(tp)
            return found
        ends, acked, last = self._batch_ends[tp], self._acked_index[tp], None
        while ends and ends[0] in acked:
            last = ends.popleft()
        if last is None:
            return None
        self._acked[tp][:] = [offset for offset in self._acked[tp] if offset > last]
        acked.intersection_update(self._acked[tp])
        return last + 1

    async def perform_seek(self) -> None:
        """Reading starts anew at the committed offsets: batches in flight are forgotten."""
        self._batch_ends.clear()
        self._undelivered.clear()
        for where in list(self._acked):
            if where.topic in self.app.bulk_topics:
                self._acked[where].clear()
                self._acked_index[where].clear()
        await super().perform_seek()

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        """Batches of partitions that leave are forgotten."""
        for where in revoked:
            self._batch_ends.pop(where, None)
            self._undelivered.discard(where)
        await super().on_partitions_revoked(revoked)


class CommittedThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's thread around a consumer that reads committed records alone."""

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        return consumer


class BulkTransport(driver.Transport):  # type: ignore[misc]
    """Faust's transport with our consumer; the producer's transport stays as it is."""

    Consumer = BulkConsumer


class BulkSchema(faust.Schema):  # type: ignore[misc]
    """Hands the list of records through; the agent decodes."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> None:
        """Batches have no key."""

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        """The records, as the driver gave them."""
        return message.value


class BulkApp(faust.App):  # type: ignore[misc]
    """A Faust application some of whose topics are delivered in batches."""

    bulk_topics: frozenset[str] = frozenset()

    def _new_transport(self) -> BulkTransport:
        return BulkTransport(self.conf.broker_consumer, self)

    def bulk_topic(self, *names: str, **options: Any) -> Any:
        """A topic (or several as one) whose messages are lists of records."""
        self.bulk_topics = self.bulk_topics | set(names)
        return self.topic(*names, schema=BulkSchema(), **options)


class PartitionTable(faust.Table):  # type: ignore[misc]
    """A table that gives us the partitions and their turn, but reads no changelog: that is `load`'s business.

    Faust's own recovery seeks and reads on the consumer that the streams use; after a rebalance that keeps partitions
    it can wait for ever for records that are there (about one in four of our two-worker runs, faust-streaming 0.15.3).
    So it is told that nothing is left to recover, and when it hands over to the streams, `load` fills the stores of the
    partitions that are new here. State is dropped exactly when Faust takes a partition away.
    """

    load: Any = None
    gone: Any = None

    async def on_start(self) -> None:
        """Tell Faust's recovery that it has nothing to do."""
        await super().on_start()
        self.app.tables.recovery.need_recovery = lambda: False

    async def on_rebalance(self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0) -> None:
        """Drop the state of partitions that left or come anew."""
        for where in {*revoked, *newly_assigned}:
            if where.topic == self.changelog_topic_name:
                self.gone(where.partition)
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def on_recovery_completed(self, active_tps: Any, standby_tps: Any) -> None:
        """The last step before the streams go on: fill what is empty."""
        await self.load({where.partition for where in active_tps})
        await super().on_recovery_completed(active_tps, standby_tps)


async def read_changelog(
    options: dict[str, Any],
    topic: str,
    partitions: set[int],
    take: Callable[[int, Iterable[tuple[bytes, bytes | None]]], None],
) -> int:
    """Hand what stands in the changelog of `partitions` now to `take`, a batch at a time, oldest first; returns how many."""
    consumer = AIOKafkaConsumer(**options, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    count = 0
    try:
        wanted = [TopicPartition(topic, partition) for partition in sorted(partitions)]
        consumer.assign(wanted)
        await consumer.seek_to_beginning(*wanted)
        ends = await consumer.end_offsets(wanted)
        left = set(wanted)
        while left:
            # Compare positions, not offsets: compaction leaves gaps, and the last row may be one of them.
            left = {where for where in left if await consumer.position(where) < ends[where]}
            for records in (await consumer.getmany(timeout_ms=500)).values() if left else ():
                if records:  # all of a fetch may have been compacted away
                    take(records[0].partition, ((record.key, record.value) for record in records))
                    count += len(records)
    finally:
        await consumer.stop()
    return count


Rows = dict[int, list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]]
"""Records to send by partition: (key, value, headers)."""


async def send_all(producer: Any, topic: str, rows: Rows) -> list[Any]:
    """Pack rows into producer batches (records are built in C) and hand them over; returns the delivery futures.

    ValueError when a row is larger than a batch may be.
    """
    futures = []
    for partition, entries in rows.items():
        batch = producer.create_batch()
        for key, value, headers in entries:
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is not None:
                continue
            if batch.record_count():
                futures.append(await producer.send_batch(batch, topic, partition=partition))
                batch = producer.create_batch()
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                raise ValueError(f"a record for {topic} is larger than a batch may be")
        if batch.record_count():
            futures.append(await producer.send_batch(batch, topic, partition=partition))
    return futures
