"""The log lines about mailboxes that wait for a login slot: one a minute for each provider, with a count."""

import threading
import time
from collections.abc import Callable
from typing import Final

EVERY_SECONDS: Final = 60.0


class Postponements:
    """Counts postponed mailboxes by provider until their line is due. Shared by the workers of a process."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._logged_at: dict[str, float] = {}

    def count(self, provider: str, mailboxes: int = 1) -> int | None:
        """Count postponed mailboxes; how many there were since the last line if one is due now, else None."""
        now = self._monotonic()
        with self._lock:
            self._counts[provider] = self._counts.get(provider, 0) + mailboxes
            if provider in self._logged_at and now - self._logged_at[provider] < EVERY_SECONDS:
                return None
            self._logged_at[provider] = now
            return self._counts.pop(provider)
