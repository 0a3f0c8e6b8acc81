"""What a poll, a day and a year cost: every figure of `make bench PARTS=scale`, a module for each subject."""

from bench import coverage, facts, polls, published
from bench.measure import Figure


def measure(repeats: int, mailboxes: int = polls.MAILBOXES) -> list[Figure]:
    """The figures of each subject, one after the other. `mailboxes`: how many the measured fetcher polls."""
    return [
        *polls.measure(repeats, mailboxes),
        *coverage.measure(repeats),
        *facts.measure(repeats),
        *published.measure(repeats),
    ]
