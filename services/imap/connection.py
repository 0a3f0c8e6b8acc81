"""One session with a mail server: STARTTLS where a mailbox says so, CAPABILITY, LOGIN or AUTHENTICATE, ID, LIST, NAMESPACE, XLIST, EXAMINE, UID SEARCH, UID FETCH of headers
(of times alone before anybody consented), LOGOUT. Nothing else is ever sent: folders are opened read-only, bodies are never
requested; a test records the wire.

Providers differ; what is known shaped this file (RFC sections in brackets):
- ID goes out after LOGIN and before the first EXAMINE whenever it is advertised (RFC 2971): NetEase answers EXAMINE
  with "Unsafe Login" otherwise.
- RETURN (SPECIAL-USE) is sent only where LIST-EXTENDED is advertised (RFC 6154 §3, RFC 5258).
- A search answer is one line. Large folders are walked in windows of sequence numbers, so that the line stays short.
- imapclient 4.1.0 takes lists of UIDs for FETCH, not ranges; folder names stay raw bytes (RFC 3501 §5.1.3).

Relies on private names of imapclient 4.1.0 (`_imap`, `_cached_capabilities`, `_proc_folder_list`) and of imaplib
(`_simple_command`, `_untagged_response`, `_encoding`): neither has a public way to send LIST with RETURN, or a user name in
UTF-8.
"""

import imaplib
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from imapclient import exceptions
from imapclient.response_parser import parse_response

from services.imap import fetch_answers, folders, namespaces
from services.imap.errors import (
    MailboxError,
    ServerBroken,
    SessionLimitReached,
    Throttled,
    Unreachable,
)
from services.imap.folders import Folder, SentFolder
from services.imap.host_policy import Endpoint
from services.imap.limits import BoundedClient, SessionLimits
from services.imap.login import has_line_break, log_in, log_in_with_token
from services.imap.namespaces import Namespaces
from services.imap.tls_sessions import TlsSessions
from services.imap.translation import refusal, translated
from services.mail import headers
from services.mail.values import FetchedHeader, FolderView

HEADER_FIELDS: Final = " ".join(headers.FETCHED).upper()
ITEMS: Final = ("UID", "INTERNALDATE", "RFC822.SIZE", "FLAGS", f"BODY.PEEK[HEADER.FIELDS ({HEADER_FIELDS})]<0.32768>")
WHOLE_ITEMS: Final = tuple(name.removesuffix("<0.32768>") for name in ITEMS)
"""The same without a limit, for a few messages whose header was empty; a literal is limited by the session."""
ID_ITEMS: Final = (
    *ITEMS[:4],
    f"BODY.PEEK[HEADER.FIELDS ({' '.join(headers.LIMITED).upper()})]<0.{headers.MAX_IDS_BYTES}>",
)
"""The fields that name messages, where a header block was cut: a long References leaves no room for others, or for its newest ids."""
TIMES: Final = ("UID", "INTERNALDATE")
"""What a connection test requests of a message: it may run before the owner of the mailbox consents to anything."""
WINDOW: Final = 5_000
"""Messages per search: 5,000 UIDs of 10 digits and a blank are 55 KB, under the 64 KiB of a line."""
CHUNK: Final = 200
"""Messages per FETCH: as many headers of 32 KiB as fit into a session's 8 MiB, and a command line under 8,000 octets."""
MAX_NUMBER: Final = 2**32 - 1
"""The largest number of the protocol (RFC 3501 §9, `number`): a UID, a UIDVALIDITY, a count of messages."""


@dataclass(frozen=True, slots=True)
class FetchedPart:
    """Headers that arrived, and the error that ended the session before the answer was complete, if one did."""

    headers: list[FetchedHeader]
    ended_by: MailboxError | None = None


