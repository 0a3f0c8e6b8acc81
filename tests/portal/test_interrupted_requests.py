"""A web process or a fetcher is killed while sellers are at every stage of connecting a mailbox: each of them reaches the end, and nothing that was
typed stays.

Every seller of a file is stopped at another place at the same time, by a mail server that does not answer or by a lock in the database. Then the
process is killed, another one takes its place, and the servers and locks go on.
"""

import base64
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

import psycopg
import pytest
from psycopg import sql

from services.common.postgres import connect
from services.connect import texts
from services.connect.report import STAGES
from services.portal.pages.texts import text
from tests.imap_lab.mailbox import Folder
from tests.imap_lab.profiles import DOVECOT
from tests.imap_lab.world import fill
from tests.support.builders import now
from tests.support.connect_lab import Browser
from tests.support.lab_network import PATIENT_SECONDS
from tests.support.portal_lab import Portal
from tests.support.processes import Process, until
from tests.support.provider_lab import topics
from tests.support.seller_lab import MakeSellerLab, SellerLab, make_seller_lab

__all__ = ["make_seller_lab", "topics"]

SECONDS = 100
KilledProcess = Literal["portal", "fetcher"]

ON_FORMS: Final = ("consented", "address-typed", "looking-up", "looked-up")
"""Places before a secret is sent."""
TESTED: Final = ("no-sent-folder", "several-sent-folders", "result-shown")
"""Places after a connection test has ended."""
COMMANDS: Final = {
    "greeting": b"GREETING", "login": b"LOGIN", "id": b"ID", "list": b"LIST", "sent": b"NAMESPACE", "examine": b"EXAMINE",
    "newest": b"UID SEARCH",
}  # fmt: skip
"""Stage of the connection test → the command whose answer it waits for."""
RUNNING: Final = ("activated", "taken", *STAGES, "sealed")
"""Places at which a fetcher works on a request. A fetcher has as many threads, so the request of another seller waits."""
LOCKED_COVERAGE: Final = """
CREATE FUNCTION public.await_lock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('coverage ' || NEW.company_id, 0));
    RETURN NEW;
END $$;
CREATE TRIGGER await_lock BEFORE INSERT ON registry.coverage FOR EACH ROW EXECUTE FUNCTION public.await_lock();
"""
"""Lets a test stop the last statement of the transaction that connects the mailbox of a certain company, and nothing else."""
PLACES: Final = (*ON_FORMS, *TESTED, *RUNNING, "queued")
IS_OPEN: Final = ("looking-up", *RUNNING, "queued")
"""Places with a request that waits or runs."""


