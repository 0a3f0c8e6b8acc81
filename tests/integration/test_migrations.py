"""The migration runner on a real Postgres: once each, together, and never over an edited file."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from services.common import migrations
from services.common.errors import ConfigError, TransientError
from services.common.postgres import connect
from services.standalone.servers.postgres import EmbeddedPostgres

NUMBERS = itertools.count(1)


@pytest.fixture
def empty(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """A database that was never migrated."""
    name = f"migrations_{next(NUMBERS)}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


def no_progress(_: str) -> None:
    pass


def test_every_file_runs_once_and_is_reported(empty: str) -> None:
    reported: list[str] = []
    with connect(empty, "tests") as connection:
        with pytest.raises(ConfigError, match="run `replyrate migrate`"):
            migrations.verify(connection)
        count = migrations.migrate(connection, reported.append)
        assert count == len(reported) == len(migrations.available())
        assert reported[0] == "0001_registry"
        migrations.verify(connection)
        assert migrations.migrate(connection, reported.append) == 0
        assert len(reported) == count


def test_runners_that_start_together_wait_for_each_other(empty: str) -> None:
    def run() -> int:
        with connect(empty, "tests") as connection:
            return migrations.migrate(connection, no_progress)

    with ThreadPoolExecutor(4) as pool:
        counts = [future.result() for future in [pool.submit(run) for _ in range(4)]]
    assert sorted(counts) == [0, 0, 0, len(migrations.available())]


def test_an_edited_file_is_refused(empty: str) -> None:
    with connect(empty, "tests") as connection:
        migrations.migrate(connection, no_progress)
        connection.execute("UPDATE replyrate.migrations SET sha256 = 'other' WHERE number = 1")
        for check in (migrations.verify, lambda connection: migrations.migrate(connection, no_progress)):
            with pytest.raises(ConfigError, match="0001 .registry. was changed after it was applied"):
                check(connection)


def test_a_file_of_a_newer_release_is_refused(empty: str) -> None:
    with connect(empty, "tests") as connection:
        migrations.migrate(connection, no_progress)
        connection.execute("INSERT INTO replyrate.migrations (number, name, sha256) VALUES (999, 'future', 'x')")
        with pytest.raises(ConfigError, match="0999 .future. is in the database, but not in this release"):
            migrations.verify(connection)


def test_an_older_release_goes_on_when_a_newer_one_only_added(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade rolls: the schema is the new release's, services of the old one still start and are restarted."""
    ours = migrations.available()
    added = migrations.Migration(
        ours[-1].number + 1, "added", "x", "\n-- additive: yes\nALTER TABLE ledger.rates ADD COLUMN note text;"
    )
    changed = migrations.Migration(ours[-1].number + 2, "changed", "x", "ALTER TABLE ledger.rates DROP COLUMN note;")
    with connect(empty, "tests") as connection:
        monkeypatch.setattr(migrations, "available", lambda: [*ours, added])
        assert migrations.migrate(connection, no_progress) == len(ours) + 1
        monkeypatch.setattr(migrations, "available", lambda: ours)
        migrations.verify(connection)
        assert migrations.migrate(connection, no_progress) == 0
        monkeypatch.setattr(migrations, "available", lambda: [*ours, added, changed])
        assert migrations.migrate(connection, no_progress) == 1
        monkeypatch.setattr(migrations, "available", lambda: ours)
        with pytest.raises(ConfigError, match=r"\(changed\) is in the database, but not in this release"):
            migrations.verify(connection)


def test_a_database_of_before_is_understood(empty: str) -> None:
    with connect(empty, "tests") as connection:
        migrations.migrate(connection, no_progress)
        connection.execute("ALTER TABLE replyrate.migrations DROP COLUMN additive")
        migrations.verify(connection)
        assert migrations.migrate(connection, no_progress) == 0


