"""What `/healthz` and `/readyz` know: whether work gets done, and whether dependencies answer.

Healthy: the loop moves, and work that waits gets done. That asks nobody: a restart mends no dependency that is away.
Ready: dependencies answer too. Pages must answer at once, so dependencies are asked by threads of their own, and a
page tells what they last found; a question that hangs makes its dependency one that does not answer.
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
"""How long a loop may stand still, or work wait at one position, before the process counts as dead."""
ASK_SECONDS = 5.0
FRESH_SECONDS: Final = 20.0

UNREAD: Final = 1
"""Records at the end of a partition that nobody reads: the marker that ends a producer's transaction."""

Problems = list[str]
"""Short sentences; none means well."""
Client = TypeVar("Client")


class ConsumerProgress:
    """Whether work that waits gets done; told by whoever looks, read by the pages."""

    def __init__(
        self,
        what: str,
        limit_seconds: float = STUCK_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        what_waits: str = "records",
    ) -> None:
        """For the sentence "no `what` for 300 s although `what_waits` wait"."""
        self._what = what
        self._what_waits = what_waits
        self._limit = limit_seconds
        self._monotonic = monotonic
        self._position: object = None
        self._since: float | None = None
        self._stuck_seconds = 0.0

    def note(self, waiting: bool, position: object) -> None:
        """What a look found: whether work waits, and something that differs whenever some was done."""
        now = self._monotonic()
        if not waiting:
            self._since = None
        elif self._since is None or position != self._position:
            self._since = now
        self._position = position
        # Told here and not by the page's own clock: while nobody can look, nobody can say that we are stuck.
        self._stuck_seconds = 0.0 if self._since is None else now - self._since

    def unknown(self) -> None:
        """The look failed: what was seen before proves nothing any more."""
        self._since, self._stuck_seconds = None, 0.0

    def problems(self) -> Problems:
        """One when work waited at one position for longer than the limit."""
        if self._stuck_seconds <= self._limit:
            return []
        return [f"no {self._what} for {self._stuck_seconds:.0f} s although {self._what_waits} wait"]


class DependencyProbe(Generic[Client]):
    """Asks one dependency again and again in a thread, over a client that is kept until a question fails."""

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
        """`ask` raises when the dependency does not answer; `failed` is called then, and the client opened anew."""
        self._service = service
        self._dependency = dependency
        self._open = open
        self._ask = ask
        self._failed = failed
        self._ask_seconds = ASK_SECONDS if ask_seconds is None else ask_seconds
        self._fresh_seconds = fresh_seconds
        self._monotonic = monotonic
        self._answered_at: float | None = None
        # From 0 on: a series that begins with 1 has no increase for Prometheus.
        metrics.DEPENDENCY_FAILURES.labels(service, dependency)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"probe-{dependency}", daemon=True)

    def problems(self) -> Problems:
        """One when the last question was not answered, or was asked too long ago."""
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
            except Exception as error:  # whatever it was: the dependency did not answer, and the thread must go on
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
        # A question may hang for as long as its client allows; the process does not wait for it.
        self._thread.join(timeout=1)


def behind(
    spans: Mapping[tuple[str, int], tuple[int, int]], at: Mapping[tuple[str, int], int]
) -> dict[tuple[str, int], int]:
    """Records between where a reader stands and the end, by (topic, partition); expired ones do not count."""
    return {where: max(0, end - max(first, at.get(where, 0))) for where, (first, end) in spans.items()}


def report_lag(
    service: str, healthy: Callable[[], Problems], ready: Callable[[], Problems], age: Callable[[], float]
) -> None:
    """Show on `/metrics` what the other pages say, the age of the slowest loop and what is running."""
    metrics.BUILD_INFO.labels(service, version(), platform.python_version()).set(1)
    metrics.HEALTHY.labels(service).set_function(lambda: float(not healthy()))
    metrics.READY.labels(service).set_function(lambda: float(not healthy() and not ready()))
    metrics.LOOP_AGE_SECONDS.labels(service).set_function(age)
