"""Active rule sets, and recomputes: new numbers computed beside those that are shown.

A new or changed rule set, and one that an operator recomputes, is judged into the schema `shadow`, company by company: by
aggregators between two refreshes and by `replyrate recompute`. A refresh keeps both schemas up to date. When every company
has been judged, one transaction replaces the shown numbers with those in `shadow`: readers see all of the old numbers or all
of the new ones, and a final number that differs gets a correction.

    activate ─▶ unfinished ──(every company judged into shadow)──▶ complete ──(one transaction)──▶ active
                    └── killed: continues where it was ──┘
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Final

import psycopg
from psycopg.rows import class_row, dict_row

from services.aggregator.archive.files import ArchiveFolder
from services.aggregator.archive.restore import DaysToJudge, Restorer
from services.aggregator.judge import judge, rate_ranges, rules
from services.aggregator.judge.days import first_rate_day
from services.aggregator.judge.judge import RefreshResult
from services.aggregator.judge.plan import EVERYTHING, Delta, Plan
from services.aggregator.judge.rules import RuleSet
from services.aggregator.refresh.quarantine import isolating
from services.common.errors import ReplyrateError
from services.common.postgres import clock, load_statements

SQL: Final = load_statements("services.aggregator.refresh", "recompute.sql")
BATCH_COMPANIES: Final = 8
"""How many companies a refresh judges in one transaction."""
STEP_COMPANIES: Final = 8
"""How many companies a recompute judges in one transaction: a kill loses the current one. With companies of 1,500 inquiries the steps of
judge.sql stay within work_mem."""
MOVE_ROWS: Final = 20_000
"""After how many rates of an earlier release a move commits: some seconds."""
RECOMPUTE: Final = "recompute"
RULE_VERSION: Final = "rule-version"


@dataclass(frozen=True, slots=True)
class Recompute:
    """An unfinished recompute: a rule set, and the as_of days that are computed again."""

    rule_set: RuleSet
    days_from: date
    days_to: date


@dataclass(frozen=True, slots=True)
class StoredRuleSet:
    """A rule set as it was last activated; `parameters` is JSON."""

    name: str
    is_active: bool
    parameters: str

    @property
    def rule_set(self) -> RuleSet:
        """Its parameters, decoded."""
        return rules.stored(self.parameters)


def active(connection: psycopg.Connection) -> list[RuleSet]:
    """Active rule sets by name; they stay active until the caller's transaction ends."""
    return [rules.stored(parameters) for (parameters,) in connection.execute(SQL["active"]).fetchall()]


def active_unless_locked(connection: psycopg.Connection) -> list[RuleSet] | None:
    """As `active`; None while another process activates or deactivates one of them, which may take longer than a statement may wait."""
    try:
        with connection.transaction():
            rule_sets = connection.execute(SQL["active_unless_locked"]).fetchall()
    except psycopg.errors.LockNotAvailable:
        return None
    return [rules.stored(parameters) for (parameters,) in rule_sets]


def active_readonly(connection: psycopg.Connection) -> list[RuleSet]:
    """Active rule sets by name, for a connection that may only read."""
    return [rules.stored(parameters) for (parameters,) in connection.execute(SQL["active_readonly"]).fetchall()]


def stored_rule_sets(connection: psycopg.Connection) -> list[StoredRuleSet]:
    """Every rule set that is or was active, by name."""
    with connection.cursor(row_factory=class_row(StoredRuleSet)) as cursor:
        return cursor.execute(SQL["stored_rule_sets"]).fetchall()


def corrections_since(connection: psycopg.Connection, name: str, since: datetime) -> int:
    """How many corrections recomputes and new versions of a rule set have recorded since an instant."""
    corrections = connection.execute(SQL["corrections_since"], {"name": name, "since": since}).fetchone()
    assert corrections is not None
    return int(corrections[0])


def unfinished(connection: psycopg.Connection) -> list[Recompute]:
    """Unfinished recomputes; none of them is published before the caller's transaction ends."""
    return _recomputes(connection, "all_unfinished")


def unfinished_unless_locked(connection: psycopg.Connection) -> list[Recompute] | None:
    """As `unfinished`; None while another process publishes or ends one of them, which may take longer than a statement may wait."""
    try:
        with connection.transaction():
            return _recomputes(connection, "all_unfinished_unless_locked")
    except psycopg.errors.LockNotAvailable:
        return None


def _recomputes(connection: psycopg.Connection, statement: str) -> list[Recompute]:
    return [
        Recompute(rules.stored(parameters), first or date.min, last or date.max)
        for parameters, first, last in connection.execute(SQL[statement]).fetchall()
    ]


