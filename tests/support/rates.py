"""Rows of reply_rate edited by hand."""

import psycopg
from psycopg import sql

from services.aggregator.judge import judge, rate_ranges


def edit_rates(connection: psycopg.Connection, change: str, condition: str = "true") -> None:
    """UPDATE what is shown, however it is stored: `change` and `condition` name the columns of ledger.rates."""
    with connection.transaction():
        judge.use_schema(connection, "ledger")
        judge.prepare(connection)
        names = connection.execute("SELECT DISTINCT rule_set FROM ledger.rate_rows WHERE valid_to IS NULL").fetchall()
        for (rule_set,) in names:
            with rate_ranges.shown_days(connection, rule_set) as table:
                connection.execute(
                    sql.SQL("UPDATE {} SET {} WHERE rule_set = {} AND valid_to IS NULL AND ({})").format(
                        sql.Identifier(table),
                        sql.SQL(change),
                        sql.Literal(rule_set),
                        sql.SQL(condition),
                    )
                )


def keep_days(connection: psycopg.Connection) -> None:
    """Rates are stored as on the day after an upgrade: a row of ledger.rates for each day."""
    connection.execute("UPDATE ledger.rates_form SET in_ranges = false, in_ranges_from = 'infinity'")
