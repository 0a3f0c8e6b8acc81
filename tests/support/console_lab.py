"""The console of the tests: a process with its own database login, and browsers without scripts in which staff have signed in.

`console_dsn` and `make_console` are fixtures to import.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from services.common.postgres import connect
from services.registry.staff_sessions import StaffRole, StaffSessions
from services.standalone.servers.child import free_port
from tests.support.connect_lab import Browser
from tests.support.portal_lab import SECONDS, Portal, portal_login
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
        yield Portal(process, origin, console_dsn)


def console_link(dsn: str, role: StaffRole = "support", name: str = NAME) -> str:
    """The path of a new link; `dsn` is the owner's."""
    with connect(dsn, "tests") as connection:
        return StaffSessions(connection).make_link(role, name).url("")


def staff_browser(console: Portal, dsn: str, role: StaffRole = "support", name: str = NAME) -> Browser:
    """A browser in which a member of the staff has signed in; `dsn` is the owner's."""
    return Browser(console.origin).get(console_link(dsn, role, name)).fill_in("/link/.*")


def actions(dsn: str) -> list[tuple[str, str | None, str | None, str | None]]:
    """What the audit has, the oldest first: action, company, mailbox, inquiry."""
    with connect(dsn, "tests") as connection:
        return connection.execute(
            "SELECT action, company_id, mailbox_id, inquiry_id FROM registry.staff_actions ORDER BY action_id"
        ).fetchall()
