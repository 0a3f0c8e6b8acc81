"""`python -m bench.year`: a year of polls, inquiries and answers in hours, through the real services on a clock that jumps.

 1. Start Kafka, Postgres, Dovecot, fetcher, matcher and aggregator with a wall clock a year ago (shifted_clock.py).
 2. In each step, by default half a day: store the answers that sellers write, move the clock, publish the inquiries of that time, and
    wait until every mailbox was polled, every record was merged, and every company that was due was judged.
 3. At the end of each month, read CPU, memory and bytes. Nothing may grow with the age of the installation but the facts themselves.
 4. At the end, compare the outcomes with the plan.

A step ends when its work is done, so a slow machine needs longer and reads the same bytes and outcomes.
"""

import argparse
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Final

import psycopg
from prometheus_client.parser import text_string_to_metric_families

from bench import shifted_clock
from bench.measure import Figure, Usage, save, show
from bench.polls import PostgresUsage
from bench.world import PASSWORD, World
from services.aggregator.judge import judge, rules
from services.aggregator.judge.plan import Delta
from services.common import codec
from services.common.events import Buyer, InquiryReceived
from services.common.kafka import Admin, Publisher
from services.common.settings import KafkaSettings
from services.common.topics import INQUIRIES
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.child import free_port
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.postgres import EmbeddedPostgres, scratch_folder
from services.standalone.world.letters import MailText
from tests.faults.progress import read_offsets
from tests.support.dovecot import Dovecot
from tests.support.processes import Process, get, until
from tests.support.topics import create_topics, kafka_settings

MONTH: Final = timedelta(days=365) / 12
MAILBOXES_A_COMPANY: Final = 5
ANSWERED: Final = 2 / 3
SERVICES: Final = ("fetcher", "matcher", "aggregator")
STEP_SECONDS: Final = 900
"""After which a step whose work is not done is a failure."""
QUIET: Final = timedelta(days=5)
"""Time without inquiries at the end; longer than answers take."""
NARROW: Final = 40
"""Narrow judgements at the end of a month."""

