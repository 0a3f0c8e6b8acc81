"""Values that cross the border between mail servers and the rest of the program. Pure."""

from dataclasses import dataclass, field
from datetime import datetime

from services.providers.mail_server import TlsMode


@dataclass(frozen=True, slots=True)
class FolderView:
    """The answer to EXAMINE. `uidvalidity` is 0 and `uidnext` None where the server does not report them."""

    uidvalidity: int
    uidnext: int | None
    messages: int


@dataclass(frozen=True, slots=True)
class FetchedHeader:
    """One message as the server reports it: flags, times, and its header block (not yet parsed)."""

    uid: int
    internal_date: datetime | None
    save_date: datetime | None
    size: int
    draft: bool
    header: bytes
    ids: bytes = b""
    """Message-ID, In-Reply-To and References, fetched by themselves where `header` was cut; else empty."""


@dataclass(frozen=True, slots=True)
class OpenedFolder:
    """A Sent folder as it was opened. Instants as the server filed its first and last messages, None where it does not report them."""

    name: bytes
    found_by: str
    messages: int
    earliest_at: datetime | None
    newest_at: datetime | None


@dataclass(frozen=True, slots=True)
class Login:
    """A mailbox and how to log in to it. `sent_override`: raw names of the folders to read instead of those that are found.
    `kind` "oauth2": `password` is a refresh token, which is sent to no mail server."""

    address: str = field(repr=False)
    host: str
    port: int
    user: str = field(repr=False)
    password: str = field(repr=False)
    sent_override: tuple[bytes, ...] = ()
    kind: str = "password"
    tls: TlsMode = "implicit"
