"""The matcher's loop on Faust: `batch | decode | join | outputs acked | changelog acked | offsets move`.

One agent reads both topics: two would interleave their read-modify-write at every await. Nothing may leave its body:
Faust acknowledges an event whose body raised, and the batch would be lost; so any error ends the process with 70 and
the batch comes again. Outputs are acknowledged before their changelog rows are sent: a state that is found in the
changelog has been published, whatever happened in between.
"""

import asyncio
import logging
import os
import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from logging import getLogger
from typing import Any, Final

import faust
from aiokafka.errors import KafkaError

from services.common import codec, metrics
from services.common.errors import EXIT_DONE, EXIT_UNSURE, InvalidEvent
from services.common.events import (
    MATCH_ORDER,
    MESSAGE_SENT,
    PLATFORM_TYPES,
    CompanyErased,
    DeadLetter,
    InquiryReceived,
    InquiryReplies,
    MessageSent,
)
from services.common.hashing import Hasher
from services.common.lifecycle import FINISH_SECONDS, Heartbeat, Stop
from services.common.retry import Backoff
from services.common.settings import KafkaSettings, MatcherSettings
from services.common.telemetry import OFF, Span, Tracing
from services.common.topics import (
    DEAD,
    INPUT_BYTES,
    INQUIRIES,
    REPLIES,
    REROUTED,
    SENT,
    changelog_name,
    partition_of,
    reply_key,
)
from services.common.trace import TRACEPARENT, is_sampled, trace_id, traceparent
from services.dead_letters import rejected
from services.matcher import join, state
from services.matcher.bulk import BulkApp, PartitionTable, Rows, read_changelog, send_all
from services.matcher.stores import Stores

log = getLogger(__name__)

SOURCE: Final = "replyrate/matcher"
ACCEPT: Final = {
    INQUIRIES: PLATFORM_TYPES,
    SENT: frozenset({MESSAGE_SENT}),
}
GIVE_UP_SECONDS: Final = 120.0
REJECTED_IN_A_ROW: Final = 10_000
SWEEP_SECONDS: Final = 5.0
SWEEP_ENTRIES: Final = 2_000
MAX_BATCH_BYTES: Final = 900_000
WAITING_BATCHES: Final = 8
SLICE_RECORDS: Final = 500
LOOP_PASSES: Final = 4
"""How often the loop may turn between two slices, so that what is in flight gets on."""


@dataclass(slots=True)
class _Outbox:
    """What a batch publishes, by topic and partition."""

    replies: Rows
    dead: Rows
    rerouted: Rows
    traces: dict[str | bytes, bytes]
    """`traceparent` by what came with it: the key of an inquiry's state, or the id of a message."""
    spans: dict[bytes, Span]
    """One span for each trace that came, by its `traceparent`; empty while spans are off."""


