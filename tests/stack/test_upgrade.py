"""An operator's upgrade: a stack of an earlier release with its data, today's `init` under its running services, then today's.

tests/upgrade keeps the release: its database as a dump, and the code that its images are built from.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.stack.conftest import IMPATIENT
from tests.stack.mail import HOST, PASSWORD, Dovecot, ago, stamp
from tests.stack.stack import PORTAL, ROOT, SERVICES, Seller, Stack, inquiry, run, running
from tests.upgrade.make import unpack

THEN = "part-3"
BUYER = "buyer-{}@buyers.example"
pytestmark = pytest.mark.timeout(1500)
SHOWN = """
    SELECT company_id, level, account_id, as_of, rule_set, timely, late, unanswered, rate
    FROM report_v1.reply_rate WHERE company_id = 'shop' AND as_of < %(before)s ORDER BY 1, 2, 3, 4, 5
"""


class Releases(Stack):
    """A stack that is of one release or the other: its images and its compose file."""

    compose_file = ROOT / "docker-compose.yml"

    def files(self) -> list[Path]:
        return [self.compose_file]

    def release(self, tag: str, code: Path) -> None:
        """What the operator has checked out from now on."""
        self.compose_file = code / "docker-compose.yml"
        file = self.folder / ".env"
        lines = [line for line in file.read_text("utf-8").splitlines() if not line.startswith("IMAGE_TAG=")]
        file.write_text("\n".join([*lines, f"IMAGE_TAG={tag}", ""]), "utf-8")

    def releases(self) -> dict[str, str]:
        """Service → the tag of what runs."""
        named = {service: self.inspect(self.containers(service)[0])["Config"]["Image"] for service in SERVICES}
        return {service: image.rpartition(":")[2] for service, image in named.items()}

    def restore(self, dump: bytes) -> None:
        """Put a dump in place of the database."""
        password = (self.folder / "secrets" / "postgres-admin.password").read_text("utf-8").strip()
        dsn = f"postgresql://postgres:{password}@127.0.0.1:{self.ports['POSTGRES_PORT']}/postgres"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("DROP DATABASE replyrate WITH (FORCE)")
            connection.execute("CREATE DATABASE replyrate OWNER replyrate_migrator")
        psql = ("psql", "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--dbname", "replyrate")
        text = "SET ROLE replyrate_migrator;\n" + dump.decode()
        self.compose("exec", "-T", "--user", "postgres", "postgres", *psql, text=text)


@pytest.fixture(scope="module")
def code_of_then(session_folder: Path) -> Path:
    """The release, its images built as then."""
    code = unpack(THEN, session_folder / THEN)
    for name in (*SERVICES, "cli"):
        file = code / "services" / name / "Dockerfile"
        run(["docker", "build", "--quiet", "--file", str(file), "--tag", f"replyrate/{name}:{THEN}", str(code)])
    return code


@pytest.fixture
def upgraded(images: None, code_of_then: Path, folder: Path) -> Iterator[tuple[Releases, Dovecot]]:
    """The release with its data, and a mail server beside it."""
    mail = Dovecot(folder / "dovecot")
    stack = Releases(
        folder / "stack",
        {
            "IMAP_CA_DIR": str(mail.folder / "ca"),
            **IMPATIENT,
        },
    )
    stack.make_secrets()
    for name in ("portal", "console"):  # the release of then had neither
        (stack.folder / "secrets" / f"postgres-{name}.password").unlink()
    stack.release(THEN, code_of_then)
    with running(stack):
        # Its `init` makes the logins; what else it made gives way to the dump.
        stack.up("postgres", "kafka")
        stack.compose("run", "--rm", "-T", "init")
        stack.restore(gzip.decompress((ROOT / "tests" / "upgrade" / f"{THEN}.sql.gz").read_bytes()))
        with psycopg.connect(stack.dsn("migrator"), autocommit=True) as connection:
            # The worked example's mailboxes exist in the table only: without sealed secrets and without a server.
            connection.execute("UPDATE registry.mailboxes SET state = 'paused'")
        stack.up()
        mail.start(stack)
        try:
            yield stack, mail
        finally:
            mail.stop()


def test_services_of_then_go_on_over_todays_schema_until_todays_take_over(upgraded: tuple[Releases, Dovecot]) -> None:
    stack, mail = upgraded
    seller = Seller(stack)
    mail.append(seller.address, BUYER.format("old"), ago(days=10, hours=-2))
    seller.connect(HOST, PASSWORD)
    seller.publish(inquiry("old", stamp(ago(days=10)), BUYER.format("old")))
    seller.await_outcome("old", "timely")
    shown = stack.rows(SHOWN, before=ago(days=30))
    assert len(shown) > 20

    def works(name: str) -> None:
        seller.publish(inquiry(name, stamp(ago(minutes=5)), BUYER.format(name)))
        seller.await_outcome(name, "pending")
        mail.append(seller.address, BUYER.format(name), ago())
        seller.await_outcome(name, "timely")

    # Today's init changes the schema under the services of then; they go on, and they can start on it.
    stack.release("local", ROOT)
    refused = stack.composed("run", "--rm", "-T", "init")
    assert refused.returncode != 0 and "secrets/postgres-portal.password" in refused.stderr
    stack.make_secrets()
    stack.compose("run", "--rm", "-T", "init")
    assert set(stack.releases().values()) == {THEN}
    works("then-on-today")
    for service in SERVICES:
        run(["docker", "restart", *stack.containers(service)])
    works("then-started-on-today")
    # A late answer changes a rate that exists already.
    seller.publish(inquiry("forgotten", stamp(ago(days=10)), BUYER.format("forgotten")))
    seller.await_outcome("forgotten", "unanswered")

    stack.up()
    assert set(stack.releases().values()) == {"local"} and stack.healthy(PORTAL)
    works("today")
    mail.append(seller.address, BUYER.format("forgotten"), ago())
    seller.await_outcome("forgotten", "late")
    statement = """
        SELECT timely, late, unanswered FROM report_v1.reply_rate_latest
        WHERE company_id = %(company_id)s AND rule_set = 'first-reply-24h' AND level = 'company'
    """
    (outcome,) = stack.rows(statement, company_id=seller.company_id)
    assert (outcome["timely"], outcome["late"], outcome["unanswered"]) == (4, 1, 0)
    # What was counted before the upgrade is unchanged.
    assert stack.rows(SHOWN, before=ago(days=30)) == shown
    assert stack.rows("SELECT count(*) AS of_then FROM report_v1.corrections WHERE company_id = 'shop'") == [
        {"of_then": 0}
    ]
