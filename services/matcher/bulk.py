"""The seam below Faust: one Faust message per (topic-partition, fetched batch) instead of one per record.

Faust's own machinery costs some 450 µs for each message that passes it, the join about 5. So a whole fetched batch is
handed through as one message: its value is the list of raw records, its offset the last one's. What Faust is asked for
stays: transport, assignment, the table's changelog and its recovery.

Written against faust-streaming 0.15.3 and aiokafka 0.14.0, both pinned exactly: it overrides and uses private names
(`_wait_next_records`, `_read_offset`, `_acked`, `_acked_index`, `_buffered_partitions`); what must hold is said by
tests/contract/test_faust_traps.py. The traps:

- A batch that ends before the position to read from is dropped by Faust further down without an ack. It must not enter
  our queue of batch ends, or commits stop for ever.
- Faust commits up to the first gap in acknowledged offsets; batches are nothing but gaps. A queue of batch ends per
  partition replaces that: what is committed is the end of the acknowledged prefix.
- Seek and revoke start anew from the committed offset: the queues are forgotten then.
- Changelogs pass here too (recovery in bulk), but are never acknowledged and so never enter a queue.
"""

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import ConsumerMessage


class BulkConsumer(driver.Consumer):  # type: ignore[misc]
    """Delivers one message per fetched batch of the topics in `app.bulk_topics`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batch_ends: defaultdict[Any, deque[int]] = defaultdict(deque)
        """Per partition the last offsets of batches that were delivered and not yet committed."""

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
                continue
            if self.app.topics.acks_enabled_for(where.topic):
                self._batch_ends[where].append(last)
            yield where, self._bulk_message(where, found)

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
        for where in list(self._acked):
            if where.topic in self.app.bulk_topics:
                self._acked[where].clear()
                self._acked_index[where].clear()
        await super().perform_seek()

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        """Batches of partitions that leave are forgotten."""
        for where in revoked:
            self._batch_ends.pop(where, None)
        await super().on_partitions_revoked(revoked)


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
    """A table that only its changelog knows: values live in the stores that `on_row` and `on_gone` keep.

    Faust reads the changelog of our partitions; its rows go to `on_row(partition, key, value)`. A partition's state is
    dropped exactly when Faust forgets how far it read that partition's changelog, neither sooner nor later.
    """

    on_row: Any = None
    on_gone: Any = None

    def _new_changelog_topic(self, **options: Any) -> Any:
        topic = super()._new_changelog_topic(**options)
        # Batches of the changelog pass as lists too; without this Faust would try to decode them and drop them.
        topic.schema = BulkSchema()
        return topic

    def apply_changelog_batch(self, batch: Any) -> None:
        """Rows read in recovery, oldest first."""
        for event in batch:
            for record in event.message.value:
                self.on_row(record.partition, record.key, record.value)

    async def on_rebalance(self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0) -> None:
        """Drop the state of changelog partitions that left or come anew."""
        name = self.changelog_topic_name
        for where in {*revoked, *newly_assigned}:
            if where.topic == name:
                self.on_gone(where.partition)
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)


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
