"""Delays grow, stay under their cap and never overflow."""

from hypothesis import given
from hypothesis import strategies as st

from services.common.retry import Backoff

backoffs = st.builds(Backoff, first=st.floats(0.001, 100), factor=st.floats(1, 10), cap=st.floats(100, 90_000))


@given(backoffs, st.integers(1, 10**6), st.floats(0, 1))
def test_a_delay_lies_between_half_the_first_and_the_cap(backoff: Backoff, attempt: int, jitter: float) -> None:
    assert backoff.first / 2 <= backoff.delay(attempt, jitter) <= backoff.cap


@given(backoffs, st.integers(1, 100))
def test_delays_do_not_shrink(backoff: Backoff, attempt: int) -> None:
    assert backoff.delay(attempt, 1) <= backoff.delay(attempt + 1, 1)


def test_doubling_until_the_cap() -> None:
    assert [Backoff(1, 2, 10).delay(attempt, 1) for attempt in range(1, 7)] == [1, 2, 4, 8, 10, 10]
