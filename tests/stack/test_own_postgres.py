"""A database server of the operator's own, by deploy/compose.own-postgres.yml: its administrator is no superuser."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.mail import ago, stamp
from tests.stack.stack import ROOT, SERVICES, WEB, Seller, Stack, inquiry, running, until

pytestmark = pytest.mark.timeout(1500)


class Elsewhere(Stack):
    """The stack with its database in a container that Compose's own services know by its address only."""

    def files(self) -> list[Path]:
        return [
            *super().files(),
            ROOT / "deploy" / "compose.own-postgres.yml",
            ROOT / "tests" / "stack" / "database.yml",
        ]

    def psql(self, statement: str, database: str = "postgres") -> str:
        """The answer to a statement as the server's superuser."""
        command = ("psql", "--username", "postgres", "--dbname", database, "--tuples-only", "--no-align", "--command")
        return self.compose("exec", "-T", "--user", "postgres", "database", *command, statement).strip()


@pytest.fixture
def elsewhere(images: None, folder: Path) -> Iterator[Elsewhere]:
    stack = Elsewhere(folder / "stack", {"POSTGRES_SERVER": "database:5432", "POSTGRES_ADMIN": "keeper"})
    stack.make_secrets()
    for name, text in (("postgres-ca.pem", ""), ("postgres-admin.password", "of-the-keeper")):
        (stack.folder / "secrets" / name).unlink(missing_ok=True)
        (stack.folder / "secrets" / name).write_text(text, "utf-8")
    with running(stack):
        yield stack


def test_the_services_work_on_a_database_elsewhere(elsewhere: Elsewhere) -> None:
    assert "postgres" not in elsewhere.compose("--profile", "*", "config", "--services").split()
    elsewhere.up("database", "kafka")
    elsewhere.psql("CREATE ROLE keeper LOGIN CREATEROLE CREATEDB PASSWORD 'of-the-keeper'")
    # The stand-in has no TLS, and without TLS a client connects to another server only if that is configured.
    refused = elsewhere.composed("run", "--rm", "-T", "--no-deps", "replyrate", "company", "add", "refused")
    assert refused.returncode == 69 and "Postgres" in refused.stderr, refused.stderr
    with (elsewhere.folder / ".env").open("a", encoding="utf-8") as settings:
        settings.write("POSTGRES_SSLMODE=disable\n")
    elsewhere.up()
    assert not elsewhere.composed("ps", "--all", "--quiet", "postgres").stdout
    assert all(elsewhere.healthy(service) for service in (*SERVICES, *WEB))
    seller = Seller(elsewhere)
    seller.publish(inquiry("one", stamp(ago(minutes=5)), "buyer@buyers.example"))
    count = "SELECT count(*) FROM ledger.inquiries"
    until(lambda: elsewhere.psql(count, "replyrate") == "1", 60, lambda: elsewhere.logs("aggregator", 30))
    users = (
        "SELECT string_agg(DISTINCT usename, ',' ORDER BY usename) FROM pg_stat_activity WHERE datname = 'replyrate'"
    )
    assert elsewhere.psql(users) == "replyrate_aggregator,replyrate_console,replyrate_fetcher,replyrate_portal"
    assert elsewhere.psql("SELECT count(*) FROM registry.companies", "replyrate") == "1"
