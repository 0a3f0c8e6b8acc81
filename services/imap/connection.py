"""What the fetcher says to a mail server, and nothing else: CAPABILITY, LOGIN or AUTHENTICATE, ID, LIST, XLIST, EXAMINE, UID SEARCH,
UID FETCH of headers (of times alone before anybody consented), LOGOUT. Folders are opened read-only, bodies are never asked for; a test records the wire.

Providers differ; what is known shaped this file (RFC sections in brackets):
- ID goes out after LOGIN and before the first EXAMINE whenever it is advertised (RFC 2971): NetEase answers EXAMINE
  with "Unsafe Login" otherwise.
- RETURN (SPECIAL-USE) is asked only where LIST-EXTENDED is advertised (RFC 6154 §3, RFC 5258).
- A search answer is one line. Large folders are walked in windows of sequence numbers, so that the line stays short.
- imapclient 4.1 takes lists of UIDs for FETCH, not ranges; folder names stay raw bytes (RFC 3501 §5.1.3).
"""

import imaplib
import json
import re
import ssl
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib import resources
from typing import Any, Final

from imapclient import exceptions, imap_utf7
from imapclient.response_parser import parse_fetch_response

from services.imap.session import (
    BoundedClient,
    CommandRefused,
    Endpoint,
    LoginRefused,
    LoginUnclear,
    MailboxError,
    NoSentFolder,
    ServerBroken,
    SessionLimitReached,
    SessionLimits,
    Throttled,
    Unreachable,
)
from services.mail import headers
from services.mail.values import FetchedHeader, FolderView
from services.providers import server_texts

HEADER_FIELDS: Final = " ".join(headers.FETCHED).upper()
ITEMS: Final = ("UID", "INTERNALDATE", "RFC822.SIZE", "FLAGS", f"BODY.PEEK[HEADER.FIELDS ({HEADER_FIELDS})]<0.32768>")
TIMES: Final = ("UID", "INTERNALDATE")
"""What a connection test asks of a message: it may be made before the owner of the mailbox consents to anything."""
WINDOW: Final = 5_000
"""Messages per search: 5,000 UIDs of 10 digits and a blank are 55 KB, under the 64 KiB of a line."""
CHUNK: Final = 200
"""Messages per FETCH: as many headers of 32 KiB as fit into a session's 8 MiB, and a command line under 8,000 octets."""
HIGHEST: Final = 2**32 - 1
"""The largest number of the protocol (RFC 3501 §9, `number`): a UID, a UIDVALIDITY, a count of messages."""
OTHERS: Final = 5
"""Folders that are only counted: a server's list is hostile until shown otherwise."""


NOT_THE_TOKEN: Final = ("imap-off", "unsafe-login")
"""Refusals that a fresh token does not change and that say more than that it was refused."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder as it is listed: its raw name, its attributes in lower case."""

    name: bytes
    flags: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class SentFolder:
    """A folder that holds sent mail: its raw name, and how it was found."""

    name: bytes
    found_by: str


class _Bearer:
    """What is said in AUTHENTICATE: the token, then nothing to the error that a server explains, then the end."""

    def __init__(self, mechanism: str, user: str, token: str, host: str, port: int) -> None:
        if mechanism == "XOAUTH2":
            text, self._end = f"user={user}\x01auth=Bearer {token}\x01\x01", b""
        else:
            name = user.replace("=", "=3D").replace(",", "=2C")
            text = f"n,a={name},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01"
            self._end = b"\x01"
        self._first = text.encode()
        self._said = 0
        self.status = ""
        """The status of the explained error: digits, or nothing."""

    @property
    def later(self) -> bool:
        """Whether the server is in trouble, and not the token."""
        return self.status.startswith("5") or self.status == "429"

    def __call__(self, challenge: bytes) -> bytes | None:
        self._said += 1
        if self._said == 1:
            return self._first
        if self._said > 2:
            return None
        try:
            status = str(json.loads(challenge)["status"])
        except (ValueError, TypeError, KeyError, RecursionError):
            status = ""
        self.status = status if re.fullmatch(r"[0-9]{3}", status) else ""
        return self._end


