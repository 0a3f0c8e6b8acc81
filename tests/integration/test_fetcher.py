"""The fetcher as a process: real mailboxes on Dovecot and pymap, a real registry, a real Kafka."""

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from services.common import codec
from services.common.kafka import Publisher
from services.common.postgres import connect
from services.common.settings import load_settings
from services.common.topics import DEAD, SENT
from services.connect.onboarding import MailboxRefused, add_mailbox
from services.connect.requests import ConnectRequest
from services.connect.tester import ConnectionTester
from services.imap.connection import CHUNK
from services.imap.host_policy import resolve
from services.imap.limits import SessionLimits
from services.registry.errors import RegistryError
from services.registry.leases import PollEnd
from services.registry.vault import Vault
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.profiles import DOVECOT, Defect
from tests.imap_lab.server import LabServer
from tests.support.dovecot import Dovecot
from tests.support.fetcher_lab import (
    HASHER,
    USER,
    VAULT_KEY,
    Lab,
    Server,
    imap_settings,
    lab,
    letter,
    make_lab,
)
from tests.support.pollers import make_poller
from tests.support.processes import until
from tests.support.servers import USERS
from tests.support.topics import read_all

pytestmark = pytest.mark.pooled

__all__ = ["lab", "make_lab"]

PATIENCE = 120
"""Seconds until a condition must hold, on a busy machine too."""


@pytest.fixture
def dovecot_lab(dovecot: Dovecot, make_lab: Callable[[Server], Lab]) -> Lab:
    return make_lab(dovecot)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def test_history_and_new_mail_are_published_with_hashes_only(lab: Lab) -> None:
    history = [now() - timedelta(days=day) for day in (1, 2, 3, 55, 90)]
    for number, at in enumerate(history):
        lab.server.append(USER, "Sent", letter(number, at, "In-Reply-To: <ask@platform.example>"), at)
    connected = lab.connect()
    with lab.fetcher() as fetcher:
        until(lambda: lab.complete(connected.mailbox_id), PATIENCE, "first scan", (fetcher,))
        since = now()
        lab.server.append(USER, "Sent", letter(10, since), since)
        until(
            lambda: len({event.message_id for event in lab.sent()}) == 5,
            PATIENCE,
            "the new mail is published",
            (fetcher,),
        )
        assert fetcher.terminate() == 0
    events = {event.message_id: event for event in lab.sent()}
    expected = {HASHER.message("c1", f"sent-{number}@mail.test") for number in (0, 1, 2, 3, 10)}
    assert set(events) == expected
    fresh = events[str(HASHER.message("c1", "sent-10@mail.test"))]
    assert (fresh.sent_at, fresh.evidence, fresh.kind) == (since, "verified", "human")
    assert fresh.recipients == (HASHER.address("c1", "buyer@shop.example"),)
    old = events[str(HASHER.message("c1", "sent-0@mail.test"))]
    assert old.in_reply_to == (HASHER.message("c1", "ask@platform.example"),)
    shown = lab.mailbox(connected.mailbox_id)
    assert (shown["state"], shown["messages_seen"]) == ("active", 5)


def test_a_kill_in_a_first_scan_loses_nothing_and_a_rescan_publishes_the_same_bytes(dovecot_lab: Lab) -> None:
    lab = dovecot_lab
    base = now() - timedelta(days=20)
    for number in range(450):
        at = base + timedelta(minutes=number)
        lab.server.append(USER, "Sent", letter(number, at), at)
    connected = lab.connect()
    with lab.fetcher("first") as fetcher:
        until(lambda: len(read_all(lab.kafka, SENT)) >= 100, PATIENCE, "some messages are published", (fetcher,))
        fetcher.kill()
    with lab.registry() as registry:
        registry.connection.execute("UPDATE registry.mailboxes SET lease_until = clock_timestamp()")
    with lab.fetcher("second") as fetcher:
        until(lambda: lab.complete(connected.mailbox_id), PATIENCE, "first scan", (fetcher,))
        before = {record.value for record in read_all(lab.kafka, SENT)}
        assert len({event.message_id for event in lab.sent()}) == 450
        with lab.registry() as registry:
            count = len(read_all(lab.kafka, SENT))
            registry.mailboxes.rescan("c1", connected.mailbox_id)
        until(lambda: len(read_all(lab.kafka, SENT)) >= count + 450, PATIENCE, "the rescan", (fetcher,))
        assert fetcher.terminate() == 0
    assert {record.value for record in read_all(lab.kafka, SENT)} == before
    assert lab.mailbox(connected.mailbox_id)["messages_seen"] == 450


