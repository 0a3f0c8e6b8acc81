"""Quarantine for companies whose judgement fails, so that one bad company does not block the others.

A failure caused by the facts of one company (a statement that reaches its timeout, a value that a column does not accept, a day
that Python cannot compute) recurs at every attempt. It is logged, and the company is tried again after a growing pause. In memory: another aggregator,
or this one after a restart, finds out for itself.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import errors

from services.aggregator.archive.files import ArchiveUnreadable
from services.common.errors import ReplyrateError
from services.common.retry import Backoff

COMPANY_ERRORS: Final[tuple[type[psycopg.Error], ...]] = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.InternalError,
    errors.ProgramLimitExceeded,
    errors.QueryCanceled,
)
"""Errors of Postgres that rows of a single company can cause on a healthy server. A missing table or privilege affects every
company and is not quarantined."""
PAUSES: Final = Backoff(60, 4, 3600)


class JudgementFailed(ReplyrateError):
    """These companies could not be judged together; their transaction is rolled back.

    `code`: the code of Postgres, or the name of the exception of our own code. Its text may quote facts and is left out.
    """

    def __init__(self, companies: Sequence[str], code: str) -> None:
        self.companies = tuple(companies)
        self.code = code
        super().__init__(
            f"could not judge {', '.join(companies)} ({code}); docs/runbook.md#replyratecompanyunjudged says what to do"
        )


@contextmanager
def isolating(companies: Sequence[str]) -> Iterator[None]:
    """Work for these companies in one transaction; JudgementFailed if one of them may be the reason that it fails.

    Read what does not belong to a company (rule sets) before it.
    """
    try:
        yield
    except Exception as error:
        if (code := code_of(error)) is None:
            raise
        raise JudgementFailed(companies, code) from error


def code_of(error: Exception) -> str | None:
    """The code of an error that the facts of a company may have caused; None for any other, which every company would meet.

    An exception of our own code (OverflowError, ValueError, …) counts as caused by the facts: if every company causes it, all of
    them are in quarantine, which is reported, and nothing is lost.
    """
    if isinstance(error, COMPANY_ERRORS):
        return error.sqlstate or type(error).__name__
    if isinstance(error, ArchiveUnreadable):
        return "archive-unreadable"
    if isinstance(error, psycopg.Error | ReplyrateError):
        return None
    return type(error).__name__


class Quarantine:
    """The companies in quarantine for one kind of work. `monotonic` returns seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._attempts_and_end: dict[str, tuple[int, float]] = {}
        self._suspects = 0

    def __len__(self) -> int:
        """How many companies failed and have not been judged since."""
        return len(self._attempts_and_end)

    def companies(self) -> list[str]:
        """Companies that are not tried now."""
        now = self._monotonic()
        return [company_id for company_id, (_, end) in self._attempts_and_end.items() if end > now]

    def batch_size(self, most: int) -> int:
        """How many companies to judge together: at most `most`, and 1 until it is clear which company of a batch failed."""
        return 1 if self._suspects else most

    def failed(self, failure: JudgementFailed) -> float | None:
        """Record a failure. Returns the seconds until the company is tried again; None if several companies failed together
        and are to be judged one by one."""
        if len(failure.companies) > 1:
            self._suspects = len(failure.companies)
            return None
        (company_id,) = failure.companies
        attempts = self._attempts_and_end.get(company_id, (0, 0.0))[0] + 1
        pause = PAUSES.delay(attempts, 1)
        self._attempts_and_end[company_id] = attempts, self._monotonic() + pause
        self._suspects = max(0, self._suspects - 1)
        return pause

    def succeeded(self, companies: Sequence[str]) -> None:
        """Release companies that were judged."""
        for company_id in companies:
            self._attempts_and_end.pop(company_id, None)
        self._suspects = max(0, self._suspects - len(companies))
