"""What the polls of a process did, summed up: one log line a minute."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from logging import getLogger
from typing import Final

log = getLogger(__name__)

EVERY_SECONDS: Final = 60.0


class PollTally:
    """Counts polls by result, and messages. Shared by the threads of a process."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._since = monotonic()

    def count(self, result: str, polls: int = 1, *, published: int = 0, new: int = 0) -> None:
        """Count polls with a result (the label of `replyrate_fetcher_polls_total`) and what they published."""
        with self._lock:
            self._counts.update({result: polls, "published": published, "new": new})

    def log_when_due(self, *, now: bool = False) -> None:
        """Log the counts since the last line, if it was a minute ago or `now`, and if there are any."""
        with self._lock:
            seconds = self._monotonic() - self._since
            if not self._counts or not (now or seconds >= EVERY_SECONDS):
                return
            counts, self._counts, self._since = self._counts, Counter(), self._monotonic()
        published, new = counts.pop("published"), counts.pop("new")
        results = {result.replace("-", "_"): polls for result, polls in sorted(counts.items())}
        log.info(
            "polled mailboxes",
            extra={
                "action": "mailboxes-polled", "polls": counts.total(), "seconds": round(seconds), **results,
                "published": published, "new": new,
            },
        )  # fmt: skip
