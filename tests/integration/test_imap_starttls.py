"""STARTTLS: verified before anything is sent, and nothing from before it counts. The attacks of https://nostarttls.secvuln.info."""

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.imap.connection import Connection, connect
from services.imap.errors import (
    MailboxError,
    ServerBroken,
    SessionLimitReached,
    Throttled,
    TlsFailed,
    Unreachable,
)
from services.imap.host_policy import Endpoint
from services.imap.tls import tls_context
from services.imap.wire import SessionLimits
from services.standalone.servers.ca import CertificateAuthority
from tests.support.dovecot import Dovecot
from tests.support.servers import USERS
from tests.support.wire import allowed

SMALL = SessionLimits(command_seconds=1.0, session_seconds=4.0, connect_seconds=2.0)
USER = "seller-1@mail.test"
EVIL = b'* LIST (\\Sent) "/" "Evil"\r\n'


def open_session(
    port: int, ca_file: Path, limits: SessionLimits = SMALL, record: Callable[[bytes], None] | None = None
) -> Connection:
    return connect(Endpoint("localhost", port, ("127.0.0.1",), "starttls"), tls_context(ca_file), limits, record=record)


@dataclass
class Script:
    """What a server says before TLS. `{tag}` is the tag of the client's STARTTLS."""

    greeting: bytes = b"* OK ready\r\n"
    answer: bytes = b"{tag} OK begin TLS\r\n"
    handshake: bool = True
    names: tuple[str, ...] = ("localhost",)
    expired: bool = False
    then: bytes = b""
    """Sent after the answer, when the client may have begun its handshake."""


@dataclass
class Seen:
    """What a client sent, before and after TLS."""

    plain: bytes = b""
    encrypted: list[bytes] = field(default_factory=list)


@contextlib.contextmanager
def scripted(folder: Path, ca: CertificateAuthority, script: Script) -> Iterator[tuple[int, Seen]]:
    """A server for one session. After TLS it is an IMAP server that refuses every login."""
    files = ca.issue(f"starttls-{folder.name}", script.names, expired=script.expired)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    seen = Seen()

    def serve(listener: socket.socket) -> None:
        raw, _ = listener.accept()
        with contextlib.suppress(OSError, ssl.SSLError), raw:
            raw.settimeout(3)
            raw.sendall(script.greeting)
            while b"\n" not in seen.plain:
                seen.plain += (data := raw.recv(4096))
                if not data:
                    return
            raw.sendall(script.answer.replace(b"{tag}", seen.plain.split(b" ")[0]))
            raw.sendall(script.then)
            if not script.handshake:
                while data := raw.recv(4096):
                    seen.plain += b"" if data.startswith(b"\x16\x03") else data
                return
            with context.wrap_socket(raw, server_side=True) as connection:
                for line in connection.makefile("rb"):
                    seen.encrypted.append(line.rstrip().partition(b" ")[2])
                    answer = line.split(b" ")[0] + b" OK done\r\n"
                    if b"CAPABILITY" in line:
                        answer = b"* CAPABILITY IMAP4rev1\r\n" + answer
                    elif b"LOGIN" in line:
                        answer = line.split(b" ")[0] + b" NO [AUTHENTICATIONFAILED] no\r\n"
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1], seen
        thread.join(5)
        assert not thread.is_alive()


def test_the_control_only_what_follows_differs(tmp_path: Path, ca: CertificateAuthority) -> None:
    with scripted(tmp_path, ca, Script()) as (port, seen):
        connection = open_session(port, ca.ca_file)
        with pytest.raises(MailboxError):
            connection.login(USER, "secret", "0")
        connection.logout()
    assert re.fullmatch(rb"S[0-9a-f]{8} STARTTLS\r\n", seen.plain)
    assert seen.encrypted == [b"CAPABILITY", b'LOGIN "seller-1@mail.test" "secret"', b"LOGOUT"]


