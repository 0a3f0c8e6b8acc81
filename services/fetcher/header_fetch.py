"""Fetching the headers of a batch around messages that the server cannot show.

An answer that cannot be parsed and a refused command are asked for again in halves until one message is left. So is a batch
whose FETCH ends the session (BYE, or the connection closes): a new session is opened for each half, and a message that ends
it alone twice is unreadable (a server with one damaged message file; Dovecot, Twisted). A refusal that may be temporary
makes no message unreadable: its UID is reported as refused, and a later poll asks again.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from services.fetcher.publication import FetchedBatch, Unreadable
from services.imap.connection import Connection
from services.imap.errors import CommandRefused, MailboxError, ServerBroken, TemporarilyRefused, Unreachable
from services.mail.values import FetchedHeader

CONTROL_MESSAGES: Final = 3
"""Messages read before that are fetched again, to distinguish a failing server from unreadable mail."""
REFUSED: Final = "the server refuses to show it"
REFUSED_REPEATEDLY: Final = "the server has refused to show it repeatedly, while it shows other messages"
UNPARSABLE: Final = "the server's answer cannot be parsed"
OMITTED: Final = "the server counts it and omits it from its answers"
EMPTY: Final = "its header is empty"
PATIENCE: Final = 3
"""Polls that fail in a row before a message that the server omits becomes a dead letter."""
MANY_EMPTY: Final = 3
EMPTY_SHARE: Final = 0.1
"""As many empty headers in a batch are a fault of the server and not of the messages."""
ENDS_SESSION: Final = "the server ends the session when it is asked for this message"
MAX_ENDED_IN_A_ROW: Final = 9
"""Sessions that may end one after the other before anything is read: halving 200 messages takes eight."""
MAX_TEMPORARY_IN_A_ROW: Final = 16
"""Temporary refusals one after the other before anything is read: more of them are a failing server."""

Reopen = Callable[[MailboxError], Connection]
"""A new session with the folder open again, or raises the error that ended the last one."""


def fetch_bisecting(
    connection: Connection,
    uidvalidity: int,
    uids: Sequence[int],
    control: Sequence[int],
    *,
    reopen: Reopen | None = None,
    final: Collection[int] = (),
    failures: int = 0,
) -> FetchedBatch:
    """Headers of `uids`. `final`: messages for which even a temporary refusal counts as final.

    Messages that the answer omits, and those whose header is empty, are asked for once more. If none of several messages can be
    read, or the only one is refused, messages that were read before (`control`) are asked for again. If they cannot be read
    either, the server is at fault and not the mail: ServerBroken (Unreachable when it ended the session), and no message is
    given up (docs/decisions/0015-witnesses.md). The same while messages are omitted in one of the first polls (`failures`: polls
    that failed in a row), and while many headers are empty.
    """
    fetch = _HeaderFetch(connection, reopen, final)
    headers, empty = _ask_for_empty(fetch, fetch.read(uids))
    answered = {header.uid for header in headers} | {message.uid for message in fetch.unreadable}
    answered |= {*empty, *fetch.refused}
    headers, omitted = _ask_for_omitted(fetch, headers, [uid for uid in uids if uid not in answered])
    if omitted and failures < PATIENCE:
        raise ServerBroken("fetch", "messages that the server still counts are missing in its answers")
    if len(empty) >= MANY_EMPTY and len(empty) > len(uids) * EMPTY_SHARE:
        raise ServerBroken("fetch", "many headers are empty")
    unreadable = [
        *fetch.unreadable,
        *(Unreadable(uid, OMITTED) for uid in omitted),
        *(Unreadable(uid, EMPTY) for uid in empty),
    ]
    unparsable_alone = len(unreadable) == 1 and unreadable[0].detail == UNPARSABLE
    if (unreadable or fetch.refused) and not headers and not unparsable_alone:
        asked = [uid for uid in control if uid not in uids][-CONTROL_MESSAGES:]
        proof = _HeaderFetch(fetch.connection, None, ())
        if not any(header.header.strip() for uid in asked for header in proof.read([uid])):
            raise fetch.ended_by or ServerBroken("fetch", "no message can be read")
    return FetchedBatch(uidvalidity, uids, headers, unreadable, fetch.refused)


def _ask_for_empty(fetch: "_HeaderFetch", headers: Sequence[FetchedHeader]) -> tuple[list[FetchedHeader], list[int]]:
    """Headers that are not empty, and UIDs of messages whose header stays empty although the message is larger than that.

    Some servers (hoodiecrow, go-imap v2) send an empty literal for a part of a header. The whole headers are requested at once,
    then the first of those that are still empty alone.
    """
    empty = [header for header in headers if _is_suspiciously_empty(header)]
    if not empty:
        return list(headers), []
    repeated = fetch.again().read([header.uid for header in empty], partial=False)
    for header in [header for header in repeated if _is_suspiciously_empty(header)][:CONTROL_MESSAGES]:
        repeated += fetch.again().read([header.uid], partial=False)
    whole = {header.uid: header for header in repeated if not _is_suspiciously_empty(header)}
    complete = [whole.get(header.uid, header) for header in headers]
    readable = [header for header in complete if not _is_suspiciously_empty(header)]
    still_empty = [header.uid for header in complete if _is_suspiciously_empty(header)]
    return readable, [uid for uid in still_empty if uid not in fetch.refused]


def _is_suspiciously_empty(header: FetchedHeader) -> bool:
    return not header.header.strip() and header.size > len(header.header)


def _ask_for_omitted(
    fetch: "_HeaderFetch", headers: list[FetchedHeader], missing: Sequence[int]
) -> tuple[list[FetchedHeader], list[int]]:
    """The headers with those that a second answer contains, and UIDs that are in no answer although the server counts them.

    A message that is deleted meanwhile is rightly missing: the folder is opened again and searched.
    """
    present = fetch.connection.still_present(missing) if missing else []
    if not present:
        return headers, []
    repeated = {header.uid: header for header in fetch.again().read(present)}
    return [*headers, *repeated.values()], [uid for uid in present if uid not in repeated and uid not in fetch.refused]


class _HeaderFetch:
    """The state of one batch: what could not be read, and the present session."""

    def __init__(self, connection: Connection, reopen: Reopen | None, final: Collection[int]) -> None:
        self.connection = connection
        self.unreadable: list[Unreadable] = []
        self.refused: list[int] = []
        self.ended_by: MailboxError | None = None
        self._reopen = reopen
        self._final = final
        self._ended_in_a_row = 0
        self._temporary_in_a_row = 0

    def again(self) -> "_HeaderFetch":
        """A fetch over the present session in which only refusals for now count: messages are asked for once more."""
        fetch = _HeaderFetch(self.connection, None, ())
        fetch.refused = self.refused
        return fetch

    def read(self, uids: Sequence[int], *, partial: bool = True) -> list[FetchedHeader]:
        try:
            return self._fetch(uids, partial)
        except TemporarilyRefused as error:
            self._temporary_in_a_row += 1
            if self._temporary_in_a_row > MAX_TEMPORARY_IN_A_ROW:
                raise ServerBroken("fetch", "no message can be read") from error
            if len(uids) == 1:
                if uids[0] in self._final:
                    self.unreadable.append(Unreadable(uids[0], REFUSED_REPEATEDLY))
                elif uids[0] not in self.refused:
                    self.refused.append(uids[0])
                return []
        except ServerBroken as error:
            if len(uids) == 1:
                detail = REFUSED if isinstance(error, CommandRefused) else UNPARSABLE
                self.unreadable.append(Unreadable(uids[0], detail))
                return []
        except Unreachable as error:
            self._open_again(error)
            if len(uids) == 1:
                return self._read_alone(uids, partial)
        half = len(uids) // 2
        return self.read(uids[:half], partial=partial) + self.read(uids[half:], partial=partial)

    def _read_alone(self, uids: Sequence[int], partial: bool) -> list[FetchedHeader]:
        """Ask once more for a message that ended the session: a connection may end by chance."""
        try:
            return self._fetch(uids, partial)
        except Unreachable as error:
            self._open_again(error)
            self.unreadable.append(Unreadable(uids[0], ENDS_SESSION))
        except TemporarilyRefused:
            self.refused.append(uids[0])
        except ServerBroken:
            self.unreadable.append(Unreadable(uids[0], UNPARSABLE))
        return []

    def _fetch(self, uids: Sequence[int], partial: bool) -> list[FetchedHeader]:
        connection = self.connection
        headers = connection.fetch_headers(uids) if partial else connection.fetch_headers(uids, partial=False)
        self._ended_in_a_row = self._temporary_in_a_row = 0
        return headers

    def _open_again(self, error: Unreachable) -> None:
        self._ended_in_a_row += 1
        self.ended_by = error
        if self._reopen is None or self._ended_in_a_row > MAX_ENDED_IN_A_ROW:
            raise error
        self.connection = self._reopen(error)
