"""A database of an earlier release: today's migrations run over it, its numbers stay, and today's code finds the same."""

import gzip
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from services.aggregator.judge import judge
from services.aggregator.judge.plan import Delta
from services.aggregator.refresh import recompute
from services.aggregator.refresh.refresh import Refresher
from services.common import migrations
from services.common.postgres import connect
from services.standalone.servers.postgres import EmbeddedPostgres

DUMPS = sorted(Path(__file__).parent.glob("*.sql.gz"))


@pytest.fixture(params=DUMPS, ids=lambda file: file.name.removesuffix(".sql.gz"))
def earlier(request: pytest.FixtureRequest, postgres: Any, postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """A database as that release left it. Roles belong to the server: the template of the tests has made them."""
    postgres()
    name = f"upgrade_{request.param.name.split('.')[0].replace('-', '_')}"
    dsn = postgres_server.create_database(name, "template0")
    done = subprocess.run(
        [str(postgres_server.binaries / "psql"), "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", dsn],
        input=gzip.decompress(request.param.read_bytes()), capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    yield dsn
    postgres_server.drop_database(name)


def rates(connection: psycopg.Connection) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "SELECT * FROM report_v1.reply_rate_history ORDER BY rule_set, company_id, level, account_id, as_of, valid_from"
        ).fetchall()


def test_an_earlier_database_becomes_todays_with_its_numbers(earlier: str) -> None:
    with connect(earlier, "tests") as connection:
        before = rates(connection)
        assert len(before) > 100
        done = len(migrations.applied(connection))
        assert migrations.migrate(connection, lambda _: None) == len(migrations.available()) - done
        migrations.verify(connection)
        after = rates(connection)
        assert [{name: rate[name] for name in before[0]} for rate in after] == before


def test_todays_code_finds_the_numbers_of_then(earlier: str) -> None:
    """Judged again at the instant of then nothing is another one; refreshed today, final rows have no correction."""
    with connect(earlier, "tests") as connection:
        migrations.migrate(connection, lambda _: None)
        with connection.transaction():
            rule_sets = recompute.active(connection)
        assert len(rule_sets) == 2
        for rule_set in rule_sets:
            (then,) = connection.execute(
                "SELECT max(computed_at), max(as_of) FROM ledger.rates WHERE rule_set = %s", (rule_set.name,)
            ).fetchall()
            with connection.transaction():
                judged = judge.judge_companies(connection, rule_set, {"shop": Delta()}, now=then[0], days_to=then[1])
            assert (judged.outcomes_changed, judged.rates_written) == (0, 0)
        settler = Refresher(connection, [])
        connection.execute("INSERT INTO ledger.dirty (company_id) VALUES ('shop')")
        while settler.refresh():
            pass
        latest = connection.execute("SELECT max(as_of) FROM report_v1.reply_rate").fetchone()
        assert latest is not None and latest[0] > then[1]
        assert connection.execute("SELECT count(*) FROM report_v1.corrections").fetchone() == (0,)
