"""Coverage in bounded rows: nothing that can be asked differs from a history with a row for every poll."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace as replace_fields
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from services.aggregator import explain
from services.aggregator.explain import explain_inquiry
from services.aggregator.judge import judge, plan, rules
from services.aggregator.judge.plan import Delta
from services.aggregator.judge.rules import RuleSet
from services.common.lifecycle import Stop
from services.common.postgres import connect
from services.recount.company import AskedInquiry, CompanyFacts, CompanyRecount, CoveredInterval, GivenReply
from services.registry import retention
from services.registry.coverage import MOST_OPEN, MOST_WAITING, CoverageRecords, PolledSpan
from services.standalone.demo.comparison import OUTCOME_COLUMNS, RATE_COLUMNS, same
from tests.integration.test_judge import put

DEFAULT = rules.load_builtin("default")
RULES = [
    DEFAULT,
    rules.load_builtin("first-reply-24h"),
    rules.load_builtin("alibaba-2021"),
    replace_fields(DEFAULT, name="kathmandu", time_zone="Asia/Kathmandu", settle_days=0, min_coverage=0.0),
    replace_fields(
        DEFAULT,
        name="short",
        time_zone="UTC",
        settle_days=0,
        target_seconds=5_000,
        unit="each-inquiry",
        min_coverage=0.0,
    ),
]
BEGIN = datetime(2026, 10, 28, 5, tzinfo=UTC)
"""Some days before the clocks change in Los Angeles."""
ZONES = {"UTC", "America/Los_Angeles", "Asia/Shanghai", "Asia/Kathmandu"}
COMPACT, TWIN = "c1", "c2"
"""The same company twice: its coverage as the fetcher writes it, and with a row for every poll."""
COMPARED = {
    "rates": "SELECT * FROM report_v1.reply_rate_history WHERE company_id = %s ORDER BY rule_set, account_id, as_of, valid_from",
    "outcomes": "SELECT * FROM ledger.outcomes WHERE company_id = %s ORDER BY rule_set, inquiry_id",
    "history": "SELECT * FROM ledger.outcome_history WHERE company_id = %s ORDER BY rule_set, inquiry_id, revision",
    "corrections": "SELECT * FROM ledger.corrections WHERE company_id = %s ORDER BY rule_set, account_id, as_of, column_name, changed_at",
    "settled": "SELECT * FROM ledger.settled WHERE company_id = %s ORDER BY rule_set",
}


@dataclass(slots=True)
class Box:
    """A mailbox of the simulation."""

    mailbox_id: str
    connected_at: datetime
    from_at: datetime
    next_poll_at: datetime
    through_at: datetime | None = None


@dataclass(slots=True)
class History:
    """A simulated company: polls at random times, and the watermark that follows them."""

    connection: psycopg.Connection
    chance: random.Random
    coverage: CoverageRecords
    boxes: list[Box]
    interval: timedelta
    lag_polls: int
    now: datetime = BEGIN
    passed_at: datetime = BEGIN
    recorded: list[CoveredInterval] = field(default_factory=list)
    polled_at: list[datetime] = field(default_factory=list)

    def run(self, until: datetime) -> None:
        """Poll what is due until an instant."""
        while (box := min(self.boxes, key=lambda each: each.next_poll_at)).next_poll_at < until:
            self.now = max(self.now, box.next_poll_at)
            self.poll(box)
            self.advance()
        self.now = until

    def poll(self, box: Box) -> None:
        """One poll, which may fail, show more of the past than before, or find another mailbox under the same id."""
        chance = self.chance
        pause = self.interval * chance.uniform(0.8, 1.2)
        if chance.random() < 0.02:
            pause += timedelta(hours=chance.choice([2, 9, 30]))
        started = self.now
        self.now += min(self.interval / 3, timedelta(seconds=chance.uniform(0.1, 200)))
        box.next_poll_at = self.now + pause
        if chance.random() < 0.1:
            return
        if chance.random() < 0.01:
            box.connected_at, box.from_at = started, started - timedelta(days=chance.choice([0, 2, 20]))
            self.both(box, None, None)
            self.now += timedelta(microseconds=1)
        if chance.random() < 0.02:
            box.from_at -= timedelta(days=1)
        box.through_at = max(started, box.from_at)
        self.coverage.record(
            [PolledSpan(COMPACT, "a", box.mailbox_id, box.connected_at, box.from_at, box.through_at)], self.now
        )
        self.both(box, box.from_at, box.through_at, (TWIN,))
        self.connection.execute(
            "UPDATE registry.mailboxes SET complete_from = %s, complete_through = %s, last_success_at = %s, connected_at = %s"
            " WHERE mailbox_id = %s",
            (box.from_at, box.through_at, self.now, box.connected_at, box.mailbox_id),
        )
        self.polled_at.append(self.now)

    def both(
        self,
        box: Box,
        from_at: datetime | None,
        through_at: datetime | None,
        companies: tuple[str, ...] = (COMPACT, TWIN),
    ) -> None:
        """Rows as releases before wrote them."""
        for company_id in companies:
            self.connection.execute(
                "INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at, through_at, recorded_at)"
                " VALUES (%s, 'a', %s, %s, %s, %s, %s)",
                (company_id, box.mailbox_id, box.connected_at, from_at, through_at, self.now),
            )
        self.recorded.append(
            CoveredInterval("a", box.mailbox_id, box.connected_at, self.now, None, from_at, through_at)
        )

    def advance(self) -> None:
        """The watermark moves to a random instant since it was moved last; it is behind by a few polls at most."""
        polls = self.polled_at[-self.lag_polls * len(self.boxes) :]
        low = max(self.passed_at, polls[0] if polls and self.lag_polls else self.passed_at)
        self.passed_at = low + (self.now - low) * self.chance.random()
        self.connection.execute("UPDATE ledger.pipeline SET passed_at = %s", (self.passed_at,))

    def judge(self, delta: Delta) -> None:
        """Judge both companies by every rule set."""
        for rule_set in RULES:
            with self.connection.transaction():
                judge.judge_companies(
                    self.connection, rule_set, {COMPACT: delta, TWIN: delta}, now=self.now + timedelta(microseconds=1)
                )


def history(connection: psycopg.Connection, seed: int, interval: timedelta, mailboxes: int = 2) -> History:
    """A company with mailboxes that are connected, and rule sets that are active, before anything happens."""
    chance = random.Random(seed)
    boxes = [Box(f"m{number}", BEGIN, BEGIN - timedelta(days=60), BEGIN) for number in range(mailboxes)]
    connection.execute("INSERT INTO ledger.pipeline (partition, passed_at) VALUES (0, %s)", (BEGIN,))
    for rule_set in RULES:
        connection.execute(
            "INSERT INTO ledger.rule_sets (name, identity, parameters) VALUES (%s, %s, %s)",
            (rule_set.name, rule_set.identity, Jsonb(rule_set.parameters())),
        )
    for company_id in (COMPACT, TWIN):
        put(connection, company_id, CompanyFacts({"a"}))
        connection.execute("INSERT INTO ledger.companies (company_id, partition) VALUES (%s, 0)", (company_id,))
        for box in boxes:
            connection.execute(
                "INSERT INTO registry.mailboxes (company_id, mailbox_id, account_id, role, state, address_masked, address_hash, host,"
                " port, login_hash, consent_by, consent_at, consent_text_version, connected_at)"
                " VALUES (%s, %s, 'a', 'registered', 'active', 'x', %s, 'x', 993, %s, 'x', now(), '1', %s)",
                (company_id, box.mailbox_id, company_id + box.mailbox_id, company_id + box.mailbox_id, BEGIN),
            )  # fmt: skip
    simulated = History(connection, chance, CoverageRecords(connection), boxes, interval, MOST_WAITING)
    for box in boxes:
        simulated.both(box, None, None)
    return simulated


def inquiries(chance: random.Random, begin: datetime, until: datetime, number: int, first: int) -> CompanyFacts:
    """Inquiries of a span of time, few of them answered."""
    facts = CompanyFacts({"a"})
    for place in range(number):
        received = begin + (until - begin) * chance.random()
        inquiry_id = f"i{first + place}"
        facts.asked.append(AskedInquiry(inquiry_id, "a", received, f"b{chance.randrange(50)}"))
        if chance.random() < 0.2:
            replied = received + timedelta(hours=chance.uniform(0, 40))
            facts.replied.append(
                GivenReply(
                    inquiry_id, f"r{first + place}", "mail", "a", replied, "human", "in-reply-to", "m0", "verified"
                )
            )
    return facts


def compared(connection: psycopg.Connection, statement: str, company_id: str) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return [
            {name: value for name, value in row_of.items() if name not in ("company_id", "correction_id")}
            for row_of in cursor.execute(statement.encode(), (company_id,)).fetchall()
        ]


def assert_twins(connection: psycopg.Connection) -> None:
    for name, statement in COMPARED.items():
        assert compared(connection, statement, COMPACT) == compared(connection, statement, TWIN), name


def rows_of(connection: psycopg.Connection, company_id: str) -> int:
    counted = connection.execute(
        "SELECT count(*) FROM registry.coverage WHERE company_id = %s", (company_id,)
    ).fetchone()
    assert counted is not None
    return int(counted[0])


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    with connect(dsn, "tests") as connection:
        yield connection


@pytest.mark.parametrize("seed", range(4))
def test_numbers_corrections_and_explanations_equal_those_of_every_poll(
    connection: psycopg.Connection, seed: int
) -> None:
    simulated = history(connection, seed, timedelta(minutes=[40, 90, 240][seed % 3]))
    chance, until, everything = simulated.chance, BEGIN, CompanyFacts({"a"})
    for _ in range(10):
        begin, until = until, until + timedelta(hours=chance.uniform(3, 30))
        simulated.run(until)
        # Some facts become known days after they happened: final rows are corrected.
        late = begin - timedelta(days=chance.choice([0, 0, 1, 4]))
        facts = inquiries(chance, late, until, chance.randrange(6), len(everything.asked))
        everything.asked += facts.asked
        everything.replied += facts.replied
        for company_id in (COMPACT, TWIN):
            put(connection, company_id, facts)
        earliest = min((inquiry.received_at for inquiry in facts.asked), default=None)
        simulated.judge(
            Delta(earliest, received_from=earliest, covered_from=BEGIN) if chance.random() < 0.7 else Delta()
        )
        assert_twins(connection)
    assert rows_of(connection, COMPACT) < rows_of(connection, TWIN)
    # Every day again, as a recompute does it.
    simulated.now += timedelta(seconds=1)
    connection.execute("UPDATE ledger.pipeline SET passed_at = 'infinity'")
    simulated.judge(Delta(plan.EVERYTHING))
    assert_twins(connection)
    for rule_set in RULES:
        assert_recount(simulated, everything, rule_set)
        for inquiry in everything.asked[:: len(RULES)]:
            assert_explained_alike(connection, rule_set, inquiry.inquiry_id)


def assert_recount(simulated: History, facts: CompanyFacts, rule_set: RuleSet) -> None:
    """The recount from the compact rows equals that from every poll, and the rates that SQL has written."""
    with simulated.connection.cursor(row_factory=dict_row) as cursor:
        compact_rows = cursor.execute(
            "SELECT account_id, mailbox_id, connected_at, recorded_at, removed_at, from_at, through_at FROM registry.coverage"
            " WHERE company_id = %s ORDER BY recorded_at, coverage_id", (COMPACT,),
        ).fetchall()  # fmt: skip
        rates = cursor.execute(
            "SELECT * FROM report_v1.reply_rate WHERE company_id = %s AND rule_set = %s", (COMPACT, rule_set.name)
        ).fetchall()
        outcomes = cursor.execute(
            "SELECT * FROM report_v1.inquiry_outcomes WHERE company_id = %s AND rule_set = %s", (COMPACT, rule_set.name)
        ).fetchall()
    now = simulated.now + timedelta(microseconds=1)
    lines = {"compact": [CoveredInterval(**line) for line in compact_rows], "every": simulated.recorded}
    for coverage_lines in lines.values():
        recount = CompanyRecount(
            COMPACT, CompanyFacts({"a"}, facts.asked, [], facts.replied, coverage_lines), rule_set.parameters()
        )
        expected_outcomes = recount.outcomes(now)
        for outcome in outcomes:
            for column in OUTCOME_COLUMNS:
                assert same(outcome[column], expected_outcomes[outcome["inquiry_id"]][column]), (rule_set.name, outcome)
        expected: dict[date, Any] = {}
        for rate in rates:
            expected_rates = expected.setdefault(rate["as_of"], recount.rates_then(rate["as_of"], now))
            for column in RATE_COLUMNS:
                if column != "state":
                    assert same(rate[column], expected_rates[rate["account_id"]][column]), (rule_set.name, rate, column)


def assert_explained_alike(connection: psycopg.Connection, rule_set: RuleSet, inquiry_id: str) -> None:
    explanations = []
    for company_id in (COMPACT, TWIN):
        explanation = explain_inquiry(connection, rule_set, company_id, inquiry_id)
        explanations.append({name: value for name, value in explanation.items() if name not in ("company_id", "now")})
    assert explanations[0] == explanations[1]
    # Inquiries of other buyers are not read for it, and would change nothing.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explain, "SQL", {**explain.SQL, "unit_inquiries": judge.JUDGE["every_inquiry"]})
        of_all = explain_inquiry(connection, rule_set, COMPACT, inquiry_id)
    assert explanations[0] == {name: of_all[name] for name in explanations[0]}


@pytest.mark.parametrize(("seconds", "hours"), [(10, 4), (60, 20), (600, 60), (3600, 200)])
def test_rows_of_a_mailbox_and_day_are_bounded(connection: psycopg.Connection, seconds: int, hours: int) -> None:
    """At any interval: the last row before each day's end, the newest, and for a while what waits to be counted."""
    connection.execute("INSERT INTO ledger.pipeline (partition, passed_at) VALUES (0, %s)", (BEGIN,))
    coverage, at = CoverageRecords(connection), BEGIN
    while at < BEGIN + timedelta(hours=hours):
        at += timedelta(seconds=seconds)
        coverage.record([PolledSpan("c1", "a", name, BEGIN, BEGIN, at - timedelta(seconds=1)) for name in "xy"], at)
        connection.execute("UPDATE ledger.pipeline SET passed_at = %s", (at - timedelta(seconds=15),))
    days = connection.execute(
        "SELECT count(*) FROM registry.coverage WHERE recorded_at < %s"
        " GROUP BY mailbox_id, (recorded_at AT TIME ZONE 'UTC')::date", (at - timedelta(minutes=2),),
    ).fetchall()  # fmt: skip
    assert days and max(number for (number,) in days) <= 4
    open_rows = connection.execute(
        "SELECT count(*) FROM registry.coverage WHERE superseded_at IS NULL GROUP BY mailbox_id"
    ).fetchall()
    assert max(number for (number,) in open_rows) <= MOST_WAITING + 3


