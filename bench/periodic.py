"""What periodic statements cost in a large installation: each is a look that nearly always finds little to do."""

import time
from statistics import median
from typing import Any, Final

import psycopg

from bench.measure import Figure, scratch
from services.common import migrations
from services.common.postgres import connect, load_statements
from services.standalone.servers.postgres import EmbeddedPostgres
from tests.support import large_database

COMPANIES: Final = 200_000
MAILBOXES: Final = 1_000_000
INQUIRIES: Final = 1_000_000
LOOKS: Final = 30
VALUES: Final[dict[str, Any]] = {
    "most": 8, "quarantined": [], "horizon_days": 60, "topic": "inquiry-replies.v1",
    "new_seconds": 300.0, "within_seconds": 3600.0, "lead_seconds": 60.0,
}  # fmt: skip
STATEMENTS: Final = (
    ("services.aggregator.refresh", "refresh.sql", "due"),
    ("services.aggregator.refresh", "refresh.sql", "waiting"),
    ("services.aggregator.refresh", "diagnose.sql", "undiagnosed"),
    ("services.aggregator", "monitor.sql", "refresh_lag"),
    ("services.registry", "leases.sql", "states"),
    ("services.registry", "leases.sql", "waiting"),
    ("services.registry", "pacing.sql", "before_deadline"),
    ("services.registry", "retention.sql", "message_counts"),
    ("services.registry", "retention.sql", "connection_tests"),
)
"""What runs every second to every hour, whether or not there is anything to do."""


def measure(repeats: int) -> list[Figure]:
    """The median of each look, on 200,000 companies and 1,000,000 mailboxes."""
    del repeats  # each look is repeated by itself
    with scratch() as folder, EmbeddedPostgres(folder / "postgres", durable=True) as server:
        with connect(server.create_database("bench_periodic"), "bench", statement_seconds=3600) as connection:
            migrations.migrate(connection, lambda _: None)
            large_database.load(connection, COMPANIES, MAILBOXES, INQUIRIES, days=1)
            return [look(connection, *statement) for statement in STATEMENTS]


def look(connection: psycopg.Connection, package: str, file: str, name: str) -> Figure:
    """How long one statement takes; its changes are rolled back."""
    text = load_statements(package, file)[name]
    figure = Figure(
        f"look_{file.removesuffix('.sql')}_{name}_ms", f"{package}/{file}: `{name}`, milliseconds",
        2 if name == "due" else 5, smaller_is_better=True, detail={"companies": COMPANIES, "mailboxes": MAILBOXES},
    )  # fmt: skip
    seconds: list[float] = []
    for _ in range(LOOKS):
        with connection.transaction(force_rollback=True):
            started = time.perf_counter()
            connection.execute(text, VALUES)
            seconds.append(time.perf_counter() - started)
    figure.values.append(1000 * median(seconds))
    return figure
