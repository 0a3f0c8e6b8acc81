"""Mail for the servers of the lab, and the oracle: the messages that a fetcher must publish, derived from the folders."""

import hmac
import re
from collections.abc import Iterable
from datetime import datetime, timedelta

from tests.imap_lab.mailbox import Folder, Message
from tests.imap_lab.profiles import Defect
from tests.imap_lab.server import LabServer

CANARY = "canary"
"""In every subject and body; it must never leave the server."""


def letter(number: int, at: datetime, user: str, *extra: bytes, bare: bool = False) -> bytes:
    """A sent mail with a body. `bare`: without Message-ID and Date, as some programs file their copy."""
    lines = [
        *([] if bare else [b"Message-ID: <sent-%d@lab.test>" % number, f"Date: {at:%a, %d %b %Y %H:%M:%S} +0000".encode()]),
        b"From: Seller <" + user.encode() + b">",
        b"To: Buyer <buyer-%d@shop.example>" % number,
        b"Subject: Re: canary subject %d" % number,
        b"X-Mailer: canary mailer",
        *extra,
    ]  # fmt: skip
    return b"\r\n".join([*lines, b"", b"canary body"])


def fill(server: LabServer, times: Iterable[datetime], folder: Folder | None = None, first: int = 1) -> None:
    """One mail for each instant, filed when it was sent; in the form of servers with BARE_COPY or RAW_HEADERS if they are on."""
    target = folder or server.sent
    for number, at in enumerate(times, first):
        raw = letter(number, at, server.user)
        if Defect.RAW_HEADERS in server.defects:
            raw = raw.replace(b"Re: canary subject", "回复：询盘 canary".encode("gb18030"))
            raw = raw.replace(b"Buyer <", '\\买家"'.encode("gb18030") + b" <")
        target.file(raw, at)
        if Defect.BARE_COPY in server.defects:
            target.file(letter(number, at, server.user, bare=True), at + timedelta(seconds=5))


def expected(server: LabServer, key: bytes, company_id: str, since: datetime, *folders: Folder) -> set[str]:
    """Identities of the messages that must be published: all that the Sent folders show since an instant."""
    return {
        identity(message, key, company_id)
        for folder in folders or (server.sent,)
        for message in server.visible(folder)
        if message.filed_at >= since and b"\\Draft" not in message.flags
    }


def identity(message: Message, key: bytes, company_id: str) -> str:
    """hash(message, Message-ID), or without one hash(content, Date ‖ From ‖ sorted To/Cc ‖ Subject ‖ size)."""
    head = message.raw.split(b"\r\n\r\n")[0].decode("utf-8", "surrogateescape")
    if match := re.search(r"^Message-ID: <([^>]*)>", head, re.M):
        return _hash(key, "message", company_id, match[1])
    fields = dict(line.split(": ", 1) for line in head.split("\r\n"))
    to = ",".join(sorted({fields["To"], *([fields["Cc"]] if "Cc" in fields else [])}))
    parts = [fields.get("Date", ""), fields["From"], to, fields["Subject"], str(len(message.raw))]
    return _hash(key, "content", company_id, "\x1f".join(part.strip() for part in parts))


def _hash(key: bytes, kind: str, company_id: str, value: str) -> str:
    text = f"{kind}\x1f{company_id}\x1f{value}".encode("utf-8", "surrogateescape")
    return hmac.digest(key, text, "sha256")[:16].hex()
