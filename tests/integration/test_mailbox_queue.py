"""Mailboxes that a fetcher has leased in a batch: none is lost or read by two processes when it is killed or frozen."""

import signal
import threading
import time
from collections.abc import Callable

from tests.support.processes import until
from tests.support.town import DUE, Town, make_town

__all__ = ["make_town"]

LEASED = "SELECT count(*) FROM registry.mailboxes WHERE lease_until > clock_timestamp()"
UNREAD = "SELECT count(*) FROM registry.mailboxes WHERE last_success_at IS NULL"
LEASES_END = (
    "UPDATE registry.mailboxes SET lease_until = clock_timestamp() - interval '1 second' WHERE lease_until IS NOT NULL"
)
TWO_WORKERS = {"REPLYRATE_FETCHER__WORKERS": "2"}
SHORT = {"REPLYRATE_IMAP__SESSION_SECONDS": "10", "REPLYRATE_FETCHER__LEASE_SECONDS": "30"}
"""A mailbox that waited in the queue for longer than five seconds is not polled."""
SETTLED = "SELECT count(*) FROM registry.coverage WHERE through_at IS NOT NULL"
INTERVAL = {"REPLYRATE_IMAP__POLL_INTERVAL_SECONDS": "600"}


def held_town(make_town: Callable[[int], Town], mailboxes: int) -> Town:
    """Mailboxes that are due, on servers that answer no login until `wire.hold` is set."""
    town = make_town(mailboxes)
    town.connect(town.settings(), *town.servers)
    town.wire.said.clear()
    town.wire.hold = threading.Event()
    town.run(DUE)
    return town


def test_a_killed_fetcher_loses_no_mailbox_of_its_batch(make_town: Callable[[int], Town]) -> None:
    town = held_town(make_town, 4)
    with town.fetcher("killed", **TWO_WORKERS, **INTERVAL) as killed:
        until(lambda: town.wire.logins() == 2, 30, "both workers log in", (killed,))
        killed.kill()
    assert town.run(LEASED) >= [(2,)]
    assert town.wire.hold is not None
    town.wire.hold.set()
    town.run(LEASES_END)
    with town.fetcher("heir", **INTERVAL) as heir:
        until(lambda: town.run(UNREAD) == [(0,)], 30, "all mailboxes read", (heir,))
        assert heir.terminate() == 0
    assert town.run(LEASED) == [(0,)]
    assert town.run(SETTLED) == [(4,)], "each was settled once"


def test_a_frozen_fetcher_gives_back_what_waited_and_settles_nothing_that_it_lost(
    make_town: Callable[[int], Town],
) -> None:
    """While it is frozen its leases end and another fetcher reads every mailbox."""
    town = held_town(make_town, 4)
    with town.fetcher("frozen", **TWO_WORKERS, **SHORT, **INTERVAL) as frozen:
        until(lambda: town.wire.logins() == 2, 30, "both workers log in", (frozen,))
        frozen.signal(signal.SIGSTOP)
        assert town.wire.hold is not None
        town.wire.hold.set()
        town.run(LEASES_END)
        stopped_at = time.monotonic()
        with town.fetcher("heir", **SHORT, **INTERVAL) as heir:
            until(lambda: town.run(UNREAD) == [(0,)], 30, "all mailboxes read", (heir,))
            settled = town.run("SELECT mailbox_id, lease_epoch, last_success_at FROM registry.mailboxes ORDER BY 1")
            until(
                lambda: time.monotonic() - stopped_at > 6, 30, "the queue of the frozen process has grown old", (heir,)
            )
            logins = town.wire.logins()
            frozen.signal(signal.SIGCONT)
            ends = {"mailbox-lease-lost", "mailbox-failed"}  # its time was over, or its lease
            until(
                lambda: sum(line.get("action") in ends for line in frozen.lines()) == 2,
                30, "both polls ended", (frozen, heir),
            )  # fmt: skip
            assert frozen.terminate() == 0 and heir.terminate() == 0
    assert town.wire.logins() == logins
    assert town.run("SELECT mailbox_id, lease_epoch, last_success_at FROM registry.mailboxes ORDER BY 1") == settled
    assert town.run(SETTLED) == [(4,)]
    taken_slots = "SELECT count(*) FROM registry.login_slots WHERE kind = 'session' AND free_at > clock_timestamp()"
    assert town.run(taken_slots) == [(0,)]
