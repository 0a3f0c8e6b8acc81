"""Outcomes and rates by SQL equal an independent recount, for random facts and for the examples of docs/rules.md."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from msgspec.structs import replace as replace_fields
from psycopg.rows import dict_row

from services.aggregator.judge import judge, rules
from services.aggregator.judge.plan import Delta
from services.aggregator.judge.rules import RuleSet
from services.aggregator.refresh import recompute
from services.aggregator.refresh.refresh import Refresher
from services.common.postgres import connect
from services.recount.company import AskedInquiry, CompanyFacts, CompanyRecount, CoveredInterval, GivenReply, StatusMark
from services.standalone.demo.comparison import OUTCOME_COLUMNS, RATE_COLUMNS, same

DEFAULT, PLAIN = rules.load_builtin("default"), rules.load_builtin("first-reply-24h")
RULES = [rules.load_builtin(name) for name in rules.builtin_names()]
ODD = rules.SmallSample("widen", 3, 40)
VARIANTS: dict[str, dict[str, Any]] = {
    "verified-only": {"evidence": "verified", "average_over": "fastest-80-percent", "rounding": "half-up-0"},
    "responder": {
        "attribution": "responder",
        "answered_by": ("human-reply", "platform-reply", "declined", "spam-report"),
    },
    "hidden": {"small_sample": rules.SmallSample("hide", 4), "rounding": "down-1", "settle_days": 0},
    "wide": {
        "small_sample": ODD,
        "settle_days": 1,
        "max_settle_days": 3,
        "period_by": "deadline",
        "target_seconds": 100_000,
    },
    "wide-each": {"small_sample": ODD, "unit": "each-inquiry", "window_days": 3, "attribution": "responder"},
    "automatic": {
        "answered_by": ("automatic-reply",),
        "exclude": (),
        "evidence": "verified",
        "unit": "first-per-thread",
    },
    "to-the-buyer": {"answer_to": "buyer-or-relay"},
    "reach-back": {"reach_back_days": 5},
    "reach-back-not": {"reach_back_days": 0, "period_by": "deadline", "unmeasured": "unanswered"},
    "to-the-buyer-automatic": {
        "answer_to": "buyer-or-relay",
        "answered_by": ("automatic-reply", "human-reply"),
        "unit": "first-per-thread",
    },
}
RULES += [replace_fields(DEFAULT, name=name, **changes) for name, changes in VARIANTS.items()]
"""Every builtin rule set, and every parameter value that none of them has."""
PACIFIC = ZoneInfo("America/Los_Angeles")
STATUSES = ("spam", "spam-undone", "rejected", "declined", "withdrawn", "blacklisted", "buyer-closed", "trashed")


def put(connection: psycopg.Connection, company: str, facts: CompanyFacts) -> None:
    """Facts as the sink and the fetcher would have written them."""
    cursor = connection.cursor()
    cursor.execute("INSERT INTO registry.companies (company_id) VALUES (%s) ON CONFLICT DO NOTHING", (company,))
    for account in sorted(facts.accounts):
        cursor.execute(
            "INSERT INTO registry.accounts (company_id, account_id) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (company, account),
        )
    for asked in facts.asked:
        cursor.execute(
            "INSERT INTO ledger.inquiries (company_id, inquiry_id, account_id, received_at, facts_id, buyer_id, thread_id, buyer_region,"
            " buyer_addresses) VALUES (%s, %s, %s, %s, 'f', %s, %s, %s, %s)",
            (
                company,
                asked.inquiry_id,
                asked.account_id,
                asked.received_at,
                asked.buyer_id,
                asked.thread_id,
                "CN" if asked.from_china else "US",
                ["0" * 32] if asked.reachable else [],
            ),
        )
    for mark in set(facts.marked):
        cursor.execute(
            "INSERT INTO ledger.statuses (company_id, inquiry_id, status, at, account_id) VALUES (%s, %s, %s, %s, %s)",
            (company, mark.inquiry_id, mark.status, mark.at, mark.account_id),
        )
    for reply in set(facts.replied):
        cursor.execute(
            "INSERT INTO ledger.replies (company_id, inquiry_id, reply_id, source, account_id, mailbox_id, replied_at, evidence,"
            " kind, kind_reason, matched_by) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (company, reply.inquiry_id, reply.reply_id, reply.source, reply.account_id, reply.mailbox_id, reply.replied_at,
             reply.evidence, reply.kind, reply.kind_reason, reply.matched_by),
        )  # fmt: skip
    for line in facts.covered:
        cursor.execute(
            "INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, removed_at, from_at, through_at, recorded_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                company,
                line.account_id,
                line.mailbox_id,
                line.connected_at,
                line.removed_at,
                line.from_at,
                line.through_at,
                line.recorded_at,
            ),
        )


def judged(
    connection: psycopg.Connection, company: str, rule_set: RuleSet, now: datetime
) -> tuple[list[Any], list[Any]]:
    with connection.transaction():
        judge.judge_companies(connection, rule_set, {company: Delta()}, now=now)
    with connection.cursor(row_factory=dict_row) as cursor:
        values = {"company": company, "rules": rule_set.name}
        outcomes = cursor.execute(
            "SELECT * FROM report_v1.inquiry_outcomes WHERE company_id = %(company)s AND rule_set = %(rules)s", values
        ).fetchall()
        rates = cursor.execute(
            "SELECT * FROM report_v1.reply_rate WHERE company_id = %(company)s AND rule_set = %(rules)s", values
        ).fetchall()
    return outcomes, rates


def assert_equal(
    connection: psycopg.Connection, company: str, facts: CompanyFacts, rule_set: RuleSet, now: datetime
) -> None:
    outcomes, rates = judged(connection, company, rule_set, now)
    recount = CompanyRecount(company, facts, rule_set.parameters())
    expected_outcomes = recount.outcomes(now)
    assert {outcome["inquiry_id"] for outcome in outcomes} == set(expected_outcomes)
    for outcome in outcomes:
        expected = expected_outcomes[outcome["inquiry_id"]]
        for column in (*OUTCOME_COLUMNS, "mailbox_id", "evidence", "reply_seconds"):
            assert same(outcome[column], expected[column]), (rule_set.name, outcome["inquiry_id"], column)
    accounts = {rate["account_id"] for rate in rates}
    assert accounts >= {None, *facts.accounts}
    expected_rates = {as_of: recount.rates_then(as_of, now) for as_of in {rate["as_of"] for rate in rates}}
    for rate in rates:
        expected = expected_rates[rate["as_of"]][rate["account_id"]]
        for column in RATE_COLUMNS:
            assert same(rate[column], expected[column]), (rule_set.name, rate["as_of"], rate["account_id"], column)


def random_facts(seed: int, now: datetime) -> CompanyFacts:
    """A company in which every rule applies to something; many instants are at the limits of the rules."""
    chance = random.Random(seed)
    accounts = ["a", "b", "c"][: chance.randint(1, 3)]
    facts = CompanyFacts(accounts=set(accounts))
    edges = [0, -1, 1, -300, -301, 86_400, 86_401, 86_399, 3600, 40_000, 200_000]

    def near(at: datetime) -> datetime:
        return at + timedelta(seconds=chance.choice(edges), microseconds=chance.choice([0, 0, 1, -1]))

    for number in range(chance.randint(1, 25)):
        day = date(2026, 11, 24) - timedelta(days=chance.choice([0, 1, 2, 3, 5, 6, 23, 24, 34, 35, 36, 40]))
        start = datetime(
            day.year, day.month, day.day, chance.choice([0, 7, 8, 23]), chance.choice([0, 0, 30, 59]), tzinfo=UTC
        )
        received = min(start, now - timedelta(seconds=chance.choice([0, 1, 86_400])))
        asked = AskedInquiry(
            f"i{number}", chance.choice(accounts), received, f"b{chance.randint(0, 4)}",
            thread_id=chance.choice([None, "t1", "t2"]), from_china=chance.random() < 0.05,
            reachable=chance.random() < 0.8,
        )  # fmt: skip
        facts.asked.append(asked)
        for _ in range(chance.choice([0, 0, 1, 1, 2])):
            mail = chance.random() < 0.75
            facts.replied.append(
                GivenReply(
                    asked.inquiry_id, f"r{chance.randint(0, 40)}", "mail" if mail else "platform", chance.choice(accounts), near(received),
                    chance.choice(["human", "human", "automatic", "bulk", "bounce", "forward"] if mail else ["human", "automatic"]),
                    chance.choice(["in-reply-to", "references", "relay-address", "buyer-address"]) if mail else "platform",
                    chance.choice(["m1", "a-m0", "b-m0", "c-m1"]) if mail else "", chance.choice(["verified", "backfill", "suspect"]) if mail else "",
                    chance.choice(["", "", "", "from-buyer"]) if mail else "",
                )
            )  # fmt: skip
        for _ in range(chance.choice([0, 0, 0, 1, 2])):
            facts.marked.append(StatusMark(asked.inquiry_id, chance.choice(STATUSES), near(received)))
        if chance.random() < 0.1:
            facts.marked.append(StatusMark(asked.inquiry_id, "reassigned", near(received), chance.choice(accounts)))
    for account in accounts:
        for box in range(chance.choice([0, 1, 1, 2])):
            connected = now - timedelta(days=chance.choice([0, 1, 10, 50]), seconds=chance.randint(0, 9))
            facts.covered.append(CoveredInterval(account, f"{account}-m{box}", connected, connected))
            reached = connected - timedelta(days=60)
            for step in range(chance.randint(0, 4)):
                low = chance.choice([connected - timedelta(days=60), reached, reached + timedelta(hours=1)])
                low = min(low, now)
                reached = min(now, max(reached, low) + timedelta(days=chance.choice([1, 20, 60])))
                recorded = min(
                    now + timedelta(seconds=1), connected + timedelta(seconds=step + 1 + chance.choice([0, 90_000]))
                )
                facts.covered.append(
                    CoveredInterval(account, f"{account}-m{box}", connected, recorded, None, low, reached)
                )
            if chance.random() < 0.2:
                removed = now - timedelta(hours=chance.choice([1, 30]))
                facts.covered.append(
                    CoveredInterval(
                        account,
                        f"{account}-m{box}",
                        connected,
                        now - timedelta(microseconds=1),
                        removed,
                        reached,
                        reached,
                    )
                )
        if chance.random() < 0.2:
            since = now - timedelta(days=chance.choice([1, 20, 60]))
            facts.covered.append(CoveredInterval(account, None, since, since, None, since))
    # Ties of recorded_at are decided by the order of the lines; the recount expects distinct ones.
    facts.covered = [
        replace(line, recorded_at=line.recorded_at + timedelta(microseconds=number))
        for number, line in enumerate(sorted(facts.covered, key=lambda line: line.recorded_at))
    ]
    return facts


@pytest.mark.parametrize("seed", range(40))
def test_random_facts_are_judged_as_the_recount_says(dsn: str, seed: int) -> None:
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    facts = random_facts(seed, now)
    with connect(dsn, "tests") as connection:
        put(connection, "c1", facts)
        for rule_set in RULES:
            assert_equal(connection, "c1", facts, rule_set, now)


def test_judging_again_at_another_instant_equals_judging_at_once(postgres: Callable[[], str]) -> None:
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    for seed in (100, 101, 102):
        facts = random_facts(seed, now)
        with connect(postgres(), "tests") as connection:
            put(connection, "c1", facts)
            for earlier in (now - timedelta(days=3), now - timedelta(hours=5)):
                for rule_set in RULES:
                    judged(connection, "c1", rule_set, earlier)
            for rule_set in RULES:
                assert_equal(connection, "c1", facts, rule_set, now)


@pytest.mark.parametrize("seed", range(200, 212))
def test_judging_only_the_touched_days_equals_judging_everything(dsn: str, seed: int) -> None:
    """Facts arrive in any order over six days; each refresh knows the earliest change. A full judgement changes nothing."""
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    facts, chance = random_facts(seed, now), random.Random(seed)
    steps = [now - timedelta(days=6), now - timedelta(days=5, hours=20), now - timedelta(hours=30), now]

    def step_of(at: datetime) -> int:
        return chance.choice([number for number, step in enumerate(steps) if at < step] or [len(steps) - 1])

    parts = [CompanyFacts(facts.accounts) for _ in steps]
    for asked in facts.asked:
        parts[step_of(asked.received_at)].asked.append(asked)
    for mark in set(facts.marked):
        parts[step_of(mark.at)].marked.append(mark)
    for reply in set(facts.replied):
        parts[step_of(reply.replied_at)].replied.append(reply)
    for line in facts.covered:
        parts[next((n for n, step in enumerate(steps) if line.recorded_at < step), len(steps) - 1)].covered.append(line)
    with connect(dsn, "tests") as connection:
        for step, part in zip(steps, parts, strict=True):
            put(connection, "c1", part)
            instants = [inquiry.received_at for inquiry in part.asked]
            instants += [status.at for status in part.marked] + [reply.replied_at for reply in part.replied]
            for rule_set in RULES:
                with connection.transaction():
                    judge.judge_companies(connection, rule_set, {"c1": Delta(min(instants, default=None))}, now=step)
        for rule_set in RULES:
            with connection.transaction():
                full = judge.judge_companies(connection, rule_set, {"c1": Delta()}, now=now)
            assert (full.outcomes_changed, full.rates_written) == (0, 0)
            assert_equal(connection, "c1", facts, rule_set, now)


def single(connection: psycopg.Connection, facts: CompanyFacts, rule_set: RuleSet, now: datetime) -> dict[str, Any]:
    put(connection, "c1", facts)
    outcomes, _ = judged(connection, "c1", rule_set, now)
    return {outcome["inquiry_id"]: outcome for outcome in outcomes}


def mail(inquiry_id: str, at: datetime, kind: str = "human") -> GivenReply:
    return GivenReply(inquiry_id, f"re-{inquiry_id}", "mail", "a", at, kind, "in-reply-to", "m", "verified")


def test_a_reply_answers_the_units_of_both_pacific_days(dsn: str) -> None:
    evening = datetime(2026, 11, 10, 22, 50, tzinfo=PACIFIC).astimezone(UTC)
    midnight = datetime(2026, 11, 11, 0, 10, tzinfo=PACIFIC).astimezone(UTC)
    reply = datetime(2026, 11, 11, 1, 0, tzinfo=PACIFIC).astimezone(UTC)
    facts = CompanyFacts(
        {"a"},
        [AskedInquiry("one", "a", evening, "b"), AskedInquiry("two", "a", midnight, "b")],
        [],
        [mail("one", reply), mail("two", reply)],
    )
    with connect(dsn, "tests") as connection:
        rows = single(connection, facts, DEFAULT, datetime(2026, 11, 20, tzinfo=UTC))
    assert [rows[name]["outcome"] for name in ("one", "two")] == ["timely", "timely"]
    assert rows["one"]["unit_day"] != rows["two"]["unit_day"]


@pytest.mark.parametrize(
    ("seconds", "outcome", "bucket"),
    [(86_400, "timely", 24), (86_400.000001, "late", 25), (0, "timely", 1), (3600.5, "timely", 2)],
)
def test_an_answer_exactly_at_the_target_is_in_time(dsn: str, seconds: float, outcome: str, bucket: int) -> None:
    start = datetime(2026, 11, 10, 12, tzinfo=UTC)
    facts = CompanyFacts(
        {"a"}, [AskedInquiry("one", "a", start, "b")], [], [mail("one", start + timedelta(seconds=seconds))]
    )
    with connect(dsn, "tests") as connection:
        rows = single(connection, facts, PLAIN, datetime(2026, 11, 20, tzinfo=UTC))
        buckets = connection.execute(
            "SELECT DISTINCT bucket FROM report_v1.reply_time_histogram WHERE answered > 0 AND level = 'company' AND company_id = 'c1'"
        ).fetchall()
    assert rows["one"]["outcome"] == outcome
    assert buckets == [(bucket,)]


def test_nothing_counted_gives_no_rate_and_automatic_replies_are_no_answer(dsn: str) -> None:
    start = datetime(2026, 11, 10, 12, tzinfo=UTC)
    covered = [CoveredInterval("a", "m", start, start, None, start - timedelta(days=9), start + timedelta(days=9))]
    facts = CompanyFacts(
        {"a"},
        [AskedInquiry("one", "a", start, "b")],
        [],
        [mail("one", start + timedelta(hours=1), "automatic")],
        covered,
    )
    with connect(dsn, "tests") as connection:
        rows = single(connection, facts, PLAIN, datetime(2026, 11, 20, tzinfo=UTC))
        assert (rows["one"]["outcome"], rows["one"]["reason"]) == ("unanswered", "only-automatic-replies")
        rates = connection.execute(
            "SELECT as_of, rate, counted, pending FROM report_v1.reply_rate WHERE level = 'company' ORDER BY as_of"
        ).fetchall()
    assert rates[0][1:] == (None, 0, 1)
    assert rates[-1][1:] == (0, 1, 0)


def test_units_without_coverage_are_unmeasured_and_give_no_rate(dsn: str) -> None:
    start = datetime(2026, 11, 10, 12, tzinfo=UTC)
    facts = CompanyFacts({"a"}, [AskedInquiry("one", "a", start, "b")])
    with connect(dsn, "tests") as connection:
        rows = single(connection, facts, PLAIN, datetime(2026, 11, 20, tzinfo=UTC))
        rate = connection.execute(
            "SELECT rate, unmeasured, coverage FROM report_v1.reply_rate_latest WHERE level = 'company'"
        ).fetchone()
    assert rows["one"]["outcome"] == "unmeasured"
    assert rate == (None, 1, 0)


def test_versions_of_ended_days_are_kept_and_those_of_the_running_day_are_not(dsn: str) -> None:
    start = datetime(2026, 11, 10, 12, tzinfo=UTC)
    facts = CompanyFacts({"a"}, [AskedInquiry("one", "a", start, "b")])
    with connect(dsn, "tests") as connection:
        put(connection, "c1", facts)
        judged(connection, "c1", PLAIN, datetime(2026, 11, 12, 6, tzinfo=UTC))
        connection.execute(
            "INSERT INTO ledger.replies (company_id, inquiry_id, reply_id, source, account_id, mailbox_id, replied_at, evidence, kind, matched_by)"
            " VALUES ('c1', 'one', 'r', 'mail', 'a', 'm', %s, 'verified', 'human', 'in-reply-to')", (start + timedelta(hours=1),)
        )  # fmt: skip
        judged(connection, "c1", PLAIN, datetime(2026, 11, 12, 7, tzinfo=UTC))
        versions = connection.execute(
            "SELECT as_of, count(*), count(*) FILTER (WHERE valid_to IS NULL) FROM report_v1.reply_rate_history"
            " WHERE level = 'company' GROUP BY as_of ORDER BY as_of"
        ).fetchall()
    assert versions == [(date(2026, 11, 10), 2, 1), (date(2026, 11, 11), 2, 1), (date(2026, 11, 12), 1, 1)]


def test_a_deactivated_rule_set_shows_no_number_and_stays_inactive(dsn: str) -> None:
    """Its rates are in the history, its outcomes are deleted; a start does not activate it again, an operator does."""
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    facts = CompanyFacts(accounts={"a"}, asked=[AskedInquiry("i1", "a", now - timedelta(days=9), "b1")])
    default, second = rules.load_builtin("default"), rules.load_builtin("first-reply-24h")
    with connect(dsn, "tests") as connection:
        put(connection, "c1", facts)
        connection.execute("INSERT INTO ledger.companies (company_id) VALUES ('c1')")
        refresher = Refresher(connection, [default, second])
        refresher.activate()
        while refresher.refresh():
            pass

        def counted() -> dict[str, int]:
            rows = connection.execute(
                "SELECT rule_set, count(*) FROM report_v1.reply_rate GROUP BY rule_set"
            ).fetchall()
            return dict(rows)

        assert set(counted()) == {"default", "first-reply-24h"}
        assert recompute.deactivate(connection, "first-reply-24h") and not recompute.deactivate(
            connection, "first-reply-24h"
        )
        assert set(counted()) == {"default"}
        history = connection.execute(
            "SELECT count(*) FROM report_v1.reply_rate_history WHERE rule_set = 'first-reply-24h'"
        ).fetchone()
        assert history is not None and history[0] > 0
        left = connection.execute("SELECT DISTINCT rule_set FROM report_v1.inquiry_outcomes").fetchall()
        assert left == [("default",)]
        refresher.activate()
        recompute.activate(connection, default)
        connection.execute("INSERT INTO ledger.dirty (company_id) VALUES ('c1')")
        while refresher.refresh():
            pass
        assert set(counted()) == {"default"}
        assert recompute.activate(connection, second)
        while refresher.refresh():
            pass
        assert set(counted()) == {"default", "first-reply-24h"}


def test_every_view_and_column_has_a_comment(dsn: str) -> None:
    with connect(dsn, "tests") as connection:
        bare = connection.execute(
            "SELECT c.relname, a.attname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
            " WHERE n.nspname = 'report_v1' AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL)"
        ).fetchall()
    assert bare == []
