"""What several pages of support read, in a transaction of the request that reads it and notes it in the audit."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from psycopg import Connection

from services.aggregator.judge.rules import RuleSet
from services.aggregator.refresh import recompute
from services.common.postgres import load_statements
from services.portal.api.figures import Figures, FiguresRequest, Rows, check_company
from services.portal.api.problems import ApiProblem
from services.portal.api.values import decode_cursor, encode_cursor
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

    def page(
        self, company_id: str, figures: Figures, rule_set: RuleSet, after: str | None, limit: int
    ) -> tuple[Rows, str | None]:
        """Rows of a list about a company under a rule set, and the cursor behind them; None when they are the last ones.

        ConsoleProblem when `after` is no cursor.
        """
        request = FiguresRequest(self, company_id, figures, {"account_id": None}, rule_set)
        try:
            rows, _ = request.page(after, limit + 1)
        except ApiProblem:
            raise ConsoleProblem("not-found") from None
        return rows[:limit], request.cursor(rows[limit - 1]) if len(rows) > limit else None


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
    rule_set, names = active_rules(connection, name)
    if rule_set is None:
        raise ConsoleProblem("unavailable")
    return rule_set, names


def active_rules(connection: Connection, name: str | None) -> tuple[RuleSet | None, Sequence[str]]:
    """As `chosen_rules`; None when no rule set is active."""
    active = {rule_set.name: rule_set for rule_set in recompute.active_readonly(connection)}
    if not active:
        return None, ()
    first = "default" if "default" in active else min(active)
    return active.get(name or first, active[first]), sorted(active)


def cursor_ids(after: str | None, count: int) -> tuple[str, ...]:
    """The ids in the cursor of a list, each "" for its first page. ConsoleProblem when it is no cursor with `count` ids."""
    try:
        return decode_cursor(after, ("",) * count)
    except ApiProblem:
        raise ConsoleProblem("not-found") from None


def cursor_key(after: str | None) -> str:
    """The same for a list whose cursor has one id."""
    return cursor_ids(after, 1)[0]


def page_by(columns: Sequence[str], rows: Rows, limit: int) -> tuple[Rows, str | None]:
    """The page of a list that was read with one row more than `limit`, and the cursor behind it, which has the ids in `columns`; None when it
    is the last one."""
    page = rows[:limit]
    return page, encode_cursor(*(page[-1][column] for column in columns)) if len(rows) > limit else None
