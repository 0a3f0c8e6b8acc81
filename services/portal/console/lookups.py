"""What several pages of support read, in a transaction of the request that reads it and notes it in the audit."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from psycopg import Connection

from services.aggregator.judge.rules import RuleSet
from services.aggregator.refresh import recompute
from services.common.postgres import load_statements
from services.portal.api.figures import Figures, FiguresRequest, Rows, check_company
from services.portal.api.problems import ApiProblem
from services.portal.console.problems import ConsoleProblem
from services.registry.companies import check_id
from services.registry.errors import RegistryError

SQL: Final = load_statements("services.portal.console", "search.sql")


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """Reads lists of figures in a transaction that is open."""

    connection: Connection

    def transaction(self) -> AbstractContextManager[Connection]:
        """The transaction itself."""
        return nullcontext(self.connection)

    def rows(self, company_id: str, figures: Figures, limit: int, **filters: Any) -> Rows:
        """The first rows of a list about a company, under each active rule set."""
        return FiguresRequest(self, company_id, figures, {"account_id": None, **filters}, None).page(None, limit)[0]


def checked_id(text: str) -> str:
    """An id of a path. ConsoleProblem when it can be none."""
    try:
        check_id("account", text)
    except RegistryError:
        raise ConsoleProblem("not-found") from None
    return text


def check_stored(connection: Connection, company_id: str) -> None:
    """ConsoleProblem when neither the registry nor a fact names a company."""
    try:
        check_company(connection, company_id)
    except ApiProblem:
        raise ConsoleProblem("not-found") from None


def chosen_rules(connection: Connection, name: str | None) -> tuple[RuleSet, Sequence[str]]:
    """The active rule set of that name, else `default` or the first one; and the names of all. ConsoleProblem when none is active."""
    active = {rule_set.name: rule_set for rule_set in recompute.active_readonly(connection)}
    if not active:
        raise ConsoleProblem("unavailable")
    first = "default" if "default" in active else min(active)
    return active.get(name or first, active[first]), sorted(active)
