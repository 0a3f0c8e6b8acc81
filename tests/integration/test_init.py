"""`replyrate init` on real servers: logins with their privileges, schema and topics; a second run changes nothing."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.conninfo import make_conninfo

from services.cli.__main__ import main
from services.cli.operate.init import CONNECTION_LIMITS, LOGINS
from services.standalone.servers.postgres import EmbeddedPostgres
from tests.support.topics import kafka_settings, read_all


@pytest.fixture(scope="module")
def own_postgres(server_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A separate server, because roles belong to all databases of a server."""
    with EmbeddedPostgres(server_folder / "postgres-init") as server:
        yield server


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    folder = tmp_path / "passwords"
    folder.mkdir()
    for login in LOGINS:
        (folder / f"postgres-{login.removeprefix('replyrate_')}").write_text(f"{login} 'pass\\word\n", "utf-8")
    return folder


def init(postgres: EmbeddedPostgres, kafka: str, tmp_path: Path, *arguments: str, code: int = 0) -> Result:
    (tmp_path / "hash.key").write_bytes(bytes(32))
    env = {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": kafka, "REPLYRATE_KAFKA__PARTITIONS": "2",
        "REPLYRATE_POSTGRES__DSN": f"postgresql://replyrate_migrator@127.0.0.1:{postgres.port}/rates",
        "REPLYRATE_POSTGRES__PASSWORD_FILE": str(tmp_path / "passwords" / "postgres-migrator"),
        "REPLYRATE_HASH_KEY_FILE": str(tmp_path / "hash.key"),
    }  # fmt: skip
    done = CliRunner().invoke(main, ["init", *arguments], env=env)
    assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
    return done


def as_login(postgres: EmbeddedPostgres, login: str, passwords: Path) -> psycopg.Connection:
    password = (passwords / f"postgres-{login.removeprefix('replyrate_')}").read_text("utf-8").strip()
    dsn = make_conninfo(host="127.0.0.1", port=postgres.port, dbname="rates", user=login, password=password)
    return psycopg.connect(dsn, autocommit=True)


