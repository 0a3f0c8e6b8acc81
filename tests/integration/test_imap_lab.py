"""The fetcher against every provider and defect of the lab: the events it publishes, the commands it sends, the resources it
uses, and that no other mailbox is affected."""

import dataclasses
import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from services.common import metrics
from services.common.postgres import connect
from services.common.settings import KafkaSettings
from services.connect.onboarding import ConnectedMailbox, MailboxRefused
from services.fetcher.poll_report import metrics_from_zero
from services.imap.connection import connect as connect_imap
from services.imap.errors import CommandRefused, LoginRefused, Throttled
from services.imap.folders import folder_name
from services.imap.host_policy import Endpoint
from services.imap.limits import SessionLimits
from services.imap.tls import tls_context
from services.registry.vault import Vault
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.mailbox import Folder, SentCommand
from tests.imap_lab.profiles import DOVECOT, GMAIL, NETEASE, OUTLOOK, PROFILES, QQ, YAHOO, Defect, Profile
from tests.imap_lab.server import LabServer
from tests.imap_lab.world import CANARY, expected, fill, letter
from tests.support.builders import now
from tests.support.provider_lab import HASHER, KEY, SMALL, Lab, Serve, serve, topics
from tests.support.wire import allowed

HORIZON = timedelta(days=60)
AGES = (timedelta(hours=2), timedelta(days=1), timedelta(days=9), timedelta(days=29), timedelta(days=33),
        timedelta(days=59, hours=20), timedelta(days=75))  # fmt: skip
__all__ = ["serve", "topics"]


@pytest.fixture
def lab(dsn: str, topics: KafkaSettings, tmp_path: Path, ca: CertificateAuthority) -> Lab:
    return Lab(dsn, topics, tmp_path, ca)


def since() -> datetime:
    """Nothing older is published."""
    return datetime.now(UTC) - HORIZON + timedelta(hours=1)


class Memory:
    """Peak growth of this process's resident memory, the server's own buffers included."""

    def __init__(self) -> None:
        self.grown = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(5)

    def _measure(self) -> None:
        process = psutil.Process()
        before = process.memory_info().rss
        while not self._ended.wait(0.01):
            self.grown = max(self.grown, process.memory_info().rss - before)


def check_wire(commands: list[SentCommand]) -> None:
    """Only allowed commands, ID before a folder is opened, UIDs ascending and at most 200 at once."""
    assert commands
    for sent in commands:
        assert allowed(sent.command), sent.command
    for session in {sent.session for sent in commands}:
        names = [sent.name for sent in commands if sent.session == session]
        if b"ID" in names and b"EXAMINE" in names:
            assert names.index(b"LOGIN") < names.index(b"ID") < names.index(b"EXAMINE")
        for sent in commands:
            if sent.session == session and sent.name == b"UID FETCH":
                uids = [int(uid) for uid in sent.command.split()[2].split(b",")]
                assert uids == sorted(set(uids)) and len(uids) <= 200


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_provider_is_read_correctly(lab: Lab, serve: Serve, name: str) -> None:
    """History, new mail, an idle poll, and a rescan that publishes the same bytes."""
    server = serve(PROFILES[name])
    server.defects.discard(Defect.LOGIN_DISABLED)  # a password; signing in at the provider is tested on its own
    fill(server, sorted(now() - age for age in AGES))
    connected = lab.connect(server)
    assert lab.complete(connected, server) == 1
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since())
    server.sent.file(letter(100, now(), server.user), now())
    lab.poll(connected, server)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since())
    fresh = {event.message_id: event for event in lab.events(connected)}[
        str(HASHER.message(connected.company_id, "sent-100@lab.test"))
    ]
    assert (fresh.evidence, fresh.kind) == ("verified", "human")
    before = len(lab.events(connected))
    lab.poll(connected, server)
    assert len(lab.events(connected)) == before
    names = [sent.name for sent in server.commands(-1)]
    # Greetings with capabilities leave nothing to ask for before the login.
    asked = [] if b"[CAPABILITY " in PROFILES[name].greeting else [b"CAPABILITY"]
    opening = [*asked, b"LOGIN", b"CAPABILITY", *([b"ID"] if PROFILES[name].id != "no" else []), b"LIST"]
    opening += [b"NAMESPACE"] if b"NAMESPACE" in PROFILES[name].capabilities else []
    opening += [b"XLIST"] if name in ("qq", "exmail", "alibaba") else []
    assert names == [*opening, b"EXAMINE", b"UID SEARCH", b"LOGOUT"]  # two round trips for the folder
    first = {event.message_id: event for event in lab.events(connected)}
    lab.rescan(connected)
    lab.complete(connected, server)
    assert {event.message_id: event for event in lab.events(connected)} == first
    assert len(lab.events(connected)) > before
    check_wire(server.commands())


@pytest.mark.parametrize("days", [59.97, 61, 61.9, 62.2])
@pytest.mark.parametrize("name", ["netease", "dovecot"])  # without SAVEDATE, and with
def test_a_rescan_does_not_publish_mail_behind_the_horizon_as_new(
    lab: Lab, serve: Serve, name: str, days: float
) -> None:
    """Its search reaches some days further back than the horizon, where the record of published messages ends."""
    server = serve(PROFILES[name])
    fill(server, [now() - timedelta(days=days), now() - timedelta(days=3)])
    connected = lab.connect(server)
    lab.complete(connected, server)
    first = {event.message_id: event for event in lab.events(connected)}
    assert len(first) == 1
    for _ in range(2):
        lab.rescan(connected)
        lab.complete(connected, server)
    assert {event.message_id: event for event in lab.events(connected)} == first


