"""The cursor of a Sent folder: which messages are read next, and how the cursor moves when they are published. Pure.

Two positions per (folder, UIDVALIDITY):

        1 ........ scan_down_to ████████████ start ████████ high ......→ UID
                   ←─ scan, newest first ──        ── new mail ─→

`high` ascends with new mail; everything between the scan's start and `high` is published. `scan_down_to` descends
from the start to the horizon and becomes None there: an interrupted scan continues where it was. A cursor is saved only
after everything it passes is acknowledged, so a crash repeats messages and never skips any (tests: a state machine that
crashes between every two steps). Below `high` is a window of UIDs that every poll checks again: servers may show a
message with a lower UID later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from services.mail.values import FolderView

ScanReason = Literal["first", "uidvalidity", "uidnext", "reconcile"]


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a folder is published. `recent`: the UIDs of the look-back window that were read, ascending."""

    uidvalidity: int
    high: int = 0
    scan_down_to: int | None = None
    uidnext: int | None = None
    recent: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the scan reached the horizon."""
        return self.scan_down_to is None


def why_scan(cursor: Cursor | None, view: FolderView, *, reconcile: bool) -> ScanReason | None:
    """Why a scan must start now, or None: a folder never read, another UIDVALIDITY, a UIDNEXT that went back, the daily
    reconcile. A server without UIDVALIDITY is scanned again whenever the last scan is complete."""
    if cursor is None:
        return "first"
    if cursor.uidvalidity != view.uidvalidity or (view.uidvalidity == 0 and cursor.complete):
        return "uidvalidity"
    if cursor.uidnext is not None and view.uidnext is not None and view.uidnext < cursor.uidnext:
        return "uidnext"
    return "reconcile" if reconcile and cursor.complete else None


def start_scan(view: FolderView, newest: Sequence[int], look_back: int) -> Cursor:
    """The cursor of a scan that starts now; `newest`: UIDs of the newest messages (any number, at least the last one's)."""
    high = max(newest, default=(view.uidnext or 1) - 1)
    return Cursor(
        view.uidvalidity, high, high + 1, view.uidnext, tuple(sorted(newest)[-look_back:] if look_back else ())
    )


def search_low(cursor: Cursor, look_back: int) -> int:
    """Where the poll's search starts: the lowest UID of the look-back window, or 1 while the window is not full.

    In a folder that is smaller than the window even the lowest UID may be one that the server shows later.
    """
    if not look_back:
        return cursor.high + 1
    window = cursor.recent[-look_back:]
    return window[0] if len(window) == look_back else 1


def unseen_uids(cursor: Cursor, present: Sequence[int], limit: int) -> list[int]:
    """UIDs to read of those `present` from `search_low` on: new ones, and those that appeared below `high`; ascending."""
    already_read = set(cursor.recent)
    return sorted(uid for uid in present if uid > cursor.high or uid not in already_read)[:limit]


def advance(cursor: Cursor, uids: Sequence[int], look_back: int) -> Cursor:
    """The cursor when `uids`, the first of `unseen_uids`, are acknowledged."""
    recent = tuple(sorted({*cursor.recent, *uids})[-look_back:]) if look_back else ()
    return replace(cursor, high=max(cursor.high, *uids) if uids else cursor.high, recent=recent)


def remember_uidnext(cursor: Cursor, view: FolderView) -> Cursor:
    """The cursor after a poll that read everything new: it records UIDNEXT."""
    return replace(cursor, uidnext=view.uidnext)


def count_assigned(cursor: Cursor, view: FolderView, present: Sequence[int]) -> tuple[int, int]:
    """How many UIDs the server assigned since the last poll, and how many of their messages are among those `present`.

    The others were deleted or moved in between. (0, 0) where the server does not report UIDNEXT.
    """
    if cursor.uidnext is None or view.uidnext is None or view.uidnext <= cursor.uidnext:
        return 0, 0
    return view.uidnext - cursor.uidnext, sum(cursor.uidnext <= uid < view.uidnext for uid in present)


def older_uids(cursor: Cursor, present: Sequence[int], limit: int) -> list[int]:
    """UIDs that the scan reads next, of those `present` in a window: the highest below `scan_down_to`, descending."""
    below = cursor.scan_down_to
    return [] if below is None else sorted((uid for uid in present if uid < below), reverse=True)[:limit]


def advance_scan(cursor: Cursor, uids: Sequence[int]) -> Cursor:
    """The cursor when `uids`, the first of `older_uids`, are acknowledged."""
    if cursor.scan_down_to is None or not uids:
        return cursor
    return replace(cursor, scan_down_to=min(cursor.scan_down_to, *uids))


def finish_scan(cursor: Cursor) -> Cursor:
    """The cursor when there is nothing older to read."""
    return replace(cursor, scan_down_to=None)


def windows(messages: int, size: int) -> Iterator[tuple[int, int]]:
    """Sequence numbers of a folder with `messages` messages in windows of `size`, newest first.

    Generated lazily: a server may claim four thousand million messages.
    """
    return ((max(1, last - size + 1), last) for last in range(messages, 0, -size))
