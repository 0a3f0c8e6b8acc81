"""`provider check` with a real name server on loopback that answers from a table."""

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from services.cli.__main__ import main
from services.connect import directory_check, dns_records
from services.connect.dns_records import DnsRecords
from services.providers import catalog
from tests.imap_lab.names import NameServer, Table


def confirming() -> Table:
    """The DNS as the directory describes it."""
    table: Table = {}
    for provider in catalog.load().providers:
        for name in (*provider.mx, *(host for host in provider.hosts if "{" not in host)):
            table[name, "A"] = ["192.0.2.1"]
        for domain in provider.domains:
            table[domain, "MX"] = [f"10 {provider.mx[0] if provider.mx else f'mx.{domain}'}."]
    return table


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    with NameServer(confirming()) as server:
        monkeypatch.setattr(
            "services.cli.registry.provider_check.DnsRecords", lambda: DnsRecords(["127.0.0.1"], server.port)
        )
        yield server


def check(*options: str) -> Result:
    return CliRunner().invoke(main, ["provider", "check", *options], env={})


def test_a_directory_that_the_dns_confirms_has_no_changes(names: NameServer) -> None:
    done = check("--json")
    result = json.loads(done.stdout)
    assert (done.exit_code, result["changes"], result["not_checked"]) == (0, [], [])
    assert (
        result["answered"] > 100 and ("163.com", "MX") in names.asked and ("_imaps._tcp.163.com", "SRV") in names.asked
    )


def test_every_kind_of_change_is_reported_with_the_entry_and_when_it_was_confirmed(names: NameServer) -> None:
    mx_of_another = next(
        provider.mx[0] for provider in catalog.load().providers if provider.family == "tencent" and provider.mx
    )
    del names.table["imap.126.com", "A"]
    del names.table["mxmail.netease.com", "A"]
    del names.table["vip.163.com", "MX"]
    names.table["autoconfig.vip.163.com", "A"] = ["192.0.2.1"]
    names.table["188.com", "MX"] = [f"5 a.{mx_of_another}."]
    names.table["_imaps._tcp.163.com", "SRV"] = ["0 1 993 new.163.example."]
    names.table["_imaps._tcp.126.com", "SRV"] = ["0 0 0 ."]
    names.table["_imaps._tcp.vip.126.com", "SRV"] = ["0 1 993 IMAP.vip.126.com."]
    done = check("--json")
    changes = {(change["key"], change["name"], change["code"]): change for change in json.loads(done.stdout)["changes"]}
    assert done.exit_code == 1
    assert set(changes) == {
        ("hosts", "imap.126.com", "no-address"), ("mx", "mxmail.netease.com", "name-gone"),
        ("domains", "vip.163.com", "no-mx"), ("domains", "188.com", "mx-of-another"),
        ("domains", "163.com", "srv-differs"), ("domains", "126.com", "srv-no-imap"),
    }  # fmt: skip
    assert changes["domains", "163.com", "srv-differs"]["seen"] == "new.163.example"
    assert changes["domains", "vip.163.com", "no-mx"]["seen"] == "autoconfig.vip.163.com exists"
    assert all(change["as_of"] >= "2026" and change["says"] for change in changes.values())
    text = check()
    assert text.exit_code == 1 and "imap.126.com: the server has no address any more (confirmed 2026-" in text.stdout


def test_a_name_server_that_does_not_answer_exits_with_69(names: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_records, "SECONDS", 0.2)
    names.silent = True
    done = check("--json")
    assert done.exit_code == 69 and "the DNS does not answer" in done.stderr and not done.stdout
    assert len(names.asked) >= directory_check.MOST_FAILURES


def test_queries_that_fail_are_reported_as_not_checked_and_change_nothing(names: NameServer) -> None:
    names.failing = {"163.com", "imap.126.com", "mxmail.netease.com"}
    done = check("--json")
    result = json.loads(done.stdout)
    assert (done.exit_code, result["changes"]) == (0, [])
    assert set(result["not_checked"]) == {"MX 163.com", "address imap.126.com", "name mxmail.netease.com"}
    text = check()
    assert text.exit_code == 0 and "not checked, the DNS did not answer: MX 163.com" in text.stderr


def test_names_in_answers_are_printed_without_control_characters_and_markup(names: NameServer) -> None:
    mx_of_another = next(
        provider.mx[0] for provider in catalog.load().providers if provider.family == "tencent" and provider.mx
    )
    names.table["188.com", "MX"] = [f"5 \\027[31m[/bold].{mx_of_another}."]
    names.table["_imaps._tcp.163.com", "SRV"] = ["0 1 993 [red]\\007.example."]
    text = check()
    assert text.exit_code == 1 and "\x1b" not in text.stdout and "\x07" not in text.stdout
    assert "[/bold]" in text.stdout and "[red]" in text.stdout


def test_an_address_or_an_unknown_option_is_a_usage_error(names: NameServer) -> None:
    for options in (["a@163.com"], ["--offline"]):
        done = check(*options)
        assert done.exit_code == 2 and "Usage" in done.stderr and not names.asked
