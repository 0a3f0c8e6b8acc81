"""The connection test against the providers of the lab: stages, codes, who sees what, limits on tests, the command."""

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from services.cli.__main__ import main
from services.common.hashing import Hasher
from services.common.postgres import connect
from services.common.settings import ImapSettings
from services.connect import connection_test, texts
from services.connect.connection_test import ConnectionTestSetup
from services.connect.onboarding import MailboxRefused, add_mailbox
from services.connect.report import STAGES, ConnectionTestOutcome
from services.connect.requests import ConnectRequest
from services.connect.tester import ConnectionTester
from services.imap.host_policy import HostPolicy, Resolver, resolve
from services.imap.limits import SessionLimits
from services.imap.tls import tls_context
from services.mail.values import Login
from services.providers import catalog
from services.registry.connection_tests import COMPANY_TRIES_PER_HOUR, TRIES_PER_HOUR
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.signin.token_store import MemoryTokenStore
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.mailbox import Folder
from tests.imap_lab.profiles import (  # fmt: skip
    ALIBABA,
    DOVECOT,
    EXMAIL,
    GMAIL,
    GODADDY,
    NETEASE,
    OUTLOOK,
    PROFILES,
    QQ,
    YAHOO,
    Defect,
    Profile,
)
from tests.imap_lab.server import LabServer
from tests.imap_lab.world import fill
from tests.support.builders import now
from tests.support.codes import codes
from tests.support.commands import command
from tests.support.provider_lab import Serve, serve
from tests.support.wire import allowed

PROMPT = "Password or authorization code"
SMALL = SessionLimits(command_seconds=1, session_seconds=3, connect_seconds=1)
__all__ = ["command", "serve"]


def settings(server: LabServer) -> ImapSettings:
    return ImapSettings.model_validate(
        {
            "ca_file": server.ca_file,
            "allowed_private_networks": ("127.0.0.0/8", "::1/128"),
            "allowed_ports": (server.port,),
        }
    )


def target(server: LabServer, **changes: Any) -> Login:
    values: dict[str, Any] = {
        "address": server.user,
        "host": "localhost",
        "port": server.port,
        "user": server.user,
        "password": server.secret,
    }
    return Login(**values | changes)


def setup_of(server: LabServer, resolver: Resolver = resolve, imap: ImapSettings | None = None) -> ConnectionTestSetup:
    hosts = HostPolicy.of(imap or settings(server), resolver)
    return ConnectionTestSetup(catalog.load(), hosts, tls_context(server.ca_file), "0", SMALL)


def run(
    server: LabServer, *, resolver: Resolver = resolve, imap: ImapSettings | None = None, **changes: Any
) -> ConnectionTestOutcome:
    return connection_test.run(target(server, **changes), setup_of(server, resolver, imap), datetime.now(UTC))


def failure(outcome: ConnectionTestOutcome) -> tuple[str, str]:
    failed = outcome.report.failed
    assert failed is not None
    # Every sentence has all its placeholders filled in, in both languages.
    for language in texts.LANGUAGES:
        assert "{" not in texts.sentence(outcome.report, language)
    return failed.name, failed.code


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_a_mailbox_of_every_provider_passes_every_stage(serve: Serve, name: str) -> None:
    server = serve(PROFILES[name])
    server.defects.discard(Defect.LOGIN_DISABLED)
    fill(server, [now() - timedelta(days=50), now() - timedelta(days=20), now() - timedelta(hours=3)])
    report = run(server).report
    assert [(stage.name, stage.code) for stage in report.stages] == [(stage, "ok") for stage in STAGES]
    assert all(stage.seconds is not None and stage.seconds >= 0 for stage in report.stages)
    (folder,) = report.folders
    shown = server.visible(server.sent)
    assert (folder.name, folder.messages) == (server.sent.name, len(shown))
    assert (folder.earliest_at, folder.newest_at) == (shown[0].filed_at, shown[-1].filed_at)
    data = texts.as_data(report)
    assert (data["passed"], data["code"], data["next"]) == (True, "ok", None)
    provider = catalog.load().by_domain(server.profile.domain)
    assert data["provider"] == (provider.id if provider else None)
    assert [seen.name for seen in server.wire].count(b"LOGIN") == 1
    for sent in server.wire:
        assert allowed(sent.command, consented=False), sent.command


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_a_list_of_folders_opens_none_and_offers_none_of_other_people(serve: Serve, name: str) -> None:
    server = serve(PROFILES[name])
    server.defects.discard(Defect.LOGIN_DISABLED)
    server.folders.append(Folder(b"Shared/colleague/Sent"))
    report = connection_test.list_folders(target(server), setup_of(server)).report
    assert report.passed and report.watched == (server.sent.name,)
    assert report.candidates[0] == server.sent.name
    assert not any(folder.startswith(b"Shared") or folder.upper() == b"INBOX" for folder in report.candidates)
    assert [stage.name for stage in report.stages if stage.code == "ok"] == list(STAGES[: STAGES.index("sent")])
    assert {b"EXAMINE", b"SELECT"}.isdisjoint(sent.name for sent in server.wire)


