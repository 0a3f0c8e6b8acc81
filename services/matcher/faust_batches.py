"""The seam below Faust: one Faust message for each fetched batch of a partition, instead of one for each record.

Faust spends about 450 µs on each message, the join about 5. So a whole fetched batch passes through Faust as one message:
its value is the list of raw records, its offset that of the last record. Faust keeps its other work: transport, partition
assignment, offsets, and the order in which partitions are served.

Written against faust-streaming 0.15.3 and aiokafka 0.14.0, both pinned exactly in requirements/runtime.in. The public API
ends above the level of batches, so this file overrides and reads private names; each has a comment with its reason, and
tests/contract/test_faust_traps.py fails when an upgrade changes one of them. What made the code the way it is:

- Faust drops a batch that ends before the position to read from, without an ack. Such a batch must not enter the queue of
  batch ends, or commits stop for ever.
- Faust commits up to the first gap in the acknowledged offsets, and with one offset per batch there are only gaps. A queue
  of batch ends per partition replaces that: the offset to commit is the end of the acknowledged prefix.
- After a seek or a revoke reading starts at the committed offset again, so the queues are cleared.
- A batch that is delivered between the seek and the moment when the streams resume is thrown away by Faust; see PartitionTable.
- A batch that was fetched before a seek may be delivered again after it. Faust ignores the acknowledgement of a batch that is
  committed already, so an end below the committed offset counts as acknowledged; else commits stop for ever.
- aiokafka's `seek_to_committed` leaves a partition without a committed offset where it is, behind records that were fetched
  and dropped during a rebalance. perform_seek sends it to its beginning.
- A transaction ends with a control record that no consumer sees: the position moves past it and no batch does, so a
  partition that ends with one would look as if a record were waiting for ever. It is passed as an empty batch.
- Records of an aborted transaction reach every consumer that does not ask for committed records only, and Faust asks for
  them only when its own transactions are on.
- A commit that finds another one in progress waits for it and does nothing itself, also the last one of a stop. What was
  acknowledged since that one began would be read again, so the last commit waits first.
- Faust's own recovery of tables hangs now and then; PartitionTable keeps it away from the changelog.
- aiokafka unpacks a compressed batch whatever its size, and all partitions at once; LimitedPartition and CommittedReadThread
  bound that.
- Faust assigns no partition of a topic that is missing in its metadata, and does not rebalance when the topic appears.
  CompleteAssignor ends the process instead.
"""

import asyncio
import logging
import os
import struct
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from logging import getLogger
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher
from aiokafka.record import default_records as python_records
from aiokafka.record._crecords import default_records, memory_records
from faust.assignor.partition_assignor import PartitionAssignor
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import TP, ConsumerMessage

from services.common.errors import EXIT_CONFIG, ConfigError
from services.common.kafka import KafkaSecurity
from services.common.kafka.unpacking import FETCHED_BYTES, LimitedBatches, limit_decoders, take_unpacked
from services.common.settings import KafkaSettings
from services.common.topics import INQUIRIES, SENT
from services.matcher.handoff import exit_unsafe

log = getLogger(__name__)

limit_decoders(default_records, python_records)


class KeptRecords:
    """aiokafka's compiled MemoryRecords, with the bytes that it was made of: a batch can be read again in Python."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        records = memory_records.MemoryRecords(raw)
        self.has_next, self.next_batch, self.size_in_bytes = records.has_next, records.next_batch, records.size_in_bytes

    def reopen(self, batch: Any) -> Any:
        """A batch as an object of aiokafka's Python class, which shows its position."""
        at = 0
        while at + 12 <= len(self._raw):
            # The head of each batch: its first offset, and the number of bytes that follow (KIP-98).
            base_offset, size = struct.unpack_from(">qi", self._raw, at)
            end = at + 12 + size
            if base_offset == batch.base_offset:
                return python_records._DefaultRecordBatchPy(self._raw[at:end])
            at = end
        raise ValueError(f"no batch begins at offset {batch.base_offset}")