def wild_history(server: LabServer) -> None:
    """Mail of all ages, and a draft, which must not be published."""
    fill(server, sorted(now() - age for age in AGES))
    server.sent.file(letter(50, now(), server.user), now(), b"\\Draft")


HARMLESS = [
    Defect.NO_UIDNEXT, Defect.SEARCH_EMPTY, Defect.SEARCH_ALL, Defect.SEARCH_BAD, Defect.SINCE_BAD, Defect.SINCE_EMPTY, Defect.SINCE_LATE,
    Defect.SINCE_EARLY, Defect.RANGE_EMPTY, Defect.UIDVALIDITY_ZERO, Defect.STATUS_EMPTY, Defect.STALE, Defect.NO_INTERNALDATE,
    Defect.ONE_DIGIT_DAY, Defect.PLAIN_BAD, Defect.SILENT_ENABLE, Defect.ID_BAD, Defect.UNSOLICITED_FETCH,
    Defect.DUPLICATE_UID, Defect.EARLY_ANSWERS, Defect.SPLIT_SEARCH, Defect.OPEN_RANGE_EMPTY, Defect.OPEN_RANGE_BAD, Defect.OK_WITHOUT_DATA_ONCE,
    Defect.EMPTY_PARTIAL, Defect.NIL_PARTIAL, Defect.BLANKS_IN_SEARCH, Defect.BARE_COPY, Defect.RAW_HEADERS,
]  # fmt: skip


@pytest.mark.parametrize("defect", HARMLESS, ids=lambda defect: defect.name)
@pytest.mark.parametrize("profile", [NETEASE, DOVECOT], ids=lambda profile: profile.name)
def test_a_defect_changes_nothing_in_what_is_published(
    lab: Lab, serve: Serve, profile: Profile, defect: Defect
) -> None:
    server = serve(profile, defect, **({"id": "offered"} if defect is Defect.ID_BAD else {}))
    wild_history(server)
    connected = lab.connect(server)
    assert lab.complete(connected, server) == 1
    server.sent.file(letter(101, now(), server.user), now())
    lab.poll(connected, server)
    lab.poll(connected, server)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since())
    assert lab.buried(connected) == 0
    check_wire(server.commands())


def reason(lab: Lab, connected: ConnectedMailbox, server: LabServer, *defects: Defect) -> str | None:
    """Why a poll fails when these defects are switched on."""
    server.defects |= set(defects)
    state_reason: str | None = lab.poll(connected, server)["state_reason"]
    server.defects -= set(defects)
    return state_reason


def test_f1_a_folder_that_stays_closed_after_id_needs_a_person(lab: Lab, serve: Serve) -> None:
    server = serve(NETEASE)
    fill(server, [now()])
    connected = lab.connect(server)
    server.defects.add(Defect.UNSAFE_LOGIN)
    shown = [lab.poll(connected, server) for _ in range(3)]
    assert [(status["state"], status["state_reason"]) for status in shown] == [
        ("active", "unsafe-login"), ("active", "unsafe-login"), ("needs_reconnect", "unsafe-login"),
    ]  # fmt: skip


def test_f7_other_uids_are_read_again_unchanged(lab: Lab, serve: Serve) -> None:
    server = serve(YAHOO)
    fill(server, sorted(now() - age for age in AGES))
    connected = lab.connect(server)
    lab.complete(connected, server)
    first = {event.message_id: event for event in lab.events(connected)}
    server.sent.renumber(uidvalidity=77)
    fill(server, [now()], first=100)
    lab.poll(connected, server)
    events = lab.events(connected)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since())
    assert {event.message_id: event for event in events if event.message_id in first} == first
    assert len(events) == 2 * len(first) + 1


def test_f9_mail_that_comes_while_the_folder_is_open_is_found_by_the_next_poll(lab: Lab, serve: Serve) -> None:
    server = serve(QQ)
    fill(server, [now() - timedelta(hours=1)])
    connected = lab.connect(server)
    lab.complete(connected, server)
    for number in (200, 201):
        server.sent.file(letter(number, now(), server.user), now())
        lab.poll(connected, server)
        assert lab.published(connected) == expected(server, KEY, connected.company_id, since())


def test_more_new_mail_than_one_poll_may_read_is_read_by_the_polls_that_follow(lab: Lab, serve: Serve) -> None:
    server = serve(DOVECOT)
    fill(server, [now() - timedelta(hours=1)])
    connected = lab.connect(server)
    lab.complete(connected, server)
    fill(server, [now()] * 10, first=300)
    for count in (4, 8, 10):
        shown = lab.poll(connected, server, budgets=dataclasses.replace(SMALL, messages=4))
        assert shown["state_reason"] is None
        assert len(lab.published(connected)) == 1 + count
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since())