class Connection:
    """One session with one mailbox. Not to be shared by threads."""

    def __init__(
        self, client: BoundedClient, budgets: SessionLimits, reached: Callable[[str], None] = lambda _: None
    ) -> None:
        self._client = client
        self._budgets = budgets
        self._reached = reached
        self._capabilities: frozenset[str] = frozenset()

    def login(self, user: str, password: str, version: str) -> None:
        """LOGIN, then ID where it is advertised. LoginRefused, Throttled, …"""
        _check_argument("login", user)
        _check_argument("login", password)
        if "LOGINDISABLED" in self._client._imap.capabilities:
            # Not asked at all: the secret does not go to a server that takes none (RFC 3501 §7.2.1).
            raise LoginRefused("login", "the server advertises LOGINDISABLED", code="oauth2-needed")
        with _translated("login"):
            # imaplib sends the user name as it is and encodes ASCII; both would be wrong for names with blanks or accents.
            self._client._imap._encoding = "utf-8"
            quoted = '"' + user.replace("\\", "\\\\").replace('"', '\\"') + '"'
            try:
                self._client.login(quoted, password)
            except exceptions.LoginError as error:
                # The server's own words may repeat the user name: they are not passed on.
                refusal = _refusal("login", error)
                # imapclient calls a connection that broke a refusal too; it says nothing about user and password.
                if isinstance(error.__context__, imaplib.IMAP4.abort) and not isinstance(refusal, Throttled):
                    raise Unreachable("login", "the server closed the connection") from None
                raise refusal or LoginRefused("login") from None
        self._logged_in(version)

    def login_with_token(self, user: str, token: str, version: str) -> None:
        """AUTHENTICATE with an access token, then as `login`: OAUTHBEARER (RFC 7628) where it is advertised, else XOAUTH2.

        LoginRefused (`oauth2-login-refused`, `oauth2-not-offered`), Throttled, … The session can be used for another try.
        """
        _check_argument("login", user)
        offered = {str(name).upper() for name in self._client._imap.capabilities}
        mechanism = next((name for name in ("OAUTHBEARER", "XOAUTH2") if f"AUTH={name}" in offered), None)
        if mechanism is None:
            raise LoginRefused("login", "neither XOAUTH2 nor OAUTHBEARER is advertised", code="oauth2-not-offered")
        says = _Bearer(mechanism, user, token, self._client._imap.host, self._client._imap.port)
        with _translated("login"):
            try:
                self._client._imap.authenticate(mechanism, says)
            except imaplib.IMAP4.abort:
                raise
            except imaplib.IMAP4.error as error:
                refusal = _refusal("login", error)
                if says.later and not isinstance(refusal, LoginRefused):
                    raise refusal or Throttled("login") from None
                if isinstance(refusal, Throttled | LoginUnclear) or (
                    refusal is not None and refusal.code in NOT_THE_TOKEN
                ):
                    raise refusal from None
                raise LoginRefused("login", says.status, code="oauth2-login-refused") from None
        self._logged_in(version)

    def _logged_in(self, version: str) -> None:
        """What follows every login: the capabilities of now, and ID where it is advertised."""
        # What was said before the login answers nothing that we ask: imaplib would take a LIST line of then for one of now.
        self._client._imap.untagged_responses.clear()
        with _translated("capability"):
            self._client._cached_capabilities = None
            self._capabilities = frozenset(
                name.decode("ascii", "replace").upper() for name in self._client.capabilities()
            )
        if "ID" in self._capabilities:
            self._reached("id")
            with _translated("id"):
                try:
                    self._client.id_({"name": "replyrate", "version": version, "vendor": "replyrate"})
                except imaplib.IMAP4.abort:
                    raise
                except exceptions.IMAPClientError:
                    pass  # it was told; whoever needs it and did not understand it says so at EXAMINE

    @property
    def save_dates(self) -> bool:
        """Whether the server tells when a message was filed (RFC 8514)."""
        return "SAVEDATE" in self._capabilities

    def sent_folders(
        self, override: Sequence[bytes] | None = None, listed: Sequence[Folder] | None = None
    ) -> list[SentFolder]:
        """The Sent folders: the operator's choice, else all with \\Sent (LIST, else XLIST) and all with a known name.

        Both, because a mail program that did not find the server's folder makes its own and files there (docs/decisions,
        "Sent folders together"). `listed`: what `list_folders` said, if it was asked. NoSentFolder.
        """
        if override:
            return [SentFolder(name, "override") for name in override]
        folders = self.list_folders() if listed is None else listed
        chosen = {folder.name: "special-use" for folder in folders if b"\\sent" in folder.flags}
        if not chosen and "XLIST" in self._capabilities:
            with _translated("list"):
                special = self._client.xlist_folders("", "*")
            chosen = {
                _raw(name): "xlist" for flags, _, name in special if b"\\sent" in {flag.lower() for flag in flags}
            }
        for folder in folders:
            if not folder.flags & {b"\\noselect", b"\\nonexistent"} and is_sent_name(folder.name):
                chosen.setdefault(folder.name, "name")
        if not chosen:
            raise NoSentFolder("sent", f"{len(folders)} folders, none of them holds sent mail by attribute or name")
        return [SentFolder(name, found_by) for name, found_by in sorted(chosen.items())]

    def other_sent_folders(self, watched: Sequence[bytes]) -> list[bytes]:
        """Folders for sent mail by attribute or name that are not among `watched`; few at most."""
        others = {
            folder.name
            for folder in self.list_folders()
            if not folder.flags & {b"\\noselect", b"\\nonexistent"}
            and (b"\\sent" in folder.flags or is_sent_name(folder.name))
            and folder.name not in watched
        }
        return sorted(others)[:OTHERS]

    def examine(self, folder: bytes) -> FolderView:
        """Open a folder read-only."""
        _check_argument("examine", folder.decode("latin-1"))
        with _translated("examine"):
            answer = self._client.select_folder(folder.decode("latin-1"), readonly=True)
            return FolderView(
                uidvalidity=_number("examine", answer.get(b"UIDVALIDITY") or 0),
                uidnext=_number("examine", answer[b"UIDNEXT"]) if answer.get(b"UIDNEXT") else None,
                messages=_number("examine", answer.get(b"EXISTS") or 0),
            )

    def search_from(self, low: int) -> list[int]:
        """UIDs from `low` on, ascending. One round trip; BudgetSpent when the answer is too long for one line."""
        with _translated("search"):
            # `UID 9:*` names the last message even when its UID is lower (RFC 3501 §6.4.8).
            return sorted(uid for uid in _uids(self._client.search(["UID", f"{low}:*"])) if uid >= low)

    def search_window(self, view: FolderView, first: int, last: int, since: date | None) -> list[int]:
        """UIDs of the messages with sequence numbers `first` to `last`, of those filed on `since` or later.

        When that is the whole folder no numbers are sent: some servers (pymap) take them for UIDs.
        """
        whole = first == 1 and last >= view.messages
        window = ["ALL"] if whole else [f"{first}:{last}"]
        with _translated("search"):
            if since is not None:
                try:
                    return sorted(_uids(self._client.search(["SINCE", since] if whole else [*window, "SINCE", since])))
                except exceptions.IMAPClientError:
                    pass  # some servers know no SINCE; the times of each message are looked at later anyway
            return sorted(_uids(self._client.search(window)))

    def fetch_headers(self, uids: Sequence[int]) -> list[FetchedHeader]:
        """Headers of `uids`, in their order; those that are gone are missing. ServerBroken when the answer is none."""
        items = [*ITEMS, *(["SAVEDATE"] if self.save_dates else [])]
        with _translated("fetch"):
            # Ascending: QQ calls a list that descends invalid.
            data = [part for part in self._client.fetch_raw(sorted(uids), items) if not _is_news(part, b"BODY[")]
            found = _fixed(data)
            if found is None:
                answer = parse_fetch_response(data, normalise_times=False)
                found = {uid: _found(uid, answer[uid]) for uid in uids if uid in answer}
            return [found[uid] for uid in uids if uid in found]

    def fetch_times(self, uids: Sequence[int]) -> dict[int, datetime | None]:
        """When `uids` were filed, of those that are there; None where the server does not tell. No header is asked for."""
        with _translated("fetch"):
            data = self._client.fetch_raw(sorted(uids), TIMES)
            answer = parse_fetch_response(
                [part for part in data if not _is_news(part, b"BODY[", b"INTERNALDATE")], normalise_times=False
            )
            return {uid: _aware(answer[uid].get(b"INTERNALDATE")) for uid in uids if uid in answer}

    def logout(self) -> None:
        """Say goodbye if the server still listens."""
        try:
            self._client.logout()
        except (MailboxError, exceptions.IMAPClientError, imaplib.IMAP4.error, OSError, ssl.SSLError, ValueError):
            self.drop()

    def drop(self) -> None:
        """Close the socket without a word."""
        try:
            self._client.drop()
        except OSError:
            pass

    def list_folders(self) -> list[Folder]:
        """Every folder. BudgetSpent when there are too many."""
        with _translated("list"):
            imap = self._client._imap
            if {"LIST-EXTENDED", "SPECIAL-USE"} <= self._capabilities:
                kind, data = imap._simple_command("LIST", '""', '"*"', "RETURN (SPECIAL-USE)")
                if kind != "OK":
                    raise ServerBroken("list")
                kind, data = imap._untagged_response(kind, data, "LIST")
                listed = self._client._proc_folder_list(data)
            else:
                listed = self._client.list_folders("", "*")
        if len(listed) > self._budgets.folders:
            raise SessionLimitReached("list", f"more than {self._budgets.folders} folders")
        return [Folder(_raw(name), frozenset(flag.lower() for flag in flags)) for flags, _, name in listed]


