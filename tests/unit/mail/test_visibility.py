"""From when on a provider shows mail: its window of days, its number of messages, and what shows that neither holds."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mail.visibility import SLACK, FolderExtent, may_hide_mail, visible_from
from services.providers.provider import ProviderLimits

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS = ProviderLimits(visible_days=30)
MESSAGES = ProviderLimits(visible_messages=100)


@pytest.mark.parametrize(
    ("limits", "folders", "visible"),
    [
        (ProviderLimits(), [FolderExtent(10, NOW - DAY)], None),
        (DAYS, [], NOW - 30 * DAY),
        (DAYS, [FolderExtent(0, None)], NOW - 30 * DAY),
        (DAYS, [FolderExtent(10, NOW - 30 * DAY - SLACK)], None),  # its owner opened the window
        (DAYS, [FolderExtent(10, NOW - DAY), FolderExtent(10, NOW - 90 * DAY)], None),  # one folder shows that
        (MESSAGES, [FolderExtent(99, NOW - DAY)], None),
        (MESSAGES, [FolderExtent(100, NOW - DAY)], NOW - DAY),
        (MESSAGES, [FolderExtent(100, None)], NOW),
        (MESSAGES, [FolderExtent(100, NOW - 9 * DAY), FolderExtent(100, NOW - 2 * DAY)], NOW - 2 * DAY),
    ],
)
def test_visible_from(limits: ProviderLimits, folders: list[FolderExtent], visible: datetime | None) -> None:
    assert visible_from(limits, folders, NOW) == visible


@given(
    days=st.none() | st.integers(1, 100),
    most=st.none() | st.integers(1, 1_000),
    messages=st.integers(0, 2_000),
    age_days=st.none() | st.integers(0, 400),
)
def test_a_folder_that_cannot_hide_mail_needs_no_look(
    days: int | None, most: int | None, messages: int, age_days: int | None
) -> None:
    limits = ProviderLimits(visible_days=days, visible_messages=most)
    earliest_at = None if age_days is None else NOW - age_days * DAY
    if not may_hide_mail(limits, messages):
        assert visible_from(limits, [FolderExtent(messages, earliest_at)], NOW) is None
