"""Through PgBouncer in transaction mode: no session outlives a transaction, and what the pooler drops is noticed.

The suites of the fetcher, the aggregator and the command line run through it as well (`pytestmark = pytest.mark.pooled`).
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from services.aggregator.judge import judge
from services.common import migrations, postgres
from services.common.errors import ConfigError
from services.standalone.servers.postgres import EmbeddedPostgres
from tests.support.pgbouncer import PgBouncer

pytestmark = pytest.mark.pooled


@pytest.fixture
def narrow(scratch: Path, postgres_server: EmbeddedPostgres) -> Iterator[PgBouncer]:
    """A pooler with one session for all its clients."""
    with PgBouncer(scratch / "pgbouncer", postgres_server, sessions=1) as server:
        yield server


def test_clients_that_share_a_session_repeat_statements_and_keep_utc(direct_dsn: str, narrow: PgBouncer) -> None:
    dsn = narrow.pooled(direct_dsn)
    with postgres.connect(dsn, "first") as first, postgres.connect(dsn, "second") as second:
        assert postgres.is_pooled(first) and postgres.is_pooled(second)
        for number in range(20):
            for connection in (first, second):
                with connection.transaction():
                    (answer,) = connection.execute("SELECT %s::int", (number,)).fetchone() or (None,)
                assert answer == number
        at = datetime(2026, 1, 1, tzinfo=UTC)
        assert first.execute("SELECT %s::timestamptz::text", (at,)).fetchone() == ("2026-01-01 00:00:00+00",)
    with postgres.connect(direct_dsn, "direct") as connection:
        assert not postgres.is_pooled(connection)


def test_a_login_that_the_pooler_refuses_is_a_config_error(dsn: str) -> None:
    user = dsn.split("//", 1)[1].split(":", 1)[0]
    place = dsn.rsplit("@", 1)[1]
    for wrong in (f"postgresql://{user}:secret-canary@{place}", f"postgresql://nobody:secret-canary@{place}"):
        with pytest.raises(ConfigError, match="check user, password and database") as caught:
            postgres.connect(wrong, "tests")
        assert "canary" not in str(caught.value)


def test_migrations_are_refused_and_leave_no_lock_behind(dsn: str, direct_dsn: str) -> None:
    with postgres.connect(dsn, "tests") as connection, pytest.raises(ConfigError, match="address of Postgres itself"):
        migrations.migrate(connection, lambda _: None)
    with postgres.connect(direct_dsn, "tests") as connection:
        locks = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
        assert locks == (0,)
        assert migrations.migrate(connection, lambda _: None) == 0


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("ignore_startup_parameters = options\n", "ignore_startup_parameters"),
        ("SET timezone = ''UTC''; ", "SET timezone"),
        ("SET statement_timeout = ''120s''; ", "statement_timeout"),
    ],
)
def test_a_pooler_that_is_not_set_up_is_named(
    direct_dsn: str, narrow: PgBouncer, postgres_server: EmbeddedPostgres, removed: str, message: str
) -> None:
    postgres_server.sql(f"ALTER DATABASE {direct_dsn.rsplit('/', 1)[1]} SET timezone = 'Asia/Shanghai'")
    narrow.stop()
    narrow.left_out = removed
    narrow.start()
    with pytest.raises(ConfigError, match=message):
        postgres.connect(narrow.pooled(direct_dsn), "tests")


def test_temporary_tables_of_another_release_are_replaced(direct_dsn: str, narrow: PgBouncer) -> None:
    """A session of the pooler may have those of a release that ran before."""
    dsn = narrow.pooled(direct_dsn)
    with postgres.connect(dsn, "earlier") as earlier:
        earlier.execute("CREATE TEMPORARY TABLE judged (company_id text) ON COMMIT DELETE ROWS")
        earlier.execute("CREATE TEMPORARY TABLE counted (company_id text) ON COMMIT DELETE ROWS")
    with postgres.connect(dsn, "ours") as connection:
        assert columns(connection) == 1
        with connection.transaction():
            judge.prepare(connection)
        assert columns(connection) > 20
        first = oid(connection)
        with connection.transaction():
            judge.prepare(connection)
        assert oid(connection) == first, "created again although it was ours"


def columns(connection: psycopg.Connection) -> int:
    (count,) = connection.execute(
        "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('pg_temp.counted') AND attnum > 0"
    ).fetchone() or (0,)
    return int(count)


def oid(connection: psycopg.Connection) -> int:
    (value,) = connection.execute("SELECT to_regclass('pg_temp.judged')::oid::bigint").fetchone() or (0,)
    return int(value)
