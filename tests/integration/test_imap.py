"""What the fetcher says on the wire, what it takes from a server, and whom it talks to."""

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.common.errors import ConfigError
from services.imap.connection import Connection, connect
from services.imap.errors import (
    HostRefused,
    LoginRefused,
    MailboxError,
    NoSentFolder,
    ServerBroken,
    SessionLimitReached,
    TlsFailed,
    Unreachable,
)
from services.imap.folders import folder_name, folder_text, is_sent_name
from services.imap.host_policy import Endpoint, HostPolicy
from services.imap.limits import SessionLimits
from services.imap.tls import tls_context
from services.standalone.servers.ca import CertificateAuthority, ServerCertificate
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
    port: int, ca_file: Path, budgets: SessionLimits = SMALL, record: Callable[[bytes], None] | None = None
) -> Connection:
    return connect(Endpoint("localhost", port, ("127.0.0.1",)), tls_context(ca_file), budgets, record=record)


def test_only_these_commands_can_be_sent_and_nothing_changes(dovecot: Dovecot) -> None:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    raw = b"Message-ID: <1@x>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nFrom: a@b\r\nTo: c@d\r\nX-Secret: canary\r\n\r\ncanary body"
    dovecot.client.append(USER, "Sent", raw, at, flags="")
    dovecot.close_client()
    wire: list[bytes] = []
    connection = open_session(dovecot.port, dovecot.ca_file, SessionLimits(), wire.append)
    connection.login(USER, USERS[USER], "0")
    (folder,) = connection.sent_folders()
    assert (folder.name, folder.found_by) == (b"Sent", "special-use")
    view = connection.examine(folder.name)
    assert (view.messages, view.uidnext) == (1, 2)
    assert connection.search_from(1) == [1] and connection.search_from(2) == []
    assert connection.search_window(view, 1, 1, at.date()) == [1]
    (found,) = connection.fetch_headers([1])
    assert found.internal_date == at and found.save_date is not None
    assert b"<1@x>" in found.header and b"canary" not in found.header
    assert connection.fetch_times([1, 9]) == {1: at}
    connection.logout()
    sent = re.split(rb"\r\n", b"".join(wire))
    commands = [line.partition(b" ")[2] for line in sent if line]
    assert len(commands) >= 9
    for command in commands:
        assert allowed(command), command
    # The ID goes out after LOGIN and before the first EXAMINE.
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
def test_a_hostile_server_costs_little_and_ends_in_an_error_of_ours(
    tmp_path: Path, ca: CertificateAuthority, defect: Defect
) -> None:
    began = time.monotonic()
    with LabServer(tmp_path / "s", ca, DOVECOT) as server:
        server.defects.add(defect)
        with pytest.raises((SessionLimitReached, Unreachable, ServerBroken)):
            open_mailbox(server).sent_folders()
    assert time.monotonic() - began < 15


def open_mailbox(server: LabServer) -> Connection:
    connection = open_session(server.port, server.ca_file)
    connection.login(server.user, server.secret, "0")
    return connection


def test_an_answer_that_is_no_imap_is_the_servers_fault(tmp_path: Path, ca: CertificateAuthority) -> None:
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
def test_times_are_those_of_the_messages_that_were_asked_for(
    tmp_path: Path, ca: CertificateAuthority, defect: Defect
) -> None:
    """Whatever else the server tells meanwhile; none where it tells none."""
    with LabServer(tmp_path / "s", ca, DOVECOT) as server:
        first = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
        fill(server, [first, first + timedelta(days=1), first + timedelta(days=2)])
        server.defects.add(defect)
        connection = open_mailbox(server)
        connection.examine(b"Sent")
        assert connection.fetch_times([1, 3]) == {1: first, 3: first + timedelta(days=2)}
        server.defects.add(Defect.NO_INTERNALDATE)
        assert set(connection.fetch_times([1, 3]).values()) <= {None}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"&XfJT0ZAB-", "已发送"), (b"Sent", "Sent"), (b"R&-D", "R&D"), (b"A&-B-C", "A&B-C"), (b"&-", "&"),
        (b"R&-D &XfJT0ZAB-", "R&D 已发送"), (b"INBOX.Envoy&AOk-s", "INBOX.Envoyés"), (b"a+b", "a+b"),
    ],
)  # fmt: skip
def test_a_folder_is_typed_as_it_is_shown(raw: bytes, text: str) -> None:
    assert folder_text(raw) == text and folder_name(text) == raw and folder_name(raw.decode()) == raw