def test_two_copies_of_a_message_in_batches_that_follow_each_other_are_one_message(dovecot_lab: Lab) -> None:
    """The second batch is parsed before the first is saved, and its duplicates of messages in flight are recognised."""
    lab = dovecot_lab
    base = now() - timedelta(days=20)
    for number in range(CHUNK + 30):
        at = base + timedelta(minutes=number)
        copy = number in (10, CHUNK + 20)  # newest first: one in the first batch, one in the second
        lab.server.append(USER, "Sent", letter(0 if copy else number + 1, base if copy else at), at)
    connected = lab.connect()
    with lab.fetcher() as fetcher:
        until(lambda: lab.complete(connected.mailbox_id), PATIENCE, "first scan", (fetcher,))
        assert fetcher.terminate() == 0
    records = [record.value for record in read_all(lab.kafka, SENT)]
    assert len(records) == CHUNK + 30
    assert len(set(records)) == len({event.message_id for event in lab.sent()}) == CHUNK + 29
    assert lab.mailbox(connected.mailbox_id)["messages_seen"] == CHUNK + 29


def test_a_scan_continues_although_every_session_ends_in_its_second_batch(dovecot_lab: Lab) -> None:
    """The first batch is in flight when the second uses up the session's bytes: it is saved, and the next poll starts below it."""
    lab = dovecot_lab
    base = now() - timedelta(days=20)
    for number in range(2 * CHUNK + 20):
        at = base + timedelta(minutes=number)
        lab.server.append(USER, "Sent", letter(number, at), at)
    connected = lab.connect()
    environ = load_settings(lab.environ)
    with lab.registry() as registry, lab.leases() as leases, Publisher(lab.kafka, "tests") as publisher:
        poller = make_poller(leases, publisher, HASHER, environ, limits=SessionLimits(session_bytes=130_000))
        marks = []
        for _ in range(8):
            registry.connection.execute("UPDATE registry.mailboxes SET next_poll_at = now()")
            leased = leases.lease("tests", 60)
            assert leased is not None
            poller.poll(leased)
            marks.append(lab.mailbox(connected.mailbox_id)["messages_seen"])
            if lab.complete(connected.mailbox_id):
                break
    assert marks[0] >= CHUNK and marks[-1] == 2 * CHUNK + 20 and len(marks) > 1


def test_no_mailbox_becomes_complete_while_the_clock_of_postgres_is_ahead(dovecot_lab: Lab) -> None:
    lab = dovecot_lab
    at = now() - timedelta(days=1)
    lab.server.append(USER, "Sent", letter(1, at), at)
    connected = lab.connect()
    environ = load_settings(lab.environ)
    behind = timedelta(hours=20)

    def polled() -> datetime | None:
        with lab.registry() as registry, lab.leases() as leases, Publisher(lab.kafka, "tests") as publisher:
            registry.connection.execute("UPDATE registry.mailboxes SET next_poll_at = now()")
            leased = leases.lease("tests", 60)
            assert leased is not None
            make_poller(leases, publisher, HASHER, environ, clock=lambda: now() - behind).poll(leased)
        through: datetime | None = lab.mailbox(connected.mailbox_id)["complete_through"]
        return through

    assert polled() is None
    assert len(lab.sent()) == 1, "what was read is published all the same"
    behind = timedelta(minutes=4)
    assert polled() is not None


