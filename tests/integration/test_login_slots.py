"""Logins and sessions of all fetchers together stay within a provider's budget, as the mail servers see it; and polls come
sooner when a deadline is near, as the registry says."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from services.common.postgres import connect
from services.connect.onboarding import MailboxRefused
from services.registry.login_slots import LoginSlots, NoSlotFree
from services.registry.pacing import PacedMailbox, Pacing
from tests.support.processes import until
from tests.support.town import DUE, HOUR, Town, make_town

pytestmark = pytest.mark.pooled

__all__ = ["make_town"]


def test_fetchers_together_stay_within_the_limit_of_a_provider(make_town: Callable[[int], Town]) -> None:
    """Two processes with four workers each; connection tests count like polls. The clock of the database is moved by hours."""
    town = make_town(6)
    limits = {
        "REPLYRATE_IMAP__PROVIDER_LOGINS_PER_HOUR": "localhost=20", "REPLYRATE_IMAP__PROVIDER_SESSIONS": "localhost=2",
    }  # fmt: skip
    town.connect(town.settings(**limits), *town.servers)
    assert town.wire.logins() == 6
    with town.fetcher("one", **limits) as first, town.fetcher("two", **limits) as second:
        for hour in (1, 2, 3):
            until(lambda: town.wire.logins() >= 20 * hour, 30, "the hour's logins", (first, second))  # noqa: B023
            for _ in range(4):  # all of them ask again and again
                town.run(DUE)
                time.sleep(0.3)
            assert town.wire.logins() == 20 * hour
            town.run(HOUR)
            town.run(DUE)
        until(lambda: town.wire.logins() == 80, 30, "the hour's logins", (first, second))
        assert first.terminate() == 0 and second.terminate() == 0
    assert town.wire.sessions() == 2
    assert "mailbox-postponed" in (town.folder / "one.log").read_text()
    assert town.run("SELECT DISTINCT state, failures, state_reason FROM registry.mailboxes") == [("active", 0, None)]
    assert town.run("SELECT count(*) FROM registry.mailboxes WHERE last_success_at IS NULL") == [(0,)]
    taken_slots = "SELECT count(*) FROM registry.login_slots WHERE kind = 'session' AND free_at > clock_timestamp()"
    assert town.run(taken_slots) == [(0,)]


def test_mailboxes_that_wait_are_due_in_turn_and_logged_once_a_minute(make_town: Callable[[int], Town]) -> None:
    """No more of them in an hour than may log in, so that none asks in vain again and again."""
    town = make_town(6)
    town.connect(town.settings(), *town.servers)
    town.run(DUE)
    with town.fetcher("waiting", REPLYRATE_IMAP__PROVIDER_LOGINS_PER_HOUR="localhost=2") as waiting:
        postponed = "SELECT count(*) FROM registry.mailboxes WHERE waits_for IS NOT NULL"
        until(lambda: town.run(postponed) == [(6,)], 20, "all mailboxes postponed", (waiting,))
        assert waiting.terminate() == 0
    due = [at for (at,) in town.run("SELECT next_poll_at FROM registry.mailboxes ORDER BY next_poll_at")]
    for first, third in zip(due, due[2:], strict=False):
        assert (third - first).total_seconds() > 3600
    lines = (town.folder / "waiting.log").read_text().splitlines()
    assert sum("mailbox-postponed" in line for line in lines) == 1


def test_a_fetcher_that_is_killed_has_its_sessions_freed_by_expiry(make_town: Callable[[int], Town]) -> None:
    town = make_town(2)
    limits = {"REPLYRATE_IMAP__SESSIONS": "1"}
    town.connect(town.settings(), *town.servers)
    town.wire.said.clear()
    town.wire.hold = threading.Event()
    with town.fetcher("killed", **limits) as killed:
        until(lambda: town.wire.logins() == 1, 20, "a login", (killed,))
        # The lease of the other mailbox was released: the next fetcher finds it.
        until(lambda: "mailbox-postponed" in (town.folder / "killed.log").read_text(), 20, "a refusal", (killed,))
        killed.kill()
    town.wire.hold.set()
    town.run(DUE)
    with town.fetcher("heir", **limits) as heir:
        until(lambda: "mailbox-postponed" in (town.folder / "heir.log").read_text(), 20, "a refusal", (heir,))
        town.run(DUE)
        time.sleep(1)
        assert town.wire.logins() == 1
        # Five minutes pass, for the session and for the lease.
        town.run("UPDATE registry.login_slots SET free_at = free_at - interval '301 seconds' WHERE kind = 'session'")
        town.run("UPDATE registry.mailboxes SET lease_until = lease_until - interval '301 seconds'")

        def all_read() -> bool:
            town.run("UPDATE registry.mailboxes SET next_poll_at = clock_timestamp() WHERE last_success_at IS NULL")
            return town.run("SELECT count(*) FROM registry.mailboxes WHERE last_success_at IS NULL") == [(0,)]

        until(all_read, 20, "both mailboxes read", (heir,))
        assert heir.terminate() == 0


def test_a_connection_test_is_postponed_at_the_limit_and_says_until_when(make_town: Callable[[int], Town]) -> None:
    town = make_town(2)
    settings = town.settings(REPLYRATE_IMAP__PROVIDER_LOGINS_PER_HOUR="localhost=1")
    town.connect(settings, town.servers[0])
    with pytest.raises(MailboxRefused, match=r"have reached their limit.*Try again at \d\d:\d\d UTC") as refused:
        town.connect(settings, town.servers[1])
    assert refused.value.code == "provider-busy"
    assert town.wire.logins() == 1


def test_threads_never_hold_more_than_the_limit(make_town: Callable[[int], Town]) -> None:
    """Nobody is refused while the limit is not reached: slots are created as they are needed."""
    town = make_town(1)
    settings = town.settings(REPLYRATE_IMAP__SESSIONS="11", REPLYRATE_IMAP__LOGINS_PER_HOUR="150").imap
    lock, open_sessions, most, done = threading.Lock(), 0, 0, 0

    def work(_: int) -> None:
        nonlocal open_sessions, most, done
        with connect(town.dsn, "tests") as connection:
            allowance = LoginSlots(connection, settings)
            for _ in range(20):
                try:
                    with allowance.session("imap.some.example"):
                        with lock:
                            open_sessions, done = open_sessions + 1, done + 1
                            most = max(most, open_sessions)
                        time.sleep(0.005)
                        with lock:
                            open_sessions -= 1
                except NoSlotFree:
                    continue

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert 2 <= most <= 11
    assert done <= 150
    with connect(town.dsn, "tests") as connection:
        allowance, taken = LoginSlots(connection, settings), done
        with pytest.raises(NoSlotFree) as refused:
            for _ in range(200):
                with allowance.session("imap.some.example"):
                    taken += 1
        assert taken == 150
        assert refused.value.short == "login" and 3600 < refused.value.again_seconds <= 3720
        with allowance.session("imap.other.example"):  # another provider's budget is its own
            pass
        assert connection.execute(
            "SELECT kind, max(number) FROM registry.login_slots WHERE provider = 'imap.some.example' GROUP BY kind ORDER BY kind"
        ).fetchall() == [("login", 150), ("session", 11)]


@pytest.mark.parametrize("attempt", range(4))
def test_simultaneous_logins_do_not_exhaust_a_wide_limit(make_town: Callable[[int], Town], attempt: int) -> None:
    """Each process takes slots that another has just created: that none is free for an instant does not mean that the limit is
    reached. (All sessions may be taken for an instant, and one is asked for again in seconds; a refused login postpones a
    mailbox by an hour.)"""
    town = make_town(1)
    settings = town.settings(REPLYRATE_IMAP__SESSIONS="64", REPLYRATE_IMAP__LOGINS_PER_HOUR="1000000").imap
    together = threading.Barrier(32)

    def work(_: int) -> set[str]:
        short: set[str] = set()
        with connect(town.dsn, "tests") as connection:
            allowance = LoginSlots(connection, settings)
            together.wait(30)
            for _ in range(10):
                try:
                    with allowance.session("imap.some.example"):
                        pass
                except NoSlotFree as refused:
                    short.add(refused.short)
        return short

    with ThreadPoolExecutor(32) as pool:
        assert "login" not in set().union(*pool.map(work, range(32)))


def test_an_expired_session_does_not_release_the_slot_of_another(dsn: str, make_town: Callable[[int], Town]) -> None:
    settings = make_town(1).settings(REPLYRATE_IMAP__SESSIONS="1").imap
    with connect(dsn, "tests") as first, connect(dsn, "tests") as second:
        slow, expired = LoginSlots(first, settings, session_seconds=0), LoginSlots(second, settings)
        with slow.session("imap.some.example"):
            taken = expired.session("imap.some.example")
            taken.__enter__()
        with pytest.raises(NoSlotFree) as refused, expired.session("imap.some.example"):
            pass
        assert refused.value.short == "session"
        taken.__exit__(None, None, None)


OPEN = (
    "INSERT INTO ledger.outcomes (rule_set, company_id, inquiry_id, rule_version, account_id, buyer_id, unit_day,"
    " received_at, outcome, state, due_at, changed_at) VALUES (%s, %s, %s, '1', 'main', 'b', current_date,"
    " clock_timestamp(), %s, 'provisional', clock_timestamp() + make_interval(secs => %s), clock_timestamp())"
)
WAITS = "SELECT company_id, extract(epoch FROM next_poll_at - clock_timestamp())::float8 FROM registry.mailboxes"


def waits(connection: psycopg.Connection) -> dict[str, float]:
    """Seconds until the next poll, by company."""
    return dict(connection.execute(WAITS).fetchall())


@pytest.fixture
def asleep(dsn: str) -> Iterator[psycopg.Connection]:
    """Mailboxes that were polled a minute ago and are due in an hour, seen by the role of the fetcher."""
    with connect(dsn, "tests") as connection:
        for company_id in (
            "near",
            "passed",
            "answered",
            "other-rules",
            "far",
            "failing",
            "read-now",
            "qq",
            "soon-enough",
        ):
            connection.execute("INSERT INTO registry.companies VALUES (%s)", [company_id])
            connection.execute("INSERT INTO registry.accounts VALUES (%s, 'main')", [company_id])
            connection.execute(
                "INSERT INTO registry.mailboxes (company_id, mailbox_id, account_id, role, state, address_masked, address_hash,"
                " host, port, login_hash, consent_by, consent_at, consent_text_version, last_attempt_at, next_poll_at, failures,"
                " lease_until) VALUES (%(c)s, 'm', 'main', 'registered', 'active', 'x', 'x', %(host)s, 993, %(c)s, 'x', now(), '1',"
                " clock_timestamp() - interval '1 minute', clock_timestamp() + %(due)s, %(failures)s, %(lease)s)",
                {
                    "c": company_id,
                    "host": "imap.qq.com" if company_id == "qq" else "imap.some.example",
                    "due": timedelta(minutes=5) if company_id == "soon-enough" else timedelta(hours=1),
                    "failures": int(company_id == "failing"),
                    "lease": datetime.now(UTC) + timedelta(minutes=3) if company_id == "read-now" else None,
                },
            )
            rule_set = "first-reply-24h" if company_id == "other-rules" else "default"
            seconds = {"passed": -60, "far": 3 * 86400, "qq": 200}.get(company_id, 600)
            outcome = "timely" if company_id == "answered" else "pending"
            connection.execute(OPEN, [rule_set, company_id, "i", outcome, seconds])
        connection.execute("SET ROLE replyrate_fetcher")
        yield connection


def test_polls_are_advanced_when_a_deadline_is_near(asleep: psycopg.Connection) -> None:
    before = waits(asleep)
    pacing = Pacing(asleep, 600, chance=lambda: 0.0)
    assert pacing.advance_for_deadlines() == 2
    after = waits(asleep)
    moved = {company_id for company_id in after if abs(after[company_id] - before[company_id]) > 30}
    assert moved == {"near", "qq"}
    assert 600 - 62 < after["near"] < 600 - 58  # half of the least pause (120 s) before the deadline
    assert 300 - 62 < after["qq"] < 300 - 58  # one login in five minutes: after the deadline, but as soon as it may be
    assert pacing.advance_for_deadlines() == 0
    assert abs(waits(asleep)["near"] - after["near"]) < 5


def next_seconds(pacing: Pacing, company_id: str, connected_at: datetime) -> float:
    (seconds,) = pacing.next_seconds([PacedMailbox(company_id, "m", "main", "imap.some.example", connected_at)])
    return seconds


def test_the_next_poll_after_a_poll_respects_the_deadline(asleep: psycopg.Connection) -> None:
    pacing = Pacing(asleep, 600, chance=lambda: 0.5)
    connected_at = datetime.now(UTC)

    def following(company_id: str) -> float:
        return next_seconds(pacing, company_id, connected_at)

    assert 500 < following("near") < 520
    assert [round(following(company_id)) for company_id in ("passed", "answered", "other-rules", "far")] == [600] * 4
    sleepy = next_seconds(pacing, "far", connected_at - timedelta(days=90))
    assert sleepy == 3600
    asleep.execute(
        "INSERT INTO registry.message_counts VALUES ('far', 'm', 'Sent', (now() AT TIME ZONE 'UTC')::date, 'human', 1, 0)"
    )
    awake = next_seconds(pacing, "far", connected_at - timedelta(days=90))
    assert round(awake) == 600


def test_a_fetcher_reads_an_idle_mailbox_before_its_deadline(make_town: Callable[[int], Town]) -> None:
    """From end to end: a connected mailbox, idle for hours, and an inquiry whose deadline is seconds away."""
    town = make_town(1)
    town.connect(town.settings(), *town.servers)
    town.run(
        "UPDATE registry.mailboxes SET next_poll_at = clock_timestamp() + interval '50 minutes', last_attempt_at = NULL"
    )
    with connect(town.dsn, "tests") as connection:
        connection.execute(OPEN, ["default", f"c{town.servers[0].port}", "i", "pending", 70])
    with town.fetcher("one", REPLYRATE_IMAP__POLL_INTERVAL_SECONDS="600") as fetcher:
        read = "SELECT last_success_at < due_at FROM registry.mailboxes JOIN ledger.outcomes USING (company_id)"
        until(lambda: town.run(read) == [(True,)], 30, "a poll before the deadline", (fetcher,))
        assert "polls-drawn" in (town.folder / "one.log").read_text()
        assert fetcher.terminate() == 0
