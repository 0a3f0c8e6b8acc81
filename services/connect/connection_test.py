"""The connection test: what a poll does, stage by stage, through the same code, so what passes here works there.

1. dns       the server's name leads to an address that may be connected to
2. tcp, tls, greeting: a connection with a valid certificate to an IMAP server
3. login     user name and password, or an access token
4. id        who we are, where the server asks for it
5. list      the folders
6. sent      which of them are Sent folders
7. examine   they can be opened, read-only
8. newest    when their first and last messages were filed

It reads no header, since a test may be made before the owner of the mailbox consented. A list of folders to choose from (`list_folders`)
ends after the fifth stage.
"""

import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import takewhile
from typing import Final

from services.connect import mailbox_warnings
from services.connect.report import PASSED, SKIPPED, STAGES, ConnectionTestOutcome, ConnectionTestReport, StageResult
from services.imap.connection import WINDOW, Connection, connect
from services.imap.errors import CommandRefused, MailboxError, NoSentFolder, ServerBroken
from services.imap.folders import Folder, SentFolder, folder_text, other_sent_folders
from services.imap.host_policy import HostPolicy
from services.imap.limits import SessionLimits
from services.mail.values import FolderView, Login, OpenedFolder
from services.providers.catalog import ProviderCatalog
from services.providers.typed_server import HostMistake, find_mistake

CANDIDATES: Final = 12
"""Folders that are named when none of them is recognised as a Sent folder."""
CHOICES: Final = 200
"""Folders to choose from in a list of folders: those that are read now and those for sent mail first."""
NAME_BYTES: Final = 1000
"""The longest name of a folder that can be chosen."""

Authorize = Callable[[Callable[[str], None]], None]
"""Runs a login callback with an access token; retries once with a fresh token if it is refused."""


@dataclass(frozen=True, slots=True)
class ConnectionTestSetup:
    """What a connection test needs besides the login. `progress` is called with the name of each stage that starts."""

    catalog: ProviderCatalog
    hosts: HostPolicy
    context: ssl.SSLContext
    version: str
    limits: SessionLimits
    progress: Callable[[str], None] = lambda _: None
    monotonic: Callable[[], float] = time.monotonic


def run(
    login: Login, setup: ConnectionTestSetup, now: datetime, authorize: Authorize | None = None
) -> ConnectionTestOutcome:
    """Test a mailbox; nothing in it is changed. `authorize`: for a login with an access token instead of a password."""
    test = _RunningTest(login, setup, authorize)
    outcome = _carry_out(test, test.steps(), login, setup)
    report = outcome.report
    warnings = mailbox_warnings.of_provider(report.provider)
    if report.passed:
        warnings += mailbox_warnings.of_folders(report.provider, report.folders, now)
    return replace(outcome, report=replace(report, warnings=tuple(warnings)))


def list_folders(login: Login, setup: ConnectionTestSetup, authorize: Authorize | None = None) -> ConnectionTestOutcome:
    """List the folders of a mailbox whose mail may be read (`candidates`), and which of them a poll reads now (`watched`). No folder is
    opened."""
    test = _RunningTest(login, setup, authorize)
    return _carry_out(test, test.listing_steps(), login, setup)


def _carry_out(
    test: "_RunningTest", steps: Sequence[tuple[str, Callable[[], None]]], login: Login, setup: ConnectionTestSetup
) -> ConnectionTestOutcome:
    """The outcome of the steps, as far as they pass."""
    mistake = find_mistake(setup.catalog, login.host, login.port, login.address)
    test.values["host"] = mistake.host if mistake else login.host
    if mistake is not None and mistake.certain:
        test.stages.start("dns")
        test.stages.end(mistake.code)
        return ConnectionTestOutcome(test.report(), f"typed: {mistake.code}")
    detail = ""
    try:
        for stage, step in steps:
            test.stages.start(stage)
            step()
        test.stages.end(PASSED)
    except MailboxError as error:
        detail = str(error)
        test.candidates = _candidates(test.listed)
        test.values["candidates"] = ", ".join(folder_text(name) for name in test.candidates) or "–"
        test.stages.end(_code(test.stages.current, error, mistake, login))
    finally:
        test.log_out()
    return ConnectionTestOutcome(test.report(), detail)


