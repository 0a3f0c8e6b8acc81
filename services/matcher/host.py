"""The matcher as a Faust application: its life cycle, and the agent that hands batches to the pipeline.

Faust supplies group membership, partition assignment, offsets and the transport; its seam is faust_batches.py, the work
is pipeline.py. What this file guarantees:

- One agent reads both topics: two would interleave their read-modify-write at every await.
- No error leaves the agent's body. Faust acknowledges an event whose body raised (faust/streams.py, `finally:
  event.ack()`), and the batch would be lost. So any error ends the process with 70, and the batch is read again.
- The next batch starts when the one before is acknowledged, and sweeping the horizon happens between two batches.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from logging import getLogger
from typing import Any, Final

from services.common.errors import EXIT_CONFIG, EXIT_DONE, ConfigError, UnsureError
from services.common.hashing import Hasher
from services.common.health import ConsumerProgress
from services.common.lifecycle import FINISH_SECONDS, STOP_SECONDS, Heartbeat, Stop
from services.common.settings import KafkaSettings, MatcherSettings
from services.common.topics import INQUIRIES, SENT, changelog_name
from services.common.tracing import OFF, Tracer
from services.matcher.decode import BatchDecoder
from services.matcher.encode import OutputEncoder
from services.matcher.faust_batches import BatchApp, CompleteAssignor, PartitionTable, client_options, credentials
from services.matcher.handoff import MAX_BATCH_BYTES, FreezeGuard, Handoff, Sender, exit_unsafe
from services.matcher.horizon import HorizonClock, HorizonSweeper
from services.matcher.pipeline import Pipeline
from services.matcher.recovery import StateRecovery
from services.matcher.stores import Stores

log = getLogger(__name__)

STALL_SECONDS: Final = 60.0
"""How long records may wait in an assigned partition without a commit, while no batch is in hand."""
WAITING_BATCHES: Final = 2
"""Fetched batches that wait for the agent; each may have unpacked to twice FETCHED_BYTES."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where the matcher takes the time from."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]


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
        clocks: Clocks,
        heartbeat: Heartbeat,
        tracer: Tracer = OFF,
    ) -> None:
        """`version`: of the software, for dead letters."""
        self._kafka = kafka
        self._settings = settings
        self._heartbeat = heartbeat
        self._guard = FreezeGuard(settings.session_timeout_seconds, clocks.monotonic)
        self._stores = Stores(settings.store, settings.data_dir / "state")
        self._busy = asyncio.Lock()
        """Held while a batch is in hand or a slice is swept."""
        self.stall = ConsumerProgress("offset was committed", STALL_SECONDS, clocks.monotonic)
        """Whether reading has stopped though this process is a healthy member of its group."""
        changelog = changelog_name(settings.app_id)
        horizon = HorizonClock(clocks.now, timedelta(days=horizon_days))
        self.recovery = StateRecovery(self._stores, changelog, client_options(kafka), heartbeat, clocks.monotonic)
        # Faust has no public way to a producer that sends packed batches: faust/transport/drivers/aiokafka.py (0.15.3).
        sender = Sender(lambda: self._app.producer._producer, self._guard, clocks.monotonic)
        self._pipeline = Pipeline(
            BatchDecoder(hasher, kafka.partitions, clocks.now, tracer),
            self._stores,
            OutputEncoder(hasher, kafka.partitions, version, clocks.now),
            lambda: Handoff(sender, changelog),
            horizon,
        )
        self._sweeper = HorizonSweeper(self._stores, sender, changelog, horizon.earliest, self._busy)
        self._app = self._build_app()

    def ready(self) -> bool:
        """Whether partitions are assigned and their state is rebuilt."""
        return not self.not_ready()

    def not_ready(self) -> list[str]:
        """Why it is not ready, in short sentences."""
        app = self._app
        if not app.started or app.rebalancing:
            return ["joining the consumer group"]
        if self.recovery.running:
            return ["state is being rebuilt from the changelog"]
        return [] if self.partitions() else ["no partition is assigned: there are more workers than partitions"]

    def partitions(self) -> frozenset[int]:
        """The partitions that are here with their state."""
        return self.recovery.partitions

    def note_lag(self, waits: bool, positions: object) -> None:
        """Note whether records wait in the partitions of this process, and their committed offsets. From any thread."""
        self.stall.note(waits and self.ready() and not self._busy.locked(), positions)

    async def run(self, stop: Stop) -> None:
        """Work until `stop` is set, then finish the batch in hand, commit and leave the group.

        UnsureError after the same steps, when there are so many invalid records that the topic must be the wrong one.
        """
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        stop.on_stop(lambda: _set_from_thread(loop, stopping))
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._app.finalize()
        # Before this the process may have waited for Kafka, which is no freeze.
        self._guard.reset()
        watching = asyncio.create_task(self._watch())
        sweeping = asyncio.create_task(self._sweeper.run(self.ready))
        start = asyncio.create_task(self._app.start())
        done, _ = await asyncio.wait({start, asyncio.create_task(stopping.wait())}, return_when=asyncio.FIRST_COMPLETED)
        if start in done:
            start.result()
            log.info("joined the group", extra={"action": "service-started"})
            while not stopping.is_set():
                if self._app.crashed:
                    exit_unsafe(f"Faust crashed ({type(self._app.crash_reason).__name__})")
                if self._pipeline.wrong_topic:
                    break
                if problems := self.stall.problems():
                    # Faust and aiokafka are several queues, tasks and threads, and any of them may wait for what never comes.
                    exit_unsafe(f"{problems[0]}: reading has stopped, and a restart continues at the committed offsets")
                await _wait_at_most(stopping.wait(), 0.5)
        log.info("finishing the batch in hand", extra={"action": "service-stopping"})
        sweeping.cancel()
        if start in done:
            # The freeze guard stays in use: a broker that hangs during the stop is no freeze of this process.
            if self._pipeline.wrong_topic:
                # No signal limits this stop.
                await _wait_at_most(self._app.stop(), STOP_SECONDS)
            else:
                await self._app.stop()
            watching.cancel()
            self._stores.close()
            if self._pipeline.wrong_topic:
                # Only now: what was read is published and committed, so a restart does not read it again.
                raise UnsureError(self._pipeline.wrong_topic)
        else:
            watching.cancel()
            await self._exit_while_starting()

    async def _exit_while_starting(self) -> None:
        """End in the middle of Faust's start, which neither completes nor can be stopped without hanging now and then.

        A batch that already arrived is finished. Its offset was not committed, so it is read again and changes nothing.
        """
        await _wait_at_most(self._busy.acquire(), FINISH_SECONDS / 2)
        log.info("stopped before startup was complete", extra={"action": "service-stopped"})
        logging.shutdown()
        os._exit(EXIT_DONE)

    def _build_app(self) -> BatchApp:
        kafka, settings = self._kafka, self._settings
        app = BatchApp(
            settings.app_id,
            broker=[f"kafka://{address}" for address in kafka.bootstrap_servers.split(",")],
            broker_credentials=credentials(kafka),
            datadir=settings.data_dir / "faust",
            processing_guarantee="at_least_once",
            store="memory://",
            Table=PartitionTable,
            PartitionAssignor=CompleteAssignor,
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
        # Without a table Faust's assignor may give partition n of the two topics to different workers.
        table = app.Table("joined", partitions=kafka.partitions)
        table.load = self.recovery.load
        table.revoke = self._revoke

        @app.agent(app.batch_topic(INQUIRIES, SENT), concurrency=1, name="joined")  # type: ignore[untyped-decorator]
        async def joined(stream: Any) -> None:
            async for records in stream:
                try:
                    async with self._busy:
                        await self._pipeline.process(records)
                    self._heartbeat.beat()
                except ConfigError as error:
                    # Nothing of this batch is committed.
                    log.error("%s", error, extra={"action": "configuration-refused"})
                    logging.shutdown()
                    os._exit(EXIT_CONFIG)
                except BaseException as error:
                    if not isinstance(error, asyncio.CancelledError):
                        log.exception("a batch failed", extra={"action": "crashed"})
                    exit_unsafe("a batch was not finished")

        return app

    def _revoke(self, partition: int) -> None:
        self.recovery.revoke(partition)
        self._sweeper.forget(partition)

    async def _watch(self) -> None:
        """Check several times in a session timeout that the process was not frozen; idle time counts as alive."""
        while True:
            self._guard.check()
            if not self._app.rebalancing and not self.recovery.running and not self._busy.locked():
                self._heartbeat.beat()
            await asyncio.sleep(min(1.0, self._settings.session_timeout_seconds / 10))


def _set_from_thread(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    loop.call_soon_threadsafe(event.set)


async def _wait_at_most(waiting: Awaitable[object], seconds: float) -> None:
    try:
        await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        pass