def test_messages_that_are_not_published_are_counted_by_reason(
    lab: Lab, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(DOVECOT)
    at = now() - timedelta(hours=1)
    fill(server, [at, now() - HORIZON + timedelta(minutes=30)])
    server.sent.file(letter(1, at, server.user), now())  # a copy
    server.sent.file(b"\r\n", now())
    connected = lab.connect(server)

    def counted() -> dict[str, float]:
        samples = [sample for family in metrics.MESSAGES_DROPPED.collect() for sample in family.samples]
        return {sample.labels["reason"]: sample.value for sample in samples if sample.name.endswith("_total")}

    metrics_from_zero()
    before = counted()
    with caplog.at_level(logging.DEBUG, "services.fetcher"):
        lab.complete(connected, server)
    (line,) = [line for line in caplog.records if getattr(line, "action", None) == "mailbox-polled"]
    assert (line.__dict__["published"], line.__dict__["new"]) == (1, 1)
    dropped = {name: value for name, value in line.__dict__.items() if name.startswith("dropped_")}
    assert dropped == {"dropped_behind_horizon": 1, "dropped_duplicate": 1, "dropped_empty": 1}
    assert {reason: counted()[reason] - count for reason, count in before.items()} == {
        "draft": 0, "empty": 1, "behind-horizon": 1, "duplicate": 1,
    }  # fmt: skip


def test_f10_a_bare_copy_is_a_second_fact_that_stays_the_same(lab: Lab, serve: Serve) -> None:
    """Without a Message-ID it cannot be known as a copy; it is stable, and the earlier one of the two counts."""
    server = serve(GMAIL)
    at = now() - timedelta(hours=3)
    server.sent.file(letter(1, at, server.user), at)
    server.sent.file(letter(1, at, server.user, bare=True), at + timedelta(seconds=5))
    server.sent.file(letter(2, at, server.user), at)
    server.sent.file(letter(2, at, server.user), at + timedelta(seconds=5))  # with its Message-ID: one message
    connected = lab.connect(server)
    lab.complete(connected, server)
    wanted = expected(server, KEY, connected.company_id, since())
    assert len(wanted) == 3 and lab.published(connected) == wanted
    first = {event.message_id: event for event in lab.events(connected)}
    lab.rescan(connected)
    lab.complete(connected, server)
    assert {event.message_id: event for event in lab.events(connected)} == first


def test_f11_headers_in_gb18030_lose_nothing_that_counts(lab: Lab, serve: Serve) -> None:
    server = serve(NETEASE)
    at = now() - timedelta(hours=1)
    chinese = "回复：询盘 报价".encode("gb18030")
    raw = letter(
        1, at, server.user, b"In-Reply-To: <ask-1@platform.example>", b"Cc: =?gbk?B?1cXI/Q==?= <zhang@shop.example>"
    )
    raw = raw.replace(b"Re: canary subject 1", chinese).replace(b"Buyer <", '\\买家"'.encode("gb18030") + b" <")
    server.sent.file(raw, at)
    connected = lab.connect(server)
    lab.complete(connected, server)
    (event,) = lab.events(connected)
    company_id = connected.company_id
    assert event.message_id == HASHER.message(company_id, "sent-1@lab.test")
    assert event.in_reply_to == (HASHER.message(company_id, "ask-1@platform.example"),)
    assert HASHER.address(company_id, "zhang@shop.example") in event.recipients
    assert event.kind == "human" and lab.buried(connected) == 0


def test_f12_a_time_years_before_the_mail_is_not_believed(lab: Lab, serve: Serve) -> None:
    server = serve(DOVECOT, capabilities=b"IMAP4rev1 ID")
    fill(server, [now() - timedelta(hours=2)])
    connected = lab.connect(server)
    lab.complete(connected, server)
    server.defects.add(Defect.OLD_INTERNALDATE)
    server.sent.file(letter(9, now(), server.user), now())
    lab.poll(connected, server)
    fresh = max(lab.events(connected), key=lambda event: event.sent_at)
    assert fresh.message_id == HASHER.message(connected.company_id, "sent-9@lab.test")
    assert (fresh.sent_at_basis, fresh.evidence) == ("date", "verified")  # Date lies between the two polls


def test_f13_a_refusal_that_may_mean_anything_is_tried_seldom_and_a_rate_limit_is_no_refusal(
    lab: Lab, serve: Serve
) -> None:
    server = serve(QQ)
    connected = lab.connect(server)
    shown = []
    for defect in (
        Defect.AMBIGUOUS_LOGIN,
        Defect.LOGIN_RATE,
        Defect.AMBIGUOUS_LOGIN,
        Defect.LOGIN_RATE,
        Defect.AMBIGUOUS_LOGIN,
    ):
        server.defects.add(defect)
        shown.append(lab.poll(connected, server))
        server.defects.discard(defect)
    assert [status["state_reason"] for status in shown] == ["login-unclear", "throttled"] * 2 + ["login-unclear"]
    assert [status["state"] for status in shown] == ["active"] * 4 + ["needs_reconnect"]
    for status in shown[:4]:
        assert status["next_poll_at"] - status["last_attempt_at"] > timedelta(minutes=2)
    logins = [sent for sent in server.wire if sent.name == b"LOGIN"]
    assert len(logins) == 5


def test_an_outage_before_a_refusal_is_no_refusal(lab: Lab, serve: Serve) -> None:
    server = serve(DOVECOT)
    connected = lab.connect(server)
    assert [reason(lab, connected, server, Defect.BYE_IN_FETCH, Defect.PREAUTH) for _ in range(3)] == [
        "server-broken"
    ] * 3
    server.secret = "changed"
    shown = lab.poll(connected, server)
    assert (shown["state"], shown["state_reason"], shown["failures"]) == ("active", "login-refused", 4)


@pytest.mark.parametrize(
    ("profile", "defect", "code"),
    [
        (OUTLOOK, Defect.LOGIN_DISABLED, "oauth2-needed"), (DOVECOT, Defect.LOGIN_DISABLED, "oauth2-needed"),
        (DOVECOT, Defect.NO_LOGIN_METHOD, "no-login-method"), (GMAIL, Defect.NO_LOGIN_METHOD, "no-login-method"),
    ],
    ids=str,
)  # fmt: skip
def test_f14_no_password_goes_to_a_server_that_takes_none(
    lab: Lab, serve: Serve, profile: Profile, defect: Defect, code: str
) -> None:
    """Its owner is told to sign in only where the server offers that."""
    server = serve(profile)
    connected = lab.connect(server)
    server.defects.add(defect)
    shown = lab.poll(connected, server)
    assert shown["state_reason"] == code
    assert [sent.name for sent in server.wire] == [b"CAPABILITY", b"LOGOUT"]


@pytest.mark.parametrize(
    ("defect", "code"),
    [
        (Defect.BYE_IN_LOGIN, "throttled"), (Defect.CLOSED_IN_LOGIN, "unreachable"), (Defect.LOGIN_LIMIT, "throttled"),
        (Defect.BYE_GREETING, "throttled"), (Defect.BARE_BYE_GREETING, "unreachable"),
    ],
    ids=["bye", "closed", "limit", "bye as greeting", "bare bye as greeting"],
)  # fmt: skip
def test_a_connection_that_ends_in_the_login_is_no_refusal(lab: Lab, serve: Serve, defect: Defect, code: str) -> None:
    server = serve(DOVECOT)
    connected = lab.connect(server)
    assert [reason(lab, connected, server, defect) for _ in range(4)] == [code] * 4
    assert lab.poll(connected, server)["state"] == "active"


def test_f15_a_folder_made_by_a_mail_program_is_read_too(lab: Lab, serve: Serve) -> None:
    server = serve(OUTLOOK)
    server.defects.clear()
    fill(server, [now() - timedelta(days=20)])
    own = Folder(b"Sent Messages", b"\\HasNoChildren", uidvalidity=4)
    server.folders.append(own)
    fill(server, [now() - timedelta(hours=hour) for hour in (30, 20, 10)], own, first=10)
    connected = lab.connect(server)
    assert [(folder.name, folder.found_by) for folder in connected.folders] == [
        (b"&XfJT0ZABkK5O9g-", "special-use"), (b"Sent Messages", "name"),
    ]  # fmt: skip
    lab.complete(connected, server)
    server.folders[-1].file(letter(20, now(), server.user), now())
    lab.poll(connected, server)
    wanted = expected(server, KEY, connected.company_id, since(), server.sent, own)
    assert len(wanted) == 5 and lab.published(connected) == wanted
    names = [sent.name for sent in server.commands(-1)]
    assert names.count(b"EXAMINE") == names.count(b"UID SEARCH") == 2


@pytest.mark.parametrize(
    ("capability", "answer", "defects"),
    [
        (b" NAMESPACE", b'(("" "/")) (("Team/" "/")) NIL', ()), (b" NAMESPACE", b'(("" "/")) NIL NIL', ()),
        (b" NAMESPACE", b"nonsense", ()), (b" NAMESPACE", b"", (Defect.NAMESPACE_BAD,)), (b"", b"", ()),
    ],
    ids=["other users", "hidden namespace", "unknown answer", "refused", "not offered"],
)  # fmt: skip
def test_b6_a_colleagues_shared_sent_folder_is_not_read(
    lab: Lab, serve: Serve, capability: bytes, answer: bytes, defects: tuple[Defect, ...]
) -> None:
    """She has consented to nothing: her folder is neither opened nor counted, unless an operator names it."""
    capabilities = DOVECOT.capabilities.replace(b" NAMESPACE", capability)
    server = serve(DOVECOT, *defects, capabilities=capabilities, namespaces=answer)
    fill(server, [now() - timedelta(days=1)])
    prefix = b"Team" if b"Team" in answer else b"Shared"
    shared = Folder(prefix + b"/colleague@firm.example/Sent", b"\\Sent")
    discarded = Folder(b"Trash/Sent", b"\\Sent")
    server.folders += [shared, discarded]
    for number, folder in enumerate((shared, discarded), 5):
        fill(server, [now() - timedelta(days=1)], folder, first=number)
    connected = lab.connect(server)
    assert [folder.name for folder in connected.folders] == [b"Sent"]
    lab.complete(connected, server)
    lab.rescan(connected)
    lab.complete(connected, server)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since())
    assert not [sent for sent in server.wire if b"/Sent" in sent.command]


