"""Step 4 of the refresh loop: stores why rates are 0 or missing, for companies that are due."""

from collections.abc import Sequence
from typing import Final

import psycopg

from services.aggregator.doctor import diagnosis
from services.aggregator.refresh import recompute
from services.aggregator.refresh.quarantine import isolating
from services.common.postgres import clock, load_statements

SQL: Final = load_statements("services.aggregator.refresh", "diagnose.sql")
BATCH_COMPANIES: Final = 50
"""How many companies are diagnosed in one transaction."""


def step(connection: psycopg.Connection, most: int = BATCH_COMPANIES, quarantined: Sequence[str] = ()) -> list[str]:
    """Diagnose up to `most` companies that were judged since their last diagnosis, in a transaction of their own; returns
    them.

    JudgementFailed if one of them may be the reason that it failed.
    """
    with connection.transaction():
        rows = connection.execute(SQL["undiagnosed"], {"most": most, "quarantined": list(quarantined)}).fetchall()
        companies = [company_id for (company_id,) in rows]
        if companies:
            now = clock(connection)
            active = recompute.active_unless_locked(connection)
            if active is None:
                return []
            with isolating(companies):
                diagnosis.record(connection, active, companies, now)
                connection.execute(SQL["mark_diagnosed"], {"companies": companies, "now": now})
    return companies
