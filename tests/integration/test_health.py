"""The health pages of the services, while their real servers go away and come back."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.common import codec, migrations
from services.common.events import Buyer, InquiryReceived
from services.common.postgres import (
    AGGREGATOR_CONNECTIONS,
    FETCHER_CONNECTIONS,
    PORTAL_CONNECTIONS,
    connect,
    connections,
)
from services.common.topics import INQUIRIES, REPLIES, STATE_BYTES
from services.standalone.servers.child import free_port
from services.standalone.servers.environment import service_environ
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.postgres import EmbeddedPostgres
from tests.support.processes import Process, get, until
from tests.support.topics import PARTITIONS, create_topics, kafka_settings, publish, set_config

SERVICES = ("fetcher", "matcher", "aggregator", "portal")
WORKERS = 5
FROM_ZERO = {
    "fetcher": (
        'replyrate_records_rejected_total{reason="unreadable-message",service="fetcher"}',
        *(f'replyrate_fetcher_logins_total{{result="{result}"}}' for result in ("done", "login-refused", "throttled")),
        *(f'replyrate_fetcher_messages_seen_total{{kind="{kind}"}}' for kind in ("human", "automatic")),
    ),
    "matcher": (
        *(
            f'replyrate_records_rejected_total{{reason="{reason}",service="matcher"}}'
            for reason in ("not-json", "schema", "limit", "late", "misrouted")
        ),
        *(f'replyrate_matcher_matches_total{{evidence="{test}"}}' for test in ("in-reply-to", "buyer-address", "platform")),
        "replyrate_matcher_states_emitted_total", "replyrate_matcher_rerouted_total",
    ),
    "aggregator": (
        *(
            f'replyrate_records_rejected_total{{reason="{reason}",service="aggregator"}}'
            for reason in ("not-json", "schema", "limit")
        ),
    ),
    "portal": (),
}  # fmt: skip
"""Service → series of its page that are 0 when it has only started."""
NEEDS_POSTGRES = ("fetcher", "aggregator", "portal")
NEEDS_KAFKA = ("fetcher", "matcher", "aggregator")
"""The portal's pages work without it; only a platform's inquiries wait."""
SESSION_SECONDS = 10


def metric(port: int, name: str) -> float:
    lines = [line for line in get(port, "/metrics")[1].splitlines() if line.startswith(name)]
    assert len(lines) == 1, (name, lines)
    return float(lines[0].rpartition(" ")[2])


@pytest.fixture
def own_postgres(scratch: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(scratch / "postgres") as server:
        yield server


def test_pages_report_servers_that_stop_and_start_correctly(
    own_postgres: EmbeddedPostgres, own_kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    kafka = kafka_settings(own_kafka.bootstrap_servers)
    create_topics(kafka)
    dsn = own_postgres.create_database("health")
    with connect(dsn, "tests") as connection:
        migrations.migrate(connection, lambda _: None)
    ports = {name: free_port() for name in SERVICES}
    environ = service_environ(
        tmp_path,
        kafka=kafka.bootstrap_servers,
        partitions=PARTITIONS,
        dsn=dsn,
        MATCHER__SESSION_TIMEOUT_SECONDS=str(SESSION_SECONDS),
        AGGREGATOR__SESSION_TIMEOUT_SECONDS=str(SESSION_SECONDS),
        FETCHER__WORKERS=str(WORKERS),
        PORTAL__PORT=str(free_port()),
    )
    own_postgres.stop()
    own_kafka.stop()
    with ExitStack() as stack:
        running = tuple(
            stack.enter_context(
                Process(
                    f"services.{name}", {**environ, "REPLYRATE_HTTP__PORT": str(ports[name])}, tmp_path / f"{name}.log"
                )
            )
            for name in SERVICES
        )

        def states(page: str) -> dict[str, int]:
            return {name: get(port, page)[0] for name, port in ports.items()}

        def all_ready() -> bool:
            return set(states("/readyz").values()) == {200}

        def open_connections() -> dict[str, int]:
            """Connections of each service, as the server counts them."""
            with connect(own_postgres.dsn(), "tests") as connection:
                sessions = connection.execute("SELECT application_name FROM pg_stat_activity").fetchall()
            return {name: sum(client.startswith(f"replyrate-{name}") for (client,) in sessions) for name in SERVICES}

        wanted = {
            "fetcher": FETCHER_CONNECTIONS, "matcher": 0, "aggregator": AGGREGATOR_CONNECTIONS, "portal": PORTAL_CONNECTIONS,
        }  # fmt: skip
        assert sum(wanted.values()) == connections(fetchers=1, aggregators=1, portals=1)

        def within() -> bool:
            """Fetcher and portal open connections as they need them, and never more."""
            opened = open_connections()
            return (
                opened["aggregator"] == wanted["aggregator"]
                and 2 <= opened["fetcher"] <= wanted["fetcher"]
                and 1 <= opened["portal"] <= wanted["portal"]
            )

        # It starts in an outage: the pages are there, and an orchestrator has no reason to restart it.
        until(lambda: set(states("/healthz").values()) == {200}, 30, "pages", running)
        for name, port in ports.items():
            status, reasons = get(port, "/readyz")
            assert status == 503 and ("kafka does not answer" in reasons) == (name in NEEDS_KAFKA)
            assert ("postgres does not answer" in reasons) == (name in NEEDS_POSTGRES)
            assert metric(port, "replyrate_ready{") == 0
        own_postgres.start()
        until(lambda: "postgres" not in get(ports["fetcher"], "/readyz")[1], 30, "Postgres answers", running)
        assert get(ports["fetcher"], "/readyz") == (
            503, "no\nkafka does not answer\nstarting: schema and topics have not been checked yet\n",
        )  # fmt: skip
        # The matcher waits for longer than it may pause once it is running.
        matcher = running[SERVICES.index("matcher")]
        until(
            lambda: "dependency-away" in {line.get("action") for line in matcher.lines()},
            40,
            "the wait is logged",
            running,
        )
        time.sleep(SESSION_SECONDS / 2)
        own_kafka.start()
        until(all_ready, 90, "every service ready", running)
        # Series from which alerts compute an increase start at 0, not with the first burst.
        for name in SERVICES:
            page = get(ports[name], "/metrics")[1].splitlines()
            for series in FROM_ZERO[name]:
                assert f"{series} 0.0" in page, (name, series)
        until(within, 30, f"connections as in docs/scaling.md: {wanted}", running)
        assert set(states("/healthz").values()) == {200}

        own_postgres.stop()
        until(
            lambda: all("postgres does not answer" in get(ports[name], "/readyz")[1] for name in NEEDS_POSTGRES),
            40, "Postgres does not answer", running,
        )  # fmt: skip
        for name in NEEDS_POSTGRES:
            assert get(ports[name], "/readyz")[0] == 503
            assert metric(ports[name], "replyrate_ready{") == 0
        assert set(states("/healthz").values()) == {200}
        assert get(ports["matcher"], "/readyz") == (200, "yes\n"), "it needs no Postgres"
        own_postgres.start()
        until(all_ready, 60, "ready again", running)

        own_kafka.stop()
        until(
            lambda: all("kafka does not answer" in get(ports[name], "/readyz")[1] for name in NEEDS_KAFKA),
            60, "Kafka does not answer", running,
        )  # fmt: skip
        assert states("/readyz") == {name: 503 if name in NEEDS_KAFKA else 200 for name in SERVICES}
        assert set(states("/healthz").values()) == {200}
        own_kafka.start()
        until(all_ready, 90, "ready again", running)

        # Waiting records are reported as the broker knows them, and no longer once they are processed.
        publish(kafka, "inquiries.v1", [(b"c1", b"no json")])
        until(lambda: metric(ports["aggregator"], "replyrate_dead_letters_waiting") == 1, 30, "a dead letter", running)
        until(
            lambda: metric(ports["matcher"], 'replyrate_matcher_lag_records{topic="inquiries.v1"}') == 0,
            30, "no lag", running,
        )  # fmt: skip
        assert metric(ports["matcher"], "replyrate_build_info{") == 1
        assert metric(ports["fetcher"], 'replyrate_fetcher_mailboxes{state="active"}') == 0
        assert within()
        for process in running:
            assert process.terminate() == 0


def test_work_that_waits_although_every_dependency_answers_is_reported(
    dsn: str, topics_gone: str, tmp_path: Path
) -> None:
    kafka = kafka_settings(topics_gone)
    create_topics(kafka)
    ports = {name: free_port() for name in ("matcher", "aggregator")}
    environ = service_environ(tmp_path, kafka=kafka.bootstrap_servers, partitions=PARTITIONS, dsn=dsn)
    with ExitStack() as stack:
        matcher, aggregator = (
            stack.enter_context(
                Process(
                    "tests.support.impatient",
                    {**environ, "SERVICE": f"services.{name}", "REPLYRATE_HTTP__PORT": str(port)},
                    tmp_path / f"{name}.log",
                )
            )
            for name, port in ports.items()
        )
        running = (matcher, aggregator)
        until(lambda: all(get(port, "/readyz")[0] == 200 for port in ports.values()), 60, "ready", running)

        # Every write to the matcher's output is refused for now: it retries and commits nothing.
        set_config(kafka.bootstrap_servers, REPLIES, "max.message.bytes", "10")
        publish(kafka, INQUIRIES, [(b"c1", inquiry(number)) for number in range(5)])
        stuck = "no offset was committed"
        until(lambda: stuck in get(ports["matcher"], "/healthz")[1], 40, "no progress is reported", running)
        assert get(ports["matcher"], "/healthz")[0] == get(ports["matcher"], "/readyz")[0] == 503
        assert metric(ports["matcher"], "replyrate_healthy{") == 0
        assert get(ports["aggregator"], "/healthz")[0] == 200, "nothing waits for it"
        set_config(kafka.bootstrap_servers, REPLIES, "max.message.bytes", str(STATE_BYTES))
        until(lambda: get(ports["matcher"], "/readyz")[0] == 200, 60, "work continues", running)

        # A lock on the row that every merge must update: the aggregator waits for it.
        until(lambda: metric(ports["aggregator"], "replyrate_aggregator_lag_records") == 0, 30, "merged", running)
        with connect(dsn, "tests") as connection:
            with connection.transaction():
                connection.execute("SELECT FROM ledger.offsets FOR UPDATE")
                publish(kafka, INQUIRIES, [(b"c1", inquiry(number)) for number in range(5, 10)])
                stuck = "no record was merged"
                until(lambda: stuck in get(ports["aggregator"], "/healthz")[1], 40, "no progress is reported", running)
                assert get(ports["matcher"], "/healthz")[0] == 200
        until(lambda: get(ports["aggregator"], "/readyz")[0] == 200, 60, "work continues", running)
        assert matcher.terminate() == 0
        assert aggregator.terminate() == 0


def inquiry(number: int) -> bytes:
    now = datetime.now(UTC)
    event = InquiryReceived(
        company_id="c1", account_id="main", inquiry_id=f"i{number}", received_at=now, buyer=Buyer(id="b"),
    )  # fmt: skip
    return codec.encode(event, id=f"e{number}", source="tests", time=now)
