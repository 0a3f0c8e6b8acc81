"""Fetching the headers of a batch around messages that the server cannot show.

An answer that cannot be parsed and a refused command are asked for again in halves until one message is left. Where a FETCH
ends the session (BYE, the connection closes, no answer in time, more bytes than a session may take), what arrived until then
counts. A new session asks for the messages behind the first one that is missing, and for that one alone at the end. A message
that closes its session alone twice is unreadable (a server with one damaged message file; Dovecot, Twisted).

A refusal that may be temporary, and no answer in time, make no message unreadable: its UID is reported as refused, and a later
poll asks again. The same for messages that were not asked for because the poll may open no further session.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final

from services.fetcher.publication import FetchedBatch, Unreadable
from services.imap.connection import Connection
from services.imap.errors import (
    AnswerTooSlow,
    CommandRefused,
    MailboxError,
    ServerBroken,
    SessionLimitReached,
    TemporarilyRefused,
    Throttled,
)
from services.mail.headers import is_cut
from services.mail.values import FetchedHeader

CONTROL_MESSAGES: Final = 3
"""Messages read before that are fetched again, to distinguish a failing server from unreadable mail."""
REFUSED: Final = "the server refuses to show it"
REFUSED_REPEATEDLY: Final = "the server has refused to show it repeatedly, while it shows other messages"
UNPARSABLE: Final = "the server's answer cannot be parsed"
OMITTED: Final = "the server counts it and omits it from its answers"
EMPTY: Final = "its header is empty"
PATIENCE: Final = 3
"""Polls that fail in a row before a message that the server omits becomes a dead letter, and before a BYE that asks for fewer
requests counts as one about a message."""
MAX_CUT: Final = 8
"""Messages of a batch whose header was cut and whose ids are requested once more: 1 MiB at most."""
MANY_EMPTY: Final = 3
EMPTY_SHARE: Final = 0.1
"""As many empty headers in a batch are a fault of the server and not of the messages."""
ENDS_SESSION: Final = "the server ends the session when it is asked for this message"
UNANSWERED: Final = (
    "the server has not answered repeatedly when it was asked for this message, while it shows other messages"
)
TOO_LARGE: Final = "the server's answer is larger than a session may take"
MAX_ENDED_IN_A_ROW: Final = 9
"""Sessions that may end one after the other before anything is read."""
MAX_TEMPORARY_IN_A_ROW: Final = 16
"""Temporary refusals one after the other before anything is read: more of them are a failing server."""
PARTS: Final = 8
"""Parts in which a batch is asked for again when its session ended before any message arrived."""

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
    turn: int = 0,
    most_unanswered: int | None = None,
) -> FetchedBatch:
    """Headers of `uids`. `final`: messages for which even a temporary refusal counts as final. `most_unanswered`: FETCHes
    without an answer in time after which what is left waits for a later poll. `turn`: how often these messages were asked for before.

    Messages that the answer omits, and those whose header is empty, are asked for once more. If none of several messages can be
    read, or the only one is refused, messages that were read before (`control`) are asked for again. If they cannot be read
    either, the server is at fault and not the mail: ServerBroken (the error that ended the session, if one did), and no message
    is given up (docs/decisions/0015-witnesses.md). The same while messages are omitted in one of the first polls (`failures`:
    polls that failed in a row), and while many headers are empty.
    """
    fetch = _HeaderFetch(connection, reopen, final, failures=failures, turn=turn, most_unanswered=most_unanswered)
    fetch.readable += [uid for uid in control if uid not in uids]
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
    if (unreadable or fetch.refused) and not headers and not unparsable_alone and not fetch.shows_another():
        raise fetch.ended_by or ServerBroken("fetch", "no message can be read")
    return FetchedBatch(uidvalidity, uids, _with_all_ids(fetch, headers), unreadable, fetch.refused)


def _with_all_ids(fetch: "_HeaderFetch", headers: Sequence[FetchedHeader]) -> list[FetchedHeader]:
    """The headers; of the first few that were cut, with the ids that the cut may have taken, if the server shows them."""
    cut = [header for header in headers if is_cut(header.header)][:MAX_CUT]
    ids = {header.uid: fetch.ids(header.uid) for header in cut}
    return [replace(header, ids=ids[header.uid]) if header.uid in ids else header for header in headers]


def _ask_for_empty(fetch: "_HeaderFetch", headers: Sequence[FetchedHeader]) -> tuple[list[FetchedHeader], list[int]]:
    """Headers that are not empty, and UIDs of messages whose header stays empty although the message is larger than that.

    Some servers (hoodiecrow, go-imap v2) send an empty literal for a part of a header. The whole headers are requested at once,
    then the first of those that are still empty alone.
    """
    empty = [header for header in headers if _is_suspiciously_empty(header)]
    if not empty:
        return list(headers), []
    repeated = fetch.again([header.uid for header in empty], partial=False)
    for header in [header for header in repeated if _is_suspiciously_empty(header)][:CONTROL_MESSAGES]:
        repeated += fetch.again([header.uid], partial=False)
    whole = {header.uid: header for header in repeated if not _is_suspiciously_empty(header)}
    complete = [whole.get(header.uid, header) for header in headers]
    readable = [header for header in complete if not _is_suspiciously_empty(header)]
    still_empty = [header.uid for header in complete if _is_suspiciously_empty(header)]
    return readable, [uid for uid in still_empty if uid not in fetch.decided]


def _is_suspiciously_empty(header: FetchedHeader) -> bool:
    return not header.header.strip() and header.size > len(header.header)


def _ask_for_omitted(
    fetch: "_HeaderFetch", headers: list[FetchedHeader], missing: Sequence[int]
) -> tuple[list[FetchedHeader], list[int]]:
    """The headers with those that a second answer contains, and UIDs that are in no answer although the server counts them.

    A message that is deleted meanwhile is rightly missing: the folder is opened again and searched.
    """
    if fetch.stopped:
        fetch.set_aside(missing)
        return headers, []
    present = fetch.connection.still_present(missing) if missing else []
    if not present:
        return headers, []
    repeated = {header.uid: header for header in fetch.again(present)}
    return [*headers, *repeated.values()], [uid for uid in present if uid not in repeated and uid not in fetch.decided]


class _HeaderFetch:
    """The state of one batch: what could not be read, and the present session."""

    def __init__(
        self,
        connection: Connection,
        reopen: Reopen | None,
        final: Collection[int],
        *,
        failures: int = 0,
        turn: int = 0,
        most_unanswered: int | None = None,
    ) -> None:
        self.connection = connection
        self.unreadable: list[Unreadable] = []
        self.refused: list[int] = []
        self.ended_by: MailboxError | None = None
        self.readable: list[int] = []
        """Messages that were read before, the last one at the end."""
        self.stopped = False
        """Whether nothing more may be asked in this poll: what is left is set aside."""
        self._reopen = reopen
        self._final = final
        self._failures = failures
        self._turn = turn + failures
        self._most_unanswered = most_unanswered
        self._unanswered = 0
        self._has_read = False
        self._ended_in_a_row = 0
        self._temporary_in_a_row = 0
        self._closed_alone: set[int] = set()

    @property
    def decided(self) -> set[int]:
        """Messages that are unreadable, or that a later poll asks for."""
        return {*self.refused, *(message.uid for message in self.unreadable)}

    def again(self, uids: Sequence[int], *, partial: bool = True) -> list[FetchedHeader]:
        """Ask for messages once more. What is refused for good or cannot be parsed this time counts as before."""
        before = len(self.unreadable)
        headers = self.read(uids, partial=partial)
        fatal = [message for message in self.unreadable[before:] if message.detail not in (REFUSED, UNPARSABLE)]
        self.unreadable[before:] = fatal
        return headers

    def read(self, uids: Sequence[int], *, partial: bool = True) -> list[FetchedHeader]:
        """Headers of those `uids` that can be read."""
        headers: list[FetchedHeader] = []
        groups: deque[Sequence[int]] = deque([uids])
        suspects: deque[int] = deque()
        while groups or suspects:
            group = groups.popleft() if groups else [suspects.popleft()]
            if self.stopped:
                self.set_aside(group)
                continue
            try:
                part = self.connection.fetch_until_end(group, partial=partial)
            except ServerBroken as error:
                groups.extendleft(reversed(self._after_refusal(group, error)))
                continue
            headers += part.headers
            self._has_read = self._has_read or bool(part.headers)
            self.readable += [header.uid for header in part.headers if header.header.strip()][-CONTROL_MESSAGES:]
            if part.ended_by is None:
                self._ended_in_a_row = self._temporary_in_a_row = 0
                continue
            arrived = {header.uid for header in part.headers}
            missing = sorted(uid for uid in group if uid not in arrived)
            self._open_again(part.ended_by, has_read=bool(arrived))
            if len(group) > 1:
                groups.extend(self._rest(missing, split=not arrived))
                suspects.extend(missing[:1])
            elif missing and self._is_asked_again(group[0], part.ended_by):
                suspects.append(group[0])
        return headers

    def ids(self, uid: int) -> bytes:
        """The fields of a message that name messages; empty when the server does not show them: the cut header counts then."""
        if self.stopped:
            return b""
        try:
            return self.connection.fetch_ids(uid)
        except ServerBroken:
            return b""
        except MailboxError as error:
            self._open_again(error, has_read=True)
            return b""

    def shows_another(self) -> bool:
        """Whether the server still shows one of the messages that were read before. MailboxError when no session can be opened."""
        for uid in self._witnesses():
            try:
                part = self.connection.fetch_until_end([uid])
            except ServerBroken:
                continue
            if part.ended_by is not None:
                self._open_again(part.ended_by, has_read=False)
                if self.stopped:
                    return False
            if any(header.header.strip() for header in part.headers):
                return True
        return False

    def _witnesses(self) -> list[int]:
        """Some of the messages that were read before, from all over them and other ones each time: neighbours may all have become
        unreadable. The last one is first where it was read just now."""
        messages = len(self.readable)
        first = 0 if self._has_read else self._turn
        step = max(1, messages // CONTROL_MESSAGES)
        places = range(first, first + step * min(messages, CONTROL_MESSAGES), step)
        return [self.readable[-1 - place % messages] for place in places]

    def set_aside(self, uids: Iterable[int]) -> None:
        """Messages that a later poll asks for."""
        self.refused += [uid for uid in uids if uid not in self.refused]

    def _after_refusal(self, uids: Sequence[int], error: ServerBroken) -> list[Sequence[int]]:
        """What to ask for after a refusal or an answer that cannot be parsed: both halves, or nothing after a single message."""
        if isinstance(error, TemporarilyRefused):
            self._temporary_in_a_row += 1
            if self._temporary_in_a_row > MAX_TEMPORARY_IN_A_ROW:
                raise ServerBroken("fetch", "no message can be read") from error
        if len(uids) > 1:
            half = len(uids) // 2
            return [uids[:half], uids[half:]]
        if not isinstance(error, TemporarilyRefused):
            detail = REFUSED if isinstance(error, CommandRefused) else UNPARSABLE
            self.unreadable.append(Unreadable(uids[0], detail))
        elif uids[0] in self._final:
            self.unreadable.append(Unreadable(uids[0], REFUSED_REPEATEDLY))
        else:
            self.set_aside(uids)
        return []

    def _rest(self, missing: Sequence[int], *, split: bool) -> list[Sequence[int]]:
        """The messages behind the first missing one, in parts where nothing shows how far the server got.

        The first part is another one each time: its messages may all end the session.
        """
        behind = missing[1:]
        if not split:
            return [behind] if behind else []
        size = -(-len(behind) // PARTS)
        parts = [behind[start : start + size] for start in range(0, len(behind), size)] if behind else []
        first = self._turn % len(parts) if parts else 0
        return [*parts[first:], *parts[:first]]

    def _is_asked_again(self, uid: int, error: MailboxError) -> bool:
        """Whether a message whose session ended when it was asked for alone is asked for once more; else it is decided."""
        if isinstance(error, AnswerTooSlow):
            if uid not in self._final:
                self.set_aside([uid])
                return False
            detail = UNANSWERED
        elif isinstance(error, SessionLimitReached):
            detail = TOO_LARGE
        elif uid in self._closed_alone:
            detail = ENDS_SESSION
        else:
            # A connection may end by chance.
            self._closed_alone.add(uid)
            return True
        if self.stopped:
            self.set_aside([uid])
        elif self.readable and not self.shows_another():
            raise error
        else:
            self._ended_in_a_row = 0
            self.unreadable.append(Unreadable(uid, detail))
        return False

    def _open_again(self, error: MailboxError, *, has_read: bool) -> None:
        """Another session after one that ended; without one, what is left is set aside, or the error counts if nothing was read."""
        self._ended_in_a_row = 0 if has_read else self._ended_in_a_row + 1
        self._unanswered += isinstance(error, AnswerTooSlow)
        self.ended_by = error
        asks_for_less = isinstance(error, Throttled) and self._failures < PATIENCE
        shows_nothing = self._ended_in_a_row > MAX_ENDED_IN_A_ROW and not self._has_read
        if self._reopen is None or asks_for_less or shows_nothing:
            raise error
        try:
            self.connection = self._reopen(error)
        except MailboxError:
            if not self._has_read:
                raise
            self.stopped = True
        if self._most_unanswered is not None and self._unanswered >= self._most_unanswered:
            self.stopped = True
