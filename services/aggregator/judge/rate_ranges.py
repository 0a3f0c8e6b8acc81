"""How rows of reply_rate are stored: consecutive days that say the same are one row of ledger.rate_ranges (docs/decisions/0065).

A judgement changes rows of single days. So what is stored of the days that it touches is loaded into the temporary table
`touched_rates`; the statements of rates.sql work on it instead of `rates`; and the ranges that its rows form replace those that were stored:

1. load      stored ranges of the touched days → `touched_rates`, a row for each day
2. …         the statements that compare, correct, retire, delete and add rows
3. store     `touched_rates` → ranges; those that differ are written

What a release before ranges stored, a row for each day, is moved month by month: when a day of it is judged, or by `move_days`.
An aggregator of such a release does not know ranges, so they are written only once none is left to run: a day after the upgrade.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from services.common.errors import TransientError
from services.common.postgres import load_statements

SQL: Final = load_statements("services.aggregator.judge", "rate_ranges.sql")
WORKSPACE: Final = (SQL["workspace"], SQL["loaded_workspace"], SQL["new_workspace"])
"""The statements that create the temporary tables."""
_RATES: Final = re.compile(r"\b(FROM|JOIN|UPDATE|INTO|USING) (?:ledger\.)?rates\b")


def clear(connection: psycopg.Connection) -> None:
    """Empty the temporary tables."""
    connection.execute(SQL["clear_workspace"])


def on_table(statement: str, table: str) -> bytes:
    """A statement about the table `rates`, about another of the same columns."""
    return _RATES.sub(rf"\1 {table}", statement).encode()


def keep(connection: psycopg.Connection) -> bool:
    """Begin to store ranges when the time has come, and free what they replace; returns whether ranges are stored."""
    return connection.execute(SQL["keep"]).fetchone() == (True,)


@contextmanager
def touched_days(connection: psycopg.Connection, values: Mapping[str, Any]) -> Iterator[str]:
    """The table with the rows of the days that `counted` touches; what the block makes of them is stored.

    `values`: those of the statements of rates.sql. Before ranges are stored, it is the table `rates`.
    """
    if connection.execute(SQL["form"]).fetchone() != (True,):
        with _writing_days():
            yield "rates"
        return
    _load(connection, "load_touched", "take_days", values)
    yield "touched_rates"
    _store(connection, values)


@contextmanager
def shown_days(connection: psycopg.Connection, rule_set: str) -> Iterator[str]:
    """The same for everything that is shown of a rule set. The caller has prepared the temporary tables."""
    if connection.execute(SQL["form"]).fetchone() != (True,):
        with _writing_days():
            yield "rates"
        return
    clear(connection)
    values: dict[str, Any] = {"rule_set": rule_set}
    _load(connection, "load_shown", "take_shown", values)
    yield "touched_rates"
    values["companies"] = [company_id for (company_id,) in connection.execute(SQL["companies_loaded"]).fetchall()]
    _store(connection, values)


@contextmanager
def _writing_days() -> Iterator[None]:
    """TransientError when ranges have begun meanwhile, which takes the right to write days: the next attempt stores ranges."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege:
        raise TransientError(
            "rates are stored in another form from now on; the same work succeeds when repeated"
        ) from None


def remaining(connection: psycopg.Connection, most: int, quarantined: Sequence[str]) -> list[tuple[str, str]]:
    """Up to `most` rule sets and companies of which an earlier release stored rows; locks the companies."""
    return connection.execute(SQL["remaining"], {"most": most, "quarantined": list(quarantined)}).fetchall()


def move_days(connection: psycopg.Connection, stored: Sequence[tuple[str, str]], most_rows: int) -> list[str]:
    """Store as ranges what an earlier release stored of rule sets and companies, in the caller's transaction.

    Month by month, as ranges end with a month, until `most_rows` are moved. Returns the companies of which some were.
    """
    rows = 0
    companies: dict[str, None] = {}
    for rule_set, company_id in stored:
        key = {"rule_set": rule_set, "company_id": company_id}
        for (month,) in connection.execute(SQL["months_left"], key).fetchall():
            if rows >= most_rows:
                return list(companies)
            clear(connection)
            rows += connection.execute(SQL["take_month"], {**key, "month": month}).rowcount
            _store(connection, {"rule_set": rule_set, "companies": [company_id]})
            companies[company_id] = None
    return list(companies)


def _load(connection: psycopg.Connection, ranges: str, days: str, values: Mapping[str, Any]) -> None:
    for statement in (ranges, "expand", days):
        connection.execute(SQL[statement], values)


def _store(connection: psycopg.Connection, values: Mapping[str, Any]) -> None:
    for statement in ("form_ranges", "delete_outdated", "store_new"):
        connection.execute(SQL[statement], values)
