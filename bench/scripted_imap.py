"""A mail server that costs little: every login is accepted, and every mailbox has the same Sent folder without new mail.

`python -m bench.scripted_imap CERTIFICATE KEY DELAY MESSAGES` serves TLS on a free port of loopback in a process of its own, so that
its CPU is measured apart, and prints the port. DELAY: seconds before each answer; MESSAGES: in the Sent folder.
"""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.paths import ROOT

UIDVALIDITY: Final = 1
MESSAGES: Final = 10
CAPABILITIES: Final = b"IMAP4rev1 ID NAMESPACE LIST-EXTENDED SPECIAL-USE"
SENT: Final = b"Sent"
ANSWER_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class ScriptedServer:
    """The running mail server."""

    port: int
    pid: int
    ca_file: Path


@contextmanager
def scripted_server(folder: Path, delay: float = ANSWER_SECONDS, messages: int = MESSAGES) -> Iterator[ScriptedServer]:
    """The mail server in a process of its own, while the block runs."""
    authority = CertificateAuthority(folder)
    files = authority.issue("scripted")
    arguments = [str(files.certificate), str(files.key), str(delay), str(messages)]
    command = [sys.executable, "-m", "bench.scripted_imap", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield ScriptedServer(int(process.stdout.readline()), process.pid, authority.ca_file)
        finally:
            process.kill()


def answer(name: bytes, messages: int) -> bytes:
    """The untagged lines of a command; `messages`: in the Sent folder."""
    return {
        b"CAPABILITY": b"* CAPABILITY " + CAPABILITIES + b"\r\n",
        b"ID": b"* ID NIL\r\n",
        b"NAMESPACE": b'* NAMESPACE (("" "/")) NIL NIL\r\n',
        b"LIST": b'* LIST () "/" INBOX\r\n* LIST (\\Sent) "/" ' + SENT + b"\r\n",
        b"EXAMINE": (
            b"* FLAGS (\\Seen)\r\n* %d EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY %d] .\r\n* OK [UIDNEXT %d] .\r\n"
            % (messages, UIDVALIDITY, messages + 1)
        ),
        b"UID": b" ".join([b"* SEARCH", *(b"%d" % uid for uid in range(1, messages + 1))]) + b"\r\n",
        b"LOGOUT": b"* BYE .\r\n",
    }.get(name, b"")


class Session(asyncio.Protocol):
    """One session; commands come one at a time and without literals."""

    def __init__(self, delay: float, messages: int) -> None:
        self._delay = delay
        self._messages = messages
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"* OK [CAPABILITY " + CAPABILITIES + b"] ready\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer every complete line."""
        self._received += data
        while b"\r\n" in self._received:
            line, _, self._received = self._received.partition(b"\r\n")
            tag, _, command = line.partition(b" ")
            name = command.split(b" ", 1)[0].upper()
            text = answer(name, self._messages) + tag + b" OK done\r\n"
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._send, text, name)
            else:
                self._send(text, name)

    def _send(self, text: bytes, name: bytes) -> None:
        self._transport.write(text)
        if name == b"LOGOUT":
            self._transport.close()


async def _serve(certificate: str, key: str, delay: float, messages: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(delay, messages), "127.0.0.1", 0, ssl=context, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
