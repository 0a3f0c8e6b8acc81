"""What one poll may still use: messages and time. A poll that uses it up ends early, and the next one continues."""

from collections.abc import Callable
from typing import Final

from services.common.clocks import boot_seconds
from services.common.lifecycle import Stop
from services.imap.limits import SessionLimits

TIME_SHARE: Final = 0.75
"""Share of a session's time that reading may take; the rest is for acknowledgements and saving."""


class PollBudget:
    """Counts down the messages of a poll and watches its time. Once exhausted it stays exhausted."""

    def __init__(self, limits: SessionLimits, stop: Stop, clock: Callable[[], float] = boot_seconds) -> None:
        self.messages = limits.messages
        self.exhausted = False
        self.incomplete = False
        """Whether something must be asked for again in a later poll, although nothing has run out."""
        self.progressed = False
        """Whether a folder that earlier polls knew got further."""
        self.searched = False
        """Whether a window of a scan was passed."""
        self._limits = limits
        self._stop = stop
        self._clock = clock
        self._started = clock()

    def spend(self, messages: int) -> None:
        """Take `messages` off what is left."""
        self.messages -= messages

    @property
    def has_spent(self) -> bool:
        """Whether messages were read in this poll."""
        return self.messages < self._limits.messages

    def exhaust(self) -> None:
        """End the poll early, as something else has run out."""
        self.exhausted = True

    def must_end(self) -> bool:
        """Whether the poll must end here: messages or time are used up, or the service stops."""
        late = self._clock() - self._started > self._limits.session_seconds * TIME_SHARE
        if self.messages <= 0 or late or self._stop.is_set():
            self.exhausted = True
        return self.exhausted

    @property
    def complete(self) -> bool:
        """Whether this poll read everything that there was to read."""
        return not (self.exhausted or self.incomplete)

    def ended_without_reading(self) -> bool:
        """Whether the poll ended early without having read a message or passed a window of a scan, and not because the service stops."""
        unchanged = self.messages == self._limits.messages and not self.searched
        return self.exhausted and unchanged and not self._stop.is_set()