class LimitedPartition(fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of a fetched partition of the input topics, unpacked within the limits of services/common/kafka/unpacking.py.

    The changelog is read as it is: what the matcher wrote itself must not be left out.
    """

    def _unpack_records(self) -> Iterator[Any]:
        # Overridden (PartitionRecords, aiokafka 0.14.0): called by the constructor, and the only place between the fetched
        # batches (`_records`) and their records.
        if self._tp.topic not in (INQUIRIES, SENT):
            records: Iterator[Any] = super()._unpack_records()
            return records
        self._records: Any = LimitedBatches(self._records, self._tp.topic, self._tp.partition, self._records.reopen)
        return self._or_exit(super()._unpack_records())

    def _or_exit(self, records: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from records
        except ConfigError as error:
            # Raised in Faust's consumer thread it would become a stack trace and a restart of the consumer.
            log.error("%s", error, extra={"action": "configuration-refused"})
            logging.shutdown()
            os._exit(EXIT_CONFIG)


# The fetcher makes its partitions with these names of its module (0.14.0).
fetcher.PartitionRecords = LimitedPartition
fetcher.MemoryRecords = KeptRecords


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Delivers one message per fetched batch of the topics in `app.batch_topics`.

    Private names of faust.transport.consumer.Consumer (faust-streaming 0.15.3) that are read or changed here:
    `_read_offset` (the position to read from, by partition), `_acked` and `_acked_index` (acknowledged offsets as a list and
    as a set), `_committed_offset`, `_buffered_partitions` (partitions whose buffer is full; their records may still pass).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batch_ends: defaultdict[Any, deque[int]] = defaultdict(deque)
        """By partition, the last offsets of batches that were delivered and are not committed yet."""
        self._undelivered: set[Any] = set()
        """Partitions with records that were fetched and not delivered: their position means nothing until the next seek."""

    def _new_consumer_thread(self) -> "CommittedReadThread":
        # Faust's own hook (ThreadDelegateConsumer, 0.15.3) for the thread that owns the aiokafka consumer.
        return CommittedReadThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[Any, ConsumerMessage]]:
        """The same start as the original (Consumer.getmany, 0.15.3), then one message per batch.

        Topics that are not batched are delivered record by record, as the original does.
        """
        # Private, but the only way to the fetched records before Faust makes a message of each.
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
        self._undelivered |= {tp for tp, fetched in records.items() if fetched}
        self._pass_gaps()
        for tp, fetched, is_batch in self._batches(records):
            if not self.flow_active or self.app.consumer_generation_id != generation:
                break
            if not (active is None or tp in active or tp in self._buffered_partitions):
                continue
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            if not is_batch:
                yield tp, self._to_message(tp, fetched)
                continue
            read_from, last = self._read_offset[tp], fetched[-1].offset
            if read_from is not None and last < read_from and self.highwater(tp) < read_from:
                self._read_again(tp, read_from)
                read_from = None
            if read_from is not None and last < read_from:
                self._undelivered.discard(tp)
                continue
            self._batch_ends[tp].append(last)
            self._undelivered.discard(tp)
            yield tp, self._batch_message(tp, fetched)

    def _read_again(self, tp: Any, read_from: int) -> None:
        """The log of a partition ends before what was read, and aiokafka was sent to its beginning: nothing of it is known."""
        log.error(
            "the log ends before offset %d, which was read: Kafka lost acknowledged records (an unclean leader election, or a"
            " topic restored to an earlier state); reading what there is from the beginning", read_from,
            extra={"action": "topic-recreated", "topic": tp.topic, "partition": tp.partition},
        )  # fmt: skip
        self._read_offset[tp] = self._committed_offset[tp] = None
        self._batch_ends[tp].clear()
        self._acked[tp].clear()
        self._acked_index[tp].clear()

    def _pass_gaps(self) -> None:
        """Let the committed offset follow the position past control records, if every record before them is finished."""
        # Between two calls of getmany nothing is fetched, so the consumer in the other thread does not change meanwhile.
        # `_ensure_consumer` (Faust) and `_subscription` (aiokafka 0.14.0) are private; the public `position` is a coroutine
        # of the other thread and would allow fetches in between.
        subscription = self._thread._ensure_consumer()._subscription.subscription
        for partition in subscription.assignment.tps if subscription and subscription.assignment else ():
            position_state = subscription.assignment.state_value(partition)
            if partition.topic not in self.app.batch_topics or not position_state.has_valid_position:
                continue
            tp = TP(partition.topic, partition.partition)
            if tp in self._undelivered or self._batch_ends[tp] or self._acked[tp]:
                continue
            position = position_state.position
            if position > (self._committed_offset[tp] or 0):
                self._batch_ends[tp].append(position - 1)
                self._acked[tp].append(position - 1)
                self._acked_index[tp].add(position - 1)

    def _batches(self, records: dict[Any, list[Any]]) -> Iterator[tuple[Any, Any, bool]]:
        """(partition, batch, True) for batched topics, then (partition, record, False) for the others."""
        batched = self.app.batch_topics
        for tp, fetched in records.items():
            if tp.topic in batched and fetched:
                yield tp, fetched, True
        unbatched = {tp: fetched for tp, fetched in records.items() if tp.topic not in batched}
        for tp, record in self.scheduler.iterate(unbatched):
            yield tp, record, False

    def _batch_message(self, tp: Any, records: list[Any]) -> ConsumerMessage:
        last = records[-1]
        return ConsumerMessage(
            tp.topic, tp.partition, last.offset, last.timestamp / 1000.0, last.timestamp_type, (),
            None, records, None, 0, 0, tp, generation_id=self.app.consumer_generation_id,
        )  # fmt: skip

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        # Overridden (Consumer, 0.15.3): it would build a list of every offset between two batches.
        if tp.topic not in self.app.batch_topics:
            await super()._add_gap(tp, offset_from, offset_to)

    def _new_offset(self, tp: Any) -> int | None:
        """The offset to commit: behind the last batch of the acknowledged prefix; None: there is nothing new to commit."""
        # Overridden (Consumer, 0.15.3): the original looks for consecutive offsets, which batches do not have.
        if tp.topic not in self.app.batch_topics:
            offset: int | None = super()._new_offset(tp)
            return offset
        ends, acked, last = self._batch_ends[tp], self._acked_index[tp], None
        committed_offset = self._committed_offset[tp] or 0
        while ends and (ends[0] in acked or ends[0] < committed_offset):
            last = ends.popleft()
        if not ends:
            # What was acknowledged beyond them is a batch that a seek made the consumer forget.
            self._acked[tp].clear()
            acked.clear()
        if last is None:
            return None
        self._acked[tp][:] = [offset for offset in self._acked[tp] if offset > last]
        acked.intersection_update(self._acked[tp])
        return last + 1

    async def commit_and_end_transactions(self) -> None:
        """The last commit of a stop: everything that is acknowledged by now."""
        # Overridden (Consumer, 0.15.3): it would leave out what was acknowledged while a commit was in progress.
        await self.maybe_wait_for_commit_to_finish()
        await super().commit_and_end_transactions()

    async def perform_seek(self) -> None:
        """Start to read at the committed offsets again: batches in flight are forgotten."""
        self._batch_ends.clear()
        self._undelivered.clear()
        for tp in list(self._acked):
            if tp.topic in self.app.batch_topics:
                self._acked[tp].clear()
                self._acked_index[tp].clear()
        await super().perform_seek()
        uncommitted = [
            self._new_topicpartition(tp.topic, tp.partition)
            for tp in self.assignment()
            if tp.topic in self.app.batch_topics and self._read_offset[tp] is None
        ]
        if uncommitted:
            await self._thread.seek_to_beginning(*uncommitted)

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        """Forget the batches of revoked partitions."""
        for tp in revoked:
            self._batch_ends.pop(tp, None)
            self._undelivered.discard(tp)
        await super().on_partitions_revoked(revoked)


class CommittedReadThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, reading committed records only."""

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust (0.15.3) passes `isolation_level` only for exactly_once. aiokafka (0.14.0) reads the attribute when the
        # consumer starts, so it may be set after the constructor.
        consumer._isolation_level = "read_committed"
        return consumer

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: float | None = None, max_records: int | None = None
    ) -> Any:
        """What was fetched, partition by partition until FETCHED_BYTES are unpacked; waits for `timeout` if there is nothing."""
        # Overridden (AIOKafkaConsumerThread, 0.15.3): the original unpacks what was fetched of all partitions at once. Private
        # in aiokafka's Fetcher (0.14.0): `_records`, not unpacked yet by partition, oldest fetch first, and the waiter.
        fetched = await self._take(consumer, active_partitions, max_records)
        if fetched or not timeout or not self.consumer.flow_active:
            return fetched
        with consumer._fetcher._subscriptions.fetch_context():
            waiter = consumer._fetcher._create_fetch_waiter()
            await asyncio.wait([waiter], timeout=timeout)
            if waiter.done():
                waiter.result()  # raises what the user of the consumer must know, such as a refused authorization
            else:
                waiter.cancel()
        return await self._take(consumer, active_partitions, max_records)

    async def _take(self, consumer: Any, active_partitions: Any, max_records: int | None) -> dict[Any, Any]:
        fetched: dict[Any, Any] = {}
        unpacked_bytes = 0
        take_unpacked()
        for tp in [tp for tp in consumer._fetcher._records if tp in active_partitions]:
            fetched |= await super()._fetch_records(consumer, {tp}, 0, max_records)
            unpacked_bytes += take_unpacked()
            if unpacked_bytes > FETCHED_BYTES:
                break
        return fetched