def test_a_rescan_asked_for_during_a_poll_is_not_lost(dovecot_lab: Lab) -> None:
    dovecot_lab.connect()
    with dovecot_lab.registry() as registry, dovecot_lab.leases() as leases:

        def poll(*, rescan: bool) -> bool:
            """One reconciling poll; whether another one is due right after it."""
            leased = leases.lease("tests", 30)
            assert leased is not None
            if rescan:
                registry.mailboxes.rescan("c1", leased.mailbox_id)
            end = PollEnd(leased, complete=True, reconciled=True, complete_from=now(), next_seconds=60)
            assert leases.end_polls([end]) == [True]
            again = leases.lease("tests", 30)
            if again is None:
                return False
            leases.fail_poll(again, reason=None, next_seconds=0, counts=False)
            return again.reconcile_after is not None and again.reconcile_after <= again.now

        assert not poll(rescan=False)
        registry.connection.execute("UPDATE registry.mailboxes SET next_poll_at = clock_timestamp()")
        assert poll(rescan=True)
        assert not poll(rescan=False)


def test_another_uidvalidity_is_read_again_unchanged(dovecot_lab: Lab) -> None:
    lab = dovecot_lab
    assert isinstance(lab.server, Dovecot)
    for number in range(5):
        at = now() - timedelta(hours=number + 1)
        lab.server.append(USER, "Sent", letter(number, at), at)
    connected = lab.connect()
    with lab.fetcher() as fetcher:
        until(lambda: lab.complete(connected.mailbox_id), PATIENCE, "first scan", (fetcher,))
        lab.server.stop()
        lab.server.reset_uidvalidity(USER)
        lab.server.start()
        with lab.registry() as registry:
            registry.connection.execute("UPDATE registry.mailboxes SET next_poll_at = clock_timestamp()")
        until(lambda: len(read_all(lab.kafka, SENT)) >= 10, PATIENCE, "every message is published again", (fetcher,))
        assert fetcher.terminate() == 0
    assert len({record.value for record in read_all(lab.kafka, SENT)}) == 5


def test_one_broken_mailbox_costs_only_itself(dovecot_lab: Lab) -> None:
    lab = dovecot_lab
    good = lab.connect()
    bad = lab.connect("seller-2@mail.test", "c2")
    with connect(lab.dsn, "tests") as connection:
        sealed = Vault(VAULT_KEY).seal(
            "wrong-canary",
            "c2",
            bad.mailbox_id,
            "localhost",
            str(lab.server.port),
            "seller-2@mail.test",
            field="secret",
        )
        connection.execute("UPDATE registry.secrets SET sealed = %s WHERE company_id = 'c2'", (sealed,))
    with lab.fetcher() as fetcher:
        until(lambda: lab.complete(good.mailbox_id), PATIENCE, "the good mailbox is read", (fetcher,))
        for failures in (1, 2):
            until(
                lambda: lab.mailbox(bad.mailbox_id, "c2")["failures"] >= failures,  # noqa: B023
                PATIENCE,
                "the login is refused",
                (fetcher,),
            )
            assert lab.mailbox(bad.mailbox_id, "c2")["state_reason"] == "login-refused"
            with connect(lab.dsn, "tests") as connection:
                connection.execute(
                    "UPDATE registry.mailboxes SET next_poll_at = clock_timestamp() WHERE company_id = 'c2'"
                )
        until(
            lambda: lab.mailbox(bad.mailbox_id, "c2")["state"] == "needs_reconnect",
            PATIENCE,
            "the login is given up",
            (fetcher,),
        )
        assert fetcher.terminate() == 0