class _StageClock:
    """Which stage of a test runs, and how long those before it took."""

    def __init__(self, setup: ConnectionTestSetup) -> None:
        self._setup = setup
        self._results: dict[str, StageResult] = {}
        self._started = 0.0
        self.current = ""

    def start(self, stage: str) -> None:
        """The stage before passed and this one starts. Does nothing when it has started already."""
        if stage == self.current:
            return
        self.end(PASSED)
        self.current, self._started = stage, self._setup.monotonic()
        self._setup.progress(stage)

    def end(self, code: str) -> None:
        """The current stage, if any, ended with a code."""
        if self.current:
            seconds = round(self._setup.monotonic() - self._started, 3)
            self._results[self.current] = StageResult(self.current, code, seconds)
        self.current = ""

    def results(self) -> tuple[StageResult, ...]:
        """The results of all stages, in their order."""
        return tuple(self._results.get(name, StageResult(name, SKIPPED, None)) for name in STAGES)


class _RunningTest:
    """The steps of one test and what they found so far."""

    def __init__(self, login: Login, setup: ConnectionTestSetup, authorize: Authorize | None) -> None:
        self._login = login
        self._setup = setup
        self._authorize = authorize
        self._connection: Connection | None = None
        self._folders: list[tuple[SentFolder, FolderView]] = []
        self._sent: Sequence[SentFolder] = ()
        self._opened: tuple[OpenedFolder, ...] = ()
        self.stages = _StageClock(setup)
        self.values: dict[str, str] = {}
        self.listed: list[Folder] = []
        self.candidates: tuple[bytes, ...] = ()
        self._watched: tuple[bytes, ...] = ()

    def steps(self) -> list[tuple[str, Callable[[], None]]]:
        """The stages in their order, each with its step. The step of tcp reports the stages tls and greeting itself; that of
        login reports the stage id if the server requires it."""
        return [
            ("dns", self._check_host),
            ("tcp", self._connect),
            ("login", self._log_in),
            ("id", lambda: None),
            ("list", self._list_folders),
            ("sent", self._find_sent_folders),
            ("examine", self._open_folders),
            ("newest", self._look_at_times),
        ]

    def listing_steps(self) -> list[tuple[str, Callable[[], None]]]:
        """The same up to the list of the folders, from which the choices are made."""
        return [*takewhile(lambda step: step[0] != "list", self.steps()), ("list", self._list_choices)]

    def report(self) -> ConnectionTestReport:
        """What the steps so far found."""
        login, values = self._login, self.values
        provider = self._setup.catalog.of_mailbox(login.address, login.host)
        return ConnectionTestReport(
            login.host, login.port, provider, self.stages.results(), values, self._opened, tls=login.tls,
            candidates=self.candidates, watched=self._watched,
        )  # fmt: skip

    def log_out(self) -> None:
        """End the session, if there is one."""
        if self._connection is not None:
            self._connection.logout()

    def _check_host(self) -> None:
        self._endpoint = self._setup.hosts.check(self._login.host, self._login.port, self._login.tls)

    def _connect(self) -> None:
        setup = self._setup
        self._connection = connect(self._endpoint, setup.context, setup.limits, on_stage=self.stages.start)

    def _log_in(self) -> None:
        login, version = self._login, self._setup.version
        if self._authorize is None:
            self._session.login(login.user, login.password, version)
        else:
            self._authorize(partial(_log_in_with_token, self._session, login.user, version))

    def _list_folders(self) -> None:
        self.listed = self._session.list_folders()
        self.values["folders"] = str(len(self.listed))

    def _list_choices(self) -> None:
        self._list_folders()
        names = {folder.name for folder in self.listed}
        watched: Sequence[SentFolder] = ()
        with suppress(NoSentFolder):
            watched = self._session.sent_folders(self._login.sent_override, self.listed)
        self._watched = tuple(folder.name for folder in watched if folder.name in names)
        own = self._session.own_folders(self.listed)
        for_sent_mail = other_sent_folders(own, self._watched)
        names_by_rank = dict.fromkeys((*self._watched, *for_sent_mail, *(folder.name for folder in own)))
        self.candidates = tuple(name for name in names_by_rank if _can_be_chosen(name))[:CHOICES]

    def _find_sent_folders(self) -> None:
        self._sent = self._session.sent_folders(self._login.sent_override, self.listed)
        self.values["names"] = ", ".join(folder_text(folder.name) for folder in self._sent)

    def _open_folders(self) -> None:
        for folder in self._sent:
            # A poll is not complete while a Sent folder cannot be opened, so neither is the test passed.
            self._folders.append((folder, self._session.examine(folder.name)))
        self.values["messages"] = str(sum(view.messages for _, view in self._folders))

    def _look_at_times(self) -> None:
        opened: list[OpenedFolder] = []
        for folder, view in self._folders:
            # With several folders, the one that is open now may be another one.
            if view.messages and len(self._sent) > 1:
                view = self._session.examine(folder.name)
            opened.append(_opened_folder(self._session, folder, view))
        self._opened = tuple(opened)

    @property
    def _session(self) -> Connection:
        assert self._connection is not None
        return self._connection


