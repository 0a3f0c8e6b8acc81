"""Below imapclient: whom we may talk to, and how much of what they say we take.

A seller types the host, so it is hostile until shown otherwise. The name is resolved once, every address must be
public (or in a network that the operator allowed), and the socket goes to the address that was checked while TLS
checks the name. A server may answer for ever, in one endless line, or with a literal of gigabytes before LOGIN
(imaplib would take it all): every byte passes `_Wire`, which counts bytes and watches the clock.
"""

import imaplib
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Final

from imapclient import IMAPClient

from services.common.errors import ConfigError, ReplyrateError
from services.providers.catalog import host_name

Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Sequence[str]]


class MailboxError(ReplyrateError):
    """Reading a mailbox failed. `stage` is where, `code` a short name for what; both are safe to log and to store.

    The text is for the operator. What a seller may see is the sentence of the code in connection_texts.toml: it says
    nothing about the operator's network.
    """

    code = "broken"

    def __init__(self, stage: str, detail: str = "", *, code: str | None = None) -> None:
        self.stage = stage
        if code is not None:
            self.code = code
        super().__init__(f"{self.code} at {stage}" + (f": {detail}" if detail else ""))


class HostRefused(MailboxError):
    """The host is none that may be connected to."""

    code = "host-refused"


class Unreachable(MailboxError):
    """No connection: DNS, TCP, or the server closed it."""

    code = "unreachable"


class TlsFailed(MailboxError):
    """No verified TLS."""

    code = "tls-failed"


class LoginRefused(MailboxError):
    """The server refused the login; `code` says more where the server's words do. A person must act; with `definite` no
    further try can end otherwise."""

    code = "login-refused"
    definite = False


class LoginUnclear(LoginRefused):
    """The server refused the login with words that may also mean "too often" (QQ): tried again, but seldom."""

    code = "login-unclear"


class Throttled(MailboxError):
    """The server asks to come less often."""

    code = "throttled"


class NoSentFolder(MailboxError):
    """There is no Sent folder to be found."""

    code = "no-sent-folder"


class ServerBroken(MailboxError):
    """The server breaks the protocol."""

    code = "server-broken"


class CommandRefused(ServerBroken):
    """The server answers NO or BAD to a command that it should know."""


class SessionLimitReached(MailboxError):
    """The server said too much, or too slowly."""

    code = "budget-spent"


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one session may cost."""

    literal_bytes: int = 64 * 1024
    line_bytes: int = 64 * 1024
    session_bytes: int = 8 * 1024 * 1024
    folders: int = 5_000
    messages: int = 2_000
    command_seconds: float = 20
    session_seconds: float = 120
    connect_seconds: float = 10


@dataclass(frozen=True, slots=True)
class Login:
    """A mailbox and how it is logged in to. `sent_override`: raw names that stand for the Sent folders to be found. `kind`
    "oauth2": `password` is a refresh token, which goes to no mail server."""

    address: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    sent_override: tuple[bytes, ...] = ()
    kind: str = "password"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host that was checked: connect to one of `addresses`, verify `host`."""

    host: str
    port: int
    addresses: tuple[str, ...]


DENIED: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        # No IPv6 address outside 2000::/3 is global; of those that are inside, these carry or mean other networks.
        "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
    )
)  # fmt: skip
GLOBAL_V6: Final = ip_network("2000::/3")


