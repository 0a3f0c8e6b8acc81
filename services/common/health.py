"""What `/healthz` and `/readyz` report: whether work gets done, and whether dependencies answer.

Healthy: the loop progresses, and waiting work gets done. No dependency is asked for it, since a restart fixes none that is
not reachable. Ready: dependencies answer too. Pages must answer at once, so threads of their own probe the dependencies and a
page reports their last result; a probe that hangs counts as a dependency that does not answer.
"""

import platform
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from logging import getLogger
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from services.common import metrics
from services.common.errors import ReplyrateError
from services.common.version import version

log = getLogger(__name__)

STUCK_SECONDS: Final = 300.0
"""How long a loop may make no progress, or work wait at one position, before the process counts as dead."""
WAITING_SECONDS = STUCK_SECONDS
"""The same limit for waiting work, as a variable of its own: a process of the tests shortens it before its service starts."""
ASK_SECONDS = 5.0
FRESH_SECONDS: Final = 20.0

UNREAD: Final = 1
"""Records at the end of a partition that no consumer sees: the marker that ends a producer's transaction."""

Problems = list[str]
"""Short sentences; an empty list means healthy or ready."""
Client = TypeVar("Client")


class ConsumerProgress:
    """Whether waiting work gets done: a probe notes what it measures, the pages read it."""

    def __init__(
        self,
        what: str,
        limit_seconds: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        what_waits: str = "records",
    ) -> None:
        """For the sentence "no `what` for 300 s although `what_waits` wait"."""
        self._what = what
        self._what_waits = what_waits
        self._limit = WAITING_SECONDS if limit_seconds is None else limit_seconds
        self._monotonic = monotonic
        self._position: object = None
        self._since: float | None = None
        self._stuck_seconds = 0.0

    def note(self, waiting: bool, position: object) -> None:
        """Note a measurement: whether work waits, and a `position` that changes whenever some work was done."""
        now = self._monotonic()
        if not waiting:
            self._since = None
        elif self._since is None or position != self._position:
            self._since = now
        self._position = position
        # Computed here and not when the page is read: without a new measurement nothing says that the process is stuck.
        self._stuck_seconds = 0.0 if self._since is None else now - self._since

    def unknown(self) -> None:
        """The measurement failed; earlier ones prove nothing any more."""
        self._since, self._stuck_seconds = None, 0.0

    def problems(self) -> Problems:
        """One sentence if work waited at one position for longer than the limit, otherwise none."""
        if self._stuck_seconds <= self._limit:
            return []
        return [f"no {self._what} for {self._stuck_seconds:.0f} s although {self._what_waits} wait"]


class DependencyProbe(Generic[Client]):
    """Probes one dependency periodically in a thread, with a client that is reused until a probe fails."""

    def __init__(
        self,
        service: str,
        dependency: str,
        open: Callable[[], AbstractContextManager[Client]],
        ask: Callable[[Client], object],
        *,
        failed: Callable[[], None] = lambda: None,
        ask_seconds: float | None = None,
        fresh_seconds: float = FRESH_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ask` raises when the dependency does not answer; then `failed` is called and a new client opened."""
        self._service = service
        self._dependency = dependency
        self._open = open
        self._ask = ask
        self._failed = failed
        self._ask_seconds = ASK_SECONDS if ask_seconds is None else ask_seconds
        self._fresh_seconds = fresh_seconds
        self._monotonic = monotonic
        self._answered_at: float | None = None
        # Start at 0: a series that starts with 1 has no increase for Prometheus.
        metrics.DEPENDENCY_FAILURES.labels(service, dependency)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"probe-{dependency}", daemon=True)

    def problems(self) -> Problems:
        """One sentence if the last probe failed or was too long ago, otherwise none."""
        at = self._answered_at
        fresh = at is not None and self._monotonic() - at <= self._fresh_seconds
        return [] if fresh else [f"{self._dependency} does not answer"]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._open() as client:
                    while not self._stop.is_set():
                        self._ask(client)
                        self._answered_at = self._monotonic()
                        self._stop.wait(self._ask_seconds)
            except Exception as error:  # whatever it was, the dependency did not answer and the thread must continue
                if self._answered_at is not None and not self._stop.is_set():
                    text = str(error) if isinstance(error, ReplyrateError) else type(error).__name__
                    log.warning("%s", text, extra={"action": "dependency-away", "dependency": self._dependency})
                self._answered_at = None
                metrics.DEPENDENCY_FAILURES.labels(self._service, self._dependency).inc()
                self._failed()
                self._stop.wait(min(1.0, self._ask_seconds))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        # A probe may hang for as long as its client allows; the process does not wait for it.
        self._thread.join(timeout=1)


def behind(
    spans: Mapping[tuple[str, int], tuple[int, int]], positions: Mapping[tuple[str, int], int]
) -> dict[tuple[str, int], int]:
    """Lag: records between a reader's position and the end, by (topic, partition); expired records do not count."""
    return {tp: max(0, end - max(first, positions.get(tp, 0))) for tp, (first, end) in spans.items()}


def report_lag(
    service: str,
    healthy: Callable[[], Problems],
    ready: Callable[[], Problems],
    age: Callable[[], float] | None = None,
) -> None:
    """Show on `/metrics` what the other pages report, the version, and the age of the slowest loop of a service with loops."""
    metrics.BUILD_INFO.labels(service, version(), platform.python_version()).set(1)
    metrics.HEALTHY.labels(service).set_function(lambda: float(not healthy()))
    metrics.READY.labels(service).set_function(lambda: float(not healthy() and not ready()))
    if age is not None:
        metrics.LOOP_AGE_SECONDS.labels(service).set_function(age)
