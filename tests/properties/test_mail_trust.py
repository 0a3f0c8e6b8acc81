"""Laws of the trusted time: no clock helps a forger."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.mail import trust

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)

instants = st.integers(-4_000_000, 100_000).map(lambda seconds: NOW + timedelta(seconds=seconds))
maybe = st.none() | instants


@given(maybe, maybe, st.none() | st.integers(1, 4_000_000))
def test_a_clock_counts_only_inside_the_interval(
    date: datetime | None, internal: datetime | None, gap: int | None
) -> None:
    after = None if gap is None else NOW - timedelta(seconds=gap)
    sent = trust.trusted_time(date=date, internal=internal, save=None, after=after, first_seen=NOW)
    assert sent.sent_at <= NOW + trust.LATE_TOLERANCE
    if after is not None:
        assert sent.sent_at >= after - trust.EARLY_TOLERANCE
    if sent.evidence == "verified":
        assert after is not None


@given(instants, instants, st.integers(1, 4_000_000), instants)
def test_a_forged_date_never_gains_more_than_the_tolerance(
    true: datetime, internal: datetime, gap: int, forged: datetime
) -> None:
    """Whatever its Date, a message counts at most 15 minutes before its interval."""
    after = NOW - timedelta(seconds=gap)
    sent = trust.trusted_time(date=forged, internal=internal, save=None, after=after, first_seen=NOW)
    assert sent.sent_at >= after - trust.EARLY_TOLERANCE


@given(instants, instants, maybe)
def test_savedate_takes_precedence_over_every_clock(save: datetime, date: datetime, internal: datetime | None) -> None:
    sent = trust.trusted_time(date=date, internal=internal, save=save, after=None, first_seen=NOW)
    if save <= NOW + trust.SAVE_TOLERANCE:
        assert abs(sent.sent_at - save) <= trust.SAVE_TOLERANCE
        assert (sent.evidence == "verified") == (sent.basis == "date")
    else:
        assert sent == trust.trusted_time(date=date, internal=internal, save=None, after=None, first_seen=NOW)


@given(maybe, maybe, maybe, st.none() | st.integers(1, 4_000_000), st.booleans())
def test_no_message_counts_later_than_an_erase_after_its_poll_covers(
    date: datetime | None, internal: datetime | None, save: datetime | None, gap: int | None, interrupted: bool
) -> None:
    after = None if gap is None else NOW - timedelta(seconds=gap)
    sent = trust.trusted_time(
        date=date, internal=internal, save=save, after=after, first_seen=NOW, interrupted=interrupted
    )
    assert sent.sent_at <= NOW + trust.SAVE_TOLERANCE