def check_host(
    host: str,
    port: int,
    *,
    allowed_networks: Sequence[Network],
    allowed_ports: Sequence[int],
    private_hosts: Sequence[str] = (),
    resolve: Resolver,
) -> Endpoint:
    """The endpoint behind a name that a user typed. HostRefused or Unreachable; the detail is for the operator only.

    Every address must be public or in `allowed_networks`, but for the names in `private_hosts`.
    """
    name = host_name(host)
    if not name or len(name) > 253 or any(char.isspace() or char in "/@:%?#[]\\" or char < " " for char in name):
        raise HostRefused("dns", "not a host name")
    if port not in allowed_ports:
        raise HostRefused("dns", f"port {port} is not among REPLYRATE_IMAP__ALLOWED_PORTS")
    try:
        ascii_name = name.encode("idna").decode("ascii")
        found = tuple(dict.fromkeys(resolve(ascii_name, port)))
    except (OSError, UnicodeError):
        raise Unreachable("dns", "the name does not resolve") from None
    if not found:
        raise Unreachable("dns", "the name does not resolve")
    for address in found if ascii_name not in private_hosts else ():
        if not _permitted(ip_address(address.partition("%")[0]), allowed_networks):
            # One forbidden address is enough: a name that has both is a trap, or a split horizon.
            raise HostRefused("dns", f"{ascii_name} leads to {address}, which is not public")
    return Endpoint(ascii_name, port, found)


def resolve(host: str, port: int) -> list[str]:
    """The system's resolver, as `check_host` wants it."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _permitted(address: IPv4Address | IPv6Address, allowed: Sequence[Network]) -> bool:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address.version == network.version and address in network for network in allowed):
        return True
    if isinstance(address, IPv6Address) and address not in GLOBAL_V6:
        return False
    return not any(address.version == network.version and address in network for network in DENIED)


def tls_context(ca_file: Path | None, *, setting: str = "REPLYRATE_IMAP__CA_FILE") -> ssl.SSLContext:
    """Verified TLS from 1.2 on; the system's authorities, and the operator's file (or those of a folder) beside them.

    Made anew only when a file changed, so it may be asked for before every connection. ConfigError when a file cannot
    be read or holds no certificate; `setting` is what it names.
    """
    files: Sequence[Path] = ()
    if ca_file is not None:
        files = sorted(ca_file.glob("*.pem")) if ca_file.is_dir() else (ca_file,)
    try:
        return _tls_context(tuple((file, file.stat().st_mtime_ns) for file in files))
    except OSError as error:
        raise ConfigError(
            f"{setting}: {(error.strerror or 'no certificate in it').lower()};"
            " write the path of a PEM file, or of a folder with some (*.pem)"
        ) from None


@lru_cache(maxsize=4)
def _tls_context(files: tuple[tuple[Path, int], ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for file, _ in files:
        context.load_verify_locations(file)
    return context


class BoundedClient(IMAPClient):  # type: ignore[misc]
    """imapclient over a bounded wire. Folder names are raw bytes, times are aware."""

    def __init__(
        self,
        endpoint: Endpoint,
        context: ssl.SSLContext,
        budgets: SessionLimits,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        record: Callable[[bytes], None] | None = None,
        reached: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`record` is given every byte that is sent, `reached` the stage that begins ("tls", "greeting")."""
        self._endpoint = endpoint
        self._context = context
        self._budgets = budgets
        self._monotonic = monotonic
        self._record = record
        self._reached = reached
        super().__init__(endpoint.host, endpoint.port, ssl=True, ssl_context=context, timeout=budgets.command_seconds)
        self.folder_encode = False
        self.normalise_times = False

    def _create_IMAP4(self) -> imaplib.IMAP4:
        return _BoundedImap(self._endpoint, self._context, self._budgets, self._monotonic, self._record, self._reached)

    def fetch_raw(self, uids: Sequence[int], items: Sequence[str]) -> list[Any]:
        """UID FETCH as imaplib has it: (line, literal) pairs and what follows them, not yet parsed."""
        tag = self._imap._command("UID", "FETCH", ",".join(map(str, uids)), f"({' '.join(items)})")
        kind, data = self._imap._command_complete("FETCH", tag)
        self._checkok("fetch", kind, data)
        found: list[Any] = self._imap._untagged_response(kind, data, "FETCH")[1]
        return found

    def drop(self) -> None:
        """Close the socket without a word."""
        self._imap.shutdown()


