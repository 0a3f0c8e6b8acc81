"""Work of the console that takes longer than an answer may: it runs in a thread, and pages follow it.

What work has found is in the memory of this process until an hour after its end (docs/decisions/0093). Work that changes something notes
that in the audit itself; nothing is lost when its page is not opened again.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from logging import getLogger
from typing import Any, Final, Literal

from services.common.errors import ReplyrateError, TransientError
from services.registry.secret_tokens import new_id

log = getLogger(__name__)

THREADS: Final = 2
MOST: Final = 40
"""How much work is remembered; the oldest finished one is forgotten first."""
KEPT_SECONDS: Final = 3600.0

WorkKind = Literal["replay-check", "replay", "purge-check", "purge", "rules-diff"]
Report = Callable[[int, int], None]
"""Called with how much is done and how much there is; raises WorkStopped when the process ends."""
Task = Callable[[Report], Any]


class WorkStopped(ReplyrateError):
    """The process ends: the work stops at the next report."""


class TooMuchWork(ReplyrateError):
    """So much work is waiting that no more is accepted."""


@dataclass(slots=True)
class Work:
    """Some work: what it is, how far it is, and its result or the error that ended it. `total` is 0 until it is known."""

    work_id: str
    kind: WorkKind
    session_id: str
    is_begun: bool = False
    done: int = 0
    total: int = 0
    result: Any = None
    error: Exception | None = None
    ended_at: float | None = field(default=None, repr=False)

    @property
    def is_finished(self) -> bool:
        """Whether there is a result or an error."""
        return self.ended_at is not None


class LongWork:
    """Work of every session. Safe to use from any thread."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="work")
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._remembered: dict[str, Work] = {}

    def start(self, kind: WorkKind, session_id: str, task: Task) -> str:
        """Run a task soon; returns the id of the work. TooMuchWork."""
        work = Work(new_id("j"), kind, session_id)
        with self._lock:
            self._forget()
            if len(self._remembered) >= MOST:
                raise TooMuchWork(
                    "too much is being checked, compared or replayed already; try again when some of it is done"
                )
            self._remembered[work.work_id] = work
        self._executor.submit(self._run, work, task)
        return work.work_id

    def get(self, work_id: str, session_id: str) -> Work | None:
        """Work of a session; None when there is none, or not any more."""
        with self._lock:
            work = self._remembered.get(work_id)
        if work is None or work.session_id != session_id or _is_over(work, time.monotonic()):
            return None
        return work

    def close(self) -> None:
        """Stop what runs at its next report, and wait for it."""
        self._stopping.set()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _run(self, work: Work, task: Task) -> None:
        def report(done: int, total: int) -> None:
            if self._stopping.is_set():
                raise WorkStopped("the console is stopping; what was not done yet stays as it is")
            work.done, work.total = done, total

        work.is_begun = True
        try:
            work.result = task(report)
        except ReplyrateError as error:
            work.error = error
            if isinstance(error, TransientError):
                log.warning("work of the console failed: %s", error, extra={"action": "work-failed", "kind": work.kind})
        except Exception as error:
            work.error = error
            log.exception("work of the console failed", extra={"action": "work-failed", "kind": work.kind})
        finally:
            work.ended_at = time.monotonic()

    def _forget(self) -> None:
        now = time.monotonic()
        ended: Mapping[str, float] = {
            work_id: work.ended_at for work_id, work in self._remembered.items() if work.ended_at is not None
        }
        surplus = max(0, len(self._remembered) - MOST + 1)
        for place, work_id in enumerate(sorted(ended, key=ended.__getitem__)):
            if place < surplus or _is_over(self._remembered[work_id], now):
                del self._remembered[work_id]


def _is_over(work: Work, now: float) -> bool:
    """Whether work ended so long ago that its result is not shown any more."""
    return work.ended_at is not None and now - work.ended_at > KEPT_SECONDS
