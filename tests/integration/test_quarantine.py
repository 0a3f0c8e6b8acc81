"""A company that cannot be judged is logged and tried again, and does not block the others."""

import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from services.aggregator.judge import judge, plan
from services.aggregator.judge.plan import Plan
from services.aggregator.judge.rules import RuleSet
from services.aggregator.refresh import recompute, refresh
from services.aggregator.refresh.quarantine import PAUSES, JudgementFailed, Quarantine
from services.aggregator.refresh.refresh import Refresher
from services.common import metrics
from services.common.postgres import connect
from tests.integration.test_final_numbers import NOON, PLAIN, mail, merge, state

COMPANIES = [f"c{number:02}" for number in range(20)]
POISON = "c11"
LIMIT_SECONDS = 2


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    with connect(dsn, "tests", statement_seconds=LIMIT_SECONDS) as connection:
        refresher = Refresher(connection, [PLAIN])
        refresher.activate()
        refresher.refresh()
        for company_id in COMPANIES:
            merge(connection, replace(state(), company_id=company_id))
        yield connection


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that pass only when the test says so."""
    now = [0.0]
    monkeypatch.setattr(refresh, "Quarantine", lambda: Quarantine(lambda: now[0]))
    return now


def poison(connection: psycopg.Connection, table: str, what: str) -> None:
    """From now on `what` happens whenever that table is written for one company."""
    connection.execute(
        f"CREATE FUNCTION ledger.poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what}; RETURN new; END $$".encode()
    )
    connection.execute(
        f"CREATE TRIGGER poison BEFORE INSERT ON {table} FOR EACH ROW WHEN (new.company_id = '{POISON}')"
        " EXECUTE FUNCTION ledger.poison()".encode()
    )


def antidote(connection: psycopg.Connection) -> None:
    connection.execute("DROP FUNCTION ledger.poison() CASCADE")


def settled(connection: psycopg.Connection) -> Refresher:
    refresher = Refresher(connection, [])
    while refresher.refresh():
        pass
    refresher._set_gauges()
    return refresher


def companies(connection: psycopg.Connection, statement: str) -> list[str]:
    return [company[0] for company in connection.execute(statement.encode()).fetchall()]


JUDGED = "SELECT DISTINCT company_id FROM report_v1.reply_rate ORDER BY 1"
UNJUDGED = "replyrate_aggregator_companies_unjudged"


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("RAISE data_exception USING MESSAGE = 'the value ' || new.company_id || ' is in no log'", "22000"),
        ("PERFORM 1 / 0", "22012"),
        ("PERFORM pg_sleep(60)", "57014"),
    ],
    ids=["refused", "no number", "too long"],
)
def test_the_other_companies_are_judged_and_the_failing_one_is_logged(
    connection: psycopg.Connection, clock: list[float], caplog: pytest.LogCaptureFixture, what: str, code: str
) -> None:
    poison(connection, "ledger.outcomes", what)
    refresher = settled(connection)
    healthy = [company_id for company_id in COMPANIES if company_id != POISON]
    assert companies(connection, JUDGED) == healthy
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.__dict__["work"] for record in errors] == ["refresh"]
    for record in errors:
        assert (record.__dict__["action"], record.__dict__["next_try_seconds"]) == ("company-unjudged", PAUSES.first)
        assert POISON in record.getMessage() and code in record.getMessage() and "runbook" in record.getMessage()
        assert "in no log" not in record.getMessage()
    assert metrics.AGGREGATOR.get_sample_value(UNJUDGED) == 1

    # New facts of the others are judged although the failing company has waited longer.
    merge(connection, replace(state(replies=(mail(NOON + timedelta(hours=1)),)), company_id="c15"))
    while refresher.refresh():
        pass
    outcome = "SELECT outcome FROM report_v1.inquiry_outcomes WHERE company_id = 'c15'"
    assert companies(connection, outcome) == ["timely"]

    # The company is tried again, and judged once the cause is gone.
    antidote(connection)
    assert not refresher.refresh()
    clock[0] += PAUSES.first + 1
    while refresher.refresh():
        pass
    refresher._set_gauges()
    assert companies(connection, JUDGED) == COMPANIES
    assert metrics.AGGREGATOR.get_sample_value(UNJUDGED) == 0


def test_a_recompute_waits_for_the_failing_company_and_readers_keep_the_old_numbers(
    connection: psycopg.Connection, clock: list[float]
) -> None:
    refresher = settled(connection)
    poison(connection, "shadow.outcomes", "RAISE data_exception")
    assert recompute.activate(connection, replace(PLAIN, version=2))
    while refresher.refresh():
        pass
    (progress,) = recompute.progress(connection)
    assert (progress["done"], progress["companies"]) == (19, 20)
    versions = "SELECT DISTINCT rule_version FROM report_v1.reply_rate"
    assert companies(connection, versions) == [PLAIN.identity]
    with pytest.raises(JudgementFailed, match=f"could not judge {POISON} "):
        recompute.step(connection)
    antidote(connection)
    clock[0] += PAUSES.first + 1
    while refresher.refresh():
        pass
    assert recompute.progress(connection) == []
    assert companies(connection, versions) == [replace(PLAIN, version=2).identity]


def test_a_failing_diagnosis_does_not_block_other_companies(connection: psycopg.Connection, clock: list[float]) -> None:
    poison(connection, "ledger.diagnoses", "RAISE data_exception")
    settled(connection)
    diagnosed = companies(connection, "SELECT DISTINCT company_id FROM report_v1.zero_rate_diagnosis ORDER BY 1")
    assert diagnosed == [company_id for company_id in COMPANIES if company_id != POISON]


@pytest.mark.parametrize("error", [OverflowError, ValueError, KeyError, RecursionError])
def test_a_fault_of_our_own_code_about_one_company_does_not_stop_the_others(
    connection: psycopg.Connection,
    clock: list[float],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    real = plan.plan_company

    def plan_company(rule_set: RuleSet, company: Mapping[str, Any], *arguments: Any, **options: Any) -> Plan:
        if company["company_id"] == POISON:
            raise error("text that quotes a fact")
        return real(rule_set, company, *arguments, **options)

    monkeypatch.setattr(judge, "plan_company", plan_company)
    settled(connection)
    assert companies(connection, JUDGED) == [company_id for company_id in COMPANIES if company_id != POISON]
    (message,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert POISON in message and error.__name__ in message and "quotes" not in message
    assert metrics.AGGREGATOR.get_sample_value(UNJUDGED) == 1


def test_an_inquiry_of_the_last_instant_stops_no_company(
    connection: psycopg.Connection, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """As an aggregator of an earlier release may have merged it."""
    last = datetime.max.replace(tzinfo=UTC, microsecond=0)
    merge(connection, replace(state(received_at=last), company_id="only-9999"))
    merge(connection, replace(state("other", received_at=last), company_id=POISON))
    settled(connection)
    assert companies(connection, JUDGED) == COMPANIES
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("field", ["buyer", "account_id"])
def test_a_company_is_judged_without_an_inquiry_that_was_merged_incomplete(
    connection: psycopg.Connection, clock: list[float], field: str
) -> None:
    incomplete: dict[str, Any] = {"inquiry_id": "incomplete", field: None}
    merge(connection, replace(state(), company_id=POISON, **incomplete))
    settled(connection)
    assert companies(connection, JUDGED) == COMPANIES
    judged = f"SELECT inquiry_id FROM report_v1.inquiry_outcomes WHERE company_id = '{POISON}'"
    assert companies(connection, judged) == ["one"]


def test_a_missing_privilege_quarantines_no_company(connection: psycopg.Connection) -> None:
    connection.execute("ALTER TABLE ledger.outcomes RENAME TO outcomes_of_another_release")
    with pytest.raises(psycopg.errors.UndefinedTable):
        settled(connection)


def test_pauses_grow_and_success_ends_them() -> None:
    now = [0.0]
    quarantine = Quarantine(lambda: now[0])
    assert quarantine.failed(JudgementFailed(["a", "b", "c"], "22012")) is None
    assert quarantine.batch_size(8) == 1 and len(quarantine) == 0
    assert quarantine.failed(JudgementFailed(["b"], "22012")) == 60
    quarantine.succeeded(["a"])
    assert quarantine.batch_size(8) == 1, "c is still under suspicion"
    quarantine.succeeded(["c"])
    assert quarantine.batch_size(8) == 8 and quarantine.companies() == ["b"]
    now[0] = 61
    assert quarantine.companies() == [] and len(quarantine) == 1
    assert [quarantine.failed(JudgementFailed(["b"], "22012")) for _ in range(4)] == [240, 960, 3600, 3600]
    quarantine.succeeded(["b"])
    assert len(quarantine) == 0
