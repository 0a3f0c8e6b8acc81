"""Retry: how long to wait before failed work is tried again, and the loops that do it.

There is one behaviour for everything that needs Kafka or Postgres:

1. Work that fails with a TransientError is tried again after a delay that grows from attempt to attempt.
2. The delay starts small again only after work has run for a while (`RetryPolicy.reset_seconds`). A connection that opens and
   then fails at once is no success: its delay keeps growing.
3. Each failure is logged with the number of the attempt and counted in `replyrate_dependency_failures_total`.
4. The heartbeat is kept up: a process that waits for a dependency is alive, and a restart would not bring it back.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from logging import getLogger
from typing import Final

from services.common import metrics
from services.common.errors import ReplyrateError, TransientError
from services.common.lifecycle import Stop

log = getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds: `first`, then `factor` times as long after each attempt, at most `cap`."""

    first: float
    factor: float = 2.0
    cap: float = 60.0

    def delay(self, attempt: int, jitter: float) -> float:
        """Seconds to wait after failure number `attempt` (the first is 1).

        `jitter` is between 0 and 1 and spreads the delay over its upper half, so that many clients that failed together do
        not return together.
        """
        # Multiplying step by step up to the cap: 2.0 ** 5000 would overflow before min() could help.
        ceiling = self.first
        for _ in range(min(attempt - 1, 64)):
            if ceiling >= self.cap:
                break
            ceiling *= self.factor
        ceiling = min(ceiling, self.cap)
        return ceiling / 2 + ceiling / 2 * jitter


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The delays of a retry loop, and when its failures are forgotten."""

    backoff: Backoff
    reset_seconds: float = 30.0
    """Work that ran this long before it failed counts as having succeeded: its failure is attempt 1 again."""


DEPENDENCY: Final = RetryPolicy(Backoff(0.5, 2, 10))
"""For loops that need Kafka or Postgres."""
DELIVERY: Final = RetryPolicy(Backoff(0.2, 2, 5))
"""For sending records again: shorter, since the next batch waits for it."""


class Attempts:
    """The attempts at one piece of work: logs and counts failures, and gives the delay before the next attempt."""

    def __init__(
        self,
        policy: RetryPolicy,
        dependency: str,
        *,
        service: str | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`dependency`: the label of the metric and the log; `service` None (the command line) counts in no metric."""
        self._policy = policy
        self._dependency = dependency
        self._service = service
        self._monotonic = monotonic
        self._started: float | None = None
        self.failures = 0
        """Failures in a row."""

    def start(self) -> None:
        """Work that may run for long starts now. Without this call failures are never forgotten."""
        self._started = self._monotonic()

    def failed(self, error: Exception) -> float:
        """Log and count a failure; returns the seconds to wait before the next attempt."""
        ran_for_a_while = self._started is not None and self._monotonic() - self._started >= self._policy.reset_seconds
        self.failures = 1 if ran_for_a_while else self.failures + 1
        if self._service is not None:
            metrics.DEPENDENCY_FAILURES.labels(self._service, self._dependency).inc()
        # The text of a library's error may quote values.
        text = str(error) if isinstance(error, ReplyrateError) else type(error).__name__
        log.warning(
            "%s", text, extra={"action": "dependency-away", "dependency": self._dependency, "attempt": self.failures}
        )
        return self._policy.backoff.delay(self.failures, 0.5)


def run_until_stopped(
    stop: Stop,
    dependency: str,
    work: Callable[[], None],
    *,
    service: str,
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Call `work`, which returns at `stop`, and call it again after a TransientError; any other error is raised."""
    attempts = Attempts(DEPENDENCY, dependency, service=service)
    while not stop.is_set():
        attempts.start()
        try:
            work()
        except TransientError as error:
            delay = attempts.failed(error)
            beat()
            stop.wait(delay)


def until_answers(
    stop: Stop,
    dependency: str,
    ask: Callable[[], None],
    *,
    service: str | None = None,
    beat: Callable[[], None] = lambda: None,
) -> bool:
    """Call `ask` until it does not raise TransientError; False when `stop` was set first."""
    attempts = Attempts(DEPENDENCY, dependency, service=service)
    while not stop.is_set():
        beat()
        try:
            ask()
        except TransientError as error:
            stop.wait(attempts.failed(error))
        else:
            if attempts.failures:
                log.info("the dependency answers again", extra={"action": "dependency-back", "dependency": dependency})
            return True
    return False
