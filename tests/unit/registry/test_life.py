"""Consent texts are pinned, states are data that contradicts itself nowhere, and completeness is worked out right."""

from datetime import UTC, date, datetime, timedelta
from importlib import resources
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import ConfigError
from services.connect import completeness, consent, texts
from services.connect.completeness import SettlingRule
from services.mail.values import OpenedFolder
from services.providers.provider import ProviderLimits
from services.registry import states

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PACIFIC = SettlingRule("default", ZoneInfo("America/Los_Angeles"), 86_400, 30, 5)


def text(name: str) -> str:
    return (
        resources.files("services.connect" if name == "consent.toml" else "services.registry")
        .joinpath(name)
        .read_text("utf-8")
    )


def test_a_text_that_somebody_consented_to_cannot_be_changed() -> None:
    held = text("consent.toml")
    for old, new in (("headers only", "headers alone"), ("您同意", "你同意")):
        assert old in held
        with pytest.raises(
            ConfigError, match="not the one that was consented to .* add what is new as the next version"
        ):
            consent.parse(held.replace(old, new), "consent.toml")
    with pytest.raises(ConfigError, match="versions are 1, 2, 3"):
        consent.parse(held.replace('version = "2"', 'version = "4"'), "consent.toml")
    with pytest.raises(ConfigError, match=r"consent.schema.json explains every key"):
        consent.parse(held.replace("since =", "sinse ="), "consent.toml")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('to = "paused"', 'to = "pausd"', "event paused: to: unknown state pausd"),
        ('from = ["paused"]', 'from = ["pausd"]', "event resumed: from: unknown state pausd"),
        ('by = "fetcher"', 'by = "nobody"', "by: nobody is not one of"),
        ('name = "resumed"', 'name = "paused"', "an event is listed twice"),
        ("[state.removed]", "[state.gone]", "'removed'; the head of the file lists what it must contain"),
    ],
)
def test_a_table_that_contradicts_itself_is_told(old: str, new: str, told: str) -> None:
    held = text("states.toml")
    assert old in held
    with pytest.raises(ConfigError, match=told):
        states.parse(held.replace(old, new), "states.toml")


def test_every_reason_has_a_sentence_in_both_languages() -> None:
    life = states.load()
    for event in life.events.values():
        if event.says is not None:
            assert texts.state_reason(event.name, "en").isascii() and not texts.state_reason(event.name, "zh").isascii()
    for code in life.refusing:
        assert texts.state_reason(code, "en") not in ("", code) and texts.state_reason(code, "zh") not in ("", code)
    assert texts.state_reason(None, "en") == "" and texts.state_reason("internal-KeyError", "en") == "internal-KeyError"


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


def test_the_days_that_are_told() -> None:
    # 04:00 on the 26th of September in Los Angeles: the first whole day is the 27th, settled after 5 days.
    found = completeness.forecast_numbers(datetime(2026, 9, 26, 11, tzinfo=UTC), PACIFIC, NOW)
    assert (found.first_day, found.visible_on) == (date(2026, 9, 27), found.today)
    found = completeness.forecast_numbers(NOW - 3 * DAY, PACIFIC, NOW)
    assert found.first_day == date(2026, 11, 23)
    assert found.visible_on == date(2026, 11, 28) and found.whole_on == date(2026, 12, 27)
    said = texts.forecast(found, PACIFIC, "en")
    assert "complete from 2026-11-23" in said and "visible on 2026-11-28" in said and "2026-12-27" in said
    assert "2026-11-28" in texts.forecast(found, PACIFIC, "zh")


@given(
    hours=st.integers(0, 24 * 400),
    zone=st.sampled_from(["America/Los_Angeles", "Asia/Shanghai", "Asia/Kathmandu", "America/Havana"]),
    settle=st.integers(0, 30),
)
def test_no_day_is_promised_before_it_is_whole_and_over(hours: int, zone: str, settle: int) -> None:
    begins = NOW - timedelta(hours=hours)
    settling = SettlingRule("x", ZoneInfo(zone), 86_400, 30, settle)
    found = completeness.forecast_numbers(begins, settling, NOW)
    assert datetime.combine(found.first_day, datetime.min.time(), settling.zone) >= begins
    assert found.today <= found.visible_on <= found.whole_on
    assert found.visible_on >= found.first_day + settle * DAY
