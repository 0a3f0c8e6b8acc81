"""An IMAP server that behaves like a provider of `profiles.py`, with the defects that are switched on: real sockets, real
TLS, no protocol library of ours below it.

It runs an asyncio loop in a thread. Whatever a client says is kept in `wire`, in order, with the number of its session;
`sent_bytes` counts what a client took. Contents and defects may change while it runs.
"""

import asyncio
import base64
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

from services.standalone.servers.ca import LOOPBACK_NAMES, CertificateAuthority
from services.standalone.servers.child import LOOPBACK
from tests.imap_lab.profiles import Defect, Profile

PIECE = 64 * 1024
ENDLESS = 400_000_000
DRIP_SECONDS = 0.05


@dataclass(slots=True)
class Message:
    """One message: header and body as they lie there, when it was filed, its flags."""

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
        """All messages under other UIDs, as after a move to another server."""
        self.uidvalidity = uidvalidity
        self.next_uid = 1
        for message in self.messages:
            message.uid, self.next_uid = self.next_uid, self.next_uid + 1


@dataclass(frozen=True, slots=True)
class Said:
    """One command of a client: its session, counted from 1, and the line without its tag."""

    session: int
    command: bytes

    @property
    def name(self) -> bytes:
        """`UID FETCH`, `LOGIN`, …"""
        words = self.command.upper().split(b" ")
        return b" ".join(words[:2]) if words[0] == b"UID" else words[0]


class LabServer:
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
        folder.mkdir(parents=True, exist_ok=True)
        self.profile = profile
        self.user = user or f"seller@{profile.domain}"
        self.secret = secret
        self.web_password = "Web-canary"
        self.access_tokens: set[str] = set()
        """Access tokens that are taken for `user` where the profile has XOAUTH2 or OAUTHBEARER."""
        self.bearer_status = b"401"
        self.bearers: list[str] = []
        """Access tokens that came, and in `bearer_ends` what the client answered to each refusal."""
        self.bearer_ends: list[bytes] = []
        self.defects: set[Defect] = set(profile.defects)
        self.sent = Folder(
            profile.sent, profile.sent_attributes, profile.xlist_attributes, profile.uidvalidity, profile.first_uid
        )
        self.folders = [*(Folder(name, attributes) for attributes, name in profile.others), self.sent]
        self.refused_uid = 0
        """The one certain message of REFUSED_MESSAGE and BROKEN_MESSAGE."""
        self.idle_seconds = 60.0
        self.wire: list[Said] = []
        self.sent_bytes = 0
        self.sessions = 0
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

    def folder(self, name: bytes) -> Folder:
        """A folder by its raw name."""
        return next(folder for folder in self.folders if folder.name == name)

    def append(self, user: str, folder: str, message: bytes, internal_date: datetime) -> None:
        """File a message, as the other servers of the tests do."""
        assert user == self.user
        self.folder(folder.encode()).file(message, internal_date)

    def visible(self, folder: Folder) -> list[Message]:
        """What the provider shows of a folder."""
        shown = folder.messages
        if self.profile.visible_days is not None:
            earliest = datetime.now(UTC) - timedelta(days=self.profile.visible_days)
            shown = [message for message in shown if message.filed_at >= earliest]
        return shown if self.profile.visible_messages is None else shown[-self.profile.visible_messages :]

    def said(self, session: int | None = None) -> list[Said]:
        """The commands of a session (the last one counts as -1), or all."""
        number = self.sessions if session == -1 else session
        return [one for one in self.wire if number is None or one.session == number]

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
        half_open = Defect.HALF_OPEN in self.defects
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
            # The last one: the server is stopped.
            expected = (
                OSError,
                ssl.SSLError,
                asyncio.IncompleteReadError,
                TimeoutError,
                ValueError,
                asyncio.CancelledError,
            )
            with contextlib.suppress(*expected):
                await _Session(self, self.sessions, reader, writer).run()
        finally:
            self._tasks.discard(task)
            with contextlib.suppress(OSError, ssl.SSLError):
                writer.transport.abort()


