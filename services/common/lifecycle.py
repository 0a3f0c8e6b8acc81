"""Starting, staying alive and stopping: what the three services do alike.

A service runs until SIGTERM or SIGINT sets its Stop; the second signal ends the process at once. From the first one on
what is in hand has `FINISH_SECONDS`, and the process `STOP_SECONDS`, also while a dependency hangs: what is left then
is done again by whoever comes next. Its loop beats a Heartbeat each turn, and `/healthz` asks how old the last beat is.
"""

import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from logging import getLogger
from types import FrameType
from typing import Final

from services.common.errors import (
    EXIT_CONFIG,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    EXIT_UNSURE,
    ConfigError,
    TransientError,
    UnsureError,
)
from services.common.retry import Backoff

log = getLogger(__name__)

COLLECT: Final = (100_000, 10, 10)
FINISH_SECONDS: Final = 19.0
STOP_SECONDS: Final = 24.0
"""Under the 25 s that orchestrators are told (docs/failures.md), with what closing the clients may take between them."""


class Stop:
    """Says that the process shall end; waiting for it is how a loop sleeps."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._actions: list[Callable[[], None]] = []

    def set(self) -> None:
        """Ask for the end; safe in a signal handler."""
        self._event.set()
        for action in list(self._actions):
            action()

    def is_set(self) -> bool:
        """Whether the end was asked for."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep for `seconds` at most; True when the end was asked for."""
        return self._event.wait(seconds)

    def wait_for_ever(self) -> None:
        """Sleep until the end is asked for."""
        self._event.wait()

    def on_stop(self, action: Callable[[], None]) -> None:
        """Call `action` too when the end is asked for (to wake a loop that cannot wait here)."""
        self._actions.append(action)
        if self._event.is_set():
            action()


@contextmanager
def on_signals(stop: Stop, end_seconds: float | None = None) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`; a second one ends the process at once.

    With `end_seconds` the first one ends it too, so long after it came, whatever still hangs: with 0, as every other stop,
    since nothing is acknowledged that was not finished. A process that stops by itself has no such end: why it did is told.
    """

    def ask() -> None:
        stop.set()
        if end_seconds is not None:
            time.sleep(end_seconds)
            log.warning("the stop took too long; what was in hand is done again", extra={"action": "service-stopped"})
            os._exit(EXIT_DONE)

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        # A thread, since a handler runs in the middle of the main thread's work and may hold the lock that set() needs.
        threading.Thread(target=ask, name="stop", daemon=True).start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish(threads: Iterable[threading.Thread], seconds: float = FINISH_SECONDS) -> None:
    """Wait for threads whose end was asked for, `seconds` for all of them together; who hangs then is named and left."""
    deadline = time.monotonic() + seconds
    threads = tuple(threads)
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if left := [thread.name for thread in threads if thread.is_alive()]:
        log.warning(
            "not finished, since a dependency hangs; it is done again: %s", ", ".join(left),
            extra={"action": "service-stopping"},
        )  # fmt: skip


class Heartbeat:
    """When the loop last moved. `beat` is called by the loop, `alive` by whoever watches."""

    def __init__(self, limit_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit_seconds
        self._monotonic = monotonic
        self._last = monotonic()

    def beat(self) -> None:
        """The loop moved."""
        self._last = self._monotonic()

    @property
    def age_seconds(self) -> float:
        """Seconds since the loop last moved."""
        return self._monotonic() - self._last

    def alive(self) -> bool:
        """Whether the loop moved within the limit."""
        return self.age_seconds <= self._limit

    def problems(self, loop: str) -> list[str]:
        """One, with the loop's name, when it did not move within the limit."""
        age = self.age_seconds
        return [] if age <= self._limit else [f"the {loop} loop stands still for {age:.0f} s"]


def run(main: Callable[[], None]) -> int:
    """Call `main` and turn how it ended into an exit code; an error that nobody expected is logged and ends with 1."""
    # A batch makes tens of thousands of objects that no cycle holds; by default the collector would walk them for a
    # seventh of the time, and everything that was imported with them.
    gc.freeze()
    gc.set_threshold(*COLLECT)
    try:
        main()
    except ConfigError as error:
        for problem in error.problems:
            if getLogger().handlers:
                log.error("%s", problem, extra={"action": "configuration-refused"})
            else:
                print(f"configuration: {problem}", file=sys.stderr)
        return EXIT_CONFIG
    except TransientError as error:
        log.error("%s", error, extra={"action": "dependency-away"})
        return EXIT_UNAVAILABLE
    except UnsureError as error:
        log.error("%s", error, extra={"action": "state-unsure"})
        return EXIT_UNSURE
    except Exception:
        if getLogger().handlers:
            log.exception("an error nobody expected", extra={"action": "crashed"})
        else:
            traceback.print_exc()
        return EXIT_FAILED
    return EXIT_DONE


def until_answers(
    stop: Stop, dependency: str, ask: Callable[[], None], beat: Callable[[], None] = lambda: None
) -> bool:
    """Call `ask` until it does not raise TransientError, with growing pauses; False when the end was asked for first.

    `beat` is called before each try: who waits for a dependency does not stand still.
    """
    backoff, attempt = Backoff(0.5, 2, 10), 0
    while not stop.is_set():
        beat()
        try:
            ask()
        except TransientError as error:
            attempt += 1
            log.warning("%s", error, extra={"action": "dependency-away", "dependency": dependency, "attempt": attempt})
            stop.wait(backoff.delay(attempt, 0.5))
        else:
            if attempt:
                log.info("it answers again", extra={"action": "dependency-back", "dependency": dependency})
            return True
    return False
