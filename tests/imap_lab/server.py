"""An IMAP server that behaves like a provider of `profiles.py`, with the defects that are switched on: real sockets, real
TLS, no protocol library of ours below it.

It runs an asyncio loop in a thread. Every command of a client is kept in `wire`, in order, with the number of its session;
`sent_bytes` counts what a client accepted. Contents and defects may change while it runs.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from pathlib import Path
from types import TracebackType

from services.standalone.servers.ca import LOOPBACK_NAMES, CertificateAuthority
from services.standalone.servers.child import LOOPBACK
from tests.imap_lab.mailbox import LabMailbox
from tests.imap_lab.profiles import Defect, Profile
from tests.imap_lab.session import Session
from tests.imap_lab.wire import PIECE


class LabServer(LabMailbox):
    """One mailbox on loopback. A context manager."""

    def __init__(
        self,
        folder: Path,
        ca: CertificateAuthority,
        profile: Profile,
        *,
        user: str | None = None,
        secret: str = "Code-canary",
        hosts: tuple[str, ...] = LOOPBACK_NAMES,
    ) -> None:
        super().__init__(profile, user, secret)
        folder.mkdir(parents=True, exist_ok=True)
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self.ca_file = ca.ca_file
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        files = ca.issue(f"lab-{self.port}", hosts)
        self.context.load_cert_chain(files.certificate, files.key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> "LabServer":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        half_open = self.has(Defect.HALF_OPEN)
        server = self._loop.run_until_complete(
            asyncio.start_server(
                self._accept, sock=self._listener, ssl=None if half_open else self.context, limit=2 * PIECE
            )
        )
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _stop(self) -> None:
        self._loop.stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.sessions += 1
        try:
            # CancelledError: the server is stopped.
            expected = (
                OSError,
                ssl.SSLError,
                asyncio.IncompleteReadError,
                TimeoutError,
                ValueError,
                asyncio.CancelledError,
            )
            with contextlib.suppress(*expected):
                await Session(self, self.sessions, reader, writer).run()
        finally:
            self._tasks.discard(task)
            with contextlib.suppress(OSError, ssl.SSLError):
                writer.transport.abort()
