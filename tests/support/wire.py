"""Every command that may be sent to a mail server (imap.md §1): no body, no SELECT, no STORE, no search for text."""

import re

HEADERS = (
    "MESSAGE-ID", "IN-REPLY-TO", "REFERENCES", "DATE", "FROM", "TO", "CC", "BCC", "SUBJECT", "AUTO-SUBMITTED", "PRECEDENCE",
    "LIST-ID", "LIST-UNSUBSCRIBE", "X-AUTOREPLY", "X-AUTORESPOND", "X-AUTO-RESPONSE-SUPPRESS", "CONTENT-TYPE",
)  # fmt: skip
"""The header fields that may be fetched; docs/privacy.md lists the same."""
_FIELDS = " ".join(HEADERS).encode()
WITHOUT_CONSENT = (
    rb"STARTTLS", rb"CAPABILITY", rb"AUTHENTICATE (XOAUTH2|OAUTHBEARER|PLAIN|LOGIN)", rb'LOGIN "[^"]*" "[^"]*"', rb"ID \(.*\)", rb'LIST "" "\*"( RETURN \(SPECIAL-USE\))?', rb'XLIST "" "\*"', rb"NAMESPACE",
    rb'EXAMINE "[^"]*"', rb"UID SEARCH (ALL|\d+:\d+|(\d+:\d+ )?SINCE \d+-[A-Z][a-z]{2}-\d{4}|UID \d+:(\d+|\*))",
    rb"UID FETCH [0-9,]+ \(UID INTERNALDATE\)", rb"LOGOUT",
)  # fmt: skip
"""The commands of a connection test: none that reads a message."""
ALLOWED = (
    *WITHOUT_CONSENT,
    rb"UID FETCH [0-9,]+ \(UID INTERNALDATE RFC822\.SIZE FLAGS BODY\.PEEK\[HEADER\.FIELDS \("
    + re.escape(_FIELDS) + rb"\)\](<0\.32768>)?( SAVEDATE)?\)",
)  # fmt: skip


def allowed(command: bytes, *, consented: bool = True) -> bool:
    """Whether a command, without its tag, is allowed; before consent only those that read no header."""
    return any(re.fullmatch(form, command) for form in (ALLOWED if consented else WITHOUT_CONSENT))