def test_rows_are_bounded_while_nothing_is_counted(connection: psycopg.Connection) -> None:
    """Matcher or aggregator are down for two days: a row for each end of a day, and the coverage counts when they are back."""
    connection.execute("INSERT INTO ledger.pipeline (partition, passed_at) VALUES (0, %s)", (BEGIN,))
    coverage, at = CoverageRecords(connection), BEGIN
    for _ in range(300):
        at += timedelta(minutes=10)
        coverage.record([PolledSpan("c1", "a", "x", BEGIN, BEGIN, at)], at)
    assert rows_of(connection, "c1") <= 7 + MOST_WAITING + 1
    connection.execute("UPDATE ledger.pipeline SET passed_at = %s", (at + timedelta(minutes=2),))
    coverage.record([PolledSpan("c1", "a", "x", BEGIN, BEGIN, at + timedelta(minutes=10))], at + timedelta(minutes=10))
    assert rows_of(connection, "c1") <= 7 + 3


def old_installation(connection: psycopg.Connection, mailboxes: int, polls: int) -> None:
    """Rows as a release before wrote them: one for each poll, every twenty minutes."""
    history(connection, 0, timedelta(minutes=20), mailboxes)
    connection.execute(
        "INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at, through_at, recorded_at)"
        " SELECT company_id, 'a', mailbox_id, connected_at, connected_at - interval '60 days', poll, poll + interval '2 seconds'"
        " FROM registry.mailboxes, generate_series(%s, %s, interval '20 minutes') poll WHERE company_id = %s",
        (BEGIN, BEGIN + polls * timedelta(minutes=20), COMPACT),
    )
    connection.execute(
        "INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at, through_at, recorded_at)"
        " SELECT %s, account_id, mailbox_id, connected_at, from_at, through_at, recorded_at FROM registry.coverage"
        " WHERE company_id = %s AND from_at IS NOT NULL ORDER BY coverage_id",
        (TWIN, COMPACT),
    )
    connection.execute("UPDATE ledger.pipeline SET passed_at = 'infinity'")