def test_a_failing_file_leaves_nothing_and_the_lock_is_free(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = migrations.Migration(2, "broken", "x", "CREATE TABLE public.half (a int); SELECT 1/0;")
    real = migrations.available()
    monkeypatch.setattr(migrations, "available", lambda: [real[0], broken])
    with connect(empty, "tests") as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            migrations.migrate(connection, no_progress)
        assert connection.execute("SELECT to_regclass('public.half')").fetchone() == (None,)
        assert list(migrations.applied(connection)) == [1]
    monkeypatch.undo()
    with connect(empty, "tests") as connection:
        assert migrations.migrate(connection, no_progress) == len(real) - 1


ADDS_A_COLUMN = "ALTER TABLE ledger.rates ADD COLUMN note text;"


def test_a_migration_waits_for_locks_in_short_attempts_and_names_who_has_them(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_SECONDS", 1)
    monkeypatch.setattr(migrations, "ATTEMPTS", 2)
    ours = migrations.available()
    added = migrations.Migration(ours[-1].number + 1, "added", "x", ADDS_A_COLUMN)
    with connect(empty, "tests") as connection, connect(empty, "nightly-dump") as dump:
        migrations.migrate(connection, no_progress)
        monkeypatch.setattr(migrations, "available", lambda: [*ours, added])
        with dump.transaction():
            dump.execute("SELECT 'a text that is not shown' FROM ledger.rates")
            with pytest.raises(TransientError) as refused:
                migrations.migrate(connection, no_progress, lambda _: None)
            message = str(refused.value)
            assert f"pid {dump.info.backend_pid} (nightly-dump, user postgres, since 20" in message
            assert "(added)" in message and "not shown" not in message
        with connect(empty, "nightly-dump") as dump_session:
            dump_session.execute("BEGIN")
            dump_session.execute("SELECT FROM ledger.rates")

            def end(_: float) -> None:
                dump_session.execute("ROLLBACK")

            assert migrations.migrate(connection, no_progress, end) == 1


INDEX = """
-- additive: yes
DROP INDEX CONCURRENTLY IF EXISTS ledger.rates_by_day;
CREATE INDEX CONCURRENTLY rates_by_day ON ledger.rates (as_of);
"""


def test_an_index_is_built_while_others_write_and_a_failed_one_is_built_again(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CREATE INDEX CONCURRENTLY waits for transactions that began before it; a failed attempt leaves an invalid index."""
    monkeypatch.setattr(migrations, "LOCK_SECONDS", 1)
    ours = migrations.available()
    added = migrations.Migration(ours[-1].number + 1, "rates_by_day", "x", INDEX, in_transaction=False)
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ledger.rates_by_day')"
    waits: list[tuple[bool, ...] | None] = []
    with (
        connect(empty, "tests") as connection,
        connect(empty, "nightly-dump") as dump,
        connect(empty, "writer") as writer,
    ):
        migrations.migrate(connection, no_progress)
        monkeypatch.setattr(migrations, "available", lambda: [*ours, added])
        dump.execute("BEGIN")
        dump.execute("DELETE FROM ledger.rates")

        def end(_: float) -> None:
            waits.append(writer.execute(valid).fetchone())
            writer.execute("DELETE FROM ledger.rates")  # the migration keeps nobody from writing
            if len(waits) == 2:
                dump.execute("ROLLBACK")

        assert migrations.migrate(connection, no_progress, end) == 1
        assert waits == [(False,), (False,)]
        assert writer.execute(valid).fetchone() == (True,)
        assert migrations.applied(writer)[added.number] == ("rates_by_day", "x", True)


def test_a_file_says_that_it_wants_no_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "database"
    folder.mkdir()
    (folder / "0001_first.sql").write_text("-- migrate:up\nSELECT 1;\nSELECT 2;\n-- migrate:down\nSELECT 3;\n")
    (folder / "0002_index.sql").write_text(f"-- migrate:up transaction:false{INDEX}\n-- migrate:down\nSELECT 4;\n")
    monkeypatch.setattr("services.common.migrations.resources.files", lambda _: tmp_path)
    first, index = migrations.available()
    assert (first.in_transaction, len(first.statements)) == (True, 1)
    assert (index.in_transaction, index.additive, len(index.statements)) == (False, True, 2)
    assert "SELECT 4" not in index.up


def test_a_migration_may_take_longer_than_a_statement_of_a_service(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = migrations.available()
    slow = migrations.Migration(ours[-1].number + 1, "slow", "x", "SELECT pg_sleep(2);")
    monkeypatch.setattr(migrations, "available", lambda: [*ours, slow])
    with connect(empty, "tests", statement_seconds=1) as connection:
        assert migrations.migrate(connection, no_progress) == len(ours) + 1
        for timeout in ("statement_timeout", "lock_timeout"):
            assert connection.execute(f"SHOW {timeout}".encode()).fetchone() == ("1s",), "as before"


def test_a_database_is_a_function_of_the_files(postgres: Callable[[], str]) -> None:
    with connect(postgres(), "tests") as connection:
        migrations.verify(connection)
        schemas = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'").fetchall()
        assert ("registry",) in schemas