class BatchTransport(driver.Transport):  # type: ignore[misc]
    """Faust's transport with our consumer; producers use the original transport."""

    Consumer = BatchConsumer


class BatchSchema(faust.Schema):  # type: ignore[misc]
    """Passes the list of records through; the pipeline decodes it."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> None:
        """Batches have no key."""

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        """The records as the driver returned them."""
        return message.value


class BatchApp(faust.App):  # type: ignore[misc]
    """A Faust application some of whose topics are delivered in batches."""

    batch_topics: frozenset[str] = frozenset()

    def _new_transport(self) -> BatchTransport:
        # Private (App, 0.15.3): the only place where an application chooses its consumer class.
        return BatchTransport(self.conf.broker_consumer, self)

    def batch_topic(self, *names: str, **options: Any) -> Any:
        """A topic (or several as one) whose messages are lists of records."""
        self.batch_topics = self.batch_topics | set(names)
        return self.topic(*names, schema=BatchSchema(), **options)


class CompleteAssignor(PartitionAssignor):  # type: ignore[misc]
    """Assigns partitions only from complete metadata; ends the process otherwise, so that it joins the group again.

    A broker that has just restarted may answer metadata requests before it has loaded its topics. Faust's assignor (0.15.3)
    ignores a topic without partitions, and the worker then stays in the group without any partition: alive, and idle.
    """

    @classmethod
    def _get_copartitioned_groups(cls, topics: Any, cluster: Any, subscriptions: Any) -> Any:
        # Overridden: the first step of `assign`, and the place where the original ignores missing topics.
        if missing := sorted(topic for topic in topics if not cluster.partitions_for_topic(topic)):
            exit_unsafe(f"Kafka does not list the partitions of {', '.join(missing)} yet")
        return super()._get_copartitioned_groups(topics, cluster, subscriptions)


class PartitionTable(faust.Table):  # type: ignore[misc]
    """A table without contents: it says when a partition's state must be loaded and when it must be dropped.

    Faust's own recovery seeks and reads on the consumer that the streams use; after a rebalance that keeps partitions
    it can wait for ever for records that exist (about one in four of our two-worker runs, faust-streaming 0.15.3). So
    Faust is made to find nothing to recover, and just before the streams resume, `load` fills the stores of the partitions
    that are new here. State is dropped exactly when Faust takes a partition away.
    """

    load: Any = None
    """Coroutine function: build the state of a set of partitions."""
    revoke: Any = None
    """Function: drop the state of a partition."""

    async def on_start(self) -> None:
        """Switch Faust's recovery off."""
        await super().on_start()
        # `need_recovery` is a method of faust.tables.recovery.Recovery (0.15.3) that decides whether it reads changelogs.
        self.app.tables.recovery.need_recovery = lambda: False

    async def on_rebalance(self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0) -> None:
        """Drop the state of partitions that were revoked or are newly assigned."""
        for tp in {*revoked, *newly_assigned}:
            if tp.topic == self.changelog_topic_name:
                self.revoke(tp.partition)
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def on_recovery_completed(self, active_tps: Any, standby_tps: Any) -> None:
        """The last step before the streams resume: load the state that is missing, and deliver nothing until they do.

        Faust (0.15.3) lets the consumer deliver again when it has found nothing to recover, and empties the streams' queues only
        after it has sought the committed offsets (Recovery.on_recovery_completed: flow_control.resume). A batch that is delivered in between is
        lost: its position is passed, nobody acknowledges it, and the partition is never committed again.
        """
        await self.load({tp.partition for tp in active_tps})
        self.app.consumer.stop_flow()
        await super().on_recovery_completed(active_tps, standby_tps)


def client_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Options of an aiokafka client of our own, beside Faust's."""
    return {
        "bootstrap_servers": kafka.bootstrap_servers.split(","),
        "max_partition_fetch_bytes": 4 * 1024 * 1024,
        **KafkaSecurity.of(kafka).client_options(),
    }


def credentials(kafka: KafkaSettings) -> Any:
    """The same security as Faust expects it; None without TLS and SASL."""
    security = KafkaSecurity.of(kafka)
    context = security.ssl_context()
    if security.sasl is not None:
        return faust.SASLCredentials(
            username=security.sasl.username,
            password=security.sasl.password,
            mechanism=security.sasl.mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)
