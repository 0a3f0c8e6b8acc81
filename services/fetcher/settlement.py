"""Settling polls that ended well: their rows in the registry, then their metrics and log lines, many in one transaction."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.common.errors import TransientError
from services.fetcher.delays import FAILURE, spaced
from services.fetcher.poll_report import PollReport
from services.registry.leases import Leases, PollEnd
from services.registry.pacing import PacedMailbox, Pacing


@dataclass(frozen=True, slots=True)
class FinishedPoll:
    """A poll that ended well and is not settled. `paced`: the pace of its mailbox decides when it is polled next."""

    end: PollEnd
    report: PollReport
    paced: bool


class Settlement:
    """Writes ends of polls. May be used by any thread."""

    def __init__(self, leases: Leases, pacing: Pacing) -> None:
        self._leases = leases
        self._pacing = pacing

    def settle(self, polls: Sequence[FinishedPoll]) -> None:
        """Store what the polls have shown and report each one. TransientError: nothing is settled; call it again."""
        if not polls:
            return
        try:
            self._settle(polls)
        except TransientError:
            raise
        except Exception as error:
            if len(polls) > 1:
                # One of them must not cost the others: each is settled alone.
                for poll in polls:
                    self.settle([poll])
                return
            self._failed(polls[0], error)

    def _settle(self, polls: Sequence[FinishedPoll]) -> None:
        paced = [poll for poll in polls if poll.paced]
        seconds = iter(self._pacing.next_seconds([_paced(poll.end) for poll in paced]))
        ends = [replace(poll.end, next_seconds=next(seconds)) if poll.paced else poll.end for poll in polls]
        for poll, was_leased in zip(polls, self._leases.end_polls(ends), strict=True):
            if was_leased:
                poll.report.finished(complete=poll.end.complete)
            else:
                poll.report.lease_lost()
            poll.report.close()

    def _failed(self, poll: FinishedPoll, error: Exception) -> None:
        """A poll that cannot be stored: a failure of its mailbox alone."""
        leased = poll.end.leased
        poll.report.crashed()
        poll.report.close()
        delay = spaced(leased, FAILURE.delay(leased.failures + 1, random.random()))
        self._leases.fail_poll(leased, reason=f"internal-{type(error).__name__}", next_seconds=delay, counts=True)


def _paced(end: PollEnd) -> PacedMailbox:
    leased = end.leased
    return PacedMailbox(leased.company_id, leased.mailbox_id, leased.account_id, leased.host, leased.connected_at)
