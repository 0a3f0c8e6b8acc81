"""Versions of an outcome: what an explanation shows of them is what a record of every change says, however they are stored."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg

from services.aggregator.explain import SQL as EXPLAIN
from services.aggregator.judge import plan
from services.aggregator.judge.plan import Delta
from services.aggregator.refresh import recompute
from services.common.events import CompanyErased, InquiryReplies
from services.common.postgres import connect
from tests.integration.test_final_numbers import merge
from tests.integration.test_rate_ranges import BEGIN, RULES, judge_all, some_facts

VERSION = "revision, outcome, reason, account_id, first_reply_at, state, rule_version, changed_at"
TABLE = f"CREATE TABLE public.version AS SELECT rule_set, company_id, inquiry_id, {VERSION} FROM ledger.outcomes"
FUNCTION = f"""
CREATE FUNCTION public.record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.rule_version, OLD.account_id, OLD.outcome, OLD.reason, OLD.first_reply_at, OLD.state)
        IS DISTINCT FROM (NEW.rule_version, NEW.account_id, NEW.outcome, NEW.reason, NEW.first_reply_at, NEW.state)
    THEN
        INSERT INTO public.version SELECT OLD.rule_set, OLD.company_id, OLD.inquiry_id, {", ".join(f"OLD.{name}" for name in VERSION.split(", "))};
    END IF;
    RETURN NULL;
END $$
"""
TRIGGER = "CREATE TRIGGER record AFTER UPDATE ON ledger.outcomes FOR EACH ROW EXECUTE FUNCTION public.record()"


def versions(connection: psycopg.Connection, statement: str, key: dict[str, Any]) -> list[tuple[Any, ...]]:
    return connection.execute(statement.encode(), key).fetchall()


def keys(connection: psycopg.Connection) -> list[dict[str, Any]]:
    cursor = connection.execute("SELECT rule_set, company_id, inquiry_id FROM ledger.outcomes ORDER BY 1, 2, 3")
    return [dict(zip(("rule_set", "company_id", "inquiry_id"), key, strict=True)) for key in cursor.fetchall()]


def test_an_explanation_shows_every_version(postgres: Callable[[], str]) -> None:
    recorded = f"SELECT {VERSION} FROM public.version WHERE (rule_set, company_id, inquiry_id) = (%(rule_set)s, %(company_id)s, %(inquiry_id)s)"
    current = f"SELECT {VERSION} FROM ledger.outcomes WHERE (rule_set, company_id, inquiry_id) = (%(rule_set)s, %(company_id)s, %(inquiry_id)s)"
    with connect(postgres(), "tests") as connection:
        for rule_set in RULES:
            recompute.activate(connection, rule_set)
        for statement in (TABLE, FUNCTION, TRIGGER):
            connection.execute(statement.encode())
        chance = random.Random(0)
        now, number = BEGIN + timedelta(days=2), 0
        for _ in range(16):
            now += timedelta(days=chance.choice([0, 0.3, 1, 1, 5]), hours=chance.random())
            facts = []
            for _ in range(chance.choice([0, 1, 4])):
                number += 1
                facts.append(some_facts(chance, now, number))
            if facts:
                merge(connection, *facts)
            judge_all(connection, now, Delta(plan.EVERYTHING))
        for key in keys(connection):
            expected = versions(connection, recorded, key) + versions(connection, current, key)
            assert versions(connection, EXPLAIN["history"], key) == sorted(expected), key
        (noted,) = connection.execute("SELECT count(provisional_revision) FROM ledger.outcomes").fetchall()
        (stored,) = connection.execute("SELECT count(*) FROM ledger.outcome_history").fetchall()
        assert noted[0] > 3 and stored[0] > 3
        # Nothing but the outcomes of now remains after an erase.
        at = BEGIN + timedelta(days=3)
        merge(connection, CompanyErased(company_id="c1", at=at))
        judge_all(connection, now, Delta(plan.EVERYTHING, plan.ERASE))
        assert keys(connection)
        for key in keys(connection):
            assert versions(connection, EXPLAIN["history"], key) == versions(connection, current, key)


def test_the_same_reply_is_stored_once(postgres: Callable[[], str]) -> None:
    """Two replies are the same if all of their columns are."""
    with connect(postgres(), "tests") as connection:
        chance = random.Random(1)
        facts: list[InquiryReplies] = []
        while not (facts and facts[-1].replies):
            facts.append(some_facts(chance, BEGIN + timedelta(days=60), len(facts)))
        fact = facts[-1]
        for _ in range(2):
            merge(connection, fact)
        assert connection.execute("SELECT count(*) FROM ledger.replies").fetchone() == (1,)
        for column in (
            "reply_id",
            "source",
            "account_id",
            "mailbox_id",
            "evidence",
            "kind",
            "kind_reason",
            "matched_by",
        ):
            names = "reply_id, source, account_id, mailbox_id, replied_at, evidence, kind, kind_reason, matched_by"
            values = (
                names.replace(column, "'other'", 1) if column != "kind" else names.replace(" kind,", " 'other',", 1)
            )
            insert = f"INSERT INTO ledger.replies (company_id, inquiry_id, {names}) SELECT company_id, inquiry_id, {values} FROM ledger.replies"
            connection.execute(f"{insert} WHERE reply_id <> 'other' LIMIT 1 ON CONFLICT DO NOTHING".encode())
        assert connection.execute("SELECT count(*) FROM ledger.replies").fetchone() == (9,)
