"""The ledger beside a bare upsert of the same rows, and a narrow refresh beside a full one."""

import json
import random
from datetime import UTC, datetime, timedelta

import psycopg

from bench.measure import Figure, scratch, seconds
from services.aggregator import judge, rules
from services.aggregator.ledger import Ledger
from services.common import migrations
from services.common.events import HashedBuyer, InquiryReplies, ReplyFact
from services.common.postgres import connect
from services.common.topics import REPLIES
from services.standalone.postgres import EmbeddedPostgres

STATES = 40_000
BATCH = 2_000
COMPANIES = 100
INQUIRIES = 200
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)

BARE = """
INSERT INTO bare_{table} AS held SELECT * FROM jsonb_populate_recordset(NULL::bare_{table}, %s::jsonb)
ON CONFLICT ({key}) DO UPDATE SET account_id = excluded.account_id
"""


def measure(repeats: int) -> list[Figure]:
    """Both figures, each repeat in a fresh database."""
    upsert = Figure(
        "aggregator_vs_bare_upsert",
        "states/s into ledger and offsets ÷ a bare INSERT … ON CONFLICT of the same rows",
        0.5,
        detail={"states": STATES, "batch": BATCH},
    )
    refresh = Figure(
        "refresh_share", "time to refresh 1 % changed companies ÷ judging all of them", 0.03, smaller_is_better=True,
        detail={"companies": COMPANIES, "inquiries_each": INQUIRIES},
    )  # fmt: skip
    with scratch() as folder, EmbeddedPostgres(folder / "postgres", durable=True) as server:
        for number in range(repeats):
            dsn = server.create_database(f"bench_{number}")
            with connect(dsn, "bench") as connection:
                migrations.migrate(connection, lambda _: None)
                upsert.values.append(_upsert(connection))
                refresh.values.append(_refresh(connection))
            server.drop_database(f"bench_{number}")
    return [upsert, refresh]


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
    ledger = Ledger(connection, REPLIES)
    (owned,) = ledger.take([0])

    def ours() -> None:
        for begin in range(0, STATES, BATCH):
            ledger.merge(owned, begin + BATCH, states[begin : begin + BATCH])

    taken = seconds(ours)
    connection.execute("CREATE TABLE bare_inquiries (LIKE ledger.inquiries INCLUDING ALL)")
    connection.execute("CREATE TABLE bare_replies (LIKE ledger.replies INCLUDING ALL)")
    inquiries, replies = connection.execute(
        "SELECT (SELECT json_agg(i ORDER BY inquiry_id) FROM ledger.inquiries i),"
        " (SELECT json_agg(r ORDER BY inquiry_id) FROM ledger.replies r)"
    ).fetchone() or ((), ())
    keys = {
        "inquiries": "company_id, inquiry_id",
        "replies": "company_id, inquiry_id, reply_id, source, account_id, mailbox_id, replied_at, evidence, kind,"
        " kind_reason, matched_by",
    }

    def bare() -> None:
        for table, rows in (("inquiries", inquiries), ("replies", replies)):
            statement = BARE.format(table=table, key=keys[table]).encode()
            for begin in range(0, len(rows), BATCH):
                connection.execute(statement, (json.dumps(rows[begin : begin + BATCH]),))

    return seconds(bare) / taken


def _refresh(connection: psycopg.Connection) -> float:
    connection.execute("TRUNCATE ledger.inquiries, ledger.replies, ledger.offsets, ledger.dirty")
    ledger = Ledger(connection, REPLIES)
    (owned,) = ledger.take([0])
    states = _states(2, COMPANIES * INQUIRIES, COMPANIES)
    for begin in range(0, len(states), BATCH):
        ledger.merge(owned, begin + BATCH, states[begin : begin + BATCH])
    connection.execute("ANALYZE")
    rule_set = rules.load_builtin("default")

    def judged(companies: range, changed_from: datetime) -> None:
        for number in companies:
            with connection.transaction():
                judge.judge_company(connection, rule_set, f"c{number}", now=NOW, changed_from=changed_from)

    full = seconds(lambda: judged(range(COMPANIES), judge.EVERYTHING))
    few = max(1, COMPANIES // 100)
    return seconds(lambda: judged(range(few), NOW - timedelta(hours=1))) / full