@pytest.mark.parametrize(
    ("profile", "secret", "code"),
    [
        (NETEASE, "wrong", "authorization-code-or-server"), (QQ, "Web-canary", "authorization-code-needed"), (QQ, "wrong", "login-unclear"),
        (EXMAIL, "Web-canary", "client-password-needed"), (GMAIL, "Web-canary", "app-password-needed"), (GMAIL, "wrong", "login-refused"),
        (OUTLOOK, "wrong", "oauth2-needed"), (YAHOO, "wrong", "login-refused"), (ALIBABA, "wrong", "login-refused"),
        (DOVECOT, "wrong", "login-refused"),
        (dataclasses.replace(DOVECOT, wrong_password=b"NO Basic authentication is disabled."), "wrong", "no-login-method"),
    ],
)  # fmt: skip
def test_a_refused_login_says_what_the_provider_means(serve: Serve, profile: Profile, secret: str, code: str) -> None:
    outcome = run(serve(profile), password=secret)
    assert failure(outcome) == ("login", code)
    assert [stage.code for stage in outcome.report.stages][5:] == ["skipped"] * 5


@pytest.mark.parametrize(
    ("defect", "stage", "code"),
    [
        (Defect.UNSAFE_LOGIN, "examine", "unsafe-login"), (Defect.LOGIN_RATE, "login", "throttled"), (Defect.AMBIGUOUS_LOGIN, "login", "login-unclear"),
        (Defect.ECHO_PASSWORD, "login", "login-refused"), (Defect.LOGIN_DISABLED, "login", "oauth2-needed"), (Defect.NO_LOGIN_METHOD, "login", "no-login-method"), (Defect.SILENT, "greeting", "budget-spent"),
        (Defect.PREAUTH, "greeting", "server-broken"), (Defect.ENDLESS_LINE, "greeting", "budget-spent"),
        (Defect.DRIP, "greeting", "budget-spent"), (Defect.HUGE_LITERAL_EARLY, "greeting", "budget-spent"),
        (Defect.ENDLESS_LIST, "list", "budget-spent"), (Defect.HUGE_UIDVALIDITY, "examine", "server-broken"), (Defect.GARBAGE, "newest", "server-broken"),
        (Defect.HUGE_LITERAL, "newest", "budget-spent"), (Defect.HALF_OPEN, "tls", "unreachable"), (Defect.NO_IMAP, "greeting", "server-broken"),
        (Defect.CLOSED_EARLY, "greeting", "unreachable"), (Defect.DRIP_ANSWER, "greeting", "budget-spent"), (Defect.NO_IN_FETCH, "newest", "server-broken"),
    ],
    ids=lambda value: value.name if isinstance(value, Defect) else str(value),
)  # fmt: skip
def test_a_server_that_misbehaves_fails_at_its_stage(
    serve: Serve, caplog: pytest.LogCaptureFixture, defect: Defect, stage: str, code: str
) -> None:
    caplog.set_level(logging.DEBUG, "services")
    server = serve(DOVECOT, defect)
    fill(server, [now()])
    outcome = run(server)
    assert failure(outcome) == (stage, code)
    shown_texts = json.dumps(texts.as_data(outcome.report), default=str) + outcome.detail + caplog.text
    for secret in (server.secret, server.user, "no such user", "kefu@188.com", "canary"):
        assert secret not in shown_texts


