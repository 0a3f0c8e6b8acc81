"""The connection test: what a poll does, stage by stage, and what each stage says about the mailbox.

`dns | tcp | tls | greeting | login | id | list | sent | examine | newest`, through the same code as every poll, so what
passes here works there. It reads no header: a test may be made before anybody consented, so of messages it asks how many
there are, and when the first and the last one were filed. The report holds codes and facts; `texts` turns them into sentences. It tells nothing
about the operator's network: a name that does not exist, one that leads to a private address and a port that is not
allowed are one code. What happened stands in `Outcome.detail`, for the operator alone.
"""

import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from services.imap.connection import WINDOW, Connection, connect
from services.imap.errors import CommandRefused, MailboxError, ServerBroken
from services.imap.folders import Folder, SentFolder, folder_text
from services.imap.host_policy import HostPolicy
from services.imap.limits import SessionLimits
from services.mail.values import FolderView, Login, OpenedFolder
from services.providers.catalog import ProviderCatalog
from services.providers.provider import Provider
from services.providers.typed_server import TLS_PORT, HostMistake, find_mistake

STAGES: Final = ("dns", "tcp", "tls", "greeting", "login", "id", "list", "sent", "examine", "newest")
PASSED: Final = "ok"
SKIPPED: Final = "skipped"
CANDIDATES: Final = 12
"""Folders that are named when none of them is known as a Sent folder."""
OLD: Final = timedelta(days=14)
"""A newest message older than this is worth a word: replies may not reach the folder."""


@dataclass(frozen=True, slots=True)
class StageResult:
    """One stage: `code` is ok, skipped or what failed; `seconds` None when it was not tried."""

    name: str
    code: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Warned:
    """Something worth knowing about a mailbox: a code of texts.toml and the words to fill in."""

    code: str
    words: Mapping[str, str]
    zh: Mapping[str, str] | None = None
    """The words in Chinese where they differ."""


@dataclass(frozen=True, slots=True)
class TestReport:
    """What a person may see of a test. `host` is empty where none is known."""

    host: str
    port: int
    provider: Provider | None
    stages: tuple[StageResult, ...]
    words: Mapping[str, str]
    folders: tuple[OpenedFolder, ...] = ()
    warnings: tuple[Warned, ...] = ()

    @property
    def failed(self) -> StageResult | None:
        """The stage that failed."""
        return next((stage for stage in self.stages if stage.code not in (PASSED, SKIPPED)), None)

    @property
    def passed(self) -> bool:
        """Whether the mailbox can be connected."""
        return self.failed is None


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """A report, and what only the operator may see of a failure: an error of ours, never a server's words."""

    report: TestReport
    detail: str = ""


class _Watch:
    """Which stage runs, and how long those before it took."""

    def __init__(self, monotonic: Callable[[], float], progress: Callable[[str], None]) -> None:
        self._monotonic = monotonic
        self._progress = progress
        self._done: list[StageResult] = []
        self.stage = ""
        self._began = 0.0

    def begin(self, stage: str) -> None:
        self.end(PASSED)
        self.stage, self._began = stage, self._monotonic()
        self._progress(stage)

    def end(self, code: str) -> None:
        if self.stage:
            self._done.append(StageResult(self.stage, code, round(self._monotonic() - self._began, 3)))
        self.stage = ""

    def stages(self) -> tuple[StageResult, ...]:
        done = {stage.name: stage for stage in self._done}
        return tuple(done.get(name, StageResult(name, SKIPPED, None)) for name in STAGES)