def test_b6_an_operator_can_name_a_shared_folder(lab: Lab, serve: Serve) -> None:
    """A named folder is read; other people's folders are not even counted beside it."""
    server = serve(DOVECOT)
    shared = Folder(b"Shared/sales/Sent", b"")
    server.folders += [shared, Folder(b"Shared/colleague/Sent", b"\\Sent"), Folder(b"Trash/Sent", b"")]
    fill(server, [now() - timedelta(days=1)], shared)
    named = lab.connect(server, sent_override=(shared.name,))
    lab.complete(named, server)
    assert lab.published(named) == expected(server, KEY, named.company_id, since(), shared)
    assert not [sent for sent in server.wire if b"colleague" in sent.command or b"Trash/Sent" in sent.command]


@pytest.mark.parametrize(
    ("defect", "mechanism"), [(Defect.PLAIN_ALONE, b"PLAIN"), (Defect.LOGIN_MECHANISM_ALONE, b"LOGIN")]
)
def test_b3_a_mechanism_is_used_where_only_the_command_login_is_disabled(
    lab: Lab, serve: Serve, defect: Defect, mechanism: bytes
) -> None:
    server = serve(DOVECOT)
    fill(server, [now()])
    connected = lab.connect(server)
    server.defects.add(defect)
    lab.complete(connected, server)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since())
    assert server.commands(-1)[1].command == b"AUTHENTICATE " + mechanism
    server.secret = "another"
    assert lab.poll(connected, server)["state_reason"] == "login-refused"