class Connection:
    """One session with one mailbox. Not to be shared by threads."""

    def __init__(
        self, client: BoundedClient, limits: SessionLimits, on_stage: Callable[[str], None] = lambda _: None
    ) -> None:
        self._client = client
        self._limits = limits
        self._on_stage = on_stage
        self._capabilities: frozenset[str] = frozenset()
        self._open_folder = b""

    def login(self, user: str, password: str, version: str) -> None:
        """LOGIN (AUTHENTICATE PLAIN or LOGIN where the command LOGIN is disabled), then ID where it is advertised. LoginRefused, Throttled, …"""
        self._before_login()
        log_in(self._client, user, password)
        self._after_login(version)

    def login_with_token(self, user: str, token: str, version: str) -> None:
        """AUTHENTICATE with an access token, then as `login`: OAUTHBEARER (RFC 7628) where it is advertised, else XOAUTH2.

        LoginRefused (`oauth2-login-refused`, `oauth2-not-offered`), Throttled, … The session can be used for another attempt.
        """
        self._before_login()
        log_in_with_token(self._client, user, token)
        self._after_login(version)

    def _before_login(self) -> None:
        """Forget answers from before the login: they belong to no command of ours, and imaplib would take an early LIST line for
        a later one."""
        self._client._imap.untagged_responses.clear()

    def _after_login(self, version: str) -> None:
        """The capabilities after login, and ID where it is advertised."""
        named = self._client._imap.named_capabilities
        self._client._imap.untagged_responses.clear()
        with translated("capability"):
            self._client._cached_capabilities = tuple(name.encode() for name in named) or None
            self._capabilities = frozenset(
                name.decode("ascii", "replace").upper() for name in self._client.capabilities()
            )
        if "ID" in self._capabilities:
            self._on_stage("id")
            with translated("id"):
                try:
                    self._client.id_({"name": "replyrate", "version": version, "vendor": "replyrate"})
                except imaplib.IMAP4.abort:
                    raise
                except exceptions.IMAPClientError:
                    pass  # it was sent; a server that needs it and did not understand it refuses EXAMINE

    @property
    def save_dates(self) -> bool:
        """Whether the server reports when a message was filed (RFC 8514)."""
        return "SAVEDATE" in self._capabilities

    def sent_folders(
        self, override: Sequence[bytes] | None = None, listed: Sequence[Folder] | None = None
    ) -> list[SentFolder]:
        """The Sent folders: the operator's choice, else all with \\Sent (LIST, else XLIST) and all with a known name.

        Without a choice only the owner's own folders count, and none below the trash. `listed`: the answer of `list_folders`,
        if it was called. NoSentFolder.
        """
        if override:
            if listed is None and any(folders.may_be_listed_otherwise(name) for name in override):
                listed = self.list_folders()
            return [SentFolder(folders.as_listed(name, listed or ()), "override") for name in override]
        listed = self.own_folders(self.list_folders() if listed is None else listed)
        has_attribute = bool(folders.with_sent_attribute(listed))
        by_xlist = self._list_sent_by_xlist() if not has_attribute and "XLIST" in self._capabilities else ()
        return folders.choose_sent_folders(listed, by_xlist)

    def own_folders(self, listed: Sequence[Folder]) -> list[Folder]:
        """Those of the listed folders that can be opened, are the owner's own, and are not below the trash."""
        return folders.readable(listed, self._namespaces())

    def other_sent_folders(self, watched: Sequence[bytes]) -> list[bytes]:
        """Folders for sent mail by attribute or name, and those below them, that are not among `watched`; at most five."""
        return folders.other_sent_folders(self.own_folders(self.list_folders()), watched)

    def _namespaces(self) -> Namespaces:
        """Whose folders are listed. Empty where the server does not offer NAMESPACE, or answers it in no known form."""
        if self._capabilities.isdisjoint(("NAMESPACE", "IMAP4REV2")):
            return Namespaces()
        try:
            with translated("list"):
                kind, data = self._client._imap.namespace()
                self._client._checkok("namespace", kind, data)
                return namespaces.from_answer(parse_response(data))
        except ServerBroken:
            return Namespaces()

    def list_folders(self) -> list[Folder]:
        """Every folder. SessionLimitReached when there are too many."""
        imap = self._client._imap
        with translated("list"):
            if {"LIST-EXTENDED", "SPECIAL-USE"} <= self._capabilities:
                kind, data = imap._simple_command("LIST", '""', '"*"', "RETURN (SPECIAL-USE)")
                if kind != "OK":
                    raise ServerBroken("list")
                kind, data = imap._untagged_response(kind, data, "LIST")
                listed = self._client._proc_folder_list(data)
            else:
                listed = self._client.list_folders("", "*")
        if len(listed) > self._limits.folders:
            raise SessionLimitReached("list", f"more than {self._limits.folders} folders")
        return [Folder(folders.raw_name(name), frozenset(flag.lower() for flag in flags)) for flags, _, name in listed]

    def _list_sent_by_xlist(self) -> list[bytes]:
        with translated("list"):
            listed = self._client.xlist_folders("", "*")
        return [folders.raw_name(name) for flags, _, name in listed if b"\\sent" in {flag.lower() for flag in flags}]

    def examine(self, folder: bytes) -> FolderView:
        """Open a folder read-only."""
        if has_line_break(folder.decode("latin-1")):
            raise ServerBroken("examine", "a name with a line break")
        with translated("examine"):
            # imaplib would encode the name, as ASCII or (after a login with a password) as UTF-8: plain UTF-8 that a server
            # listed must go back as the same bytes.
            name = folder.decode("latin-1")
            encoding, self._client._imap._encoding = self._client._imap._encoding, "latin-1"
            try:
                answer = self._client.select_folder(name, readonly=True)
            finally:
                self._client._imap._encoding = encoding
            self._open_folder = folder
            return FolderView(
                uidvalidity=_number("examine", answer.get(b"UIDVALIDITY") or 0),
                uidnext=_number("examine", answer[b"UIDNEXT"]) if answer.get(b"UIDNEXT") else None,
                messages=_number("examine", answer.get(b"EXISTS") or 0),
            )

    def search_from(self, low: int) -> list[int] | None:
        """UIDs from `low` on, ascending; None when the server names no message at all, or does not know such a search.

        One round trip; SessionLimitReached when the answer is too long for one line. `n:*` always names the last message, even
        when its UID is lower (RFC 3501 §6.4.8): None says nothing about a folder that is not empty.
        """
        with translated("search"):
            try:
                uids = _uids(self._client.search_uids(["UID", f"{low}:*"]))
            except imaplib.IMAP4.abort:
                raise
            except (exceptions.IMAPClientError, imaplib.IMAP4.error) as error:
                # Another form of search may be answered; a refusal with a meaning is not about the form.
                if isinstance(error, exceptions.ProtocolError) or refusal("search", error) is not None:
                    raise
                return None
            return sorted(uid for uid in uids if uid >= low) if uids else None

    def search_window(self, view: FolderView, first: int, last: int, since: date | None) -> list[int]:
        """UIDs of the messages with sequence numbers `first` to `last`, of those filed on `since` or later.

        When that is the whole folder no numbers are sent: some servers (pymap) take them for UIDs. ServerBroken when nothing is
        found without `since`: EXISTS says that there is something.
        """
        is_whole_folder = first == 1 and last >= view.messages
        window = ["ALL"] if is_whole_folder else [f"{first}:{last}"]
        with translated("search"):
            if since is not None:
                criteria = ["SINCE", since] if is_whole_folder else [*window, "SINCE", since]
                try:
                    return sorted(_uids(self._client.search_uids(criteria)))
                except exceptions.IMAPClientError:
                    pass  # some servers lack SINCE; the times of each message are checked later anyway
            uids = sorted(_uids(self._client.search_uids(window)))
            if not uids and not {"EXPUNGE", "VANISHED"} & self._client._imap.untagged_responses.keys():
                raise ServerBroken("search", "nothing is found in a folder that is not empty")
            return uids

    def fetch_headers(self, uids: Sequence[int]) -> list[FetchedHeader]:
        """Headers of `uids`, in their order; those that the answer omits are missing. ServerBroken for an answer without a header."""
        part = self.fetch_until_end(uids)
        if part.ended_by is not None:
            raise part.ended_by
        return part.headers

    def fetch_until_end(self, uids: Sequence[int], *, partial: bool = True) -> FetchedPart:
        """As `fetch_headers`; where the session ends before the answer is complete, what arrived until then.

        Without `partial` whole headers are requested: some servers send nothing when they are asked for a part.
        """
        items = [*(ITEMS if partial else WHOLE_ITEMS), *(["SAVEDATE"] if self.save_dates else [])]
        try:
            with translated("fetch"):
                # Ascending: QQ calls a list that descends invalid.
                answers = self._client.fetch_raw(sorted(uids), items)
                return FetchedPart(list(fetch_answers.parse_headers(answers, uids).values()))
        except (Unreachable, SessionLimitReached, Throttled) as error:
            if isinstance(error, Throttled) and not self._client.said_bye:
                raise
            ended_by = error
        self.drop()
        try:
            with translated("fetch"):
                arrived = fetch_answers.complete_answers(self._client.received_fetches)
                return FetchedPart(list(fetch_answers.parse_headers(arrived, uids).values()), ended_by)
        except ServerBroken:
            return FetchedPart([], ended_by)

    def fetch_ids(self, uid: int) -> bytes:
        """The fields of a message that name messages; empty when the answer omits it."""
        with translated("fetch"):
            answers = fetch_answers.parse_headers(self._client.fetch_raw([uid], ID_ITEMS), [uid])
            return b"".join(answer.header for answer in answers.values())

    def still_present(self, uids: Sequence[int]) -> list[int]:
        """Those of `uids` that a search in the open folder, opened again, still finds.

        A session may show messages that others have deleted until the folder is opened again.
        """
        self.examine(self._open_folder)
        with translated("search"):
            uids_found = _uids(self._client.search_uids(["UID", f"{min(uids)}:{max(uids)}"]))
        return sorted(uids_found.intersection(uids))

    def fetch_times(self, uids: Sequence[int]) -> dict[int, datetime | None]:
        """When `uids` were filed, of those that exist; None where the server does not report it. No header is requested."""
        with translated("fetch"):
            return fetch_answers.parse_times(self._client.fetch_raw(sorted(uids), TIMES), uids)

    def logout(self) -> None:
        """LOGOUT if the server still listens, and close."""
        try:
            self._client.logout()
        except (MailboxError, exceptions.IMAPClientError, imaplib.IMAP4.error, OSError, ssl.SSLError, ValueError):
            self.drop()

    def drop(self) -> None:
        """Close the socket without LOGOUT."""
        try:
            self._client.drop()
        except OSError:
            pass


def connect(
    endpoint: Endpoint,
    context: ssl.SSLContext,
    limits: SessionLimits,
    *,
    record: Callable[[bytes], None] | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
    tls_sessions: TlsSessions | None = None,
) -> Connection:
    """A connection with verified TLS whose greeting was read. Unreachable, TlsFailed, Throttled, ServerBroken.

    `tls_sessions`: of earlier connections, to be resumed.
    """
    with translated("greeting"):
        client = BoundedClient(endpoint, context, limits, record=record, on_stage=on_stage, tls_sessions=tls_sessions)
        if client._imap.state != "NONAUTH":
            client.drop()
            raise ServerBroken("greeting", "the server greets with PREAUTH: a session is logged in already")
        return Connection(client, limits, on_stage)


def _number(stage: str, value: Any) -> int:
    """A number of the protocol. ServerBroken for a larger or negative one: it would not fit into the registry's columns."""
    number = int(value)
    if not 0 <= number <= MAX_NUMBER:
        raise ServerBroken(stage, "a number that the protocol does not have")
    return number


def _uids(answer: Any) -> set[int]:
    return {_number("search", uid) for uid in answer}