def _log_in_with_token(connection: Connection, user: str, version: str, token: str) -> None:
    connection.login_with_token(user, token, version)


def _code(stage: str, error: MailboxError, mistake: HostMistake | None, login: Login) -> str:
    if mistake is not None and stage in ("dns", "tcp", "tls", "greeting"):
        return mistake.code  # the name only looked like a mistake, and the server's answer confirms it
    if stage == "dns":
        return "host-refused"  # does not reveal whether the name exists in the operator's network
    if stage == "examine" and login.sent_override and isinstance(error, CommandRefused):
        return "folder-missing"
    return error.code


def _opened_folder(connection: Connection, folder: SentFolder, view: FolderView) -> OpenedFolder:
    """When the first and the last message of the open folder were filed."""
    if view.messages == 0:
        return OpenedFolder(folder.name, folder.found_by, 0, None, None)
    if view.messages <= WINDOW:
        # Mailutils never finds anything in a range that ends with *.
        uids = connection.search_from(1) or connection.search_window(view, 1, view.messages, None)
    else:
        uids = connection.search_window(view, 1, 1, None)
        uids += connection.search_window(view, view.messages, view.messages, None)
    times = [filed_at for filed_at in _first_and_last(connection, uids) if filed_at is not None]
    return OpenedFolder(folder.name, folder.found_by, view.messages, min(times, default=None), max(times, default=None))


def _first_and_last(connection: Connection, uids: Sequence[int]) -> list[datetime | None]:
    """When the first and the last message were filed, as far as the server reports it.

    A message whose answer cannot be parsed does not fail the test: the one next to it is asked for instead, as in a poll.
    """
    if not uids:
        return []
    try:
        return list(connection.fetch_times(sorted({uids[0], uids[-1]})).values())
    except ServerBroken:
        times = [_first_readable(connection, side) for side in (uids[:2], uids[:-3:-1])]
        if times == [[], []]:
            raise
        return times[0] + times[1]


def _first_readable(connection: Connection, uids: Sequence[int]) -> list[datetime | None]:
    for uid in uids:
        with suppress(ServerBroken):
            return list(connection.fetch_times([uid]).values())
    return []


def _candidates(listed: Sequence[Folder]) -> tuple[bytes, ...]:
    """Folders that may be the Sent folder, to choose from."""
    names = [folder.name for folder in listed if b"\\noselect" not in folder.flags]
    return tuple(name for name in names if name.upper() != b"INBOX")[:CANDIDATES]


def _can_be_chosen(name: bytes) -> bool:
    """Whether a form can name a folder: what a server lists is hostile until proven otherwise."""
    is_valid = name.isascii() and name.decode("ascii").isprintable()  # RFC 3501 section 5.1.3
    return is_valid and name.upper() != b"INBOX" and len(name) <= NAME_BYTES
