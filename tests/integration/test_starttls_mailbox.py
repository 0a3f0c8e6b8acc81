"""A mailbox whose server offers STARTTLS: looked up, tested, connected, read, connected again."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from services.cli.__main__ import main
from services.common.settings import ImapSettings
from services.connect import connection_test, texts
from services.connect.connection_test import ConnectionTestSetup
from services.connect.dns_records import DnsRecords
from services.connect.lookup import look_up
from services.connect.report import STAGES, ConnectionTestReport
from services.imap.host_policy import HostPolicy
from services.imap.tls import tls_context
from services.mail.values import Login
from services.providers import catalog
from services.providers.lookup_decision import LookupAnswer
from services.providers.mail_server import MailServer
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.names import NameServer
from tests.imap_lab.profiles import DOVECOT
from tests.imap_lab.server import LabServer
from tests.integration.test_imap_starttls import SMALL, Script, scripted
from tests.support.dovecot import Dovecot
from tests.support.fetcher_lab import USER, Lab, Server, letter, make_lab
from tests.support.processes import until
from tests.support.servers import USERS

__all__ = ["make_lab"]

DOMAIN = "firm.example"


def loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def tried(port: int, ca_file: Path) -> ConnectionTestReport:
    imap = ImapSettings.model_validate({"allowed_private_networks": ("127.0.0.0/8",), "allowed_ports": (port,)})
    hosts = HostPolicy.of(imap, loopback)
    setup = ConnectionTestSetup(catalog.load(), hosts, tls_context(ca_file), "0", SMALL)
    login = Login(USER, "localhost", port, USER, USERS[USER], tls="starttls")
    return connection_test.run(login, setup, datetime.now(UTC)).report


def test_a_test_passes_every_stage(dovecot: Dovecot) -> None:
    report = tried(dovecot.starttls_port, dovecot.ca_file)
    assert [(stage.name, stage.code) for stage in report.stages] == [(stage, "ok") for stage in STAGES]
    assert texts.as_data(report)["security"] == "starttls"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (Script(answer=b"{tag} BAD unknown\r\n"), "starttls-missing"), (Script(b"* PREAUTH hello\r\n"), "starttls-unsafe"),
        (Script(names=("mail.example.com",)), "tls-failed"), (Script(expired=True), "tls-failed"),
    ],
)  # fmt: skip
def test_a_failure_says_that_the_password_was_not_sent(
    tmp_path: Path, ca: CertificateAuthority, script: Script, code: str
) -> None:
    with scripted(tmp_path, ca, script) as (port, seen):
        report = tried(port, ca.ca_file)
    assert report.failed is not None and (report.failed.name, report.failed.code) == ("tls", code)
    assert "password was not sent" in texts.sentence(report, "en") and "密码未发送" in texts.sentence(report, "zh")
    assert b"LOGIN" not in seen.plain and seen.encrypted == []


@pytest.fixture
def names() -> Any:
    with NameServer({}) as server:
        yield server


def find(names: NameServer, imap: ImapSettings) -> LookupAnswer:
    answer, _ = look_up(
        catalog.load(), DOMAIN, records=DnsRecords(["127.0.0.1"], names.port), hosts=HostPolicy.of(imap, loopback),
        context=tls_context(imap.ca_file),
    )  # fmt: skip
    return answer


def test_records_name_starttls_only_where_none_names_tls(names: NameServer) -> None:
    imap = ImapSettings.model_validate({"allowed_private_networks": ("127.0.0.0/8",)})
    names.table = {(f"_imap._tcp.{DOMAIN}", "SRV"): ["0 0 143 mail.host.example."]}
    answer = find(names, imap)
    assert (answer.how, answer.servers, answer.trusted) == (
        "srv",
        (MailServer("mail.host.example", 143, "starttls"),),
        False,
    )
    assert answer.evidence == f"_imap._tcp.{DOMAIN}"
    names.table[f"_imaps._tcp.{DOMAIN}", "SRV"] = ["0 0 0 ."]
    assert find(names, imap).servers == (MailServer("mail.host.example", 143, "starttls"),)
    names.table[f"_imaps._tcp.{DOMAIN}", "SRV"] = ["0 0 993 imap.host.example."]
    assert find(names, imap).servers == (MailServer("imap.host.example", 993),)


def test_a_guess_prefers_tls_from_the_first_byte(
    names: NameServer, tmp_path: Path, ca: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.connect import lookup
    from services.providers import mail_server

    with (
        LabServer(tmp_path / "implicit", ca, DOVECOT, hosts=(f"mail.{DOMAIN}",)) as implicit,
        scripted(tmp_path, ca, Script(names=(f"imap.{DOMAIN}",))) as (port, _),
    ):
        monkeypatch.setattr(mail_server, "STARTTLS_PORT", port)
        values = {"ca_file": ca.ca_file, "allowed_private_networks": ("127.0.0.0/8",)}
        both = ImapSettings.model_validate(values | {"allowed_ports": (port, implicit.port)})
        assert find(names, both).servers == (MailServer(f"mail.{DOMAIN}", implicit.port),)
        monkeypatch.setattr(lookup, "PROBE", SMALL)
        only = ImapSettings.model_validate(values | {"allowed_ports": (port,)})
        assert find(names, only).servers == (MailServer(f"imap.{DOMAIN}", port, "starttls"),)


def test_a_mailbox_is_read_by_the_fetcher(dovecot: Dovecot, make_lab: Callable[[Server], Lab]) -> None:
    lab = make_lab(dovecot)
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    dovecot.append(USER, "Sent", letter(1, at), at)
    connected = lab.connect(port=dovecot.starttls_port, tls="starttls")
    with lab.fetcher():
        until(lambda: len(lab.sent()) == 1, 60, "the message is published")
    with lab.registry() as registry:
        stored = registry.logins.with_password("c1", connected.mailbox_id)
    assert (stored.port, stored.tls) == (dovecot.starttls_port, "starttls")


def test_the_commands(dovecot: Dovecot, dsn: str, tmp_path: Path) -> None:
    for name, value in (("hash.key", bytes(32)), ("vault.key", bytes(32)), ("secret", USERS[USER].encode())):
        (tmp_path / name).write_bytes(value)
    env = {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9", "REPLYRATE_POSTGRES__DSN": dsn, "COLUMNS": "220",
        "REPLYRATE_HASH_KEY_FILE": str(tmp_path / "hash.key"), "REPLYRATE_VAULT_KEY_FILE": str(tmp_path / "vault.key"),
        "REPLYRATE_IMAP__CA_FILE": str(dovecot.ca_file), "REPLYRATE_IMAP__ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128",
        "REPLYRATE_IMAP__ALLOWED_PORTS": f"{dovecot.port},{dovecot.starttls_port}",
    }  # fmt: skip

    def run(*args: object, code: int = 0) -> Result:
        done = CliRunner().invoke(main, [str(arg) for arg in args], env=env)
        assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
        return done

    run("company", "add", "c1")
    run("account", "add", "c1", "main")
    secret = ("--password-file", tmp_path / "secret", "--host", "localhost")
    typed = ("--address", USER, *secret, "--port", dovecot.starttls_port)
    # A port other than 143 speaks TLS from the first byte unless somebody says otherwise.
    refused = json.loads(run("mailbox", "test", "c1", *typed, "--json", code=1).stdout)
    assert (refused["code"], refused["security"]) == ("tls-failed", "tls")
    passed = json.loads(run("mailbox", "test", "c1", *typed, "--starttls", "--json").stdout)
    assert (passed["passed"], passed["security"], passed["port"]) == (True, "starttls", dovecot.starttls_port)
    connected = json.loads(
        run(
            "mailbox",
            "add",
            "--company",
            "c1",
            "--account",
            "main",
            "--consent-by",
            "Li",
            *typed,
            "--starttls",
            "--json",
        ).stdout
    )
    mailbox_id = connected["mailbox_id"]
    assert json.loads(run("mailbox", "show", "c1", mailbox_id, "--json").stdout)["tls"] == "starttls"
    assert run("mailbox", "test", "c1", mailbox_id).stdout
    # Connected again: as before without options, with TLS from the first byte on another port.
    run("mailbox", "reconnect", "c1", mailbox_id, "--password-file", tmp_path / "secret")
    assert json.loads(run("mailbox", "show", "c1", mailbox_id, "--json").stdout)["tls"] == "starttls"
    run("mailbox", "reconnect", "c1", mailbox_id, *secret, "--port", dovecot.port, "--consent-by", "Li")
    shown = json.loads(run("mailbox", "show", "c1", mailbox_id, "--json").stdout)
    assert (shown["tls"], shown["port"]) == ("implicit", dovecot.port)


def test_port_143_means_starttls(dsn: str, tmp_path: Path, ca: CertificateAuthority) -> None:
    """Without --starttls; nothing listens there, so only what would be done is seen."""
    (tmp_path / "key").write_bytes(bytes(32))
    env = {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9", "REPLYRATE_POSTGRES__DSN": dsn, "COLUMNS": "220",
        "REPLYRATE_HASH_KEY_FILE": str(tmp_path / "key"), "REPLYRATE_VAULT_KEY_FILE": str(tmp_path / "key"),
        "REPLYRATE_IMAP__ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128",
    }  # fmt: skip
    (tmp_path / "secret").write_bytes(b"secret")
    CliRunner().invoke(main, ["company", "add", "c1"], env=env)
    for options, security, port in (
        (["--port", "143"], "starttls", 143), (["--starttls"], "starttls", 143), ([], "tls", 993),
    ):  # fmt: skip
        done = CliRunner().invoke(
            main, ["mailbox", "test", "c1", "--address", "a@firm.example", "--host", "localhost", *options, "--json",
                   "--password-file", str(tmp_path / "secret")], env=env,
        )  # fmt: skip
        shown = json.loads(done.stdout)
        assert (shown["security"], shown["port"]) == (security, port), done.stderr


def test_the_settings_of_the_shipped_policy_allow_both_ports() -> None:
    settings = ImapSettings.model_validate({})
    policy = HostPolicy.of(settings, lambda *_: ["93.184.216.34"])
    assert policy.check("mail.example.com", 143, "starttls").tls == "starttls"
    assert policy.check("mail.example.com", 993).tls == "implicit"
