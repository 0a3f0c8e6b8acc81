"""The commands that a connection sends, and what it accepts from a server."""

import re
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.imap.connection import Connection, connect
from services.imap.errors import (
    HostRefused,
    LoginRefused,
    MailboxError,
    NoSentFolder,
    ServerBroken,
    SessionLimitReached,
    Unreachable,
)
from services.imap.host_policy import Endpoint, HostPolicy
from services.imap.limits import SessionLimits
from services.imap.tls import tls_context
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.mailbox import Folder
from tests.imap_lab.profiles import DOVECOT, Defect
from tests.imap_lab.server import LabServer
from tests.imap_lab.world import fill
from tests.support.dovecot import Dovecot
from tests.support.servers import USERS
from tests.support.wire import allowed

USER = "seller-1@mail.test"


SMALL = SessionLimits(command_seconds=1.0, session_seconds=3.0, connect_seconds=2.0)


def open_session(
    port: int, ca_file: Path, limits: SessionLimits = SMALL, record: Callable[[bytes], None] | None = None
) -> Connection:
    return connect(Endpoint("localhost", port, ("127.0.0.1",)), tls_context(ca_file), limits, record=record)


def test_only_these_commands_can_be_sent_and_nothing_changes(dovecot: Dovecot) -> None:
    filed_at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    raw = b"Message-ID: <1@x>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nFrom: a@b\r\nTo: c@d\r\nX-Secret: canary\r\n\r\ncanary body"
    dovecot.client.append(USER, "Sent", raw, filed_at, flags="")
    dovecot.close_client()
    wire: list[bytes] = []
    connection = open_session(dovecot.port, dovecot.ca_file, SessionLimits(), wire.append)
    connection.login(USER, USERS[USER], "0")
    (folder,) = connection.sent_folders()
    assert (folder.name, folder.found_by) == (b"Sent", "special-use")
    view = connection.examine(folder.name)
    assert (view.messages, view.uidnext) == (1, 2)
    assert connection.search_from(1) == [1] and connection.search_from(2) == []
    assert connection.search_window(view, 1, 1, filed_at.date()) == [1]
    (fetched,) = connection.fetch_headers([1])
    assert fetched.internal_date == filed_at and fetched.save_date is not None
    assert b"<1@x>" in fetched.header and b"canary" not in fetched.header
    assert connection.fetch_times([1, 9]) == {1: filed_at}
    connection.logout()
    sent = re.split(rb"\r\n", b"".join(wire))
    commands = [line.partition(b" ")[2] for line in sent if line]
    assert len(commands) >= 9
    for command in commands:
        assert allowed(command), command
    # ID is sent after LOGIN and before the first EXAMINE.
    names = [command.split()[0] for command in commands]
    assert names.index(b"LOGIN") < names.index(b"ID") < names.index(b"EXAMINE")
    flags = dovecot.client.session(USER)
    flags.select("Sent", readonly=True)
    assert b"\\Seen" not in flags.fetch("1", "(FLAGS)")[1][0]  # type: ignore[operator]


def test_an_idle_folder_costs_two_round_trips(dovecot: Dovecot) -> None:
    wire: list[bytes] = []
    connection = open_session(dovecot.port, dovecot.ca_file, SessionLimits(), wire.append)
    connection.login(USER, USERS[USER], "0")
    connection.sent_folders()
    wire.clear()
    connection.examine(b"Sent")
    connection.search_from(1)
    connection.logout()
    assert b"".join(wire).count(b"\r\n") == 3  # EXAMINE, UID SEARCH, LOGOUT


@pytest.mark.parametrize("text", ["a\r\nX LOGOUT", "a\0b", "a\nb"])
def test_no_line_break_reaches_the_wire(dovecot: Dovecot, text: str) -> None:
    wire: list[bytes] = []
    connection = open_session(dovecot.port, dovecot.ca_file, SessionLimits(), wire.append)
    for user, password in ((text, "x"), ("x", text)):
        with pytest.raises(LoginRefused):
            connection.login(user, password, "0")
    with pytest.raises(MailboxError):
        connection.examine(text.encode())
    assert b"LOGOUT" not in b"".join(wire)
    connection.drop()