def progress(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """Of each unfinished recompute: rule_set, identity, begun_at, companies and how many of them are done."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(SQL["progress"]).fetchall()


def activate(connection: psycopg.Connection, rule_set: RuleSet, *, at_start: bool = False) -> bool:
    """Activate a rule set; True if it is new or changed. It becomes active as soon as every company is judged by it.

    `at_start` as in `request`.
    """
    is_new = request(connection, rule_set, at_start=at_start)
    publish(connection)
    return is_new


def request(connection: psycopg.Connection, rule_set: RuleSet, *, at_start: bool = False) -> bool:
    """Start the recompute that activates a rule set; True if it is new or changed. Aggregators judge the companies and publish it.

    `at_start` is for the rule sets that settings name: one that an operator has deactivated stays inactive, and one with a
    higher version stays as it is (an aggregator of an older release may start beside newer ones).
    """
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        stored = cursor.execute(SQL["rule_set"], {"name": rule_set.name}).fetchone()
        coming = cursor.execute(SQL["unfinished"], {"name": rule_set.name}).fetchone()
        if at_start and stored is not None and not stored["active"]:
            return False
        versions = [version_of(definition["identity"]) for definition in (stored, coming) if definition is not None]
        if at_start and any(version > rule_set.version for version in versions):
            return False
        if stored is not None and stored["active"] and stored["identity"] == rule_set.identity:
            if coming is not None and coming["identity"] != rule_set.identity:
                # A recompute with other parameters is no longer wanted.
                _end(connection, rule_set.name)
            return False
        return start(connection, rule_set)


def cancel(connection: psycopg.Connection, name: str, identity: str) -> bool:
    """End the unfinished recompute of a rule set if it computes this identity; False if it does not. The numbers that are shown stay."""
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        running = cursor.execute(SQL["unfinished"], {"name": name}).fetchone()
        if running is None or running["identity"] != identity:
            return False
        _end(connection, name)
    return True


def deactivate(connection: psycopg.Connection, name: str) -> bool:
    """Deactivate a rule set: its rates stay in the history, its outcomes are deleted. False if it was not active."""
    with connection.transaction():
        connection.execute(SQL["extend_timeouts"])
        stopped = connection.execute(SQL["unfinished"], {"name": name}).fetchone() is not None
        if stopped:
            _end(connection, name)
        if connection.execute(SQL["deactivate"], {"name": name}).fetchone() is None:
            return stopped
        judge.use_schema(connection, "ledger")
        judge.prepare(connection)
        with rate_ranges.shown_days(connection, name) as table:
            connection.execute(rate_ranges.on_table(SQL["retire_rates"], table), {"name": name})
        connection.execute(SQL["delete_outcomes"], {"name": name})
    return True


def move_days(
    connection: psycopg.Connection,
    most: int = STEP_COMPANIES,
    quarantined: Sequence[str] = (),
    most_rows: int = MOVE_ROWS,
) -> list[str]:
    """Move some rates of up to `most` companies out of the form of an earlier release, in a transaction of their own; returns them.

    JudgementFailed if one of them may be the reason that it failed.
    """
    with connection.transaction():
        # While both are locked, no recompute is published and no rule set deactivated.
        if unfinished_unless_locked(connection) is None or active_unless_locked(connection) is None:
            return []
        judge.prepare(connection)
        remaining = rate_ranges.remaining(connection, most, quarantined)
        companies = list(dict.fromkeys(company_id for _, company_id in remaining))
        with isolating(companies):
            return rate_ranges.move_days(connection, remaining, most_rows)


def start(
    connection: psycopg.Connection, rule_set: RuleSet, from_day: date | None = None, to_day: date | None = None
) -> bool:
    """Start a recompute of a rule set; False if the same one is unfinished already and continues.

    `from_day` … `to_day` are as_of days; without them every row that may still change is computed. ReplyrateError if they are
    given for a rule set that is not active with these parameters: then all of its rows must be computed.
    """
    if from_day is not None and to_day is not None and to_day < from_day:
        raise ReplyrateError(f"--to {to_day} is before --from {from_day}; give the days in order")
    with connection.transaction():
        stored = connection.execute(SQL["rule_set"], {"name": rule_set.name}).fetchone()
        if (from_day or to_day) and stored != (rule_set.name, rule_set.identity, True):
            raise ReplyrateError(
                f"{rule_set.name} {rule_set.identity} is not active yet; compute all of it (without --from and --to) first"
            )
        running = connection.execute(SQL["unfinished"], {"name": rule_set.name}).fetchone()
        if running == (rule_set.identity, from_day, to_day):
            return False
        if running is not None:
            _end(connection, rule_set.name)
        values = {
            "name": rule_set.name,
            "identity": rule_set.identity,
            "parameters": json.dumps(rule_set.parameters(), ensure_ascii=False),
            "from_day": from_day,
            "to_day": to_day,
        }
        # No row is returned when another process has started the same recompute at this moment.
        return connection.execute(SQL["start"], values).fetchone() is not None


def step(
    connection: psycopg.Connection,
    most: int = STEP_COMPANIES,
    quarantined: Sequence[str] = (),
    archive: ArchiveFolder | None = None,
) -> list[str]:
    """Judge up to `most` companies that an unfinished recompute still lacks, in a transaction of their own; returns them.

    Units that its days depend on are restored from `archive` first. JudgementFailed if one of the companies may be the reason that
    it failed, ArchiveUnreadable if units cannot be restored.
    """
    restorer = Restorer(connection, archive)
    judged: list[str] = []
    with connection.transaction():
        # To publish a large one takes longer than a statement may wait for its lock.
        for recompute in _recomputes(connection, "all_unpublished"):
            values = {"name": recompute.rule_set.name, "most": most, "quarantined": list(quarantined)}
            remaining = [company_id for (company_id,) in connection.execute(SQL["remaining"], values).fetchall()]
            if remaining:
                now, deltas = clock(connection), dict.fromkeys(remaining, Delta())
                days = DaysToJudge(recompute.rule_set, recompute.days_from, recompute.days_to, "shadow")
                with isolating(remaining):
                    waiting = restorer.restore_needed([days], deltas, now)
                    ready = {company_id: delta for company_id, delta in deltas.items() if company_id not in waiting}
                    judge_in_shadow(connection, recompute, ready, now)
                judged += remaining
    return judged


def judge_in_shadow(
    connection: psycopg.Connection, recompute: Recompute, companies: Mapping[str, Delta], now: datetime
) -> RefreshResult:
    """Judge companies into the schema `shadow`, inside the caller's transaction: from the beginning those that the recompute lacks."""
    name = recompute.rule_set.name
    rows = connection.execute(SQL["lacking"], {"name": name, "companies": list(companies)}).fetchall()
    lacking = {company_id for (company_id,) in rows}
    result = judge.judge_companies(
        connection,
        recompute.rule_set,
        {
            company_id: replace(delta, earliest=EVERYTHING) if company_id in lacking else delta
            for company_id, delta in companies.items()
        },
        now=now,
        days_from=recompute.days_from,
        days_to=recompute.days_to,
        schema="shadow",
    )
    due = result.next_due
    values = {"name": name, "companies": list(due), "due_ats": list(due.values())}
    connection.execute(SQL["mark_done"], values)
    return result


def publish(connection: psycopg.Connection) -> list[RuleSet]:
    """Publish each recompute that has covered every company, in one transaction each; returns their rule sets."""
    return [
        rules.stored(parameters)
        for parameters, _, _ in connection.execute(SQL["all_unpublished"]).fetchall()
        if _publish(connection, rules.stored(parameters))
    ]


def _publish(connection: psycopg.Connection, rule_set: RuleSet) -> bool:
    name = {"name": rule_set.name}
    if connection.execute(SQL["is_complete"], name).fetchone() != (True,):
        return False
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(SQL["extend_timeouts"])
        recompute = cursor.execute(SQL["unfinished"], name).fetchone()
        completeness = cursor.execute(SQL["is_complete"], name).fetchone()
        # Another process may have published it, or a company may have been added.
        if recompute is None or recompute["identity"] != rule_set.identity or completeness != {"complete": True}:
            return False
        stored = cursor.execute(SQL["rule_set"], name).fetchone()
        same_rules = stored is None or stored["identity"] == rule_set.identity
        now = clock(connection)
        judge.use_schema(connection, "ledger")
        judge.prepare(connection)
        values = {**name, "zone": rule_set.time_zone, "now": now}
        for statement in ("load_counted", "stamp_counted", "load_day_ends"):
            cursor.execute(SQL[statement], values)
        plans = [
            Plan(company["company_id"], (), company["through"], first_rate_day(company["first_received_at"], rule_set))
            for company in cursor.execute(SQL["companies"], values).fetchall()
        ]
        causes = dict.fromkeys((plan.company_id for plan in plans), RECOMPUTE if same_rules else RULE_VERSION)
        waiting = {change["company_id"]: change["cause"] for change in cursor.execute(SQL["waiting"]).fetchall()}
        causes |= {company_id: cause for company_id, cause in waiting.items() if company_id in causes}
        judge.store_results(connection, rule_set, plans, causes, now, "shadow_outcomes")
        parameters = json.dumps(rule_set.parameters(), ensure_ascii=False)
        _end(connection, rule_set.name)
        # Last, because other processes wait with their judgements while the rule set is locked.
        cursor.execute(SQL["activate"], {**name, "identity": rule_set.identity, "parameters": parameters})
    return True


def version_of(identity: str) -> int:
    """The version of a rule set in its identity."""
    return int(identity.partition("+")[0])


def _end(connection: psycopg.Connection, name: str) -> None:
    # What has been judged into the schema `shadow` may be large.
    connection.execute(SQL["extend_timeouts"])
    for statement in ("clear_shadow", "end"):
        connection.execute(SQL[statement], {"name": name})
