"""The ledger beside a bare upsert of the same rows, and a narrow refresh beside a full one."""

import random
import time
from datetime import UTC, date, datetime, timedelta

import psycopg

from bench.measure import Figure, Usage, scratch, seconds
from bench.world import World
from services.aggregator.ingest.ledger import Ledger
from services.aggregator.judge import judge, plan, rules
from services.common import codec, migrations
from services.common.events import HashedBuyer, InquiryReplies, ReplyFact
from services.common.postgres import connect
from services.common.settings import KafkaSettings
from services.common.topics import REPLIES, reply_key
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.postgres import EmbeddedPostgres
from tests.support.processes import until
from tests.support.topics import committed, create_topics, kafka_settings, publish

STATES = 40_000
BATCH = 2_000
COMPANIES = 2_000
INQUIRIES = 1_000_000
GROWTH_AT = (10_000, 100_000, 1_000_000)
"""Inquiries that the ledger holds."""
GROWTH_STATES = 20_000
LATEST = datetime(2026, 11, 27, tzinfo=UTC)
"""No reply of the states below is later."""
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)

BARE = """
INSERT INTO bare_{table} AS stored SELECT {values} FROM unnest({arrays}) new ({columns})
ON CONFLICT ({key}) DO UPDATE SET account_id = excluded.account_id
"""
KEYS = {
    "inquiries": "company_id, inquiry_id",
    "replies": "company_id, inquiry_id, hash_record_extended(ROW (reply_id, source, account_id, mailbox_id, replied_at, evidence, kind,"
    " kind_reason, matched_by), 0)",
}


def measure(repeats: int) -> list[Figure]:
    """The ledger's figure in a fresh database each time, the judge's over one ledger of a million inquiries."""
    upsert = Figure(
        "aggregator_vs_bare_upsert",
        "states/s into ledger and offsets ÷ a bare INSERT … ON CONFLICT of the same rows",
        0.5,
        detail={"states": STATES, "batch": BATCH},
    )
    recompute = Figure(
        "recompute_vs_floor", "(one aggregate scan + bare INSERT of as many outcome rows) ÷ outcomes and today's rates of every company", 0.5,
        detail={"companies": COMPANIES, "inquiries": INQUIRIES, "seconds": [], "seconds_all_days_each_company": []},
    )  # fmt: skip
    refresh = Figure(
        "refresh_share", "time to refresh 1 % changed companies ÷ judging every company", 0.03, smaller_is_better=True
    )
    with scratch() as folder, EmbeddedPostgres(folder / "postgres", durable=True) as server:
        for number in range(repeats):
            dsn = server.create_database(f"bench_{number}")
            with connect(dsn, "bench") as connection:
                migrations.migrate(connection, lambda _: None)
                upsert.values.append(_upsert(connection))
            server.drop_database(f"bench_{number}")
        with connect(server.create_database("bench_judge"), "bench") as connection:
            migrations.migrate(connection, lambda _: None)
            _load(connection, INQUIRIES)
            for _ in range(repeats):
                _judge(connection, recompute, refresh)
    return [upsert, recompute, refresh]


def measure_growth(repeats: int) -> list[Figure]:
    """How fast the ledger takes states while it holds few or many."""
    growth = Figure("aggregator_growth", "states/s: the slowest of three sizes of the ledger ÷ the fastest", 0.8)
    states = _states(3, GROWTH_STATES, 50)
    with scratch() as folder, EmbeddedPostgres(folder / "postgres", durable=True) as server:
        for number in range(repeats):
            rates: dict[int, float] = {}
            for size in GROWTH_AT:
                name = f"bench_{number}_{size}"
                with connect(server.create_database(name), "bench") as connection:
                    migrations.migrate(connection, lambda _: None)
                    _load(connection, size)
                    rates[size] = GROWTH_STATES / seconds(lambda database=connection: _merge(database, states))  # type: ignore[misc]
                server.drop_database(name)
            growth.values.append(min(rates.values()) / max(rates.values()))
            growth.detail.setdefault("states_per_second", []).append(
                {str(at): round(rate) for at, rate in rates.items()}
            )
    return [growth]


