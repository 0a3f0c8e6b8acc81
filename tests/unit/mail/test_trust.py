"""The table of clocks, row by row: times in minutes around the poll that first saw the message."""

from datetime import UTC, datetime, timedelta

import pytest

from services.mail import trust

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("date", "internal", "save", "after", "expected"),
    [
        (0, None, 10, None, ("date", "verified", 0)),
        (-60, None, 0, None, ("save-date", "suspect", 0)),
        (-20, -20, None, -30, ("date", "verified", -20)),
        (-45, -20, None, -30, ("date", "verified", -45)),
        (-46, -20, None, -30, ("internal-date", "verified", -20)),
        (5, None, None, -30, ("date", "verified", 5)),
        (6, None, None, -30, ("interval-end", "suspect", 0)),
        (-20_000, -20, None, -30, ("internal-date", "suspect", -20)),
        (-1_000_000, -20, None, -30, ("internal-date", "suspect", -20)),
        (-20_000, -19_000, None, -30, ("interval-end", "suspect", 0)),
        (-9_000, -20, None, -30, ("internal-date", "verified", -20)),
        (-100, -95, None, -180, ("date", "verified", -100)),
        (-100, -50, None, -180, ("internal-date", "suspect", -50)),
        (-100, -500, None, -180, ("date", "suspect", -100)),
        (-500, -500, None, -180, ("interval-end", "suspect", 0)),
        (-500, -495, None, None, ("date", "backfill", -500)),
        (-500, -400, None, None, ("internal-date", "suspect", -400)),
        (None, -400, None, None, ("internal-date", "suspect", -400)),
        (None, None, None, None, ("interval-end", "suspect", 0)),
    ],
)
def test_the_table_of_clocks(
    date: int | None, internal: int | None, save: int | None, after: int | None, expected: tuple[str, str, int]
) -> None:
    def at(minutes: int | None) -> datetime | None:
        return None if minutes is None else NOW + timedelta(minutes=minutes)

    sent = trust.trusted_time(date=at(date), internal=at(internal), save=at(save), after=at(after), first_seen=NOW)
    assert (sent.basis, sent.evidence, sent.sent_at) == (expected[0], expected[1], at(expected[2]))


@pytest.mark.parametrize("hours", [2, 26, 400])
def test_clocks_prove_nothing_in_a_long_interval_that_the_owner_caused(hours: int) -> None:
    after, date = NOW - timedelta(hours=hours), NOW - timedelta(hours=hours - 1)

    def seen(*, interrupted: bool, save: datetime | None = None) -> trust.TrustedTime:
        return trust.trusted_time(
            date=date, internal=date, save=save, after=after, first_seen=NOW, interrupted=interrupted
        )

    assert seen(interrupted=False).evidence == "verified"
    assert seen(interrupted=True) == trust.TrustedTime(date, "internal-date", "suspect")
    assert seen(interrupted=True, save=date).evidence == "verified"


def test_a_short_interval_that_the_owner_caused_is_as_good_as_any_other() -> None:
    date = NOW - timedelta(minutes=20)
    sent = trust.trusted_time(
        date=date, internal=date, save=None, after=NOW - timedelta(minutes=40), first_seen=NOW, interrupted=True
    )
    assert sent.evidence == "verified"
