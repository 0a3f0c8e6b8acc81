"""Fetching headers around messages that the server cannot show."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.fetcher.header_fetch import (
    CONTROL_MESSAGES,
    ENDS_SESSION,
    REFUSED,
    REFUSED_REPEATEDLY,
    UNPARSABLE,
    fetch_bisecting,
)
from services.fetcher.publication import Unreadable
from services.imap.connection import Connection, FetchedPart
from services.imap.errors import CommandRefused, MailboxError, ServerBroken, TemporarilyRefused, Unreachable
from services.mail.values import FetchedHeader


class Folder:
    """A folder in which some messages cannot be read: asked for one of them, the server fails as `error` says."""

    def __init__(
        self, unreadable: set[int], error: type[MailboxError] = ServerBroken, *, streams: bool = False
    ) -> None:
        """`streams`: the messages before the first unreadable one arrive before the session ends."""
        self.unreadable = unreadable
        self.error = error
        self.streams = streams
        self.asked: list[list[int]] = []
        self.reopened = 0

    def fetch_until_end(self, uids: Sequence[int], *, partial: bool = True) -> FetchedPart:
        self.asked.append(list(uids))
        headers = [FetchedHeader(uid, None, None, 1, False, b"To: a@b.c\r\n\r\n") for uid in uids]
        if not self.unreadable & set(uids):
            return FetchedPart(headers)
        if issubclass(self.error, ServerBroken):
            raise self.error("fetch")
        first = min(self.unreadable & set(uids))
        arrived = [header for header in headers if self.streams and header.uid < first]
        return FetchedPart(arrived, self.error("fetch"))

    def reopen(self, _: MailboxError) -> Connection:
        self.reopened += 1
        return self.connection

    @property
    def connection(self) -> Connection:
        return cast(Connection, self)


@given(st.sets(st.integers(1, 40), min_size=1), st.data())
def test_only_the_messages_that_cannot_be_read_are_given_up(uids: set[int], data: st.DataObject) -> None:
    unreadable = data.draw(st.sets(st.sampled_from(sorted(uids)), max_size=len(uids) - 1))
    batch = fetch_bisecting(Folder(unreadable).connection, 7, sorted(uids), [])
    assert [header.uid for header in batch.headers] == sorted(uids - unreadable)
    assert list(batch.unreadable) == [Unreadable(uid, UNPARSABLE) for uid in sorted(unreadable)]
    assert (batch.uidvalidity, list(batch.uids)) == (7, sorted(uids))


def test_a_server_that_shows_no_message_is_at_fault_and_no_message_is_given_up() -> None:
    folder = Folder(set(range(1, 100)))
    with pytest.raises(ServerBroken, match="no message can be read"):
        fetch_bisecting(folder.connection, 1, [50, 51], [1, 2, 3, 4, 5])
    assert folder.asked[-CONTROL_MESSAGES:] == [[5], [4], [3]]


def test_neighbours_that_have_become_unreadable_too_are_not_the_only_witnesses() -> None:
    folder = Folder({50, *range(40, 50)}, Unreachable)
    for failures in range(4):
        batch = fetch_bisecting(folder.connection, 1, [50], list(range(1, 50)), reopen=folder.reopen, failures=failures)
        assert list(batch.unreadable) == [Unreadable(50, ENDS_SESSION)]


def test_messages_are_given_up_when_one_that_was_read_before_can_still_be_read() -> None:
    batch = fetch_bisecting(Folder({50, 51}, CommandRefused).connection, 1, [50, 51], [4, 5])
    assert list(batch.unreadable) == [Unreadable(50, REFUSED), Unreadable(51, REFUSED)]


def test_a_single_refused_message_needs_the_proof_and_a_single_unparsable_one_does_not() -> None:
    with pytest.raises(ServerBroken):
        fetch_bisecting(Folder({1, 50}, CommandRefused).connection, 1, [50], [1])
    batch = fetch_bisecting(Folder({1, 50}).connection, 1, [50], [1])
    assert list(batch.unreadable) == [Unreadable(50, UNPARSABLE)]


@pytest.mark.parametrize("position", range(1, 201, 17))
def test_a_message_that_ends_the_session_alone_is_given_up_and_the_others_are_read(position: int) -> None:
    uids = list(range(1, 201))
    folder = Folder({position}, Unreachable)
    batch = fetch_bisecting(folder.connection, 1, uids, [], reopen=folder.reopen)
    assert sorted(header.uid for header in batch.headers) == [uid for uid in uids if uid != position]
    assert list(batch.unreadable) == [Unreadable(position, ENDS_SESSION)]
    assert folder.reopened <= 10


def test_a_session_that_ends_by_chance_costs_no_message() -> None:
    folder = Folder({5}, Unreachable)

    def recovered(error: MailboxError) -> Connection:
        folder.unreadable = set()
        return folder.reopen(error)

    batch = fetch_bisecting(folder.connection, 1, [5], [1], reopen=recovered)
    assert [header.uid for header in batch.headers] == [5] and not batch.unreadable


def test_a_server_that_ends_every_session_is_at_fault_and_no_message_is_given_up() -> None:
    for uids, control in ([7], [1]), ([7], []), (list(range(1, 201)), []):
        folder = Folder(set(range(1, 201)), Unreachable)
        with pytest.raises(Unreachable):
            fetch_bisecting(folder.connection, 1, uids, control, reopen=folder.reopen)
        assert folder.reopened <= 10


def test_a_temporary_refusal_gives_no_message_up_before_it_is_final() -> None:
    folder = Folder({3, 4}, TemporarilyRefused)
    batch = fetch_bisecting(folder.connection, 1, [1, 2, 3, 4], [])
    assert list(batch.refused) == [3, 4] and not batch.unreadable
    batch = fetch_bisecting(folder.connection, 1, [3, 4], [1], final={4})
    assert list(batch.refused) == [3] and list(batch.unreadable) == [Unreadable(4, REFUSED_REPEATEDLY)]


def test_a_server_that_refuses_every_message_for_now_is_at_fault() -> None:
    for uids, control in ([7], []), ([7], [1]), (list(range(1, 201)), [300]):
        folder = Folder(set(range(1, 301)), TemporarilyRefused)
        with pytest.raises(ServerBroken, match="no message can be read"):
            fetch_bisecting(folder.connection, 1, uids, control, final=set(uids))
        assert len(folder.asked) < 30


def test_a_temporary_refusal_of_the_second_request_gives_no_empty_header_up() -> None:
    class Empty(Folder):
        def fetch_until_end(self, uids: Sequence[int], *, partial: bool = True) -> FetchedPart:
            if not partial:
                raise TemporarilyRefused("fetch")
            header = FetchedHeader(0, None, None, 100, False, b"To: a@b.c")
            return FetchedPart([replace(header, uid=uid, header=b"" if uid == 3 else header.header) for uid in uids])

    batch = fetch_bisecting(Empty(set()).connection, 1, [1, 2, 3], [])
    assert list(batch.refused) == [3] and not batch.unreadable
    assert [header.uid for header in batch.headers] == [1, 2]
