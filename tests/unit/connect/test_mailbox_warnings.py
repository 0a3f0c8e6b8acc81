"""What is worth knowing about a mailbox that works follows from its provider's limits and from what its folders show."""

from datetime import UTC, datetime, timedelta

from services.connect import mailbox_warnings, texts
from services.mail.values import OpenedFolder
from services.providers import catalog

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def folder(messages: int = 10, earliest: datetime = NOW - 5 * DAY, newest: datetime = NOW - DAY) -> OpenedFolder:
    return OpenedFolder(b"Sent", "flag", messages, earliest if messages else None, newest if messages else None)


def codes(provider_id: str | None, *folders: OpenedFolder) -> set[str]:
    provider = next((each for each in catalog.load().providers if each.id == provider_id), None)
    warnings = mailbox_warnings.of_folders(provider, folders, NOW)
    assert all("{" not in texts.warning(warning, language) for warning in warnings for language in texts.LANGUAGES)
    return {warning.code for warning in warnings}


def test_limits_of_the_provider() -> None:
    assert "window-days" in codes("qq", folder())
    assert "window-days" not in codes("qq", folder(earliest=NOW - 90 * DAY))
    assert "window-messages" in codes("yahoo", folder(10_000))
    assert "window-messages" not in codes("yahoo", folder(9_999))


def test_what_the_folders_show() -> None:
    assert codes(None, folder()) == {"filing-unknown"}
    assert "sent-empty" in codes(None, folder(0))
    assert "sent-old" in codes(None, folder(newest=NOW - 15 * DAY))
    assert "sent-old" not in codes(None, folder(newest=NOW - 13 * DAY))
    assert "several-folders" in codes(None, folder(), folder())