def connect(
    endpoint: Endpoint,
    context: ssl.SSLContext,
    budgets: SessionLimits,
    *,
    record: Callable[[bytes], None] | None = None,
    reached: Callable[[str], None] = lambda _: None,
) -> Connection:
    """A connection with verified TLS whose greeting was read. Unreachable, TlsFailed, Throttled, ServerBroken."""
    with _translated("greeting"):
        client = BoundedClient(endpoint, context, budgets, record=record, reached=reached)
        if client._imap.state != "NONAUTH":
            client.drop()
            raise ServerBroken("greeting", "somebody is logged in already (PREAUTH)")
        return Connection(client, budgets, reached)


@contextmanager
def _translated(stage: str) -> Iterator[None]:
    """Errors of the libraries as ours. What a server wrote stays out of ours: it may hold names."""
    try:
        yield
    except MailboxError as error:
        error.stage = stage if error.stage in ("read", "send") else error.stage
        raise
    except exceptions.ProtocolError:
        raise ServerBroken(stage, "an answer that cannot be parsed") from None
    except imaplib.IMAP4.abort as error:
        if "unexpected" in str(error)[:40]:  # imaplib: "unexpected response", "unexpected tagged response"
            raise ServerBroken(stage, "an answer that is no IMAP") from None
        raise _refusal(stage, error) or Unreachable(stage, "the server closed the connection") from None
    except (exceptions.IMAPClientError, imaplib.IMAP4.error) as error:
        raise _refusal(stage, error) or CommandRefused(stage, "the server refused the command") from None
    except TimeoutError:
        raise SessionLimitReached(stage, "the server answers too slowly") from None
    except OSError as error:
        raise Unreachable(stage, type(error).__name__) from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, RecursionError, OverflowError):
        # imapclient's parser raises these on answers that are no IMAP.
        raise ServerBroken(stage, "an answer that cannot be parsed") from None


