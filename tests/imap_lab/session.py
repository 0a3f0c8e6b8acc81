"""One connection to a lab server: reads commands and answers as its profile and its defects demand."""

import asyncio
import base64
import re

from tests.imap_lab.mailbox import LabMailbox, SentCommand
from tests.imap_lab.messages import fetch, search
from tests.imap_lab.profiles import Defect
from tests.imap_lab.wire import ENDLESS, PIECE, SessionEnd, Wire

FIRST_COMMAND = (
    Defect.CLOSED_EARLY, Defect.DRIP_ANSWER, Defect.HUGE_LITERAL_EARLY, Defect.EARLY_ANSWERS, Defect.LOGIN_DISABLED,
    Defect.NO_LOGIN_METHOD, Defect.PLAIN_ALONE, Defect.LOGIN_MECHANISM_ALONE,
)  # fmt: skip
"""Defects of the answer to CAPABILITY, which a client sends first unless the greeting has named them."""


class Session(Wire):
    """One connection: reads commands, answers as the profile and the defects demand."""

    def __init__(
        self, mailbox: LabMailbox, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(mailbox, reader, writer)
        self._profile = mailbox.profile
        self._number = number
        self._logged_in = False
        self._has_sent_id = False

    async def run(self) -> None:
        if self.mailbox.has(Defect.SILENT, Defect.HALF_OPEN):
            await asyncio.sleep(3600)
        if self.mailbox.has(Defect.ENDLESS_LINE):
            await self.send(b"* OK ")
            await self.send_endlessly(b"x" * PIECE)
        if self.mailbox.has(Defect.DRIP):
            await self.drip()
        if self.mailbox.has(Defect.NO_IMAP):
            await self.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return
        if self.mailbox.has(Defect.BYE_GREETING, Defect.BARE_BYE_GREETING):
            text = b" System going down for maintenance" if self.mailbox.has(Defect.BYE_GREETING) else b""
            await self.send(b"* BYE" + text + b"\r\n")
            return
        if self.mailbox.has(Defect.PREAUTH):
            await self.send(b"* PREAUTH welcome back\r\n")
        else:
            await self._until_answered(b"GREETING")
            await self.send(self._greeting() + b"\r\n")
        try:
            while True:
                tag, command = await self.read_command()
                sent = SentCommand(self._number, command)
                self.mailbox.wire.append(sent)
                await self._until_answered(sent.name)
                await self._answer(tag, command)
        except SessionEnd:
            pass

    async def _until_answered(self, name: bytes) -> None:
        """Wait while a test leaves commands of this name without an answer."""
        while name in self.mailbox.unanswered:
            await asyncio.sleep(0.05)

    def _greeting(self) -> bytes:
        """The greeting; without capabilities where a defect is about the command that asks for them."""
        greeting = self._profile.greeting
        return re.sub(rb"\[CAPABILITY [^\]]*\] ?", b"", greeting) if self.mailbox.has(*FIRST_COMMAND) else greeting

    async def _answer(self, tag: bytes, command: bytes) -> None:
        name = command.upper().split(b" ")[0]
        if self.mailbox.has(Defect.CLOSED_EARLY):
            raise SessionEnd
        if self.mailbox.has(Defect.DRIP_ANSWER):
            await self.drip()
        if self.mailbox.has(Defect.HUGE_LITERAL_EARLY):
            await self.send(b"* 1 FETCH (BODY[] {%d}\r\n" % ENDLESS)
            await self.send_endlessly(b"x" * PIECE)
        match name:
            case b"CAPABILITY":
                capabilities = self._profile.capabilities if self._logged_in else self._profile.capabilities_before
                if not self.mailbox.has(Defect.LOGIN_DISABLED):
                    capabilities = capabilities.replace(b"LOGINDISABLED ", b"")
                elif b"LOGINDISABLED" not in capabilities and not self._logged_in:
                    capabilities = capabilities.replace(b" AUTH=PLAIN", b"") + b" LOGINDISABLED AUTH=XOAUTH2"
                if self.mailbox.has(Defect.PLAIN_ALONE) and not self._logged_in:
                    capabilities = b"IMAP4rev1 LOGINDISABLED AUTH=PLAIN"
                if self.mailbox.has(Defect.LOGIN_MECHANISM_ALONE) and not self._logged_in:
                    capabilities = b"IMAP4rev1 AUTH=CRAM-MD5 AUTH=LOGIN LOGINDISABLED"
                if self.mailbox.has(Defect.NO_LOGIN_METHOD) and not self._logged_in:
                    capabilities = b"IMAP4rev1 LOGINDISABLED AUTH=CRAM-MD5 AUTH=GSSAPI"
                if self.mailbox.has(Defect.EARLY_ANSWERS) and not self._logged_in:
                    await self.send(b'* LIST (\\Sent) "/" "Evil"\r\n* 7 FETCH (UID 7 FLAGS ())\r\n* 9 EXISTS\r\n')
                await self.complete(tag, b"CAPABILITY " + capabilities)
            case b"NOOP":
                await self.complete(tag)
            case b"ENABLE" if self.mailbox.has(Defect.SILENT_ENABLE):
                pass
            case b"ID" if self._profile.id != "no" and not self.mailbox.has(Defect.ID_BAD):
                # NetEase takes a list of quoted strings and nothing else.
                if re.fullmatch(rb'ID \(("[^"]*" "[^"]*" ?)+\)', command, re.I):
                    self._has_sent_id = True
                    await self.complete(tag, b'ID ("name" "lab")')
                else:
                    await self.end(tag, b"BAD invalid command or parameters")
            case b"LOGIN":
                await self._login(tag, command)
            case b"AUTHENTICATE":
                await self._authenticate(tag, command.partition(b" ")[2].upper())
            case b"LOGOUT":
                await self.complete(tag, b"BYE see you")
                raise SessionEnd
            case _ if not self._logged_in:
                await self.end(tag, b"BAD not now")
            case b"LIST" | b"XLIST":
                await self._list(tag, command, name)
            case b"NAMESPACE" if b"NAMESPACE" in self._profile.capabilities and not self.mailbox.has(
                Defect.NAMESPACE_BAD
            ):
                await self.complete(tag, b"NAMESPACE " + self._profile.namespaces)
            case b"STATUS":
                await self.complete(
                    tag, b"STATUS x ()" if self.mailbox.has(Defect.STATUS_EMPTY) else b"STATUS x (MESSAGES 0)"
                )
            case b"EXAMINE" | b"SELECT":
                await self._examine(tag, command)
            case b"UID" if self.folder is not None and command.upper().startswith(b"UID SEARCH "):
                await search(self, tag, command[11:])
            case b"UID" if self.folder is not None and command.upper().startswith(b"UID FETCH "):
                await fetch(self, tag, command[10:])
            case _:
                await self.end(tag, b"BAD invalid command or parameters")

    async def _login(self, tag: bytes, command: bytes) -> None:
        words = [
            word.replace(b'\\"', b'"').replace(b"\\\\", b"\\") for word in re.findall(rb'"((?:[^"\\]|\\.)*)"', command)
        ]
        user, secret = [*words, b"", b""][:2]
        if self.mailbox.has(Defect.CLOSED_IN_LOGIN):
            raise SessionEnd
        if self.mailbox.has(Defect.BYE_IN_LOGIN):
            await self.send(b"* BYE Too many connections\r\n")
            raise SessionEnd
        if self.mailbox.has(Defect.ECHO_PASSWORD):
            await self.end(tag, b"NO no such user " + user + b" with password " + secret)
        elif self.mailbox.has(Defect.LOGIN_RATE):
            await self.end(tag, b"NO LOGIN frequency limited, please try later")
        elif self.mailbox.has(Defect.LOGIN_LIMIT):
            await self.end(tag, b"NO [LIMIT] Too many authentication attempts. Try again later.")
        elif self.mailbox.has(Defect.LOGIN_DISABLED, Defect.PLAIN_ALONE, Defect.LOGIN_MECHANISM_ALONE):
            await self.end(tag, b"NO Basic authentication is disabled.")
        elif self.mailbox.has(Defect.AMBIGUOUS_LOGIN):
            await self.end(
                tag,
                b"NO Login fail. Account is abnormal, service is not open, password is incorrect, login frequency limited, or"
                b" system is busy.",
            )
        elif (user, secret) == (self.mailbox.user.encode(), self.mailbox.secret.encode()):
            self._logged_in = True
            await self.end(tag, b"OK LOGIN completed")
        elif secret == self.mailbox.web_password.encode() and self._profile.web_password is not None:
            await self.end(tag, self._profile.web_password)
        else:
            await self.end(tag, self._profile.wrong_password)

    async def _authenticate(self, tag: bytes, mechanism: bytes) -> None:
        if mechanism == b"PLAIN" and self.mailbox.has(Defect.PLAIN_ALONE):
            await self.send(b"+ \r\n")
            line = base64.b64decode((await self._reader.readuntil(b"\n")).strip())
            self._logged_in = line == b"\0%s\0%s" % (self.mailbox.user.encode(), self.mailbox.secret.encode())
            await self.end(tag, b"OK AUTHENTICATE completed" if self._logged_in else self._profile.wrong_password)
            return
        if mechanism == b"LOGIN" and self.mailbox.has(Defect.LOGIN_MECHANISM_ALONE):
            given = []
            for prompt in (b"User Name", b"Password"):
                await self.send(b"+ " + base64.b64encode(prompt) + b"\r\n")
                given.append(base64.b64decode((await self._reader.readuntil(b"\n")).strip()))
            self._logged_in = given == [self.mailbox.user.encode(), self.mailbox.secret.encode()]
            await self.end(tag, b"OK AUTHENTICATE completed" if self._logged_in else self._profile.wrong_password)
            return
        if b"AUTH=" + mechanism not in self._profile.capabilities_before.split() or mechanism not in (
            b"XOAUTH2",
            b"OAUTHBEARER",
        ):
            await self.end(tag, b"NO unsupported mechanism")
            return
        if self.mailbox.has(Defect.LOGIN_LIMIT):
            await self.end(tag, b"NO [LIMIT] AUTHENTICATE Rate limit hit.")
            return
        await self.send(b"+ \r\n")
        initial = base64.b64decode((await self._reader.readuntil(b"\n")).strip())
        credentials = re.fullmatch(
            rb"user=([^\x01]*)\x01auth=Bearer ([^\x01]*)\x01\x01" if mechanism == b"XOAUTH2"
            else rb"n,a=([^\x01]*),\x01host=[^\x01]*\x01port=\d+\x01auth=Bearer ([^\x01]*)\x01\x01", initial,
        )  # fmt: skip
        self.mailbox.bearers.append(credentials[2].decode() if credentials else "")
        user = (
            self.mailbox.user.encode().replace(b"=", b"=3D")
            if mechanism == b"OAUTHBEARER"
            else self.mailbox.user.encode()
        )
        if credentials and credentials[1] == user and credentials[2].decode() in self.mailbox.access_tokens:
            self._logged_in = True
            await self.end(tag, b"OK AUTHENTICATE completed")
            return
        # The token is repeated in the error, as a real server might do.
        error = b'{"status":"%s","schemes":"bearer","scope":"canary %s"}' % (self.mailbox.bearer_status, initial)
        await self.send(b"+ " + base64.b64encode(error.replace(b"\x01", b" ")) + b"\r\n")
        answer = await self._reader.readuntil(b"\n")
        self.mailbox.bearer_ends.append(answer.strip())
        await self.end(tag, b"NO AUTHENTICATE failed for " + user + b" " + (credentials[2] if credentials else b""))

    async def _list(self, tag: bytes, command: bytes, name: bytes) -> None:
        if self.mailbox.has(Defect.ENDLESS_LIST):
            for start in range(0, 1_000_000, 500):
                await self.send(
                    b"".join(b'* LIST () "/" "folder %07d"\r\n' % number for number in range(start, start + 500))
                )
        extended = b"LIST-EXTENDED" in self._profile.capabilities
        if (name == b"XLIST" and b"XLIST" not in self._profile.capabilities) or (b"RETURN" in command and not extended):
            await self.end(tag, b"BAD invalid command or parameters")
            return
        lines = [
            b'%s (%s) "%s" "%s"'
            % (name, (folder.xlist or folder.attributes) if name == b"XLIST" else folder.attributes, self._profile.delimiter, folder.name.replace(b"\\", b"\\\\").replace(b'"', b'\\"'))
            for folder in self.mailbox.folders
        ]  # fmt: skip
        await self.complete(tag, *lines)

    async def _examine(self, tag: bytes, command: bytes) -> None:
        name = re.sub(rb"\\(.)", rb"\1", command.partition(b" ")[2][1:-1])
        folder = next((folder for folder in self.mailbox.folders if folder.name == name), None)
        attributes = folder.attributes.lower() if folder is not None else b""
        if self.mailbox.has(Defect.UNSAFE_LOGIN) or (self._profile.id == "required" and not self._has_sent_id):
            await self.end(tag, b"NO EXAMINE Unsafe Login. Please contact kefu@188.com for help")
            return
        if folder is None or attributes in (b"\\x-closed", b"\\nonexistent") or b"\\noselect" in attributes:
            await self.end(tag, b"NO [NONEXISTENT] no such folder")
            return
        if b"\\x-dropped" in attributes:
            raise SessionEnd
        if b"\\x-silent" in attributes:
            await asyncio.sleep(3600)
        if self.mailbox.has(Defect.ENDLESS_EXISTS):
            await self.send_endlessly(b"* 1 EXISTS\r\n" * 1000)
        self.folder, self.view = folder, self.mailbox.visible(folder)
        uidvalidity = b"%d" % (0 if self.mailbox.has(Defect.UIDVALIDITY_ZERO) else self.folder.uidvalidity)
        if self.mailbox.has(Defect.HUGE_UIDVALIDITY):
            uidvalidity = b"9" * 40
        exists = 4_294_967_295 if self.mailbox.has(Defect.HUGE_EXISTS) else len(self.view)
        lines = [
            b"%d EXISTS" % exists, b"0 RECENT", b"OK [UIDVALIDITY " + uidvalidity + b"] UIDs valid",
            b"FLAGS (\\Answered \\Seen \\Deleted \\Draft \\Flagged)", b"OK [PERMANENTFLAGS ()] none",
        ]  # fmt: skip
        if not self.mailbox.has(Defect.NO_UIDNEXT):
            lines.append(b"OK [UIDNEXT %d] next" % self.folder.next_uid)
        await self.complete(tag, *lines, end=b"OK [READ-ONLY] EXAMINE completed")
