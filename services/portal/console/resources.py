"""What the requests of the console share."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from services.common.settings import ConsoleConfig
from services.portal.console.long_work import LongWork
from services.portal.database import TokenDatabase
from services.registry.staff_sessions import StaffSessionLimits


@dataclass(frozen=True, slots=True)
class ConsoleResources:
    """Passed to the routes when the application is made; safe to use from any thread."""

    settings: ConsoleConfig
    database: TokenDatabase
    clock: Callable[[], datetime]
    work: LongWork

    @property
    def origin(self) -> str:
        """The public address, `https://console.example`, without a slash at its end."""
        return self.settings.console.public_url

    @property
    def is_https(self) -> bool:
        """Whether staff reach the console over TLS."""
        return urlsplit(self.origin).scheme == "https"

    @property
    def limits(self) -> StaffSessionLimits:
        """Of new sessions."""
        console = self.settings.console
        return StaffSessionLimits(console.session_minutes, console.idle_minutes, console.audit_days)
