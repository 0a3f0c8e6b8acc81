"""The marks machine: which messages of a Sent folder are read next, and what is remembered when they are published.

Two marks per (folder, UIDVALIDITY):

        1 ........ scan_down_to ████████████ start ████████ high ......→ UID
                   ←─ scan, newest first ──        ── new mail ─→

`high` ascends with new mail; everything between the scan's start and `high` is published. `scan_down_to` descends
from the start to the horizon and becomes None there: the scan may die anywhere and goes on where it was. Marks are
saved only after everything they pass is acknowledged, so a crash repeats and never skips (tests: a state machine that
crashes between every two steps). Below `high` stands a window of UIDs that are looked at again in every poll: servers
may show a message with a lower UID later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from services.mail.values import FolderView

Begin = Literal["first", "uidvalidity", "uidnext", "reconcile"]


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a folder is published. `recent` holds the UIDs of the look-back window that are known, ascending."""

    uidvalidity: int
    high: int = 0
    scan_down_to: int | None = None
    uidnext: int | None = None
    recent: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the scan reached the horizon."""
        return self.scan_down_to is None


def why_scan(marks: Cursor | None, view: FolderView, *, reconcile: bool) -> Begin | None:
    """Why a scan must begin now, if it must: a folder never seen, another UIDVALIDITY, UIDs that went back, the day's
    reconcile. A server without UIDVALIDITY is scanned again whenever the last scan is complete."""
    if marks is None:
        return "first"
    if marks.uidvalidity != view.uidvalidity or (view.uidvalidity == 0 and marks.complete):
        return "uidvalidity"
    if marks.uidnext is not None and view.uidnext is not None and view.uidnext < marks.uidnext:
        return "uidnext"
    return "reconcile" if reconcile and marks.complete else None


def begin(view: FolderView, newest: Sequence[int], look_back: int) -> Cursor:
    """Marks of a scan that begins now; `newest` are UIDs of the newest messages (any number, at least the last one's)."""
    high = max(newest, default=(view.uidnext or 1) - 1)
    return Cursor(
        view.uidvalidity, high, high + 1, view.uidnext, tuple(sorted(newest)[-look_back:] if look_back else ())
    )


def search_low(marks: Cursor, look_back: int) -> int:
    """Where the poll's search starts: the lowest UID of the look-back window, or 1 while the window is not full.

    In a folder that is smaller than the window even the lowest UID may be one that the server shows later.
    """
    if not look_back:
        return marks.high + 1
    window = marks.recent[-look_back:]
    return window[0] if len(window) == look_back else 1


def unseen(marks: Cursor, found: Sequence[int], limit: int) -> list[int]:
    """UIDs to read out of those found from `search_low` on: new ones and such as appeared below `high`; ascending."""
    known = set(marks.recent)
    return sorted(uid for uid in found if uid > marks.high or uid not in known)[:limit]


def published(marks: Cursor, uids: Sequence[int], look_back: int) -> Cursor:
    """Marks when `uids`, the first of `unseen`, are acknowledged."""
    recent = tuple(sorted({*marks.recent, *uids})[-look_back:]) if look_back else ()
    return replace(marks, high=max(marks.high, *uids) if uids else marks.high, recent=recent)


def looked(marks: Cursor, view: FolderView) -> Cursor:
    """Marks after a poll that found nothing more: what the server will number next is remembered."""
    return replace(marks, uidnext=view.uidnext)


def passed(marks: Cursor, view: FolderView, found: Sequence[int]) -> tuple[int, int]:
    """How many UIDs the server gave away since the last poll, and how many of their messages are among those `found`.

    The others were deleted or moved in between. (0, 0) where the server does not tell what it numbers next.
    """
    if marks.uidnext is None or view.uidnext is None or view.uidnext <= marks.uidnext:
        return 0, 0
    return view.uidnext - marks.uidnext, sum(marks.uidnext <= uid < view.uidnext for uid in found)


def older(marks: Cursor, found: Sequence[int], limit: int) -> list[int]:
    """UIDs that the scan reads next out of a window: the highest below `scan_down_to`, descending."""
    below = marks.scan_down_to
    return [] if below is None else sorted((uid for uid in found if uid < below), reverse=True)[:limit]


def scanned(marks: Cursor, uids: Sequence[int]) -> Cursor:
    """Marks when `uids`, the first of `older`, are acknowledged."""
    if marks.scan_down_to is None or not uids:
        return marks
    return replace(marks, scan_down_to=min(marks.scan_down_to, *uids))


def at_horizon(marks: Cursor) -> Cursor:
    """Marks when there is nothing older to read."""
    return replace(marks, scan_down_to=None)


def windows(messages: int, size: int) -> Iterator[tuple[int, int]]:
    """Sequence numbers of a folder with so many messages in windows, newest first; made one by one, for a server may
    claim four thousand million messages."""
    return ((max(1, last - size + 1), last) for last in range(messages, 0, -size))
