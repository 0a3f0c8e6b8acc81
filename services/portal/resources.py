"""What the requests of the web process share."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from services.common.settings import PortalConfig
from services.inquiries.publication import FactPublisher
from services.portal.database import TokenDatabase


@dataclass(frozen=True, slots=True)
class PortalResources:
    """Passed to the routes when the application is made; safe to use from any thread."""

    settings: PortalConfig
    database: TokenDatabase
    clock: Callable[[], datetime]
    facts: FactPublisher

    @property
    def origin(self) -> str:
        """The public address, `https://replies.example`, without a slash at its end."""
        return self.settings.portal.public_url

    @property
    def is_https(self) -> bool:
        """Whether people reach the portal over TLS."""
        return urlsplit(self.origin).scheme == "https"
