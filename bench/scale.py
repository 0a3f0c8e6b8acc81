"""What a poll, a day and a year cost: every figure of `make bench PARTS=scale`, a module for each subject."""

from collections.abc import Callable
from typing import Final

from bench import coverage, polls, published
from bench.measure import Figure

SUBJECTS: Final[tuple[Callable[[int], list[Figure]], ...]] = (polls.measure, coverage.measure, published.measure)


def measure(repeats: int) -> list[Figure]:
    """The figures of each subject, one after the other."""
    return [figure for subject in SUBJECTS for figure in subject(repeats)]