def test_b5_a_sent_folder_that_cannot_be_selected_is_skipped(lab: Lab, serve: Serve) -> None:
    server = serve(DOVECOT)
    server.folders.remove(server.sent)
    own = Folder(b"Sent Items", b"")
    server.folders += [Folder(b"Sent", b"\\NonExistent \\Sent"), Folder(b"Sent Mail", b"\\Sent \\Noselect"), own]
    fill(server, [now()], own)
    connected = lab.connect(server)
    assert [folder.name for folder in connected.folders] == [b"Sent Items"]
    lab.complete(connected, server)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since(), own)


def test_a_sent_folder_that_cannot_be_opened_leaves_the_mailbox_incomplete(lab: Lab, serve: Serve) -> None:
    """The other folders are read. One that the server itself calls nonexistent contains nothing and is skipped."""
    server = serve(DOVECOT)
    fill(server, [now()])
    closed = Folder(b"Sent Items", b"\\X-Closed")
    server.folders += [closed, Folder(b"Sent Mail", b"\\NonExistent")]
    with pytest.raises(MailboxRefused, match="step: examine"):
        lab.connect(server)
    server.folders.remove(closed)
    connected = lab.connect(server)
    assert [folder.name for folder in connected.folders] == [b"Sent"]
    server.folders.append(closed)
    shown = lab.poll(connected, server)
    assert (shown["state_reason"], shown["complete_through"]) == ("server-broken", None)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since())
    server.folders.remove(closed)
    assert lab.complete(connected, server) == 1


def test_a_folder_that_was_read_and_is_refused_leaves_nothing_complete(lab: Lab, serve: Serve) -> None:
    """A mail program files into a folder that is found by name; mail filed while the server refuses the folder stays unknown."""
    server = serve(DOVECOT)
    fill(server, [now()])
    by_name = Folder(b"Sent Items", b"")
    server.folders += [by_name]
    connected = lab.connect(server)
    lab.complete(connected, server)
    before = lab.poll(connected, server)
    server.folders[server.folders.index(by_name)] = Folder(b"Sent Items", b"\\X-Closed")
    shown = lab.poll(connected, server)
    assert (shown["state_reason"], shown["complete_through"]) == ("server-broken", before["complete_through"])
    server.folders[-1] = by_name
    by_name.file(letter(700, now(), server.user), now())
    shown = lab.poll(connected, server)
    assert shown["state_reason"] is None and shown["complete_through"] > before["complete_through"]
    assert len(lab.published(connected)) == 2


@pytest.mark.parametrize(
    ("trouble", "opened"),
    [(b"\\X-Closed", 5), (b"\\X-Dropped", 1), (b"\\X-Silent", 1)],
    ids=["refuses", "hangs up", "goes silent"],
)
def test_trouble_with_a_folder_that_is_only_counted_costs_nothing(
    lab: Lab, serve: Serve, trouble: bytes, opened: int
) -> None:
    """A server lists twenty more folders for sent mail, and on each of them refuses, ends the connection or stays silent."""
    server = serve(DOVECOT)
    fill(server, [now()])
    server.folders += [Folder(b"Box %d/Sent Messages" % number, trouble) for number in range(20)]
    connected = lab.connect(server, sent_override=(b"Sent",))
    assert lab.complete(connected, server) == 1
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since())
    with connect(lab._dsn, "tests") as connection:
        assert connection.execute("SELECT count(*) FROM registry.other_folders").fetchone() == (0,)
    assert len([sent for sent in server.wire if sent.command.startswith(b'EXAMINE "Box ')]) == opened