def _refusal(stage: str, error: Exception) -> MailboxError | None:
    """What the server's words mean, as an error of ours without them; None when they say nothing known."""
    found = server_texts.meaning(stage, str(error))
    if found is None:
        return None
    if found.kind == "later":
        return Throttled(stage, code=found.code)
    return LoginUnclear(stage, code=found.code) if found.kind == "unclear" else LoginRefused(stage, code=found.code)


def is_sent_name(name: bytes) -> bool:
    """Whether the last part of a raw folder name is a known name for sent mail, in any of many languages."""
    last = re.split(r"[/.\\]", unicodedata.normalize("NFKC", folder_text(name)).casefold().strip())[-1].strip()
    return last in _sent_names()


def folder_text(name: bytes) -> str:
    """A raw folder name for people: modified UTF-7 decoded, control characters blotted out."""
    try:
        # Some servers list plain UTF-8, of which the library would make Latin letters.
        text = str(imap_utf7.decode(name)) if name.isascii() else name.decode("utf-8", "replace")
    except Exception:  # not modified UTF-7: what stands there
        text = name.decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def folder_name(text: str) -> bytes:
    """The raw name of a folder as a person types it: in modified UTF-7, as servers list it, unless it is that already."""
    raw = bytes(imap_utf7.encode(text))
    if not text.isascii():
        return raw
    try:
        return text.encode() if imap_utf7.encode(imap_utf7.decode(text.encode())) == text.encode() else raw
    except ValueError:  # an & that begins nothing: a part of the name
        return raw


@cache
def _sent_names() -> frozenset[str]:
    data = tomllib.loads(resources.files("services.providers").joinpath("sent_names.toml").read_text("utf-8"))
    return frozenset(unicodedata.normalize("NFKC", name).casefold() for name in data["names"])


def _number(stage: str, value: Any) -> int:
    """A number of the protocol. ServerBroken for one that is none: it would not fit into what we keep."""
    number = int(value)
    if not 0 <= number <= HIGHEST:
        raise ServerBroken(stage, "a number that the protocol does not have")
    return number


def _uids(answer: Any) -> set[int]:
    return {_number("search", uid) for uid in answer}


def _raw(name: Any) -> bytes:
    return name if isinstance(name, bytes) else str(name).encode("utf-8", "surrogateescape")