def test_from_an_empty_server_to_logins_schema_and_topics(
    own_postgres: EmbeddedPostgres, topics_gone: str, tmp_path: Path, passwords: Path
) -> None:
    arguments = ("--admin-dsn", own_postgres.dsn(), "--passwords", str(passwords))
    printed = init(own_postgres, topics_gone, tmp_path, *arguments).stderr
    assert "applying 0001" in printed and "created inquiries.v1" in printed
    again = init(own_postgres, topics_gone, tmp_path, *arguments).stderr
    assert "applying" not in again and "created" not in again and "up to date" in again
    assert read_all(kafka_settings(topics_gone, 2), "inquiries.v1") == []
    with as_login(own_postgres, "replyrate_aggregator", passwords) as connection:
        connection.execute("CREATE TEMPORARY TABLE t (n int)")
        connection.execute("SELECT 1 FROM ledger.inquiries")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE public.t (n int)")
    with as_login(own_postgres, "replyrate_portal", passwords) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("30s",)
        assert connection.execute("SELECT count(*) FROM registry.companies").fetchone() == (0,)
        for refused in (
            "SELECT 1 FROM registry.secrets",
            "SET ROLE replyrate_fetcher",
            "CREATE TEMPORARY TABLE t (n int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused.encode())
    with as_login(own_postgres, "replyrate_console", passwords) as connection:
        assert connection.execute("SELECT count(*) FROM registry.companies").fetchone() == (0,)
        for refused in (
            "SELECT 1 FROM registry.secrets",
            "SET ROLE replyrate_portal",
            "SELECT 1 FROM registry.staff_sessions",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused.encode())
    with as_login(own_postgres, "replyrate_dashboard", passwords) as connection:
        connection.execute("SELECT 1 FROM reply_rate")
        assert connection.execute("SHOW statement_timeout").fetchone() == ("30s",)
        for refused in ("SELECT 1 FROM ledger.inquiries", "CREATE TEMPORARY TABLE t (n int)"):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
                connection.execute(refused.encode())
        # Limits that the login cannot lift; `SET statement_timeout` cannot be refused (docs/dashboards.md, Limits).
        assert connection.execute("SHOW temp_file_limit").fetchone() == ("1GB",)
        for refused in ("SET temp_file_limit = -1", "ALTER ROLE replyrate_dashboard CONNECTION LIMIT -1"):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
                connection.execute(f"SET default_transaction_read_only = off; {refused}".encode())
        with ExitStack() as sessions:
            for _ in range(CONNECTION_LIMITS["replyrate_dashboard"] - 1):
                sessions.enter_context(as_login(own_postgres, "replyrate_dashboard", passwords))
            with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
                as_login(own_postgres, "replyrate_dashboard", passwords)
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'rates'"
    assert own_postgres.sql(owner) == "replyrate_migrator"
    assert own_postgres.sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'replyrate%' AND rolsuper") == "0"


def test_a_changed_password_is_set_by_the_next_run(
    own_postgres: EmbeddedPostgres, topics_gone: str, tmp_path: Path, passwords: Path
) -> None:
    arguments = ("--admin-dsn", own_postgres.dsn(), "--passwords", str(passwords))
    init(own_postgres, topics_gone, tmp_path, *arguments)
    (passwords / "postgres-fetcher").write_text("another\n", "utf-8")
    with pytest.raises(psycopg.OperationalError, match="password"):
        as_login(own_postgres, "replyrate_fetcher", passwords)
    init(own_postgres, topics_gone, tmp_path, *arguments)
    as_login(own_postgres, "replyrate_fetcher", passwords).close()


def test_an_earlier_installation_gets_the_portals_login_with_the_password_that_is_added(
    own_postgres: EmbeddedPostgres, topics_gone: str, tmp_path: Path, passwords: Path
) -> None:
    """There the migration made the role, without login, and the folder of the passwords has no file for it."""
    arguments = ("--admin-dsn", own_postgres.dsn(), "--passwords", str(passwords))
    init(own_postgres, topics_gone, tmp_path, *arguments)
    own_postgres.sql("ALTER ROLE replyrate_portal NOLOGIN PASSWORD NULL")
    (passwords / "postgres-portal").rename(passwords / "new")
    printed = " ".join(init(own_postgres, topics_gone, tmp_path, *arguments, code=78).stderr.split())
    assert "postgres-portal" in printed and "make secrets" in printed
    as_login(own_postgres, "replyrate_fetcher", passwords).close()
    (passwords / "new").rename(passwords / "postgres-portal")
    init(own_postgres, topics_gone, tmp_path, *arguments)
    as_login(own_postgres, "replyrate_portal", passwords).close()


def test_errors_say_what_to_do(
    own_postgres: EmbeddedPostgres, topics_gone: str, tmp_path: Path, passwords: Path
) -> None:
    arguments = ("--admin-dsn", own_postgres.dsn(), "--passwords", str(passwords))
    assert "--passwords" in init(own_postgres, topics_gone, tmp_path, *arguments[:2], code=2).stderr
    init(own_postgres, topics_gone, tmp_path, *arguments)
    with as_login(own_postgres, "replyrate_fetcher", passwords) as connection:
        weak = make_conninfo(connection.info.dsn, password="replyrate_fetcher 'pass\\word")
    printed = init(own_postgres, topics_gone, tmp_path, "--admin-dsn", weak, *arguments[2:], code=78).stderr
    assert "CREATEROLE" in printed and "pass" not in printed.replace("password", "")
    (passwords / "postgres-dashboard").unlink()
    printed = init(own_postgres, topics_gone, tmp_path, *arguments, code=78).stderr
    assert "make secrets" in " ".join(printed.split())


def test_an_administrator_need_not_be_a_superuser(
    server_folder: Path, topics_gone: str, tmp_path: Path, passwords: Path
) -> None:
    """As on hosted servers: a user who may create roles and databases and owns nothing else."""
    with EmbeddedPostgres(server_folder / "postgres-hosted") as hosted:
        with psycopg.connect(hosted.dsn(), autocommit=True) as connection:
            connection.execute("CREATE ROLE keeper LOGIN PASSWORD 'kept' CREATEROLE CREATEDB")
        admin = make_conninfo(host="127.0.0.1", port=hosted.port, dbname="postgres", user="keeper", password="kept")
        arguments = ("--admin-dsn", admin, "--passwords", str(passwords))
        assert "applying 0001" in init(hosted, topics_gone, tmp_path, *arguments).stderr
        assert "up to date" in init(hosted, topics_gone, tmp_path, *arguments).stderr
        with as_login(hosted, "replyrate_migrator", passwords) as connection:
            owner = connection.execute(
                "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'rates'"
            ).fetchone()
            assert owner == ("replyrate_migrator",)
