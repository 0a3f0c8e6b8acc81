"""imapclient within limits: how many bytes one session may take, and how long it may last.

A hostile server may answer for ever, in one endless line, or with a literal of gigabytes before LOGIN (imaplib would take
it all): every byte passes `Wire`, which counts bytes and watches the clock.
"""

import imaplib
import io
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final

from imapclient import IMAPClient
from imapclient.imapclient import _normalise_search_criteria
from imapclient.response_parser import parse_message_list

from services.common.clocks import boot_seconds
from services.imap.errors import SessionLimitReached, Unreachable
from services.imap.host_policy import Endpoint
from services.imap.starttls import negotiate
from services.imap.tls_sessions import TlsSessions
from services.imap.wire import SessionLimits, Wire, dial, start_tls

__all__ = ["BoundedClient", "SessionLimits"]

TAG_PREFIX: Final = b"RR"


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
        tls_sessions: TlsSessions | None = None,
    ) -> None:
        """`record` is called with every byte string sent, `on_stage` with each stage that starts ("tls", "greeting").

        `tls_sessions`: of earlier connections, to be resumed; None: the certificate is verified.
        """
        self._endpoint = endpoint
        self._context = context
        self._limits = limits
        self._monotonic = monotonic
        self._record = record
        self._on_stage = on_stage
        self._tls_sessions = tls_sessions
        super().__init__(endpoint.host, endpoint.port, ssl=True, ssl_context=context, timeout=limits.command_seconds)
        self.folder_encode = False
        self.normalise_times = False
        # imapclient lets imaplib format every line of a session for a log that is always off (services/common/logs.py).
        self._imap.debug = 0

    def _create_IMAP4(self) -> imaplib.IMAP4:
        return _BoundedImap(
            self._endpoint, self._context, self._limits, self._monotonic, self._record, self._on_stage, self._tls_sessions
        )  # fmt: skip

    def fetch_raw(self, uids: Sequence[int], items: Sequence[str]) -> list[Any]:
        """UID FETCH in the form of imaplib, not yet parsed: (line, literal) pairs, and bytes for the rest of each answer."""
        tag = self._imap._command("UID", "FETCH", ",".join(map(str, uids)), f"({' '.join(items)})")
        kind, data = self._imap._command_complete("FETCH", tag)
        self._checkok("fetch", kind, data)
        answers: list[Any] = self._imap._untagged_response(kind, data, "FETCH")[1]
        return answers

    @property
    def received_fetches(self) -> list[Any]:
        """What arrived of the answer to a FETCH that was not completed, in the form of `fetch_raw`."""
        return list(self._imap.untagged_responses.get("FETCH", ()))

    @property
    def said_bye(self) -> bool:
        """Whether the server ended the session with BYE."""
        return "BYE" in self._imap.untagged_responses

    def search_uids(self, criteria: Sequence[Any]) -> set[int]:
        """UIDs from UID SEARCH. An answer in several lines is united: RFC 3501 §7.2.5 does not promise a single one, but
        imapclient accepts no other, and no blanks at its ends."""
        self._imap.untagged_responses.pop("SEARCH", None)  # of an earlier command
        lines = self._raw_command_untagged(b"SEARCH", _normalise_search_criteria(list(criteria), None))
        return {uid for line in lines if line for uid in parse_message_list([line.strip()])}

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
        tls_sessions: TlsSessions | None,
    ) -> None:
        self._endpoint = endpoint
        self._context = context
        self._limits = limits
        self._monotonic = monotonic
        self._record = record
        self._on_stage = on_stage
        self._tls_sessions = tls_sessions
        self._offered: ssl.SSLSession | None = None
        super().__init__(endpoint.host, endpoint.port)

    @property  # type: ignore[override]  # typeshed says that it is a str
    def tagpre(self) -> bytes:
        """The begin of each tag: always the same, since imaplib compiles a pattern with it for each session."""
        return TAG_PREFIX

    @tagpre.setter
    def tagpre(self, drawn: bytes) -> None:
        """imaplib draws one for each session."""

    def open(self, host: str = "", port: int = 993, timeout: float | None = None) -> None:
        """Connect to a checked address, verify the name."""
        self.host, self.port = host, port
        self.sock = dial(self._endpoint, self._limits)
        self._on_stage("tls")
        self._wire = Wire(self.sock, self._limits, self._monotonic)
        try:
            if self._endpoint.tls == "starttls":
                negotiate(self._wire, self.send)
            self.sock.settimeout(self._limits.connect_seconds)
            if self._tls_sessions is not None:
                self._offered = self._tls_sessions.resumable(self._context, self._endpoint.host, self._endpoint.port)
            encrypted = start_tls(self.sock, self._context, self._endpoint.host, self._offered)
        except BaseException:
            self.sock.close()
            raise
        # After STARTTLS a server does not greet again, and what it said before counts for nothing: imaplib gets a bare greeting.
        self.sock = encrypted
        self._wire.encrypt(encrypted, b"* OK\r\n" if self._endpoint.tls == "starttls" else b"")
        self._on_stage("greeting")
        self.file = io.BytesIO()  # closed by imaplib's shutdown; never read

    def shutdown(self) -> None:
        """Close the connection; its TLS session can be resumed."""
        if self._tls_sessions is not None and isinstance(self.sock, ssl.SSLSocket):
            endpoint = self._endpoint
            self._tls_sessions.remember(self._context, endpoint.host, endpoint.port, self.sock, self._offered)
        super().shutdown()

    @property
    def named_capabilities(self) -> list[str]:
        """Capabilities that the server has named by itself, in upper case: with its greeting or its answer to the login (RFC 3501 §7.1).
        Empty where it named none, or in no known form."""
        text = (self.untagged_responses.get("CAPABILITY") or [b""])[-1]
        names = text.decode("ascii", "replace").upper().split() if isinstance(text, bytes) else []
        return names if "IMAP4REV1" in names else []

    def _get_capabilities(self) -> None:
        if named := self.named_capabilities:
            self.capabilities = tuple(named)
        else:
            super()._get_capabilities()  # type: ignore[misc]  # typeshed does not have it

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