def test_two_fetchers_never_read_one_mailbox_at_once(dovecot_lab: Lab) -> None:
    lab = dovecot_lab
    connected = [lab.connect(user, f"c{number}") for number, user in enumerate(list(USERS)[:4])]
    with lab.fetcher("first") as first, lab.fetcher("second") as second:
        for process in (first, second):  # a busy machine takes longer to start one than the rounds take
            until(
                lambda: any(line.get("action") == "service-started" for line in process.lines()),  # noqa: B023
                PATIENCE, "both are started", (first, second),
            )  # fmt: skip
        since = now() + timedelta(seconds=3)
        until(
            lambda: all(
                (lab.mailbox(mailbox.mailbox_id, mailbox.company_id)["complete_through"] or now()) > since
                for mailbox in connected
            ),
            PATIENCE, "several rounds", (first, second),
        )  # fmt: skip
        assert first.terminate() == 0
        assert second.terminate() == 0
    assert isinstance(lab.server, Dovecot)
    log = (lab.server.data_dir / "dovecot.log").read_text("utf-8", "replace")
    polls = 0
    sessions: dict[str, int] = {}
    for line in log.splitlines():
        if login := re.search(r"imap-login: .*Login: user=<([^>]+)>", line):
            sessions[login[1]] = sessions.get(login[1], 0) + 1
            polls += 1
            # The server logs a logout a moment after it has answered it, so one session may just have ended.
            assert sessions[login[1]] <= 2, line
        elif logout := re.search(r"imap\(([^)]+)\)<.*(Disconnected|Logged out|Connection closed)", line):
            sessions[logout[1]] = sessions.get(logout[1], 0) - 1
    assert polls > 12


def test_no_address_secret_or_text_of_a_mail_leaves_the_vault(dovecot_lab: Lab) -> None:
    lab = dovecot_lab
    lab.server.append(USER, "Sent", letter(1, now()), now())
    connected = lab.connect()
    with lab.fetcher() as fetcher:
        until(lambda: lab.complete(connected.mailbox_id) and bool(lab.sent()), PATIENCE, "first scan", (fetcher,))
        assert fetcher.terminate() == 0
        log = fetcher.log.read_text("utf-8")
    topics = b"".join(
        (record.key or b"") + (record.value or b"") for name in (SENT, DEAD) for record in read_all(lab.kafka, name)
    )
    with connect(lab.dsn, "tests") as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN ('registry', 'ledger', 'replyrate')"
            " AND table_type = 'BASE TABLE'"
        ).fetchall()
        rows = "".join(
            json.dumps(connection.execute(f'SELECT json_agg(t)::text FROM "{schema}"."{name}" t').fetchone())
            for schema, name in tables
        )
    for canary in (USER, "seller-1", USERS[USER], "buyer@shop.example", "canary-subject", "canary-body"):
        hexed = canary.encode().hex()
        assert canary not in log
        assert canary.encode() not in topics
        assert canary not in rows and hexed not in rows


def test_a_refused_connection_states_what_is_wrong(dovecot_lab: Lab) -> None:
    lab = dovecot_lab
    with pytest.raises(MailboxRefused, match="refused user name or password") as caught:
        lab.connect(password="wrong-canary")
    assert caught.value.stage == "login" and "canary" not in str(caught.value)
    with pytest.raises(RegistryError, match="nobody consented") as refused:
        with lab.registry() as registry:
            request = ConnectRequest("c1", "main", USER, "x", consent_by=" ", host="localhost", port=lab.server.port)
            add_mailbox(registry, request, ConnectionTester(imap_settings(lab.server), resolve, "0"))
    assert refused.value.remedy == "consent-give"
    lab.connect()
    with pytest.raises(RegistryError, match="connected already as mailbox"):
        lab.connect()
    with pytest.raises(RegistryError, match="connected by another company"):
        lab.connect(company_id="c9")
    with lab.registry() as registry:
        registry.accounts.add("c1", "platform", synced_from=now())
    with pytest.raises(RegistryError, match="needs no mailbox"):
        lab.connect("seller-3@mail.test", account_id="platform")
    with pytest.raises(MailboxRefused, match="cannot be used"), lab.registry() as registry:
        closed = imap_settings(lab.server).model_copy(update={"allowed_private_networks": (ip_network("10.0.0.0/8"),)})
        request = ConnectRequest(
            "c1", "main", "seller-4@mail.test", "x", "tests", host="localhost", port=lab.server.port
        )
        add_mailbox(registry, request, ConnectionTester(closed, resolve, "0"))