def run(
    login: Login,
    directory: ProviderCatalog,
    *,
    hosts: HostPolicy,
    context: ssl.SSLContext,
    version: str,
    budgets: SessionLimits,
    now: datetime,
    progress: Callable[[str], None] = lambda _: None,
    monotonic: Callable[[], float] = time.monotonic,
    authorize: Callable[[Callable[[str], None]], None] | None = None,
) -> TestOutcome:
    """Test a mailbox; nothing in it is changed. `progress` is given the name of each stage that begins; `authorize` gives
    access tokens to a login that needs one instead of a password."""
    watch = _Watch(monotonic, progress)
    provider = directory.of_mailbox(login.address, login.host)
    mistake = find_mistake(directory, login.host, login.port, login.address)
    words: dict[str, str] = {"host": mistake.host if mistake else login.host}
    tested: list[OpenedFolder] = []
    listed: list[Folder] = []
    detail = ""
    watch.begin("dns")
    if mistake is not None and mistake.certain:
        watch.end(mistake.code)
        return TestOutcome(
            TestReport(login.host, login.port, provider, watch.stages(), words), f"typed: {mistake.code}"
        )
    connection: Connection | None = None
    try:
        endpoint = hosts.check(login.host, login.port)
        watch.begin("tcp")
        connection = connect(endpoint, context, budgets, on_stage=watch.begin)
        watch.begin("login")
        if authorize is None:
            connection.login(login.user, login.password, version)
        else:
            authorize(partial(_token_login, connection, login.user, version))
        if watch.stage != "id":
            watch.begin("id")
        watch.begin("list")
        listed = connection.list_folders()
        words["folders"] = str(len(listed))
        watch.begin("sent")
        folders = connection.sent_folders(login.sent_override, listed)
        words["names"] = ", ".join(folder_text(folder.name) for folder in folders)
        watch.begin("examine")
        opened = [
            (folder, view) for folder in folders if (view := _opened(connection, folder, len(folders))) is not None
        ]
        words["messages"] = str(sum(view.messages for _, view in opened))
        watch.begin("newest")
        tested = [_looked(connection, *pair, again=len(folders) > 1) for pair in opened]
        watch.end(PASSED)
    except MailboxError as error:
        detail = str(error)
        words["candidates"] = ", ".join(_candidates(listed)) or "–"
        watch.end(_code(watch.stage, error, mistake, login))
    finally:
        if connection is not None:
            connection.logout()
    report = TestReport(login.host, login.port, provider, watch.stages(), words, tuple(tested))
    return TestOutcome(_warned(report, now), detail)


def _token_login(connection: Connection, user: str, version: str, token: str) -> None:
    connection.login_with_token(user, token, version)


def spent(login: Login, directory: ProviderCatalog, again_at: datetime) -> TestReport:
    """The report of a test that is not made: there were too many in the last hour."""
    return _not_made(login.host, login.port, login.address, directory, "tries-spent", again_at=f"{again_at:%H:%M} UTC")


def postponed(login: Login, directory: ProviderCatalog, again_at: datetime, detail: str) -> TestOutcome:
    """The outcome of a test that is not made: all of us together log in to the provider too often."""
    words = {"again_at": f"{again_at:%H:%M} UTC"}
    return TestOutcome(_not_made(login.host, login.port, login.address, directory, "provider-busy", **words), detail)


def mistyped(host: str, port: int, address: str, directory: ProviderCatalog, mistake: HostMistake) -> TestReport:
    """The report of a test that is not made: what was typed is no IMAP server. No password is needed to say so."""
    return _not_made(host, port, address, directory, mistake.code, host=mistake.host)


def unsupported(provider: Provider) -> TestReport:
    """The report of a test that is not made: the mailboxes of this provider cannot be read. No server is known."""
    return TestReport("", TLS_PORT, provider, _only("provider-unsupported"), {})


def _not_made(server: str, port: int, address: str, directory: ProviderCatalog, code: str, **words: str) -> TestReport:
    return TestReport(server, port, directory.of_mailbox(address, server), _only(code), words)


def _only(code: str) -> tuple[StageResult, ...]:
    return (StageResult(STAGES[0], code, None), *(StageResult(name, SKIPPED, None) for name in STAGES[1:]))


def _code(stage: str, error: MailboxError, mistake: HostMistake | None, login: Login) -> str:
    if mistake is not None and stage in ("dns", "tcp", "tls", "greeting"):
        return mistake.code  # only the name looked like it, and it answers like it
    if stage == "dns":
        return "host-refused"  # whether the name exists in the operator's network is not told either
    if stage == "examine" and login.sent_override and isinstance(error, CommandRefused):
        return "folder-missing"
    return error.code


