"""Whether the clock of this host is days behind: good records must not become dead letters for it. Pure.

A record that states a `time` days ahead is invalid. The broker takes no record whose timestamp is more than an hour after its own
clock (message.timestamp.after.max.ms), so when the timestamps of several such records in a row are just as far ahead, this host's
clock is the wrong one, and not that of every producer and of the broker.
"""

from datetime import datetime, timedelta
from typing import Final

from services.common.errors import AheadOfClock, ConfigError, InvalidEvent

WITNESSES: Final = 3
"""Records, in a row, that must be ahead of this host by their `time` and by the broker's timestamp."""


class ClockWitness:
    """Counts the records of one consumer that only this host's clock speaks against."""

    def __init__(self, lead: timedelta) -> None:
        """`lead`: how far a record may be ahead."""
        self._lead = lead
        self._in_a_row = 0
        self._now: datetime | None = None
        self._latest_ms = 0.0

    def note(self, error: InvalidEvent | None, timestamp_ms: int, now: datetime) -> None:
        """Note a record: why it was rejected, if it was, and its timestamp at the broker. ConfigError when the clock is wrong."""
        if now is not self._now:
            self._now, self._latest_ms = now, (now + self._lead).timestamp() * 1000
        if timestamp_ms <= self._latest_ms:
            self._in_a_row = 0
        elif isinstance(error, AheadOfClock):
            self._in_a_row += 1
        if self._in_a_row >= WITNESSES:
            raise ConfigError(
                f"the clock of this host says {now:%Y-%m-%d %H:%M} UTC, and {WITNESSES} records in a row are more than"
                f" {self._lead.days} days ahead of it, by their own time and by Kafka's: correct the clock (NTP) and start again."
                " The records are not committed and will be read again"
            )
