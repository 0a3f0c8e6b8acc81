"""The console of the tests: a process with its own database login, and browsers without scripts in which staff have signed in.

`console_dsn`, `make_console` and `console` are fixtures to import. Starting a process takes seconds, so `console` is the same application and web server
in a thread of the test; `make_console` is for tests that look at the process.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from services.common.lifecycle import Stop
from services.common.postgres import connect
from services.common.settings import ConsoleConfig, load_settings
from services.portal.console.app import create_console
from services.portal.console.long_work import LongWork
from services.portal.console.resources import ConsoleResources
from services.portal.database import TokenDatabase
from services.portal.web_server import ListeningPlace, serve
from services.registry.staff_sessions import StaffRole, StaffSessions
from services.standalone.servers.child import free_port
from tests.support.connect_lab import Browser
from tests.support.portal_lab import SECONDS, Portal, ServedPages, portal_login
from tests.support.processes import Process, get, until

NAME = "Wang Fang"
MakeConsole = Callable[..., AbstractContextManager[Portal]]


@pytest.fixture
def console_dsn(dsn: str) -> Iterator[str]:
    """The connection string of a login that has the rights of the console."""
    with portal_login(dsn, "console") as console:
        yield console


@pytest.fixture
def make_console(console_dsn: str, kafka: str, tmp_path: Path) -> MakeConsole:
    """Starts a console with further settings, names without the prefix."""
    return partial(running_console, kafka, console_dsn, tmp_path)


@contextmanager
def running_console(kafka: str, console_dsn: str, folder: Path, **settings: str) -> Iterator[Portal]:
    """A console with a database login, and `settings` without the prefix; it answers when the block begins."""
    port, pages = free_port(), free_port()
    origin = f"http://127.0.0.1:{port}"
    environ = {
        "KAFKA__BOOTSTRAP_SERVERS": kafka, "POSTGRES__DSN": console_dsn, "HTTP__PORT": str(pages), "CONSOLE__PORT": str(port),
        "CONSOLE__PUBLIC_URL": origin, **settings,
    }  # fmt: skip
    with Process(
        "services.portal.console",
        {f"REPLYRATE_{name}": value for name, value in environ.items()},
        folder / f"console-{port}.log",
    ) as process:
        until(lambda: get(pages, "/readyz")[0] == 200, SECONDS, "the console answers", (process,))
        yield Portal(origin, console_dsn, process)


@contextmanager
def console_in_thread(kafka: str, console_dsn: str, **settings: str) -> Iterator[ServedPages]:
    """A console in this process that answers at a port of its own; `settings` without the prefix."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    environ = {
        "KAFKA__BOOTSTRAP_SERVERS": kafka, "POSTGRES__DSN": console_dsn, "CONSOLE__PORT": str(port),
        "CONSOLE__PUBLIC_URL": origin, **settings,
    }  # fmt: skip
    config = load_settings({f"REPLYRATE_{name}": value for name, value in environ.items()}, ConsoleConfig)
    place = ListeningPlace("CONSOLE", config.console.host, port, config.console.public_url)
    stop, answering = Stop(), threading.Event()
    with (
        closing(TokenDatabase(console_dsn, config.console.connections, "replyrate-console")) as database,
        closing(LongWork()) as work,
    ):
        app = create_console(ConsoleResources(config, database, lambda: datetime.now(UTC), work))
        thread = threading.Thread(target=serve, args=(app, place, stop, answering), name="console", daemon=True)
        thread.start()
        try:
            assert answering.wait(SECONDS)
            yield ServedPages(origin, console_dsn)
        finally:
            stop.set()
            thread.join(SECONDS)
            assert not thread.is_alive()


@pytest.fixture
def console(console_dsn: str, kafka: str) -> Iterator[ServedPages]:
    """A console with the default settings."""
    with console_in_thread(kafka, console_dsn) as served:
        yield served


def console_link(dsn: str, role: StaffRole = "support", name: str = NAME) -> str:
    """The path of a new link; `dsn` is the owner's."""
    with connect(dsn, "tests") as connection:
        return StaffSessions(connection).make_link(role, name).url("")


def staff_browser(console: ServedPages, dsn: str, role: StaffRole = "support", name: str = NAME) -> Browser:
    """A browser in which a member of the staff has signed in; `dsn` is the owner's."""
    return Browser(console.origin).get(console_link(dsn, role, name)).fill_in("/link/.*")


def actions(dsn: str) -> list[tuple[str, str | None, str | None, str | None]]:
    """What the audit has, the oldest first: action, company, mailbox, inquiry."""
    with connect(dsn, "tests") as connection:
        return connection.execute(
            "SELECT action, company_id, mailbox_id, inquiry_id FROM registry.staff_actions ORDER BY action_id"
        ).fetchall()