@pytest.mark.parametrize("defect", [Defect.REFUSED_MESSAGE, Defect.BROKEN_MESSAGE], ids=lambda defect: defect.name)
@pytest.mark.parametrize("end", [0, -1], ids=["first", "last"])
def test_a_single_unreadable_message_does_not_fail_the_test(serve: Serve, defect: Defect, end: int) -> None:
    """The reported times are those of the next message; when no message can be read the test fails."""
    server = serve(DOVECOT, defect)
    fill(server, [now() - timedelta(days=day) for day in (50, 40, 2, 1)])
    server.refused_uid = server.sent.messages[end].uid
    (folder,) = run(server).report.folders
    readable = [message.filed_at for message in server.sent.messages if message.uid != server.refused_uid]
    assert (folder.messages, folder.earliest_at, folder.newest_at) == (4, readable[0], readable[-1])
    server.sent.messages = [message for message in server.sent.messages if message.uid == server.refused_uid]
    assert failure(run(server)) == ("newest", "server-broken")


def test_a_secret_is_not_in_the_texts_of_objects(serve: Serve) -> None:
    assert "Code-canary" not in repr(target(serve(DOVECOT)))


@pytest.mark.parametrize(
    ("host", "port", "code", "next_host"),
    [
        ("pop.163.com", 993, "pop-host", "imap.163.com"), ("smtp.163.com", 993, "smtp-host", "imap.163.com"),
        ("imap.126.com", 993, "other-domains-host", "imap.163.com"), ("imap.163.com", 110, "pop-port", "imap.163.com"),
        ("imap.163.com", 143, "plain-port", "imap.163.com"), ("imap.163.com", 587, "smtp-port", "imap.163.com"),
    ],
)  # fmt: skip
def test_a_mistyped_server_is_reported_without_any_connection(
    serve: Serve, host: str, port: int, code: str, next_host: str
) -> None:
    def no_resolver(host: str, port: int) -> list[str]:
        raise AssertionError("no name is resolved for this")

    outcome = run(serve(NETEASE), host=host, port=port, resolver=no_resolver)
    assert failure(outcome) == ("dns", code)
    for language in texts.LANGUAGES:
        assert next_host in str(texts.next_step(outcome.report, language))


