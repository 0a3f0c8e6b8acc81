"""Progress of polls that end at a limit, and servers that refuse or end a session at one message."""

import dataclasses
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg.rows import dict_row

from services.cli.registry.mailbox.show import folder_progress
from services.common.postgres import connect
from services.common.settings import KafkaSettings, Settings
from services.connect.onboarding import ConnectedMailbox
from services.fetcher import folder_reader
from services.registry import folder_records
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.mailbox import Folder
from tests.imap_lab.profiles import DOVECOT, GMAIL, NETEASE, Defect
from tests.imap_lab.server import LabServer
from tests.imap_lab.world import expected, fill, letter
from tests.support.builders import now
from tests.support.provider_lab import HASHER, KEY, SMALL, Lab, Serve, serve, topics

pytestmark = pytest.mark.pooled

HORIZON = timedelta(days=60)
__all__ = ["serve", "topics"]


@pytest.fixture
def lab(dsn: str, topics: KafkaSettings, tmp_path: Path, ca: CertificateAuthority) -> Lab:
    return Lab(dsn, topics, tmp_path, ca)


def published_all(lab: Lab, connected: ConnectedMailbox, server: LabServer, *lost: int) -> bool:
    wanted = expected(server, KEY, connected.company_id, now() - HORIZON + timedelta(hours=1))
    wanted -= {str(HASHER.message(connected.company_id, f"sent-{number}@lab.test")) for number in lost}
    return lab.published(connected) == wanted


def mailbox_row(dsn: str, connected: ConnectedMailbox) -> dict[str, Any]:
    with connect(dsn, "tests") as connection:
        cursor = connection.cursor(row_factory=dict_row)
        stored = cursor.execute(
            "SELECT * FROM registry.mailboxes WHERE company_id = %s", (connected.company_id,)
        ).fetchone()
    assert stored is not None
    return stored


def second_folder(server: LabServer) -> Folder:
    folder = Folder(b"Sent Items", b"\\Sent", uidvalidity=7)
    server.folders.append(folder)
    return folder


def test_much_new_mail_in_one_folder_is_read_over_polls_and_starves_no_other_folder(
    lab: Lab, serve: Serve, dsn: str
) -> None:
    server = serve(DOVECOT)
    fill(server, [now() - timedelta(hours=1)])
    small_folder = second_folder(server)
    connected = lab.connect(server)
    lab.complete(connected, server)
    through = mailbox_row(dsn, connected)["complete_through"]
    small = dataclasses.replace(SMALL, messages=4)
    fill(server, [now()] * 22, first=300)
    small_folder.file(letter(900, now(), server.user), now())
    small_folder.file(letter(901, now(), server.user), now())
    wanted = {str(HASHER.message(connected.company_id, f"sent-{number}@lab.test")) for number in (900, 901)}
    for number in range(1, 10):
        shown = lab.poll(connected, server, budgets=small)
        assert shown["state_reason"] is None
        done = len(lab.published(connected)) == 25
        assert (shown["complete_through"] > through) <= done
        if number == 2:
            assert wanted <= lab.published(connected)
        if shown["complete_through"] > through:
            break
        assert mailbox_row(dsn, connected)["next_poll_at"] <= now() + timedelta(seconds=1)
    assert len(lab.published(connected)) == 25 and shown["complete_through"] > through


@pytest.mark.parametrize("profile", [NETEASE, DOVECOT], ids=lambda profile: profile.name)
def test_a_scan_of_a_slow_server_ends_although_each_poll_passes_few_windows(
    lab: Lab, serve: Serve, dsn: str, monkeypatch: pytest.MonkeyPatch, profile: Any
) -> None:
    """Twenty windows of five messages, 0.4 s a search, and a poll that may read for 1.5 s; most mail is behind the horizon."""
    monkeypatch.setattr(folder_reader, "WINDOW", 5)
    settings = lab.settings

    def small_look_back(*servers: LabServer) -> Settings:
        read = settings(*servers)
        return read.model_copy(update={"imap": read.imap.model_copy(update={"look_back": 3})})

    monkeypatch.setattr(lab, "settings", small_look_back)
    server = serve(profile)
    fill(server, [now() - timedelta(days=400)] * 45, first=1)
    fill(server, [now() - timedelta(days=3)] * 5, first=100)
    fill(server, [now() - timedelta(days=300)] * 45, first=200)
    fill(server, [now() - timedelta(hours=2)] * 5, first=300)
    connected = lab.connect(server)
    server.search_seconds = 0.4
    slow = dataclasses.replace(SMALL, session_seconds=2)
    assert lab.complete(connected, server, most=20, budgets=slow) > 3
    assert len(lab.published(connected)) == 10
    before = len(lab.events(connected))
    lab.rescan(connected)
    for _ in range(20):
        shown = lab.poll(connected, server, budgets=slow)
        assert shown["state_reason"] is None
        if mailbox_row(dsn, connected)["reconcile_after"] > now():
            break
    assert mailbox_row(dsn, connected)["reconcile_after"] > now()
    assert len(lab.events(connected)) == before + 10


