"""A look-up with a real name server and real servers on loopback: what is asked, and that no secret is ever sent."""

import dataclasses
import json
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from services.cli.__main__ import main
from services.common.errors import TransientError
from services.common.settings import ImapSettings
from services.connect import dns_records
from services.connect.dns_records import DnsRecords
from services.connect.lookup import look_up
from services.imap.host_policy import HostPolicy
from services.imap.tls import tls_context
from services.providers import catalog
from services.providers.lookup_decision import LookupAnswer, SrvRecord
from services.providers.mail_server import MailServer
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.names import NameServer
from tests.imap_lab.profiles import DOVECOT, Defect
from tests.imap_lab.server import LabServer

DOMAIN = "firm.example"


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer({}) as server:
        yield server


@pytest.fixture
def guessed(tmp_path: Path, ca: CertificateAuthority) -> Iterator[LabServer]:
    """An IMAP server with a certificate for imap.firm.example."""
    with LabServer(tmp_path / "guessed", ca, DOVECOT, hosts=(f"imap.{DOMAIN}",)) as server:
        yield server


def settings(server: LabServer | None = None, ca_file: Path | None = None, **changes: Any) -> ImapSettings:
    values: dict[str, Any] = {"allowed_private_networks": ("127.0.0.0/8",)}
    if server is not None:
        values |= {"ca_file": server.ca_file, "allowed_ports": (server.port,)}
    return ImapSettings.model_validate(values | changes)


def loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def find(names: NameServer, imap: ImapSettings, domain: str = DOMAIN, **options: Any) -> tuple[LookupAnswer, list[str]]:
    return look_up(
        catalog.load(), domain, records=DnsRecords(["127.0.0.1"], names.port), hosts=HostPolicy.of(imap, loopback),
        context=tls_context(imap.ca_file), **options,
    )  # fmt: skip


def test_dns_records_are_read_unchanged(names: NameServer) -> None:
    names.table = {
        (DOMAIN, "MX"): ["20 mx2.other.example.", "10 MXBIZ1.qq.com."],
        (f"_imaps._tcp.{DOMAIN}", "SRV"): ["5 1 1993 imap.other.example.", "0 0 0 ."],
    }
    records = DnsRecords(["127.0.0.1"], names.port)
    assert records.mx(DOMAIN) == ("mxbiz1.qq.com", "mx2.other.example")
    assert set(records.srv(DOMAIN)) == {SrvRecord("imap.other.example.", 1993, 5, 1), SrvRecord(".", 0, 0, 0)}
    assert records.mx("nobody.example") == () and records.srv("nobody.example") == ()
    assert records.mx("x" * 64 + ".example") == ()


def test_a_domain_in_the_catalogue_needs_no_dns_query(names: NameServer) -> None:
    answer, problems = find(names, settings(), "163.com")
    assert (answer.how, problems, names.asked) == ("domain", [], [])


def test_the_provider_of_a_company_domain_is_known_from_its_mx_server(names: NameServer) -> None:
    names.table = {(DOMAIN, "MX"): ["10 firm-example.mail.protection.outlook.com."]}
    answer, _ = find(names, settings())
    assert (answer.how, answer.servers[0], answer.trusted) == ("mx", MailServer("outlook.office365.com", 993), True)
    assert names.asked == [(DOMAIN, "MX")]


def test_a_record_for_imap_is_a_suggestion(names: NameServer) -> None:
    names.table = {
        (DOMAIN, "MX"): ["10 mx.firm.example."],
        (f"_imaps._tcp.{DOMAIN}", "SRV"): ["0 0 993 imap.host.example."],
    }
    answer, _ = find(names, settings())
    assert (answer.how, answer.servers, answer.trusted) == ("srv", (MailServer("imap.host.example", 993),), False)


def test_a_guessed_server_is_contacted_and_sent_nothing(names: NameServer, guessed: LabServer) -> None:
    answer, _ = find(names, settings(guessed))
    assert (answer.how, answer.servers, answer.trusted) == (
        "guess",
        (MailServer(f"imap.{DOMAIN}", guessed.port),),
        False,
    )
    # mail.firm.example has no valid certificate: it was tried, and is not an answer.
    assert guessed.sessions >= 1
    assert {command.name for command in guessed.wire} <= {b"CAPABILITY", b"LOGOUT"}


