"""TLS sessions that can be resumed: a quarter of the CPU of a handshake less for the next session with the same server.

A resumed handshake verifies no certificate, so a session is resumed for an hour at most, only with the host and the trusted
authorities that it was verified for.
"""

import ssl
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.common.clocks import boot_seconds

MAX_SECONDS: Final = 3600.0
"""After this time the certificate is verified again."""
MAX_SERVERS: Final = 1000
"""Servers whose sessions are remembered; anybody may name one."""


@dataclass(frozen=True, slots=True)
class _Entry:
    context: ssl.SSLContext
    session: ssl.SSLSession | None
    """None: the server did not resume the last one, and is not offered another."""
    expires_at: float


class TlsSessions:
    """Sessions by server. Shared by the threads of a process."""

    def __init__(self, clock: Callable[[], float] = boot_seconds) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, int], _Entry] = OrderedDict()

    def resumable(self, context: ssl.SSLContext, host: str, port: int) -> ssl.SSLSession | None:
        """A session to offer to a server in a handshake with `context`."""
        entry = self._entry(context, host, port)
        return None if entry is None else entry.session

    def remember(
        self, context: ssl.SSLContext, host: str, port: int, sock: ssl.SSLSocket, offered: ssl.SSLSession | None
    ) -> None:
        """Keep the session of a connection that ends; a server sends its tickets some time after the handshake (RFC 8446 §4.6.1).

        `offered`: the session that it was begun with.
        """
        if sock.session_reused or (offered is None and self._entry(context, host, port) is not None):
            return
        # Reading the session copies it, certificate included, which costs as much as resuming it saves.
        session = sock.session if offered is None else None
        if offered is None and (session is None or not (session.has_ticket or session.id)):
            return
        with self._lock:
            self._entries[host, port] = _Entry(context, session, self._clock() + MAX_SECONDS)
            self._entries.move_to_end((host, port))
            while len(self._entries) > MAX_SERVERS:
                self._entries.popitem(last=False)

    def _entry(self, context: ssl.SSLContext, host: str, port: int) -> _Entry | None:
        with self._lock:
            entry = self._entries.get((host, port))
        return entry if entry is not None and entry.context is context and self._clock() < entry.expires_at else None
