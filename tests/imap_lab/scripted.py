"""A server that says what it is told to, over TLS: for what no real server does, and for what hostile ones do."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from services.standalone.ca import CertificateAuthority
from services.standalone.child import free_port

Script = Callable[["Peer"], None]


class Peer:
    """The server's side of one connection."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")
        self.commands: list[bytes] = []

    def say(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._connection.sendall(data)

    def command(self) -> tuple[bytes, bytes]:
        """The next command as (tag, rest)."""
        line = self._file.readline().rstrip(b"\r\n")
        self.commands.append(line)
        tag, _, rest = line.partition(b" ")
        return tag, rest

    def answer(self, tag: bytes, *lines: bytes, end: bytes = b"OK done") -> None:
        """Untagged lines, then the tagged end."""
        self.say(b"".join(b"* " + line + b"\r\n" for line in lines) + tag + b" " + end + b"\r\n")


class ScriptedServer:
    """One server on loopback; each connection runs `script`. A context manager."""

    def __init__(self, folder: Path, ca: CertificateAuthority, script: Script) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.ca_file = ca.ca_file
        self.peers: list[Peer] = []
        self._script = script
        files = ca.issue(f"scripted-{self.port}")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(files.certificate, files.key)
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with (
            contextlib.suppress(OSError, ssl.SSLError, ValueError),
            self._context.wrap_socket(raw, server_side=True) as connection,
        ):
            peer = Peer(connection)
            self.peers.append(peer)
            self._script(peer)

    def __enter__(self) -> "ScriptedServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