ATTACKS: dict[str, tuple[Script, type[MailboxError], str]] = {
    "NO to STARTTLS": (Script(answer=b"{tag} NO not here\r\n"), TlsFailed, "starttls-missing"),
    "BAD to STARTTLS": (Script(answer=b"{tag} BAD what?\r\n"), TlsFailed, "starttls-missing"),
    "STARTTLS removed from the list": (
        Script(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n", b"{tag} BAD unknown command\r\n"),
        TlsFailed,
        "starttls-missing",
    ),
    "a referral instead of TLS": (
        Script(answer=b"{tag} NO [REFERRAL imap://evil.example/] moved\r\n"),
        TlsFailed,
        "starttls-missing",
    ),
    "PREAUTH": (Script(b"* PREAUTH welcome back\r\n"), TlsFailed, "starttls-unsafe"),
    "preauth in lower case": (Script(b"* preauth [CAPABILITY IMAP4rev1]\r\n"), TlsFailed, "starttls-unsafe"),
    "an answer behind the OK": (
        Script(answer=b"{tag} OK begin TLS\r\n" + EVIL),
        TlsFailed,
        "starttls-unsafe",
    ),
    "half a line behind the OK": (Script(answer=b"{tag} OK begin TLS\r\n* "), TlsFailed, "starttls-unsafe"),
    "capabilities behind the OK": (
        Script(answer=b"{tag} OK begin TLS\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n"),
        TlsFailed,
        "starttls-unsafe",
    ),
    "a folder list before the OK": (Script(answer=EVIL + b"{tag} OK begin TLS\r\n"), TlsFailed, "starttls-unsafe"),
    "a message before the OK": (
        Script(answer=b"* 1 FETCH (UID 1 BODY[HEADER] {3}\r\nabc)\r\n{tag} OK begin TLS\r\n"),
        TlsFailed,
        "starttls-unsafe",
    ),
    "a folder list with the greeting": (Script(b"* OK ready\r\n" + EVIL), TlsFailed, "starttls-unsafe"),
    "the OK of another tag": (Script(answer=b"A1 OK begin TLS\r\n"), TlsFailed, "starttls-unsafe"),
    "a prompt to go on": (Script(answer=b"+ go on\r\n"), TlsFailed, "starttls-unsafe"),
    "plain text instead of the handshake": (
        Script(handshake=False, then=b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n"),
        TlsFailed,
        "*",
    ),
    "the certificate of another host": (Script(names=("mail.example.com",)), TlsFailed, "tls-failed"),
    "an expired certificate": (Script(expired=True), TlsFailed, "tls-failed"),
    "BYE as greeting": (Script(b"* BYE\r\n"), Unreachable, "unreachable"),
    "too many sessions": (Script(b"* BYE Too many connections\r\n"), Throttled, "*"),
    "BYE as answer": (Script(answer=b"* BYE\r\n"), Unreachable, "unreachable"),
    "end of the connection": (Script(answer=b"", handshake=False), MailboxError, "*"),
    "another protocol": (Script(b"220 mail ESMTP\r\n"), ServerBroken, "server-broken"),
    "lines without end": (Script(answer=b"* OK\r\n" * 1000), SessionLimitReached, "budget-spent"),
    "a line without end": (Script(b"* OK " + b"x" * 70_000), SessionLimitReached, "budget-spent"),
    "silence": (Script(answer=b"* OK\r\n", handshake=False), SessionLimitReached, "budget-spent"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_ends_the_session_before_a_credential(tmp_path: Path, ca: CertificateAuthority, name: str) -> None:
    script, error, code = ATTACKS[name]
    with scripted(tmp_path, ca, script) as (port, seen):
        with pytest.raises(error) as caught:
            open_session(port, ca.ca_file).login(USER, "secret", "0")
    assert code in ("*", caught.value.code)
    # Nothing but STARTTLS in plain text, and no command on a channel that was not verified.
    assert re.fullmatch(rb"(S[0-9a-f]{8} STARTTLS\r\n)?", seen.plain)
    assert seen.encrypted == []


def test_an_unknown_authority_is_refused(tmp_path: Path, ca: CertificateAuthority) -> None:
    with scripted(tmp_path, CertificateAuthority(tmp_path / "unknown"), Script()) as (port, seen):
        with pytest.raises(TlsFailed):
            open_session(port, ca.ca_file)
    assert seen.encrypted == []


def test_capabilities_from_before_tls_are_forgotten(tmp_path: Path, ca: CertificateAuthority) -> None:
    lies = b"* CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2 SAVEDATE\r\n"
    script = Script(
        b"* OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2] ready\r\n", lies + b"{tag} OK begin TLS\r\n"
    )
    with scripted(tmp_path, ca, script) as (port, seen):
        connection = open_session(port, ca.ca_file)
        with pytest.raises(MailboxError):
            connection.login(USER, "secret", "0")
        connection.logout()
    assert [command.split(b" ")[0] for command in seen.encrypted] == [b"CAPABILITY", b"LOGIN", b"LOGOUT"]


def test_a_real_server_is_read_after_starttls(dovecot: Dovecot) -> None:
    # The control: that port starts in plain text.
    with socket.create_connection(("127.0.0.1", dovecot.starttls_port), timeout=5) as raw:
        assert b" STARTTLS " in raw.recv(4096)
    dovecot.append(USER, "Sent", b"Message-ID: <starttls@mail.test>\r\n\r\n", datetime.now(UTC))
    wire: list[bytes] = []
    connection = open_session(dovecot.starttls_port, dovecot.ca_file, SessionLimits(), wire.append)
    connection.login(USER, USERS[USER], "0")
    (folder,) = connection.sent_folders()
    view = connection.examine(folder.name)
    headers = connection.fetch_headers(connection.search_window(view, 1, view.messages, None)[-1:])
    connection.logout()
    assert b"<starttls@mail.test>" in headers[0].header
    commands = [command.partition(b" ")[2] for command in b"".join(wire).split(b"\r\n") if command]
    assert commands[0] == b"STARTTLS" and all(allowed(command) for command in commands)


def test_a_port_with_tls_at_once_is_not_read_in_plain_text(dovecot: Dovecot) -> None:
    with pytest.raises(MailboxError):
        open_session(dovecot.port, dovecot.ca_file)
    with pytest.raises(TlsFailed):
        connect(Endpoint("localhost", dovecot.starttls_port, ("127.0.0.1",)), tls_context(dovecot.ca_file), SMALL)
