"""The refresh loop: `company due | lock | judge by each rule set | say when it is due next`.

A transaction of its own for each company, apart from ingest: any number of aggregators may refresh, and none waits
for another one. A company is due when facts or coverage came, or when time alone changes a number: a deadline passed,
a local day turned.
"""

import time
from collections.abc import Sequence
from datetime import datetime
from logging import getLogger
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from services.aggregator import judge
from services.aggregator.rules import RuleSet
from services.common import metrics
from services.common.lifecycle import Heartbeat, Stop
from services.common.postgres import load_statements, translate

log = getLogger(__name__)

SQL: Final = load_statements("services.aggregator", "settle.sql")


class Settler:
    """Refreshes over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, rule_sets: Sequence[RuleSet]) -> None:
        self._connection = connection
        self._rule_sets = tuple(rule_sets)

    def activate(self) -> None:
        """The rule sets of the settings count from now on, but for those that a person has switched off."""
        with translate():
            for rule_set in self._rule_sets:
                if judge.activate(self._connection, rule_set, at_start=True):
                    log.info(
                        "counts from now on",
                        extra={"action": "rule-set-activated", "rule_set": rule_set.name, "version": rule_set.identity},
                    )

    def run(self, stop: Stop, heartbeat: Heartbeat, pause_seconds: float) -> None:
        """Refresh what is due until `stop` is set. TransientError when Postgres goes away."""
        while not stop.is_set():
            heartbeat.beat()
            if not self.refresh():
                self._gauges()
                stop.wait(pause_seconds)

    def refresh(self) -> bool:
        """Judge one company that is due; False when none is."""
        started = time.monotonic()
        with translate(), self._connection.transaction():
            company = self._one("due")
            if company is None:
                return False
            company_id: str = company["company_id"]
            seen = self._one("seen", company_id=company_id)
            assert seen is not None
            due: list[datetime] = []
            outcomes = rates = 0
            changed = judge.EVERYTHING if seen["everything"] else seen["earliest"]
            for rule_set in judge.active(self._connection):
                judged = judge.judge_company(
                    self._connection, rule_set, company_id, now=seen["now"], changed_from=changed
                )
                outcomes += judged.outcomes_changed
                rates += judged.rates_written
                if judged.next_due_at is not None:
                    due.append(judged.next_due_at)
                metrics.REFRESHES.labels(rule_set.name).inc()
            self._run("clean", dirty=seen["dirty"])
            self._run(
                "judged",
                company_id=company_id,
                now=seen["now"],
                due_at=min(due, default=None),
                coverage=seen["coverage"],
            )
        seconds = time.monotonic() - started
        metrics.REFRESH_SECONDS.observe(seconds)
        log.debug(
            "judged",
            extra={
                "action": "company-refreshed", "company_id": company_id, "outcomes": outcomes, "rates": rates,
                "seconds": round(seconds, 3),
            },
        )  # fmt: skip
        return True

    def _gauges(self) -> None:
        with translate():
            row = self._one("waiting")
        if row is not None:
            metrics.COMPANIES_DIRTY.set(row["companies"])
            metrics.DIRTY_AGE_SECONDS.set(row["seconds"])

    def _run(self, name: str, **values: Any) -> None:
        self._connection.execute(SQL[name], values)

    def _one(self, name: str, **values: Any) -> dict[str, Any] | None:
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(SQL[name], values).fetchone()
