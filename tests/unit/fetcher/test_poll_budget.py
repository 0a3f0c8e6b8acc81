"""What a poll may still use."""

import pytest

from services.common.lifecycle import Stop
from services.fetcher.poll_budget import PollBudget
from services.imap.limits import SessionLimits


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_budget_ends_with_its_messages_and_stays_exhausted(clock: Clock) -> None:
    budget = PollBudget(SessionLimits(messages=3), Stop(), clock)
    budget.spend(2)
    assert not budget.must_end()
    budget.spend(2)
    assert budget.must_end() and budget.exhausted
    budget.messages = 5
    assert budget.must_end()


def test_a_budget_ends_with_three_quarters_of_the_session(clock: Clock) -> None:
    budget = PollBudget(SessionLimits(session_seconds=100), Stop(), clock)
    clock.seconds = 75
    assert not budget.must_end()
    clock.seconds = 75.1
    assert budget.must_end()


def test_a_stop_ends_a_poll_and_is_no_poll_without_reading(clock: Clock) -> None:
    stop = Stop()
    budget = PollBudget(SessionLimits(messages=3), stop, clock)
    budget.exhaust()
    assert budget.ended_without_reading()
    stop.set()
    assert budget.must_end() and not budget.ended_without_reading()
    read = PollBudget(SessionLimits(messages=3), Stop(), clock)
    read.spend(3)
    assert read.must_end() and not read.ended_without_reading()