def test_names_of_sent_folders_without_attributes(tmp_path: Path, ca: CertificateAuthority) -> None:
    with LabServer(tmp_path / "s", ca, DOVECOT) as server:
        names = (b"INBOX", b"&XfJT0ZAB-", b"Sent to clients", b"&g0l6P3ux-", b"&U9FO9nux-")
        server.folders = [Folder(name) for name in names]
        assert [folder.name for folder in open_mailbox(server).sent_folders()] == [b"&XfJT0ZAB-"]


def test_no_sent_folder_is_said_so(tmp_path: Path, ca: CertificateAuthority) -> None:
    with LabServer(tmp_path / "s", ca, DOVECOT) as server:
        server.folders.remove(server.sent)
        with pytest.raises(NoSentFolder):
            open_mailbox(server).sent_folders()


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        (b"Sent", True), (b"Sent Messages", True), (b"[Gmail]/&XfJT0ZCuTvY-", True), (b"&W8RO9lCZTv0-", True), (b"INBOX.Sent", True),
        (b"&kAFP4W4IMH8w4TD8MOs-", True), (b"&AMk-l&AOk-ments envoy&AOk-s", True), (b"&BB4EQgQ,BEAEMAQyBDsENQQ9BD0ESwQ1-", True),
        (b"Sent to clients", False), (b"&U9FO9nux-", False), (b"Drafts", False), (b"\xff\xfe", False), (b"&broken", False),
    ],
)  # fmt: skip
def test_known_names(name: bytes, sent: bool) -> None:
    assert is_sent_name(name) is sent


@contextlib.contextmanager
def greeter(files: ServerCertificate | None, **context: ssl.TLSVersion) -> Iterator[int]:
    """A server that greets like IMAP, over TLS with these files, or in plain text without any; its port."""
    heard = []

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
                    heard.append(raw.recv(4096))
                    continue
                server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                server.set_ciphers("ALL:@SECLEVEL=0")
                server.load_cert_chain(files.certificate, files.key)
                for name, value in context.items():
                    setattr(server, name, value)
                with server.wrap_socket(raw, server_side=True) as connection:
                    connection.sendall(b"* OK IMAP4rev1 ready\r\n")
                    heard.append(connection.recv(4096))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    # Nothing of ours was said: no command, no user, no password.
    assert not any(b"LOGIN" in data or b"CAPABILITY" in data for data in heard)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    "case", ["self-signed", "unknown authority", "expired", "wrong name", "TLS 1.0", "TLS 1.1", "plain text"]
)
def test_tls_that_proves_nothing_is_refused_before_anything_is_said(
    tmp_path: Path, ca: CertificateAuthority, case: str
) -> None:
    other = CertificateAuthority(tmp_path / "other")
    options: dict[str, ssl.TLSVersion] = {}
    files: ServerCertificate | None = ca.issue(f"matrix-{tmp_path.name}")
    match case:
        case "self-signed":
            files = self_signed(tmp_path)
        case "unknown authority":
            files = other.issue("unknown")
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
        if options:  # the server does speak it: who allows old protocols gets a connection
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