def test_f16_a_server_that_drops_idle_sessions_costs_nothing(lab: Lab, serve: Serve) -> None:
    server = serve(DOVECOT, Defect.IDLE_DROP)
    server.idle_seconds = 1.5
    fill(server, sorted(now() - timedelta(minutes=minute) for minute in range(450)))
    connected = lab.connect(server)
    lab.complete(connected, server)
    time.sleep(1.6)
    server.sent.file(letter(500, now(), server.user), now())
    lab.poll(connected, server)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since())


def test_f17_mail_that_a_provider_hides_is_not_covered(lab: Lab, serve: Serve) -> None:
    """QQ shows 30 days: older mail is unknown, and complete_from says so."""
    server = serve(QQ)
    fill(server, sorted(now() - age for age in AGES))
    connected = lab.connect(server)
    lab.complete(connected, server)
    shown = lab.poll(connected, server)
    assert abs(shown["complete_from"] - (now() - timedelta(days=30))) < timedelta(minutes=5)
    server.profile = dataclasses.replace(server.profile, visible_days=None)  # the owner switched it to "all"
    lab.rescan(connected)
    shown = lab.poll(connected, server)
    assert abs(shown["complete_from"] - (now() - HORIZON)) < timedelta(minutes=5)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since())


@pytest.mark.parametrize("defect", [Defect.LIMIT_IN_FETCH, Defect.BYE_IN_FETCH], ids=lambda defect: defect.name)
def test_f19_a_session_that_ends_in_mid_fetch_loses_nothing(lab: Lab, serve: Serve, defect: Defect) -> None:
    server = serve(YAHOO)
    fill(server, sorted(now() - timedelta(hours=hour) for hour in range(30)))
    connected = lab.connect(server)
    server.defects.add(defect)
    shown = lab.poll(connected, server)
    assert (shown["state"], shown["state_reason"]) == ("active", "throttled")
    assert shown["complete_through"] is None
    server.defects.discard(defect)
    lab.complete(connected, server)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since())
    assert lab.buried(connected) == 0


def test_refusing_every_message_drops_none_and_refusing_one_message_drops_only_that_one(lab: Lab, serve: Serve) -> None:
    server = serve(DOVECOT)
    fill(server, sorted(now() - timedelta(hours=hour) for hour in range(20)))
    connected = lab.connect(server)
    assert reason(lab, connected, server, Defect.NO_IN_FETCH) == "server-broken"
    assert lab.buried(connected) == 0 and lab.published(connected) == set()
    server.refused_uid = 7
    server.defects.add(Defect.REFUSED_MESSAGE)
    lab.complete(connected, server)
    lost = {HASHER.message(connected.company_id, "sent-7@lab.test")}
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since()) - lost
    assert lab.buried(connected) == 1
    # A single new message is refused: messages read before show that the server works.
    server.refused_uid = server.sent.file(letter(99, now(), server.user), now()).uid
    assert lab.poll(connected, server)["state_reason"] is None
    lost.add(HASHER.message(connected.company_id, "sent-99@lab.test"))
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since()) - lost
    assert lab.buried(connected) == 2
    # The same with a server that returns no message at all: the message stays, and is read when the server works again.
    server.sent.file(letter(100, now(), server.user), now())
    assert reason(lab, connected, server, Defect.NO_IN_FETCH) == "server-broken"
    server.refused_uid = 0
    lab.complete(connected, server)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since()) - lost


HOSTILE: dict[Defect, set[str | None]] = {
    Defect.HUGE_LITERAL: {"budget-spent"}, Defect.HUGE_LITERAL_EARLY: {"budget-spent"}, Defect.ENDLESS_LIST: {"budget-spent"},
    Defect.ENDLESS_LINE: {"budget-spent"}, Defect.ENDLESS_EXISTS: {"budget-spent"}, Defect.DRIP: {"budget-spent"},
    Defect.DRIP_LITERAL: {"budget-spent"}, Defect.SILENT: {"budget-spent"}, Defect.GARBAGE: {"server-broken"},
    Defect.DEEP_NESTING: {"server-broken"}, Defect.WRONG_LITERAL_SIZE: {"server-broken"},
    Defect.MISSING_CRLF: {"unreachable", "server-broken"}, Defect.NEGATIVE_UID: {None},
    Defect.HUGE_UID: {"server-broken"}, Defect.HUGE_EXISTS: {"budget-spent", "server-broken"},
    Defect.ALL_EMPTY: {"server-broken"},
    Defect.HUGE_UIDVALIDITY: {"server-broken"}, Defect.PREAUTH: {"server-broken"}, Defect.ECHO_PASSWORD: {"login-refused"},
}  # fmt: skip