@dataclass
class Seller:
    """A seller who is stopped at a place, with a company, a mail server and a password of their own."""

    lab: SellerLab
    place: str
    killed: KilledProcess
    stops: ExitStack = field(repr=False)
    """What ends when the mail servers and locks go on."""

    def __post_init__(self) -> None:
        self.company_id = f"{self.killed}-{self.place}"
        self.domain = f"{self.company_id}.example"
        self.host = f"imap.{self.domain}"
        self.password = f"Secret-of-{self.company_id}"
        self.server = self.lab.serve(self.host, DOVECOT, f"seller@{self.domain}", secret=self.password)
        fill(self.server, [now() - timedelta(days=20), now() - timedelta(hours=3)])
        if self.place == "no-sent-folder":
            self.server.folders.remove(self.server.sent)
            self.server.folders.append(Folder(b"Letters"))
        elif self.place == "several-sent-folders":
            self.server.folders.append(Folder(b"&XfJT0ZAB-"))
        self.browser: Browser = self.lab.seller(company_id=self.company_id)

    def type_address(self) -> None:
        """A fetcher looks for the server of the address."""
        if self.place == "looking-up":
            self._stop_network("name")
        self.browser.fill_in("/connect/address", address=self.server.user)

    def send_login(self, **chosen: Any) -> None:
        """Send the password, with everything prepared to stop at the place."""
        if self.place in COMMANDS:
            self._stop_server(COMMANDS[self.place])
        elif self.place == "dns":
            self._stop_network("name")
        elif self.place == "tcp":
            self._stop_network("connection")
        elif self.place == "tls":
            self._stop_handshake()
        elif self.place == "taken":
            self._take_lock("connection-test")
        elif self.place == "sealed":
            self._take_lock("coverage")
        elif self.place == "activated":
            self.server.unanswered.add(b"UID SEARCH")
        self._press_connect(**chosen)

    def until_stopped(self) -> None:
        """Wait until the seller's request is at the place."""
        if self.place == "activated":
            until(lambda: self.stage() == "newest", SECONDS, "the last stage")
            self._locking_connection().execute(
                "SELECT FROM registry.connect_requests WHERE company_id = %s AND sealed IS NOT NULL FOR UPDATE",
                (self.company_id,),
            )
            self.server.unanswered.clear()
            until(lambda: self.mailboxes() == ["active"], SECONDS, "the mailbox is active, and the result not written")
        elif self.place == "taken":
            until(lambda: self._waits_for_lock(has_sealed=False), SECONDS, "the fetcher waits for the lock")
            assert self.stage() is None
        elif self.place == "sealed":
            until(lambda: self._waits_for_lock(has_sealed=True), SECONDS, "the secret is stored, and not committed")
        elif self.place in STAGES:
            until(lambda: self.stage() == self.place, SECONDS, self.place)
            if self.place in COMMANDS and self.place != "greeting":
                command = COMMANDS[self.place]
                until(lambda: self.server.wire[-1].name == command, SECONDS, "the command is sent")
        elif self.place == "queued":
            until(lambda: self.requests("state") == ["waiting"], SECONDS, "it waits")

    def reach_end(self) -> None:
        """Do what the page says until the mailbox is connected."""
        browser = self.browser
        if self.place in IS_OPEN:
            browser.get(browser.path).until_finished()
        if self.place == "consented":
            self.type_address()
        if self.place in ("consented", "address-typed"):
            browser.until_finished()
        if self.place in ON_FORMS:
            assert browser.path.startswith("/connect/login"), browser.answer.text
            self._press_connect()
        if self.place == "no-sent-folder":
            browser.get(
                next(link for link in browser.page.links.values() if link.startswith("/connect/login?request="))
            )
            self._press_connect(folders=["Letters"])
        elif self.place == "several-sent-folders":
            browser.fill_in("/connect/mailboxes/.*/folders").until_finished()
            browser.fill_in("/connect/requests/.*/folders", folders=["&XfJT0ZAB-"])
        browser.until_finished()

    def stage(self) -> str | None:
        """The stage of the request that the seller is shown."""
        stage: str | None = self.requests("stage")[-1]
        return stage

    def requests(self, column: str) -> list[Any]:
        """A column of the requests that carry a password, the oldest first."""
        return self._column(
            f"SELECT {column} FROM registry.connect_requests WHERE company_id = %s AND purpose <> 'look-up' ORDER BY created_at"
        )

    def mailboxes(self) -> list[str]:
        """The state of each mailbox."""
        return self._column("SELECT state FROM registry.mailboxes WHERE company_id = %s")

    def secrets(self) -> int:
        """How many secrets are stored."""
        return len(self._column("SELECT mailbox_id FROM registry.secrets WHERE company_id = %s"))

    def _press_connect(self, **chosen: Any) -> None:
        self.browser.fill_in("/connect/login", password=self.password, **chosen)

    def _column(self, statement: str) -> list[Any]:
        with connect(self.lab.dsn, "tests") as connection:
            return [value for (value,) in connection.execute(statement, (self.company_id,)).fetchall()]

    def _take_lock(self, name: str) -> None:
        statement = "SELECT pg_advisory_xact_lock(hashtextextended(%s || ' ' || %s, 0))"
        self._locking_connection().execute(statement, (name, self.company_id))

    def _waits_for_lock(self, *, has_sealed: bool) -> bool:
        """Whether a fetcher waits for an advisory lock, in a transaction that has stored a secret or in another one."""
        with connect(self.lab.dsn, "tests") as connection:
            waiting = connection.execute(
                "SELECT EXISTS (SELECT FROM pg_locks own WHERE own.pid = waiting.pid AND own.granted"
                " AND own.relation = 'registry.secrets'::regclass AND own.mode = 'RowExclusiveLock')"
                " FROM pg_locks waiting WHERE NOT waiting.granted AND waiting.locktype = 'advisory'"
                " AND waiting.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            ).fetchall()
        return (has_sealed,) in waiting

    def _locking_connection(self) -> psycopg.Connection:
        connection = self.stops.enter_context(connect(self.lab.dsn, "tests"))
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        self.stops.enter_context(connection.transaction())
        return connection

    def _stop_server(self, command: bytes) -> None:
        self.server.unanswered.add(command)
        self.stops.callback(self.server.unanswered.clear)

    def _stop_network(self, halt: Literal["name", "connection"]) -> None:
        self.lab.network.halt(self.host, halt)
        self.stops.callback(self.lab.network.halt, self.host, None)

    def _stop_handshake(self) -> None:
        goes_on = threading.Event()

        def wait(*_: object) -> None:
            goes_on.wait(SECONDS)

        self.server.context.sni_callback = wait
        self.stops.callback(goes_on.set)


@dataclass
class RunningProcesses:
    """The web process and the fetcher, each of which can be killed and replaced."""

    lab: SellerLab
    stack: ExitStack
    portal: Portal
    fetcher: Process

    def kill(self, name: KilledProcess) -> None:
        """SIGKILL. The database notices that the connections are gone."""
        (self.portal.process if name == "portal" else self.fetcher).kill()
        with connect(self.lab.dsn, "tests") as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND starts_with(application_name, %s)",
                (f"replyrate-{name}",),
            )

    def replace(self, name: KilledProcess) -> None:
        """Start another process in the place of one that was killed."""
        if name == "portal":
            self.portal = self.stack.enter_context(self.lab.portal_again())
        else:
            self.fetcher = self.stack.enter_context(self.lab.fetcher())


