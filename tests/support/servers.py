"""Fixtures with real servers, each started when the first test requests it and stopped at the end. With
SERVERS=containers the session's Kafka and Postgres are containers (tests/support/containers.py).

kafka          bootstrap servers of one broker for the session; topics have fixed names, so a test that uses them
               requests `topics_gone` (or its own broker, `own_kafka`)
postgres       a function that creates a migrated database and returns its dsn; `dsn` is one such per test, through PgBouncer
               where the file is marked `pooled`; `direct_dsn` never is
pymap, dovecot an IMAP server per test with USERS; `make_pymap`, `make_dovecot` for other users or several
"""

import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.imap import EmbeddedImap
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.postgres import EmbeddedPostgres, scratch_folder
from tests.support import containers
from tests.support.dovecot import Dovecot
from tests.support.pgbouncer import PgBouncer

USERS: Mapping[str, str] = {f"seller-{number}@mail.test": f"Secret-{number}-canary" for number in range(1, 9)}
"""User name → password of the servers that `pymap` and `dovecot` start."""

TEMPLATE = "migrated"


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder for the servers of this session; not pytest's own, which an unprivileged Postgres may not enter."""
    folder = scratch_folder("replyrate-test-")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for the servers of one test."""
    folder = scratch_folder("replyrate-test-")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ca(server_folder: Path) -> CertificateAuthority:
    """The private authority that every IMAP server of the session has its certificate from."""
    return CertificateAuthority(server_folder / "ca")


@pytest.fixture(scope="session")
def kafka_server(server_folder: Path) -> Iterator[EmbeddedKafka]:
    """The broker of the session. Do not stop it; use `own_kafka` for that."""
    with containers.kafka(server_folder / "kafka") as server:
        yield server


@pytest.fixture(scope="session")
def kafka(kafka_server: EmbeddedKafka) -> str:
    """Bootstrap servers of the session's broker."""
    return kafka_server.bootstrap_servers


@pytest.fixture
def own_kafka(server_folder: Path, request: pytest.FixtureRequest) -> Iterator[EmbeddedKafka]:
    """A broker for this test only, which may be killed and restarted (starts in 2.5 s)."""
    with EmbeddedKafka(
        server_folder / f"kafka-{request.node.name[:40].replace('/', '-')}-{time.monotonic_ns()}"
    ) as server:
        yield server


@pytest.fixture
def topics_gone(kafka: str) -> Iterator[str]:
    """The session's broker without any topic or consumer group; returns its bootstrap servers."""
    delete_topics(kafka)
    yield kafka
    delete_topics(kafka)


@pytest.fixture(scope="session")
def postgres_server(server_folder: Path) -> Iterator[EmbeddedPostgres]:
    """The database server of the session. Do not stop it; start another EmbeddedPostgres for that."""
    with containers.postgres(server_folder / "postgres") as server:
        yield server


@pytest.fixture(scope="session")
def postgres(postgres_server: EmbeddedPostgres) -> Callable[[], str]:
    """Creates a database with all migrations applied (a copy of a template, 50 ms); returns its dsn."""
    migrate_template(postgres_server)
    numbers = itertools.count(1)
    return lambda: postgres_server.create_database(f"test_{next(numbers)}", TEMPLATE)


@pytest.fixture(scope="session")
def pooler(server_folder: Path, postgres_server: EmbeddedPostgres) -> Iterator[PgBouncer]:
    """PgBouncer in transaction mode in front of the session's server."""
    with PgBouncer(server_folder / "pgbouncer", postgres_server) as server:
        yield server


@pytest.fixture
def direct_dsn(postgres: Callable[[], str], postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """A fresh migrated database for one test, dropped afterwards."""
    dsn = postgres()
    yield dsn
    postgres_server.drop_database(dsn.rsplit("/", 1)[1])


@pytest.fixture
def dsn(direct_dsn: str, request: pytest.FixtureRequest) -> str:
    """The same database, in files with `pytestmark = pytest.mark.pooled` through PgBouncer."""
    if request.node.get_closest_marker("pooled") is None:
        return direct_dsn
    pooler: PgBouncer = request.getfixturevalue("pooler")
    return pooler.pooled(direct_dsn)


@pytest.fixture
def make_pymap(server_folder: Path, ca: CertificateAuthority) -> Iterator[Callable[..., EmbeddedImap]]:
    """Starts pymap servers (0.3 s each): make_pymap(users=USERS) -> EmbeddedImap."""
    started: list[EmbeddedImap] = []

    def make(users: Mapping[str, str] = USERS) -> EmbeddedImap:
        server = EmbeddedImap(server_folder / f"pymap-{time.monotonic_ns()}", users, ca)
        server.start()
        started.append(server)
        return server

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def make_dovecot(server_folder: Path, ca: CertificateAuthority) -> Iterator[Callable[..., Dovecot]]:
    """Starts Dovecot servers: make_dovecot(users=USERS, savedate=True) -> Dovecot."""
    started: list[Dovecot] = []

    def make(users: Mapping[str, str] = USERS, *, savedate: bool = True) -> Dovecot:
        server = containers.dovecot(server_folder / f"dovecot-{time.monotonic_ns()}", users, ca, savedate=savedate)
        server.start()
        started.append(server)
        return server

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def pymap(make_pymap: Callable[..., EmbeddedImap]) -> EmbeddedImap:
    """A fresh pymap with USERS."""
    return make_pymap()


@pytest.fixture
def dovecot(make_dovecot: Callable[..., Dovecot]) -> Dovecot:
    """A fresh Dovecot with USERS, `\\Sent` and SAVEDATE."""
    return make_dovecot()


def migrate_template(server: EmbeddedPostgres) -> None:
    """Create the database that `postgres` copies."""
    from services.common import migrations
    from services.common.postgres import connect

    with connect(server.create_database(TEMPLATE), "tests") as connection:
        migrations.migrate(connection, lambda _: None)


def delete_topics(bootstrap_servers: str, seconds: float = 120) -> None:
    """Delete every topic that is not Kafka's own and every consumer group, and wait until they are gone.

    A broker under load lists a topic for a while after the controller deleted it; to delete it again is then refused.
    """
    from kafka.admin import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers, client_id="tests")
    try:
        deadline = time.monotonic() + seconds
        while names := [name for name in admin.list_topics() if not name.startswith("__")]:
            admin.delete_topics(names, raise_errors=False)
            assert time.monotonic() < deadline, f"topics are still listed after {seconds:.0f} s: {names}"
            time.sleep(0.1)
        groups = [group["group_id"] for group in admin.list_groups()]
        if groups:
            admin.delete_groups(groups)
    finally:
        admin.close()