def _check_argument(stage: str, text: str) -> None:
    if any(char in text for char in "\r\n\0\x01"):
        raise LoginRefused(stage) if stage == "login" else ServerBroken(stage, "a name with a line break")


_ATTRIBUTE: Final = (
    rb'(?:UID \d{1,10}|RFC822\.SIZE \d{1,20}|FLAGS \([^()"\r\n]{0,4096}\)|INTERNALDATE "[^"\\\r\n]{20,30}"'
    rb'|SAVEDATE (?:NIL|"[^"\\\r\n]{20,30}"))'
)
_HEAD: Final = re.compile(
    rb"\d{1,10} \(((?:" + _ATTRIBUTE + rb" )*)BODY\[HEADER\.FIELDS \([^()]*\)\](?:<0>)? \{\d{1,10}\}", re.I
)
_TAIL: Final = re.compile(rb"((?: " + _ATTRIBUTE + rb")*)\)", re.I)
_VALUES: Final = re.compile(rb'([A-Z0-9.]+) (?:"([^"]*)"|\(([^()]*)\)|([^ ()"]+))', re.I)
_INSTANT: Final = re.compile(rb" ?(\d{1,2})-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"), 1
    )
}


def _is_news(part: Any, *asked: bytes) -> bool:
    """An answer about a message that carries nothing of what was asked: a server tells of flags that changed whenever it
    likes.

    Without a UID in it imapclient would take the sequence number for one, and those flags for another message's.
    """
    return (
        isinstance(part, bytes)
        and re.match(rb"\d{1,10} \(", part) is not None
        and not any(item in part.upper() for item in asked)
    )


def _fixed(data: Sequence[Any]) -> dict[int, FetchedHeader] | None:
    """Answers of the one form that servers give to our one FETCH, read without a lexer; None when any is another.

    imapclient's lexer looks at every character in Python, which costs more than all the rest of a scan; it still reads
    whatever is not exactly this: a literal where a string could stand, a second literal, news about other messages.
    """
    if len(data) % 2:
        return None
    found: dict[int, FetchedHeader] = {}
    for pair, rest in zip(data[::2], data[1::2], strict=True):
        if not isinstance(pair, tuple) or not isinstance(rest, bytes):
            return None
        line, header = pair
        before, behind = _HEAD.fullmatch(line), _TAIL.fullmatch(rest)
        if before is None or behind is None:
            return None
        values = {
            match[1].upper(): match[match.lastindex or 1]  # one of the three forms of a value
            for match in _VALUES.finditer(before[1] + behind[1])
        }
        internal, save = values.get(b"INTERNALDATE"), values.get(b"SAVEDATE", b"NIL")
        if b"UID" not in values or (uid := int(values[b"UID"])) in found:
            return None
        internal_date = None if internal is None else _instant(internal)
        if internal is not None and internal_date is None:
            return None
        found[uid] = FetchedHeader(
            uid=uid,
            internal_date=internal_date,
            save_date=None if save.upper() == b"NIL" else _instant(save),
            size=int(values.get(b"RFC822.SIZE", 0)),
            draft=b"\\draft" in values.get(b"FLAGS", b"").lower().split(),
            header=header,
        )
    return found


def _instant(text: bytes) -> datetime | None:
    """`date-time` of RFC 3501 as an instant in UTC; None when it is none."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        return None
    day, month, year, hour, minute, second, sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    try:
        at = datetime(int(year), _MONTHS[month.lower()], int(day), int(hour), int(minute), int(second), tzinfo=UTC)
        return at - offset if sign == b"+" else at + offset
    except (ValueError, KeyError, OverflowError):
        return None


def _found(uid: int, answer: Any) -> FetchedHeader:
    header = next((value for key, value in answer.items() if key.upper().startswith(b"BODY[")), None)
    if header is None:
        raise ServerBroken("fetch", "an answer without the header")
    flags = {flag.lower() for flag in answer.get(b"FLAGS", ()) if isinstance(flag, bytes)}
    return FetchedHeader(
        uid=uid,
        internal_date=_aware(answer.get(b"INTERNALDATE")),
        save_date=_aware(answer.get(b"SAVEDATE")),
        size=int(answer.get(b"RFC822.SIZE") or 0),
        draft=b"\\draft" in flags,
        header=header if isinstance(header, bytes) else b"",
    )


def _aware(value: Any) -> datetime | None:
    if isinstance(value, bytes):
        return _instant(value.strip())
    if not isinstance(value, datetime):
        return None
    try:
        return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)
    except OverflowError:
        return None