@pytest.mark.parametrize("defect", HOSTILE, ids=lambda defect: defect.name)
def test_a_hostile_server_affects_only_its_own_mailbox(
    lab: Lab, serve: Serve, caplog: pytest.LogCaptureFixture, defect: Defect
) -> None:
    """The poll ends in a mailbox error, in time, after few bytes; another mailbox is read meanwhile."""
    caplog.set_level(logging.DEBUG, "services")
    for name in ("imapclient", "kafka"):  # as services.common.logs does, whatever level is set
        caplog.set_level(logging.WARNING, name)
    server, healthy = serve(DOVECOT), serve(GMAIL)
    for lab_server in (server, healthy):
        fill(lab_server, sorted(now() - age for age in AGES))
    connected, good = lab.connect(server), lab.connect(healthy)
    server.defects.add(defect)
    server.sent_bytes, started, shown = 0, time.monotonic(), {}
    polling = threading.Thread(target=lambda: shown.update(lab.poll(connected, server, healthy)))
    with Memory() as memory:
        polling.start()
        assert lab.complete(good, server, healthy) == 1
        polling.join(30)
    assert memory.grown < 64 * 1024 * 1024
    assert not polling.is_alive() and time.monotonic() - started < 30
    assert shown["state_reason"] in HOSTILE[defect]
    assert lab.published(good) == expected(healthy, KEY, good.company_id, since())
    # Bytes sent: a session's 8 MiB, and the contents of two sockets' buffers when it was closed.
    assert server.sent_bytes < SMALL.session_bytes + 8 * 1024 * 1024
    logged = caplog.text + "\n".join(str(record.__dict__) for record in caplog.records)
    assert CANARY not in logged and server.user not in logged
    server.defects.discard(defect)
    if shown["state"] == "active":
        lab.complete(connected, server, healthy)
        assert lab.published(connected) == expected(server, KEY, connected.company_id, since())
    assert lab.buried(connected) == 0


@pytest.mark.parametrize(
    "defect",
    [Defect.OK_WITHOUT_DATA, Defect.FETCH_WITHOUT_UID, Defect.EMPTY_HEADERS, Defect.NIL_HEADERS],
    ids=lambda defect: defect.name,
)
def test_b8_messages_that_the_server_counts_and_does_not_show_are_not_gone(
    lab: Lab, serve: Serve, defect: Defect
) -> None:
    """The poll is not complete, nothing is given up, and everything is read once the server answers."""
    server = serve(DOVECOT)
    fill(server, sorted(now() - age for age in AGES))
    connected = lab.connect(server)
    for _ in range(5):
        assert reason(lab, connected, server, defect) == "server-broken"
    assert lab.published(connected) == set() and lab.buried(connected) == 0
    lab.complete(connected, server)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since())
    server.sent.file(letter(100, now(), server.user), now())
    assert reason(lab, connected, server, defect) == "server-broken"
    lab.complete(connected, server)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since())
    assert lab.buried(connected) == 0


@pytest.mark.parametrize(("defect", "polls"), [(Defect.OMITTED_MESSAGE, 4), (Defect.EMPTY_HEADER, 1)], ids=str)
def test_g2_one_message_that_is_never_shown_becomes_a_dead_letter(
    lab: Lab, serve: Serve, defect: Defect, polls: int
) -> None:
    server = serve(DOVECOT)
    fill(server, sorted(now() - timedelta(hours=hour) for hour in range(20)))
    connected = lab.connect(server)
    server.refused_uid = 7
    server.defects.add(defect)
    assert lab.complete(connected, server) == polls
    lost = {HASHER.message(connected.company_id, "sent-7@lab.test")}
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since()) - lost
    assert lab.buried(connected) == 1


def test_g6_a_message_that_was_deleted_meanwhile_is_gone(lab: Lab, serve: Serve) -> None:
    """The server finds it in the first search and omits it from the answer: it is not in the folder any more."""
    server = serve(DOVECOT, Defect.STALE, Defect.OMITTED_MESSAGE)
    fill(server, sorted(now() - timedelta(hours=hour) for hour in range(5)))
    connected = lab.connect(server)
    lab.complete(connected, server)
    server.sent.messages.pop(2)
    lab.rescan(connected)
    assert lab.complete(connected, server) == 1
    assert lab.buried(connected) == 0


def test_e8_a_folder_in_plain_utf8_is_opened_by_the_bytes_that_were_listed(lab: Lab, serve: Serve) -> None:
    server = serve(DOVECOT)
    own = Folder("已发送".encode(), b"")
    server.folders.append(own)
    fill(server, [now() - timedelta(hours=hour) for hour in (3, 2, 1)], own, first=10)
    connected = lab.connect(server)
    lab.complete(connected, server)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since(), server.sent, own)


@pytest.mark.parametrize("charset", ["utf-8", "gb18030", "utf-7-imap"])
def test_b10_a_folder_that_a_person_names_is_opened_by_the_bytes_that_were_listed(
    lab: Lab, serve: Serve, charset: str
) -> None:
    server = serve(DOVECOT)
    listed = folder_name("客户回复") if charset == "utf-7-imap" else "客户回复".encode(charset)
    own = Folder(listed, b"")
    server.folders.append(own)
    fill(server, [now() - timedelta(hours=hour) for hour in (3, 2, 1)], own, first=10)
    connected = lab.connect(server, sent_override=(folder_name("客户回复"),))
    lab.complete(connected, server)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since(), own)
    assert b'EXAMINE "' + listed + b'"' in [sent.command for sent in server.commands(-1)]


@pytest.mark.parametrize("name", [b'Sent "old"', b"a\\b/Sent", b"50% {3}/Sent", b"R&-D/Sent"])
def test_b10_signs_in_the_name_of_a_folder_are_sent_as_they_were_listed(lab: Lab, serve: Serve, name: bytes) -> None:
    server = serve(DOVECOT)
    own = Folder(name, b"\\Sent")
    server.folders.append(own)
    fill(server, [now() - timedelta(hours=hour) for hour in (3, 2, 1)], own, first=10)
    connected = lab.connect(server)
    lab.complete(connected, server)
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since(), server.sent, own)


