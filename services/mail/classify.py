"""The kind of a message, judged by its header: only `human` is a reply that counts everywhere.

The evidence and its order: an automatic sender says so (RFC 3834), a list says so (RFC 2369, 2919), a bounce is a
report (RFC 3462); subjects are the last resort (services.mail.subjects). X-Auto-Response-Suppress proves nothing: it asks
the receiver not to answer automatically, and CRM programs put it on mail that a person wrote.
"""

import re
from typing import Final

from services.common.events import Kind
from services.common.normal_forms import normalise_address
from services.common.quoting import COMMENT, zones
from services.mail.headers import Headers
from services.mail.subjects import mark_of

BULK_RECIPIENTS: Final = 20
_NO: Final = frozenset({"no", "false", "0", "off", "none", "never", "n", "disabled"})
_SIGNS: Final = re.compile("[-_.]")
"""What a mail system may write in its name: MAILER_DAEMON."""
_AUTOMATIC_PRECEDENCE: Final = frozenset({"auto_reply", "auto-reply", "autoreply"})


def classify(headers: Headers) -> tuple[Kind, str | None]:
    """(kind, reason): the reason is a code, never header text; None for `human`."""
    fields = headers.fields
    if any(keyword and keyword not in _NO for keyword in map(_keyword, fields.get("auto-submitted", ()))):
        return "automatic", "auto-submitted"
    if any(not _says_no(value) for name in ("x-autoreply", "x-autorespond") for value in fields.get(name, ())):
        return "automatic", "x-autoreply"
    precedence = _keyword(*fields.get("precedence", ())[:1])
    if precedence in _AUTOMATIC_PRECEDENCE:
        return "automatic", "precedence"
    if _keyword(*fields.get("content-type", ())[:1]) == "multipart/report":
        return "bounce", "multipart-report"
    if not headers.senders and "<>" in headers.from_text.replace(" ", ""):
        return "bounce", "empty-sender"
    if _is_from_a_mail_system(headers):
        return "bounce", "mail-system"
    if precedence in ("bulk", "list", "junk"):
        return "bulk", "precedence"
    recipients = {*headers.to, *headers.cc, *headers.bcc}
    if any(value.strip() for value in fields.get("list-id", ())):
        return "bulk", "list"
    # A CRM puts List-Unsubscribe on every mail, also on a person's answer to one buyer (docs/decisions/0038).
    is_answer_to_one = bool(headers.in_reply_to) and len({normalise_address(address) for address in recipients}) == 1
    if not is_answer_to_one and any(
        not _says_no(value) for value in fields.get("list-unsubscribe", ()) if value.strip()
    ):
        return "bulk", "list"
    if len(recipients) > BULK_RECIPIENTS:
        return "bulk", "many-recipients"
    mark = mark_of(headers.subject, is_reply=bool(headers.in_reply_to))
    return ("human", None) if mark is None else (mark, "subject")


def _says_no(value: str) -> bool:
    """Whether the value of a field denies what its name says: `X-Autoreply: no`. An empty value does not."""
    return value.partition(";")[0].partition("(")[0].strip(" \t\r\n\"'").lower() in _NO


def _is_from_a_mail_system(headers: Headers) -> bool:
    """Whether mailer-daemon wrote it; or postmaster, unless it is an answer: a person may have that address."""
    senders = headers.senders or (f"{headers.from_text}@localhost",)  # mailer-daemon without a domain
    names = {_SIGNS.sub("", (normalise_address(sender) or "").partition("@")[0]) for sender in senders}
    return "mailerdaemon" in names or ("postmaster" in names and not headers.in_reply_to)


def _keyword(value: str = "") -> str:
    """The keyword at the start of a field's value, in lower case, without comments and quotation marks."""
    text = value if "(" not in value else "".join(char for char, zone in zones(value) if zone != COMMENT)
    return "".join(text.partition(";")[0].lower().split()).strip("\"'")
