"""An IMAP server on loopback for the demo and the tests: pymap with implicit TLS from a private CA, mail in memory.

`append` stores mail in a folder as a mail client would, with the date that the server must report; `create` creates the
folder. Nothing here reads mail: that is the fetcher's part.
"""

import base64
import imaplib
import json
import os
import socket
import ssl
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from services.common.errors import TransientError
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.child import LOOPBACK, Child, await_answer
from services.standalone.servers.paths import ROOT
from services.standalone.servers.server import EmbeddedServer

START_SECONDS = 30.0


class MailClient:
    """A mail user's side of one server: log in, create folders, store sent mail. Not safe for several threads."""

    def __init__(self, host: str, port: int, ca_file: Path, users: Mapping[str, str]) -> None:
        self._host, self._port, self._users = host, port, dict(users)
        self._context = ssl.create_default_context(cafile=str(ca_file))
        self._sessions: dict[str, imaplib.IMAP4_SSL] = {}
        self._folders: set[tuple[str, str]] = set()

    def append(self, user: str, folder: str, message: bytes, internal_date: datetime, flags: str = r"(\Seen)") -> None:
        """Store one message; the folder is created when it is missing."""
        if (user, folder) not in self._folders:
            self.create(user, folder)
        stamp = imaplib.Time2Internaldate(internal_date)
        kind, answer = self.session(user).append(_quoted(folder), flags, stamp, message)
        if kind != "OK":
            raise TransientError(f"the IMAP server refused a message: {answer!r}")

    def create(self, user: str, folder: str) -> None:
        """Create a folder; does nothing when it exists."""
        self.session(user).create(_quoted(folder))
        self._folders.add((user, folder))

    def delete_folder(self, user: str, folder: str) -> None:
        """Delete a folder and what is in it."""
        self.session(user).delete(_quoted(folder))
        self._folders.discard((user, folder))

    def session(self, user: str) -> imaplib.IMAP4_SSL:
        """The open session of a user, logged in."""
        if user not in self._sessions:
            session = imaplib.IMAP4_SSL(self._host, self._port, ssl_context=self._context, timeout=20)
            # imaplib writes a literal and its line end separately: with Nagle's algorithm each APPEND would take 40 ms.
            session.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session.login(user, self._users[user])
            self._sessions[user] = session
        return self._sessions[user]

    def close(self) -> None:
        """Log out of every session; errors do not matter any more."""
        for session in self._sessions.values():
            try:
                session.logout()
            except (OSError, imaplib.IMAP4.error):
                pass
        self._sessions.clear()
        self._folders.clear()


class EmbeddedImap(EmbeddedServer):
    """One pymap on `127.0.0.1:port` (implicit TLS); a context manager. Mail does not survive a stop."""

    host = LOOPBACK

    def __init__(
        self, data_dir: Path, users: Mapping[str, str], ca: CertificateAuthority, port: int | None = None
    ) -> None:
        super().__init__(data_dir, port)
        self.users = dict(users)
        self.ca_file = ca.ca_file
        self._ca = ca
        self._client: MailClient | None = None

    def start(self) -> None:
        """Start and wait for a greeting over verified TLS."""
        with self._starting():
            files = self._ca.issue(f"imap-{self.port}")
            settings = self.data_dir / "imap.json"
            settings.touch(mode=0o600)
            settings.write_text(
                json.dumps({
                    "port": self.port, "certificate": str(files.certificate), "key": str(files.key), "users": self.users,
                }),
                "utf-8",
            )  # fmt: skip
            environ = {name: value for name, value in os.environ.items() if not name.startswith("REPLYRATE_")}
            environ["PYTHONPATH"] = str(ROOT)
            self._child = Child(
                "the IMAP server", [sys.executable, "-m", "services.standalone.servers.imap_server", str(settings)],
                self.data_dir / "imap.log", env=environ, cwd=self.data_dir, grace_seconds=5,
            )  # fmt: skip
            await_answer(self._child, lambda: answers_greeting(self.host, self.port, self.ca_file), START_SECONDS)

    def stop(self) -> None:
        """Log the client out and stop the server."""
        if self._client is not None:
            self._client.close()
            self._client = None
        super().stop()

    @property
    def client(self) -> MailClient:
        """A mail client with one session per user."""
        if self._client is None:
            self._client = MailClient(self.host, self.port, self.ca_file, self.users)
        return self._client

    def append(self, user: str, folder: str, message: bytes, internal_date: datetime) -> None:
        """Store one message in a user's folder, with the date that the server must report."""
        self.client.append(user, folder, message, internal_date)


def answers_greeting(host: str, port: int, ca_file: Path) -> bool:
    """Whether an IMAP server greets over TLS that verifies against `ca_file`."""
    try:
        context = ssl.create_default_context(cafile=str(ca_file))
        session = imaplib.IMAP4_SSL(host, port, ssl_context=context, timeout=2)
        session.shutdown()
        return True
    except (OSError, imaplib.IMAP4.error):
        return False


def modified_utf7(name: str) -> str:
    """A folder name as IMAP spells it (RFC 3501 §5.1.3): printable ASCII as it is, the rest in shifted base64."""
    parts: list[str] = []
    shifted: list[str] = []

    def flush() -> None:
        if shifted:
            coded = "".join(shifted).encode("utf-16-be")
            parts.append("&" + base64.b64encode(coded).decode("ascii").rstrip("=").replace("/", ",") + "-")
            shifted.clear()

    for character in name:
        if " " <= character <= "~":
            flush()
            parts.append("&-" if character == "&" else character)
        else:
            shifted.append(character)
    flush()
    return "".join(parts)


def _quoted(folder: str) -> str:
    return '"' + modified_utf7(folder).replace("\\", "\\\\").replace('"', '\\"') + '"'
