"""Offline replay: dumps of the two topics through the real join and the real SQL, on a temporary database.

`read lines | drop what an erase takes | join each company | merge into a ledger | judge at one instant | read the views`.
Nothing depends on the order of the facts, on copies, on a clock or on a horizon: the same facts give the same bytes.
"""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
import psycopg
from msgspec import Meta
from psycopg.rows import dict_row

from services.aggregator.ingest.ledger import Ledger
from services.aggregator.judge import days, judge
from services.aggregator.judge.days import Judgement
from services.aggregator.judge.plan import LATE_FACT, Plan
from services.aggregator.judge.rules import RuleSet
from services.common import codec, migrations
from services.common.errors import InvalidEvent
from services.common.events import (
    CompanyErased,
    Id,
    InquiryReceived,
    InquiryReplies,
)
from services.common.hashing import Hasher
from services.common.postgres import connect, load_statements
from services.common.topics import ACCEPTED, REPLIES
from services.matcher import join, matching
from services.matcher.join import Fact
from services.standalone.servers.postgres import EmbeddedPostgres, scratch_folder

SQL: Final = load_statements("services.standalone", "replay.sql")
STATES: Final = 2_000
"""How many joined states are merged in one transaction."""
COMPANIES: Final = 64
"""How many companies are judged in one transaction."""
Progress = Callable[[str, int, int], None]
"""Called with the stage, how much of it is done, and how much there is (0: not known)."""

Instant = Annotated[datetime, Meta(tz=True)]


class CoverageLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the coverage history, as the registry appends them (docs/replay.md)."""

    company_id: Id
    account_id: Id
    mailbox_id: Id | None = None
    connected_at: Instant
    removed_at: Instant | None = None
    from_at: Instant | None = msgspec.field(name="from", default=None)
    through_at: Instant | None = msgspec.field(name="through", default=None)
    recorded_at: Instant


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """A line that was rejected: its place, and what is wrong with it."""

    source: str
    line: int
    reason: str
    detail: str


@dataclass(slots=True)
class ReplayFacts:
    """The facts of the dumps, by company; records that an erase removes are still among them."""

    by_company: dict[str, list[Fact]] = field(default_factory=lambda: defaultdict(list))
    rejected: list[RejectedLine] = field(default_factory=list)

    def add(self, topic: str, source: str, lines: Iterable[tuple[int, bytes]], hasher: Hasher) -> None:
        """Add the records of one topic, as (line number, record)."""
        for number, line in lines:
            try:
                envelope = codec.decode(line, accept=ACCEPTED[topic])
            except InvalidEvent as error:
                self.rejected.append(RejectedLine(source, number, error.reason, error.detail))
                continue
            event: Any = envelope.data
            if isinstance(event, InquiryReceived):
                event, _ = matching.hashed_inquiry(event, codec.facts_text(envelope), hasher)
            self.by_company[event.company_id].append(event)


@dataclass(frozen=True, slots=True)
class ReplayQuestion:
    """The instant of the judgement: facts count when strictly earlier."""

    now: datetime

    @staticmethod
    def of(day: date, rule_set: RuleSet) -> "ReplayQuestion":
        """The end of a local day."""
        return ReplayQuestion(days.start_of(day + timedelta(days=1), rule_set).astimezone(UTC))


def numbered(text: bytes) -> Iterator[tuple[int, bytes]]:
    """The non-empty lines of a file, numbered from 1."""
    for number, line in enumerate(text.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            yield number, line


def read_coverage(source: str, text: bytes) -> tuple[list[CoverageLine], list[RejectedLine]]:
    """The coverage lines of a file, and the lines that were rejected."""
    decoder = msgspec.json.Decoder(CoverageLine)
    coverage: list[CoverageLine] = []
    rejected: list[RejectedLine] = []
    for number, raw in numbered(text):
        try:
            line = decoder.decode(raw)
        except msgspec.ValidationError as error:
            rejected.append(RejectedLine(source, number, "schema", str(error)))
            continue
        except (msgspec.DecodeError, UnicodeDecodeError):
            rejected.append(RejectedLine(source, number, "not-json", "the line is not a JSON document in UTF-8"))
            continue
        if line.from_at is not None and line.through_at is not None and line.through_at < line.from_at:
            rejected.append(RejectedLine(source, number, "schema", "through: is before from"))
        else:
            coverage.append(line)
    return coverage, rejected


def joined(facts: Sequence[Fact]) -> list[InquiryReplies]:
    """The joined state of every inquiry of one company.

    An erase acts at any instant of the judgement: a record whose own instant is not later is treated as if it never existed.
    """
    erased_at = max((fact.at for fact in facts if isinstance(fact, CompanyErased)), default=None)
    remaining = [
        fact
        for fact in facts
        if not isinstance(fact, CompanyErased) and (erased_at is None or join.instant_of(fact) > erased_at)
    ]
    # Inquiries first: then a message finds every inquiry that it matches, and nothing is looked up twice.
    remaining.sort(key=lambda fact: not isinstance(fact, InquiryReplies))
    return join.apply(lambda _: None, lambda _: (), remaining, bounded=False).changed


def replay(
    facts: ReplayFacts,
    coverage: Sequence[CoverageLine] | None,
    rule_sets: Sequence[RuleSet],
    question: Callable[[RuleSet], ReplayQuestion],
    progress: Progress,
) -> dict[str, list[dict[str, Any]]]:
    """`reply_rate` and `inquiry_outcomes` under every rule set, as the views show them.

    `coverage` None: everything counts as covered, and every row is final.
    """
    folder = scratch_folder("replyrate-replay-")
    try:
        with EmbeddedPostgres(folder / "postgres") as server, connect(server.dsn(), "replyrate-replay") as connection:
            connection.execute(SQL["patience"])
            migrations.migrate(connection, lambda _: None)
            _load(connection, facts, coverage, progress)
            for rule_set in rule_sets:
                _judge(connection, rule_set, question(rule_set).now, coverage is not None, progress)
            with connection.cursor(row_factory=dict_row) as cursor:
                return {name: cursor.execute(SQL[name]).fetchall() for name in ("reply_rate", "inquiry_outcomes")}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _load(
    connection: psycopg.Connection, facts: ReplayFacts, coverage: Sequence[CoverageLine] | None, progress: Progress
) -> None:
    ledger = Ledger(connection, REPLIES)
    (owned,) = ledger.take([0])
    states: list[InquiryReplies] = []
    for number, company_id in enumerate(sorted(facts.by_company), 1):
        states += joined(facts.by_company[company_id])
        if len(states) >= STATES:
            ledger.merge(owned, owned.next_offset + 1, states)
            states = []
        progress("joined", number, len(facts.by_company))
    ledger.merge(owned, owned.next_offset + 1, states)
    if coverage is None:
        connection.execute(SQL["covered_always"])
    else:
        columns = {
            "companies": [line.company_id for line in coverage],
            "accounts": [line.account_id for line in coverage],
            "mailboxes": [line.mailbox_id for line in coverage],
            "connected": [line.connected_at for line in coverage],
            "removed": [line.removed_at for line in coverage],
            "from": [line.from_at for line in coverage],
            "through": [line.through_at for line in coverage],
            "recorded": [line.recorded_at for line in coverage],
        }
        for name in ("companies", "coverage"):
            connection.execute(SQL[name], columns)
    connection.execute("ANALYZE")


def _judge(
    connection: psycopg.Connection, rule_set: RuleSet, now: datetime, by_coverage: bool, progress: Progress
) -> None:
    with connection.cursor(row_factory=dict_row) as cursor:
        watched: Mapping[str, dict[str, Any]] = {
            coverage["company_id"]: coverage for coverage in cursor.execute(SQL["watched"], {"now": now}).fetchall()
        }
    companies = [company_id for (company_id,) in connection.execute(SQL["known"]).fetchall()]
    for start in range(0, len(companies), COMPANIES):
        batch = companies[start : start + COMPANIES]
        with connection.transaction():
            judge.use_schema(connection, "ledger")
            plans = [
                _plan(rule_set, span, watched.get(span["company_id"]), now, by_coverage)
                for span in judge.planning_inputs(connection, rule_set, batch, now)
                if span["first_received_at"] is not None
            ]
            judge.judge_units(connection, rule_set, plans, now)
            judge.store_results(connection, rule_set, plans, {plan.company_id: LATE_FACT for plan in plans}, now)
        progress(rule_set.name, start + len(batch), len(companies))


def _plan(
    rule_set: RuleSet, span: Mapping[str, Any], watched: Mapping[str, Any] | None, now: datetime, by_coverage: bool
) -> Plan:
    """The plan for one row and the outcomes, both judged at `now`; a mailbox that was not removed counts as active."""
    day = days.as_of_day(now, rule_set)
    first, last = days.window(day, rule_set)
    mailboxes, through = (watched["mailboxes"], watched["complete_through"]) if watched is not None else (0, None)
    settled = days.settled_through(rule_set, now, mailboxes, through) if by_coverage else date.max
    judged_day = Judgement(day, now, first, last, "final" if last <= settled else "provisional", now)
    return Plan(
        span["company_id"],
        (days.judgement_of_outcomes(now), judged_day),
        settled,
        days.first_rate_day(span["first_received_at"], rule_set),
    )
