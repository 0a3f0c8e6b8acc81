"""The kind of a message, judged by its header: only `human` is a reply that counts everywhere.

The evidence and its order: an automatic sender says so (RFC 3834), a list says so (RFC 2369, 2919), a bounce is a
report (RFC 3462); subjects are the last resort, and only in answers. X-Auto-Response-Suppress proves nothing: it asks
the receiver not to answer automatically, and CRM programs put it on mail that a person wrote.
"""

import re
import unicodedata
from functools import cache
from typing import Final

from services.common.events import Kind
from services.common.tables import read_table
from services.mail.headers import Headers

BULK_RECIPIENTS: Final = 20
_PREFIX = re.compile(r"^\s*(?:\[[^\]]{0,64}\]\s*)?")


def classify(headers: Headers) -> tuple[Kind, str | None]:
    """(kind, reason): the reason is a code, never header text; None for `human`."""
    fields = headers.fields
    submitted = _keyword(fields.get("auto-submitted", ()))
    if submitted and submitted != "no":
        return "automatic", "auto-submitted"
    if "x-autoreply" in fields or "x-autorespond" in fields:
        return "automatic", "x-autoreply"
    precedence = _keyword(fields.get("precedence", ()))
    if precedence == "auto_reply":
        return "automatic", "precedence"
    if _keyword(fields.get("content-type", ())) == "multipart/report":
        return "bounce", "multipart-report"
    if headers.from_text.replace(" ", "") in ("<>",):
        return "bounce", "empty-sender"
    if precedence in ("bulk", "list", "junk"):
        return "bulk", "precedence"
    if "list-id" in fields or "list-unsubscribe" in fields:
        return "bulk", "list"
    if len({*headers.to, *headers.cc, *headers.bcc}) > BULK_RECIPIENTS:
        return "bulk", "many-recipients"
    subject = _PREFIX.sub("", unicodedata.normalize("NFKC", headers.subject), count=1).casefold().strip()
    forms = subject_forms()
    if headers.in_reply_to and subject.startswith(forms["automatic"]):
        return "automatic", "subject"
    if subject.startswith(forms["forward"]):
        return "forward", "subject"
    return "human", None


@cache
def subject_forms() -> dict[str, tuple[str, ...]]:
    """Prefixes of the subjects of automatic replies and of forwards (subjects.toml), normalised as subjects are."""
    data = read_table("services.mail", "subjects.toml")
    return {
        name: tuple(unicodedata.normalize("NFKC", form).casefold() for form in table["begins_with"])
        for name, table in data.items()
    }


def _keyword(values: tuple[str, ...]) -> str:
    """The keyword at the start of the first of a field's values, in lower case."""
    return values[0].partition(";")[0].partition("(")[0].strip().lower() if values else ""
