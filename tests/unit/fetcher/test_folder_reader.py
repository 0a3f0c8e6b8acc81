"""Fetching headers around messages that cannot be read, and from when on a provider shows mail."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import cast

import pytest

from services.fetcher.folder_reader import (
    find_visible_from,
    is_rescan_due,
)
from services.imap.connection import Connection
from services.imap.errors import CommandRefused, ServerBroken
from services.mail.values import FolderView
from tests.support.pollers import leased_mailbox

LEASED = leased_mailbox()


class Folder:
    """A folder in which some messages cannot be read: asked for one of them, the server fails as `error` says."""

    def __init__(self, unreadable: set[int], error: type[ServerBroken] = ServerBroken, age_days: int = 1) -> None:
        self.unreadable = unreadable
        self.error = error
        self.age_days = age_days
        self.asked: list[list[int]] = []

    def fetch_times(self, uids: Sequence[int]) -> dict[int, datetime | None]:
        self.asked.append(list(uids))
        if self.unreadable & set(uids):
            raise self.error("fetch")
        return {uid: LEASED.now - timedelta(days=self.age_days) for uid in uids}

    def search_window(self, view: FolderView, first: int, last: int, since: object) -> list[int]:
        return list(range(first, last + 1))

    @property
    def connection(self) -> Connection:
        return cast(Connection, self)


def test_a_rescan_is_due_once_a_mailbox_was_complete_and_its_time_has_come() -> None:
    now = LEASED.now
    assert not is_rescan_due(leased_mailbox(complete_through=None, reconcile_after=now))
    assert not is_rescan_due(leased_mailbox(complete_through=now, reconcile_after=None))
    assert not is_rescan_due(leased_mailbox(complete_through=now, reconcile_after=now + timedelta(seconds=1)))
    assert is_rescan_due(leased_mailbox(complete_through=now, reconcile_after=now))


@pytest.mark.parametrize(
    ("host", "messages", "age_days", "expected_days"),
    [
        ("imap.mail.test", 10, 400, None),
        ("imap.qq.com", 10, 5, 30),  # nothing older is visible: the limit holds
        ("imap.qq.com", 10, 33, None),  # older mail is visible: the owner lifted the limit
        ("imap.qq.com", 0, 5, 30),
        ("imap.mail.yahoo.com", 9_999, 300, None),
        ("imap.mail.yahoo.com", 10_000, 300, 300),  # full: what is older than its first message is hidden
    ],
)
def test_mail_is_visible_as_far_back_as_the_provider_shows_it(
    host: str, messages: int, age_days: int, expected_days: int | None
) -> None:
    leased = leased_mailbox(host=host, user="seller@mail.test")
    visible = find_visible_from(Folder(set(), age_days=age_days).connection, FolderView(1, 2, messages), leased)
    assert visible == (None if expected_days is None else LEASED.now - timedelta(days=expected_days))


def test_a_first_message_that_cannot_be_read_is_passed_over() -> None:
    leased = leased_mailbox(host="imap.mail.yahoo.com", user="seller@mail.test")
    folder = Folder({1, 2}, CommandRefused, age_days=300)
    visible = find_visible_from(folder.connection, FolderView(1, 2, 10_000), leased)
    assert visible == LEASED.now - timedelta(days=300) and folder.asked == [[1], [2], [3]]
    assert find_visible_from(Folder({1, 2, 3}).connection, FolderView(1, 2, 10_000), leased) == LEASED.now
