"""What a poll that finds nothing costs: CPU of Postgres and of the fetcher, and statements, for each poll.

1. Fill a registry with mailboxes that were read before and have no new mail (rows, without connecting to any server).
2. Serve them from a mail server that costs little and runs in a process of its own (scripted_imap.py).
3. Run the fetcher as production starts it and warm up. Measure CPU between two readings of /proc.
4. Let Postgres log every statement for a while, and count them.
"""

import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Final

import psycopg

from bench.measure import Figure, Usage, scratch
from bench.scripted_imap import MESSAGES, SENT, UIDVALIDITY, scripted_server
from bench.world import PASSWORD, VAULT_KEY, World
from services.registry.vault import Vault
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.postgres import EmbeddedPostgres
from tests.support.processes import Process, until
from tests.support.topics import create_topics, kafka_settings

MAILBOXES: Final = 10_000
INTERVAL_SECONDS: Final = 300
"""With 10,000 mailboxes 33 polls a second: ordinary work of one fetcher, with cores to spare."""
WORKERS: Final = 64
WARM_SECONDS: Final = 15.0
MEASURED_SECONDS: Final = 40.0
LOGGED_SECONDS: Final = 15.0
DELAYS_EACH_SECONDS: Final = 1.0
POLLS: Final = "SELECT coalesce(sum(lease_epoch), 0) FROM registry.mailboxes"
DELAYS: Final = (
    "SELECT extract(epoch FROM last_attempt_at - next_poll_at)::float8 FROM registry.mailboxes"
    " WHERE lease_until > clock_timestamp()"
)
"""How long mailboxes that are leased now waited: a lease leaves the time at which the poll was due."""
STATEMENT: Final = re.compile(r"duration: ([0-9.]+) ms +(?:statement|parse|bind|execute) ?([^:]*): (.*)")


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters at an instant: polls begun, CPU seconds of fetcher, Postgres and mail server."""

    at: float
    polls: int
    fetcher: float
    postgres: float
    mail: float


@dataclass(frozen=True, slots=True)
class PollCost:
    """What one poll cost on average. `by_statement`: (text, calls a poll, milliseconds a poll), the most expensive first."""

    polls_per_second: float
    fetcher_ms: float
    postgres_ms: float
    mail_ms: float
    statements: float
    delay_p95_seconds: float
    connections: int
    by_statement: tuple[tuple[str, float, float], ...]


def fill(dsn: str, port: int, mailboxes: int, spread_seconds: float) -> None:
    """Rows of mailboxes, five for each company, that were read before; they are due one after the other within `spread_seconds`."""
    vault = Vault(VAULT_KEY)
    owners = [(f"c{number // 5}", f"a{number}", f"m{number}") for number in range(mailboxes)]
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY registry.companies (company_id) FROM STDIN") as copy:
            for company_id in dict.fromkeys(company_id for company_id, _, _ in owners):
                copy.write_row((company_id,))
        with cursor.copy("COPY registry.accounts (company_id, account_id) FROM STDIN") as copy:
            for company_id, account_id, _ in owners:
                copy.write_row((company_id, account_id))
        _fill_mailboxes(cursor, vault, owners, port, spread_seconds)
        with cursor.copy("COPY registry.secrets (company_id, mailbox_id, sealed, key_id) FROM STDIN") as copy:
            for company_id, _, mailbox_id in owners:
                place = (company_id, mailbox_id, "localhost", str(port), f"{mailbox_id}@mail.test")
                copy.write_row((company_id, mailbox_id, vault.seal(PASSWORD, *place, field="secret"), vault.key_id))
        cursor.execute(
            "INSERT INTO registry.folders (company_id, mailbox_id, folder, uidvalidity, high_uid, uidnext, recent_uids, messages)"
            " SELECT company_id, mailbox_id, %s, %s, %s, %s, %s, %s FROM registry.mailboxes",
            (SENT, UIDVALIDITY, MESSAGES, MESSAGES + 1, list(range(1, MESSAGES + 1)), MESSAGES),
        )
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def _fill_mailboxes(
    cursor: psycopg.Cursor, vault: Vault, owners: list[tuple[str, str, str]], port: int, spread_seconds: float
) -> None:
    clock = cursor.execute("SELECT now(), extract(epoch FROM now())::float8").fetchone()
    assert clock is not None
    now, epoch = clock
    with cursor.copy(
        "COPY registry.mailboxes (company_id, account_id, mailbox_id, role, state, address_masked, address_hash, host, port,"
        " user_sealed, login_hash, consent_by, consent_at, consent_text_version, next_poll_at, last_success_at, complete_from,"
        " complete_through, reconcile_after) FROM STDIN"
    ) as copy:
        for number, (company_id, account_id, mailbox_id) in enumerate(owners):
            user = vault.seal(f"{mailbox_id}@mail.test", company_id, mailbox_id, "localhost", str(port), field="user")
            due = time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(epoch + spread_seconds * number / len(owners)))
            copy.write_row(
                (
                    company_id, account_id, mailbox_id, "registered", "active", "s***", f"h{number}", "localhost", port,
                    user, f"l{number}", "bench", now, "1", due, now, now, now, "tomorrow",
                )
            )  # fmt: skip


def _postgres_pids(data_dir: Path) -> list[int]:
    postmaster = int((data_dir / "cluster" / "postmaster.pid").read_text("utf-8").split()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text("utf-8").split()
    return [postmaster, *map(int, children)]


class PostgresUsage:
    """CPU of the server and of all its backends, also of those that have ended since the last reading."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._usage: dict[int, Usage] = {}

    def cpu_seconds(self) -> float:
        """User and system time of all processes that were seen."""
        for pid in _postgres_pids(self._data_dir):
            self._usage.setdefault(pid, Usage(pid))
        return sum(usage.cpu_seconds() for usage in self._usage.values())


