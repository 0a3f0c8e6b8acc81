"""What is worth knowing about a mailbox that a test connected to: its provider's limits and what was seen. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from services.connect.report import MailboxWarning
from services.mail.values import OpenedFolder
from services.mail.visibility import SLACK
from services.providers.provider import Provider

OLD: Final = timedelta(days=14)
"""A newest message older than this is worth a warning: replies may not reach the folder."""
FILING: Final[Mapping[str, str]] = {
    "no": "filing-no",
    "option": "filing-option",
    "unknown": "filing-unknown",
    "conflicting": "filing-unknown",
}
"""The warning for each answer to whether a provider files what mail programs send."""


def of_provider(provider: Provider | None) -> list[MailboxWarning]:
    """What is known about a provider, whatever the test shows."""
    warnings: list[MailboxWarning] = []
    if provider is not None and provider.caution is not None:
        caution = provider.caution
        origin = {"source": caution.source, "as_of": caution.as_of}
        warnings.append(MailboxWarning("caution", {"caution": caution.en} | origin, {"caution": caution.zh} | origin))
    if provider is not None and provider.support == "unconfirmed":
        warnings.append(MailboxWarning("unconfirmed", {}))
    return warnings


def of_folders(provider: Provider | None, folders: Sequence[OpenedFolder], now: datetime) -> list[MailboxWarning]:
    """What the Sent folders of a mailbox show, and which of its mail the provider hides or does not file."""
    warnings = _limits(provider, folders, now)
    if code := FILING.get(provider.files_sent if provider is not None else "unknown"):
        warnings.append(MailboxWarning(code, {}))
    if len(folders) > 1:
        warnings.append(MailboxWarning("several-folders", {}))
    newest = max((folder.newest_at for folder in folders if folder.newest_at), default=None)
    if sum(folder.messages for folder in folders) == 0:
        warnings.append(MailboxWarning("sent-empty", {}))
    elif newest is not None and now - newest > OLD:
        warnings.append(MailboxWarning("sent-old", {"days": str((now - newest).days)}))
    return warnings


def _limits(provider: Provider | None, folders: Sequence[OpenedFolder], now: datetime) -> list[MailboxWarning]:
    if provider is None:
        return []
    warnings: list[MailboxWarning] = []
    days, messages = provider.limits.visible_days, provider.limits.visible_messages
    earliest = min((folder.earliest_at for folder in folders if folder.earliest_at), default=None)
    if days is not None and (earliest is None or earliest > now - timedelta(days=days) - SLACK):
        warnings.append(MailboxWarning("window-days", {"days": str(days)}))
    if messages is not None and any(folder.messages >= messages for folder in folders):
        warnings.append(MailboxWarning("window-messages", {"count": f"{messages:,}"}))
    return warnings