class Matcher:
    """Faust's application with our state: `run` it until `stop` is set."""

    def __init__(
        self,
        kafka: KafkaSettings,
        settings: MatcherSettings,
        hasher: Hasher,
        *,
        horizon_days: int,
        version: str,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        heartbeat: Heartbeat,
        tracing: Tracing = OFF,
    ) -> None:
        self._kafka = kafka
        self._settings = settings
        self._hasher = hasher
        self._horizon = timedelta(days=horizon_days)
        self._version = version
        self._clock = clock
        self._monotonic = monotonic
        self._heartbeat = heartbeat
        self._tracing = tracing
        self._stores = Stores(settings.store, settings.data_dir / "state")
        self._last_step = monotonic()
        self._rejected_in_a_row = 0
        self._cursors: dict[int, bytes] = {}
        self._busy = asyncio.Lock()
        self._loaded: set[int] = set()
        self._recovering = False
        metrics.from_zero(metrics.RECORDS_REJECTED, ["matcher"], metrics.REASONS["matcher"])
        metrics.from_zero(metrics.MATCHES, MATCH_ORDER)
        self._app = self._build()

    def ready(self) -> bool:
        """Whether partitions are assigned and their state is rebuilt."""
        return not self.not_ready()

    def not_ready(self) -> list[str]:
        """Why it is not ready, in short sentences."""
        app = self._app
        if not app.started or app.rebalancing:
            return ["joining the consumer group"]
        if self._recovering:
            return ["state is being rebuilt from the changelog"]
        return [] if self._loaded else ["no partition is assigned: there are more workers than partitions"]

    def partitions(self) -> frozenset[int]:
        """The partitions that are here with their state."""
        return frozenset(self._loaded)

    async def run(self, stop: Stop) -> None:
        """Work until `stop` is set, then finish the batch in hand, commit and leave the group."""
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        stop.on_stop(lambda: _wake(loop, stopping))
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._app.finalize()
        # Since it was made it may have waited for Kafka, which is no standstill.
        self._last_step = self._monotonic()
        tick, housekeeping = asyncio.create_task(self._tick()), asyncio.create_task(self._housekeeping())
        start = asyncio.create_task(self._app.start())
        done, _ = await asyncio.wait({start, asyncio.create_task(stopping.wait())}, return_when=asyncio.FIRST_COMPLETED)
        if start in done:
            start.result()
            log.info("joined the group", extra={"action": "service-started"})
            while not stopping.is_set():
                if self._app.crashed:
                    _unsure(f"Faust crashed ({type(self._app.crash_reason).__name__})")
                await _within(stopping.wait(), 0.5)
        log.info("finishing the batch in hand", extra={"action": "service-stopping"})
        housekeeping.cancel()
        if start in done:
            # The tick goes on: a broker that hangs meanwhile is no standstill of this process.
            await self._app.stop()
            tick.cancel()
            self._stores.close()
        else:
            tick.cancel()
            await self._leave_at_once()

    async def _leave_at_once(self) -> None:
        """End in the middle of Faust's start, which neither goes on nor can be stopped without hanging now and then.

        A batch that came already is finished; its offset did not move, so it comes again and changes nothing.
        """
        await _within(self._busy.acquire(), FINISH_SECONDS / 2)
        log.info("stopped before it had started", extra={"action": "service-stopped"})
        logging.shutdown()
        os._exit(EXIT_DONE)

    def _build(self) -> BulkApp:
        kafka, settings = self._kafka, self._settings
        brokers = [f"kafka://{address}" for address in kafka.bootstrap_servers.split(",")]
        app = BulkApp(
            settings.app_id,
            broker=brokers,
            broker_credentials=_credentials(kafka),
            datadir=settings.data_dir / "faust",
            processing_guarantee="at_least_once",
            store="memory://",
            Table=PartitionTable,
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            topic_partitions=kafka.partitions,
            topic_replication_factor=kafka.replication_factor,
            table_standby_replicas=0,
            stream_wait_empty=True,
            stream_buffer_maxsize=WAITING_BATCHES,
            stream_recovery_delay=0.0,
            broker_session_timeout=settings.session_timeout_seconds,
            broker_heartbeat_interval=max(0.1, min(3.0, settings.session_timeout_seconds / 4)),
            broker_commit_interval=1.0,
            broker_max_poll_interval=300.0,
            broker_request_timeout=90.0,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=4 * 1024 * 1024,
            producer_linger=0,
            producer_max_batch_size=MAX_BATCH_BYTES,
            producer_max_request_size=1024 * 1024,
            producer_request_timeout=30.0,
            producer_threaded=False,
        )
        topic = app.bulk_topic(INQUIRIES, SENT)
        table = app.Table("joined", partitions=kafka.partitions)
        table.load = self._load
        table.gone = self._gone

        @app.agent(topic, concurrency=1, name="joined")  # type: ignore[untyped-decorator]
        async def joined(stream: Any) -> None:
            async for records in stream:
                try:
                    async with self._busy:
                        await self._take(records)
                except BaseException as error:
                    if not isinstance(error, asyncio.CancelledError):
                        log.exception("a batch failed", extra={"action": "crashed"})
                    _unsure("a batch was not finished")

        return app

    async def _load(self, partitions: set[int]) -> None:
        """Fill the stores of the partitions that are new here from the changelog."""
        new = partitions - self._loaded
        if not new:
            return
        self._recovering, began = True, self._monotonic()
        for partition in new:
            self._stores.drop(partition)
        topic = changelog_name(self._settings.app_id)
        rows = await read_changelog(_client(self._kafka), topic, new, self._recover)
        for partition in new:
            self._erase_again(partition)
        self._loaded |= new
        self._recovering = False
        seconds = self._monotonic() - began
        metrics.RECOVERY_SECONDS.set(seconds)
        entries, size = self._stores.size()
        log.info(
            "state is here",
            extra={
                "action": "recovery-done", "partitions": len(new), "rows": rows, "seconds": round(seconds, 3),
                "entries": entries, "bytes": size,
            },
        )  # fmt: skip

    def _recover(self, partition: int, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
        self._stores.recover(partition, rows)
        # However long it takes, a recovery that goes on is no reason for a restart: that would only begin it anew.
        self._heartbeat.beat()

    def _erase_again(self, partition: int) -> None:
        """Recovery unites old rows with new ones, and so brings back what an erase took out of an entry: once more."""
        store = self._stores[partition]
        for key in [*store.scan(b"e")]:
            erased = state.unpack(key, store.get(key) or b"")
            assert isinstance(erased, state.ErasureEntry)
            fact = CompanyErased(company_id=state.company_of(key), at=erased.at)
            store.write(join.apply(store.get, store.scan, [fact]).changes)

    def _gone(self, partition: int) -> None:
        self._loaded.discard(partition)
        self._stores.drop(partition)
        self._cursors.pop(partition, None)

    async def _take(self, records: Sequence[Any]) -> None:
        """One fetched batch of one partition, a slice at a time: while one is joined, the ones before are sent."""
        # Each of the two goes out slice by slice, in order: a newer state is never overtaken by an older one.
        metrics.MATCHER_BATCH_RECORDS.observe(len(records))
        outputs = rows = asyncio.create_task(asyncio.sleep(0))
        for begin in range(0, len(records), SLICE_RECORDS):
            partition, out, applied = self._join(records[begin : begin + SLICE_RECORDS])
            outputs = asyncio.create_task(self._send_outputs(out, outputs))
            rows = asyncio.create_task(self._send_rows(partition, applied.changes, outputs, rows))
            for _ in range(LOOP_PASSES):
                await asyncio.sleep(0)
        await rows
        self._heartbeat.beat()

    async def _send_outputs(self, out: _Outbox, *behind: asyncio.Task[None]) -> None:
        for task in behind:
            await task
        await self._send({REPLIES: out.replies, DEAD: out.dead, INQUIRIES: out.rerouted})
        for span in out.spans.values():
            span.end()

    def _join(self, records: Sequence[Any]) -> tuple[int, _Outbox, join.JoinResult]:
        partition = records[0].partition
        out = _Outbox({}, {}, {}, {}, {})
        facts: list[join.Fact] = []
        origins: list[Any] = []
        for record in records:
            self._decode(record, facts, origins, out)
        store = self._stores[partition]
        applied = join.apply(store.get, store.scan, facts, earliest=self._clock() - self._horizon)
        for index, error in applied.refused:
            self._reject(origins[index], error, out)
        store.write(applied.changes)
        self._publish(partition, applied, out)
        _count(facts, applied)
        return partition, out, applied

    def _decode(self, record: Any, facts: list[join.Fact], origins: list[Any], out: _Outbox) -> None:
        try:
            if record.value is None:
                raise InvalidEvent("not-json", "the record has no value")
            envelope = codec.decode(record.value, accept=ACCEPT[record.topic])
            event = envelope.data
            assert not isinstance(event, InquiryReplies | DeadLetter)
            if not self._at_home(event.company_id, record, out):
                return
        except InvalidEvent as error:
            self._reject(record, error, out)
            self._rejected_in_a_row += 1
            if self._rejected_in_a_row >= REJECTED_IN_A_ROW:
                raise RuntimeError(f"{REJECTED_IN_A_ROW} invalid records in a row; is this the right topic?") from None
            return
        self._rejected_in_a_row = 0
        if isinstance(event, InquiryReceived):
            event, dropped = join.hashed(event, codec.facts_text(envelope), self._hasher)
            metrics.IDS_DROPPED.inc(dropped)
        facts.append(event)
        origins.append(record)
        if record.headers and (trace := traceparent(record.headers)) is not None:
            self._note_trace(event, trace, record, out)

    def _note_trace(self, event: Any, trace: bytes, record: Any, out: _Outbox) -> None:
        if isinstance(event, CompanyErased):
            return
        of = event.message_id if isinstance(event, MessageSent) else reply_key(event.company_id, event.inquiry_id)
        out.traces[of] = trace
        if not is_sampled(trace):
            return
        if not self._tracing.on:
            where = f"{record.topic}/{record.partition}/{record.offset}"
            log.info("joined", extra={"action": "record-traced", "position": where, "trace_id": trace_id(trace)})
            return
        if (span := out.spans.get(trace)) is None:
            span = out.spans[trace] = self._tracing.start("join", trace)
            span.set(topic=record.topic, partition=record.partition, first_offset=record.offset)
        span.set(last_offset=record.offset)
        out.traces[of] = span.traceparent or trace

    def _at_home(self, company_id: str, record: Any, out: _Outbox) -> bool:
        """Whether the record lies in its company's partition; one that does not is sent there, once."""
        home = partition_of(company_id.encode(), self._kafka.partitions)
        if home == record.partition:
            return True
        if record.topic != INQUIRIES or REROUTED in record.headers:
            raise InvalidEvent("misrouted", "the partition is not murmur2(company_id); set the producer's partitioner")
        size = len(record.value) + sum(len(name.encode()) + len(value or b"") + 8 for name, value in record.headers)
        if size > INPUT_BYTES - rejected.AROUND_BYTES:
            # A topic's limit is one for compressed batches, and what is sent from here is not compressed.
            raise InvalidEvent(
                "limit", f"the record lies in the wrong partition, and its {size} bytes are too many to move"
            )
        moved = (company_id.encode(), record.value, [*record.headers, REROUTED])
        out.rerouted.setdefault(home, []).append(moved)
        metrics.REROUTED.inc()
        log.info(
            "sent to its partition", extra={"action": "record-rerouted", "partition": record.partition, "home": home}
        )
        return False

    def _reject(self, record: Any, error: InvalidEvent, out: _Outbox) -> None:
        letter = rejected.letter(
            record, error, service="matcher", version=self._version, at=self._clock(), most_bytes=MAX_BATCH_BYTES
        )
        out.dead.setdefault(partition_of(letter.key, self._kafka.partitions), []).append(letter)
        metrics.RECORDS_REJECTED.labels("matcher", error.reason).inc()
        log.warning(
            "rejected: %s", error.detail,
            extra={"action": "record-rejected", "reason": error.reason, "position": rejected.position(record)},
        )  # fmt: skip

    def _publish(self, partition: int, applied: join.JoinResult, out: _Outbox) -> None:
        entries = out.replies.setdefault(partition, []) if applied.changed or applied.erased else []
        for erased, dropped in applied.erased:
            company_id = erased.company_id
            entries += [(reply_key(company_id, inquiry_id), None, _NO_HEADERS) for inquiry_id in dropped]
            entries.append((reply_key(company_id, ""), self._erasure(erased), _NO_HEADERS))
        for inquiry in applied.changed:
            key = reply_key(inquiry.company_id, inquiry.inquiry_id)
            headers = _trace_of(key, inquiry, out.traces) if out.traces else _NO_HEADERS
            entries.append((key, self._state(inquiry), headers))

    def _state(self, inquiry: InquiryReplies) -> bytes:
        """The record of a joined state: its id and time depend on nothing but what it says."""
        time = state.latest_instant(inquiry)
        assert time is not None
        identity = self._hasher.content(inquiry.company_id, codec.canonical(inquiry).decode())
        return codec.encode(inquiry, id=identity, source=SOURCE, time=time)

    def _erasure(self, erased: CompanyErased) -> bytes:
        identity = self._hasher.content(erased.company_id, codec.canonical(erased).decode())
        return codec.encode(erased, id=identity, source=SOURCE, time=erased.at)

    async def _send_rows(
        self, partition: int, changes: Mapping[bytes, bytes | None], *behind: asyncio.Task[None]
    ) -> None:
        """One changelog row for each changed entry, when the outputs (and the rows before) are acknowledged."""
        for task in behind:
            await task
        rows: Rows = {partition: [(key, value, _NO_HEADERS) for key, value in changes.items()]}
        await self._send({changelog_name(self._settings.app_id): rows} if changes else {})

    async def _send(self, topics: dict[str, Rows]) -> None:
        """Send and wait until the brokers have it; the same again while they are away."""
        topics = {topic: rows for topic, rows in topics.items() if rows}
        if not topics:
            return
        backoff, since, attempt = Backoff(0.2, 2, 5), self._monotonic(), 0
        while True:
            self._check_not_frozen()
            try:
                producer = self._app.producer._producer
                futures = [future for topic, rows in topics.items() for future in await send_all(producer, topic, rows)]
                await asyncio.gather(*futures)
                return
            except KafkaError as error:
                attempt += 1
                metrics.DEPENDENCY_FAILURES.labels("matcher", "kafka").inc()
                log.warning("%s", type(error).__name__, extra={"action": "dependency-away", "attempt": attempt})
                if self._monotonic() - since > GIVE_UP_SECONDS:
                    raise
                await asyncio.sleep(backoff.delay(attempt, 0.5))

    def _check_not_frozen(self) -> None:
        """A process that stood still for long may have been replaced: what it holds may be old, so it sends nothing."""
        now = self._monotonic()
        if now - self._last_step > self._settings.session_timeout_seconds / 2:
            _unsure(f"the process stood still for {now - self._last_step:.0f} s")
        self._last_step = now

    async def _tick(self) -> None:
        while True:
            self._check_not_frozen()
            app = self._app
            if not app.rebalancing and not self._recovering and not self._busy.locked():
                self._heartbeat.beat()
            await asyncio.sleep(min(1.0, self._settings.session_timeout_seconds / 10))

    async def _housekeeping(self) -> None:
        """Drop what lies behind the horizon, a slice of each partition at a time, between two batches."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            entries, size = self._stores.size()
            metrics.STATE_ENTRIES.labels("all").set(entries)
            metrics.STATE_BYTES.set(size)
            for partition in self._stores.partitions():
                try:
                    async with self._busy:
                        if self.ready() and partition in self._stores.partitions():
                            await self._sweep(partition)
                except Exception:
                    log.exception("the horizon could not be swept", extra={"action": "crashed"})
                    _unsure("dropping old entries was not finished")

    async def _sweep(self, partition: int) -> None:
        store = self._stores[partition]
        cutoff = self._clock() - self._horizon
        found = store.slice(self._cursors.get(partition, b""), SWEEP_ENTRIES)
        self._cursors[partition] = found[-1][0] if found else b""
        changes = {key: left for key, value in found if (left := join.sweep(key, value, cutoff)) != value}
        if not changes:
            return
        store.write(changes)
        await self._send_rows(partition, changes)
        metrics.STATE_DROPPED.inc(len(changes))
        log.info(
            "behind the horizon", extra={"action": "state-dropped", "partition": partition, "entries": len(changes)}
        )


_NO_HEADERS: list[tuple[str, bytes]] = []


def _trace_of(key: bytes, inquiry: InquiryReplies, traces: Mapping[str | bytes, bytes]) -> list[tuple[str, bytes]]:
    """The header of a state: its own fact's, else that of a message among its replies."""
    found = traces.get(key) or next((traces[one.reply_id] for one in inquiry.replies if one.reply_id in traces), None)
    return _NO_HEADERS if found is None else [(TRACEPARENT, found)]


def _count(facts: Sequence[join.Fact], applied: join.JoinResult) -> None:
    for kind, count in Counter(map(type, facts)).items():
        metrics.FACTS_APPLIED.labels(kind.__name__).inc(count)
    metrics.STATES_EMITTED.inc(len(applied.changed))
    metrics.CHANGELOG_ROWS.inc(len(applied.changes))
    metrics.CONFLICTS.inc(applied.conflicts)
    metrics.FACTS_CUT.inc(applied.cut)
    for evidence, count in applied.matched.items():
        metrics.MATCHES.labels(evidence).inc(count)


def _client(kafka: KafkaSettings) -> dict[str, Any]:
    """Options of a bare aiokafka client."""
    secure = kafka.security_protocol.endswith("SSL")
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers.split(","),
        "security_protocol": kafka.security_protocol,
        "ssl_context": ssl.create_default_context(cafile=kafka.ssl_ca_file) if secure else None,
        "max_partition_fetch_bytes": 4 * 1024 * 1024,
    }
    if kafka.sasl_password is not None:
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password.get_secret_value(),
        }
    return options


def _credentials(kafka: KafkaSettings) -> Any:
    context = ssl.create_default_context(cafile=kafka.ssl_ca_file) if kafka.security_protocol.endswith("SSL") else None
    if kafka.security_protocol.startswith("SASL"):
        assert kafka.sasl_password is not None
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password.get_secret_value(),
            mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    loop.call_soon_threadsafe(event.set)


async def _within(waiting: Any, seconds: float) -> None:
    try:
        await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        pass


def _unsure(why: str) -> None:
    """End at once, before Faust can acknowledge anything; what was not finished is replayed."""
    log.error("%s", why, extra={"action": "state-unsure"})
    os._exit(EXIT_UNSURE)
