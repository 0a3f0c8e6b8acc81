"""Companies that Postgres cannot judge: they wait apart, so that one of them costs nobody else a fresh rate.

What one company's facts cause (a statement that runs into its time limit, a value that a column does not take) comes again
at every try. It is told, and tried again after a growing pause. In memory: another aggregator, or the next start, finds
out for itself.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import errors

from services.common.errors import ReplyrateError
from services.common.retry import Backoff

OWN: Final[tuple[type[psycopg.Error], ...]] = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.InternalError,
    errors.ProgramLimitExceeded,
    errors.QueryCanceled,
)
"""What can come from the rows of one company while the server is well. A table or a right that lacks is everybody's."""
PAUSES: Final = Backoff(60, 4, 3600)


class JudgementFailed(ReplyrateError):
    """The companies that were judged together when Postgres refused; their transaction is undone."""

    def __init__(self, companies: Sequence[str], code: str) -> None:
        self.companies = tuple(companies)
        self.code = code
        super().__init__(
            f"Postgres could not judge {', '.join(companies)} ({code}); docs/runbook.md#replyratecompanyunjudged says what to do"
        )


@contextmanager
def isolating(companies: Sequence[str]) -> Iterator[None]:
    """What is done for these companies in one transaction; Unjudged when one of them may be the reason that it failed."""
    try:
        yield
    except OWN as error:
        raise JudgementFailed(companies, error.sqlstate or type(error).__name__) from error


class Quarantine:
    """The companies that wait apart. `monotonic` gives seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._waiting: dict[str, tuple[int, float]] = {}
        self._singly = 0

    def __len__(self) -> int:
        """How many companies failed and have not been judged since."""
        return len(self._waiting)

    def companies(self) -> list[str]:
        """Those that are not tried now."""
        now = self._monotonic()
        return [company_id for company_id, (_, until) in self._waiting.items() if until > now]

    def most(self, most: int) -> int:
        """How many companies to judge together: one while it is not known which of some it was."""
        return 1 if self._singly else most

    def failed(self, failure: JudgementFailed) -> float | None:
        """Take note of it: the seconds until this company is tried again; None when it may be one of several."""
        if len(failure.companies) > 1:
            self._singly = len(failure.companies)
            return None
        (company_id,) = failure.companies
        attempts = self._waiting.get(company_id, (0, 0.0))[0] + 1
        pause = PAUSES.delay(attempts, 1)
        self._waiting[company_id] = attempts, self._monotonic() + pause
        self._singly = max(0, self._singly - 1)
        return pause

    def judged(self, companies: Sequence[str]) -> None:
        """These went well."""
        for company_id in companies:
            self._waiting.pop(company_id, None)
        self._singly = max(0, self._singly - len(companies))
