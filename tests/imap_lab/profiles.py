"""How mail providers behave, as data: one profile per family, and the defects that can be switched on in any of them.

The behaviour was read in public reports of mail clients and libraries; docs/providers.md names them. No figure or text
here comes from a provider's own server.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class Defect(StrEnum):
    """A fault that can be switched on in a server. F…: seen at providers; the others are hostile."""

    UNSAFE_LOGIN = "F1: EXAMINE is refused, even after ID"
    NO_UIDNEXT = "F2: no UIDNEXT and no UNSEEN in the answer to EXAMINE"
    SEARCH_EMPTY = "F4: a search for text finds nothing"
    SEARCH_ALL = "F4: a search for text finds everything"
    SEARCH_BAD = "F4: a search for text is BAD"
    SINCE_BAD = "F4: SINCE is BAD too"
    SINCE_EMPTY = "F4: SINCE finds nothing"
    SINCE_LATE = "F5: SINCE starts a day late"
    SINCE_EARLY = "F5: SINCE starts eight hours early"
    RANGE_EMPTY = "F6: UID n:* above the last one finds nothing"
    UIDVALIDITY_ZERO = "F7: UIDVALIDITY is 0"
    STATUS_EMPTY = "F8: STATUS answers an empty list"
    STALE = "F9: new mail is not seen before the folder is opened again"
    BARE_COPY = "F10: a second copy without Message-ID and Date"
    RAW_HEADERS = "F11: header lines in GB18030, without any encoding"
    NO_INTERNALDATE = "F12: no INTERNALDATE"
    ONE_DIGIT_DAY = "F12: INTERNALDATE with a day of one digit and no blank"
    OLD_INTERNALDATE = "F12: INTERNALDATE years before Date"
    AMBIGUOUS_LOGIN = "F13: LOGIN refused with a text that may mean anything"
    LOGIN_RATE = "F13: LOGIN refused for being too frequent"
    BYE_IN_LOGIN = "F13: BYE for too many connections, to LOGIN"
    CLOSED_IN_LOGIN = "the connection ends in the answer to LOGIN"
    PLAIN_BAD = "F14: AUTH=PLAIN is offered and BAD"
    LOGIN_DISABLED = "F14: LOGINDISABLED, XOAUTH2 alone"
    PLAIN_ALONE = "LOGINDISABLED, AUTH=PLAIN alone"
    LOGIN_MECHANISM_ALONE = "LOGINDISABLED, AUTH=LOGIN alone"
    NO_LOGIN_METHOD = "LOGINDISABLED, AUTH=CRAM-MD5 and AUTH=GSSAPI alone"
    IDLE_DROP = "F16: the connection is dropped when it idles"
    SILENT_ENABLE = "F18: no answer to ENABLE"
    LIMIT_IN_FETCH = "F19: NO [LIMIT] in the middle of the answer to FETCH"
    BYE_IN_FETCH = "F19: BYE in the middle of the answer to FETCH"
    UID_ORDER = "BAD to UIDs that do not ascend"
    ID_BAD = "ID is offered and BAD"
    NO_IN_FETCH = "NO to every FETCH, without a known text"
    REFUSED_MESSAGE = "NO to every FETCH that names one particular message"
    BYE_AT_MESSAGE = "BYE in the answer to every FETCH that names one particular message, and the session ends"
    EOF_AT_MESSAGE = "the session ends in the answer to every FETCH that names one particular message, without BYE"
    SILENT_AT_MESSAGE = "the answer to FETCH stops before one particular message, and the session stays open"
    SILENT_COMMAND = "no answer to any FETCH that names one particular message, and the session stays open"
    HUGE_MESSAGE = "a literal of 400 MB where the header of one particular message should be"
    BUSY_AT_MESSAGE = "BYE [UNAVAILABLE] in the answer to every FETCH that names one particular message"
    BROKEN_MESSAGE = "an answer to FETCH about one particular message that is not IMAP"

    HUGE_LITERAL = "a literal of 400 MB where a header should be"
    HUGE_LITERAL_EARLY = "a literal of 400 MB before LOGIN"
    ENDLESS_LIST = "a million LIST lines"
    ENDLESS_LINE = "a line that never ends"
    ENDLESS_EXISTS = "untagged answers to EXAMINE that never end"
    DRIP = "one byte, a pause, one byte"
    DRIP_ANSWER = "one byte, a pause, one byte, in the answer to the first command"
    DRIP_LITERAL = "a header one byte at a time"
    HALF_OPEN = "TCP is accepted, TLS never answered"
    SILENT = "no greeting"
    NO_IMAP = "HTTP instead of a greeting"
    CLOSED_EARLY = "the connection ends at the first command"
    GARBAGE = "an answer to FETCH that is not IMAP"
    DEEP_NESTING = "four thousand brackets in the answer to FETCH"
    WRONG_LITERAL_SIZE = "literals that are longer than announced"
    MISSING_CRLF = "the connection ends in the middle of a line"
    UNSOLICITED_FETCH = "answers about messages that were not requested"
    DUPLICATE_UID = "each message twice in the answer to FETCH"
    NEGATIVE_UID = "a UID below zero"
    HUGE_UID = "a UID of forty digits"
    HUGE_EXISTS = "EXISTS of 4,294,967,295"
    HUGE_UIDVALIDITY = "a UIDVALIDITY of forty digits"
    OK_WITHOUT_DATA = "OK to FETCH, and nothing before it"
    OK_WITHOUT_DATA_ONCE = "OK to the first FETCH of headers, and nothing before it"
    OMITTED_MESSAGE = "answers to FETCH that omit one particular message"
    FETCH_WITHOUT_UID = "answers to FETCH without UID"
    EMPTY_PARTIAL = "an empty literal for a part of a header"
    EMPTY_HEADER = "an empty literal for the header of one particular message"
    NIL_PARTIAL = "NIL for a part of a header"
    NIL_HEADERS = "NIL for every header"
    EMPTY_HEADERS = "an empty literal for every header"
    PREAUTH = "PREAUTH"
    BYE_GREETING = "BYE instead of a greeting, for maintenance"
    BARE_BYE_GREETING = "BYE instead of a greeting, without a text"
    LOGIN_LIMIT = "F13: LOGIN and AUTHENTICATE refused with [LIMIT] and words about authentication"
    SPLIT_SEARCH = "an answer to SEARCH in several lines, with an ESEARCH line between them"
    BLANKS_IN_SEARCH = "an answer to SEARCH with more blanks than one between numbers and at its ends"
    OPEN_RANGE_EMPTY = "UID n:* always finds nothing"
    OPEN_RANGE_BAD = "UID n:* is BAD"
    ALL_EMPTY = "every SEARCH finds nothing"
    NAMESPACE_BAD = "NAMESPACE is offered and BAD"
    EARLY_ANSWERS = "LIST and FETCH answers before LOGIN, as an injection would leave them"
    ECHO_PASSWORD = "the password in the text of a refusal"


@dataclass(frozen=True, slots=True)
class Profile:
    """One family of servers. Folder names are raw bytes as on the wire."""

    name: str
    domain: str
    """Domain of addresses: one of the provider directory where the provider is in it."""
    greeting: bytes
    capabilities: bytes
    """After LOGIN; before it SAVEDATE and the like may be missing, and nothing relies on them."""
    capabilities_before: bytes = b"IMAP4rev1"
    sent: bytes = b"Sent"
    sent_attributes: bytes = b"\\Sent"
    """Attributes of the Sent folder in LIST."""
    xlist_attributes: bytes = b""
    """The same in XLIST, where the server has it."""
    other_folders: tuple[tuple[bytes, bytes], ...] = ((b"", b"INBOX"), (b"\\Drafts", b"Drafts"), (b"\\Trash", b"Trash"))
    delimiter: bytes = b"/"
    namespaces: bytes = b'(("" "/")) NIL NIL'
    """The answer to NAMESPACE, where it is among the capabilities."""
    uidvalidity: int = 1
    first_uid: int = 1
    id: Literal["required", "offered", "no"] = "no"
    wrong_password: bytes = b"NO [AUTHENTICATIONFAILED] Authentication failed."
    web_password: bytes | None = None
    """The refusal of the web password, where the secret must be another one."""
    visible_days: int | None = None
    visible_messages: int | None = None
    defects: frozenset[Defect] = field(default_factory=frozenset)


NETEASE = Profile(
    name="netease",
    domain="163.com",
    greeting=b"* OK Coremail System IMap Server Ready(163com[lab])",
    capabilities=b"IMAP4rev1 XLIST SPECIAL-USE ID STARTTLS XAPPLEPUSHSERVICE UIDPLUS X-CM-EXT-1 SASL-IR AUTH=XOAUTH2",
    capabilities_before=b"IMAP4rev1 XLIST SPECIAL-USE ID STARTTLS XAPPLEPUSHSERVICE UIDPLUS SASL-IR AUTH=XOAUTH2",
    sent=b"&XfJT0ZAB-",
    xlist_attributes=b"\\Sent",
    other_folders=(
        (b"", b"INBOX"),
        (b"\\Drafts", b"&g0l6P3ux-"),
        (b"\\Junk", b"&V4NXPpCuTvY-"),
        (b"\\Trash", b"&XfJSIJZk-"),
    ),
    uidvalidity=1,
    first_uid=1_390_000_001,
    id="required",
    wrong_password=b"NO LOGIN Login error or password error",
    defects=frozenset({Defect.NO_UIDNEXT, Defect.SEARCH_EMPTY, Defect.STATUS_EMPTY, Defect.SILENT_ENABLE}),
)

QQ = Profile(
    name="qq",
    domain="qq.com",
    greeting=b"* OK [CAPABILITY IMAP4 IMAP4rev1 ID AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2 NAMESPACE] QQMail XMIMAP4Server ready",
    capabilities=b"IMAP4 IMAP4rev1 XLIST MOVE IDLE XAPPLEPUSHSERVICE NAMESPACE CHILDREN ID UIDPLUS",
    capabilities_before=b"IMAP4 IMAP4rev1 ID AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2 NAMESPACE",
    sent=b"Sent Messages",
    sent_attributes=b"\\HasNoChildren",
    other_folders=(
        (b"\\NoSelect \\HasChildren", b"&UXZO1mWHTvZZOQ-"), (b"\\HasNoChildren", b"INBOX"), (b"\\HasNoChildren", b"Drafts"),
        (b"\\HasNoChildren", b"Deleted Messages"), (b"\\HasNoChildren", b"Junk"),
    ),
    uidvalidity=1_620_000_321,
    id="offered",
    wrong_password=(
        b"NO Login fail. Account is abnormal, service is not open, password is incorrect, login frequency limited, or system"
        b" is busy. More information at https://help.mail.qq.com/detail"
    ),
    web_password=b"NO LOGIN fail. Please using authorized code to login.",
    visible_days=30,
    defects=frozenset({Defect.SEARCH_ALL, Defect.PLAIN_BAD, Defect.STALE, Defect.UID_ORDER}),
)  # fmt: skip

EXMAIL = Profile(
    name="exmail",
    domain="firm-on-exmail.example",
    greeting=QQ.greeting,
    capabilities=QQ.capabilities,
    capabilities_before=QQ.capabilities_before,
    sent=QQ.sent,
    sent_attributes=QQ.sent_attributes,
    other_folders=QQ.other_folders,
    uidvalidity=1_620_000_322,
    id="offered",
    wrong_password=QQ.wrong_password,
    web_password=b"NO Please using weixin token to login.",
    defects=frozenset({Defect.SEARCH_ALL, Defect.PLAIN_BAD, Defect.UID_ORDER}),
)

ALIBABA = Profile(
    name="alibaba",
    domain="aliyun.com",
    greeting=b"* OK AliYun IMAP Server Ready(10.0.0.1)",
    capabilities=b"IMAP4rev1 IDLE XLIST UIDPLUS ID SASL-IR AUTH=XOAUTH AUTH=EXTERNAL",
    capabilities_before=b"IMAP4rev1 IDLE XLIST UIDPLUS ID SASL-IR AUTH=XOAUTH AUTH=EXTERNAL",
    sent=b"&XfJT0ZAB-1",  # no known name: only XLIST shows that it is the Sent folder
    sent_attributes=b"",
    xlist_attributes=b"\\Sent",
    other_folders=((b"", b"INBOX"), (b"", b"&g0l6P3ux-"), (b"", b"&XfJSIJZk-")),
    uidvalidity=2,
    id="offered",
    wrong_password=b"NO LOGIN failure",
    defects=frozenset({Defect.SEARCH_BAD, Defect.SINCE_EARLY}),
)

GMAIL = Profile(
    name="gmail",
    domain="gmail.com",
    greeting=b"* OK Gimap ready for requests from 127.0.0.1 lab",
    capabilities=(
        b"IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 UIDPLUS COMPRESS=DEFLATE ENABLE MOVE CONDSTORE"
        b" ESEARCH UTF8=ACCEPT LIST-EXTENDED LIST-STATUS LITERAL- SPECIAL-USE APPENDLIMIT=35651584"
    ),
    capabilities_before=b"IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 XYZZY SASL-IR AUTH=XOAUTH2 AUTH=OAUTHBEARER AUTH=PLAIN",
    sent=b"[Gmail]/&XfJT0ZCuTvY-",
    sent_attributes=b"\\HasNoChildren \\Sent",
    other_folders=(
        (b"\\HasNoChildren", b"INBOX"), (b"\\HasChildren \\Noselect", b"[Gmail]"), (b"\\All \\HasNoChildren", b"[Gmail]/All"),
        (b"\\HasNoChildren", b"Sent to clients"),
    ),
    uidvalidity=11,
    id="offered",
    wrong_password=b"NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)",
    web_password=b"NO [ALERT] Application-specific password required: https://support.google.com/accounts/answer/185833 (Failure)",
)  # fmt: skip

YAHOO = Profile(
    name="yahoo",
    domain="yahoo.com",
    greeting=b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=XOAUTH2 ID MOVE NAMESPACE] IMAP4rev1 Hello",
    capabilities=b"IMAP4rev1 ID MOVE NAMESPACE XYMHIGHESTMODSEQ UIDPLUS LITERAL+ CHILDREN UNSELECT OBJECTID MESSAGELIMIT=1000",
    capabilities_before=b"IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=XOAUTH2 ID MOVE NAMESPACE",
    sent_attributes=b"\\Sent \\HasNoChildren",
    other_folders=((b"\\HasNoChildren", b"Inbox"), (b"\\Drafts", b"Draft"), (b"\\Junk", b"Bulk")),
    uidvalidity=1_500_000_000,
    id="offered",
    wrong_password=b"NO [AUTHENTICATIONFAILED] LOGIN Invalid credentials",
    visible_messages=10_000,
    defects=frozenset({Defect.RANGE_EMPTY}),
)

OUTLOOK = Profile(
    name="outlook",
    domain="outlook.com",
    greeting=b"* OK The Microsoft Exchange IMAP4 service is ready. [bABhAGIA]",
    capabilities=b"IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+",
    capabilities_before=b"IMAP4 IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2 SASL-IR UIDPLUS ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+",
    sent=b"&XfJT0ZABkK5O9g-",
    sent_attributes=b"\\HasNoChildren \\Sent",
    other_folders=(
        (b"\\HasNoChildren", b"INBOX"),
        (b"\\HasNoChildren", b"&U9FO9nux-"),
        (b"\\HasNoChildren \\Trash", b"Deleted"),
    ),
    uidvalidity=14,
    id="offered",
    wrong_password=b"NO Basic authentication is disabled.",
    defects=frozenset({Defect.LOGIN_DISABLED}),
)

SINA = Profile(
    name="sina",
    domain="sina.com",
    greeting=b"* OK IMAP4 ready",
    capabilities=b"IMAP4rev1 IDLE UIDPLUS AUTH=PLAIN AUTH=LOGIN",
    capabilities_before=b"IMAP4rev1 AUTH=PLAIN AUTH=LOGIN",
    sent=b"&XfJT0ZAB-",
    sent_attributes=b"\\HasNoChildren",
    other_folders=((b"", b"INBOX"), (b"", b"&g0l6P3ux-")),
    uidvalidity=1_400_000_000,
    wrong_password=b"NO LOGIN failed",
    defects=frozenset({Defect.PLAIN_BAD}),
)

GODADDY = Profile(
    name="godaddy",
    domain="firm-on-godaddy.example",
    greeting=b"* OK IMAP4 server ready",
    capabilities=b"IMAP4rev1 CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT IDLE",
    sent=b"INBOX.Sent Items",
    sent_attributes=b"\\HasNoChildren",
    other_folders=((b"\\HasChildren", b"INBOX"), (b"", b"INBOX.Drafts"), (b"", b"INBOX.Trash")),
    delimiter=b".",
    namespaces=b'(("INBOX." ".")) NIL NIL',
    uidvalidity=1_190_000_000,
    wrong_password=b"NO Login failed.",
)

DOVECOT = Profile(
    name="dovecot",
    domain="own-server.example",
    greeting=b"* OK [CAPABILITY IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ AUTH=PLAIN] Dovecot ready.",
    capabilities=(
        b"IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE SORT THREAD=REFERENCES MULTIAPPEND UNSELECT CHILDREN NAMESPACE UIDPLUS"
        b" LIST-EXTENDED I18NLEVEL=1 CONDSTORE QRESYNC ESEARCH ESORT SEARCHRES WITHIN CONTEXT=SEARCH LIST-STATUS BINARY MOVE"
        b" SPECIAL-USE SAVEDATE"
    ),
    capabilities_before=b"IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ AUTH=PLAIN",
    uidvalidity=1_600_000_000,
    id="offered",
)

PROFILES = {
    profile.name: profile for profile in (NETEASE, QQ, EXMAIL, ALIBABA, GMAIL, YAHOO, OUTLOOK, SINA, GODADDY, DOVECOT)
}
