"""The refresh loop: keeps outcomes, rates and diagnoses in Postgres up to date.

One round of `Refresher.refresh`, a few companies each in a transaction of their own:

1. refresh     lock companies that are due; restore archived units that their numbers depend on; judge them by every active rule
               set, and in `shadow` by those being recomputed; store when they are due next
2. recompute   judge companies that an unfinished recompute still lacks
3. publish     show the recomputes that have covered every company
4. diagnose    find out why rates are 0 or missing
5. move        if there was nothing else to do: rates that an earlier release stored, into today's form

Runs separately from ingest, so that any number of aggregators can refresh without waiting for another. A company is due when facts or
coverage have arrived, or when time alone changes a number: a deadline has passed, a local day has ended.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from logging import getLogger
from typing import Any, Final

import psycopg

from services.aggregator.archive.files import ArchiveFolder
from services.aggregator.archive.restore import DaysToJudge, Restorer
from services.aggregator.judge import judge, rate_ranges, watermark
from services.aggregator.judge.judge import RefreshResult, earliest
from services.aggregator.judge.plan import ERASE, EVERYTHING, LATE_FACT, Delta
from services.aggregator.judge.rules import RuleSet
from services.aggregator.refresh import diagnose, recompute
from services.aggregator.refresh.quarantine import JudgementFailed, Quarantine, isolating
from services.aggregator.refresh.recompute import Recompute
from services.aggregator.refresh.trace_handoff import TraceHandoff
from services.common import metrics
from services.common.lifecycle import Heartbeat, Stop
from services.common.postgres import Statements, clock, load_statements, translate

log = getLogger(__name__)

SQL: Final = load_statements("services.aggregator.refresh", "refresh.sql")
KEEP_SECONDS: Final = 3600.0
"""How often to look whether rates may be stored in another form than until now."""


class Refresher:
    """Refreshes over one connection (autocommit); not to be shared by threads."""

    def __init__(
        self,
        connection: psycopg.Connection,
        rule_sets: Sequence[RuleSet],
        *,
        partitions: int | None = None,
        traces: TraceHandoff | None = None,
        archive: ArchiveFolder | None = None,
    ) -> None:
        """`partitions` of the topics; None without topics (then everything counts as published). `archive`: where units are
        archived."""
        self._connection = connection
        # `isolating` and `refresh` distinguish psycopg's errors; `translate` encloses each round.
        self._sql = Statements(connection, SQL, translates=False)
        self._rule_sets = tuple(rule_sets)
        self._partitions = partitions
        self._traces = traces or TraceHandoff()
        self._archive = archive
        self._restorer = Restorer(connection, archive)
        self._quarantines = {work: Quarantine() for work in ("refresh", "recompute", "diagnosis", "move")}
        self._keep_after = 0.0
        self._has_days = False

    def activate(self) -> None:
        """Activate the rule sets of the settings, except those that an operator has deactivated."""
        with translate():
            if self._partitions is not None:
                watermark.initialize(self._connection, self._partitions)
            for rule_set in self._rule_sets:
                if recompute.activate(self._connection, rule_set, at_start=True):
                    _log_rule_set("rule-set-activated", rule_set)

    def run(self, stop: Stop, heartbeat: Heartbeat, pause_seconds: float) -> None:
        """Refresh what is due until `stop` is set. TransientError when Postgres goes away."""
        while not stop.is_set():
            heartbeat.beat()
            if not self.refresh():
                self._set_gauges()
                stop.wait(pause_seconds)

    def refresh(self) -> bool:
        """One round; False if there was nothing to do."""
        with translate():
            try:
                refreshed = self._run_batch("refresh", recompute.BATCH_COMPANIES, self._refresh)
            except psycopg.errors.SerializationFailure:
                # Another aggregator has just judged these companies: Postgres is not away, only the queue has changed.
                refreshed = True
            recomputed = self._run_batch(
                "recompute", recompute.STEP_COMPANIES, partial(recompute.step, self._connection, archive=self._archive)
            )
            published = recompute.publish(self._connection)
            diagnosed = self._run_batch("diagnosis", diagnose.BATCH_COMPANIES, partial(diagnose.step, self._connection))
        for rule_set in published:
            _log_rule_set("recompute-shown", rule_set)
        self._keep_rates()
        return refreshed or recomputed or bool(published) or diagnosed or self._move_days()

    def _keep_rates(self) -> None:
        """Every hour, however busy: begin to store rates in ranges when the time has come."""
        if time.monotonic() >= self._keep_after:
            self._keep_after = time.monotonic() + KEEP_SECONDS
            with translate():
                self._has_days = rate_ranges.keep(self._connection)

    def _move_days(self) -> bool:
        """Move some rates that an earlier release stored, a row for each day; False if there are none, or not yet."""
        with translate():
            self._has_days = self._has_days and self._run_batch(
                "move", recompute.STEP_COMPANIES, partial(recompute.move_days, self._connection)
            )
        return self._has_days

    def _run_batch(self, work: str, most: int, run: Callable[[int, list[str]], list[str]]) -> bool:
        """One batch of this work without quarantined companies; False if there was nothing to do."""
        quarantine = self._quarantines[work]
        try:
            companies = run(quarantine.batch_size(most), quarantine.companies())
        except JudgementFailed as failure:
            pause = quarantine.failed(failure)
            if pause is not None:
                log.error(
                    "%s", failure, extra={"action": "company-unjudged", "work": work, "next_try_seconds": round(pause)}
                )
            return True
        quarantine.succeeded(companies)
        return bool(companies)

    def _refresh(self, most: int, quarantined: list[str]) -> list[str]:
        started = time.monotonic()
        with self._connection.transaction():
            self._sql.run("snapshot")
            due = [company["company_id"] for company in self._sql.all("due", most=most, quarantined=quarantined)]
            if not due:
                return []
            if self._partitions is not None:
                watermark.assign_partitions(self._connection, due, self._partitions)
            # Before the active rule sets: if a recompute is published in between, its rule set is read as active.
            recomputes = recompute.unfinished_unless_locked(self._connection)
            active = recompute.active_unless_locked(self._connection)
            if recomputes is None or active is None:
                # What is judged while a recompute is published would be missing in its numbers. They are due again in the next round.
                return []
            with isolating(due), self._traces.refreshing(due):
                results = self._judge(due, active, recomputes)
        seconds = time.monotonic() - started
        metrics.REFRESH_SECONDS.observe(seconds / len(due))
        for rule_set in active:
            metrics.REFRESHES.labels(rule_set.name).inc(len(due))
        log.debug(
            "judged",
            extra={
                "action": "company-refreshed", "companies": len(due), "seconds": round(seconds, 3),
                "outcomes": sum(result.outcomes_changed for result in results),
                "rates": sum(result.rates_written for result in results),
            },
        )  # fmt: skip
        return due

    def _judge(self, due: list[str], active: Sequence[RuleSet], recomputes: Sequence[Recompute]) -> list[RefreshResult]:
        """Judge by each active rule set, and in `shadow` by those being recomputed; returns the results of all of them."""
        now = clock(self._connection)
        changes = {change["company_id"]: change for change in self._sql.all("changes", companies=due)}
        deltas = {company_id: _delta(change) for company_id, change in changes.items()}
        if waiting := self._restore(active, recomputes, deltas, now):
            # They need more archived units than one transaction restores, and are due still.
            due = [company_id for company_id in due if company_id not in waiting]
            deltas = {company_id: deltas[company_id] for company_id in due}
            changes = {company_id: changes[company_id] for company_id in due}
        for company_id, change in changes.items():
            if change["erased_since"]:
                self._sql.run("erase_history", company_id=company_id, since=change["erased_since"])
        results = [judge.judge_companies(self._connection, rule_set, deltas, now=now) for rule_set in active]
        for unfinished in recomputes:
            results.append(recompute.judge_in_shadow(self._connection, unfinished, deltas, now))
        dirty = [dirty_id for change in changes.values() for dirty_id in change["dirty"]]
        self._sql.run("clean", dirty=dirty, companies=due)
        self._sql.run(
            "mark_judged",
            companies=due,
            now=now,
            due_ats=[earliest([result.next_due[company_id] for result in results]) for company_id in due],
            coverages=[changes[company_id]["coverage"] for company_id in due],
            read_through_needed=[
                earliest([result.read_through_needed[company_id] for result in results]) for company_id in due
            ],
        )
        self._sql.run("await_watermark", companies=due)
        return results

    def _restore(
        self,
        active: Sequence[RuleSet],
        recomputes: Sequence[Recompute],
        deltas: dict[str, Delta],
        now: datetime,
    ) -> set[str]:
        """Restore archived units that these judgements depend on; returns companies that need more of them first."""
        judgements = [
            *(DaysToJudge(rule_set) for rule_set in active),
            *(
                DaysToJudge(unfinished.rule_set, unfinished.days_from, unfinished.days_to, "shadow")
                for unfinished in recomputes
            ),
        ]
        return self._restorer.restore_needed(judgements, deltas, now)

    def _set_gauges(self) -> None:
        with translate():
            (waiting,) = self._sql.all("waiting")
        metrics.COMPANIES_UNJUDGED.set(sum(len(quarantine) for quarantine in self._quarantines.values()))
        metrics.COMPANIES_DIRTY.set(waiting["companies"])
        metrics.DIRTY_AGE_SECONDS.set(waiting["seconds"])


def _delta(change: dict[str, Any]) -> Delta:
    return Delta(
        EVERYTHING if change["everything"] else change["earliest"],
        ERASE if change["erased_since"] else LATE_FACT,
        received_from=change["received_from"],
        covered_from=change["covered_from"],
        connected=change["connected"],
    )


def _log_rule_set(action: str, rule_set: RuleSet) -> None:
    log.info("rule set", extra={"action": action, "rule_set": rule_set.name, "version": rule_set.identity})