def test_an_older_history_is_compacted_in_pieces(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after any piece it goes on where it was; the numbers are those of the history as it was."""
    monkeypatch.setattr("services.registry.coverage.PIECE_ROWS", 100)
    old_installation(connection, 2, 400)
    facts = inquiries(random.Random(1), BEGIN, BEGIN + timedelta(days=5), 30, 0)
    for company_id in (COMPACT, TWIN):
        put(connection, company_id, facts)
    before = rows_of(connection, COMPACT)
    assert next(iter(CoverageRecords(connection).compact(Stop()))) > 0
    assert before > rows_of(connection, COMPACT) > before / 4
    connection.execute("CREATE TEMPORARY TABLE twin AS SELECT * FROM registry.coverage WHERE company_id = %s", (TWIN,))
    assert retention.compact(connection, Stop()) > 0
    assert rows_of(connection, COMPACT) <= 2 * (len(ZONES) * 6 + 4)
    assert retention.compact(connection, Stop()) == 0
    connection.execute("DELETE FROM registry.coverage WHERE company_id = %s", (TWIN,))
    connection.execute("INSERT INTO registry.coverage OVERRIDING SYSTEM VALUE SELECT * FROM twin")
    for rule_set in RULES:
        for now in (BEGIN + timedelta(days=4, hours=5), BEGIN + timedelta(days=7)):
            with connection.transaction():
                judge.judge_companies(connection, rule_set, {COMPACT: Delta(), TWIN: Delta()}, now=now)
    assert_twins(connection)


def test_a_mailbox_with_an_old_history_can_be_polled(connection: psycopg.Connection) -> None:
    """Before it is compacted, a poll looks at its newest rows only."""
    old_installation(connection, 1, 200)
    before, at = rows_of(connection, COMPACT), BEGIN + timedelta(days=4)
    CoverageRecords(connection).record([PolledSpan(COMPACT, "a", "m0", BEGIN, BEGIN - timedelta(days=60), at)], at)
    assert before - MOST_OPEN <= rows_of(connection, COMPACT) < before


def test_a_judgement_reads_coverage_by_index(connection: psycopg.Connection) -> None:
    """And of a year of days only the rows of the days that it judges."""
    old_installation(connection, 3, 20)
    connection.execute(
        "UPDATE registry.coverage SET superseded_at = recorded_at + interval '1 day' WHERE through_at IS NOT NULL"
    )
    connection.execute(
        "INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at, through_at, recorded_at, superseded_at)"
        " SELECT company_id, account_id, mailbox_id, connected_at, from_at, through_at - day * interval '1 day',"
        " recorded_at - day * interval '1 day', superseded_at - day * interval '1 day'"
        " FROM registry.coverage, generate_series(1, 365) day WHERE from_at < through_at - day * interval '1 day'"
    )
    connection.execute(
        "UPDATE registry.coverage SET from_at = %s WHERE from_at IS NOT NULL", (BEGIN - timedelta(days=400),)
    )
    connection.execute("VACUUM ANALYZE registry.coverage")
    put(connection, COMPACT, inquiries(random.Random(1), BEGIN, BEGIN + timedelta(hours=9), 10, 0))
    now = BEGIN + timedelta(hours=10)
    with connection.transaction():
        judge.use_schema(connection, "ledger")
        inputs = judge.planning_inputs(connection, DEFAULT, [COMPACT], now)
        narrow = plan.plan_company(
            DEFAULT, {**inputs[0], "last_as_of": now.date()}, Delta(None, received_from=BEGIN), now
        )
        judge.prepare(connection)
        values = {**judge.parameters(DEFAULT), **plan.columns([narrow], DEFAULT), "now": now}
        statements: dict[str, Callable[[], tuple[str, dict[str, Any]]]] = {
            "judge": lambda: (judge.judging(judge.JUDGE["select_outcomes"]), values),
            "planning": lambda: (
                judge.JUDGE["planning_inputs"],
                {"companies": [COMPACT], "rule_set": DEFAULT.name, "identity": DEFAULT.identity, "now": now},
            ),
        }
        for name, statement in statements.items():
            text, parameters = statement()
            lines = connection.execute(("EXPLAIN (ANALYZE, TIMING OFF) " + text).encode(), parameters).fetchall()
            plan_text = "\n".join(line for (line,) in lines)
            assert "Seq Scan on coverage" not in plan_text, name
            assert "coverage_in_force" in plan_text, (name, plan_text)


def test_the_fetchers_role_records_and_compacts_but_changes_no_span(connection: psycopg.Connection) -> None:
    old_installation(connection, 1, 100)
    connection.execute("SET ROLE replyrate_fetcher")
    at = BEGIN + timedelta(days=2)
    CoverageRecords(connection).record([PolledSpan(COMPACT, "a", "m0", BEGIN, BEGIN - timedelta(days=60), at)], at)
    assert retention.compact(connection, Stop()) > 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("UPDATE registry.coverage SET through_at = now()")