@pytest.mark.parametrize("defect", [Defect.SILENT, Defect.ENDLESS_LINE, Defect.PREAUTH, Defect.DRIP])
def test_a_guessed_host_that_is_not_a_mail_server_is_not_an_answer(
    names: NameServer, guessed: LabServer, defect: Defect, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.connect import lookup

    monkeypatch.setattr(lookup, "PROBE", dataclasses.replace(lookup.PROBE, command_seconds=0.5, session_seconds=1))
    guessed.defects.add(defect)
    answer, _ = find(names, settings(guessed))
    assert (answer.how, answer.servers) == ("ask", ())


def test_guessed_hosts_are_contacted_at_public_addresses_only(names: NameServer, guessed: LabServer) -> None:
    answer, _ = find(names, settings(guessed, allowed_private_networks=(ip_network("10.0.0.0/8"),)))
    assert (answer.how, guessed.sessions) == ("ask", 0)


def test_a_silent_name_server_is_reported_and_the_look_up_continues(
    names: NameServer, guessed: LabServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_records, "SECONDS", 0.3)
    names.silent = True
    answer, problems = find(names, settings(guessed))
    assert answer.how == "guess"
    assert [problem.split(":")[0] for problem in problems] == ["MX records", "SRV records"]
    with pytest.raises(TransientError, match="does not answer"):
        DnsRecords(["127.0.0.1"], names.port).mx(DOMAIN)


def run(*args: str, code: int = 0) -> Any:
    done = CliRunner().invoke(main, ["provider", *args], env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    return done


def test_the_command_prints_its_evidence() -> None:
    assert json.loads(run("lookup", "someone@163.com", "--json").stdout) | {"provider": None} == {
        "asked": "someone@163.com", "domain": "163.com", "how": "domain", "evidence": "163.com", "trusted": True, "problems": [],
        "servers": [{"host": "imap.163.com", "port": 993, "security": "tls"}], "provider": None, "doubts": [], "mistake": None,
    }  # fmt: skip
    shown = run("lookup", "someone@qq.com", "--lang", "zh").stdout
    assert "imap.qq.com:993" in shown and "授权码" in shown and "第 25 行" in shown and "authorization" not in shown
    assert "imap.qiye.163.com" in run("lookup", "网易企业邮").stdout
    assert "not supported" in run("lookup", "中文站企业邮箱").stdout
    offline = json.loads(run("lookup", "a@firm.example", "--offline", "--json").stdout)
    assert (offline["how"], offline["servers"], offline["trusted"]) == ("ask", [], False)
    assert "write name@domain" in run("lookup", "a@b@c d", code=1).stderr
    assert len(json.loads(run("list", "--json").stdout)) == len(catalog.load().providers)
    assert "imap.sina.com" in run("list").stdout


@pytest.mark.parametrize(
    ("text", "code", "host"),
    [
        ("pop.qq.com", "pop-host", "imap.qq.com"), ("smtp.qq.com", "smtp-host", "imap.qq.com"), ("ｐｏｐ。１６３。ｃｏｍ", "pop-host", "imap.163.com"),
        ("https：、、mail。163。com、", "web-address", "imap.163.com"), ("https://mail.163.com", "web-address", "imap.163.com"),
        ("smtp.firm.example", "smtp-host", "imap.firm.example"), ("firm.example:110", "pop-port", "firm.example"),
        *((f"imap.163.com:{port}", "pop-port", "imap.163.com") for port in (110, 995)),
        *((f"imap.163.com：{port}", "smtp-port", "imap.163.com") for port in (25, 465, 587)),
    ],
)  # fmt: skip
def test_the_command_reports_a_server_that_is_not_imap(text: str, code: str, host: str) -> None:
    answer = json.loads(run("lookup", text, "--offline", "--json").stdout)
    assert (answer["mistake"]["code"], answer["mistake"]["host"]) == (code, host)
    assert [server["host"] for server in answer["servers"]] == ([host] if answer["provider"] else [])
    for language in ("en", "zh"):
        sentence = answer["mistake"]["text"][language]
        assert host in sentence
        assert sentence in run("lookup", text, "--offline", "--lang", language).stdout


def test_a_domain_is_looked_up_like_its_addresses() -> None:
    """163.com is part of the names of other providers too."""
    differ = [
        domain for provider in catalog.load().providers for domain in provider.domains
        if json.loads(run("lookup", domain, "--offline", "--json").stdout)["servers"]
        != json.loads(run("lookup", f"someone@{domain}", "--offline", "--json").stdout)["servers"]
    ]  # fmt: skip
    assert differ == []


def test_a_wrong_setting_is_named() -> None:
    done = CliRunner().invoke(main, ["provider", "lookup", "a@163.com"], env={"REPLYRATE_IMAP__ALLOWED_PORTS": "x"})
    assert done.exit_code == 78 and "REPLYRATE_IMAP__ALLOWED_PORTS" in done.stderr
