"""How far back a mailbox can be complete, and when its numbers can be seen."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.connect import completeness, texts
from services.connect.completeness import SettlingRule
from services.mail.values import OpenedFolder
from services.providers.provider import ProviderLimits

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PACIFIC = SettlingRule("default", ZoneInfo("America/Los_Angeles"), 86_400, 30, 5)


def opened(messages: int = 10, earliest: datetime | None = None) -> OpenedFolder:
    return OpenedFolder(b"Sent", "name", messages, earliest, NOW if messages else None)


@pytest.mark.parametrize(
    ("limits", "folder", "days"),
    [
        (None, opened(), 60),
        (ProviderLimits(), opened(), 60),
        (ProviderLimits(visible_days=30), opened(earliest=NOW - 29 * DAY), 30),
        (ProviderLimits(visible_days=30), opened(0), 30),
        (ProviderLimits(visible_days=30), opened(earliest=NOW - 50 * DAY), 60),  # its owner opened the window
        (ProviderLimits(visible_messages=10_000), opened(9_999, NOW - 20 * DAY), 60),
        (ProviderLimits(visible_messages=10_000), opened(10_000, NOW - 20 * DAY), 20),
        (ProviderLimits(visible_messages=10_000), opened(10_000, NOW - 90 * DAY), 60),
    ],
)
def test_how_far_back_a_mailbox_can_be_complete(limits: ProviderLimits | None, folder: OpenedFolder, days: int) -> None:
    assert completeness.expected_from(NOW, 60, limits, [folder]) == NOW - days * DAY


def test_the_days_of_a_forecast() -> None:
    # 04:00 on the 26th of September in Los Angeles: the first whole day is the 27th, settled after 5 days.
    forecast = completeness.forecast_numbers(datetime(2026, 9, 26, 11, tzinfo=UTC), PACIFIC, NOW)
    assert (forecast.first_day, forecast.visible_on) == (date(2026, 9, 27), forecast.today)
    forecast = completeness.forecast_numbers(NOW - 3 * DAY, PACIFIC, NOW)
    assert forecast.first_day == date(2026, 11, 23)
    assert forecast.visible_on == date(2026, 11, 28) and forecast.whole_on == date(2026, 12, 27)
    sentence = texts.forecast(forecast, PACIFIC, "en")
    assert "complete from 2026-11-23" in sentence and "visible on 2026-11-28" in sentence and "2026-12-27" in sentence
    assert "2026-11-28" in texts.forecast(forecast, PACIFIC, "zh")


@given(
    hours=st.integers(0, 24 * 400),
    zone=st.sampled_from(["America/Los_Angeles", "Asia/Shanghai", "Asia/Kathmandu", "America/Havana"]),
    settle=st.integers(0, 30),
)
def test_no_day_is_promised_before_it_is_whole_and_over(hours: int, zone: str, settle: int) -> None:
    start = NOW - timedelta(hours=hours)
    rule = SettlingRule("x", ZoneInfo(zone), 86_400, 30, settle)
    forecast = completeness.forecast_numbers(start, rule, NOW)
    assert datetime.combine(forecast.first_day, datetime.min.time(), rule.zone) >= start
    assert forecast.today <= forecast.visible_on <= forecast.whole_on
    assert forecast.visible_on >= forecast.first_day + settle * DAY