def test_b10_plain_utf8_is_sent_as_it_was_listed_also_after_a_sign_in(lab: Lab, serve: Serve) -> None:
    """imaplib encodes commands in another way after a login with a password than after one with a token."""
    server = serve(GMAIL)
    server.folders.append(Folder("已发送".encode(), b""))
    server.access_tokens.add("token")
    connection = connect_imap(Endpoint("localhost", server.port, ("127.0.0.1",)), tls_context(lab.ca_file), SMALL)
    connection.login_with_token(server.user, "token", "0")
    names = [folder.name for folder in connection.sent_folders()]
    assert "已发送".encode() in names
    assert [connection.examine(name).messages for name in names] == [0, 0]
    connection.logout()


def test_b2_a_rate_limit_in_the_answer_to_a_token_is_no_refusal_of_it(lab: Lab, serve: Serve) -> None:
    server = serve(GMAIL, Defect.LOGIN_LIMIT)
    server.access_tokens.add("token")
    connection = connect_imap(Endpoint("localhost", server.port, ("127.0.0.1",)), tls_context(lab.ca_file), SMALL)
    with pytest.raises(Throttled):
        connection.login_with_token(server.user, "token", "0")
    connection.drop()


def test_half_open_connections_end_in_time(lab: Lab, serve: Serve) -> None:
    server = serve(DOVECOT)
    connected = lab.connect(server)
    half_open = serve(DOVECOT, Defect.HALF_OPEN)
    with connect(lab._dsn, "tests") as connection:
        connection.execute("UPDATE registry.mailboxes SET port = %s", (half_open.port,))
        ids = connection.execute("SELECT company_id, mailbox_id FROM registry.mailboxes").fetchone()
        assert ids is not None
        vault = Vault(bytes(range(32)))
        place = (ids[0], ids[1], "localhost", str(half_open.port))
        connection.execute(
            "UPDATE registry.mailboxes SET user_sealed = %s", (vault.seal(server.user, *place, field="user"),)
        )
        connection.execute(
            "UPDATE registry.secrets SET sealed = %s", (vault.seal("x", *place, server.user, field="secret"),)
        )
    started = time.monotonic()
    assert lab.poll(connected, half_open)["state_reason"] == "unreachable"
    assert time.monotonic() - started < 10


def test_the_lab_server_is_strict(serve: Serve, lab: Lab) -> None:
    """Descending UIDs are BAD for QQ, ID without quotes is BAD for NetEase."""
    server = serve(QQ)
    fill(server, sorted(now() - age for age in AGES))
    connection = connect_imap(Endpoint("localhost", server.port, ("127.0.0.1",)), tls_context(lab.ca_file), SMALL)
    connection.login(server.user, server.secret, "0")
    connection.examine(server.sent.name)
    uids = connection.search_from(1)
    assert uids
    raw = connection._client._imap
    assert raw.uid("FETCH", f"{uids[0]},{uids[1]}", "(UID BODY.PEEK[HEADER.FIELDS (DATE)]<0.100>)")[0] == "OK"
    with pytest.raises(raw.error, match="Sequence set is invalid"):
        raw.uid("FETCH", f"{uids[1]},{uids[0]}", "(UID BODY.PEEK[HEADER.FIELDS (DATE)]<0.100>)")
    with pytest.raises(raw.error, match="only headers"):
        raw.uid("FETCH", str(uids[0]), "(BODY[])")
    connection.logout()
    netease = serve(NETEASE)
    connection = connect_imap(Endpoint("localhost", netease.port, ("127.0.0.1",)), tls_context(lab.ca_file), SMALL)
    raw = connection._client._imap
    assert raw._simple_command("LOGIN", f'"{netease.user}"', f'"{netease.secret}"')[0] == "OK"
    raw.state = "AUTH"
    with pytest.raises(LoginRefused, match="unsafe-login"):
        connection.examine(netease.sent.name)
    with pytest.raises(raw.error):
        raw._simple_command("ID", "NIL")
    with pytest.raises((LoginRefused, CommandRefused)):
        connection.examine(netease.sent.name)
    connection.drop()


def test_f17_ten_thousand_messages_are_what_yahoo_shows(lab: Lab, serve: Serve) -> None:
    server = serve(YAHOO)
    times = [now() - timedelta(days=50) + timedelta(minutes=5 * number) for number in range(10_020)]
    fill(server, times)
    connected = lab.connect(server)
    assert connected.messages == 10_000
    assert {"window-messages"} <= {warned.code for warned in connected.report.warnings}
    polls = lab.complete(connected, server, budgets=SessionLimits())
    assert polls == 6  # 2,000 messages each, and one that finds nothing more
    assert lab.published(connected) == expected(server, KEY, connected.company_id, since())
    assert lab.poll(connected, server)["complete_from"] == server.visible(server.sent)[0].filed_at
    searches = [sent for sent in server.wire if sent.name == b"UID SEARCH"]
    fetches = [sent for sent in server.wire if sent.name == b"UID FETCH"]
    assert len(fetches) <= 10_000 / 200 + 10 and len(searches) <= 6 * 4
    check_wire(server.commands())
