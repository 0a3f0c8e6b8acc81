"""Rates stored in ranges of days: every view says what it says of an installation with a row for each day."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest
from msgspec.structs import replace as replace_fields

from services.aggregator.judge import judge, plan, rate_ranges, rules
from services.aggregator.judge.plan import Delta
from services.aggregator.refresh import recompute
from services.aggregator.refresh.refresh import SQL as REFRESH
from services.aggregator.refresh.refresh import Refresher
from services.common.errors import TransientError
from services.common.events import CompanyErased, HashedBuyer, InquiryReplies, ReplyFact
from services.common.postgres import connect
from tests.integration.test_final_numbers import merge
from tests.support.processes import until
from tests.support.rates import keep_days

DEFAULT = rules.load_builtin("default")
RULES = (
    DEFAULT,
    replace_fields(DEFAULT, name="short", time_zone="UTC", settle_days=0, window_days=3, target_seconds=20_000, min_coverage=0.0),
    replace_fields(
        rules.load_builtin("first-reply-24h"), name="widened",
        small_sample=rules.SmallSample(mode="widen", min_counted=3, max_days=40),
    ),
)  # fmt: skip
BEGIN = datetime(2026, 9, 20, tzinfo=UTC)
VIEWS = ("reply_rate", "reply_rate_latest", "reply_rate_history", "reply_time_histogram", "corrections", "reply_daily")
INSTANTS = ("computed_at", "valid_from", "valid_to", "changed_at")


@pytest.fixture
def installations(postgres: Callable[[], str]) -> Iterator[list[psycopg.Connection]]:
    """A row for each day; ranges from the beginning; ranges from some day on."""
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(postgres(), "tests")) for _ in range(3)]
        for connection in (connections[0], connections[2]):
            keep_days(connection)
        yield connections


def begin_ranges(connection: psycopg.Connection) -> None:
    connection.execute("UPDATE ledger.rates_form SET in_ranges_from = '-infinity'")
    assert rate_ranges.keep(connection)


def shown(connection: psycopg.Connection, *left_out: str) -> dict[str, list[str]]:
    """Every row of every view with rates, as text: also the digits of a number are compared."""
    drop = "".join(f" - '{name}'" for name in left_out)
    text = f"(to_jsonb(shown){drop})::text" if left_out else "shown::text"
    return {
        view: [
            rate_text
            for (rate_text,) in connection.execute(f"SELECT {text} FROM report_v1.{view} shown ORDER BY 1".encode())
        ]
        for view in VIEWS
    }


def some_facts(chance: random.Random, until: datetime, number: int) -> InquiryReplies:
    """An inquiry of any day until then, or one that is known already with another answer."""
    inquiry_id = f"i{number if chance.random() < 0.7 else chance.randrange(number + 1)}"
    of_inquiry = random.Random(inquiry_id)
    received_at = min(BEGIN + timedelta(days=40) * of_inquiry.random(), until - timedelta(hours=1))
    replied_at = received_at + timedelta(hours=of_inquiry.choice([0.5, 3, 30]) * chance.uniform(0.5, 1.5))
    reply = ReplyFact(
        reply_id=f"{inquiry_id}-{chance.randrange(2)}", source="mail", account_id=of_inquiry.choice("ab"), mailbox_id="m1",
        replied_at=replied_at, evidence="verified", kind="human", matched_by="in-reply-to",
    )  # fmt: skip
    return InquiryReplies(
        company_id="c1", inquiry_id=inquiry_id, account_id=of_inquiry.choice("aab"), received_at=received_at,
        buyer=HashedBuyer(id=f"buyer-{of_inquiry.randrange(6)}"), channel="inquiry", facts_id=f"{1:032x}",
        replies=(reply,) if replied_at < until and chance.random() < 0.6 else (),
    )  # fmt: skip


def judge_all(connection: psycopg.Connection, now: datetime, delta: Delta) -> None:
    for rule_set in RULES:
        with connection.transaction():
            if delta.cause == plan.ERASE:
                connection.execute(REFRESH["erase_history"], {"company_id": "c1", "since": now})
            judge.judge_companies(connection, rule_set, {"c1": delta}, now=now)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_shown_of_a_history_does_not_depend_on_the_form(
    installations: list[psycopg.Connection], seed: int
) -> None:
    days, ranges, later = installations
    for connection in installations:
        for rule_set in RULES:
            recompute.activate(connection, rule_set)
    chance = random.Random(seed)
    now, number = BEGIN + timedelta(days=2), 0
    seen: set[str] = set()
    begins = chance.randrange(4, 10)
    for step in range(16):
        now += timedelta(days=chance.choice([0, 0, 0.3, 1, 1, 1, 5]), hours=chance.random())
        facts: list[InquiryReplies | CompanyErased] = []
        for _ in range(chance.choice([0, 0, 1, 4])):
            number += 1
            facts.append(some_facts(chance, now, number))
        cause = plan.LATE_FACT
        if step == 11:
            facts, cause = (
                [CompanyErased(company_id="c1", at=BEGIN + timedelta(days=chance.randrange(1, 8)))],
                plan.ERASE,
            )
        touched = min(
            (fact.received_at for fact in facts if isinstance(fact, InquiryReplies) and fact.received_at), default=None
        )
        earliest = plan.EVERYTHING if cause == plan.ERASE or chance.random() < 0.2 else touched
        if step == begins:
            begin_ranges(later)
        for connection in installations:
            if facts:
                merge(connection, *facts)
            judge_all(connection, now, Delta(earliest, cause, received_from=touched))
        expected = shown(days)
        seen |= {view for view in VIEWS if expected[view]}
        assert shown(ranges) == expected, step
        assert shown(later) == expected, step
    assert seen == {*VIEWS}
    # What no judgement has touched is moved as well.
    connection = days
    begin_ranges(connection)
    assert recompute.move_days(connection) == ["c1"] and recompute.move_days(connection) == []
    assert shown(connection) == expected
    for connection in installations:
        assert connection.execute("SELECT count(*) FROM ledger.rates").fetchone() == (0,)


def test_rates_of_an_earlier_release_are_moved_month_by_month(installations: list[psycopg.Connection]) -> None:
    """So that no statement moves all of a large company; judgements go on with both forms, and what is shown stays."""
    days, _, later = installations
    rule_set, erased_at = RULES[1], BEGIN - timedelta(days=36)

    def judged(now: datetime, delta: Delta, *facts: InquiryReplies | CompanyErased) -> None:
        for connection in (days, later):
            if facts:
                merge(connection, *facts)
            with connection.transaction():
                if delta.cause == plan.ERASE:
                    connection.execute(REFRESH["erase_history"], {"company_id": "c1", "since": now})
                judge.judge_companies(connection, rule_set, {"c1": delta}, now=now)
        assert shown(later) == shown(days)

    for connection in (days, later):
        recompute.activate(connection, rule_set)
    for day in range(-38, 72, 3):
        now = BEGIN + timedelta(days=day)
        judged(now, Delta(now - timedelta(days=4)), some_facts(random.Random(day), now, day + 38))
    begin_ranges(later)
    judged(BEGIN + timedelta(days=72), Delta(None))
    assert months_of_days(later) == [8, 9, 10], "only the months of the judged days are moved"
    judged(BEGIN + timedelta(days=73), Delta(BEGIN + timedelta(days=66)))
    assert months_of_days(later) == [8, 9, 10]
    ((first_before,),) = later.execute("SELECT min(as_of) FROM report_v1.reply_rate").fetchall()
    judged(BEGIN + timedelta(days=74), Delta(cause=plan.ERASE), CompanyErased(company_id="c1", at=erased_at))
    ((first,),) = later.execute("SELECT min(as_of) FROM report_v1.reply_rate").fetchall()
    assert first > first_before and months_of_days(later) == [8, 9]
    # A rule set that is not stored any more is moved like another.
    for connection in (days, later):
        connection.execute("UPDATE ledger.rates SET rule_set = 'forgotten' WHERE as_of < '2026-10-01'")
    expected = shown(days)
    for months in ([9], []):
        assert recompute.move_days(later, most_rows=1) == ["c1"]
        assert months_of_days(later) == months and shown(later) == expected
    assert recompute.move_days(later) == []


def months_of_days(connection: psycopg.Connection) -> list[int]:
    """The months of which rows are stored as by an earlier release."""
    rows = connection.execute("SELECT DISTINCT date_part('month', as_of)::integer FROM ledger.rates ORDER BY 1")
    return [month for (month,) in rows.fetchall()]


def test_rates_that_cannot_be_moved_put_their_company_in_quarantine(installations: list[psycopg.Connection]) -> None:
    connection, _, _ = installations
    recompute.activate(connection, RULES[1])
    first = some_facts(random.Random(1), BEGIN + timedelta(hours=2), 1)
    merge(connection, first, replace_fields(first, company_id="c2"))
    for company_id in ("c1", "c2"):
        with connection.transaction():
            judge.judge_companies(connection, RULES[1], {company_id: Delta()}, now=BEGIN + timedelta(days=2))
    connection.execute("UPDATE ledger.companies SET due_at = NULL, diagnose_again_at = NULL; TRUNCATE ledger.dirty")
    connection.execute("UPDATE ledger.rates SET inquiries = 3e9 WHERE company_id = 'c1'")  # more than a range can hold
    begin_ranges(connection)
    refresher = Refresher(connection, [])
    for _ in range(3):
        assert refresher.refresh()
    assert not refresher.refresh()
    assert connection.execute("SELECT DISTINCT company_id FROM ledger.rates").fetchall() == [("c1",)]
    assert connection.execute("SELECT DISTINCT company_id FROM ledger.rate_ranges").fetchall() == [("c2",)]


def test_a_recompute_and_a_deactivation_do_not_depend_on_the_form(installations: list[psycopg.Connection]) -> None:
    chance = random.Random(5)
    now = BEGIN + timedelta(days=30, hours=3)
    facts = [some_facts(chance, now, number) for number in range(30)]
    for connection in installations:
        for rule_set in RULES:
            recompute.activate(connection, rule_set)
        merge(connection, *facts[:20])
        judge_all(connection, now, Delta())
        merge(connection, *facts[20:])
        assert recompute.start(connection, RULES[1], date(2026, 10, 3), date(2026, 10, 12))
    begin_ranges(installations[2])
    for connection in installations:
        assert recompute.step(connection) == ["c1"]
        assert [rule_set.name for rule_set in recompute.publish(connection)] == ["short"]
    expected, *by_ranges = (shown(connection, *INSTANTS) for connection in installations)
    assert expected["corrections"] and by_ranges == [expected, expected]
    for connection in installations:
        assert recompute.deactivate(connection, "widened")
    expected, *by_ranges = (shown(connection, *INSTANTS) for connection in installations)
    assert by_ranges == [expected, expected]
    assert any("widened" in rate for rate in expected["reply_rate_history"])
    assert not any("widened" in rate for rate in expected["reply_rate"])


def test_a_deactivation_ends_every_rate_at_the_same_instant(installations: list[psycopg.Connection]) -> None:
    """Also that of a company whose first day still runs; days that say the same stay one row."""
    now = BEGIN + timedelta(days=70, hours=3)
    first = some_facts(random.Random(1), BEGIN + timedelta(hours=2), 1)
    for connection in installations:
        recompute.activate(connection, DEFAULT)
        merge(connection, first, replace_fields(first, company_id="c2", received_at=now - timedelta(hours=1)))
    begin_ranges(installations[2])
    for connection in installations:
        with connection.transaction():
            judge.judge_companies(connection, DEFAULT, {"c1": Delta(), "c2": Delta()}, now=now)
        # What statements are allowed to take meanwhile.
        connection.execute(
            "CREATE TABLE public.allowed (seconds text); CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO public.allowed VALUES (current_setting('statement_timeout')); RETURN NULL; END $$;"
            "CREATE TRIGGER note AFTER DELETE ON ledger.outcomes EXECUTE FUNCTION public.note()"
        )
        assert recompute.deactivate(connection, "default")
        assert connection.execute("SELECT count(*) FROM report_v1.reply_rate").fetchone() == (0,)
        assert connection.execute(
            "SELECT count(DISTINCT valid_to), count(DISTINCT company_id) FROM report_v1.reply_rate_history"
        ).fetchone() == (1, 1)
        assert connection.execute("SELECT DISTINCT seconds FROM public.allowed").fetchall() == [("1h",)]
    expected, *by_ranges = (shown(connection, *INSTANTS) for connection in installations)
    assert len(expected["reply_rate_history"]) >= 2 * 70 and by_ranges == [expected, expected]
    for connection in installations[1:]:
        ((ranges,),) = connection.execute("SELECT count(*) FROM ledger.rate_ranges").fetchall()
        assert ranges <= 2 * 8


def test_days_that_say_the_same_are_one_row(installations: list[psycopg.Connection]) -> None:
    """Of a quiet account a month is one row, also when each day was judged at its own time."""
    _, connection, _ = installations
    recompute.activate(connection, DEFAULT)
    merge(connection, some_facts(random.Random(1), BEGIN + timedelta(hours=2), 1))
    for day in range(2, 72):
        with connection.transaction():
            delta = Delta() if day == 2 else Delta(None)
            judge.judge_companies(connection, DEFAULT, {"c1": delta}, now=BEGIN + timedelta(days=day))
    ((rows, ranges),) = connection.execute(
        "SELECT (SELECT count(*) FROM report_v1.reply_rate), (SELECT count(*) FROM ledger.rate_ranges)"
    )
    assert rows >= 2 * 70 and ranges <= 2 * 8
    for view, is_expanded in (("reply_rate", True), ("reply_rate_latest", False)):
        steps = connection.execute(f"EXPLAIN SELECT * FROM report_v1.{view}".encode()).fetchall()
        assert any("unnest" in step for (step,) in steps) == is_expanded, view


def test_an_earlier_release_cannot_write_once_ranges_are_stored(installations: list[psycopg.Connection]) -> None:
    connection, _, _ = installations
    assert not rate_ranges.keep(connection)
    begin_ranges(connection)
    assert connection.execute(
        "SELECT additive FROM replyrate.migrations WHERE name = 'rates_in_ranges'"
    ).fetchone() == (False,)
    for statement in (
        "INSERT INTO ledger.rates DEFAULT VALUES",
        "UPDATE ledger.rates SET late = 1",
        "DELETE FROM ledger.rates",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute("SET LOCAL ROLE replyrate_aggregator")
            connection.execute(statement.encode())


def test_a_judgement_during_which_ranges_begin_is_repeated(postgres: Callable[[], str]) -> None:
    """As is every other one with the form of before; an aggregator that is never idle begins them as well."""
    dsn = postgres()
    with connect(dsn, "judging") as judging, connect(dsn, "busy") as busy:
        keep_days(busy)
        recompute.activate(busy, DEFAULT)
        merge(busy, some_facts(random.Random(1), datetime.now(UTC) - timedelta(hours=2), 1))
        busy.execute("UPDATE ledger.rates_form SET in_ranges_from = '-infinity'")
        with pytest.raises(TransientError), judging.transaction():
            judging.execute("SET LOCAL ROLE replyrate_aggregator")
            with rate_ranges.touched_days(judging, {}) as table:
                assert table == "rates" and Refresher(busy, []).refresh()
                judging.execute("DELETE FROM ledger.rates")
        assert busy.execute("SELECT in_ranges FROM ledger.rates_form").fetchone() == (True,)


def test_an_empty_table_is_freed_without_the_rows_that_are_just_written(postgres: Callable[[], str]) -> None:
    dsn = postgres()
    with connect(dsn, "idle") as connection, connect(dsn, "judging") as judging, ThreadPoolExecutor() as pool:
        with judging.transaction():
            judging.execute(
                "INSERT INTO ledger.rates (rule_set, rule_version, level, company_id, account_id, as_of, window_start, window_end,"
                " inquiries, excluded, counted, timely, late, unanswered, unmeasured, pending, state, computed_at, valid_from)"
                " VALUES ('default', '1', 'company', 'c1', '', '2026-09-20', '2026-09-20', '2026-09-20',"
                " 0, 0, 0, 0, 0, 0, 0, 0, 'final', now(), now())"
            )
            freed = pool.submit(rate_ranges.keep, connection)
            waiting = (
                "SELECT FROM pg_locks WHERE relation = 'ledger.rates'::regclass AND NOT granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            # It waits for this transaction, or gives up and tries again in an hour.
            until(
                lambda: freed.done() or judging.execute(waiting).fetchall() != [],
                30, "the table is locked",
            )  # fmt: skip
        assert freed.result()
        assert judging.execute("SELECT count(*) FROM ledger.rates").fetchone() == (1,)
        judging.execute("DELETE FROM ledger.rates")
        assert rate_ranges.keep(connection)
        assert judging.execute("SELECT pg_relation_size('ledger.rates')").fetchone() == (0,)


def test_temporary_tables_of_other_columns_are_replaced(installations: list[psycopg.Connection]) -> None:
    """A session may have those of before a migration that added a column."""
    _, connection, _ = installations
    judge.prepare(connection)
    connection.execute("ALTER TABLE pg_temp.loaded_range DROP COLUMN buckets")
    judge.prepare(connection)
    assert connection.execute("SELECT buckets FROM pg_temp.loaded_range").fetchall() == []