def run(mailboxes: int = MAILBOXES, interval: float = INTERVAL_SECONDS, **environ: str) -> PollCost:
    """Measure one fetcher."""
    with (
        scratch() as folder,
        EmbeddedPostgres(folder / "postgres", durable=True) as postgres,
        EmbeddedKafka(folder / "kafka") as kafka,
        scripted_server(folder / "mail") as server,
    ):
        settings = kafka_settings(kafka.bootstrap_servers)
        create_topics(settings)
        world = World(folder / "world", settings, postgres.create_database("bench"), server)
        fill(world.dsn, server.port, mailboxes, interval)
        environ = {
            "REPLYRATE_IMAP__POLL_INTERVAL_SECONDS": str(interval), "REPLYRATE_FETCHER__WORKERS": str(WORKERS),
            "REPLYRATE_IMAP__SESSIONS": "1000", **environ,
        }  # fmt: skip
        usage = PostgresUsage(postgres.data_dir), Usage(server.pid)
        with world.start("fetcher", **environ) as fetcher, psycopg.connect(world.dsn, autocommit=True) as connection:
            return _measured(fetcher, connection, usage, postgres)


def _measured(
    fetcher: Process, connection: psycopg.Connection, usage: tuple[PostgresUsage, Usage], postgres: EmbeddedPostgres
) -> PollCost:
    fetcher_usage = Usage(fetcher.pid)

    def polls() -> int:
        result = connection.execute(POLLS).fetchone()
        assert result is not None
        return int(result[0])

    def read() -> Reading:
        return Reading(
            time.monotonic(), polls(), fetcher_usage.cpu_seconds(), usage[0].cpu_seconds(), usage[1].cpu_seconds()
        )

    until(lambda: polls() > 0, 120, "the first poll", (fetcher,))
    time.sleep(WARM_SECONDS)
    before = read()
    delays: list[float] = []
    while time.monotonic() < before.at + MEASURED_SECONDS:
        time.sleep(DELAYS_EACH_SECONDS)
        assert fetcher.running(), fetcher.log.read_text("utf-8")[-3000:]
        usage[0].cpu_seconds()
        delays += [delay for (delay,) in connection.execute(DELAYS).fetchall()]
    after = read()
    connections = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'replyrate-%'"
    ).fetchone()
    assert connections is not None
    statements, logged_polls = _logged(connection, polls, postgres)
    fetcher.terminate()
    count = after.polls - before.polls
    return PollCost(
        polls_per_second=count / (after.at - before.at),
        fetcher_ms=(after.fetcher - before.fetcher) * 1000 / count,
        postgres_ms=(after.postgres - before.postgres) * 1000 / count,
        mail_ms=(after.mail - before.mail) * 1000 / count,
        statements=sum(calls for calls, _ in statements.values()) / logged_polls,
        delay_p95_seconds=quantiles(delays, n=20)[-1] if len(delays) > 1 else 0.0,
        connections=int(connections[0]),
        by_statement=tuple(
            sorted(
                ((text, calls / logged_polls, ms / logged_polls) for text, (calls, ms) in statements.items()),
                key=lambda line: -line[2],
            )
        ),
    )