def test_a_changed_address_and_the_states_a_person_sets(dovecot_lab: Lab) -> None:
    lab = dovecot_lab
    connected = lab.connect()
    with lab.registry() as registry, lab.leases() as leases:
        registry.mailboxes.pause("c1", connected.mailbox_id)
        with pytest.raises(RegistryError, match="only an active mailbox can be paused"):
            registry.mailboxes.pause("c1", connected.mailbox_id)
        assert leases.lease("tests", 30) is None
        registry.mailboxes.resume("c1", connected.mailbox_id)
        assert registry.addresses.set("c1", "main", "registered", USER) == []
        assert registry.addresses.set("c1", "main", "registered", "new@mail.test") == [connected.mailbox_id]
        assert registry.mailboxes.details("c1", connected.mailbox_id)["state"] == "needs_reconnect"
        registry.mailboxes.remove("c1", connected.mailbox_id)
        with pytest.raises(RegistryError, match="removed before"):
            registry.mailboxes.remove("c1", connected.mailbox_id)
        with pytest.raises(RegistryError, match="no mailbox m-none"):
            registry.mailboxes.rescan("c1", "m-none")
    assert lab.connect().mailbox_id != connected.mailbox_id


def test_one_message_that_cannot_be_read_costs_one_dead_letter(
    make_lab: Callable[[Server], Lab], ca: CertificateAuthority, tmp_path: Path
) -> None:
    """The answer for UID 3 is not valid IMAP, alone or among others; the other messages are published."""
    with LabServer(tmp_path / "server", ca, DOVECOT, user=USER, secret=USERS[USER]) as server:
        server.defects.add(Defect.BROKEN_MESSAGE)
        server.refused_uid = 3
        for uid in range(1, 6):
            at = now() - timedelta(hours=6 - uid)
            server.append(USER, "Sent", letter(uid, at), at)
        lab = make_lab(server)
        connected = lab.connect()
        with lab.fetcher() as fetcher:
            until(lambda: lab.complete(connected.mailbox_id), PATIENCE, "the scan", (fetcher,))
            assert fetcher.terminate() == 0
    assert {event.message_id for event in lab.sent()} == {
        HASHER.message("c1", f"sent-{uid}@mail.test") for uid in (1, 2, 4, 5)
    }
    dead_letters = [
        codec.decode(record.value or b"", accept=frozenset({"replyrate.dead-letter.v1"})).data
        for record in read_all(lab.kafka, DEAD)
    ]
    assert {(letter.reason, letter.mailbox_id, letter.uid, letter.value) for letter in dead_letters} == {  # type: ignore[union-attr]
        ("unreadable-message", connected.mailbox_id, 3, None)
    }


def test_it_stops_in_time_while_a_server_hangs_and_while_dependencies_are_away(dovecot_lab: Lab) -> None:
    lab = dovecot_lab
    assert isinstance(lab.server, Dovecot)
    connected = lab.connect()
    with lab.fetcher("hanging") as fetcher:
        until(lambda: lab.complete(connected.mailbox_id), PATIENCE, "first scan", (fetcher,))
        lab.server.pause()
        try:
            time.sleep(1.5)
            assert fetcher.terminate() == 0
        finally:
            lab.server.resume()
    for setting, value in (
        ("KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9"),
        ("POSTGRES__DSN", "postgresql://127.0.0.1:9/x"),
    ):
        with lab.fetcher(setting, **{f"REPLYRATE_{setting}": value}) as fetcher:
            until(
                lambda: any(line.get("action") == "dependency-away" for line in fetcher.lines()),
                PATIENCE, "the dependency is reported as away", (fetcher,),
            )  # fmt: skip
            assert fetcher.terminate() == 0
