"""The refresh loop: `companies due | lock | judge by each rule set | say when they are due next`.

Transactions of their own, apart from ingest, of a few companies each: any number of aggregators may refresh, and none
waits for another one. A company is due when facts or coverage came, or when time alone changes a number: a deadline passed,
a local day turned.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from logging import getLogger
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from services.aggregator.doctor import diagnosis
from services.aggregator.judge import judge, watermark
from services.aggregator.judge.judge import Delta, RefreshResult
from services.aggregator.judge.rules import RuleSet
from services.aggregator.refresh import recompute
from services.aggregator.refresh.quarantine import JudgementFailed, Quarantine, isolating
from services.aggregator.refresh.trace_handoff import TraceHandoff
from services.common import metrics
from services.common.lifecycle import Heartbeat, Stop
from services.common.postgres import clock, load_statements, translate

log = getLogger(__name__)

SQL: Final = load_statements("services.aggregator.refresh", "refresh.sql")


class Refresher:
    """Refreshes over one connection (autocommit); not to be shared by threads."""

    def __init__(
        self,
        connection: psycopg.Connection,
        rule_sets: Sequence[RuleSet],
        *,
        partitions: int | None = None,
        merged: TraceHandoff | None = None,
    ) -> None:
        """`partitions` of the topics; None where there are none (everything has been counted then)."""
        self._connection = connection
        self._rule_sets = tuple(rule_sets)
        self._partitions = partitions
        self._merged = merged or TraceHandoff()
        self._aside = {work: Quarantine() for work in ("refresh", "recompute", "diagnosis")}

    def activate(self) -> None:
        """The rule sets of the settings count from now on, but for those that a person has switched off."""
        with translate():
            if self._partitions is not None:
                watermark.unassigned_companies(self._connection, self._partitions)
            for rule_set in self._rule_sets:
                if recompute.activate(self._connection, rule_set, at_start=True):
                    _tell("rule-set-activated", rule_set)

    def run(self, stop: Stop, heartbeat: Heartbeat, pause_seconds: float) -> None:
        """Refresh what is due until `stop` is set. TransientError when Postgres goes away."""
        while not stop.is_set():
            heartbeat.beat()
            if not self.refresh():
                self._gauges()
                stop.wait(pause_seconds)

    def refresh(self) -> bool:
        """Judge some companies that are due, and some that a recompute lacks, and say why rates are 0; False when there was
        nothing to do."""
        with translate():
            try:
                refreshed = self._spare("refresh", recompute.COMPANIES, self._refresh)
            except psycopg.errors.SerializationFailure:
                # Another aggregator has just judged what this one looked at: nothing is away, the queue is another one.
                refreshed = True
            recomputed = self._spare("recompute", recompute.COMPANIES, partial(recompute.step, self._connection))
            shown = recompute.finish(self._connection)
            diagnosed = self._spare("diagnosis", diagnosis.MOST, partial(diagnosis.step, self._connection))
        for rule_set in shown:
            _tell("recompute-shown", rule_set)
        return refreshed or recomputed or bool(shown) or diagnosed

    def _spare(self, work: str, most: int, run: Callable[[int, list[str]], list[str]]) -> bool:
        """One portion of this work, without the companies that wait apart; False when there was nothing to do."""
        aside = self._aside[work]
        try:
            done = run(aside.most(most), aside.companies())
        except JudgementFailed as failure:
            pause = aside.failed(failure)
            if pause is not None:
                log.error(
                    "%s", failure, extra={"action": "company-unjudged", "work": work, "next_try_seconds": round(pause)}
                )
            return True
        aside.judged(done)
        return bool(done)

    def _refresh(self, most: int, aside: list[str]) -> list[str]:
        started = time.monotonic()
        with self._connection.transaction():
            self._run("snapshot")
            due = [row["company_id"] for row in self._all("due", most=most, aside=aside)]
            if not due:
                return []
            if self._partitions is not None:
                watermark.assign_partitions(self._connection, due, self._partitions)
            with isolating(due), self._merged.refreshing(due):
                active, found = self._judge(due)
        seconds = time.monotonic() - started
        metrics.REFRESH_SECONDS.observe(seconds / len(due))
        for rule_set in active:
            metrics.REFRESHES.labels(rule_set.name).inc(len(due))
        log.debug(
            "judged",
            extra={
                "action": "company-refreshed", "companies": len(due), "seconds": round(seconds, 3),
                "outcomes": sum(one.outcomes_changed for one in found), "rates": sum(one.rates_written for one in found),
            },
        )  # fmt: skip
        return due

    def _judge(self, due: list[str]) -> tuple[list[RuleSet], list[RefreshResult]]:
        """By each rule set that counts, and beside by those that will; returns the former, and what both wrote."""
        # Before the rule sets: when a recompute is shown meanwhile, its rule set is read as it counts from then on.
        shadows = recompute.unfinished(self._connection)
        active = recompute.active(self._connection)
        now = clock(self._connection)
        seen = {row["company_id"]: row for row in self._all("seen", companies=due)}
        changed = {
            company_id: Delta(
                judge.EVERYTHING if row["everything"] else row["earliest"],
                judge.ERASE if row["erased_since"] else judge.LATE_FACT,
                received_from=row["received_from"],
                covered_from=row["covered_from"],
            )
            for company_id, row in seen.items()
        }
        for company_id, row in seen.items():
            if row["erased_since"]:
                self._run("forget", company_id=company_id, since=row["erased_since"])
        found = [judge.judge_companies(self._connection, rule_set, changed, now=now) for rule_set in active]
        for one in shadows:
            found.append(recompute.judge_in_shadow(self._connection, one, changed, now))
        self._run("clean", dirty=[dirty_id for row in seen.values() for dirty_id in row["dirty"]])
        self._run(
            "judged",
            companies=due,
            now=now,
            due_ats=[_first(one.next_due[company_id] for one in found) for company_id in due],
            coverages=[seen[company_id]["coverage"] for company_id in due],
            settles=[_first(one.settles_at[company_id] for one in found) for company_id in due],
        )
        return active, found

    def _gauges(self) -> None:
        with translate():
            (row,) = self._all("waiting")
        metrics.COMPANIES_UNJUDGED.set(sum(len(one) for one in self._aside.values()))
        metrics.COMPANIES_DIRTY.set(row["companies"])
        metrics.DIRTY_AGE_SECONDS.set(row["seconds"])

    def _run(self, name: str, **values: Any) -> None:
        self._connection.execute(SQL[name], values)

    def _all(self, name: str, **values: Any) -> list[dict[str, Any]]:
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(SQL[name], values).fetchall()


def _first(instants: Iterable[datetime | None]) -> datetime | None:
    return min((at for at in instants if at is not None), default=None)


def _tell(action: str, rule_set: RuleSet) -> None:
    log.info("rule set", extra={"action": action, "rule_set": rule_set.name, "version": rule_set.identity})
