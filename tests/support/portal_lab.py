"""The web process of the tests: a process with its own database login, and nothing else of the installation."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from psycopg import conninfo, sql

from services.common.postgres import connect
from services.standalone.servers.child import free_port
from tests.support.processes import Process, get, until

SECONDS = 60


@dataclass(frozen=True, slots=True)
class ServedPages:
    """Pages that can be opened."""

    origin: str
    dsn: str
    """Of the database login of their process."""

    def client(self, **options: object) -> httpx.Client:
        """A client with its own cookies that follows no redirects."""
        return httpx.Client(base_url=self.origin, timeout=30, **options)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Portal(ServedPages):
    """A web process that runs."""

    process: Process


@contextmanager
def portal_login(dsn: str, process: str = "portal") -> Iterator[str]:
    """The connection string of a new login that has the rights of a web process (portal, console), while the block runs."""
    database = dsn.rsplit("/", 1)[1]
    login = sql.Identifier(f"{database}_{process}")
    with connect(dsn, "tests") as connection:
        statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'web-only' IN ROLE {}")
        connection.execute(statement.format(login, sql.Identifier(f"replyrate_{process}")))
        yield conninfo.make_conninfo(dsn, user=f"{database}_{process}", password="web-only")
        connection.execute(sql.SQL("DROP OWNED BY {}").format(login))
        connection.execute(sql.SQL("DROP ROLE {}").format(login))


@pytest.fixture
def portal_dsn(dsn: str) -> Iterator[str]:
    """The connection string of a login that has the rights of the web process."""
    with portal_login(dsn) as portal:
        yield portal


MakePortal = Callable[..., AbstractContextManager[Portal]]


@pytest.fixture
def make_portal(portal_dsn: str, kafka: str, tmp_path: Path) -> MakePortal:
    """Starts a web process with further settings, names without the prefix."""
    return partial(running_portal, kafka, portal_dsn, tmp_path)


@contextmanager
def running_portal(
    kafka: str, portal_dsn: str, folder: Path, port: int | None = None, **settings: str
) -> Iterator[Portal]:
    """A web process with a database login, and `settings` without the prefix; it answers when the block begins.

    `port`: of a process before, which it replaces.
    """
    port, pages = port or free_port(), free_port()
    origin = f"http://127.0.0.1:{port}"
    environ = {
        "KAFKA__BOOTSTRAP_SERVERS": kafka, "POSTGRES__DSN": portal_dsn, "HTTP__PORT": str(pages), "PORTAL__PORT": str(port),
        "PORTAL__PUBLIC_URL": origin, **settings,
    }  # fmt: skip
    with Process(
        "services.portal",
        {f"REPLYRATE_{name}": value for name, value in environ.items()},
        folder / f"portal-{port}.log",
    ) as process:
        until(
            lambda: get(pages, "/readyz")[0] == 200 and get(port, "/")[0] in (200, 421),
            SECONDS,
            "the portal answers",
            (process,),
        )
        yield Portal(origin, portal_dsn, process)


class TlsProxy(httpx.HTTPTransport):
    """Sends what is for an https address to a web process without TLS, as a proxy does that ends TLS: Host stays, the scheme is lost."""

    def __init__(self, portal: Portal) -> None:
        super().__init__()
        self._port = int(portal.origin.rpartition(":")[2])

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert request.url.scheme == "https"
        address = request.url.copy_with(scheme="http", host="127.0.0.1", port=self._port)
        return super().handle_request(
            httpx.Request(request.method, address, headers=request.headers, stream=request.stream)
        )


@pytest.fixture
def portal(make_portal: MakePortal) -> Iterator[Portal]:
    """A web process with the default settings."""
    with make_portal() as started:
        yield started
