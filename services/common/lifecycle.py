"""Life cycle of a service process: signals, heartbeat, exit codes.

A service runs until SIGTERM or SIGINT sets its Stop; the second signal ends the process at once. From the first one on, work
in progress has `FINISH_SECONDS` and the process `STOP_SECONDS`, also while a dependency hangs: what is unfinished then is done
again by the next process. Each turn of a loop beats its Heartbeat, and `/healthz` looks at the age of the last beat.
"""

import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from logging import getLogger
from types import FrameType
from typing import Final

from services.common import core_dumps
from services.common.clocks import boot_seconds, wall_seconds
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

log = getLogger(__name__)

COLLECT: Final = (100_000, 10, 10)
FINISH_SECONDS: Final = 19.0
STOP_SECONDS: Final = 24.0
"""Below the 25 s that are configured in orchestrators (docs/failures.md). The time between the two limits is for closing clients."""
LOOK_SECONDS: Final = 60.0
"""How often `Stop.wait_on_clocks` reads the clocks."""


class Stop:
    """The request to end this process. A loop sleeps by waiting for it."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._actions: list[Callable[[], None]] = []

    def set(self) -> None:
        """Request the end; safe in a signal handler."""
        self._event.set()
        for action in list(self._actions):
            action()

    def is_set(self) -> bool:
        """Whether the end was requested."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep for at most `seconds`; True when the end was requested."""
        return self._event.wait(seconds)

    def wait_on_clocks(
        self,
        seconds: float,
        look_seconds: float = LOOK_SECONDS,
        clocks: Sequence[Callable[[], float]] = (wall_seconds, boot_seconds),
    ) -> bool:
        """Sleep until `seconds` have passed on one of `clocks`; True when the end was requested.

        For work that depends on the date: it is done within `look_seconds` after the machine was suspended or its wall clock was
        set forward, and no later than otherwise if the wall clock was set back.
        """
        ends = [(clock, clock() + seconds) for clock in clocks]
        while (left := min(end - clock() for clock, end in ends)) > 0:
            if self.wait(min(left, look_seconds)):
                break
        return self.is_set()

    def wait_for_ever(self) -> None:
        """Sleep until the end is requested."""
        self._event.wait()

    def on_stop(self, action: Callable[[], None]) -> None:
        """Call `action` when the end is requested, or now if it was already (to wake a loop that cannot wait here)."""
        self._actions.append(action)
        if self._event.is_set():
            action()


@contextmanager
def on_signals(stop: Stop, end_seconds: float | None = None) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`; a second one ends the process at once.

    With `end_seconds` the process also ends that long after the first signal, whatever still hangs. Its exit code is 0, as
    after every other stop, since nothing is acknowledged that was not finished. A process that stops on its own is not cut
    off, so that its failure is logged.
    """

    def end() -> None:
        stop.set()
        if end_seconds is not None:
            time.sleep(end_seconds)
            log.warning(
                "the stop took too long; unfinished work is done again after a restart",
                extra={"action": "service-stopped"},
            )
            os._exit(EXIT_DONE)

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        # In a thread: the handler interrupts the main thread, which may hold the lock that set() needs.
        threading.Thread(target=end, name="stop", daemon=True).start()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def finish(threads: Iterable[threading.Thread], seconds: float = FINISH_SECONDS) -> None:
    """Wait for threads that were asked to end, `seconds` for all of them together; those that still hang are logged and left."""
    deadline = time.monotonic() + seconds
    threads = tuple(threads)
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if hanging := [thread.name for thread in threads if thread.is_alive()]:
        log.warning(
            "not finished because a dependency hangs; the work is done again after a restart: %s", ", ".join(hanging),
            extra={"action": "service-stopping"},
        )  # fmt: skip


class Heartbeat:
    """When a loop last moved: the loop calls `beat`, the health page reads `problems`."""

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

    def problems(self, loop: str) -> list[str]:
        """One sentence with the loop's name when it did not move within the limit, else none."""
        age = self.age_seconds
        return [] if age <= self._limit else [f"the {loop} loop has not progressed for {age:.0f} s"]


def run(main: Callable[[], None]) -> int:
    """Call `main` and return the exit code of how it ended; an unexpected error is logged and gives 1."""
    core_dumps.forbid()
    # A batch creates tens of thousands of objects that are in no cycle. With the default thresholds the collector would spend a
    # seventh of the time walking them, and everything that was imported as well.
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
            log.exception("unexpected error", extra={"action": "crashed"})
        else:
            traceback.print_exc()
        return EXIT_FAILED
    return EXIT_DONE
