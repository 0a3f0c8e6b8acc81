"""The mailbox of a lab server: its folders and messages, what its provider shows of them, and the defects that are on."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.imap_lab.profiles import Defect, Profile


@dataclass(slots=True)
class Message:
    """One message: header and body as stored, when it was filed, its flags."""

    uid: int
    filed_at: datetime
    raw: bytes
    flags: bytes = b"\\Seen"


@dataclass(slots=True)
class Folder:
    """One folder, oldest message first. `attributes` as LIST shows them.

    EXAMINE of a folder that has `\\X-Closed` or `\\NonExistent` alone is refused; with `\\X-Dropped` it ends the connection,
    with `\\X-Silent` it is never answered.
    """

    name: bytes
    attributes: bytes = b""
    xlist: bytes = b""
    uidvalidity: int = 1
    next_uid: int = 1
    messages: list[Message] = field(default_factory=list)

    def file(self, raw: bytes, filed_at: datetime, flags: bytes = b"\\Seen") -> Message:
        """Put a message into the folder."""
        message = Message(self.next_uid, filed_at, raw, flags)
        self.next_uid += 1
        self.messages.append(message)
        return message

    def renumber(self, uidvalidity: int) -> None:
        """Give all messages other UIDs, as after a move to another server."""
        self.uidvalidity = uidvalidity
        self.next_uid = 1
        for message in self.messages:
            message.uid, self.next_uid = self.next_uid, self.next_uid + 1


@dataclass(frozen=True, slots=True)
class SentCommand:
    """One command of a client: its session, counted from 1, and the line without its tag."""

    session: int
    command: bytes

    @property
    def name(self) -> bytes:
        """`UID FETCH`, `LOGIN`, …"""
        words = self.command.upper().split(b" ")
        return b" ".join(words[:2]) if words[0] == b"UID" else words[0]


class LabMailbox:
    """One user's mailbox at a provider of `profiles.py`. Contents and defects may change while a server shows it."""

    def __init__(self, profile: Profile, user: str | None, secret: str) -> None:
        self.profile = profile
        self.user = user or f"seller@{profile.domain}"
        self.secret = secret
        self.web_password = "Web-canary"
        self.access_tokens: set[str] = set()
        """Access tokens that are accepted for `user` where the profile has XOAUTH2 or OAUTHBEARER."""
        self.bearer_status = b"401"
        self.bearers: list[str] = []
        """Access tokens that clients sent; `bearer_ends`: what they answered to each refusal."""
        self.bearer_ends: list[bytes] = []
        self.defects: set[Defect] = set(profile.defects)
        self.sent = Folder(
            profile.sent, profile.sent_attributes, profile.xlist_attributes, profile.uidvalidity, profile.first_uid
        )
        self.folders = [*(Folder(name, attributes) for attributes, name in profile.other_folders), self.sent]
        self.refused_uid = 0
        """The UID of the message that the defects of one particular message are about."""
        self.more_refused_uids: set[int] = set()
        """Further messages that have the same defects."""
        self.refusal = b"NO cannot be shown"
        """The server's words in REFUSED_MESSAGE and NO_IN_FETCH."""
        self.refusals_left: int | None = None
        """How many FETCHes NO_IN_FETCH still refuses; None: every one."""
        self.unanswered: set[bytes] = set()
        """Names of commands, and GREETING, that are not answered while they are in it."""
        self.search_seconds = 0.0
        self.idle_seconds = 60.0
        self.wire: list[SentCommand] = []
        self.sent_bytes = 0
        self.sessions = 0

    def has(self, *defects: Defect) -> bool:
        """Whether one of these defects is on."""
        return not self.defects.isdisjoint(defects)

    def refuses(self, uid: int) -> bool:
        """Whether the defects of one particular message are about this one."""
        return uid == self.refused_uid or uid in self.more_refused_uids

    def folder(self, name: bytes) -> Folder:
        """A folder by its raw name."""
        return next(folder for folder in self.folders if folder.name == name)

    def append(self, user: str, folder: str, message: bytes, internal_date: datetime) -> None:
        """File a message, as the other servers of the tests do."""
        assert user == self.user
        self.folder(folder.encode()).file(message, internal_date)

    def visible(self, folder: Folder) -> list[Message]:
        """The messages of a folder that the provider shows."""
        shown = folder.messages
        if self.profile.visible_days is not None:
            earliest = datetime.now(UTC) - timedelta(days=self.profile.visible_days)
            shown = [message for message in shown if message.filed_at >= earliest]
        return shown if self.profile.visible_messages is None else shown[-self.profile.visible_messages :]

    def commands(self, session: int | None = None) -> list[SentCommand]:
        """The commands of a session (-1: the last one), or of all."""
        number = self.sessions if session == -1 else session
        return [command for command in self.wire if number is None or command.session == number]


def header_fields(raw: bytes, fields: bytes, limit: int) -> bytes:
    """The header fields that were requested, with their folded lines, and the blank line; at most `limit` bytes."""
    names = set(fields.upper().split())
    selected = [line for line in _fields(raw) if line.partition(b":")[0].strip().upper() in names]
    return (b"".join(selected) + b"\r\n")[:limit]


def _fields(raw: bytes) -> Iterator[bytes]:
    head = raw.split(b"\r\n\r\n", 1)[0] + b"\r\n"
    yield from re.findall(rb"[^\r\n]+\r\n(?:[ \t][^\r\n]*\r\n)*", head)
