"""The line a minute about all polls of a process."""

import logging

import pytest

from services.fetcher.poll_tally import EVERY_SECONDS, PollTally


def test_polls_are_one_line_a_minute_with_their_counts(caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    tally = PollTally(lambda: now)
    with caplog.at_level(logging.INFO, logger="services"):
        tally.log_when_due()
        tally.count("complete", published=3, new=1)
        tally.count("complete")
        tally.count("login-refused")
        now += EVERY_SECONDS - 1
        tally.log_when_due()
        assert caplog.records == []
        now += 1
        tally.log_when_due()
        tally.log_when_due()
        now += EVERY_SECONDS
        tally.log_when_due()
    (line,) = caplog.records
    names = ("action", "polls", "seconds", "complete", "login_refused", "published", "new")
    assert [line.__dict__[name] for name in names] == ["mailboxes-polled", 3, 60, 2, 1, 3, 1]


def test_the_end_of_a_process_logs_what_was_counted(caplog: pytest.LogCaptureFixture) -> None:
    tally = PollTally(lambda: 0.0)
    tally.count("postponed", 7)
    with caplog.at_level(logging.INFO, logger="services"):
        tally.log_when_due(now=True)
    (line,) = caplog.records
    assert (line.__dict__["polls"], line.__dict__["postponed"]) == (7, 7)