def test_a_window_is_passed_only_when_all_of_its_messages_were_read(
    lab: Lab, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polls that may read fewer messages than are in a window."""
    monkeypatch.setattr(folder_reader, "WINDOW", 5)
    server = serve(DOVECOT)
    fill(server, sorted(now() - timedelta(hours=hour) for hour in range(23)))
    connected = lab.connect(server)
    for messages in (1, 3, 4, 7):
        lab.complete(connected, server, most=60, budgets=dataclasses.replace(SMALL, messages=messages))
        assert published_all(lab, connected, server)
        server.sent.renumber(uidvalidity=100 + messages)
        fill(server, sorted(now() - timedelta(minutes=minute) for minute in range(3)), first=100 * messages)


TEMPORARY = [
    b"NO [TEMPFAIL] try",
    b"NO [SERVERBUG] oops",
    b"NO [UNAVAILABLE] backend",
    b"NO Server Unavailable. 15",
    b"NO Temporary failure",
]


@pytest.mark.parametrize("text", TEMPORARY)
def test_a_temporary_refusal_costs_no_message(lab: Lab, serve: Serve, text: bytes) -> None:
    server = serve(DOVECOT)
    fill(server, sorted(now() - timedelta(hours=hour) for hour in range(20)))
    connected = lab.connect(server)
    server.refusal, server.refusals_left = text, 5
    server.defects.add(Defect.NO_IN_FETCH)
    shown = lab.poll(connected, server)
    assert lab.buried(connected) == 0 and shown["complete_through"] is None
    lab.complete(connected, server, most=3)
    assert published_all(lab, connected, server) and lab.buried(connected) == 0


def test_a_message_refused_for_now_is_rejected_only_after_repeated_refusals(
    lab: Lab, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(DOVECOT)
    fill(server, sorted(now() - timedelta(hours=hour) for hour in range(20)))
    server.refusal = b"NO [SERVERBUG] Internal error"
    server.refused_uid = 7
    server.defects.add(Defect.REFUSED_MESSAGE)
    connected = lab.connect(server)
    for _ in range(4):
        shown = lab.poll(connected, server)
        assert shown["state_reason"] is None and shown["complete_through"] is None
    assert lab.buried(connected) == 0 and published_all(lab, connected, server, 7)
    monkeypatch.setattr(folder_reader, "REFUSED_BEFORE_REJECT", timedelta(0))
    lab.complete(connected, server, most=2)
    assert lab.buried(connected) == 1
    assert lab.complete(connected, server) == 1 and lab.buried(connected) == 1


@pytest.mark.parametrize("defect", [Defect.BYE_AT_MESSAGE, Defect.EOF_AT_MESSAGE], ids=lambda defect: defect.name)
def test_a_message_that_ends_the_session_is_rejected_and_the_others_are_read(
    lab: Lab, serve: Serve, defect: Defect
) -> None:
    server = serve(DOVECOT, defect)
    fill(server, sorted(now() - timedelta(hours=hour) for hour in range(300)))
    server.refused_uid = 123
    connected = lab.connect(server)
    assert lab.complete(connected, server, most=3) == 1
    assert lab.buried(connected) == 1 and published_all(lab, connected, server, 123)
    server.refused_uid = server.sent.file(letter(999, now(), server.user), now()).uid
    lab.poll(connected, server)
    assert lab.buried(connected) == 2 and published_all(lab, connected, server, 123, 999)


@pytest.mark.parametrize("defect", [Defect.BYE_AT_MESSAGE, Defect.EOF_AT_MESSAGE], ids=lambda defect: defect.name)
def test_many_messages_that_end_the_session_cost_only_themselves(lab: Lab, serve: Serve, defect: Defect) -> None:
    """More of them than a poll may open sessions for: what is left waits, and each poll gets further."""
    server = serve(DOVECOT, defect)
    fill(server, sorted(now() - timedelta(hours=hour) for hour in range(300)))
    damaged = {1, 2, 3, 100, 101, 150, 199, 200, 201, 250, 299, 300}
    server.more_refused_uids = damaged
    connected = lab.connect(server)
    assert 1 < lab.complete(connected, server) <= 6
    assert lab.buried(connected) == len(damaged) and published_all(lab, connected, server, *damaged)


def test_a_message_for_which_the_server_asks_for_fewer_requests_is_rejected_in_the_end(lab: Lab, serve: Serve) -> None:
    """The first polls that fail so wait as for any other provider that asks for less."""
    server = serve(DOVECOT, Defect.BUSY_AT_MESSAGE)
    fill(server, sorted(now() - timedelta(hours=hour) for hour in range(30)))
    server.refused_uid = 12
    connected = lab.connect(server)
    reasons = [lab.poll(connected, server)["state_reason"] for _ in range(3)]
    assert reasons == ["throttled"] * 3 and lab.buried(connected) == 0
    assert lab.complete(connected, server, most=2) <= 2
    assert lab.buried(connected) == 1 and published_all(lab, connected, server, 12)


IMPATIENT = dataclasses.replace(SMALL, command_seconds=1, session_seconds=8)


@pytest.mark.parametrize(
    ("defect", "silent"),
    [
        (Defect.SILENT_AT_MESSAGE, {1, 300}), (Defect.SILENT_AT_MESSAGE, {122, 123, 298}), (Defect.SILENT_COMMAND, {300}),
        (Defect.SILENT_COMMAND, {7, 123}),
    ],
    ids=str,
)  # fmt: skip
def test_messages_that_the_server_never_answers_for_wait_and_all_others_are_read(
    lab: Lab, serve: Serve, monkeypatch: pytest.MonkeyPatch, defect: Defect, silent: set[int]
) -> None:
    server = serve(DOVECOT, defect)
    fill(server, sorted(now() - timedelta(hours=hour) for hour in range(300)))
    server.more_refused_uids = silent
    connected = lab.connect(server)
    for _ in range(8):
        shown = lab.poll(connected, server, budgets=IMPATIENT)
        if published_all(lab, connected, server, *silent):
            break
    assert shown["complete_through"] is None and lab.buried(connected) == 0
    assert published_all(lab, connected, server, *silent)
    # New mail is read while they wait, also beside new mail that the server does not answer for.
    server.sent.file(letter(998, now(), server.user), now())
    waiting = {*silent, server.sent.file(letter(999, now(), server.user), now()).uid}
    server.more_refused_uids = waiting
    lab.poll(connected, server, budgets=IMPATIENT)
    lab.poll(connected, server, budgets=IMPATIENT)
    assert published_all(lab, connected, server, *silent, 999) and lab.buried(connected) == 0
    monkeypatch.setattr(folder_reader, "REFUSED_BEFORE_REJECT", timedelta(0))
    lab.complete(connected, server, budgets=IMPATIENT)
    assert lab.buried(connected) == len(waiting) and published_all(lab, connected, server, *silent, 999)


def test_messages_that_were_not_answered_in_time_are_read_when_they_are(lab: Lab, serve: Serve) -> None:
    server = serve(DOVECOT, Defect.SILENT_AT_MESSAGE)
    fill(server, sorted(now() - timedelta(hours=hour) for hour in range(30)))
    server.refused_uid = 12
    connected = lab.connect(server)
    shown = lab.poll(connected, server)
    assert shown["complete_through"] is None and published_all(lab, connected, server, 12)
    assert [folder["waiting"] for folder in shown["folders"]] == [1]
    assert "1 that the server does not show" in folder_progress(shown["folders"][0])
    server.refused_uid = 0
    assert lab.complete(connected, server, most=2) <= 2
    assert published_all(lab, connected, server) and lab.buried(connected) == 0


def test_a_server_that_answers_for_no_message_is_at_fault_and_nothing_is_given_up(lab: Lab, serve: Serve) -> None:
    server = serve(DOVECOT, Defect.SILENT_AT_MESSAGE)
    fill(server, sorted(now() - timedelta(hours=hour) for hour in range(30)))
    server.more_refused_uids = set(range(1, 31))
    connected = lab.connect(server)
    for _ in range(3):
        assert lab.poll(connected, server, budgets=IMPATIENT)["state_reason"] == "budget-spent"
    assert lab.published(connected) == set() and lab.buried(connected) == 0
    server.more_refused_uids = set()
    lab.complete(connected, server)
    assert published_all(lab, connected, server) and lab.buried(connected) == 0


def test_a_message_that_is_larger_than_a_session_may_take_is_rejected(lab: Lab, serve: Serve) -> None:
    server = serve(DOVECOT, Defect.HUGE_MESSAGE)
    fill(server, sorted(now() - timedelta(hours=hour) for hour in range(300)))
    server.refused_uid = 123
    connected = lab.connect(server)
    lab.complete(connected, server, most=3)
    assert lab.buried(connected) == 1 and published_all(lab, connected, server, 123)


def test_two_mails_with_one_message_id_are_two_messages_and_stay_the_same(lab: Lab, serve: Serve) -> None:
    server = serve(GMAIL)
    first, second = now() - timedelta(hours=30), now() - timedelta(hours=3)
    server.sent.file(letter(1, first, server.user).replace(b"To: ", b"To: first@other.example, "), first)
    server.sent.file(letter(1, second, server.user), second)
    connected = lab.connect(server)
    lab.complete(connected, server)
    before = {event.message_id: event for event in lab.events(connected)}
    assert len(before) == 2 and str(HASHER.message(connected.company_id, "sent-1@lab.test")) in before
    for _ in range(2):
        lab.rescan(connected)
        lab.complete(connected, server)
    assert {event.message_id: event for event in lab.events(connected)} == before


def test_the_newest_references_of_a_header_that_is_too_long_are_read(lab: Lab, serve: Serve) -> None:
    server = serve(GMAIL)
    sent_at = now() - timedelta(hours=3)
    ids = [f"<{number:04}.{'x' * 80}@shop.example>" for number in range(500)]
    references = "References: " + "\r\n ".join(ids) + f"\r\nIn-Reply-To: {ids[-1]}\r\n"
    server.sent.file(references.encode() + letter(1, sent_at, server.user), sent_at)
    connected = lab.connect(server)
    lab.complete(connected, server)
    (event,) = lab.events(connected)
    used = [HASHER.message(connected.company_id, text) for text in (ids[0], *ids[-19:])]
    assert list(event.references) == used and list(event.in_reply_to) == used[-1:]


def test_folders_that_are_renamed_in_each_list_are_trimmed_and_back_off(
    lab: Lab, serve: Serve, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_records, "MAX_RETIRED_FOLDERS", 10)
    server = serve(DOVECOT)
    fill(server, [now() - timedelta(hours=1)])
    connected = lab.connect(server)
    small = dataclasses.replace(SMALL, messages=4)
    for number in range(6):
        server.folders = [Folder(b"Sent %d-%d" % (number, index), b"\\Sent", uidvalidity=7) for index in range(8)]
        for folder in server.folders:
            folder.file(letter(1, now(), server.user), now())
        lab.poll(connected, server, budgets=small)
    mailbox = mailbox_row(dsn, connected)
    assert mailbox["fruitless_polls"] == 6 and mailbox["next_poll_at"] > now() + timedelta(seconds=60)
    with connect(dsn, "tests") as connection:
        counted = connection.execute(
            "SELECT count(*) AS folders FROM registry.folders WHERE company_id = %s AND NOT current",
            (connected.company_id,),
        ).fetchone()
    assert counted is not None and counted[0] <= 10


@pytest.mark.parametrize("cause", ["refused", "paused", "outage"])
def test_mail_filed_while_the_owner_kept_the_mailbox_from_being_read_is_suspect(
    lab: Lab, serve: Serve, dsn: str, cause: str
) -> None:
    server = serve(NETEASE)
    fill(server, [now() - timedelta(days=3)])
    connected = lab.connect(server)
    lab.complete(connected, server)
    interrupted_at = {"refused": "clock_timestamp() - interval '2 hours'"}.get(cause, "NULL")
    changed_at = "clock_timestamp() - interval '2 hours'" if cause == "paused" else "connected_at - interval '5 days'"
    with connect(dsn, "tests") as connection:
        connection.execute(
            "UPDATE registry.mailboxes SET complete_through = complete_through - interval '1 day',"
            f" interrupted_at = {interrupted_at}, state_changed_at = {changed_at} WHERE company_id = %s",
            (connected.company_id,),
        )
    at = now() - timedelta(hours=20)
    server.sent.file(letter(500, at, server.user), at)
    lab.poll(connected, server)
    events = {event.message_id: event for event in lab.events(connected)}
    event = events[str(HASHER.message(connected.company_id, "sent-500@lab.test"))]
    assert event.evidence == ("verified" if cause == "outage" else "suspect")


def test_a_refused_login_is_remembered_as_an_interruption_and_an_outage_is_not(
    lab: Lab, serve: Serve, dsn: str
) -> None:
    server = serve(NETEASE)
    fill(server, [now() - timedelta(hours=1)])
    connected = lab.connect(server)
    lab.complete(connected, server)
    server.defects.add(Defect.CLOSED_EARLY)
    lab.poll(connected, server)
    assert mailbox_row(dsn, connected)["interrupted_at"] is None
    server.defects.discard(Defect.CLOSED_EARLY)
    secret, server.secret = server.secret, "another"
    lab.poll(connected, server)
    server.secret = secret
    started = time.time()
    refused_at = mailbox_row(dsn, connected)["interrupted_at"]
    assert refused_at is not None and abs(refused_at.timestamp() - started) < 60
    lab.poll(connected, server)
    assert mailbox_row(dsn, connected)["interrupted_at"] == refused_at
