"""The demo world's mail: its text and its bytes, as real clients leave them in a Sent folder.

Pure. Header names, encodings and folder habits follow what Foxmail, Outlook, web mail and
CRM programs do; people and companies are invented and live under reserved domains.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.header import Header
from email.utils import format_datetime

from services.common.events import Kind

CHINA = timezone(timedelta(hours=8))

REPLY_SUBJECTS = (
    "Re: Inquiry about {product}",
    "RE: {product} - price and MOQ",
    "Re: Quotation for {product}",
    "回复: 询盘 {product}",
    "回复：关于{product}的报价",
    "Re: [Inquiry {number}] {product}",
    "答复: {product} 样品",
    "Quotation {number} - {product}",
)
OTHER_SUBJECTS = (
    "Purchase order {number}",
    "订单确认 {number}",
    "Meeting on Thursday",
    "物流安排 {number}",
    "Packing list {number}",
    "采购合同 {product}",
)
NEWSLETTER_SUBJECTS = (
    "New arrivals: {product}",
    "新品上市 {product}",
    "Canton Fair invitation - {product}",
    "Price list Q4",
)
AUTOMATIC_SUBJECTS = (
    "Automatic reply: Inquiry about {product}",
    "自动回复: 询盘 {product}",
    "Out of Office: {product}",
)
FORWARD_SUBJECTS = ("Fwd: Inquiry about {product}", "转发: 询盘 {product}", "FW: {product}")
AGENTS = (
    "Foxmail 7.2.25.331[cn]",
    "Microsoft Outlook 16.0",
    "Coremail Webmail Server Version 2024",
    "Apple Mail (2.3774)",
)


@dataclass(frozen=True, slots=True)
class MailText:
    """One message before it is bytes. Ids without angle brackets; `date` is what the client writes."""

    sender: str
    to: tuple[str, ...]
    subject: str
    date: datetime
    message_id: str | None
    kind: Kind = "human"
    cc: tuple[str, ...] = ()
    in_reply_to: str | None = None
    references: tuple[str, ...] = ()
    automatic_by: str = "header"
    bulk_by: str = "list"
    agent: str = AGENTS[0]
    extra: Sequence[tuple[str, str]] = field(default=())

    def render(self) -> bytes:
        """The whole message, CRLF line ends, header and a short body."""
        lines = [
            f"From: {_name(self.sender)} <{self.sender}>" if self.kind != "bounce" else "From: <>",
            "To: " + ", ".join(f"<{address}>" for address in self.to),
        ]
        if self.cc:
            lines.append("Cc: " + ", ".join(self.cc))
        lines.append("Subject: " + _encoded(self.subject))
        lines.append("Date: " + format_datetime(self.date.astimezone(CHINA)))
        if self.message_id:
            lines.append(f"Message-ID: <{self.message_id}>")
        if self.in_reply_to:
            lines.append(f"In-Reply-To: <{self.in_reply_to}>")
        if self.references:
            lines.append("References: " + "\r\n ".join(f"<{reference}>" for reference in self.references))
        lines += [f"{name}: {value}" for name, value in (*self._marks(), *self.extra)]
        lines += [f"X-Mailer: {self.agent}", "MIME-Version: 1.0"]
        body = "Dear friend,\r\n\r\nThank you for your inquiry, please find our offer below.\r\n\r\nBest regards\r\n"
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("utf-8")

    def _marks(self) -> list[tuple[str, str]]:
        """The header lines that show the kind of the message."""
        plain = ("Content-Type", "text/plain; charset=utf-8")
        if self.kind == "automatic":
            if self.automatic_by == "subject":
                return [plain]
            return [("Auto-Submitted", "auto-replied"), ("X-Autoreply", "yes"), plain]
        if self.kind == "bulk":
            if self.bulk_by == "precedence":
                return [("Precedence", "bulk"), plain]
            return [("List-Unsubscribe", "<https://news.example/u>"), ("List-Id", "<news.example>"), plain]
        if self.kind == "bounce":
            return [("Content-Type", 'multipart/report; report-type=delivery-status; boundary="=b"')]
        return [plain]


def _encoded(text: str) -> str:
    """A subject as header text: ASCII unchanged, anything else as RFC 2047 words."""
    try:
        text.encode("ascii")
        return text
    except UnicodeEncodeError:
        return Header(text, "utf-8", header_name="Subject").encode(linesep="\r\n")


def _name(address: str) -> str:
    return _encoded("张伟") if address.startswith("zhang") else address.split("@", 1)[0].replace(".", " ").title()