def test_a_server_that_only_looks_like_pop_is_tried_first(
    serve: Serve, tmp_path: Path, ca: CertificateAuthority
) -> None:
    def loopback(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    name = "pop3.own-server.example"
    with LabServer(tmp_path / "pop", ca, DOVECOT, hosts=(name,)) as server:
        assert run(server, host=name, resolver=loopback).report.passed
        server.defects.add(Defect.PREAUTH)
        outcome = run(server, host=name, resolver=loopback)
        assert failure(outcome) == ("greeting", "pop-host")
        assert "imap.own-server.example" in texts.sentence(outcome.report, "en")


def test_a_private_address_and_an_unknown_name_are_reported_alike(serve: Serve) -> None:
    """The seller sees the same report; the operator's detail differs."""
    server = serve(DOVECOT)
    closed = settings(server).model_copy(update={"allowed_private_networks": ()})

    def private(host: str, port: int) -> list[str]:
        return ["10.1.2.3"]

    def unknown(host: str, port: int) -> list[str]:
        raise OSError

    outcomes = [
        run(server, host="intranet.firm.example", imap=closed, resolver=private),
        run(server, host="intranet.firm.example", imap=closed, resolver=unknown),
        run(server, host="intranet.firm.example", imap=closed, resolver=private, port=22),
        run(server, host="10.1.2.3", imap=closed, resolver=private),
    ]
    shown = []
    for outcome in outcomes:
        data = texts.as_data(outcome.report)
        for stage in data["stages"]:
            stage["seconds"] = None
        shown.append(json.dumps({**data, "host": None, "port": None}, default=str))
    assert len(set(shown)) == 1
    assert "10.1.2.3" not in shown[0] and "resolve" not in shown[0] and "public" not in shown[0]
    assert len({outcome.detail for outcome in outcomes}) == 4 and "10.1.2.3" in outcomes[0].detail
    assert server.sessions == 0


def test_without_a_sent_folder_the_existing_folders_are_suggested(serve: Serve) -> None:
    server = serve(DOVECOT)
    server.folders.remove(server.sent)
    server.folders += [Folder(b"&W6JiNw-", b""), Folder(b"Firm", b"\\Noselect")]
    outcome = run(server)
    assert failure(outcome) == ("sent", "no-sent-folder")
    assert "name the folder: Drafts, Trash, 客户." in texts.sentence(outcome.report, "en")
    named = run(server, sent_override=(b"Trash",)).report
    assert named.passed and named.folders[0].found_by == "override"
    assert failure(run(server, sent_override=(b"Sent",))) == ("examine", "folder-missing")


def warned(outcome: ConnectionTestOutcome) -> set[str]:
    for warning in outcome.report.warnings:
        for language in texts.LANGUAGES:
            assert "{" not in texts.warning(warning, language)
    return {warning.code for warning in outcome.report.warnings}


def test_warnings_of_windows_filing_and_age(serve: Serve) -> None:
    qq = serve(QQ)
    assert warned(run(qq)) == {"window-days", "filing-option", "sent-empty"}
    fill(qq, [now() - timedelta(days=20), now() - timedelta(days=1)])
    assert warned(run(qq)) == {"window-days", "filing-option"}
    qq.profile = dataclasses.replace(qq.profile, visible_days=None)
    qq.sent.messages.clear()
    fill(qq, [now() - timedelta(days=90), now() - timedelta(days=16)])
    assert warned(run(qq)) == {"filing-option", "sent-old"}  # the owner switched it to "all"
    gmail = serve(GMAIL)
    fill(gmail, [now()])
    assert warned(run(gmail)) == {"caution"}
    note = run(gmail).report.warnings[0]
    assert "(source: the platform's FAQ, 2016-12)" in texts.warning(note, "en")
    godaddy = serve(GODADDY)
    fill(godaddy, [now()])
    assert warned(run(godaddy)) == {"filing-unknown"}
    yahoo = serve(YAHOO)
    fill(yahoo, [now()])
    assert warned(run(yahoo)) == {"filing-unknown"}
    double = serve(DOVECOT)
    double.folders.append(Folder(b"Sent Items", b""))
    fill(double, [now()])
    assert warned(run(double)) == {"filing-unknown", "several-folders"}


@pytest.fixture
def registry(dsn: str) -> Iterator[Registry]:
    with connect(dsn, "tests") as connection:
        opened = Registry(connection, Hasher(bytes(32)), Vault(bytes(range(32))))
        for company in ("c1", "c2"):
            opened.companies.add(company)
            opened.accounts.add(company, "main")
        yield opened


def login_result(
    registry: Registry, server: LabServer, company_id: str = "c1", **changes: Any
) -> tuple[str, str] | None:
    login = target(server, **changes)
    trial = ConnectionTester(settings(server), resolve, "0", limits=SMALL)
    report, _ = trial.test(registry, company_id, login, MemoryTokenStore(login.password))
    return None if report.failed is None else (report.failed.name, report.failed.code)


def test_failed_tests_of_a_mailbox_are_counted_whatever_host_is_typed(registry: Registry, serve: Serve) -> None:
    server = serve(DOVECOT)
    assert all(login_result(registry, server) is None for _ in range(TRIES_PER_HOUR + 2))  # passed ones do not count
    for number in range(TRIES_PER_HOUR):
        host = "localhost" if number % 2 else "127.0.0.1"
        assert login_result(registry, server, password="wrong", host=host) == ("login", "login-refused")
    logins = [command_seen for command_seen in server.wire if command_seen.name == b"LOGIN"]
    assert login_result(registry, server) == ("dns", "tries-spent")  # the right password neither
    assert login_result(registry, server, "c2") == ("dns", "tries-spent")  # nor from another company
    assert [command_seen for command_seen in server.wire if command_seen.name == b"LOGIN"] == logins
    assert login_result(registry, server, user="other@own-server.example") == ("login", "login-refused")
    request = ConnectRequest("c1", "main", server.user, server.secret, "Li", host="localhost", port=server.port)
    with pytest.raises(MailboxRefused, match="tested too often in the last hour. Try again at"):
        add_mailbox(registry, request, ConnectionTester(settings(server), resolve, "0", limits=SMALL))
    registry.connection.execute("UPDATE registry.connection_tests SET tested_at = tested_at - interval '1 hour'")
    assert login_result(registry, server) is None
    rows = registry.connection.execute("SELECT DISTINCT stage, code FROM registry.connection_tests").fetchall()
    assert set(rows) == {(None, "passed"), ("login", "login-refused")}


def test_failed_tests_of_a_company_are_counted(registry: Registry, serve: Serve) -> None:
    server = serve(DOVECOT)
    for number in range(COMPANY_TRIES_PER_HOUR):
        test_id, _ = registry.connection_tests.begin("c1", f"u{number}")
        registry.connection_tests.end(test_id, "tcp", "unreachable", "x")
    assert login_result(registry, server) == ("dns", "tries-spent")
    assert login_result(registry, server, "c2") is None


@pytest.mark.parametrize("code", ["unreachable", "tls-failed", "login-refused", "starttls-missing", "no-sent-folder"])
def test_after_too_many_tests_the_advice_is_about_what_failed(registry: Registry, serve: Serve, code: str) -> None:
    server = serve(DOVECOT)
    for number in range(TRIES_PER_HOUR):
        test_id, _ = registry.connection_tests.begin("c1", server.user)
        registry.connection_tests.end(test_id, "x", code if number else "login-refused", "x")
    trial = ConnectionTester(settings(server), resolve, "0", limits=SMALL)
    for company, is_own in (("c1", True), ("c2", False)):
        report, _ = trial.test(registry, company, target(server), MemoryTokenStore(server.secret))
        for language in texts.LANGUAGES:
            advice = str(texts.next_step(report, language))
            assert "{" not in advice and "UTC" in advice
            # What another company's tests met is not told.
            assert (str(texts.code_sentence(code, language)) in advice) is is_own
            if code == "unreachable":
                assert "password" not in advice and "密码" not in advice


def test_every_code_that_a_mailbox_may_be_in_has_advice(registry: Registry) -> None:
    rows = registry.connection.execute("SELECT code FROM ledger.advice").fetchall()
    typed = {"pop-host", "smtp-host", "pop-port", "smtp-port", "plain-port", "other-domains-host", "web-address"}
    assert codes() - typed <= {advised[0] for advised in rows}


def test_a_sent_folder_is_named_as_it_is_shown_and_can_be_reset(
    command: Callable[..., Result], serve: Serve, tmp_path: Path, dsn: str
) -> None:
    server = serve(PROFILES["netease"])
    fill(server, [now() - timedelta(days=20), now() - timedelta(hours=3)])
    command(server, "company", "add", "c1")
    command(server, "account", "add", "c1", "main")
    password = tmp_path / "password"
    password.write_text(server.secret + "\n", "utf-8")
    place = ("--address", server.user, "--host", "localhost", "--port", server.port, "--password-file", password)
    add = ("mailbox", "add", "--company", "c1", "--account", "main", *place, "--consent-by", "Li")
    added = json.loads(command(server, *add, "--sent-folder", "已发送", "--json").stdout)
    assert added["test"]["passed"] and added["sent_folders"] == ["已发送"]

    def chosen(*options: str) -> list[bytes] | None:
        again = ("mailbox", "reconnect", "c1", added["mailbox_id"], "--password-file", password, *options)
        command(server, *again)
        with psycopg.connect(dsn) as connection:
            override = connection.execute("SELECT sent_override FROM registry.mailboxes").fetchone()
        assert override is not None
        return override[0]  # type: ignore[no-any-return]

    assert chosen() == [b"&XfJT0ZAB-"]
    assert chosen("--sent-folder", "") is None
    assert chosen("--sent-folder", "&XfJT0ZAB-") == [b"&XfJT0ZAB-"]
    # Names are shown as people read them, and can be typed in the same form.
    ids = ("c1", added["mailbox_id"])
    with psycopg.connect(dsn) as connection:
        for name, down_to in ((b"&XfJT0ZAB-", 7), (b"R&-D", None)):
            connection.execute(
                "INSERT INTO registry.folders (company_id, mailbox_id, folder, uidvalidity, scan_down_to_uid)"
                " VALUES (%s, %s, %s, 1, %s)", (*ids, name, down_to),
            )  # fmt: skip
        counts = "INSERT INTO registry.message_counts VALUES (%s, %s, '&XfJT0ZAB-', now(), 'human', 1, 0)"
        connection.execute(counts, ids)
    shown = command(server, "mailbox", "show", *ids).stdout
    assert "已发送: scan running" in shown and "R&D: 0 messages" in shown and "&XfJ" not in shown
    folders = json.loads(command(server, "mailbox", "show", *ids, "--json").stdout)["folders"]
    assert [(folder["folder"], folder["name"]) for folder in folders] == [("&XfJT0ZAB-", "已发送"), ("R&-D", "R&D")]
    server.folders.append(Folder(b"R&-D", b""))
    for folder in folders:
        for key in ("folder", "name"):
            assert chosen("--sent-folder", folder[key]) == [folder["folder"].encode()]
    stored = command(server, "privacy", "show", added["mailbox_id"])
    assert "已发送" in stored.stdout and "&XfJ" not in stored.stdout


def test_the_command_tries_a_mailbox_before_and_after_it_is_connected(
    command: Callable[..., Result], serve: Serve, tmp_path: Path
) -> None:
    server = serve(QQ)
    fill(server, [now() - timedelta(days=3), now() - timedelta(hours=2)])
    command(server, "company", "add", "c1")
    command(server, "account", "add", "c1", "main")
    place = ("--address", server.user, "--host", "localhost", "--port", server.port)
    refused = command(server, "mailbox", "test", "c1", *place, "--lang", "zh", input="Web-canary\n", code=1)
    assert (
        "授权码" in refused.stdout and "[authorization-code-needed]" in refused.stdout and "收取选项" in refused.stdout
    )
    assert "✗  登录" in refused.stdout and "未执行" in refused.stdout
    for secret in ("Web-canary", server.user):
        assert secret not in refused.stdout + refused.stderr
    log = [json.loads(line) for line in refused.stderr.splitlines() if line.startswith("{")]
    assert [(line["action"], line["stage"], line["code"]) for line in log] == [
        ("connection-tested", "login", "authorization-code-needed")
    ]
    password = tmp_path / "password"
    password.write_text(server.secret + "\n", "utf-8")
    passed = json.loads(command(server, "mailbox", "test", "c1", *place, "--password-file", password, "--json").stdout)
    assert [stage["stage"] for stage in passed["stages"]] == list(STAGES)
    (folder,) = passed["sent_folders"]
    assert (folder["name"], folder["found_by"], folder["messages"]) == ("Sent Messages", "name", 2)
    assert folder["earliest_at"] == server.sent.messages[0].filed_at.isoformat().replace("+00:00", "Z")
    assert {warning["code"] for warning in passed["warnings"]} == {"window-days", "filing-option"}
    add = ("mailbox", "add", "--company", "c1", "--account", "main", *place, "--consent-by", "Li")
    failed = json.loads(command(server, *add, "--json", input="Web-canary\n", code=1).stdout)
    assert (failed["state"], failed["test"]["code"]) == ("pending_test", "authorization-code-needed")
    added = json.loads(command(server, *add, "--password-file", password, "--json").stdout)
    assert added["test"]["passed"] and added["sent_folders"] == ["Sent Messages"]
    mailbox_id = added["mailbox_id"]
    shown = command(server, "mailbox", "test", "c1", mailbox_id).stdout
    assert "The mailbox can be connected." in shown and "Sent mail is in Sent Messages." in shown
    server.secret = "changed"
    again = command(server, "mailbox", "test", "c1", mailbox_id, "--json", code=1).stdout
    assert json.loads(again)["code"] == "login-unclear"


def test_no_test_reads_anything_of_a_message(
    command: Callable[..., Result], serve: Serve, tmp_path: Path, dsn: str
) -> None:
    """Before anybody consented, and of a connected mailbox; also where the ends of a folder cannot be read. The words are
    those of the filing times, whatever a message says of itself."""
    server = serve(DOVECOT, Defect.REFUSED_MESSAGE)
    double = Folder(b"Sent Items", b"")
    server.folders.append(double)
    times = [now() - timedelta(days=day) for day in (40, 30, 2, 1)]
    fill(server, times)
    fill(server, times, double, first=10)
    for message in (*server.sent.messages, *double.messages):
        message.raw = message.raw.replace(b"Date: ", b"Date: Thu, 01 Jan 2009 00:00:00 +0000\r\nX-Date: ")
    server.refused_uid = server.sent.messages[-1].uid
    password = tmp_path / "password"
    password.write_text(server.secret + "\n", "utf-8")
    place = ("--address", server.user, "--host", "localhost", "--port", server.port, "--password-file", password)
    command(server, "company", "add", "c1")
    command(server, "account", "add", "c1", "main")

    def run_without_reading_headers(*args: object) -> str:
        server.wire.clear()
        done = command(server, *args).stdout
        commands = [seen.command for seen in server.wire]
        fetches = [line for line in commands if b"FETCH" in line.upper()]
        assert fetches and all(allowed(line, consented=False) for line in commands), commands
        for word in (b"BODY", b"HEADER", b"ENVELOPE", b"RFC822", b"TEXT", b"FLAGS", b"SAVEDATE"):
            assert not any(word in line.upper() for line in fetches), fetches
        return done

    printed = run_without_reading_headers("mailbox", "test", "c1", *place)
    assert f"The newest message is from {times[-2]:%Y-%m-%d %H:%M} UTC, the oldest visible one" in printed, (
        "the last one is refused"
    )
    assert f"the oldest visible one from {times[0]:%Y-%m-%d}." in printed and "2009" not in printed
    with connect(dsn, "tests") as connection:
        assert connection.execute("SELECT count(*) FROM registry.consents").fetchone() == (0,)
    add = ("mailbox", "add", "--company", "c1", "--account", "main", *place, "--consent-by", "Li", "--json")
    added = json.loads(run_without_reading_headers(*add))
    run_without_reading_headers("mailbox", "test", "c1", added["mailbox_id"])


def test_the_command_says_what_it_needs(command: Callable[..., Result], serve: Serve, tmp_path: Path) -> None:
    server = serve(NETEASE)
    assert "MAILBOX_ID" in command(server, "mailbox", "test", "c1", code=2).stderr
    assert "leave the other options out" in command(server, "mailbox", "test", "c1", "m1", "--host", "x", code=2).stderr
    typed = ("mailbox", "test", "c1", "--address", server.user, "--host", "localhost", "--port", server.port)
    assert "company add c1" in command(server, *typed, input="x\n", code=1).stderr
    command(server, "company", "add", "c1")
    assert "write it as name@domain" in command(server, "mailbox", "test", "c1", "--address", "x", code=1).stderr
    assert "mailbox list c1" in command(server, "mailbox", "test", "c1", "m-none", code=1).stderr
    (tmp_path / "bad").write_bytes(b"\xff\xfe")
    assert "UTF-8" in command(server, *typed, "--password-file", tmp_path / "bad", code=1).stderr
    site = ("mailbox", "test", "c1", "--address", "a@nowhere.invalid", "--json")
    assert "--host imap.example.com" in command(server, *site, code=1).stderr


@pytest.mark.parametrize(
    ("host", "port", "code"),
    [
        ("pop.163.com", None, "pop-host"), ("smtp.qq.com", None, "smtp-host"), ("pop.163.com", 995, "pop-host"), ("imap.163.com:995", None, "pop-port"),
        ("https://mail.163.com", None, "web-address"), ("https：、、mail。163。com、", None, "web-address"), ("ｐｏｐ．１６３．ｃｏｍ", None, "pop-host"),
        (" pop。163。com ", None, "pop-host"), ("\u3000smtp . 163 . com", None, "smtp-host"), ("imap.126.com", None, "other-domains-host"),
        (None, "９９５", "pop-port"), (None, 143, "plain-port"),
        *((None, port, "pop-port") for port in (110, 995)), *((None, port, "smtp-port") for port in (25, 465, 587)),
        *(("imap.163.com", port, "pop-port") for port in (110, 995)), *(("imap.163.com", port, "smtp-port") for port in (25, 465, 587)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["test", "add"])
def test_a_server_that_is_not_imap_is_reported_before_a_password_is_asked_for(
    verb: str, host: str | None, port: object, code: str, monkeypatch: pytest.MonkeyPatch, dsn: str, tmp_path: Path
) -> None:
    """Without a prompt, in both languages and with --json; nothing is connected and no test is counted."""
    (tmp_path / "key").write_bytes(bytes(32))
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: pytest.fail("a connection was opened"))
    env = {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9", "REPLYRATE_POSTGRES__DSN": dsn, "COLUMNS": "220",
        "REPLYRATE_HASH_KEY_FILE": str(tmp_path / "key"), "REPLYRATE_VAULT_KEY_FILE": str(tmp_path / "key"),
    }  # fmt: skip
    place = [
        "--address",
        "seller@163.com",
        *(["--host", host] if host else []),
        *(["--port", str(port)] if port else []),
    ]
    words = ["test", "c1"] if verb == "test" else ["add", "--company", "c1", "--account", "main", "--consent-by", "Li"]
    sentences = texts.load()["code"][code]
    for options in ([], ["--lang", "zh"], ["--json"]):
        done = CliRunner().invoke(main, ["mailbox", *words, *place, *options], env=env, input="")
        assert done.exit_code == 1 and PROMPT not in done.output, done.output
        if "--json" in options:
            report = json.loads(done.stdout)
            report = report if verb == "test" else report["test"]
            assert report["code"] == code and "imap.163.com" in report["next"]["en"]
        else:
            language = "zh" if options else "en"
            assert f"[{code}]" in done.stdout and sentences[language]["says"] in done.stdout
            assert sentences[language]["next"].format(host="imap.163.com") in done.stdout
    with connect(dsn, "tests") as connection:
        assert connection.execute("SELECT count(*) FROM registry.connection_tests").fetchone() == (0,)


def test_a_server_with_the_name_of_another_protocol_is_contacted_before_a_password_is_asked_for(
    command: Callable[..., Result],
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ca: CertificateAuthority,
) -> None:
    """If it speaks IMAP the password is asked for; if it does not, the report says what its name looks like."""
    name = "pop3.own-server.example"
    policy = HostPolicy.of
    monkeypatch.setattr(HostPolicy, "of", lambda imap, *_: policy(imap, lambda host, port: ["127.0.0.1"]))
    with LabServer(tmp_path / "pop", ca, DOVECOT, hosts=(name,)) as server:
        command(server, "company", "add", "c1")
        typed = ("mailbox", "test", "c1", "--address", server.user, "--host", name, "--port", server.port)
        passed = command(server, *typed, input=server.secret + "\n")
        assert PROMPT in passed.stderr and "The mailbox can be connected." in passed.stdout
        server.wire.clear()
        server.defects.add(Defect.PREAUTH)
        refused = command(server, *typed, input="", code=1)
        assert "[pop-host]" in refused.stdout and "Enter imap.own-server.example" in refused.stdout
        assert PROMPT not in refused.stderr
        assert b"LOGIN" not in {seen.name for seen in server.wire}