def measure_service(repeats: int) -> list[Figure]:
    """The service as production starts it, over a topic of states: its CPU time for each state, and its memory."""
    cpu = Figure("aggregator_cpu_us_per_state", "CPU µs of the service for a state, judging included", None)
    peak = Figure("aggregator_peak_rss_mb", "peak RSS of the service during that", None)
    rate = Figure("aggregator_states_per_second", "from its first commit on", None)
    states = _states(4, STATES, COMPANIES)
    records = [
        (
            reply_key(state.company_id, state.inquiry_id),
            codec.encode(state, id=state.inquiry_id, source="bench", time=LATEST),
        )
        for state in states
    ]
    for number in range(repeats):
        with (
            scratch() as folder,
            EmbeddedPostgres(folder / "postgres", durable=True) as server,
            EmbeddedKafka(folder / "kafka") as kafka,
        ):
            settings = kafka_settings(kafka.bootstrap_servers)
            create_topics(settings)
            publish(settings, REPLIES, [*records])
            world = World(folder / "world", settings, server.create_database(f"bench_{number}"))
            with world.start("aggregator") as process:
                usage = Usage(process.pid)

                def read(broker: KafkaSettings = settings) -> int:
                    return sum(committed(broker, "replyrate-aggregator").values())

                until(lambda: read() > 0, 60, "the first commit", (process,))
                started, before = time.monotonic(), read()
                until(lambda: read() >= STATES, 300, "every state is merged", (process,))
                rate.values.append((STATES - before) / (time.monotonic() - started))
                cpu.values.append(usage.cpu_seconds() / STATES * 1e6)
                peak.values.append(usage.peak_mb)
                process.terminate()
            with connect(world.dsn, "bench") as connection:
                assert connection.execute("SELECT count(*) FROM ledger.inquiries").fetchone() == (STATES,)
    return [cpu, peak, rate]


def _merge(connection: psycopg.Connection, states: list[InquiryReplies]) -> None:
    ledger = Ledger(connection, REPLIES)
    (owned,) = ledger.take([0])
    for begin in range(0, len(states), BATCH):
        ledger.merge(owned, begin + BATCH, states[begin : begin + BATCH])


def _states(seed: int, count: int, companies: int) -> list[InquiryReplies]:
    chance = random.Random(seed)
    states = []
    for number in range(count):
        at = NOW - timedelta(seconds=chance.randrange(86_400, 50 * 86_400))
        reply = ReplyFact(
            reply_id=f"{chance.getrandbits(128):032x}", source="mail", account_id="main", mailbox_id="m1",
            replied_at=at + timedelta(hours=chance.uniform(0.1, 60)), evidence="verified", kind="human",
            matched_by="buyer-address",
        )  # fmt: skip
        states.append(
            InquiryReplies(
                company_id=f"c{number % companies}", inquiry_id=f"i{number}", account_id="main", received_at=at,
                buyer=HashedBuyer(id=f"b{number}", addresses=(f"{chance.getrandbits(128):032x}",), region="US"),
                message_ids=(f"{chance.getrandbits(128):032x}",), channel="inquiry", facts_id=f"{number:032x}",
                replies=(reply,) if chance.random() < 0.7 else (),
            )
        )  # fmt: skip
    return states


def _upsert(connection: psycopg.Connection) -> float:
    states = _states(1, STATES, 50)
    taken = seconds(lambda: _merge(connection, states))
    connection.execute("CREATE TABLE bare_inquiries (LIKE ledger.inquiries INCLUDING ALL)")
    connection.execute("CREATE TABLE bare_replies (LIKE ledger.replies INCLUDING ALL)")
    rows = {table: _columns(connection, table) for table in KEYS}

    def bare() -> None:
        for statement, columns in rows.values():
            for begin in range(0, len(columns[0]), BATCH):
                connection.execute(statement, [column[begin : begin + BATCH] for column in columns])

    bare_taken = seconds(bare)
    for table, (_, columns) in rows.items():
        assert connection.execute(f"SELECT count(*) FROM bare_{table}".encode()).fetchone() == (len(columns[0]),)
    return bare_taken / taken


