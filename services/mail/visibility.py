"""From when on a provider shows mail, if it hides older mail (QQ: 30 days, Yahoo: 10,000 messages). Pure.

Hidden mail is not unsent mail: the time before is outside of what a mailbox is complete for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.providers.provider import ProviderLimits

SLACK: Final = timedelta(days=2)
"""A message this much older than a provider's window of days shows that the window is open."""


@dataclass(frozen=True, slots=True)
class FolderExtent:
    """How many messages a folder shows, and when the earliest of them was filed (None: none is shown, or the server does not
    report it)."""

    messages: int
    earliest_at: datetime | None


def may_hide_mail(limits: ProviderLimits, messages: int) -> bool:
    """Whether a provider may hide older mail of a folder that shows `messages` messages."""
    return limits.visible_days is not None or (
        limits.visible_messages is not None and messages >= limits.visible_messages
    )


def visible_from(limits: ProviderLimits, folders: Sequence[FolderExtent], now: datetime) -> datetime | None:
    """From when on a provider shows the mail of these folders; None when it shows all of it.

    A limit in days does not hold where older mail is visible in one of them; where no mail is visible nothing is known, and
    the limit is assumed. A limit in messages holds once a folder is full.
    """
    bounds: list[datetime] = []
    if limits.visible_days is not None:
        edge = now - timedelta(days=limits.visible_days)
        earliest = min((folder.earliest_at for folder in folders if folder.earliest_at is not None), default=None)
        if earliest is None or earliest > edge - SLACK:
            bounds.append(edge)
    if limits.visible_messages is not None:
        bounds += [folder.earliest_at or now for folder in folders if folder.messages >= limits.visible_messages]
    return max(bounds, default=None)
