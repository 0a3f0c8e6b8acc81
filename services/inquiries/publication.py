"""Publishes checked facts to inquiries.v1 for a process that answers requests: a batch is there when all of it is acknowledged."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from services.common.errors import TransientError
from services.common.kafka import Publisher
from services.common.topics import INQUIRIES
from services.inquiries.facts import CheckedFact

AT_ONCE: Final = 4
"""Batches that are published at the same time."""
WAIT_SECONDS: Final = 2.0
"""How long another batch waits for its turn; while Kafka is away requests must not occupy every thread of the process."""


class FactPublisher:
    """Publishes batches; connects with the first one. Safe to use from any thread."""

    def __init__(self, open_publisher: Callable[[], Publisher]) -> None:
        """`open_publisher` raises TransientError when no broker answers."""
        self._open_publisher = open_publisher
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None

    def publish(self, facts: Sequence[CheckedFact]) -> None:
        """Return when every replica in sync has all of them.

        TransientError when Kafka does not answer: some may have been written. To publish the same facts again is harmless, since
        equal facts are one.
        """
        with self._turn():
            publisher = self._connected()
            refused = publisher.wait(
                [publisher.send(INQUIRIES, fact.company_id.encode(), fact.value) for fact in facts]
            )
        if refused:
            raise TransientError(
                f"Kafka refuses {len(refused)} records that are within the limits of {INQUIRIES}; run `replyrate topics check`"
            )

    def close(self) -> None:
        """Close the connections, if there are any."""
        with self._lock:
            publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()

    def _connected(self) -> Publisher:
        with self._lock:
            if self._publisher is None:
                self._publisher = self._open_publisher()
            return self._publisher

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=WAIT_SECONDS):
            raise TransientError("other batches wait for Kafka")
        try:
            yield
        finally:
            self._turns.release()