def _columns(connection: psycopg.Connection, table: str) -> tuple[bytes, list[list[str | None]]]:
    """The bare statement for a table of the ledger, and its rows as one list of texts for each column."""
    shape = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        (f"ledger.{table}",),
    ).fetchall()
    statement = BARE.format(
        table=table, key=KEYS[table], columns=", ".join(name for name, _ in shape),
        values=", ".join(f"new.{name}::{kind}" for name, kind in shape), arrays=", ".join("%s::text[]" for _ in shape),
    )  # fmt: skip
    texts = ", ".join(f"{name}::text" for name, _ in shape)
    ledger_rows = connection.execute(f"SELECT {texts} FROM ledger.{table}".encode()).fetchall()
    return statement.encode(), [list(column) for column in zip(*ledger_rows, strict=True)]


LOAD = """
INSERT INTO ledger.inquiries (company_id, inquiry_id, account_id, received_at, facts_id, buyer_id, buyer_region, channel)
SELECT 'company-' || n % {companies}, 'inquiry-' || n, 'main',
    timestamptz '{now}' - interval '60 days' * (1 - n::float8 / {inquiries}), md5(n::text), 'buyer-' || n, 'US', 'inquiry'
FROM generate_series(1, {inquiries}) n;
INSERT INTO ledger.replies
    (company_id, inquiry_id, reply_id, source, account_id, mailbox_id, replied_at, evidence, kind, matched_by)
SELECT company_id, inquiry_id, md5(inquiry_id), 'mail', 'main', 'm1',
    received_at + make_interval(secs => 600 + abs(hashtext(inquiry_id)::bigint) % 150000), 'verified', 'human', 'in-reply-to'
FROM ledger.inquiries WHERE abs(hashtext(inquiry_id)::bigint) % 10 < 7;
"""
FLOOR = """
INSERT INTO floor_outcomes SELECT 'floor', company_id, inquiry_id, 'v', account_id, buyer_id, received_at::date, inquiry_id,
    received_at, received_at, 3600, 'timely', NULL, 'mail', 'in-reply-to', 'm1', 'verified', true, received_at, 'final', now(), 1, account_id, received_at::date
FROM ledger.inquiries
"""
SCAN = "SELECT company_id, count(*), min(received_at), max(received_at) FROM ledger.inquiries GROUP BY company_id"


def _load(connection: psycopg.Connection, inquiries: int) -> None:
    for statement in LOAD.format(companies=COMPANIES, inquiries=inquiries, now=NOW.isoformat()).split(";")[:2]:
        connection.execute(statement.encode())
    connection.execute("VACUUM ANALYZE")
    connection.execute("CREATE TABLE floor_outcomes (LIKE ledger.outcomes INCLUDING ALL)")


def _judge(connection: psycopg.Connection, recompute: Figure, refresh: Figure) -> None:
    """Judge every company from the start: its outcomes and today's row; then some of them as after a changed fact."""
    connection.execute("TRUNCATE ledger.outcomes, ledger.rates, ledger.rate_ranges, floor_outcomes")
    connection.execute("CHECKPOINT")
    rule_set = rules.load_builtin("default")

    def judged(companies: range, changed_from: datetime, days_from: date) -> None:
        for number in companies:
            with connection.transaction():
                delta = plan.Delta(changed_from)
                judge.judge_companies(connection, rule_set, {f"company-{number}": delta}, now=NOW, days_from=days_from)

    floor = seconds(lambda: connection.execute(SCAN).fetchall()) + seconds(lambda: connection.execute(FLOOR.encode()))
    full = seconds(lambda: judged(range(COMPANIES), plan.EVERYTHING, NOW.date()))
    few = seconds(lambda: judged(range(COMPANIES // 100), NOW - timedelta(hours=1), date.min))
    all_days = seconds(lambda: judged(range(COMPANIES // 100), plan.EVERYTHING, date.min))
    recompute.values.append(floor / full)
    refresh.values.append(few / full)
    recompute.detail["seconds"].append({"floor": round(floor, 1), "ours": round(full, 1)})
    recompute.detail["seconds_all_days_each_company"].append(round(all_days / (COMPANIES // 100), 3))
