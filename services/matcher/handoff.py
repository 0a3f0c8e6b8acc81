"""Steps 5 and 6 of the pipeline: send and wait for the acknowledgements, in the order that correctness rests on.

A process that stood still for long (SIGSTOP, a suspended machine) may have lost its partitions to another one, and what
it has in memory may be old: `FreezeGuard` ends it before it can send anything.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from logging import getLogger
from typing import Any, Final, NoReturn

from aiokafka.errors import InvalidTimestampError, KafkaError

from services.common.errors import EXIT_UNSURE, TransientError
from services.common.kafka import CLOCK_DIFFERS
from services.common.retry import DELIVERY, Attempts
from services.matcher.traces import NO_HEADERS

log = getLogger(__name__)

MAX_BATCH_BYTES: Final = 900_000
SEND_TIMEOUT_SECONDS: Final = 120.0

Row = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""A record to send: (key, value, headers)."""
Rows = dict[int, list[Row]]
"""Records to send, by partition."""


def exit_unsafe(reason: str) -> NoReturn:
    """End the process at once, before Faust can acknowledge anything; what was not finished is read again."""
    log.error("%s", reason, extra={"action": "state-unsure"})
    os._exit(EXIT_UNSURE)


class FreezeGuard:
    """Ends a process that did not run for more than half of a Kafka session timeout."""

    def __init__(self, session_timeout_seconds: float, monotonic: Callable[[], float]) -> None:
        self._limit_seconds = session_timeout_seconds / 2
        self._monotonic = monotonic
        self._last_step = monotonic()

    def reset(self) -> None:
        """Start to count now; the time before was spent waiting, not frozen."""
        self._last_step = self._monotonic()

    def check(self) -> None:
        """To be called before anything is sent, and more often than the limit by a timer."""
        now = self._monotonic()
        if now - self._last_step > self._limit_seconds:
            exit_unsafe(f"the process did not run for {now - self._last_step:.0f} s")
        self._last_step = now


class Sender:
    """Sends records and waits until the brokers have them."""

    def __init__(self, producer: Callable[[], Any], guard: FreezeGuard, monotonic: Callable[[], float]) -> None:
        """`producer`: gives the aiokafka producer of the moment; Faust replaces it when it restarts one."""
        self._producer = producer
        self._guard = guard
        self._monotonic = monotonic

    async def send(self, topics: Mapping[str, Rows]) -> None:
        """Return when every record is acknowledged; retries while the brokers are away, for a limited time."""
        topics = {topic: rows for topic, rows in topics.items() if rows}
        if not topics:
            return
        attempts, started = Attempts(DELIVERY, "kafka", service="matcher"), self._monotonic()
        while True:
            self._guard.check()
            try:
                producer = self._producer()
                futures = [future for topic, rows in topics.items() for future in await send_all(producer, topic, rows)]
                await asyncio.gather(*futures)
                return
            except KafkaError as error:
                clock_differs = isinstance(error, InvalidTimestampError)
                delay = attempts.failed(TransientError(CLOCK_DIFFERS) if clock_differs else error)
                if self._monotonic() - started > SEND_TIMEOUT_SECONDS:
                    raise
                await asyncio.sleep(delay)


class Handoff:
    """Sends the slices of one batch: each kind of record in the order of the slices, and outputs before state.

    1. The outputs of a slice are sent when the outputs of the slice before are acknowledged.
    2. Its changelog rows are sent when its outputs and the rows of the slice before are acknowledged. So a state that is
       found in the changelog has been published, whatever happened in between.

    Tasks of their own do this, so the next slice is joined meanwhile.
    """

    def __init__(self, sender: Sender, changelog: str) -> None:
        """`changelog`: the topic of the state's rows."""
        self._sender = sender
        self._changelog = changelog
        self._outputs: asyncio.Task[None] | None = None
        self._rows: asyncio.Task[None] | None = None

    def add(
        self, partition: int, outputs: Mapping[str, Rows], changes: Mapping[bytes, bytes | None],
        published: Callable[[], None],
    ) -> None:  # fmt: skip
        """Send a slice; `published` is called when its outputs are acknowledged."""
        self._outputs = asyncio.create_task(self._send_outputs(outputs, published, self._outputs))
        self._rows = asyncio.create_task(self._send_rows(partition, changes, self._outputs, self._rows))

    async def finish(self) -> None:
        """Wait until everything is acknowledged."""
        if self._rows is not None:
            await self._rows

    async def _send_outputs(
        self, outputs: Mapping[str, Rows], published: Callable[[], None], before: Awaitable[None] | None
    ) -> None:
        if before is not None:
            await before
        await self._sender.send(outputs)
        published()

    async def _send_rows(
        self, partition: int, changes: Mapping[bytes, bytes | None], outputs: Awaitable[None],
        before: Awaitable[None] | None,
    ) -> None:  # fmt: skip
        await outputs
        if before is not None:
            await before
        await self._sender.send(changelog_rows(self._changelog, partition, changes))


def changelog_rows(changelog: str, partition: int, changes: Mapping[bytes, bytes | None]) -> dict[str, Rows]:
    """One changelog row for each changed entry; a dropped entry is a tombstone."""
    if not changes:
        return {}
    return {changelog: {partition: [(key, value, NO_HEADERS) for key, value in changes.items()]}}


async def send_all(producer: Any, topic: str, rows: Rows) -> list[Any]:
    """Pack rows into producer batches (records are built in C) and hand them over; returns the delivery futures.

    ValueError when a row is larger than a batch may be.
    """
    futures = []
    for partition, partition_rows in rows.items():
        batch = producer.create_batch()
        for key, value, headers in partition_rows:
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
