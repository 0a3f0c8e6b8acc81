"""The web application in the process of the test, over the database login of a web process: requests need no socket, and every
statement that a request executes can be seen."""

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import psycopg
from psycopg import sql
from starlette.types import ASGIApp

from services.common.kafka import Publisher
from services.common.postgres import connect
from services.common.settings import ConsoleConfig, PortalConfig, load_settings
from services.inquiries.publication import FactPublisher
from services.portal.app import create_app
from services.portal.console.app import create_console
from services.portal.console.long_work import LongWork
from services.portal.console.resources import ConsoleResources
from services.portal.database import TokenDatabase
from services.portal.resources import PortalResources
from services.registry.panel_sessions import PanelSessions

ORIGIN: Final = "http://127.0.0.1:1"
NO_LIMIT: Final = "100000"
"""Requests a minute: tests send many in a row."""


class RecordedDatabase(TokenDatabase):
    """A database that notes the text of every statement that is executed through it."""

    def __init__(self, dsn: str, connections: int) -> None:
        super().__init__(dsn, connections)
        self.statements: list[str] = []

    @contextmanager
    def transaction(self, token: str) -> Iterator[psycopg.Connection]:
        """As that of the application."""
        with super().transaction(token) as connection:
            connection.cursor_factory = self._cursor()
            try:
                yield connection
            finally:
                # A connection that was used before begins a transaction as a new one does: that is noted of neither.
                connection.cursor_factory = psycopg.Cursor

    def _cursor(self) -> type[psycopg.Cursor[Any]]:
        statements = self.statements

        class RecordedCursor(psycopg.Cursor[Any]):
            """Notes what is executed."""

            def execute(self, query: Any, *args: Any, **options: Any) -> Any:
                statements.append(query.as_string(self) if isinstance(query, sql.Composable) else str(query))
                return super().execute(query, *args, **options)

        return RecordedCursor


class PortalInProcess:
    """Sends requests to the application; not to be shared by threads."""

    def __init__(self, app: ASGIApp, database: RecordedDatabase, loop: asyncio.Runner) -> None:
        self.app = app
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
            base_url=ORIGIN,
            cookies=httpx.Cookies(),
            timeout=60,
        )
        self._database = database
        self._loop = loop
        self.statements: list[str] = []
        """Those of the last request."""

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer to one request, which keeps no cookie for the next one."""
        self._database.statements.clear()
        answer = self._loop.run(self._client.request(method, path, **options))
        self._client.cookies.clear()
        self.statements = list(self._database.statements)
        return answer

    def get(self, path: str, token: str, **parameters: Any) -> httpx.Response:
        """What a frame or a platform is shown for its token."""
        return self.request("GET", path, params=parameters, headers={"authorization": f"Bearer {token}"})

    def close(self) -> None:
        """Let go of the client."""
        self._loop.run(self._client.aclose())


@contextmanager
def portal_in_process(login: str, kafka: str = "127.0.0.1:1", **settings: str) -> Iterator[PortalInProcess]:
    """The application over the database login of a web process; `settings` without the prefix."""
    environ = {
        "KAFKA__BOOTSTRAP_SERVERS": kafka, "POSTGRES__DSN": login, "PORTAL__PUBLIC_URL": ORIGIN,
        "PORTAL__API_REQUESTS_PER_MINUTE": NO_LIMIT, **settings,
    }  # fmt: skip
    config = load_settings({f"REPLYRATE_{name}": value for name, value in environ.items()}, PortalConfig)
    with (
        asyncio.Runner() as loop,
        closing(RecordedDatabase(login, 4)) as database,
        closing(FactPublisher(lambda: Publisher(config.kafka, "tests", delivery_seconds=15))) as facts,
    ):
        resources = PortalResources(config, database, lambda: datetime.now(UTC), facts)
        with closing(PortalInProcess(create_app(resources), database, loop)) as portal:
            yield portal


@contextmanager
def console_in_process(login: str) -> Iterator[PortalInProcess]:
    """The console over the database login of one."""
    environ = {"KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "POSTGRES__DSN": login, "CONSOLE__PUBLIC_URL": ORIGIN}
    config = load_settings({f"REPLYRATE_{name}": value for name, value in environ.items()}, ConsoleConfig)
    with asyncio.Runner() as loop, closing(RecordedDatabase(login, 4)) as database, closing(LongWork()) as work:
        app = create_console(ConsoleResources(config, database, lambda: datetime.now(UTC), work))
        with closing(PortalInProcess(app, database, loop)) as console:
            yield console


def frame_tokens(dsn: str, accounts: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A token of a frame for each (company, account); `dsn` is the owner's."""
    with connect(dsn, "tests") as connection, connection.transaction():
        sessions = PanelSessions(connection)
        return {
            account: sessions.make_frame_token(*account, language="en", by="tests", minutes=600).token
            for account in accounts
        }
