"""Whether Postgres' clock is ahead of this host's: then a poll would make a time complete that has not come yet.

Polls are dated by Postgres' clock, so that all fetchers have one. A clock that jumped ahead would count everything until the time that it
shows as read, and silence in that time as an inquiry that nobody answered (docs/decisions/0045).
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from logging import getLogger
from typing import Final

from services.common import metrics

log = getLogger(__name__)

LEAD: Final = timedelta(minutes=5)
"""How far Postgres may be ahead: clocks that are kept by NTP differ by less than a second."""


class ClockCheck:
    """Compares the two clocks at the end of each poll. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        """`clock`: the wall clock of this host, in UTC."""
        self._clock = clock
        self._lock = threading.Lock()
        self._was_ahead = False

    def is_ahead(self, postgres_now: datetime) -> bool:
        """Whether Postgres' clock is more than LEAD ahead; a change is logged."""
        lead = postgres_now - self._clock()
        is_ahead = lead > LEAD
        metrics.POSTGRES_CLOCK_LEAD.set(lead.total_seconds())
        with self._lock:
            has_changed, self._was_ahead = is_ahead != self._was_ahead, is_ahead
        if has_changed and is_ahead:
            log.error(
                "Postgres' clock is %.0f s ahead of this host's; no mailbox becomes complete until both agree: correct the"
                " wrong one (NTP)", lead.total_seconds(), extra={"action": "clocks-differ"},
            )  # fmt: skip
        elif has_changed:
            log.info("the clocks of Postgres and this host agree again", extra={"action": "clocks-differ"})
        return is_ahead
