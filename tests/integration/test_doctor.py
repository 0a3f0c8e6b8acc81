"""`replyrate doctor`, the view behind the dashboards, the counts that the fetcher stores for it, and the test mail."""

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from services.aggregator.doctor import diagnosis, evidence
from services.aggregator.doctor.symptoms import Symptoms
from services.aggregator.ingest.ledger import Ledger
from services.aggregator.judge import rules
from services.aggregator.refresh import diagnose
from services.aggregator.refresh.refresh import Refresher
from services.common.events import CompanyErased
from services.common.postgres import connect
from services.common.topics import REPLIES
from services.connect import texts as connection_texts
from services.connect.probe import (
    ASK_SECONDS,
    FILE_SECONDS,
    SEND_SECONDS,
    SentMailProbe,
    begin,
    verdict,
    waiting_seconds,
)
from tests.support.commands import run
from tests.support.dovecot import Dovecot
from tests.support.fetcher_lab import USER, Lab, lab, letter, make_lab
from tests.support.processes import until
from tests.support.servers import USERS

__all__ = ["lab", "make_lab", "run"]
DEFAULT = rules.load_builtin("default")
NOW = datetime.now(UTC).replace(microsecond=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CONNECTED = NOW - 90 * DAY


@pytest.fixture
def shop(dsn: str) -> Iterator[psycopg.Connection]:
    """Ten inquiries, an address that changed before them, a mailbox with 20 older messages, 5 of them with an implausible time."""
    with connect(dsn, "tests") as connection:
        connection.execute("INSERT INTO registry.companies VALUES ('shop')")
        connection.execute("INSERT INTO registry.accounts (company_id, account_id) VALUES ('shop', 'main')")
        connection.execute(
            "INSERT INTO registry.mailboxes (company_id, mailbox_id, account_id, role, state, state_reason, address_masked,"
            " address_hash, host, port, login_hash, consent_by, consent_at, consent_text_version, connected_at, complete_through)"
            " VALUES ('shop', 'm1', 'main', 'registered', 'needs_reconnect', 'address-changed', 'z***@canary.example',"
            " 'old', 'imap.canary.example', 993, 'l', 'Canary', now(), '1', %s, %s)", (CONNECTED, NOW - 45 * DAY),
        )  # fmt: skip
        connection.execute(
            "INSERT INTO registry.addresses VALUES ('shop', 'main', 'registered', '', 'x', 'new', %s)",
            (NOW - 45 * DAY,),
        )
        connection.execute(
            "INSERT INTO registry.message_counts VALUES ('shop', 'm1', 'Sent', %s, 'human', 20, 5)", (NOW - 46 * DAY,)
        )
        connection.execute(
            "INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at, through_at, recorded_at)"
            " VALUES ('shop', 'main', 'm1', %(c)s, %(c)s, %(t)s, %(t)s)", {"c": CONNECTED, "t": NOW - 45 * DAY},
        )  # fmt: skip
        for number in range(10):
            connection.execute(
                "INSERT INTO ledger.inquiries (company_id, inquiry_id, account_id, received_at, facts_id, buyer_id)"
                " VALUES ('shop', %s, 'main', %s, 'f', %s)", (f"i{number}", NOW - (10 + number) * DAY, f"b{number}"),
            )  # fmt: skip
        connection.execute("INSERT INTO ledger.companies (company_id) VALUES ('shop')")
        connection.execute("INSERT INTO ledger.dirty (company_id) VALUES ('shop')")
        refresh(connection)
        yield connection


def refresh(connection: psycopg.Connection) -> None:
    refresher = Refresher(connection, [rules.load_builtin("default")])
    refresher.activate()
    while refresher.refresh():
        pass


def shown(connection: psycopg.Connection) -> dict[tuple[str | None, str], tuple[str, dict[str, Any]]]:
    """What a dashboard reads: (account, cause) → (confidence, facts)."""
    with connection.transaction():
        connection.execute("SET LOCAL ROLE replyrate_dashboard")
        rows = connection.execute(
            "SELECT account_id, cause, confidence, facts FROM report_v1.zero_rate_diagnosis WHERE rule_set = 'default'"
        ).fetchall()
    return {(account, cause): (confidence, facts) for account, cause, confidence, facts in rows}


def test_the_view_and_the_command_say_the_same(run: Any, shop: psycopg.Connection) -> None:
    diagnoses = shown(shop)
    assert set(diagnoses) == {(None, "address-changed"), ("main", "address-changed")}
    confidence, facts = diagnoses[("main", "address-changed")]
    assert confidence == "high"
    assert (facts["units"], facts["units_changed"], facts["mailboxes_changed"]) == (10, 10, 1)
    assert facts["changed_on"] == (NOW - 45 * DAY).astimezone(DEFAULT.zone).date().isoformat()
    for args in (("shop",), ("shop", "main")):
        answer = json.loads(run("doctor", *args, "--json").stdout)
        (case,) = answer["diagnoses"]
        (finding,) = case["findings"]
        assert (finding["cause"], finding["confidence"], finding["facts"]) == ("address-changed", "high", facts)
        assert case["rate"] is None
    (line,) = answer["backdating"]
    assert (line["mailbox_id"], line["messages"], line["suspect"]) == ("m1", 20, 5)
    output = run("doctor", "shop").stdout
    assert "Almost certainly: The address changed, and its mailbox is not connected." in output
    assert "10 of 10 inquiries were due after that" in output and "25.0 %" in output
    assert "The newest rate is missing." in output
    chinese = run("doctor", "shop", "main", "--lang", "zh").stdout
    assert "几乎确定：邮箱地址已变更，未重新同步" in chinese and re.search(r"[A-Z][a-z]+ [a-z]+ ", chinese) is None


@pytest.mark.parametrize("zone", ["Etc/GMT+12", "Etc/GMT-14"])
def test_days_of_instants_are_days_of_the_rule_set(shop: psycopg.Connection, zone: str) -> None:
    """The zones are 26 hours apart, so that one of them has another day than UTC at any time."""
    rule_set = replace(DEFAULT, time_zone=zone)

    def day(at: datetime) -> date:
        return at.astimezone(rule_set.zone).date()

    def symptoms() -> Symptoms:
        (of_account,) = (each for each in evidence.read(shop, rule_set, ["shop"], NOW)["shop"] if each.account_id)
        return of_account

    changed = symptoms()
    assert (changed.changed_on, changed.connected_on) == (day(NOW - 45 * DAY), day(CONNECTED))
    assert changed.last_inquiry_on == day(NOW - 10 * DAY)
    shop.execute("DELETE FROM registry.addresses")
    shop.execute("UPDATE registry.mailboxes SET state_reason = 'login-refused', last_success_at = %s", [NOW - 44 * DAY])
    assert symptoms().failing_since_on == day(NOW - 44 * DAY)
    shop.execute(
        "UPDATE registry.mailboxes SET state = 'active', state_reason = NULL, complete_from = %s, complete_through = %s",
        [NOW - 50 * DAY, NOW],
    )
    assert symptoms().visible_from_on == day(NOW - 50 * DAY)


def test_a_diagnosis_contains_no_address_or_name(run: Any, shop: psycopg.Connection) -> None:
    texts = shop.execute("SELECT string_agg(to_jsonb(d)::text, '') FROM report_v1.zero_rate_diagnosis d").fetchone()
    shown_text = texts[0] + run("doctor", "shop").stdout + run("doctor", "shop", "--json").stdout  # type: ignore[index]
    assert "canary" not in shown_text.lower() and "@" not in shown_text


def test_a_rate_above_zero_ends_the_diagnosis(run: Any, shop: psycopg.Connection) -> None:
    for number in range(10):
        shop.execute(
            "INSERT INTO ledger.replies (company_id, inquiry_id, reply_id, source, account_id, replied_at, kind, matched_by)"
            " VALUES ('shop', %s, %s, 'platform', 'main', %s, 'human', 'platform')",
            (f"i{number}", f"r{number}", NOW - (10 + number) * DAY + HOUR),
        )  # fmt: skip
    # Facts not counted yet do not change the diagnosis; that they wait is reported once they wait too long.
    shop.execute("INSERT INTO ledger.dirty (company_id, since) VALUES ('shop', %s)", (NOW - HOUR,))
    diagnoses = shown(shop)
    assert diagnoses[("main", "pipeline-behind")][0] == "high" and diagnoses[("main", "address-changed")][0] == "medium"
    assert diagnoses[("main", "pipeline-behind")][1]["waiting_seconds"] >= 3600
    (case,) = json.loads(run("doctor", "shop", "--json").stdout)["diagnoses"]
    assert [(finding["cause"], finding["confidence"]) for finding in case["findings"]] == [
        ("pipeline-behind", "high"), ("address-changed", "medium"),
    ]  # fmt: skip
    refresh(shop)
    assert shown(shop) == {}
    assert json.loads(run("doctor", "shop", "--json").stdout)["diagnoses"][0]["findings"] == []
    assert "Nothing to diagnose: the newest rate is 100.0 %." in run("doctor", "shop").stdout


def test_the_view_and_the_command_have_the_same_text_for_a_lagging_pipeline(shop: psycopg.Connection) -> None:
    advice = shop.execute("SELECT advice_en, advice_zh FROM ledger.advice WHERE code = 'pipeline-behind'").fetchone()
    assert advice is not None
    for stored_text, language in zip(advice, diagnosis.LANGUAGES, strict=True):
        whole = diagnosis.texts()["pipeline-behind"]["advice"][language]
        assert stored_text.split("：" if language == "zh" else ":")[0] in whole
        assert stored_text[-20:] == whole[-20:]


def test_an_inactive_rule_set_has_no_diagnosis(run: Any, shop: psycopg.Connection) -> None:
    assert shown(shop)
    run("rules", "deactivate", "default")
    assert shown(shop) == {}


def test_an_erased_company_leaves_no_diagnosis(shop: psycopg.Connection) -> None:
    assert shown(shop)
    ledger = Ledger(shop, REPLIES)
    (owned,) = ledger.take([0])
    ledger.merge(owned, owned.next_offset + 1, [CompanyErased(company_id="shop", at=NOW)])
    refresh(shop)
    assert shop.execute("SELECT count(*) FROM ledger.diagnoses").fetchone() == (0,)


def test_a_broken_login_is_diagnosed_within_the_hour_without_any_new_fact(shop: psycopg.Connection) -> None:
    """With the privileges of the aggregator's own role."""
    shop.execute("UPDATE registry.mailboxes SET state_reason = 'login-refused', address_hash = 'new'")
    with shop.transaction():
        shop.execute("SET LOCAL ROLE replyrate_aggregator")
        assert diagnose.step(shop) == []
        shop.execute("UPDATE ledger.companies SET diagnosed_at = clock_timestamp() - interval '61 minutes'")
        assert diagnose.step(shop) == ["shop"]
        assert diagnose.step(shop) == []
    assert set(shown(shop)) == {(None, "login-failing-since"), ("main", "login-failing-since")}


def test_errors_say_what_to_do(run: Any, shop: psycopg.Connection) -> None:
    assert "No rate has been computed yet" in run("doctor", "nobody", code=1).stdout
    assert "no mailbox of company shop is being read (m1 is needs_reconnect)" in run(
        "doctor", "shop", "--probe", code=1
    ).stderr.replace("\n", " ")
    assert "none is connected" in run("doctor", "nobody", "--probe", code=1).stderr.replace("\n", " ")
    assert "No rate is known for this account" in run("doctor", "shop", "nobody", code=1).stdout
    assert "`replyrate rate shop`" in run("doctor", "shop", "--rules", "etsy", code=1).stdout
    assert "no-such-set" in run("doctor", "shop", "--rules", "no-such-set", code=78).stderr


def test_the_fetcher_counts_messages_that_it_does_not_read(make_lab: Callable[..., Lab], dovecot: Dovecot) -> None:
    """Messages deleted before a poll, and a second folder with a name for sent mail."""
    lab = make_lab(dovecot)
    dovecot.client.create(USER, "Sent Messages")
    for number in range(3):
        dovecot.append(USER, "Sent Messages", letter(100 + number, NOW - DAY), NOW - DAY)
    dovecot.append(USER, "Sent", letter(0, NOW - DAY), NOW - DAY)
    connected = lab.connect(sent_override=(b"Sent",))
    with connect(lab.dsn, "tests") as connection:
        with lab.fetcher():
            until(lambda: lab.mailbox(connected.mailbox_id)["complete_through"] is not None, 30, "a complete poll")
        other_folders = connection.execute(
            "SELECT folder, messages, first_messages FROM registry.other_folders"
        ).fetchall()
        assert other_folders == [(b"Sent Messages", 3, 3)]
        # Between two polls five copies are filed, and three of them are deleted at once.
        for number in range(1, 6):
            dovecot.append(USER, "Sent", letter(number, NOW), NOW)
        delete(dovecot, USER, "Sent", ["2:4"])
        dovecot.append(USER, "Sent Messages", letter(200, NOW), NOW)
        connection.execute("UPDATE registry.mailboxes SET next_poll_at = now()")
        with lab.fetcher("again"):
            until(
                lambda: connection.execute("SELECT uids_passed, uids_found FROM registry.folders").fetchone() == (5, 2),
                30, "UIDs are counted",
            )  # fmt: skip
            connection.execute("UPDATE registry.mailboxes SET reconcile_after = now(), next_poll_at = now()")
            until(
                lambda: connection.execute("SELECT messages FROM registry.other_folders").fetchone() == (4,),
                30, "the other folder is counted",
            )  # fmt: skip
        counted = connection.execute("SELECT sum(messages) FROM registry.message_counts").fetchone()
        assert counted == (3,)


def test_folders_below_the_sent_folder_are_counted_without_being_read(
    make_lab: Callable[..., Lab], dovecot: Dovecot
) -> None:
    lab = make_lab(dovecot)
    dovecot.client.create(USER, "Sent/2025")
    dovecot.client.create(USER, "Archive/2025")
    for folder in ("Sent/2025", "Archive/2025"):
        dovecot.append(USER, folder, letter(100, NOW - DAY), NOW - DAY)
    dovecot.append(USER, "Sent", letter(0, NOW - DAY), NOW - DAY)
    connected = lab.connect()
    with connect(lab.dsn, "tests") as connection, lab.fetcher():
        until(lambda: lab.mailbox(connected.mailbox_id)["complete_through"] is not None, 30, "a complete poll")
        counted = connection.execute("SELECT folder, messages FROM registry.other_folders").fetchall()
        read = connection.execute("SELECT folder FROM registry.folders").fetchall()
    assert counted == [(b"Sent/2025", 1)] and read == [(b"Sent",)]


def delete(server: Dovecot, user: str, folder: str, uids: list[str]) -> None:
    """File a message as a mail program does."""
    import imaplib
    import ssl

    context = ssl.create_default_context(cafile=str(server.ca_file))
    with imaplib.IMAP4_SSL("localhost", server.port, ssl_context=context) as client:
        client.login(user, USERS[user])
        client.select(folder)
        for uid in uids:
            client.uid("STORE", uid, "+FLAGS", r"(\Deleted)")
        client.expunge()


def test_a_test_mail_that_is_filed_is_recognised(run: Any, lab: Lab) -> None:
    """On a real server: the mail to oneself is found among others, and only the fetcher logs in."""
    lab.server.append(USER, "Sent", letter(0, NOW - DAY), NOW - DAY)
    connected = lab.connect()
    with lab.fetcher(REPLYRATE_IMAP__POLL_INTERVAL_SECONDS="3600"), ThreadPoolExecutor(1) as pool:
        until(lambda: lab.mailbox(connected.mailbox_id)["complete_through"] is not None, 30, "a complete poll")
        probe = pool.submit(run, "doctor", "c1", "main", "--probe", "--wait", 60, "--json")
        time.sleep(1)
        at = datetime.now(UTC)
        lab.server.append(USER, "Sent", letter(1, at), at)
        lab.server.append(USER, "Sent", letter(2, at, to=f"Me <{USER.upper()}>"), at)
        result = json.loads(probe.result().stdout)
    assert result["verdict"] == "filed"
    (box,) = result["mailboxes"]
    assert (box["own"], box["new"]) == (1, 2)


def test_a_test_mail_that_is_not_filed_is_missed(run: Any, make_lab: Callable[..., Lab], dovecot: Dovecot) -> None:
    lab = make_lab(dovecot)
    lab.server.append(USER, "Sent", letter(0, NOW - DAY), NOW - DAY)
    connected = lab.connect()
    with lab.fetcher(REPLYRATE_IMAP__POLL_INTERVAL_SECONDS="3600"):
        until(lambda: lab.mailbox(connected.mailbox_id)["complete_through"] is not None, 30, "a complete poll")
        forget_last_poll(lab)
        result = json.loads(run("doctor", "c1", "--probe", "--wait", 6, "--json", code=1).stdout)
        assert result["verdict"] == "not-filed"
        forget_last_poll(lab)
        with ThreadPoolExecutor(1) as pool:
            at = datetime.now(UTC)
            probe = pool.submit(run, "doctor", "c1", "--probe", "--wait", 20, code=1)
            until(lambda: lab.mailbox(connected.mailbox_id)["last_success_at"] > at, 20, "the probe's first reading")
            lab.server.append(USER, "Sent", letter(1, at), at)
            with connect(lab.dsn, "tests") as connection:  # the probe's own second question comes after 20 s
                connection.execute("UPDATE registry.mailboxes SET next_poll_at = now()")
            assert "none to the mailbox's own address" in probe.result().stdout.replace("\n", " ")
    # Without a fetcher nothing can be said.
    assert "was not read in this time" in run("doctor", "c1", "--probe", "--wait", 5, code=1).stdout


def forget_last_poll(lab: Lab) -> None:
    """A minute goes by after the last poll: a probe reads no sooner than ASK_SECONDS after it."""
    with connect(lab.dsn, "tests") as connection:
        connection.execute("UPDATE registry.mailboxes SET last_attempt_at = last_attempt_at - interval '1 minute'")


@pytest.fixture
def read(dsn: str) -> Iterator[psycopg.Connection]:
    """Mailbox m1 at a provider that lets us log in every 300 s; it was read 20 s ago and is to be read in 20 hours."""
    with connect(dsn, "tests") as connection:
        connection.execute("INSERT INTO registry.companies VALUES ('shop')")
        connection.execute("INSERT INTO registry.accounts (company_id, account_id) VALUES ('shop', 'main')")
        mailbox(connection, "m1", "imap.qq.com")
        yield connection


def mailbox(connection: psycopg.Connection, mailbox_id: str, host: str, *, ago: float = 20, failures: int = 0) -> None:
    connection.execute(
        "INSERT INTO registry.mailboxes (company_id, mailbox_id, account_id, role, state, state_reason, failures,"
        " address_masked, address_hash, host, port, login_hash, consent_by, consent_at, consent_text_version, connected_at,"
        " complete_through, last_attempt_at, next_poll_at) VALUES ('shop', %(id)s, 'main', 'registered', 'active', %(reason)s,"
        " %(failures)s, 'z***@mail.test', %(id)s, %(host)s, 993, %(id)s, 'L', now(), '2', now() - interval '1 day',"
        " now() - make_interval(secs => %(ago)s), now() - make_interval(secs => %(ago)s), now() + interval '20 hours')",
        {"id": mailbox_id, "host": host, "ago": ago, "failures": failures, "reason": "login-refused" if failures else None},
    )  # fmt: skip


def planned(connection: psycopg.Connection, mailbox_id: str) -> tuple[float, float]:
    """Seconds from the last poll of a mailbox to its next one, and from now."""
    mailbox = connection.execute(
        "SELECT extract(epoch FROM next_poll_at - last_attempt_at)::float8, extract(epoch FROM next_poll_at - now())::float8"
        " FROM registry.mailboxes WHERE mailbox_id = %s", (mailbox_id,),
    ).fetchone()  # fmt: skip
    assert mailbox is not None
    return mailbox


@pytest.mark.parametrize(
    ("host", "spacing"), [("imap.qq.com", 300), ("imap.163.com", 300), ("imap.secureserver.net", 600)]
)
def test_a_probe_reads_no_sooner_than_the_provider_lets_us_and_says_how_long_that_takes(
    run: Any, read: psycopg.Connection, host: str, spacing: int
) -> None:
    read.execute("UPDATE registry.mailboxes SET host = %s", (host,))
    done = run("doctor", "shop", "--probe", "--wait", 5, "--json", code=1)
    assert planned(read, "m1")[0] == pytest.approx(spacing)
    messages = " ".join(done.stderr.split())
    assert f"one sign-in every {spacing} s" in messages and f"about {spacing - 20} s after the start" in messages
    assert f"--wait {spacing + 40}" in messages, "what was named is too short, and what is not"
    answer = json.loads(done.stdout)
    assert answer["verdict"] == "not-read" and answer["mailboxes"][0]["spacing_seconds"] == spacing
    # In Chinese the same; a later reading is not made sooner by asking again.
    chinese = " ".join(run("doctor", "shop", "--probe", "--wait", 5, "--lang", "zh", code=1).stderr.split())
    assert f"每 {spacing} 秒" in chinese and "Mailbox" not in chinese
    assert planned(read, "m1")[0] == pytest.approx(spacing)


def test_a_person_has_time_to_send_before_a_reading_that_does_not_come_twice(
    run: Any, read: psycopg.Connection
) -> None:
    """Long unread at a provider that counts logins, and at one that does not: that one is read at once."""
    read.execute("UPDATE registry.mailboxes SET last_attempt_at = now() - interval '1 hour'")
    mailbox(read, "m2", "imap.own-server.example", ago=3600)
    mailbox(read, "m3", "imap.own-server.example", ago=3600)
    read.execute("UPDATE registry.mailboxes SET last_attempt_at = NULL WHERE mailbox_id = 'm3'")
    run("doctor", "shop", "--probe", "--wait", 5, code=1)
    assert 50 < planned(read, "m1")[1] - FILE_SECONDS < SEND_SECONDS
    assert -10 < planned(read, "m2")[1] <= 0
    polled = read.execute("SELECT next_poll_at <= now() FROM registry.mailboxes WHERE mailbox_id = 'm3'").fetchone()
    assert polled == (True,)


def test_a_reading_before_the_mail_is_no_verdict(read: psycopg.Connection) -> None:
    """Where the next one is far away; the time to wait follows it."""
    probe = SentMailProbe(read, "shop", begin(read, "shop", None))
    read.execute(
        "UPDATE registry.mailboxes SET last_attempt_at = now(), complete_through = now() + interval '1 second'"
    )
    look = probe.read()
    assert look.verdict == "not-read" and waiting_seconds(probe.since, look, None) in range(355, 365)
    assert waiting_seconds(probe.since, look, 90) == 90
    read.execute("UPDATE registry.mailboxes SET host = 'imap.own-server.example'")
    look = probe.read()
    assert look.verdict == "not-filed" and waiting_seconds(probe.since, look, None) == 180
    assert look.mailboxes[0].reading_at - probe.since >= timedelta(seconds=ASK_SECONDS)
    read.execute("UPDATE registry.mailboxes SET host = 'imap.qq.com', complete_through = %s", (probe.since + 2 * HOUR,))
    assert probe.read().verdict == "not-filed"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_mailbox_that_fails_is_told_at_once_and_left_alone(run: Any, read: psycopg.Connection, language: str) -> None:
    read.execute("UPDATE registry.mailboxes SET failures = 2, state_reason = 'throttled'")
    before = planned(read, "m1")
    began = time.monotonic()
    done = run("doctor", "shop", "--probe", "--wait", 120, "--lang", language, "--json", code=1)
    assert time.monotonic() - began < 60, "nothing is waited for"
    answer = json.loads(done.stdout)
    assert answer["verdict"] == "failing" and answer["mailboxes"][0]["failing"] is True
    assert planned(read, "m1")[0] == pytest.approx(before[0])
    because = connection_texts.state_reason("throttled", "zh" if language == "zh" else "en")
    assert because in done.stderr and "replyrate mailbox test" in done.stderr
    assert "yourself" not in done.stderr and "给自己" not in done.stderr, "nobody is asked to send anything"
    # A working mailbox beside it is read; when that one fails too, the command stops waiting.
    mailbox(read, "m2", "imap.own-server.example")
    done = run("doctor", "shop", "--probe", "--wait", 5, code=1)
    assert "m1 cannot be read" in done.stderr and "Now send a mail" in done.stderr
    assert planned(read, "m1")[0] == pytest.approx(before[0]) and planned(read, "m2")[1] <= 0
    probe = SentMailProbe(read, "shop", begin(read, "shop", None))
    read.execute("UPDATE registry.mailboxes SET state = 'paused', complete_through = now() WHERE mailbox_id = 'm2'")
    look = probe.read()
    assert look.over and look.verdict == "failing"


def test_a_mailbox_whose_login_was_given_up_may_contain_the_mail(run: Any, read: psycopg.Connection) -> None:
    mailbox(read, "m2", "imap.own-server.example")
    read.execute(
        "UPDATE registry.mailboxes SET state = 'needs_reconnect', state_reason = 'login-given-up' WHERE mailbox_id = 'm2'"
    )
    probe = SentMailProbe(read, "shop", begin(read, "shop", None))
    read.execute(
        "UPDATE registry.mailboxes SET complete_through = now() + interval '1 second', host = 'imap.own-server.example'"
        " WHERE mailbox_id = 'm1'"
    )
    look = probe.read()
    assert look.verdict == "failing" and not look.over, "nothing in the one that is read does not say where the mail is"
    done = run("doctor", "shop", "--probe", "--wait", 5, code=1)
    assert "m2 is no longer read" in done.stderr
    read.execute(
        "UPDATE registry.mailboxes SET state = 'active', failures = 1, state_reason = NULL WHERE mailbox_id = 'm2'"
    )
    assert "m2 cannot be read: its last poll failed." in run("doctor", "shop", "--probe", "--wait", 5, code=1).stderr
    assert verdict([]) == "not-read", "erased meanwhile"


def test_a_mailbox_that_started_to_fail_meanwhile_is_left_alone(read: psycopg.Connection) -> None:
    """A poll may fail, or start, between reading the state and requesting a poll."""
    read.execute("UPDATE registry.mailboxes SET host = 'imap.own-server.example'")
    mailbox(read, "m2", "imap.own-server.example")
    probe = SentMailProbe(read, "shop", begin(read, "shop", None))
    look = probe.read()
    assert all(not mailbox.failing and mailbox.reading_at < mailbox.next_poll_at for mailbox in look.mailboxes)
    read.execute("UPDATE registry.mailboxes SET failures = 1 WHERE mailbox_id = 'm1'")
    read.execute(
        "UPDATE registry.mailboxes SET lease_owner = 'f', lease_until = now() + interval '1 minute' WHERE mailbox_id = 'm2'"
    )
    probe.request_polls(look)
    assert planned(read, "m1")[1] > 3600 and planned(read, "m2")[1] > 3600
