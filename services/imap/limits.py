"""imapclient within limits: how many bytes one session may take, and how long it may last.

A hostile server may answer for ever, in one endless line, or with a literal of gigabytes before LOGIN (imaplib would take
it all): every byte passes `Wire`, which counts bytes and watches the clock.
"""

import imaplib
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
        # imapclient lets imaplib format every line of a session for a log that is always off (services/common/logs.py).
        self._imap.debug = 0

    def _create_IMAP4(self) -> imaplib.IMAP4:
        return _BoundedImap(self._endpoint, self._context, self._limits, self._monotonic, self._record, self._on_stage)

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
    ) -> None:
        self._endpoint = endpoint
        self._context = context
        self._limits = limits
        self._monotonic = monotonic
        self._record = record
        self._on_stage = on_stage
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
            encrypted = start_tls(self.sock, self._context, self._endpoint.host)
        except BaseException:
            self.sock.close()
            raise
        # After STARTTLS a server does not greet again, and what it said before counts for nothing: imaplib gets a bare greeting.
        self.sock = encrypted
        self._wire.encrypt(encrypted, b"* OK\r\n" if self._endpoint.tls == "starttls" else b"")
        self._on_stage("greeting")
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
