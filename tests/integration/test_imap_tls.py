"""A server that cannot prove its name is refused before anything is sent to it."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.imap.connection import Connection, connect
from services.imap.errors import LoginRefused, TlsFailed
from services.imap.host_policy import Endpoint
from services.imap.limits import SessionLimits
from services.imap.tls import tls_context
from services.imap.tls_sessions import TlsSessions
from services.standalone.servers.ca import CertificateAuthority, ServerCertificate
from tests.support.dovecot import Dovecot

SMALL = SessionLimits(command_seconds=1.0, session_seconds=3.0, connect_seconds=2.0)


def open_session(
    port: int, ca_file: Path, limits: SessionLimits = SMALL, record: Callable[[bytes], None] | None = None
) -> Connection:
    return connect(Endpoint("localhost", port, ("127.0.0.1",)), tls_context(ca_file), limits, record=record)


@contextlib.contextmanager
def greeter(files: ServerCertificate | None, **context: ssl.TLSVersion) -> Iterator[int]:
    """The port of a server that greets like IMAP: over TLS with these files, or in plain text without any."""
    received = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError, ssl.SSLError), raw:
                raw.settimeout(3)
                if files is None:
                    raw.sendall(b"* OK IMAP4rev1 ready\r\n")
                    received.append(raw.recv(4096))
                    continue
                server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                server.set_ciphers("ALL:@SECLEVEL=0")
                server.load_cert_chain(files.certificate, files.key)
                for name, value in context.items():
                    setattr(server, name, value)
                with server.wrap_socket(raw, server_side=True) as connection:
                    connection.sendall(b"* OK IMAP4rev1 ready\r\n")
                    received.append(connection.recv(4096))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    # Nothing was sent: no command, no user name, no password.
    assert not any(b"LOGIN" in data or b"CAPABILITY" in data for data in received)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    "case", ["self-signed", "unknown authority", "expired", "wrong name", "TLS 1.0", "TLS 1.1", "plain text"]
)
def test_unverified_tls_is_refused_before_anything_is_sent(tmp_path: Path, ca: CertificateAuthority, case: str) -> None:
    unknown_ca = CertificateAuthority(tmp_path / "unknown")
    options: dict[str, ssl.TLSVersion] = {}
    files: ServerCertificate | None = ca.issue(f"matrix-{tmp_path.name}")
    match case:
        case "self-signed":
            files = self_signed(tmp_path)
        case "unknown authority":
            files = unknown_ca.issue("unknown")
        case "expired":
            files = ca.issue(f"expired-{tmp_path.name}", expired=True)
        case "wrong name":
            files = ca.issue(f"wrong-{tmp_path.name}", ("mail.example.com",))
        case "TLS 1.0":
            options = {"minimum_version": ssl.TLSVersion.TLSv1, "maximum_version": ssl.TLSVersion.TLSv1}
        case "TLS 1.1":
            options = {"minimum_version": ssl.TLSVersion.TLSv1_1, "maximum_version": ssl.TLSVersion.TLSv1_1}
        case "plain text":
            files = None
    with greeter(files, **options) as port:
        if options:  # the server does speak it: a client that allows old protocols gets a connection
            lax = ssl.create_default_context(cafile=str(ca.ca_file))
            lax.minimum_version = ssl.TLSVersion.TLSv1
            lax.set_ciphers("ALL:@SECLEVEL=0")
            with (
                socket.create_connection(("127.0.0.1", port)) as raw,
                lax.wrap_socket(raw, server_hostname="localhost") as connection,
            ):
                assert connection.version() == {"TLS 1.0": "TLSv1", "TLS 1.1": "TLSv1.1"}[case]
        with pytest.raises(TlsFailed) as caught:
            open_session(port, ca.ca_file)
        assert (caught.value.stage, caught.value.code) == ("tls", "tls-failed")


def test_the_same_server_with_a_good_certificate_is_accepted(tmp_path: Path, ca: CertificateAuthority) -> None:
    """The control: only the certificate differs."""
    with (
        greeter(ca.issue(f"good-{tmp_path.name}")) as port,
        socket.create_connection(("127.0.0.1", port)) as raw,
        tls_context(ca.ca_file).wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        assert connection.recv(100).startswith(b"* OK") and connection.version() in ("TLSv1.2", "TLSv1.3")


def self_signed(folder: Path) -> ServerCertificate:
    """A self-signed certificate for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    files = ServerCertificate(folder / "self.pem", folder / "self.key")
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def test_a_certificate_for_another_name_or_of_an_unknown_authority_is_refused(dovecot: Dovecot) -> None:
    with pytest.raises(TlsFailed):
        connect(Endpoint("mail.example.com", dovecot.port, ("127.0.0.1",)), tls_context(dovecot.ca_file), SMALL)
    with pytest.raises(TlsFailed):
        connect(Endpoint("localhost", dovecot.port, ("127.0.0.1",)), tls_context(None), SMALL)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_with_its_server_for_an_hour_and_with_no_other(
    tmp_path: Path, ca: CertificateAuthority, version: ssl.TLSVersion
) -> None:
    now = 0.0
    sessions = TlsSessions(lambda: now)
    context = tls_context(ca.ca_file)
    files = ca.issue(f"resumed-{tmp_path.name}")

    def is_resumed(port: int, trusted: ssl.SSLContext = context) -> bool:
        connection = connect(Endpoint("localhost", port, ("127.0.0.1",)), trusted, SMALL, tls_sessions=sessions)
        resumed = bool(connection._client._imap.sock.session_reused)
        connection.logout()
        return resumed

    with resuming_server(files, version) as port, resuming_server(files, version) as second_port:
        assert [is_resumed(port) for _ in range(4)] == [False, True, True, True]
        assert not is_resumed(second_port), "a session of another server"
        unknown = CertificateAuthority(tmp_path / "unknown")
        with pytest.raises(TlsFailed):
            is_resumed(port, tls_context(unknown.ca_file))
        assert is_resumed(port)
        now = 3599
        assert is_resumed(port)
        now = 3601
        assert [is_resumed(port) for _ in range(2)] == [False, True]


