"""When a mailbox is polled next: within its bounds, before a deadline when it can, and never faster than a provider lets it."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.registry.pacing import Pace, next_poll_at, pace, poll_before_deadline

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROUNDING = timedelta(microseconds=2)
intervals = st.floats(0.1, 86_400)
limits = st.none() | st.integers(1, 10_000)
jitters = st.floats(0, 1, exclude_max=True)
activities = st.timedeltas(timedelta(days=-400), timedelta(days=1)).map(lambda age: NOW + age)
deadlines = st.none() | (
    st.timedeltas(timedelta(0), timedelta(hours=2)) | st.timedeltas(timedelta(0), timedelta(days=9))
).map(lambda left: NOW + left)
paces = st.builds(pace, intervals, limits)


@given(intervals, limits)
def test_a_pace_keeps_its_order_and_the_providers_logins(interval: float, limit: int | None) -> None:
    computed = pace(interval, limit)
    assert 0 < computed.least_seconds <= computed.usual_seconds <= computed.most_seconds
    if limit is not None:
        assert computed.least_seconds >= 3600 / limit


@given(activities, deadlines, paces, jitters)
def test_a_poll_is_never_sooner_than_the_minimum_and_never_later_than_the_maximum(
    active_at: datetime, due_at: datetime | None, pace: Pace, jitter: float
) -> None:
    waits = next_poll_at(NOW, active_at, due_at, pace, jitter) - NOW
    assert timedelta(seconds=pace.least_seconds) - ROUNDING <= waits
    assert waits <= timedelta(seconds=pace.most_seconds) + ROUNDING


@given(activities, deadlines.filter(lambda due_at: due_at is not None), paces, jitters)
def test_a_poll_comes_before_the_deadline_when_the_pace_permits(
    active_at: datetime, due_at: datetime | None, pace: Pace, jitter: float
) -> None:
    assert due_at is not None
    at = next_poll_at(NOW, active_at, due_at, pace, jitter)
    least = timedelta(seconds=pace.least_seconds)
    if due_at - NOW >= least:
        assert at <= due_at + ROUNDING
    else:  # as soon after it as may be
        assert abs(at - (NOW + least)) <= ROUNDING


@given(activities, deadlines, paces, jitters)
def test_a_deadline_never_makes_a_poll_later(
    active_at: datetime, due_at: datetime | None, pace: Pace, jitter: float
) -> None:
    assert next_poll_at(NOW, active_at, due_at, pace, jitter) <= next_poll_at(NOW, active_at, None, pace, jitter)


@given(activities, st.timedeltas(timedelta(0), timedelta(days=30)), paces, jitters)
def test_a_mailbox_that_is_idle_longer_is_polled_no_sooner(
    active_at: datetime, longer: timedelta, pace: Pace, jitter: float
) -> None:
    assert next_poll_at(NOW, active_at - longer, None, pace, jitter) >= next_poll_at(NOW, active_at, None, pace, jitter)


@given(
    activities,
    paces.filter(lambda pace: pace.least_seconds >= 1),
    st.lists(st.tuples(deadlines, jitters), min_size=1, max_size=40),
)
def test_a_chain_of_polls_stays_within_the_logins_of_an_hour(
    active_at: datetime, pace: Pace, turns: list[tuple[datetime | None, float]]
) -> None:
    """Whatever deadlines come: no hour has more polls than the minimum pause permits."""
    at, polls = NOW, [NOW]
    for due_at, jitter in turns:
        at = next_poll_at(at, active_at, due_at if due_at is None or due_at > at else None, pace, jitter)
        polls.append(at)
    for first in polls:
        within = [poll_at for poll_at in polls if first <= poll_at < first + timedelta(hours=1)]
        assert len(within) <= 3600 / pace.least_seconds + 1


@given(st.timedeltas(timedelta(hours=-9), timedelta(hours=9)), paces, jitters)
def test_an_advanced_poll_keeps_the_pause_after_the_last_one(left: timedelta, pace: Pace, jitter: float) -> None:
    assert poll_before_deadline(NOW, NOW + left, pace, jitter) - NOW >= timedelta(seconds=pace.least_seconds) - ROUNDING


def test_the_figures_of_ten_minutes() -> None:
    usual = pace(600)
    assert usual == Pace(120, 600, 3600)
    assert next_poll_at(NOW, NOW, None, usual, 0.5) == NOW + timedelta(minutes=10)
    assert next_poll_at(NOW, NOW - timedelta(days=1), None, usual, 0.5) == NOW + timedelta(minutes=20)
    assert next_poll_at(NOW, NOW - timedelta(days=300), None, usual, 0.5) == NOW + timedelta(hours=1)
    assert next_poll_at(NOW, NOW, NOW + timedelta(minutes=8), usual, 0) == NOW + timedelta(minutes=7)
    assert next_poll_at(NOW, NOW, NOW + timedelta(minutes=1), usual, 0) == NOW + timedelta(minutes=2)
    assert pace(600, 6) == Pace(600, 600, 3600)