def _opened(connection: Connection, folder: SentFolder, among: int) -> FolderView | None:
    """A folder opened; None for one of several that only has the name and stays closed, as in a poll."""
    try:
        return connection.examine(folder.name)
    except CommandRefused:
        if folder.found_by != "name" or among == 1:
            raise
        return None


def _looked(connection: Connection, folder: SentFolder, view: FolderView, *, again: bool) -> OpenedFolder:
    """The times of the first and the last message of a folder."""
    if view.messages == 0:
        return OpenedFolder(folder.name, folder.found_by, 0, None, None)
    if again:
        view = connection.examine(folder.name)
    if view.messages <= WINDOW:
        found = connection.search_from(1)
    else:
        found = connection.search_window(view, 1, 1, None)
        found += connection.search_window(view, view.messages, view.messages, None)
    times = [at for at in _ends(connection, found) if at is not None]
    return OpenedFolder(folder.name, folder.found_by, view.messages, min(times, default=None), max(times, default=None))


def _ends(connection: Connection, uids: Sequence[int]) -> list[datetime | None]:
    """When the first and the last message were filed that the server tells of: one that it cannot costs only itself, as in
    a poll."""
    if not uids:
        return []
    try:
        return list(connection.fetch_times(sorted({uids[0], uids[-1]})).values())
    except ServerBroken:
        found = [_first_told(connection, side) for side in (uids[:2], uids[:-3:-1])]
        if found == [[], []]:
            raise
        return found[0] + found[1]


def _first_told(connection: Connection, uids: Sequence[int]) -> list[datetime | None]:
    for uid in uids:
        with suppress(ServerBroken):
            return list(connection.fetch_times([uid]).values())
    return []


def _candidates(listed: Sequence[Folder]) -> list[str]:
    names = [folder_text(folder.name) for folder in listed if b"\\noselect" not in folder.flags]
    return [name for name in names if name.upper() != "INBOX"][:CANDIDATES]


def _warned(report: TestReport, now: datetime) -> TestReport:
    """The report with what is worth knowing about the provider and about what was seen."""
    found: list[Warned] = []
    provider, folders = report.provider, report.folders
    if provider is not None and provider.caution is not None:
        caution = provider.caution
        origin = {"source": caution.source, "as_of": caution.as_of}
        found.append(Warned("caution", {"caution": caution.en} | origin, {"caution": caution.zh} | origin))
    if provider is not None and provider.support == "unconfirmed":
        found.append(Warned("unconfirmed", {}))
    if report.passed:
        found += _seen(provider, folders, now)
    return TestReport(
        report.host, report.port, provider, report.stages, report.words, folders, tuple(found)
    )  # fmt: skip


def _seen(provider: Provider | None, folders: Sequence[OpenedFolder], now: datetime) -> list[Warned]:
    found: list[Warned] = []
    earliest = min((folder.earliest_at for folder in folders if folder.earliest_at), default=None)
    newest = max((folder.newest_at for folder in folders if folder.newest_at), default=None)
    messages = sum(folder.messages for folder in folders)
    limits = provider.limits if provider is not None else None
    days, count = (limits.visible_days, limits.visible_messages) if limits is not None else (None, None)
    if days is not None and (earliest is None or earliest > now - timedelta(days=days + 2)):
        found.append(Warned("window-days", {"days": str(days)}))
    if count is not None and any(folder.messages >= count for folder in folders):
        found.append(Warned("window-messages", {"count": f"{count:,}"}))
    filing = {
        "no": "filing-no",
        "option": "filing-option",
        "unknown": "filing-unknown",
        "conflicting": "filing-unknown",
    }
    if code := filing.get(provider.files_sent if provider is not None else "unknown"):
        found.append(Warned(code, {}))
    if len(folders) > 1:
        found.append(Warned("several-folders", {}))
    if messages == 0:
        found.append(Warned("sent-empty", {}))
    elif newest is not None and now - newest > OLD:
        found.append(Warned("sent-old", {"days": str((now - newest).days)}))
    return found