def test_the_same_server_with_a_good_certificate_is_taken(tmp_path: Path, ca: CertificateAuthority) -> None:
    """The control of the matrix: it is the certificate that decides."""
    with (
        greeter(ca.issue(f"good-{tmp_path.name}")) as port,
        socket.create_connection(("127.0.0.1", port)) as raw,
        tls_context(ca.ca_file).wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        assert connection.recv(100).startswith(b"* OK") and connection.version() in ("TLSv1.2", "TLSv1.3")


def self_signed(folder: Path) -> ServerCertificate:
    """A certificate for localhost that only vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    at = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(at - timedelta(days=1)).not_valid_after(at + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    files = ServerCertificate(folder / "self.pem", folder / "self.key")
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def test_a_certificate_for_another_name_or_of_nobody_is_refused(dovecot: Dovecot) -> None:
    with pytest.raises(TlsFailed):
        connect(Endpoint("mail.example.com", dovecot.port, ("127.0.0.1",)), tls_context(dovecot.ca_file), SMALL)
    with pytest.raises(TlsFailed):
        connect(Endpoint("localhost", dovecot.port, ("127.0.0.1",)), tls_context(None), SMALL)


@pytest.mark.parametrize(
    "address",
    [
        # this host, private, shared, loopback, link-local and the metadata service of clouds
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254",
        "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255",
        # protocols, documentation, benchmarks, 6to4 relays, multicast, reserved, broadcast
        "192.0.0.1", "192.0.0.170", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
        "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        # the same in IPv6, and IPv4 carried in it: mapped, compatible, translated (NAT64, both prefixes), 6to4, Teredo, ORCHID
        "::", "::1", "::7f00:1", "::a00:1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:0:a00:1::", "2001:10::1", "2001:20::1",
        "2001:db8::1", "2002:7f00:1::", "2002:a00:1::", "2002:c0a8:1::1", "3fff::1", "5f00::1", "fc00::1", "fd12:3456::1",
        "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    """One alone, and one among public ones, in any place."""
    for resolved in ([address], ["93.184.216.34", address], [address, "93.184.216.34"]):
        with pytest.raises(HostRefused) as caught:
            HostPolicy((993,), resolve=lambda *_: resolved).check("mail.example.com", 993)  # noqa: B023
        assert caught.value.code == "host-refused"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "localhost", "localhost.", "LOCALHOST",
        "10.0.0.1", "169.254.169.254", "①②⑦.⓪.⓪.①", "127。0。0。1", "ip6-localhost",
    ],
)  # fmt: skip
def test_no_spelling_of_an_own_address_is_taken(host: str) -> None:
    """With the system's own resolver: what it makes of a spelling is what is looked at."""
    with pytest.raises((HostRefused, Unreachable)):
        HostPolicy((993,)).check(host, 993)


def test_a_name_that_leads_elsewhere_the_second_time_is_connected_where_it_was_checked(
    dovecot: Dovecot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: public at the first question, loopback at the second. Nobody asks twice, and no name reaches a socket."""
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    asked: list[str] = []
    dialled: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    def dial(address: tuple[str, int], timeout: float) -> socket.socket:
        dialled.append(address[0])
        raise TimeoutError

    policy = HostPolicy((dovecot.port,), resolve=rebinding)
    endpoint = policy.check("mail.example.com", dovecot.port)
    monkeypatch.setattr(socket, "create_connection", dial)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name was resolved after the check"))
    with pytest.raises(Unreachable):
        connect(endpoint, tls_context(dovecot.ca_file), SMALL)
    assert (asked, dialled) == (["mail.example.com"], ["93.184.216.34"])
    # The next poll asks again, and is refused before anything is dialled.
    with pytest.raises(HostRefused):
        policy.check("mail.example.com", dovecot.port)
    assert dialled == ["93.184.216.34"]


def test_public_addresses_and_allowed_networks_are_taken_as_resolved() -> None:
    addresses = ["93.184.216.34", "2606:2800:220:1::1"]
    public = HostPolicy((993,), resolve=lambda *_: addresses).check("Mail.Example.com.", 993)
    assert public == Endpoint("mail.example.com", 993, ("93.184.216.34", "2606:2800:220:1::1"))
    inside = HostPolicy((993,), (ip_network("10.0.0.0/8"),), resolve=lambda *_: ["::ffff:10.0.0.1"]).check("mail", 993)
    assert inside.addresses == ("::ffff:10.0.0.1",)


def test_a_host_that_the_operator_names_may_be_private_and_no_other() -> None:
    policy = HostPolicy((993,), private_hosts=("mail.corp.example",), resolve=lambda *_: ["10.1.2.3"])
    assert policy.check("Mail.Corp.Example.", 993).addresses == ("10.1.2.3",)
    for host in ("corp.example", "x.mail.corp.example", "mail.corp.example.evil.example"):
        with pytest.raises(HostRefused):
            policy.check(host, 993)


def test_authorities_come_from_a_file_or_a_folder_and_are_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "authorities"
    folder.mkdir()
    before = tls_context(folder)
    assert tls_context(folder) is before
    first = CertificateAuthority(tmp_path / "a")
    (folder / "a.pem").write_bytes(first.ca_file.read_bytes())
    (folder / "notes.txt").write_text("no certificate", "utf-8")
    after = tls_context(folder)
    assert after.cert_store_stats()["x509_ca"] == before.cert_store_stats()["x509_ca"] + 1
    assert tls_context(first.ca_file).cert_store_stats() == after.cert_store_stats()
    (folder / "b.pem").write_text("no certificate", "utf-8")
    for wrong in (folder, tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match="IMAP__CA_FILE"):
            tls_context(wrong)


@pytest.mark.parametrize("host", ["", "a b", "a/b", "user@host", "a:b", "[::1]", "x" * 254, "a\nb", "a?b", "a%25b"])
def test_what_is_no_host_name_is_refused(host: str) -> None:
    with pytest.raises((HostRefused, Unreachable)):
        HostPolicy((993,), resolve=lambda *_: ["93.184.216.34"]).check(host, 993)


def test_other_ports_are_refused() -> None:
    for port in (22, 25, 143, 6379):
        with pytest.raises(HostRefused, match="ALLOWED_PORTS"):
            HostPolicy((993,), resolve=lambda *_: ["93.184.216.34"]).check("mail.example.com", port)


def test_plain_utf8_is_shown_as_it_stands() -> None:
    assert folder_text("已发送".encode()) == "已发送" and folder_text(b"\xff\x07") == "\ufffd\ufffd"