class _BoundedImap(imaplib.IMAP4):
    """imaplib with its reading and writing replaced."""

    def __init__(
        self,
        endpoint: Endpoint,
        context: ssl.SSLContext,
        budgets: SessionLimits,
        monotonic: Callable[[], float],
        record: Callable[[bytes], None] | None,
        reached: Callable[[str], None],
    ) -> None:
        self._endpoint = endpoint
        self._context = context
        self._wire_budgets = budgets
        self._monotonic = monotonic
        self._record = record
        self._reached = reached
        super().__init__(endpoint.host, endpoint.port)

    def open(self, host: str = "", port: int = 993, timeout: float | None = None) -> None:
        """Connect to a checked address, verify the name."""
        self.host, self.port = host, port
        plain = _connected(self._endpoint, self._wire_budgets)
        self._reached("tls")
        self.sock = _secured(plain, self._context, self._endpoint.host)
        self._reached("greeting")
        self._wire = _Wire(self.sock, self._wire_budgets, self._monotonic)
        self.file = self.sock.makefile("rb")  # closed by imaplib's shutdown; never read

    def read(self, size: int) -> bytes:
        """A literal."""
        return self._wire.literal(size)

    def readline(self) -> bytes:
        """A line with its end."""
        return self._wire.line()

    def send(self, data: Any) -> None:
        """Bytes of a command; a new command has a new time limit."""
        if self._record is not None:
            self._record(bytes(data))
        self._wire.begin_command()
        try:
            self.sock.sendall(data)
        except TimeoutError:
            raise SessionLimitReached("send", "the server does not read") from None
        except OSError as error:
            raise Unreachable("send", type(error).__name__) from None


class _Wire:
    """Bytes from the server within their budgets."""

    def __init__(self, sock: ssl.SSLSocket, budgets: SessionLimits, monotonic: Callable[[], float]) -> None:
        self._sock = sock
        self._budgets = budgets
        self._monotonic = monotonic
        self._buffer = bytearray()
        self._taken = 0
        self._session_ends = monotonic() + budgets.session_seconds
        self.begin_command()

    def begin_command(self) -> None:
        self._command_ends = self._monotonic() + self._budgets.command_seconds
        self._sock.settimeout(self._left())

    def line(self) -> bytes:
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > self._budgets.line_bytes:
                raise SessionLimitReached("read", "a line is longer than 64 KiB")
            if not self._more():
                break
        end = len(self._buffer) if end < 0 else end + 1
        if end > self._budgets.line_bytes:
            raise SessionLimitReached("read", "a line is longer than 64 KiB")
        return self._take(end)

    def literal(self, size: int) -> bytes:
        if size > self._budgets.literal_bytes:
            raise SessionLimitReached("read", "a literal is longer than 64 KiB")
        while len(self._buffer) < size and self._more():
            pass
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _more(self) -> bool:
        self._sock.settimeout(self._left())
        try:
            data = self._sock.recv(64 * 1024)
        except TimeoutError:
            raise SessionLimitReached("read", "the server answers too slowly") from None
        except OSError as error:
            raise Unreachable("read", type(error).__name__) from None
        self._taken += len(data)
        if self._taken > self._budgets.session_bytes:
            raise SessionLimitReached("read", "the session is larger than 8 MiB")
        self._buffer += data
        return bool(data)

    def _left(self) -> float:
        left = min(self._command_ends, self._session_ends) - self._monotonic()
        if left <= 0:
            raise SessionLimitReached("read", "the server answers too slowly")
        return left


def _connected(endpoint: Endpoint, budgets: SessionLimits) -> socket.socket:
    failure = "no address"
    for address in endpoint.addresses[:4]:
        try:
            sock = socket.create_connection((address, endpoint.port), timeout=budgets.connect_seconds)
        except OSError as error:
            failure = type(error).__name__
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    raise Unreachable("tcp", failure)


def _secured(sock: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(sock, server_hostname=host)
    except ssl.SSLError as error:
        sock.close()
        raise TlsFailed("tls", getattr(error, "reason", None) or type(error).__name__) from None
    except OSError as error:
        sock.close()
        raise Unreachable("tls", type(error).__name__) from None
