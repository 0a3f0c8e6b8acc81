"""Records not counted yet never turn into "unanswered": with a stopped matcher, with a ledger that lags."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kafka import KafkaProducer

from services.aggregator.ingest.ledger import Ledger
from services.aggregator.judge import rules
from services.aggregator.refresh.refresh import Refresher
from services.common import codec
from services.common.events import Buyer, HashedBuyer, InquiryReceived, InquiryReplies, ReplyFact, ReplyRecorded
from services.common.kafka import Admin
from services.common.postgres import connect
from services.common.topics import INQUIRIES, REPLIES, partition_of
from services.registry.accounts import Accounts
from services.registry.companies import Companies
from services.standalone.servers.environment import service_environ
from services.standalone.servers.kafka import EmbeddedKafka
from tests.support.commands import run
from tests.support.processes import Process, until
from tests.support.topics import PARTITIONS, create_topics, kafka_settings, publish

__all__ = ["run"]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0)
RECEIVED = NOW - 8 * DAY
RULES = [rules.load_builtin(name) for name in ("default", "alibaba-2016")]
"""One that shows unmeasured units apart, and one that counts them as unanswered."""
HOME = partition_of(b"shop", PARTITIONS)


@pytest.fixture
def shop(dsn: str) -> Any:
    """An inquiry of eight days ago without an answer, and a mailbox that has been read from before it until now."""
    with connect(dsn, "tests") as connection:
        connection.execute("INSERT INTO registry.companies VALUES ('shop')")
        connection.execute("INSERT INTO registry.accounts (company_id, account_id) VALUES ('shop', 'main')")
        connection.execute(
            "INSERT INTO registry.mailboxes (company_id, mailbox_id, account_id, role, state, address_masked, address_hash,"
            " host, port, login_hash, consent_by, consent_at, consent_text_version, connected_at, complete_through, last_success_at)"
            " VALUES ('shop', 'm1', 'main', 'registered', 'active', 's***@mail.test', 'h', 'imap.mail.test', 993, 'l', 'tests',"
            " now(), '2', %s, %s, clock_timestamp())",
            (NOW - 60 * DAY, NOW),
        )
        read(connection)
        yield connection


def read(connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at, through_at)"
        " VALUES ('shop', 'main', 'm1', %s, %s, %s)",
        (NOW - 60 * DAY, NOW - 60 * DAY, datetime.now(UTC)),
    )


def counted_until(connection: psycopg.Connection, at: datetime, partition: int = HOME) -> None:
    connection.execute("UPDATE ledger.pipeline SET passed_at = %s WHERE partition = %s", (at, partition))


def new_refresher(connection: psycopg.Connection) -> Refresher:
    refresher = Refresher(connection, RULES, partitions=PARTITIONS)
    refresher.activate()
    return refresher


def refresh(refresher: Refresher) -> int:
    """Refresh until nothing is due; returns the number of rounds."""
    for rounds in range(50):
        if not refresher.refresh():
            return rounds
    raise AssertionError("it goes round and round")


def ask(connection: psycopg.Connection, *events: InquiryReplies) -> None:
    ledger = Ledger(connection, REPLIES)
    (owned,) = ledger.take([HOME])
    ledger.merge(owned, owned.next_offset + 1, events)


def asked(inquiry_id: str = "i1", received_at: datetime = RECEIVED, *replies: ReplyFact) -> InquiryReplies:
    return InquiryReplies(
        company_id="shop", inquiry_id=inquiry_id, account_id="main", received_at=received_at, buyer=HashedBuyer(id=inquiry_id),
        channel="inquiry", facts_id="0" * 32, replies=replies,
    )  # fmt: skip


def outcomes(connection: psycopg.Connection) -> dict[str, str]:
    """The outcome of the first inquiry, by rule set."""
    return dict(
        connection.execute(
            "SELECT rule_set, outcome FROM report_v1.inquiry_outcomes WHERE inquiry_id = 'i1'"
        ).fetchall()
    )


def both(outcome: str) -> dict[str, str]:
    return dict.fromkeys(("default", "alibaba-2016"), outcome)


def test_silence_counts_only_after_everything_published_has_been_counted(shop: psycopg.Connection) -> None:
    refresher = new_refresher(shop)
    counted_until(shop, RECEIVED + HOUR)
    ask(shop, asked())
    assert refresh(refresher) > 0
    assert outcomes(shop) == both("pending")
    assert shop.execute("SELECT max(counted), max(rate) FROM report_v1.reply_rate_latest").fetchone() == (0, None)
    # Neither its deadline nor its coverage makes the company due meanwhile.
    read(shop)
    assert refresh(refresher) == 0
    # Counted beyond the deadline, but the records of the poll are not counted yet.
    counted_until(shop, RECEIVED + 2 * DAY)
    assert refresh(refresher) > 0
    assert outcomes(shop) == {"default": "unmeasured", "alibaba-2016": "unanswered"}
    counted_until(shop, datetime.now(UTC))
    assert refresh(refresher) > 0
    assert outcomes(shop) == both("unanswered")
    assert refresh(refresher) == 0


def test_a_platform_sync_that_began_before_the_first_inquiry_counts_once_it_is_passed(dsn: str) -> None:
    """Its coverage is recorded before the company is known, and after the watermark of the first judgement."""
    with connect(dsn, "tests") as connection:
        Companies(connection).add("shop")
        Accounts(connection).add("shop", "main", synced_from=NOW - 60 * DAY)
        refresher = new_refresher(connection)
        counted_until(connection, NOW - HOUR)
        ask(connection, asked())
        assert refresh(refresher) > 0
        assert outcomes(connection) == {"default": "unmeasured", "alibaba-2016": "unanswered"}
        counted_until(connection, datetime.now(UTC))
        assert refresh(refresher) > 0
        assert outcomes(connection) == both("unanswered")
        assert refresh(refresher) == 0


def test_an_answer_still_in_kafka_is_never_shown_as_unanswered(shop: psycopg.Connection) -> None:
    refresher = new_refresher(shop)
    counted_until(shop, RECEIVED + HOUR)
    ask(shop, asked())
    refresh(refresher)
    reply = ReplyFact(
        reply_id="r", source="mail", account_id="main", mailbox_id="m1", replied_at=RECEIVED + 2 * HOUR, evidence="verified",
        kind="human", matched_by="in-reply-to",
    )  # fmt: skip
    ask(shop, asked("i1", RECEIVED, reply))
    refresh(refresher)
    assert outcomes(shop) == both("timely"), "what came counts at once"
    shown = shop.execute("SELECT DISTINCT outcome FROM ledger.outcome_history").fetchall()
    assert set(shown) == {("pending",)}


def test_no_day_settles_by_coverage_that_is_not_counted(shop: psycopg.Connection) -> None:
    refresher = new_refresher(shop)
    counted_until(shop, NOW - 7 * DAY)
    ask(shop, asked(), asked("old", NOW - 20 * DAY))
    refresh(refresher)

    def states() -> dict[str, str]:
        return dict(
            shop.execute(
                "SELECT inquiry_id, state FROM report_v1.inquiry_outcomes WHERE rule_set = 'default'"
            ).fetchall()
        )

    assert set(states().values()) == {"provisional"}, "what the last poll found may still come"
    finals = "SELECT count(*) FROM report_v1.reply_rate WHERE rule_set = 'default' AND state = 'final'"
    before = shop.execute(finals).fetchone()
    counted_until(shop, datetime.now(UTC))
    refresh(refresher)
    assert set(states().values()) == {"final"}
    assert shop.execute(finals).fetchone() > before  # type: ignore[operator]
    assert shop.execute("SELECT count(*) FROM report_v1.corrections").fetchone() == (0,)


def test_the_row_of_an_ended_day_is_not_final_before_the_watermark_passes_its_end(dsn: str) -> None:
    """A company without a mailbox, by a rule set without settling: time alone makes its rows final."""
    rule_set = rules.load_builtin("first-reply-24h")
    midnight = NOW.replace(hour=0, minute=0, second=0)
    with connect(dsn, "tests") as connection:
        connection.execute("INSERT INTO registry.companies VALUES ('shop')")
        connection.execute("INSERT INTO registry.accounts (company_id, account_id) VALUES ('shop', 'main')")
        refresher = Refresher(connection, [rule_set], partitions=PARTITIONS)
        refresher.activate()
        counted_until(connection, midnight - timedelta(seconds=5))
        ask(connection, asked("i1", midnight - DAY - timedelta(seconds=2)))
        refresh(refresher)

        def row() -> tuple[str, int] | None:
            return connection.execute(
                "SELECT state, pending FROM report_v1.reply_rate WHERE level = 'company' AND as_of = %s",
                ((midnight - DAY).date(),),
            ).fetchone()

        assert row() == ("provisional", 1)
        counted_until(connection, datetime.now(UTC))
        assert refresh(refresher) > 0
        assert row() == ("final", 0)
        assert connection.execute("SELECT count(*) FROM report_v1.corrections").fetchone() == (0,)


def test_a_poll_that_can_change_nothing_causes_no_judgement(shop: psycopg.Connection) -> None:
    """Every successful poll adds a row of coverage; if all units are answered or covered, it changes no number."""
    refresher = new_refresher(shop)
    counted_until(shop, datetime.now(UTC) + HOUR)
    ask(shop, asked(), asked("open", NOW - HOUR))
    refresh(refresher)
    assert outcomes(shop) == both("unanswered")
    judged = "SELECT judged_at FROM ledger.companies"
    before = shop.execute(judged).fetchone()
    for _ in range(3):
        read(shop)
        assert refresh(refresher) == 0
    assert shop.execute(judged).fetchone() == before
    # A unit not covered at its deadline: the company waits for the poll that covers it.
    due = datetime.now(UTC) - DAY + timedelta(seconds=1)
    ask(shop, asked("due", due))
    refresh(refresher)
    time.sleep(max(0.0, (due + DAY - datetime.now(UTC)).total_seconds()) + 0.2)
    refresh(refresher)
    query = "SELECT outcome FROM report_v1.inquiry_outcomes WHERE inquiry_id = 'due' AND rule_set = 'default'"
    assert shop.execute(query).fetchone() == ("unmeasured",)
    read(shop)
    assert refresh(refresher) > 0
    assert shop.execute(query).fetchone() == ("unanswered",)
    read(shop)
    assert refresh(refresher) == 0
    # A mailbox that is connected or removed always makes the company due.
    shop.execute(
        "INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at)"
        " VALUES ('shop', 'main', 'm2', clock_timestamp())"
    )
    assert refresh(refresher) > 0


def test_a_company_waits_for_its_own_partition_or_if_unknown_for_the_slowest(
    shop: psycopg.Connection,
) -> None:
    refresher = new_refresher(shop)
    other_partition = (HOME + 1) % PARTITIONS
    counted_until(shop, RECEIVED + HOUR, other_partition)
    ask(shop, asked())
    refresh(refresher)
    # The first judgement stored the company's partition; the next one uses it.
    assert outcomes(shop) == both("unanswered")
    assert shop.execute("SELECT partition FROM ledger.companies").fetchone() == (HOME,)
    shop.execute("UPDATE ledger.companies SET partition = NULL")
    assert shop.execute("SELECT passed_at FROM ledger.passed").fetchone() == (RECEIVED + HOUR,)
    new_refresher(shop)
    assert shop.execute("SELECT partition FROM ledger.companies").fetchone() == (HOME,)


def test_topics_with_another_number_of_partitions_start_new_watermarks(shop: psycopg.Connection) -> None:
    refresher = new_refresher(shop)
    ask(shop, asked())
    refresh(refresher)
    counted_until(shop, RECEIVED)
    new_refresher(shop)
    assert shop.execute("SELECT count(*), min(passed_at) FROM ledger.pipeline").fetchone() == (PARTITIONS, RECEIVED)
    Refresher(shop, RULES, partitions=PARTITIONS + 2).activate()
    pipeline = shop.execute("SELECT count(*), min(passed_at) > %s FROM ledger.pipeline", (NOW,)).fetchone()
    assert pipeline == (PARTITIONS + 2, True)
    assert shop.execute("SELECT partition FROM ledger.companies").fetchone() == (partition_of(b"shop", PARTITIONS + 2),)


def test_explain_and_doctor_say_what_is_waited_for(shop: psycopg.Connection, run: Any) -> None:
    refresher = new_refresher(shop)
    shop.execute("UPDATE ledger.pipeline SET passed_at = %s", (RECEIVED + HOUR,))
    nothing = run("doctor", "shop", code=1)
    assert "have been waiting 6" in nothing.stdout and "check matcher and aggregator" in nothing.stdout
    ask(shop, asked())
    refresh(refresher)
    (story,) = json.loads(run("explain", "shop", "i1", "--json", "--rules", "default").stdout)
    assert story["outcome"] == "pending"
    assert datetime.fromisoformat(story["counted_until"]) == RECEIVED + HOUR
    output = run("explain", "shop", "i1", "--rules", "default").stdout
    assert "Not decided yet" in output and f"published after {RECEIVED + HOUR:%Y-%m-%d %H:%M:%S} UTC" in output
    assert "尚未判定" in run("explain", "shop", "i1", "--rules", "default", "--lang", "zh").stdout
    case = json.loads(run("doctor", "shop", "--rules", "default", "--json").stdout)
    assert case["waiting_seconds"] >= 6 * 86_400
    (first, *lesser) = case["diagnoses"][0]["findings"]
    assert (first["cause"], first["confidence"]) == ("pipeline-behind", "high")
    assert all(finding["confidence"] != "high" for finding in lesser)
    with shop.transaction():
        shop.execute("SET LOCAL ROLE replyrate_dashboard")
        rows = shop.execute(
            "SELECT confidence, (facts ->> 'waiting_seconds')::bigint > 500000 FROM report_v1.zero_rate_diagnosis"
            " WHERE cause = 'pipeline-behind' AND rule_set = 'default' AND account_id IS NULL"
        ).fetchall()
    assert ("high", True) in rows


def test_a_stopped_matcher_causes_no_false_zero_and_the_doctor_reports_it(
    dsn: str, own_kafka: EmbeddedKafka, run: Callable[..., Any], tmp_path: Path
) -> None:
    """A real matcher and aggregator. An answer and an inquiry are in Kafka while no matcher runs; then one starts."""
    kafka = kafka_settings(own_kafka.bootstrap_servers)
    create_topics(kafka)
    with connect(dsn, "tests") as connection:
        connection.execute("INSERT INTO registry.companies VALUES ('shop')")
        # The account answers through the platform: everything is covered, silence is "unanswered" at once.
        connection.execute("INSERT INTO registry.accounts (company_id, account_id) VALUES ('shop', 'main')")
        connection.execute(
            "INSERT INTO registry.coverage (company_id, account_id, connected_at, from_at, recorded_at)"
            " VALUES ('shop', 'main', %(at)s, %(at)s, %(at)s)",
            {"at": NOW - 90 * DAY},
        )
        environ = service_environ(
            tmp_path,
            kafka=kafka.bootstrap_servers,
            partitions=PARTITIONS,
            dsn=dsn,
            MATCHER__SESSION_TIMEOUT_SECONDS="10",
            AGGREGATOR__SESSION_TIMEOUT_SECONDS="10",
            AGGREGATOR__RULE_SETS="default",
            AGGREGATOR__REFRESH_INTERVAL_SECONDS="0.2",
        )

        def put(*events: InquiryReceived | ReplyRecorded) -> None:
            publish(
                kafka, INQUIRIES,
                [(b"shop", codec.encode(event, id=str(number), source="tests", time=NOW)) for number, event in enumerate(events)],
            )  # fmt: skip

        def inquiry(inquiry_id: str, received_at: datetime) -> InquiryReceived:
            buyer = Buyer(id=f"b-{inquiry_id}", addresses=(f"{inquiry_id}@buyer.example",))
            return InquiryReceived(
                company_id="shop", account_id="main", inquiry_id=inquiry_id, received_at=received_at, buyer=buyer
            )

        def known() -> dict[str, str]:
            return dict(connection.execute("SELECT inquiry_id, outcome FROM report_v1.inquiry_outcomes").fetchall())

        def behind() -> float:
            count = connection.execute(
                "SELECT extract(epoch FROM clock_timestamp() - passed_at)::float8 FROM ledger.pipeline WHERE partition = %s",
                (HOME,),
            ).fetchone()
            assert count is not None
            return float(count[0])

        with ExitStack() as stack:
            aggregator = stack.enter_context(
                Process("services.aggregator", {**environ, "REPLYRATE_HTTP__PORT": "0"}, tmp_path / "aggregator.log")
            )

            def matcher(name: str) -> Process:
                return stack.enter_context(
                    Process("services.matcher", {**environ, "REPLYRATE_HTTP__PORT": "0"}, tmp_path / f"{name}.log")
                )

            first = matcher("first")
            # An inquiry due in about a minute, and one that is never answered.
            soon = datetime.now(UTC).replace(microsecond=0) - DAY + timedelta(seconds=50)
            put(inquiry("open", soon), inquiry("silent", NOW - 7 * DAY))
            until(lambda: known() == {"open": "pending", "silent": "unanswered"}, 60, "judged", (aggregator, first))
            assert behind() < 40
            assert first.terminate() == 0
            answer = ReplyRecorded(
                company_id="shop",
                account_id="main",
                inquiry_id="open",
                reply_id="r1",
                replied_at=soon + HOUR,
                channel="chat",
            )
            put(answer, inquiry("unknown", NOW - 7 * DAY))
            # The deadline passes while the answer is still in Kafka.
            while datetime.now(UTC) < soon + DAY + timedelta(seconds=12):
                assert known()["open"] == "pending"
                time.sleep(0.5)
            stood = behind()
            assert stood > 12
            time.sleep(6)
            assert known()["open"] == "pending" and behind() > stood + 5
            # A quarter of an hour later, without waiting for it.
            connection.execute(
                "UPDATE ledger.pipeline SET passed_at = passed_at - interval '20 min' WHERE partition = %s", (HOME,)
            )
            doctor_answer = json.loads(run("doctor", "shop", "--json").stdout)
            assert doctor_answer["waiting_seconds"] > 1200
            assert doctor_answer["diagnoses"][0]["findings"][0]["cause"] == "pipeline-behind"
            assert doctor_answer["diagnoses"][0]["findings"][0]["confidence"] == "high"
            second = matcher("second")
            wanted = {"open": "timely", "silent": "unanswered", "unknown": "unanswered"}
            until(lambda: known() == wanted, 60, "counted", (aggregator, second))
            until(lambda: behind() < 30, 30, "nothing waits", (aggregator, second))
            history = connection.execute(
                "SELECT DISTINCT outcome FROM ledger.outcome_history WHERE inquiry_id = 'open'"
            ).fetchall()
            assert history == [("pending",)], "no false answer was ever shown"
            doctor_answer = json.loads(run("doctor", "shop", "--json").stdout)
            assert doctor_answer["waiting_seconds"] < 60
            # A transactional producer leaves markers and aborted records at the end, which are never read: nothing waits there,
            # and an inquiry of an aborted transaction does not exist.
            producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id="platform")
            producer.init_transactions()
            for name, end_of in (("taken-back", producer.abort_transaction), ("paid", producer.commit_transaction),
                                 ("taken-back-too", producer.abort_transaction)):  # fmt: skip
                producer.begin_transaction()
                event = codec.encode(inquiry(name, NOW - 7 * DAY), id=name, source="tests", time=NOW)
                producer.send(INQUIRIES, event, key=b"shop", partition=HOME).get(10)
                end_of()
            producer.close()
            began = datetime.now(UTC)
            until(lambda: known().get("paid") == "unanswered", 40, "counted", (aggregator, second))
            with Admin(kafka, "tests") as admin:
                end = admin.spans((INQUIRIES,))[INQUIRIES, HOME][1]
                until(lambda: admin.committed("replyrate-matcher")[INQUIRIES, HOME] == end, 20, "passed", (second,))
            until(
                lambda: behind() < (datetime.now(UTC) - began).total_seconds(), 30, "it goes on", (aggregator, second)
            )
            assert known() == {**wanted, "paid": "unanswered"}
            for process in (second, aggregator):
                assert process.terminate() == 0
