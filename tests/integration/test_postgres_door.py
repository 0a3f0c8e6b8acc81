"""The door to Postgres: errors in our kinds, no secret in any of them, statements by name."""

import pytest

from services.common import postgres
from services.common.errors import ConfigError, TransientError
from services.standalone.servers.child import free_port


def test_a_server_that_is_away_is_transient_and_names_the_setting() -> None:
    with pytest.raises(TransientError, match="REPLYRATE_POSTGRES__DSN") as caught:
        postgres.connect(f"postgresql://user:secret-canary@127.0.0.1:{free_port()}/x", "tests")
    assert "canary" not in str(caught.value)


def test_a_dsn_that_cannot_be_understood_is_a_config_error() -> None:
    with pytest.raises(ConfigError) as caught:
        postgres.connect("postgresql://user:secret-canary@[::1", "tests")
    assert "canary" not in str(caught.value)


def test_a_database_that_does_not_exist_is_a_config_error(dsn: str) -> None:
    with pytest.raises(ConfigError, match="check user, password and database"):
        postgres.connect(dsn.rsplit("/", 1)[0] + "/nowhere", "tests")


def test_connections_commit_alone_speak_utc_and_have_limits(dsn: str) -> None:
    with postgres.connect(dsn, "tests", statement_seconds=1) as connection:
        assert connection.autocommit
        assert connection.execute("SHOW timezone").fetchone() == ("UTC",)
        with pytest.raises(TransientError, match="57014"), postgres.translate():
            connection.execute("SELECT pg_sleep(30)")


def test_a_connection_that_was_cut_is_transient(dsn: str) -> None:
    with postgres.connect(dsn, "tests") as connection, postgres.connect(dsn, "tests") as killer:
        killer.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        with pytest.raises(TransientError), postgres.translate():
            connection.execute("SELECT 1")
            connection.execute("SELECT 1")
