"""Bytes between us and a mail server: dialling, the TLS handshake, and reading within limits."""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from services.imap.errors import AnswerTooSlow, SessionLimitReached, TlsFailed, Unreachable
from services.imap.host_policy import Endpoint


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


class Wire:
    """Bytes from the server, within the limits."""

    def __init__(self, sock: socket.socket, limits: SessionLimits, monotonic: Callable[[], float]) -> None:
        self._sock = sock
        self._limits = limits
        self._monotonic = monotonic
        self._buffer = bytearray()
        self._received = 0
        self._session_ends = monotonic() + limits.session_seconds
        self.start_command()

    @property
    def pending(self) -> bool:
        """Whether bytes were received that nobody has read yet."""
        return bool(self._buffer)

    def encrypt(self, sock: ssl.SSLSocket, first: bytes) -> None:
        """Read from `sock` from now on, after `first`; the limits of the session go on."""
        self._sock = sock
        self._buffer = bytearray(first)
        self.start_command()

    def start_command(self) -> None:
        """A command begins, with a time limit of its own."""
        self._command_ends = self._monotonic() + self._limits.command_seconds
        self._sock.settimeout(self._seconds_left())
        self._is_timed = True

    def line(self) -> bytes:
        """A line with its end, which is missing where the server closed the connection."""
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > self._limits.line_bytes:
                raise SessionLimitReached("read", "a line is longer than 64 KiB")
            if not self._receive():
                break
        end = len(self._buffer) if end < 0 else end + 1
        if end > self._limits.line_bytes:
            raise SessionLimitReached("read", "a line is longer than 64 KiB")
        return self._take(end)

    def literal(self, size: int) -> bytes:
        """A literal."""
        if size > self._limits.literal_bytes:
            raise SessionLimitReached("read", "a literal is longer than 64 KiB")
        while len(self._buffer) < size and self._receive():
            pass
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _receive(self) -> bool:
        """Append what the server sent to the buffer; False when it closed the connection."""
        # The first wait of a command has the timeout that was set when the command was sent.
        if not self._is_timed:
            self._sock.settimeout(self._seconds_left())
        self._is_timed = False
        try:
            data = self._sock.recv(64 * 1024)
        except TimeoutError:
            raise AnswerTooSlow("read", "the server answers too slowly") from None
        except OSError as error:
            raise Unreachable("read", type(error).__name__) from None
        self._received += len(data)
        if self._received > self._limits.session_bytes:
            raise SessionLimitReached("read", "the session is larger than 8 MiB")
        self._buffer += data
        return bool(data)

    def _seconds_left(self) -> float:
        left = min(self._command_ends, self._session_ends) - self._monotonic()
        if left <= 0:
            raise AnswerTooSlow("read", "the server answers too slowly")
        return left


def dial(endpoint: Endpoint, limits: SessionLimits) -> socket.socket:
    """A connection to one of the addresses that were checked. Unreachable."""
    failure = "no address"
    for address in endpoint.addresses[:4]:
        try:
            sock = socket.create_connection((address, endpoint.port), timeout=limits.connect_seconds)
        except OSError as error:
            failure = type(error).__name__
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    raise Unreachable("tcp", failure)


def start_tls(
    sock: socket.socket, context: ssl.SSLContext, host: str, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    """TLS over a connection, with the server's certificate verified for `host`, unless the server resumes `session`, for
    which it was. TlsFailed, Unreachable."""
    try:
        return context.wrap_socket(sock, server_hostname=host, session=session)
    except ssl.SSLError as error:
        sock.close()
        raise TlsFailed("tls", getattr(error, "reason", None) or type(error).__name__) from None
    except OSError as error:
        sock.close()
        raise Unreachable("tls", type(error).__name__) from None
