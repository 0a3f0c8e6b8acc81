"""Lines of a lab server's session: commands come in, answers go out, some of them slowly or without an end."""

import asyncio
import re
from typing import Final

from tests.imap_lab.mailbox import Folder, LabMailbox, Message
from tests.imap_lab.profiles import Defect

PIECE: Final = 64 * 1024
ENDLESS: Final = 400_000_000
DRIP_SECONDS: Final = 0.05


class SessionEnd(Exception):
    """Raised to end the session."""


class Wire:
    """One connection, with the folder that is open on it and the messages that it shows (`view`)."""

    def __init__(self, mailbox: LabMailbox, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.mailbox = mailbox
        self.folder: Folder | None = None
        self.view: list[Message] = []
        self._reader = reader
        self._writer = writer

    async def read_command(self) -> tuple[bytes, bytes]:
        seconds = self.mailbox.idle_seconds if self.mailbox.has(Defect.IDLE_DROP) else None
        line = await asyncio.wait_for(self._reader.readuntil(b"\n"), seconds)
        while (literal := re.search(rb"\{(\d{1,6})\}\r?\n\Z", line)) is not None:
            await self.send(b"+ go on\r\n")
            text = await self._reader.readexactly(int(literal[1]))
            line = line[: literal.start()] + b'"' + text + b'"' + await self._reader.readuntil(b"\n")
        tag, _, command = line.rstrip(b"\r\n").partition(b" ")
        return tag, command

    async def complete(self, tag: bytes, *lines: bytes, end: bytes = b"OK completed") -> None:
        await self.send(b"".join(b"* " + line + b"\r\n" for line in lines) + tag + b" " + end + b"\r\n")

    async def end(self, tag: bytes, text: bytes) -> None:
        await self.send(tag + b" " + text + b"\r\n")

    async def drip(self) -> None:
        while True:
            await self.send(b"*")
            await asyncio.sleep(DRIP_SECONDS)

    async def send_endlessly(self, piece: bytes) -> None:
        for _ in range(ENDLESS // len(piece)):
            await self.send(piece)
        raise SessionEnd

    async def send(self, data: bytes) -> None:
        if self._writer.is_closing() or self._reader.at_eof():
            raise ConnectionResetError  # asyncio would accept everything and discard it
        self._writer.write(data)
        await self._writer.drain()
        await asyncio.sleep(0)  # so that the end of a connection is noticed
        self.mailbox.sent_bytes += len(data)
