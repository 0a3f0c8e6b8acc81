"""The cursor of a folder, step by step."""

from itertools import islice

import pytest

from services.mail import cursors
from services.mail.cursors import Cursor, ScanReason
from services.mail.values import FolderView

VIEW = FolderView(uidvalidity=7, uidnext=101, messages=50)


@pytest.mark.parametrize(
    ("cursor", "view", "reconcile", "reason"),
    [
        (None, VIEW, False, "first"),
        (Cursor(7, 100, None, 101), VIEW, False, None),
        (Cursor(7, 100, None, 101), VIEW, True, "reconcile"),
        (Cursor(7, 100, 40, 101), VIEW, True, None),
        (Cursor(6, 100, None, 101), VIEW, False, "uidvalidity"),
        (Cursor(7, 100, None, 102), VIEW, False, "uidnext"),
        (Cursor(7, 100, None, 102), FolderView(7, None, 50), False, None),
        (Cursor(0, 100, None, None), FolderView(0, None, 50), False, "uidvalidity"),
        (Cursor(0, 100, 40, None), FolderView(0, None, 50), False, None),
    ],
)
def test_why_a_scan_starts(cursor: Cursor | None, view: FolderView, reconcile: bool, reason: ScanReason | None) -> None:
    assert cursors.why_scan(cursor, view, reconcile=reconcile) == reason


def test_a_scan_goes_down_from_the_newest_message_and_ends_at_the_horizon() -> None:
    cursor = cursors.start_scan(VIEW, [98, 100, 99], 2)
    assert cursor == Cursor(7, high=100, scan_down_to=101, uidnext=101, recent=(99, 100))
    uids = cursors.older_uids(cursor, [95, 100, 98, 99], 2)
    assert uids == [100, 99]
    cursor = cursors.advance_scan(cursor, uids)
    assert cursors.older_uids(cursor, [95, 100, 98, 99], 9) == [98, 95]
    assert (cursor.scan_down_to, cursor.complete) == (99, False)
    cursor = cursors.finish_scan(cursor)
    assert cursor.complete and cursors.older_uids(cursor, [1], 9) == []
    assert cursors.advance_scan(cursor, [1]) == cursor


def test_the_scan_of_an_empty_folder_starts_below_uidnext() -> None:
    assert cursors.start_scan(FolderView(7, None, 0), [], 2).high == 0
    assert cursors.start_scan(FolderView(7, 101, 0), [], 2).high == 100


def test_new_mail_moves_the_high_end_and_the_look_back_window() -> None:
    cursor = Cursor(7, high=100, recent=(97, 100))
    assert cursors.search_low(cursor, 2) == 97
    uids = cursors.unseen_uids(cursor, [97, 98, 100, 101, 102], 2)
    assert uids == [98, 101]  # 98 appeared late
    cursor = cursors.advance(cursor, uids, 2)
    assert (cursor.high, cursor.recent) == (101, (100, 101))
    assert cursors.advance(cursor, [], 2) == cursor
    assert cursors.remember_uidnext(cursor, VIEW).uidnext == 101


def test_the_search_starts_at_1_until_the_window_is_full_and_above_high_without_one() -> None:
    assert cursors.search_low(Cursor(7, high=100, recent=(100,)), 2) == 1
    assert cursors.search_low(Cursor(7, high=100, recent=(99, 100)), 0) == 101


def test_windows_cover_a_folder_newest_first() -> None:
    assert list(cursors.windows(12, 5)) == [(8, 12), (3, 7), (1, 2)]
    assert list(cursors.windows(0, 5)) == []
    assert list(islice(cursors.windows(2**32, 5), 1)) == [(2**32 - 4, 2**32)]