@pytest.fixture(scope="module")
def processes(make_seller_lab: MakeSellerLab) -> Iterator[RunningProcesses]:
    lab = make_seller_lab(secret={"FETCHER__CONNECT_WORKERS": str(len(RUNNING) + 1)})
    lab.environ[PATIENT_SECONDS] = str(SECONDS)
    with connect(lab.dsn, "tests") as connection:
        connection.execute(LOCKED_COVERAGE)
    with ExitStack() as stack:
        yield RunningProcesses(lab, stack, lab.portal, stack.enter_context(lab.fetcher()))


@dataclass
class Interruption:
    """Sellers at every place, one of the processes killed and replaced."""

    killed: KilledProcess
    processes: RunningProcesses
    sellers: dict[str, Seller]
    sealed: list[bytes]
    """What was typed into requests that were open then, as it was stored."""


@pytest.fixture(scope="module", params=["portal", "fetcher"])
def interruption(request: pytest.FixtureRequest, processes: RunningProcesses) -> Interruption:
    killed: KilledProcess = request.param
    lab = processes.lab
    with ExitStack() as stops:
        sellers = {place: Seller(lab, place, killed, stops) for place in PLACES}
        for place in PLACES[1:]:
            sellers[place].type_address()
        for place in PLACES:
            if place not in ON_FORMS or place == "looked-up":
                sellers[place].browser.until_finished()
        for place in TESTED:
            sellers[place].send_login()
        for place in TESTED:
            sellers[place].browser.until_finished()
        for place in (*RUNNING, "queued"):
            sellers[place].send_login()
            if place == "activated":
                sellers[place].until_stopped()
        for place in (*RUNNING[1:], "queued"):
            sellers[place].until_stopped()
        sealed = stored_secrets(lab.dsn)
        assert len(sealed) == len(IS_OPEN)
        assert all(is_stored(lab, secret) for secret in sealed)
        processes.kill(killed)
        processes.replace(killed)
    return Interruption(killed, processes, sellers, sealed)


