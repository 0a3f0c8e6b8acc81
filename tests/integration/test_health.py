"""The health pages of the three services, while their real servers go away and come back."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.common import migrations
from services.common.postgres import connect
from services.standalone.child import free_port
from services.standalone.kafka import EmbeddedKafka
from services.standalone.postgres import EmbeddedPostgres
from tests.integration.processes import Process, get, until
from tests.integration.topics import PARTITIONS, create_topics, kafka_settings, publish

SERVICES = ("fetcher", "matcher", "aggregator")
NEEDS_POSTGRES = ("fetcher", "aggregator")


def metric(port: int, name: str) -> float:
    lines = [line for line in get(port, "/metrics")[1].splitlines() if line.startswith(name)]
    assert len(lines) == 1, (name, lines)
    return float(lines[0].rpartition(" ")[2])


@pytest.fixture
def own_postgres(scratch: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(scratch / "postgres") as server:
        yield server


@pytest.mark.timeout(300)
def test_pages_tell_the_truth_while_servers_go_and_come(
    own_postgres: EmbeddedPostgres, own_kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    kafka = kafka_settings(own_kafka.bootstrap_servers)
    create_topics(kafka)
    dsn = own_postgres.create_database("health")
    with connect(dsn, "tests") as connection:
        migrations.migrate(connection, lambda _: None)
    for key in ("hash.key", "vault.key"):
        (tmp_path / key).write_bytes(bytes(32))
    ports = {name: free_port() for name in SERVICES}
    environ = {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "REPLYRATE_KAFKA__PARTITIONS": str(PARTITIONS),
        "REPLYRATE_POSTGRES__DSN": dsn,
        "REPLYRATE_HASH_KEY_FILE": str(tmp_path / "hash.key"),
        "REPLYRATE_VAULT_KEY_FILE": str(tmp_path / "vault.key"),
        "REPLYRATE_MATCHER__DATA_DIR": str(tmp_path / "matcher"),
        "REPLYRATE_MATCHER__STORE": "memory",
        "REPLYRATE_MATCHER__SESSION_TIMEOUT_SECONDS": "10",
        "REPLYRATE_AGGREGATOR__SESSION_TIMEOUT_SECONDS": "10",
    }
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

        until(all_ready, 60, "every service ready", running)
        assert set(states("/healthz").values()) == {200}

        own_postgres.stop()
        until(lambda: all(get(ports[name], "/readyz")[0] == 503 for name in NEEDS_POSTGRES), 40, "told", running)
        for name in NEEDS_POSTGRES:
            assert "postgres does not answer" in get(ports[name], "/readyz")[1]
            assert metric(ports[name], "replyrate_ready{") == 0
        assert set(states("/healthz").values()) == {200}
        assert get(ports["matcher"], "/readyz") == (200, "yes\n"), "it needs no Postgres"
        own_postgres.start()
        until(all_ready, 60, "ready again", running)

        own_kafka.stop()
        until(
            lambda: all("kafka does not answer" in get(port, "/readyz")[1] for port in ports.values()),
            60, "told", running,
        )  # fmt: skip
        assert set(states("/readyz").values()) == {503}
        assert set(states("/healthz").values()) == {200}
        own_kafka.start()
        until(all_ready, 90, "ready again", running)

        # What waits is told as the broker knows it, and is gone when it was handled.
        publish(kafka, "inquiries.v1", [(b"c1", b"no json")])
        until(lambda: metric(ports["aggregator"], "replyrate_dead_letters_waiting") == 1, 30, "a dead letter", running)
        until(
            lambda: metric(ports["matcher"], 'replyrate_matcher_lag_records{topic="inquiries.v1"}') == 0,
            30, "no lag", running,
        )  # fmt: skip
        assert metric(ports["matcher"], "replyrate_build_info{") == 1
        assert metric(ports["fetcher"], 'replyrate_fetcher_mailboxes{state="active"}') == 0
        for process in running:
            assert process.terminate() == 0