class _Over(Exception):
    """The session ends."""


class _Session:
    """One connection: reads commands, answers as the profile and the defects say."""

    def __init__(
        self, server: LabServer, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._profile = server.profile
        self._number = number
        self._reader = reader
        self._writer = writer
        self._logged_in = False
        self._known = False
        self._folder: Folder | None = None
        self._view: list[Message] = []

    def _has(self, *defects: Defect) -> bool:
        return not self._server.defects.isdisjoint(defects)

    async def run(self) -> None:
        if self._has(Defect.SILENT, Defect.HALF_OPEN):
            await asyncio.sleep(3600)
        if self._has(Defect.ENDLESS_LINE):
            await self._say(b"* OK ")
            await self._endless(b"x" * PIECE)
        if self._has(Defect.DRIP):
            await self._drip()
        if self._has(Defect.NO_IMAP):
            await self._say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return
        if self._has(Defect.PREAUTH):
            await self._say(b"* PREAUTH welcome back\r\n")
        else:
            await self._say(self._profile.greeting + b"\r\n")
        try:
            while True:
                tag, rest = await self._command()
                self._server.wire.append(Said(self._number, rest))
                await self._answer(tag, rest)
        except _Over:
            pass

    async def _command(self) -> tuple[bytes, bytes]:
        seconds = self._server.idle_seconds if self._has(Defect.IDLE_DROP) else None
        line = await asyncio.wait_for(self._reader.readuntil(b"\n"), seconds)
        while (literal := re.search(rb"\{(\d{1,6})\}\r?\n\Z", line)) is not None:
            await self._say(b"+ go on\r\n")
            text = await self._reader.readexactly(int(literal[1]))
            line = line[: literal.start()] + b'"' + text + b'"' + await self._reader.readuntil(b"\n")
        tag, _, rest = line.rstrip(b"\r\n").partition(b" ")
        return tag, rest

    async def _answer(self, tag: bytes, rest: bytes) -> None:
        name = rest.upper().split(b" ")[0]
        if self._has(Defect.CLOSED_EARLY):
            raise _Over
        if self._has(Defect.DRIP_ANSWER):
            await self._drip()
        if self._has(Defect.HUGE_LITERAL_EARLY):
            await self._say(b"* 1 FETCH (BODY[] {%d}\r\n" % ENDLESS)
            await self._endless(b"x" * PIECE)
        match name:
            case b"CAPABILITY":
                known = self._profile.capabilities if self._logged_in else self._profile.capabilities_before
                if not self._has(Defect.LOGIN_DISABLED):
                    known = known.replace(b"LOGINDISABLED ", b"")
                elif b"LOGINDISABLED" not in known and not self._logged_in:
                    known += b" LOGINDISABLED AUTH=XOAUTH2"
                if self._has(Defect.EARLY_ANSWERS) and not self._logged_in:
                    await self._say(b'* LIST (\\Sent) "/" "Evil"\r\n* 7 FETCH (UID 7 FLAGS ())\r\n* 9 EXISTS\r\n')
                await self._done(tag, b"CAPABILITY " + known)
            case b"NOOP":
                await self._done(tag)
            case b"ENABLE" if self._has(Defect.SILENT_ENABLE):
                pass
            case b"ID" if self._profile.id != "no" and not self._has(Defect.ID_BAD):
                # NetEase takes a list of quoted strings and nothing else.
                if re.fullmatch(rb'ID \(("[^"]*" "[^"]*" ?)+\)', rest, re.I):
                    self._known = True
                    await self._done(tag, b'ID ("name" "lab")')
                else:
                    await self._end(tag, b"BAD invalid command or parameters")
            case b"LOGIN":
                await self._login(tag, rest)
            case b"AUTHENTICATE":
                await self._authenticate(tag, rest.partition(b" ")[2].upper())
            case b"LOGOUT":
                await self._done(tag, b"BYE see you")
                raise _Over
            case _ if not self._logged_in:
                await self._end(tag, b"BAD not now")
            case b"LIST" | b"XLIST":
                await self._list(tag, rest, name)
            case b"STATUS":
                await self._done(tag, b"STATUS x ()" if self._has(Defect.STATUS_EMPTY) else b"STATUS x (MESSAGES 0)")
            case b"EXAMINE" | b"SELECT":
                await self._examine(tag, rest)
            case b"UID" if self._folder is not None and rest.upper().startswith(b"UID SEARCH "):
                await self._search(tag, rest[11:])
            case b"UID" if self._folder is not None and rest.upper().startswith(b"UID FETCH "):
                await self._fetch(tag, rest[10:])
            case _:
                await self._end(tag, b"BAD invalid command or parameters")

    async def _login(self, tag: bytes, rest: bytes) -> None:
        words = [
            word.replace(b'\\"', b'"').replace(b"\\\\", b"\\") for word in re.findall(rb'"((?:[^"\\]|\\.)*)"', rest)
        ]
        user, secret = [*words, b"", b""][:2]
        if self._has(Defect.CLOSED_IN_LOGIN):
            raise _Over
        if self._has(Defect.BYE_IN_LOGIN):
            await self._say(b"* BYE Too many connections\r\n")
            raise _Over
        if self._has(Defect.ECHO_PASSWORD):
            await self._end(tag, b"NO no such user " + user + b" with password " + secret)
        elif self._has(Defect.LOGIN_RATE):
            await self._end(tag, b"NO LOGIN frequency limited, please try later")
        elif self._has(Defect.LOGIN_DISABLED):
            await self._end(tag, b"NO Basic authentication is disabled.")
        elif self._has(Defect.AMBIGUOUS_LOGIN):
            await self._end(
                tag,
                b"NO Login fail. Account is abnormal, service is not open, password is incorrect, login frequency limited, or"
                b" system is busy.",
            )
        elif (user, secret) == (self._server.user.encode(), self._server.secret.encode()):
            self._logged_in = True
            await self._end(tag, b"OK LOGIN completed")
        elif secret == self._server.web_password.encode() and self._profile.web_password is not None:
            await self._end(tag, self._profile.web_password)
        else:
            await self._end(tag, self._profile.wrong_password)

    async def _authenticate(self, tag: bytes, mechanism: bytes) -> None:
        if b"AUTH=" + mechanism not in self._profile.capabilities_before.split() or mechanism not in (
            b"XOAUTH2",
            b"OAUTHBEARER",
        ):
            await self._end(tag, b"NO unsupported mechanism")
            return
        await self._say(b"+ \r\n")
        said = base64.b64decode((await self._reader.readuntil(b"\n")).strip())
        found = re.fullmatch(
            rb"user=([^\x01]*)\x01auth=Bearer ([^\x01]*)\x01\x01" if mechanism == b"XOAUTH2"
            else rb"n,a=([^\x01]*),\x01host=[^\x01]*\x01port=\d+\x01auth=Bearer ([^\x01]*)\x01\x01", said,
        )  # fmt: skip
        self._server.bearers.append(found[2].decode() if found else "")
        user = (
            self._server.user.encode().replace(b"=", b"=3D")
            if mechanism == b"OAUTHBEARER"
            else self._server.user.encode()
        )
        if found and found[1] == user and found[2].decode() in self._server.access_tokens:
            self._logged_in = True
            await self._end(tag, b"OK AUTHENTICATE completed")
            return
        # The token is repeated, as a server might.
        error = b'{"status":"%s","schemes":"bearer","scope":"canary %s"}' % (self._server.bearer_status, said)
        await self._say(b"+ " + base64.b64encode(error.replace(b"\x01", b" ")) + b"\r\n")
        answer = await self._reader.readuntil(b"\n")
        self._server.bearer_ends.append(answer.strip())
        await self._end(tag, b"NO AUTHENTICATE failed for " + user + b" " + (found[2] if found else b""))

    async def _list(self, tag: bytes, rest: bytes, name: bytes) -> None:
        if self._has(Defect.ENDLESS_LIST):
            for start in range(0, 1_000_000, 500):
                await self._say(
                    b"".join(b'* LIST () "/" "folder %07d"\r\n' % number for number in range(start, start + 500))
                )
        extended = b"LIST-EXTENDED" in self._profile.capabilities
        if (name == b"XLIST" and b"XLIST" not in self._profile.capabilities) or (b"RETURN" in rest and not extended):
            await self._end(tag, b"BAD invalid command or parameters")
            return
        lines = [
            b'%s (%s) "%s" "%s"'
            % (name, (folder.xlist or folder.attributes) if name == b"XLIST" else folder.attributes, self._profile.delimiter, folder.name)
            for folder in self._server.folders
        ]  # fmt: skip
        await self._done(tag, *lines)

    async def _examine(self, tag: bytes, rest: bytes) -> None:
        wanted = rest.partition(b" ")[2].strip(b'"')
        found = [folder for folder in self._server.folders if folder.name == wanted]
        if self._has(Defect.UNSAFE_LOGIN) or (self._profile.id == "required" and not self._known):
            await self._end(tag, b"NO EXAMINE Unsafe Login. Please contact kefu@188.com for help")
            return
        if (
            not found
            or found[0].attributes.lower() in (b"\\x-closed", b"\\nonexistent")
            or b"\\noselect" in found[0].attributes.lower()
        ):
            await self._end(tag, b"NO [NONEXISTENT] no such folder")
            return
        if b"\\x-dropped" in found[0].attributes.lower():
            raise _Over
        if b"\\x-silent" in found[0].attributes.lower():
            await asyncio.sleep(3600)
        if self._has(Defect.ENDLESS_EXISTS):
            await self._endless(b"* 1 EXISTS\r\n" * 1000)
        self._folder, self._view = found[0], self._server.visible(found[0])
        uidvalidity = b"%d" % (0 if self._has(Defect.UIDVALIDITY_ZERO) else self._folder.uidvalidity)
        if self._has(Defect.HUGE_UIDVALIDITY):
            uidvalidity = b"9" * 40
        exists = 4_294_967_295 if self._has(Defect.HUGE_EXISTS) else len(self._view)
        lines = [
            b"%d EXISTS" % exists, b"0 RECENT", b"OK [UIDVALIDITY " + uidvalidity + b"] UIDs valid",
            b"FLAGS (\\Answered \\Seen \\Deleted \\Draft \\Flagged)", b"OK [PERMANENTFLAGS ()] none",
        ]  # fmt: skip
        if not self._has(Defect.NO_UIDNEXT):
            lines.append(b"OK [UIDNEXT %d] next" % self._folder.next_uid)
        await self._done(tag, *lines, end=b"OK [READ-ONLY] EXAMINE completed")

    async def _search(self, tag: bytes, criteria: bytes) -> None:
        if self._folder is not None and not self._has(Defect.STALE):
            self._view = self._server.visible(self._folder)
        if self._has(Defect.NEGATIVE_UID, Defect.HUGE_UID):
            await self._done(tag, b"SEARCH 1 " + (b"-5" if self._has(Defect.NEGATIVE_UID) else b"9" * 40))
            return
        words = criteria.upper().split()
        chosen = list(enumerate(self._view, 1))
        while words:
            word = words.pop(0)
            if word == b"ALL":
                continue
            if word == b"SINCE" and self._has(Defect.SINCE_BAD):
                await self._end(tag, b"BAD invalid command or parameters")
                return
            if word == b"SINCE" and self._has(Defect.SINCE_EMPTY):
                chosen = []
                break
            if word == b"SINCE" and words:
                since = self._since(words.pop(0))
                chosen = [(at, one) for at, one in chosen if one.filed_at >= since]
            elif word == b"UID" and words:
                uids = [one.uid for one in self._view]
                low, high = _range(words.pop(0), max(uids, default=0), reverse=not self._has(Defect.RANGE_EMPTY))
                chosen = [(at, one) for at, one in chosen if low <= one.uid <= high]
            elif re.fullmatch(rb"\d+(:(\d+|\*))?", word):
                low, high = _range(word, len(self._view), reverse=True)
                chosen = [(at, one) for at, one in chosen if low <= at <= high]
            elif self._has(Defect.SEARCH_ALL):
                break
            elif self._has(Defect.SEARCH_EMPTY):
                chosen = []
                break
            else:
                await self._end(tag, b"BAD invalid command or parameters")
                return
        await self._done(tag, b"SEARCH" + b"".join(b" %d" % one.uid for _, one in chosen))

    def _since(self, text: bytes) -> datetime:
        day = datetime.strptime(text.decode().strip('"').title(), "%d-%b-%Y").date()
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if self._has(Defect.SINCE_LATE):
            return start + timedelta(days=1)
        return start - timedelta(hours=8) if self._has(Defect.SINCE_EARLY) else start

    async def _fetch(self, tag: bytes, rest: bytes) -> None:
        listed, _, items = rest.partition(b" ")
        asked = [int(uid) for uid in listed.split(b",")]
        if self._has(Defect.UID_ORDER) and asked != sorted(asked):
            await self._end(tag, b"BAD Sequence set is invalid")
            return
        wanted = set(asked)
        fields = re.search(rb"BODY\.PEEK\[HEADER\.FIELDS \(([^)]*)\)\]<0\.(\d+)>", items)
        if fields is None and items != b"(UID INTERNALDATE)":
            await self._end(tag, b"BAD only headers and times are asked for here")
            return
        chosen = [(at, one) for at, one in enumerate(self._view, 1) if one.uid in wanted]
        if await self._hostile_fetch(tag, chosen):
            return
        stop = len(chosen) // 2 if self._has(Defect.LIMIT_IN_FETCH, Defect.BYE_IN_FETCH) else None
        for place, (at, one) in enumerate(chosen):
            if place == stop:
                if self._has(Defect.BYE_IN_FETCH):
                    await self._say(b"* BYE [UNAVAILABLE] come back later\r\n")
                    raise _Over
                await self._end(tag, b"NO [LIMIT] FETCH Rate limit hit.")
                return
            if self._has(Defect.BROKEN_MESSAGE) and one.uid == self._server.refused_uid:
                await self._say(b"* %d FETCH (UID %d BODY[HEADER.FIELDS ((((\r\n" % (at, one.uid))
                continue
            if fields is None:
                line = b"* %d FETCH (%s)\r\n" % (at, self._items(one, items))
                await self._say(line * (2 if self._has(Defect.DUPLICATE_UID) else 1) + self._news(at))
                continue
            header = _header(one.raw, fields[1], int(fields[2]))
            line = b"* %d FETCH (%s BODY[HEADER.FIELDS (%s)]<0> {%d}\r\n" % (
                at, self._items(one, items), fields[1], len(header),
            )  # fmt: skip
            if self._has(Defect.WRONG_LITERAL_SIZE):
                header += b"X-More: than was said\r\n"
            if self._has(Defect.DRIP_LITERAL):
                await self._say(line)
                for byte in header:
                    await self._say(bytes([byte]))
                    await asyncio.sleep(DRIP_SECONDS)
            await self._say(line + header + b")\r\n")
            if self._has(Defect.DUPLICATE_UID):
                await self._say(line + header + b")\r\n")
            await self._say(self._news(at))
        await self._done(tag)

    def _news(self, at: int) -> bytes:
        """Of a message that nobody asked for, behind the answer about another one."""
        if not self._has(Defect.UNSOLICITED_FETCH):
            return b""
        return b"* %d FETCH (FLAGS (\\Seen))\r\n* %d FETCH (UID %d FLAGS ())\r\n" % (at, at + 1, 999_999)

    async def _hostile_fetch(self, tag: bytes, chosen: Sequence[tuple[int, Message]]) -> bool:
        """Answers that are none; whether one was given."""
        if self._has(Defect.NO_IN_FETCH) or (
            self._has(Defect.REFUSED_MESSAGE) and self._server.refused_uid in {one.uid for _, one in chosen}
        ):
            await self._end(tag, b"NO Server Unavailable. 15")
        elif self._has(Defect.OK_WITHOUT_DATA):
            await self._done(tag)
        elif self._has(Defect.GARBAGE):
            await self._done(tag, *(b"%d FETCH (UID %d BODY[HEADER ((( \x00\xff" % (at, one.uid) for at, one in chosen))
        elif self._has(Defect.DEEP_NESTING):
            deep = b"(" * 4000 + b")" * 4000
            await self._done(tag, *(b"%d FETCH (UID %d BODY[HEADER] %b)" % (at, one.uid, deep) for at, one in chosen))
        elif self._has(Defect.HUGE_LITERAL):
            await self._say(b"* 1 FETCH (UID 1 BODY[HEADER.FIELDS (DATE)] {%d}\r\n" % ENDLESS)
            await self._endless(b"x" * PIECE)
        elif self._has(Defect.MISSING_CRLF):
            await self._say(b"* 1 FETCH (UID 1 FLA")
            raise _Over
        else:
            return False
        return True

    def _items(self, one: Message, items: bytes) -> bytes:
        said = [b"UID %d" % one.uid]
        if not self._has(Defect.NO_INTERNALDATE):
            said.append(b'INTERNALDATE "' + self._filed(one.filed_at) + b'"')
        if b"RFC822.SIZE" in items:
            said += [b"RFC822.SIZE %d" % len(one.raw), b"FLAGS (" + one.flags + b")"]
        if b"SAVEDATE" in items:
            said.append(b'SAVEDATE "' + self._filed(one.filed_at) + b'"')
        return b" ".join(said)

    def _filed(self, at: datetime) -> bytes:
        if self._has(Defect.OLD_INTERNALDATE):
            at = at.replace(year=2009, day=min(at.day, 28))
        if self._has(Defect.ONE_DIGIT_DAY):
            return f"{at.day}-{at:%b-%Y %H:%M:%S} +0000".encode()
        return f"{at.day:2}-{at:%b-%Y %H:%M:%S} +0000".encode()

    async def _done(self, tag: bytes, *lines: bytes, end: bytes = b"OK completed") -> None:
        await self._say(b"".join(b"* " + line + b"\r\n" for line in lines) + tag + b" " + end + b"\r\n")

    async def _end(self, tag: bytes, text: bytes) -> None:
        await self._say(tag + b" " + text + b"\r\n")

    async def _drip(self) -> None:
        while True:
            await self._say(b"*")
            await asyncio.sleep(DRIP_SECONDS)

    async def _endless(self, piece: bytes) -> None:
        for _ in range(ENDLESS // len(piece)):
            await self._say(piece)
        raise _Over

    async def _say(self, data: bytes) -> None:
        if self._writer.is_closing() or self._reader.at_eof():
            raise ConnectionResetError  # asyncio would take everything and throw it away
        self._writer.write(data)
        await self._writer.drain()
        await asyncio.sleep(0)  # so that the end of a connection is noticed
        self._server.sent_bytes += len(data)


def _range(text: bytes, last: int, *, reverse: bool) -> tuple[int, int]:
    """`a`, `a:b` or `a:*`; where `reverse`, a range is read in either direction (RFC 3501 §9, seq-range)."""
    first, colon, second = text.partition(b":")
    low = int(first)
    high = low if not colon else last if second == b"*" else int(second)
    return (min(low, high), max(low, high)) if reverse else (low, high)


def _header(raw: bytes, fields: bytes, most: int) -> bytes:
    """The header fields that were asked for, folded lines with them, and the blank line."""
    names = set(fields.upper().split())
    kept = [line for line in _fields(raw) if line.partition(b":")[0].strip().upper() in names]
    return (b"".join(kept) + b"\r\n")[:most]


def _fields(raw: bytes) -> Iterator[bytes]:
    head = raw.split(b"\r\n\r\n", 1)[0] + b"\r\n"
    yield from re.findall(rb"[^\r\n]+\r\n(?:[ \t][^\r\n]*\r\n)*", head)