UNFINISHED: Final = """
SELECT (SELECT count(*) FROM registry.mailboxes WHERE lease_until > clock_timestamp() OR next_poll_at <= clock_timestamp()),
    (SELECT count(*) FROM ledger.dirty),
    (SELECT count(*) FROM ledger.companies WHERE due_at <= clock_timestamp()),
    (SELECT count(*) FROM ledger.pipeline WHERE passed_at < %(moved_at)s)
"""
"""Mailboxes to poll, companies to judge for facts and for time, and partitions whose watermark is before the step."""
TABLES: Final = """
SELECT schemaname || '.' || relname, pg_total_relation_size(relid), n_live_tup FROM pg_stat_user_tables
WHERE pg_total_relation_size(relid) > 262144 ORDER BY 2 DESC
"""
OUTCOMES: Final = (
    "SELECT outcome, count(*) FROM report_v1.inquiry_outcomes WHERE rule_set = 'default' GROUP BY 1 ORDER BY 1"
)


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One inquiry of the plan. `answered_at`: None if nobody answers it."""

    company_id: str
    user: str
    name: str
    received_at: datetime
    answered_at: datetime | None

    def record(self) -> tuple[bytes, bytes]:
        """Key and value of its event."""
        event = InquiryReceived(
            company_id=self.company_id, account_id="main", inquiry_id=self.name, received_at=self.received_at,
            buyer=Buyer(id=self.name, addresses=(f"{self.name}@shop.example",)), message_ids=(f"<{self.name}@platform.example>",),
        )  # fmt: skip
        return event.company_id.encode(), codec.encode(event, id=self.name, source="bench", time=self.received_at)

    def answer(self, at: datetime) -> bytes:
        """The mail that answers it."""
        reference = f"{self.name}@platform.example"
        return MailText(
            self.user, (f"{self.name}@shop.example",), "Re: your inquiry", at, f"{self.name}.answer@mail.test",
            in_reply_to=reference, references=(reference,),
        ).render()  # fmt: skip


@dataclass(slots=True)
class Month:
    """What one month took. CPU in seconds, memory in MB (the median of its steps), sizes in bytes."""

    steps: int
    cpu: dict[str, float]
    rss: dict[str, float]
    judgements: int
    judgement_seconds: float
    """As the aggregator measures it: elapsed time, in which other processes of the machine have a part."""
    narrow_ms: float
    """CPU of Postgres for judging a company again of which an inquiry of the last hour changed."""
    bytes: dict[str, int]
    rows: dict[str, int]
    inquiries: int


@dataclass(slots=True)
class Counters:
    """Readings that only grow."""

    cpu: dict[str, float]
    judgements: int
    judgement_seconds: float


@dataclass(slots=True)
class Year:
    """The running installation."""

    clock: shifted_clock.ShiftedClock
    kafka: KafkaSettings
    server: Dovecot
    users: list[str]
    connection: psycopg.Connection
    services: dict[str, Process]
    postgres: PostgresUsage
    aggregator_port: int
    admin: Admin
    publisher: Publisher
    length: timedelta
    """Of a step."""
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    open: list[Inquiry] = field(default_factory=list)
    """Inquiries that will be answered."""
    published: list[Inquiry] = field(default_factory=list)

    def step(self, *, asks: bool = True) -> None:
        """Answers, the jump, inquiries if buyers ask, and all work that follows from them."""
        begin, end = self.clock.now(), self.clock.now() + self.length
        for inquiry in [
            inquiry for inquiry in self.open if inquiry.answered_at is not None and inquiry.answered_at < end
        ]:
            at = max(inquiry.answered_at or begin, begin)
            self.server.deliver(inquiry.user, "Sent", inquiry.name, inquiry.answer(at), at)
            self.open.remove(inquiry)
        self.clock.advance(self.length)
        moved_at = self.clock.now()
        inquiries = [self._inquiry(place, user, begin, end) for place, user in enumerate(self.users)] if asks else []
        assert not self.publisher.wait([self.publisher.send(INQUIRIES, *inquiry.record()) for inquiry in inquiries])
        self.published += inquiries
        self.open += [inquiry for inquiry in inquiries if inquiry.answered_at is not None]
        processes = tuple(self.services.values())
        until(lambda: self.finished(moved_at), STEP_SECONDS, "the work of a step", processes, pause=0.5)

    def _inquiry(self, place: int, user: str, begin: datetime, end: datetime) -> Inquiry:
        received_at = (begin + (end - begin) * self.chance.random()).replace(microsecond=0)
        answered = self.chance.random() < ANSWERED
        delay = timedelta(hours=self.chance.uniform(1, 60))
        return Inquiry(
            company(place),
            user,
            f"i{len(self.published)}-{place}",
            received_at,
            received_at + delay if answered else None,
        )

    def finished(self, moved_at: datetime) -> bool:
        """Whether every poll, join, merge and judgement that was due at `moved_at` is done."""
        counts = self.connection.execute(UNFINISHED, {"moved_at": moved_at}).fetchone()
        if counts is None or any(counts):
            return False
        return not read_offsets(self.admin, self.connection).waiting()

    def counters(self) -> Counters:
        """CPU and judgements so far."""
        cpu = {name: Usage(process.pid).cpu_seconds() for name, process in self.services.items()}
        cpu["postgres"] = self.postgres.cpu_seconds()
        samples = {
            sample.name: sample.value
            for family in text_string_to_metric_families(get(self.aggregator_port, "/metrics")[1])
            for sample in family.samples
        }
        name = "replyrate_aggregator_refresh_seconds"
        return Counters(cpu, round(samples[f"{name}_count"]), samples[f"{name}_sum"])

    def narrow_ms(self) -> float:
        """CPU of Postgres for a narrow judgement of the first company; nothing of it stays."""
        usage, rule_set = Usage(self.connection.info.backend_pid), rules.load_builtin("default")
        changed = self.clock.now() - timedelta(hours=1)
        before = usage.cpu_seconds()
        for _ in range(NARROW):
            with self.connection.transaction(force_rollback=True):
                delta = Delta(changed, received_from=changed)
                judge.judge_companies(self.connection, rule_set, {company(0): delta}, now=self.clock.now())
        return (usage.cpu_seconds() - before) * 1000 / NARROW

    def month(self, steps: int) -> Month:
        """Run a month and read what it took."""
        before, sizes = self.counters(), []
        for _ in range(steps):
            self.step()
            self.postgres.cpu_seconds()
            sizes.append({name: Usage(process.pid).rss_mb() for name, process in self.services.items()})
        after = self.counters()
        tables = self.connection.execute(TABLES).fetchall()
        return Month(
            steps,
            {name: seconds - before.cpu[name] for name, seconds in after.cpu.items()},
            {name: median(size[name] for size in sizes) for name in SERVICES},
            after.judgements - before.judgements,
            after.judgement_seconds - before.judgement_seconds,
            self.narrow_ms(),
            {name: size for name, size, _ in tables},
            {name: rows for name, _, rows in tables},
            len(self.published),
        )


def company(place: int) -> str:
    """The company of a mailbox."""
    return f"c{place // MAILBOXES_A_COMPANY}"


@contextmanager
def running(folder: Path, mailboxes: int, length: timedelta) -> Iterator[Year]:
    """An installation with as many mailboxes, read for the first time."""
    clock = shifted_clock.ShiftedClock()
    users = [f"year{place}@mail.test" for place in range(mailboxes)]
    authority = CertificateAuthority(folder / "ca", valid_days=800)
    with ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres", durable=True))
        kafka = stack.enter_context(EmbeddedKafka(folder / "kafka"))
        # Without SAVEDATE: Dovecot's own processes do not inherit the clock.
        server = stack.enter_context(
            Dovecot(folder / "dovecot", dict.fromkeys(users, PASSWORD), authority, savedate=False)
        )
        settings = kafka_settings(kafka.bootstrap_servers)
        create_topics(settings)
        world = World(folder / "world", settings, postgres.create_database("year"), server)
        world.add_mailboxes((company(place), user) for place, user in enumerate(users))
        port = free_port()
        environ = {
            **shifted_clock.environ(),
            "REPLYRATE_IMAP__POLL_INTERVAL_SECONDS": str(round(length.total_seconds())),
        }
        ports = {"aggregator": {"REPLYRATE_HTTP__PORT": str(port)}}
        services = {name: stack.enter_context(world.start(name, **environ, **ports.get(name, {}))) for name in SERVICES}
        connection = stack.enter_context(psycopg.connect(world.dsn, autocommit=True))
        year = Year(
            clock, settings, server, users, connection, services, PostgresUsage(postgres.data_dir), port,
            stack.enter_context(Admin(settings, "year")), stack.enter_context(Publisher(settings, "year")), length,
        )  # fmt: skip
        started_at = clock.now()
        until(lambda: get(port, "/readyz")[0] == 200, 120, "the aggregator is ready", tuple(services.values()))
        until(lambda: year.finished(started_at), 300, "the first scan", tuple(services.values()))
        yield year


def figures(months: list[Month], outcomes: dict[str, int], planned: dict[str, int]) -> list[Figure]:
    """Growth from the second month to the last, and the series behind it."""
    first, last = months[min(1, len(months) - 1)], months[-1]
    grown = [
        Figure(f"year_rss_growth_{name}", "memory of the last month ÷ that of the second", 1.1, True)
        for name in SERVICES
    ]
    for name, figure in zip(SERVICES, grown, strict=True):
        figure.values = [last.rss[name] / first.rss[name]]
        figure.detail = {"mb_each_month": [round(month.rss[name], 1) for month in months]}
    judged = Figure("year_judgement_growth", "CPU of Postgres for a narrow judgement, the same", 1.2, True)
    judged.values = [last.narrow_ms / first.narrow_ms]
    judged.detail = {
        "ms_each_month": [round(month.narrow_ms, 1) for month in months],
        "aggregator_elapsed_ms_each_month": [
            round(month.judgement_seconds * 1000 / max(1, month.judgements), 1) for month in months
        ],
        "judgements_each_month": [month.judgements for month in months],
    }
    names = sorted({name for month in months for name in month.bytes})
    size = Figure("year_bytes", "bytes of all tables after the last month", None)
    size.values = [sum(last.bytes.values())]
    size.detail = {
        "inquiries_each_month": [month.inquiries for month in months],
        "kilobytes_each_month": {name: [round(month.bytes.get(name, 0) / 1024) for month in months] for name in names},
        "rows": {name: last.rows[name] for name in names if name in last.rows},
    }
    cpu = Figure("year_cpu_growth", "CPU of all services and Postgres, the last month ÷ the second, a step", None)
    cpu.values = [(sum(last.cpu.values()) / last.steps) / (sum(first.cpu.values()) / first.steps)]
    cpu.detail = {
        "seconds_each_month": {
            name: [round(month.cpu[name], 1) for month in months] for name in (*SERVICES, "postgres")
        }
    }
    right = Figure("year_outcomes_as_planned", "1 if each inquiry has the outcome of the plan", 1)
    right.values = [float(outcomes == planned)]
    right.detail = {"outcomes": outcomes, "planned": planned}
    return [*grown, judged, cpu, size, right]


def planned_outcomes(inquiries: list[Inquiry]) -> dict[str, int]:
    """How many are answered at all and how many are not, as the plan has it."""
    answered = sum(inquiry.answered_at is not None for inquiry in inquiries)
    return {"answered": answered, "unanswered": len(inquiries) - answered}


def run(folder: Path, mailboxes: int, days: int, length: timedelta) -> list[Figure]:
    """Measure; prints a line a month."""
    steps, month_steps = timedelta(days=days) // length, round(MONTH / length)
    months: list[Month] = []
    with running(folder, mailboxes, length) as year:
        while steps > 0:
            started = time.monotonic()
            months.append(year.month(min(month_steps, steps)))
            steps -= months[-1].steps
            print(line(len(months), months[-1], time.monotonic() - started), file=sys.stderr, flush=True)
        # What is still open is answered, and the deadlines of the others pass.
        for _ in range(QUIET // length):
            year.step(asks=False)
        outcomes: dict[str, int] = dict(year.connection.execute(OUTCOMES).fetchall())
    counted = {
        "answered": outcomes.get("timely", 0) + outcomes.get("late", 0), "unanswered": outcomes.get("unanswered", 0),
    }  # fmt: skip
    return figures(months, counted, planned_outcomes(year.published))


def line(number: int, month: Month, seconds: float) -> str:
    """A line of progress."""
    memory = ", ".join(f"{name} {size:.0f} MB" for name, size in month.rss.items())
    return (
        f"  month {number}: {seconds:.0f} s, {month.judgements} judgements, a narrow one {month.narrow_ms:.1f} ms CPU,"
        f" {sum(month.bytes.values()) / 1024**2:.0f} MB in tables, {memory}"
    )


def main(arguments: list[str] | None = None) -> int:
    """0 when every figure reaches what it must."""
    parser = argparse.ArgumentParser(prog="python -m bench.year", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mailboxes", type=int, default=200, help="five for each company (default: 200)")
    parser.add_argument("--days", type=int, default=365, help="how many days pass (default: 365)")
    parser.add_argument("--step-hours", type=float, default=12, help="time between two polls, at most 24 (default: 12)")
    options = parser.parse_args(arguments)
    if not 0 < options.step_hours <= 24:
        parser.error("--step-hours must be above 0 and at most 24, the longest interval between polls")
    clock_folder = shifted_clock.restart_under("bench.year", timedelta(days=options.days + 10))
    scratch = scratch_folder("replyrate-year-")
    try:
        measured = run(scratch, options.mailboxes, options.days, timedelta(hours=options.step_hours))
        shifted_clock.ShiftedClock().restore()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(clock_folder, ignore_errors=True)
    print(show(measured))
    print(f"written to {save(measured, Path(__file__).with_name('results'), 'year')}", file=sys.stderr)
    return 1 if any(figure.reached is False for figure in measured) else 0


if __name__ == "__main__":
    sys.exit(main())
