"""imapclient within limits: how many bytes one session may take, and how long it may last.

A hostile server may answer for ever, in one endless line, or with a literal of gigabytes before LOGIN (imaplib would take
it all): every byte passes `_Wire`, which counts bytes and watches the clock.
"""

import imaplib
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from imapclient import IMAPClient
from imapclient.imapclient import _normalise_search_criteria
from imapclient.response_parser import parse_message_list

from services.common.clocks import boot_seconds
from services.imap.errors import SessionLimitReached, TlsFailed, Unreachable
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


class BoundedClient(IMAPClient):  # type: ignore[misc]
    """imapclient over a bounded wire. Folder names are raw bytes, times are aware.

    Relies on private names of imapclient 4.1.0 (`_create_IMAP4`, `_imap`, `_checkok`, `_raw_command_untagged`, `_normalise_search_criteria`): it has no public way to replace its
    transport or to read an answer that it did not parse.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        context: ssl.SSLContext,
        limits: SessionLimits,
        *,
        monotonic: Callable[[], float] = boot_seconds,
        record: Callable[[bytes], None] | None = None,
        on_stage: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`record` is called with every byte string sent, `on_stage` with each stage that starts ("tls", "greeting")."""
        self._endpoint = endpoint
        self._context = context
        self._limits = limits
        self._monotonic = monotonic
        self._record = record
        self._on_stage = on_stage
        super().__init__(endpoint.host, endpoint.port, ssl=True, ssl_context=context, timeout=limits.command_seconds)
        self.folder_encode = False
        self.normalise_times = False

    def _create_IMAP4(self) -> imaplib.IMAP4:
        return _BoundedImap(self._endpoint, self._context, self._limits, self._monotonic, self._record, self._on_stage)

    def fetch_raw(self, uids: Sequence[int], items: Sequence[str]) -> list[Any]:
        """UID FETCH in the form of imaplib, not yet parsed: (line, literal) pairs, and bytes for the rest of each answer."""
        tag = self._imap._command("UID", "FETCH", ",".join(map(str, uids)), f"({' '.join(items)})")
        kind, data = self._imap._command_complete("FETCH", tag)
        self._checkok("fetch", kind, data)
        answers: list[Any] = self._imap._untagged_response(kind, data, "FETCH")[1]
        return answers

    def search_uids(self, criteria: Sequence[Any]) -> set[int]:
        """UIDs from UID SEARCH. An answer in several lines is united: RFC 3501 §7.2.5 does not promise a single one, but
        imapclient accepts no other."""
        self._imap.untagged_responses.pop("SEARCH", None)  # of an earlier command
        lines = self._raw_command_untagged(b"SEARCH", _normalise_search_criteria(list(criteria), None))
        return {uid for line in lines if line for uid in parse_message_list([line])}

    def drop(self) -> None:
        """Close the socket without LOGOUT."""
        self._imap.shutdown()


class _BoundedImap(imaplib.IMAP4):
    """imaplib with its reading and writing replaced."""

    def __init__(
        self,
        endpoint: Endpoint,
        context: ssl.SSLContext,
        limits: SessionLimits,
        monotonic: Callable[[], float],
        record: Callable[[bytes], None] | None,
        on_stage: Callable[[str], None],
    ) -> None:
        self._endpoint = endpoint
        self._context = context
        self._limits = limits
        self._monotonic = monotonic
        self._record = record
        self._on_stage = on_stage
        super().__init__(endpoint.host, endpoint.port)

    def open(self, host: str = "", port: int = 993, timeout: float | None = None) -> None:
        """Connect to a checked address, verify the name."""
        self.host, self.port = host, port
        plain = _dial(self._endpoint, self._limits)
        self._on_stage("tls")
        self.sock = _start_tls(plain, self._context, self._endpoint.host)
        self._on_stage("greeting")
        self._wire = _Wire(self.sock, self._limits, self._monotonic)
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
        self._wire.start_command()
        try:
            self.sock.sendall(data)
        except TimeoutError:
            raise SessionLimitReached("send", "the server does not read") from None
        except OSError as error:
            raise Unreachable("send", type(error).__name__) from None


class _Wire:
    """Bytes from the server, within the limits."""

    def __init__(self, sock: ssl.SSLSocket, limits: SessionLimits, monotonic: Callable[[], float]) -> None:
        self._sock = sock
        self._limits = limits
        self._monotonic = monotonic
        self._buffer = bytearray()
        self._received = 0
        self._session_ends = monotonic() + limits.session_seconds
        self.start_command()

    def start_command(self) -> None:
        self._command_ends = self._monotonic() + self._limits.command_seconds
        self._sock.settimeout(self._seconds_left())

    def line(self) -> bytes:
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
        self._sock.settimeout(self._seconds_left())
        try:
            data = self._sock.recv(64 * 1024)
        except TimeoutError:
            raise SessionLimitReached("read", "the server answers too slowly") from None
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
            raise SessionLimitReached("read", "the server answers too slowly")
        return left


def _dial(endpoint: Endpoint, limits: SessionLimits) -> socket.socket:
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


def _start_tls(sock: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(sock, server_hostname=host)
    except ssl.SSLError as error:
        sock.close()
        raise TlsFailed("tls", getattr(error, "reason", None) or type(error).__name__) from None
    except OSError as error:
        sock.close()
        raise Unreachable("tls", type(error).__name__) from None
