"""Laws of the cursor: no crash, renumbering or late message makes a poll skip anything."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.mail import cursors
from services.mail.cursors import Cursor
from services.mail.values import FolderView


@given(st.integers(1, 40), st.integers(0, 20), st.sets(st.integers(1, 60)))
def test_messages_that_vanished_between_two_polls_are_counted(uidnext: int, assigned: int, present: set[int]) -> None:
    cursor = Cursor(1, uidnext - 1, None, uidnext)
    view = FolderView(1, uidnext + assigned, len(present))
    counted, still_there = cursors.count_assigned(cursor, view, sorted(present))
    assert counted == assigned
    assert still_there == len(present & set(range(uidnext, uidnext + assigned))) <= counted
    # A message that arrived after EXAMINE is counted by the next poll; nothing is counted without UIDNEXT.
    assert cursors.count_assigned(cursor, FolderView(1, None, 0), sorted(present)) == (0, 0)
    assert cursors.count_assigned(Cursor(1, uidnext, None, None), FolderView(1, uidnext, 0), sorted(present)) == (0, 0)


class CursorMachine(RuleBasedStateMachine):
    """A Sent folder that grows, a server that shows some mail late, a fetcher that crashes anywhere.

    Law: every message that stays in the folder for one complete poll is published.
    """

    LOOK_BACK = 4

    @initialize()
    def start(self) -> None:
        self.visible: set[int] = set()
        self.hidden: set[int] = set()
        self.next_uid = 1
        self.published: set[int] = set()
        self.cursor: Cursor | None = None
        self.complete_with: set[int] = set()

    @rule(count=st.integers(1, 5))
    def mail(self, count: int) -> None:
        for _ in range(count):
            self.visible.add(self.next_uid)
            self.next_uid += 1

    @rule()
    def late_mail(self) -> None:
        """A UID is assigned now and its message shown only later."""
        self.hidden.add(self.next_uid)
        self.next_uid += 1
        self.visible.add(self.next_uid)
        self.next_uid += 1

    @rule()
    def show(self) -> None:
        newest = sorted(self.visible | self.hidden)[-self.LOOK_BACK :]
        for uid in [uid for uid in self.hidden if uid in newest]:
            self.hidden.discard(uid)
            self.visible.add(uid)

    @rule()
    def renumber(self) -> None:
        """Another UIDVALIDITY: every message has another UID. The published set follows the messages."""
        order = sorted(self.visible)
        moved = {uid: number + 1 for number, uid in enumerate(order)}
        self.published = {moved[uid] for uid in self.published if uid in moved}
        self.visible, self.hidden = set(moved.values()), set()
        self.next_uid = len(order) + 1
        self.complete_with = set()
        self.validity = getattr(self, "validity", 1) + 1

    @rule(steps=st.integers(0, 12), chunk=st.integers(1, 3))
    def poll(self, steps: int, chunk: int) -> None:
        """A poll that crashes after `steps` saves (12: usually never)."""
        view = FolderView(getattr(self, "validity", 1), self.next_uid, len(self.visible))
        saves_left = steps

        def save(cursor: Cursor, uids: list[int]) -> bool:
            nonlocal saves_left
            self.published |= set(uids)  # acknowledged, perhaps before a crash that forgets the cursor
            saves_left -= 1
            if saves_left < 0:
                return False
            self.cursor = cursor
            return True

        at_start = set(self.visible)
        if cursors.why_scan(self.cursor, view, reconcile=False):
            newest = sorted(self.visible)[-max(self.LOOK_BACK, 1) :]
            if not save(cursors.start_scan(view, newest, self.LOOK_BACK), []):
                return
        else:
            assert self.cursor is not None
            present = [uid for uid in self.visible if uid >= cursors.search_low(self.cursor, self.LOOK_BACK)]
            uids = cursors.unseen_uids(self.cursor, present, 100)
            for start in range(0, len(uids), chunk):
                part = uids[start : start + chunk]
                if not save(cursors.advance(self.cursor, part, self.LOOK_BACK), part):
                    return
            if not save(cursors.remember_uidnext(self.cursor, view), []):
                return
        while uids := cursors.older_uids(self.cursor or Cursor(0), sorted(self.visible), chunk):
            assert self.cursor is not None
            if not save(cursors.advance_scan(self.cursor, uids), uids):
                return
        assert self.cursor is not None
        if not self.cursor.complete and not save(cursors.finish_scan(self.cursor), []):
            return
        self.complete_with = at_start

    @invariant()
    def messages_that_stayed_for_a_complete_poll_are_published(self) -> None:
        if hasattr(self, "complete_with"):
            assert self.complete_with & self.visible <= self.published


TestCursor = CursorMachine.TestCase