def test_a_server_that_resumes_nothing_is_offered_one_session_an_hour(tmp_path: Path, ca: CertificateAuthority) -> None:
    """To store a session costs as much as resuming it saves."""
    now = 0.0
    sessions = TlsSessions(lambda: now)
    context = tls_context(ca.ca_file)
    with resuming_server(ca.issue(f"forgetful-{tmp_path.name}"), ssl.TLSVersion.TLSv1_3, forgetful=True) as port:
        offered = []
        for second in (0.0, 1.0, 2.0, 3602.0, 3603.0):
            now = second
            offered.append(sessions.resumable(context, "localhost", port) is not None)
            connect(Endpoint("localhost", port, ("127.0.0.1",)), context, SMALL, tls_sessions=sessions).logout()
    assert offered == [False, True, False, False, True]


@contextlib.contextmanager
def resuming_server(
    files: ServerCertificate, version: ssl.TLSVersion, *, forgetful: bool = False, capabilities: bytes = b"IMAP4rev1"
) -> Iterator[int]:
    """The port of a server that greets and says BYE, with one TLS context, or a new one for each connection (`forgetful`)."""

    def context() -> ssl.SSLContext:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(files.certificate, files.key)
        server.maximum_version = version
        return server

    def serve(listener: socket.socket, common: ssl.SSLContext) -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError, ssl.SSLError), raw:
                raw.settimeout(3)
                with (context() if forgetful else common).wrap_socket(raw, server_side=True) as connection:
                    connection.sendall(b"* OK [CAPABILITY " + capabilities + b"] ready\r\n")
                    tag = connection.recv(4096).split(b" ", 1)[0]
                    connection.sendall(b"* BYE .\r\n" + tag + b" OK bye\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener, context()), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_no_password_goes_to_a_server_that_disables_the_login_in_its_greeting(
    tmp_path: Path, ca: CertificateAuthority
) -> None:
    files, sent = ca.issue(f"disabled-{tmp_path.name}"), list[bytes]()
    with resuming_server(files, ssl.TLSVersion.TLSv1_3, capabilities=b"IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2") as port:
        connection = open_session(port, ca.ca_file, record=sent.append)
        with pytest.raises(LoginRefused) as caught:
            connection.login("seller-1@mail.test", "Secret-1-canary", "0")
        connection.logout()
    assert caught.value.code == "oauth2-needed"
    assert [data.split(b" ")[1].strip() for data in sent] == [b"LOGOUT"]


def test_dovecot_is_not_asked_for_capabilities_that_it_has_named(dovecot: Dovecot) -> None:
    """Its process for each connection resumes no TLS session: both handshakes verify."""
    sessions, sent = TlsSessions(), list[bytes]()
    context = tls_context(dovecot.ca_file)
    for _ in range(2):
        connection = connect(
            Endpoint("localhost", dovecot.port, ("127.0.0.1",)), context, SessionLimits(), record=sent.append, tls_sessions=sessions
        )  # fmt: skip
        connection.login("seller-1@mail.test", "Secret-1-canary", "0")
        assert not connection._client._imap.sock.session_reused
        assert connection.save_dates, "a capability that it names after the login only"
        connection.logout()
    assert b"LOGIN" in b"".join(sent) and not any(b"CAPABILITY" in data for data in sent), sent
