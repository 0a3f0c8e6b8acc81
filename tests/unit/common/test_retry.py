"""Delays grow, stay under their cap and never overflow; loops forget failures only after a while of good work."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common import metrics, retry
from services.common.errors import TransientError
from services.common.lifecycle import Stop
from services.common.retry import Attempts, Backoff, RetryPolicy

backoffs = st.builds(Backoff, first=st.floats(0.001, 100), factor=st.floats(1, 10), cap=st.floats(100, 90_000))


@given(backoffs, st.integers(1, 10**6), st.floats(0, 1))
def test_a_delay_lies_between_half_the_first_and_the_cap(backoff: Backoff, attempt: int, jitter: float) -> None:
    assert backoff.first / 2 <= backoff.delay(attempt, jitter) <= backoff.cap


@given(backoffs, st.integers(1, 100))
def test_delays_do_not_shrink(backoff: Backoff, attempt: int) -> None:
    assert backoff.delay(attempt, 1) <= backoff.delay(attempt + 1, 1)


def test_doubling_until_the_cap() -> None:
    assert [Backoff(1, 2, 10).delay(attempt, 1) for attempt in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_delays_grow_when_work_fails_soon_after_it_started_and_are_reset_by_30_seconds_of_work() -> None:
    now = [0.0]
    attempts = Attempts(RetryPolicy(Backoff(1, 2, 60)), "postgres", service=None, monotonic=lambda: now[0])
    delays = []
    for ran_seconds in (1, 1, 29.9, 30, 1):
        attempts.start()  # the connection opens each time
        now[0] += ran_seconds
        delays.append(attempts.failed(TransientError("away")))
    assert delays == [0.75, 1.5, 3, 0.75, 1.5]


def test_failures_of_work_that_never_started_are_not_forgotten() -> None:
    now = [0.0]
    attempts = Attempts(retry.DEPENDENCY, "kafka", service=None, monotonic=lambda: now[0])
    for number in (1, 2, 3):
        now[0] += 100  # the question itself takes long
        attempts.failed(TransientError("away"))
        assert attempts.failures == number


class QuickStop(Stop):
    """Remembers the delays instead of sleeping them; set after `limit` of them."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.delays: list[float] = []
        self._limit = limit

    def wait(self, seconds: float) -> bool:
        self.delays.append(seconds)
        if len(self.delays) == self._limit:
            self.set()
        return self.is_set()


def dependency_failures(service: str, dependency: str) -> float:
    labels = {"service": service, "dependency": dependency}
    return metrics.EVERY_SERVICE.get_sample_value("replyrate_dependency_failures_total", labels) or 0


def test_a_loop_goes_on_after_failures_and_beats_logs_and_counts_each(caplog: pytest.LogCaptureFixture) -> None:
    stop, beats = QuickStop(3), []
    before = dependency_failures("fetcher", "postgres")

    def work() -> None:
        raise TransientError("Postgres is not reachable")

    with caplog.at_level(logging.WARNING):
        retry.run_until_stopped(stop, "postgres", work, service="fetcher", beat=lambda: beats.append(1))
    assert stop.delays == [0.375, 0.75, 1.5]
    assert len(beats) == 3
    assert dependency_failures("fetcher", "postgres") - before == 3
    assert [record.__dict__["attempt"] for record in caplog.records] == [1, 2, 3]
    assert {record.__dict__["dependency"] for record in caplog.records} == {"postgres"}


def test_an_error_that_does_not_go_away_by_itself_ends_the_loop() -> None:
    def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        retry.run_until_stopped(Stop(), "postgres", work, service="fetcher")


def test_waiting_for_an_answer_beats_before_each_try_and_counts_failures() -> None:
    answers = iter([TransientError("away"), TransientError("away"), None])
    stop, beats = QuickStop(9), []
    before = dependency_failures("matcher", "kafka")

    def ask() -> None:
        if (error := next(answers)) is not None:
            raise error

    assert retry.until_answers(stop, "kafka", ask, service="matcher", beat=lambda: beats.append(1))
    assert len(beats) == 3 and stop.delays == [0.375, 0.75]
    assert dependency_failures("matcher", "kafka") - before == 2


def test_waiting_for_an_answer_ends_with_stop() -> None:
    def ask() -> None:
        raise TransientError("away")

    assert not retry.until_answers(QuickStop(2), "kafka", ask)


def test_the_text_of_a_library_error_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    Attempts(retry.DELIVERY, "kafka", service=None).failed(ValueError("secret value"))
    assert [record.getMessage() for record in caplog.records] == ["ValueError"]