def _logged(
    connection: psycopg.Connection, polls: Callable[[], int], postgres: EmbeddedPostgres
) -> tuple[dict[str, tuple[int, float]], int]:
    """(calls, milliseconds) of each statement that the fetcher sent in a while, and the polls meanwhile."""
    log = postgres.data_dir / "postgres.log"
    connection.execute("ALTER SYSTEM SET log_min_duration_statement = 0")
    connection.execute("ALTER SYSTEM SET log_line_prefix = '%a '")
    connection.execute("SELECT pg_reload_conf()")
    time.sleep(1)
    size, before = log.stat().st_size, polls()
    time.sleep(LOGGED_SECONDS)
    count = polls() - before
    statements: dict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    with log.open("rb") as stream:
        stream.seek(size)
        for line in stream.read().decode("utf-8", "replace").splitlines():
            parsed = STATEMENT.search(line)
            if parsed is None or not line.startswith("replyrate-"):
                continue
            kind = line.split(" ms ", 1)[1].split()[0].rstrip(":")
            calls, ms = statements[parsed[3]]
            statements[parsed[3]] = (calls + (kind in ("execute", "statement")), ms + float(parsed[1]))
    return statements, count


def measure(repeats: int, mailbox_count: int = MAILBOXES) -> list[Figure]:
    """The figures of a poll that finds nothing, each mailbox every 5 minutes; above 50,000 mailboxes every 10 minutes."""
    interval = INTERVAL_SECONDS if mailbox_count <= 5 * MAILBOXES else 2 * INTERVAL_SECONDS
    postgres = Figure("poll_postgres_cpu_ms", "CPU of Postgres for a poll that finds nothing, ms", 1.5, True)
    fetcher = Figure("poll_fetcher_cpu_ms", "the same of the fetcher, TLS included", 2.5, True)
    statements = Figure("poll_statements", "statements for each such poll", 3, True)
    delay = Figure("poll_delay_p95_seconds", "poll started − poll due, the slowest of 20", 60, True)
    mailboxes = Figure("mailboxes_run", "mailboxes of the measured fetcher", None)
    for number in range(repeats):
        print(f"  polls, {number + 1} of {repeats}", file=sys.stderr)
        cost = run(mailbox_count, interval)
        postgres.values.append(cost.postgres_ms)
        fetcher.values.append(cost.fetcher_ms)
        statements.values.append(cost.statements)
        delay.values.append(cost.delay_p95_seconds)
        mailboxes.values.append(mailbox_count)
        postgres.detail = {
            "polls_per_second": round(cost.polls_per_second, 1), "poll_seconds": interval, "workers": WORKERS, "connections": cost.connections,
            "mail_server_ms": round(cost.mail_ms, 2),
            "by_statement": [[text[:100], round(calls, 4), round(ms, 4)] for text, calls, ms in cost.by_statement[:12]],
        }  # fmt: skip
    return [postgres, fetcher, statements, delay, mailboxes]


if __name__ == "__main__":
    cost = run()
    print(cost)
    for text, calls, ms in cost.by_statement:
        print(f"{calls:8.3f} {ms:8.3f} ms  {text[:110]}")