def stored_secrets(dsn: str) -> list[bytes]:
    """What was typed into the requests that wait or run, sealed."""
    with connect(dsn, "tests") as connection:
        stored = connection.execute("SELECT sealed FROM registry.connect_requests WHERE sealed IS NOT NULL").fetchall()
    return [sealed for (sealed,) in stored]


def is_stored(lab: SellerLab, secret: bytes) -> bool:
    """Whether a secret is in any table or log, in any of the usual forms."""
    forms = (secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret))
    return any(form.rstrip(b"=") in content for content in (*tables(lab.dsn), *logs(lab)) for form in forms)


def tables(dsn: str) -> Iterator[bytes]:
    """The rows of each table of the installation."""
    with connect(dsn, "tests") as connection:
        names = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema$)'"
        ).fetchall()
        for name in names:
            with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(*name))) as rows:
                yield b"".join(bytes(block) for block in rows)


def logs(lab: SellerLab) -> Iterator[bytes]:
    """What the processes wrote."""
    files = list(lab.folder.glob("*.log"))
    assert len(files) == 2
    return (file.read_bytes() for file in files)


@pytest.mark.parametrize("place", PLACES)
def test_the_seller_reaches_the_end_and_one_mailbox_is_read(interruption: Interruption, place: str) -> None:
    seller = interruption.sellers[place]
    seller.reach_end()
    heading = "progress.title_chosen" if place == "several-sent-folders" else "progress.title_passed"
    assert seller.browser.heading == text(heading, "en"), seller.browser.answer.text
    assert (seller.mailboxes(), seller.secrets()) == (["active"], 1)
    assert set(seller.requests("sealed")) == {None}
    assert seller.requests("tries")[0] == (2 if interruption.killed == "fetcher" and place in RUNNING else 1)


def test_nothing_that_was_typed_stays_after_the_results(interruption: Interruption) -> None:
    lab = interruption.processes.lab
    until(lambda: stored_secrets(lab.dsn) == [], SECONDS, "all requests have ended")
    passwords = [seller.password.encode() for seller in interruption.sellers.values()]
    for secret in (*interruption.sealed, *passwords):
        assert not is_stored(lab, secret), secret


@pytest.mark.parametrize("killed", ["fetcher", "portal"])
def test_what_was_typed_is_deleted_at_the_end_of_its_life_by_the_process_that_is_left(
    processes: RunningProcesses, killed: KilledProcess
) -> None:
    lab = processes.lab
    with ExitStack() as stops:
        seller = Seller(lab, "expired", killed, stops)
        seller.type_address()
        seller.browser.until_finished()
        seller.server.unanswered.add(b"GREETING")
        if killed == "fetcher":
            processes.kill("fetcher")
        seller.send_login()
        if killed == "portal":
            processes.kill("portal")
        (secret,) = stored_secrets(lab.dsn)
        with connect(lab.dsn, "tests") as connection:
            connection.execute(
                "UPDATE registry.connect_requests SET expires_at = clock_timestamp() WHERE sealed IS NOT NULL"
            )
        until(lambda: stored_secrets(lab.dsn) == [], SECONDS, "what was typed is deleted")
        assert not is_stored(lab, secret)
    seller.server.unanswered.clear()
    processes.replace(killed)
    browser = seller.browser
    browser.get(browser.path)
    sentences = texts.request_sentences("request-expired", "en")
    assert sentences is not None and all(browser.shows(sentence) for sentence in sentences)
    browser.get(next(link for link in browser.page.links.values() if link.startswith("/connect/login?request=")))
    assert browser.page.forms[-1].values["password"] == ""
    browser.fill_in("/connect/login", password=seller.password).until_finished()
    assert browser.heading == text("progress.title_passed", "en"), browser.answer.text
