"""The mailboxes that this process polls next, and those it has polled: leased and settled in batches by one thread.

1. Settle the polls that have ended, and release their session slots.
2. Lease as many due mailboxes as workers are free, and a few more for those that will be free soon.
3. Take a login slot and a session slot for each; mailboxes for which none is free wait for their turn.
4. Hand the mailboxes to the workers. One that has waited too long in the queue is not polled: its lease and its slots are
   given back, since a frozen process may have lost both.

A process that is killed loses only the queue: its leases and session slots expire, and its mailboxes are polled by another one.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from services.common import retry
from services.common.clocks import boot_seconds
from services.common.errors import TransientError
from services.common.lifecycle import Heartbeat, Stop
from services.common.settings import FetcherConfig
from services.fetcher.poll_report import mailboxes_postponed
from services.fetcher.poll_tally import PollTally
from services.fetcher.postponements import Postponements
from services.fetcher.settlement import FinishedPoll, Settlement
from services.registry.leases import LeasedMailbox, Leases
from services.registry.login_slots import LoginLimit, LoginSlots, NoSlotFree, Postponed, SlotPair, limit
from services.signin.access_tokens import AccessTokens

TURN_SECONDS: Final = 0.5
"""Between two turns: how long a poll that ended waits to be settled together with others."""
QUEUED_SECONDS: Final = 45.0
"""A mailbox that was leased longer ago is not polled: its login must be sent within two minutes (login_slots.LOGIN_SECONDS)."""
SESSION_SHARE: Final = 0.5
"""Part of a session's longest time after which it is not polled either: the slot of a session is taken for 2.5 times that time, and
a lease for at least 1.5 times."""
FINISH_TURN_SECONDS: Final = 0.1
"""Between two turns while the process stops."""
WAIT_SECONDS: Final = 5.0
"""How long a worker waits for a mailbox before it shows that it is alive."""


@dataclass(frozen=True, slots=True)
class QueuedMailbox:
    """A leased mailbox and the slots of its login."""

    leased: LeasedMailbox
    slots: SlotPair | None
    """None: no slots were taken; it can only be handed back."""


class QueueResources(Protocol):
    """What the queue shares with the workers."""

    @property
    def settings(self) -> FetcherConfig: ...

    @property
    def tokens(self) -> AccessTokens: ...

    @property
    def postponements(self) -> Postponements: ...

    @property
    def tally(self) -> PollTally: ...


class MailboxQueue:
    """Between the workers of a process and the registry. `run` in one thread; the workers call the rest."""

    def __init__(
        self, owner: str, leases: Leases, slots: LoginSlots, settlement: Settlement,
        resources: QueueResources, stop: Stop,
    ) -> None:  # fmt: skip
        """`owner` names this process in its leases."""
        self._owner = owner
        self._leases = leases
        self._slots = slots
        self._settlement = settlement
        self._settings = resources.settings
        self._resources = resources
        self._stop = stop
        self._changed = threading.Condition()
        self._queued: deque[QueuedMailbox] = deque()
        self._finished: list[FinishedPoll] = []
        self._ended: list[SlotPair] = []
        self._unused: list[QueuedMailbox] = []
        self._working = 0
        self._idle_workers = 0
        stop.on_stop(self._wake)

    def take(self) -> QueuedMailbox | None:
        """The next mailbox for a worker, with its poll starting now; None after a while without one, and at the stop.

        Call `ended` when its poll has ended.
        """
        with self._changed:
            self._idle_workers += 1
            try:
                self._changed.wait_for(lambda: self._queued or self._stop.is_set(), WAIT_SECONDS)
            finally:
                self._idle_workers -= 1
            while self._queued and not self._stop.is_set():
                mailbox = self._queued.popleft()
                if self._is_fresh(mailbox.leased):
                    self._working += 1
                    return QueuedMailbox(mailbox.leased.started(), mailbox.slots)
                self._unused.append(mailbox)
        return None

    def finish(self, poll: FinishedPoll) -> None:
        """Settle a poll that ended well with the next batch."""
        with self._changed:
            self._finished.append(poll)

    def ended(self, mailbox: QueuedMailbox) -> None:
        """The poll of a mailbox has ended, well or not, and its session is closed."""
        with self._changed:
            self._working -= 1
            if mailbox.slots is not None:
                self._ended.append(mailbox.slots)

    def run(self, heartbeat: Heartbeat) -> None:
        """Take turns until the stop and until every poll has ended and is settled."""
        retry.run_until_stopped(
            self._stop, "postgres", lambda: self._turns(heartbeat), service="fetcher", beat=heartbeat.beat
        )
        with self._changed:
            self._unused += self._queued
            self._queued.clear()
        is_last = False
        while not is_last:
            heartbeat.beat()
            is_last = self._working == 0
            try:
                self._settle()
            except TransientError:
                is_last = (
                    False  # the process ends in any case after lifecycle.FINISH_SECONDS, and the leases then expire
                )
            time.sleep(0 if is_last else FINISH_TURN_SECONDS)
        self._resources.tally.log_when_due(now=True)

    def _turns(self, heartbeat: Heartbeat) -> None:
        while not self._stop.is_set():
            heartbeat.beat()
            ended = self._settle()
            self._resources.tokens.save(self._leases.connection)
            self._fill(ended)
            self._resources.tally.log_when_due()
            self._stop.wait(TURN_SECONDS)

    def _settle(self) -> int:
        """Write what has ended; returns how many polls. What cannot be written stays for the next turn."""
        with self._changed:
            finished, ended, unused = self._finished, self._ended, self._unused
            self._finished, self._ended, self._unused = [], [], []
        try:
            self._settlement.settle(finished)
            finished = []
            self._slots.release(sessions=ended, unused=[mailbox.slots for mailbox in unused if mailbox.slots])
            if unused:
                self._leases.hand_back([mailbox.leased for mailbox in unused])
        except BaseException:
            with self._changed:
                self._finished, self._ended, self._unused = (
                    finished + self._finished, ended + self._ended, unused + self._unused,
                )  # fmt: skip
            raise
        return len(ended)

    def _fill(self, ended: int) -> None:
        """Lease mailboxes for the workers that are idle, and for as many as became free in the last turn."""
        with self._changed:
            wanted = self._idle_workers + min(ended, self._settings.fetcher.workers) - len(self._queued)
        if wanted <= 0:
            return
        leased = self._leases.lease_due(self._owner, self._settings.fetcher.lease_seconds, wanted)
        if leased:
            try:
                queued = self._with_slots(leased)
            except TransientError:
                with self._changed:
                    self._unused += [QueuedMailbox(mailbox, None) for mailbox in leased]
                raise
            with self._changed:
                self._queued.extend(queued)
                self._changed.notify(len(queued))

    def _with_slots(self, leased: Sequence[LeasedMailbox]) -> list[QueuedMailbox]:
        """Take slots for mailboxes; those without any are postponed."""
        by_limit: dict[LoginLimit, list[LeasedMailbox]] = {}
        for mailbox in leased:
            by_limit.setdefault(limit(self._settings.imap, mailbox.host), []).append(mailbox)
        queued = []
        taken = self._slots.take({allowed: len(mailboxes) for allowed, mailboxes in by_limit.items()})
        for allowed, slots in taken.items():
            mailboxes = by_limit[allowed]
            queued += [QueuedMailbox(*pair) for pair in zip(mailboxes, slots.pairs, strict=False)]
            if slots.refused is not None:
                self._postpone(mailboxes[len(slots.pairs) :], slots.refused)
        order = {id(mailbox): place for place, mailbox in enumerate(leased)}
        return sorted(queued, key=lambda mailbox: order[id(mailbox.leased)])

    def _postpone(self, mailboxes: Sequence[LeasedMailbox], refused: NoSlotFree) -> None:
        waiting = [Postponed(leased.company_id, leased.mailbox_id, leased.epoch) for leased in mailboxes]
        seconds = self._slots.postpone(waiting, refused)
        mailboxes_postponed(refused, seconds, len(mailboxes), self._resources.tally, self._resources.postponements)

    def _is_fresh(self, leased: LeasedMailbox) -> bool:
        """Whether the lease and the slots of a mailbox are certainly its own for as long as a poll takes."""
        session_seconds = self._settings.imap.session_seconds
        spare_seconds = (self._settings.fetcher.lease_seconds - session_seconds) / 2
        waited = boot_seconds() - leased.leased_at
        return waited <= min(QUEUED_SECONDS, SESSION_SHARE * session_seconds, spare_seconds)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