HOSTILE = (
    Defect.ENDLESS_LINE, Defect.HUGE_LITERAL_EARLY, Defect.ENDLESS_LIST, Defect.DRIP, Defect.DRIP_ANSWER, Defect.SILENT,
    Defect.CLOSED_EARLY, Defect.NO_IMAP,
)  # fmt: skip


@pytest.mark.parametrize("defect", HOSTILE, ids=lambda defect: defect.name)
def test_a_hostile_server_costs_little_and_ends_in_a_mailbox_error(
    tmp_path: Path, ca: CertificateAuthority, defect: Defect
) -> None:
    started = time.monotonic()
    with LabServer(tmp_path / "s", ca, DOVECOT) as server:
        server.defects.add(defect)
        with pytest.raises((SessionLimitReached, Unreachable, ServerBroken)):
            open_mailbox(server).sent_folders()
    assert time.monotonic() - started < 15


def open_mailbox(server: LabServer) -> Connection:
    connection = open_session(server.port, server.ca_file)
    connection.login(server.user, server.secret, "0")
    return connection


def test_an_answer_that_is_not_imap_is_the_servers_fault(tmp_path: Path, ca: CertificateAuthority) -> None:
    with LabServer(tmp_path / "s", ca, DOVECOT) as server:
        fill(server, [datetime.now(UTC)])
        connection = open_mailbox(server)
        connection.examine(b"Sent")
        server.defects.add(Defect.GARBAGE)
        with pytest.raises(ServerBroken):
            connection.fetch_headers([1])
        with pytest.raises(ServerBroken):
            connection.fetch_times([1])


@pytest.mark.parametrize("defect", [Defect.UNSOLICITED_FETCH, Defect.DUPLICATE_UID], ids=lambda defect: defect.name)
def test_times_are_those_of_the_requested_messages(tmp_path: Path, ca: CertificateAuthority, defect: Defect) -> None:
    """Whatever else the server reports meanwhile; None where it reports no time."""
    with LabServer(tmp_path / "s", ca, DOVECOT) as server:
        first = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
        fill(server, [first, first + timedelta(days=1), first + timedelta(days=2)])
        server.defects.add(defect)
        connection = open_mailbox(server)
        connection.examine(b"Sent")
        assert connection.fetch_times([1, 3]) == {1: first, 3: first + timedelta(days=2)}
        server.defects.add(Defect.NO_INTERNALDATE)
        assert set(connection.fetch_times([1, 3]).values()) <= {None}


def test_names_of_sent_folders_without_attributes(tmp_path: Path, ca: CertificateAuthority) -> None:
    with LabServer(tmp_path / "s", ca, DOVECOT) as server:
        names = (b"INBOX", b"&XfJT0ZAB-", b"Sent to clients", b"&g0l6P3ux-", b"&U9FO9nux-")
        server.folders = [Folder(name) for name in names]
        assert [folder.name for folder in open_mailbox(server).sent_folders()] == [b"&XfJT0ZAB-"]


def test_a_mailbox_without_a_sent_folder_is_reported(tmp_path: Path, ca: CertificateAuthority) -> None:
    with LabServer(tmp_path / "s", ca, DOVECOT) as server:
        server.folders.remove(server.sent)
        with pytest.raises(NoSentFolder):
            open_mailbox(server).sent_folders()


def test_a_rebinding_name_is_connected_at_the_checked_address(
    dovecot: Dovecot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public at the first query, loopback at the second. There is no second query, and no name reaches a socket."""
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    queries: list[str] = []
    dialled: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        queries.append(host)
        return answers[min(len(queries), len(answers)) - 1]

    def dial(address: tuple[str, int], timeout: float) -> socket.socket:
        dialled.append(address[0])
        raise TimeoutError

    policy = HostPolicy((dovecot.port,), resolve=rebinding)
    endpoint = policy.check("mail.example.com", dovecot.port)
    monkeypatch.setattr(socket, "create_connection", dial)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name was resolved after the check"))
    with pytest.raises(Unreachable):
        connect(endpoint, tls_context(dovecot.ca_file), SMALL)
    assert (queries, dialled) == (["mail.example.com"], ["93.184.216.34"])
    # The next poll resolves again, and is refused before anything is dialled.
    with pytest.raises(HostRefused):
        policy.check("mail.example.com", dovecot.port)
    assert dialled == ["93.184.216.34"]
