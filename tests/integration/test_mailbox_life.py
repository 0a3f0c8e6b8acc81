"""From consent to withdrawal, on the command line and in the registry: states, reasons, history, what remains."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import Result
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from services.common.hashing import Hasher
from services.common.language import Language
from services.common.postgres import connect
from services.connect import consent, report, texts
from services.connect.onboarding import refuse_mailbox
from services.connect.requests import ConnectRequest
from services.mail.values import Login
from services.providers import catalog
from services.providers.lookup_decision import LookupAnswer
from services.registry import states
from services.registry.connection_attempts import ConnectionAttempt, GivenConsent
from services.registry.errors import RegistryError
from services.registry.leases import LeaseLost, Leases
from services.registry.registry import Registry
from services.registry.states import NEW, STATES
from services.registry.vault import Vault
from tests.imap_lab.profiles import DOVECOT, QQ
from tests.imap_lab.server import LabServer
from tests.imap_lab.world import fill
from tests.support.builders import now
from tests.support.commands import command  # noqa: F401
from tests.support.mailboxes import connected
from tests.support.provider_lab import Serve, serve  # noqa: F401

Run = Callable[..., Result]


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> LabServer:  # noqa: F811
    lab_server = serve(DOVECOT)
    fill(lab_server, [now() - timedelta(days=3), now() - timedelta(hours=2)])
    (tmp_path / "password").write_text(lab_server.secret + "\n", "utf-8")
    return lab_server


@pytest.fixture
def run(command: Run, server: LabServer, tmp_path: Path) -> Run:  # noqa: F811
    """`replyrate` with two companies; PASSWORD is replaced by the option with the right password."""

    def call(*args: object, **options: Any) -> Result:
        given: list[object] = []
        for argument in args:
            given += ["--password-file", tmp_path / "password"] if argument == "PASSWORD" else [argument]
        return command(server, *given, **options)

    for company_id in ("c1", "c2"):
        call("company", "add", company_id)
        call("account", "add", company_id, "main")
    return call


@pytest.fixture
def registry(dsn: str) -> Iterator[Registry]:
    with connect(dsn, "tests") as connection:
        opened = Registry(connection, Hasher(bytes(32)), Vault(bytes(32)))
        for company_id in ("c1", "c2"):
            opened.companies.add(company_id)
            opened.accounts.add(company_id, "main")
        yield opened


def place(server: LabServer, company_id: str = "c1", **changes: Any) -> list[object]:
    host = changes.pop("host", "localhost")
    return [
        "--company", company_id, "--account", "main", "--address", server.user, "--host", host, "--port", server.port,
        *(part for name, value in changes.items() for part in (f"--{name.replace('_', '-')}", value)),
    ]  # fmt: skip


def added(run: Run, server: LabServer, **changes: Any) -> dict[str, Any]:
    done = run("mailbox", "add", *place(server, consent_by="Wang Li", **changes), "PASSWORD", "--json")
    passed: dict[str, Any] = json.loads(done.stdout)
    return passed


def shown(run: Run, mailbox_id: str, company_id: str = "c1") -> dict[str, Any]:
    details: dict[str, Any] = json.loads(run("mailbox", "show", company_id, mailbox_id, "--json").stdout)
    return details


def test_a_sync_does_not_start_before_all_facts(registry: Registry) -> None:
    early = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
    with pytest.raises(RegistryError, match="cannot start before 2000-01-01"):
        registry.accounts.add("c1", "second", synced_from=early)
    with pytest.raises(RegistryError, match="cannot start before 2000-01-01"):
        registry.accounts.start_platform_sync("c1", "main", early)
    assert registry.accounts.get("c1", "main")["synced_by_platform_from"] is None
    registry.accounts.start_platform_sync("c1", "main", datetime(2000, 1, 1, tzinfo=UTC))


def test_messages_are_shown_by_kind(run: Run, server: LabServer, dsn: str) -> None:
    mailbox_id = added(run, server)["mailbox_id"]
    with connect(dsn, "tests") as connection:
        connection.execute(
            "INSERT INTO registry.message_counts (company_id, mailbox_id, folder, day, kind, messages, suspect)"
            " VALUES ('c1', %(id)s, 'Sent', '2026-11-01', 'human', 3, 1), ('c1', %(id)s, 'Sent', '2026-11-02', 'human', 4, 0),"
            " ('c1', %(id)s, 'Sent', '2026-11-02', 'bulk', 2, 0)",
            {"id": mailbox_id},
        )
    assert [(kind["kind"], kind["sum"], kind["suspect"]) for kind in shown(run, mailbox_id)["kinds"]] == [
        ("bulk", 2, 0), ("human", 7, 1),
    ]  # fmt: skip
    assert "human: 7" in run("mailbox", "show", "c1", mailbox_id).stdout


def test_without_consent_no_password_is_asked_for_and_nothing_is_connected(run: Run, server: LabServer) -> None:
    refused = run("mailbox", "add", *place(server), input="Canary\n", code=1)
    assert (
        "nobody consented" in refused.stderr and "consent-text" in refused.stderr and "Password" not in refused.stderr
    )
    old = run("mailbox", "add", *place(server, consent_by="Li", consent_text="1"), "PASSWORD", code=1)
    assert "consent text 1 is not the current one" in old.stderr
    named = run("mailbox", "add", *place(server, consent_by="li@mail.test"), "PASSWORD", code=1)
    assert "not an address" in named.stderr
    assert server.wire == [] and json.loads(run("mailbox", "list", "--json").stdout) == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_text_can_be_read_and_the_record_names_it(run: Run, server: LabServer, language: str) -> None:
    text = run("mailbox", "consent-text", "--lang", language).stdout
    data = json.loads(run("mailbox", "consent-text", "--json").stdout)
    assert text.strip() == data["texts"][language] and data["version"] == consent.load().current.version
    assert "there is no consent text 99" in run("mailbox", "consent-text", "--version", "99", code=1).stderr
    mailbox_id = added(run, server, lang=language)["mailbox_id"]
    (record,) = json.loads(run("mailbox", "history", "c1", mailbox_id, "--json").stdout)["consents"]
    assert (record["consented_by"], record["text_version"], record["language"]) == (
        "Wang Li",
        data["version"],
        language,
    )
    assert record["withdrawn_at"] is None
    assert "Wang Li" in run("mailbox", "history", "c1", mailbox_id, "--lang", language).stdout


def test_a_failed_test_leaves_an_attempt_without_a_password_that_the_next_add_continues(
    run: Run, server: LabServer, dsn: str
) -> None:
    failed = json.loads(
        run("mailbox", "add", *place(server, consent_by="Li"), "--json", input="Wrong-canary\n", code=1).stdout
    )
    assert failed["state"] == "pending_test"
    attempt = shown(run, failed["mailbox_id"])
    assert (attempt["state"], attempt["state_reason"], attempt["numbers"]) == ("pending_test", "login-refused", None)
    with connect(dsn, "tests") as connection:
        assert connection.execute("SELECT count(*) FROM registry.secrets").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM registry.coverage").fetchone() == (0,)
    passed = added(run, server)
    assert passed["mailbox_id"] == failed["mailbox_id"] and passed["state"] == "active"
    history = json.loads(run("mailbox", "history", "c1", passed["mailbox_id"], "--json").stdout)["history"]
    assert [(change["from_state"], change["to_state"], change["reason"]) for change in history] == [
        (None, "pending_test", "connecting"),
        ("pending_test", "pending_test", "login-refused"),
        ("pending_test", "pending_test", "connecting"),
        ("pending_test", "active", "connected"),
    ]  # fmt: skip
    assert {change["changed_by"] for change in history} == {"Li", "Wang Li"}
    assert "邮箱" in run("mailbox", "history", "c1", passed["mailbox_id"], "--lang", "zh").stdout


def test_an_unsupported_provider_is_refused_with_its_reason(registry: Registry) -> None:
    unsupported = next(each for each in catalog.load().providers if each.support == "unsupported")
    request = ConnectRequest("c1", "main", "x@mail.test", "", "Li", host="imap.mail.test")
    refused = report.unsupported(unsupported)
    error = refuse_mailbox(registry, request, refused)
    (mailbox,) = registry.mailboxes.summaries("c1")
    assert (error.mailbox_id, error.state, error.code) == (mailbox["mailbox_id"], "refused", "provider-unsupported")
    assert "no IMAP" in str(error)
    assert (mailbox["state"], mailbox["state_reason"]) == ("refused", "provider-unsupported")
    assert "no IMAP" in texts.state_reason(mailbox["state_reason"], "en")
    with pytest.raises(RegistryError, match="nobody consented"):
        refuse_mailbox(registry, replace(request, consent_by=""), refused)
    # The account connects another mailbox in its place.
    assert connected(registry, "c1", mailbox_id="another") == mailbox["mailbox_id"]


@pytest.mark.parametrize("language", texts.LANGUAGES)
@pytest.mark.parametrize("verb", ["add", "add without consent", "test", "reconnect"])
def test_an_unsupported_provider_is_reported_in_both_languages_and_as_json(
    run: Run, server: LabServer, verb: str, language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason and what to do are printed before a password is asked for."""
    provider = next(each for each in catalog.load().providers if each.support == "unsupported")
    answer = LookupAnswer("closed.example", "domain", provider, (), "closed.example", True)
    monkeypatch.setattr("services.cli.registry.mailbox.server.look_up_domain", lambda *_, **__: (answer, []))
    address = ("--address", "x@closed.example")
    words: list[object] = ["mailbox", "test", "c1", *address]
    if verb.startswith("add"):
        words = ["mailbox", "add", "--company", "c1", "--account", "main", *address]
        words += ["--consent-by", "Li"] if verb == "add" else []
    if verb == "reconnect":
        words = ["mailbox", "reconnect", "c1", added(run, server)["mailbox_id"], *address]
    sentences = texts.load()["code"]["provider-unsupported"][language]
    server.wire.clear()
    refused = run(*words, "--lang", language, code=1)
    for sentence in (
        sentences["says"],
        sentences["next"],
        provider.reason.text(language),
        provider.advice.text(language),
    ):
        assert sentence in refused.stdout
    other_language = {"en": "zh", "zh": "en"}[language]
    assert texts.load()["code"]["provider-unsupported"][other_language]["says"] not in refused.stdout + refused.stderr
    assert "Password" not in refused.stderr and server.wire == []
    data = json.loads(run(*words, "--lang", language, "--json", code=1).stdout)
    test = data if verb == "test" else data["test"]
    assert (test["code"], test["provider"], test["host"]) == ("provider-unsupported", provider.id, None)
    for part, text in (
        ("next", sentences["next"]),
        ("reason", provider.reason.text(language)),
        ("advice", provider.advice.text(language)),
    ):
        assert test[part][language] == text
    rows = [each for each in json.loads(run("mailbox", "list", "c1", "--json").stdout) if each["state"] != "active"]
    if verb == "add":
        (mailbox,) = rows
        assert (
            (data["mailbox_id"], data["state"])
            == (mailbox["mailbox_id"], "refused")
            == (mailbox["mailbox_id"], mailbox["state"])
        )
        assert sentences["says"] in run("mailbox", "show", "c1", mailbox["mailbox_id"], "--lang", language).stdout
    else:
        assert rows == []


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_a_refused_mailbox_is_reported_in_one_language(run: Run, server: LabServer, language: Language) -> None:
    """On standard error too, where the sentence ends the command."""
    done = run("mailbox", "add", *place(server, consent_by="Li", lang=language), input="Wrong\n", code=1)
    says = {language: texts.load()["code"]["login-refused"][language]["says"] for language in texts.LANGUAGES}
    last = done.stderr.strip().splitlines()[-1]
    assert says.pop(language) in last and all(text not in done.stdout + done.stderr for text in says.values())


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_start_of_complete_numbers_is_printed(run: Run, serve: Serve, server: LabServer, language: str) -> None:  # noqa: F811
    printed = run("mailbox", "add", *place(server, consent_by="Li"), "PASSWORD", "--lang", language).stdout
    (mailbox,) = json.loads(run("mailbox", "list", "c1", "--json").stdout)
    numbers = shown(run, mailbox["mailbox_id"])["numbers"]
    assert numbers["first_day"] in printed and numbers["rule_set"] == "default"
    begins = datetime.fromisoformat(mailbox["expected_from"])
    assert abs(begins - (datetime.now(UTC) - timedelta(days=60))) < timedelta(minutes=5)
    assert 0 <= (datetime.fromisoformat(numbers["first_day"]).date() - begins.date()).days <= 1
    assert numbers["first_day"] in run("mailbox", "show", "c1", mailbox["mailbox_id"], "--lang", language).stdout


def test_a_changed_address_must_be_connected_again_and_reading_continues(run: Run, server: LabServer, dsn: str) -> None:
    run("account", "change-address", "c1", "main", server.user)
    mailbox_id = added(run, server)["mailbox_id"]
    printed = run("account", "change-address", "c1", "main", "new@mail.test").stderr
    assert f"mailbox reconnect c1 {mailbox_id}" in printed
    mailbox = shown(run, mailbox_id)
    assert (mailbox["state"], mailbox["state_reason"]) == ("needs_reconnect", "address-changed")
    port = ("--port", server.port)
    again = run("mailbox", "reconnect", "c1", mailbox_id, "PASSWORD", *port, code=1)
    assert "n***@mail.test" in again.stderr and "--address" in again.stderr
    with connect(dsn, "tests") as connection:
        connection.execute(
            "INSERT INTO registry.folders (company_id, mailbox_id, folder, uidvalidity) VALUES ('c1', %s, 'Sent', 1)",
            (mailbox_id,),
        )
        move = ("mailbox", "reconnect", "c1", mailbox_id, "--address", "new@mail.test", "--user", server.user)
        wires = len(server.wire)
        # The password of another provider is not sent to the previous server unless a person confirms it.
        assert "mail.test" in run(*move, "PASSWORD", code=1).stderr and len(server.wire) == wires
        done = run(*move, "PASSWORD", "--host", "localhost", *port, "--json")
        assert json.loads(done.stdout)["read_anew"] is False, "the same login"
        assert connection.execute("SELECT count(*) FROM registry.folders").fetchone() == (1,)
    mailbox = shown(run, mailbox_id)
    assert (mailbox["state"], mailbox["address_masked"], mailbox["state_reason"]) == ("active", "n***@mail.test", None)


def test_another_server_or_user_needs_the_password_and_consent_and_is_read_from_the_start(
    run: Run, server: LabServer, dsn: str
) -> None:
    mailbox_id = added(run, server)["mailbox_id"]
    another_login = ("mailbox", "reconnect", "c1", mailbox_id, "--host", "127.0.0.1", "--port", server.port)
    wrong = run(*another_login, "--consent-by", "Li", input="Wrong\n", code=1)
    assert "login-refused" in wrong.stdout
    assert (shown(run, mailbox_id)["host"], shown(run, mailbox_id)["state"]) == ("localhost", "active")
    refused = run(*another_login, "PASSWORD", code=1)
    assert "nobody consented" in refused.stderr
    with connect(dsn, "tests") as connection:
        connection.execute(
            "INSERT INTO registry.folders (company_id, mailbox_id, folder, uidvalidity) VALUES ('c1', %s, 'Sent', 1)",
            (mailbox_id,),
        )
        done = json.loads(run(*another_login, "PASSWORD", "--consent-by", "Zhao", "--json").stdout)
        assert done["read_anew"] is True
        assert connection.execute("SELECT count(*) FROM registry.folders").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM registry.coverage").fetchone() == (2,)
    consents = json.loads(run("mailbox", "history", "c1", mailbox_id, "--json").stdout)["consents"]
    assert [given["consented_by"] for given in consents] == ["Wang Li", "Zhao"]
    empty = run("mailbox", "reconnect", "c1", mailbox_id, input="\n\n", code=1)
    assert "password" in empty.stderr.lower() or "Aborted" in empty.stderr


def test_a_sub_account_s_registered_address_is_changed_by_the_main_account(run: Run) -> None:
    run("account", "add", "c1", "sub", "--sub", "--address", "sub@mail.test")
    change = ("account", "change-address", "c1", "sub", "other@mail.test")
    assert "changed by the main account" in run(*change, code=1).stderr
    assert "changed by the main account" in run(*change, "--by", "sub", code=1).stderr
    run(*change, "--by", "main")
    run(*change, "--role", "backup")
    assert (
        "is a sub-account" in run("account", "change-address", "c1", "main", "x@y.test", "--by", "sub", code=1).stderr
    )
    assert "no account nobody" in run(*change, "--by", "nobody", code=1).stderr
    remove = ("account", "remove-address", "c1", "sub")
    assert "changed by the main account; name the main account: --by ACCOUNT" in run(*remove, code=1).stderr
    assert "The registered address of account sub is forgotten." in run(*remove, "--by", "main").stderr
    assert "account sub has no registered address; nothing changed" in run(*remove, "--by", "main", code=1).stderr


def test_an_account_that_the_platform_syncs_needs_no_mailbox(run: Run, server: LabServer, dsn: str) -> None:
    mailbox_id = added(run, server)["mailbox_id"]
    printed = run("account", "platform-sync", "c1", "main", "--on").stderr
    assert f"Mailbox {mailbox_id} is no longer read" in printed
    mailbox = shown(run, mailbox_id)
    assert mailbox["state"] == "synced_by_platform"
    with connect(dsn, "tests") as connection:
        assert connection.execute("SELECT count(*) FROM registry.secrets").fetchone() == (0,)
        assert Leases(connection, Vault(bytes(32))).lease("f", 60) is None
    wires = len(server.wire)
    refused = run("mailbox", "add", *place(server, consent_by="Li"), "PASSWORD", code=1)
    assert "answers through the platform's own mail" in refused.stderr and len(server.wire) == wires
    again = run("mailbox", "reconnect", "c1", mailbox_id, "PASSWORD", code=1)
    assert "answers through the platform's own mail" in again.stderr
    assert "already" in run("account", "platform-sync", "c1", "main", "--on", code=1).stderr
    back = run("account", "platform-sync", "c1", "main", "--off").stderr
    assert f"mailbox reconnect c1 {mailbox_id}" in back
    assert shown(run, mailbox_id)["state_reason"] == "platform-sync-ended"
    run("mailbox", "reconnect", "c1", mailbox_id, "PASSWORD", "--port", server.port)
    assert shown(run, mailbox_id)["state"] == "active"


def test_one_mailbox_in_two_companies_only_when_the_operator_links_them(run: Run, server: LabServer, dsn: str) -> None:
    first = added(run, server)["mailbox_id"]
    refused = run("mailbox", "add", *place(server, "c2", consent_by="Li"), "PASSWORD", code=1)
    seller, log = refused.stderr.split("\n", 1)[0], refused.stderr
    assert "connected by another company" in log and "login-taken" in log
    assert "c1" not in "".join(line for line in log.splitlines() if not line.startswith("{")), seller
    with connect(dsn, "tests") as connection:
        asked = connection.execute("SELECT code FROM registry.connection_tests WHERE company_id = 'c2'").fetchall()
    assert asked == [("login-taken",)], "who asks is counted"
    run("mailbox", "link", "c1", first, "c2", "--by", "Operations, ticket 17")
    second = json.loads(run("mailbox", "add", *place(server, "c2", consent_by="Li"), "PASSWORD", "--json").stdout)[
        "mailbox_id"
    ]
    with connect(dsn, "tests") as connection:
        leases = Leases(connection, Vault(bytes(32)))
        companies = {
            leased.company_id for leased in (leases.lease("f", 60), leases.lease("f", 60)) if leased is not None
        }
    assert companies == {"c1", "c2"}, "each reads it"
    (link,) = shown(run, first)["links"]
    assert (link["company_id"], link["mailbox_id"], link["linked_by"]) == ("c2", second, "Operations, ticket 17")
    assert f"mailbox remove c2 {second}" in run("mailbox", "unlink", "c1", first, "c2", code=1).stderr
    run("mailbox", "remove", "c2", second)
    assert shown(run, first)["links"] == []
    run("mailbox", "link", "c1", first, "c2", "--by", "Operations")
    run("mailbox", "unlink", "c1", first, "c2")
    assert shown(run, first)["links"] == []
    assert shown(run, first)["state"] == "active"
    assert "linked" in run("mailbox", "link", "c1", first, "c1", "--by", "x", code=1).stderr


def test_another_port_is_another_server_except_143_and_993(registry: Registry) -> None:
    login = Login("a@mail.test", "mail.example.com", 993, "a@mail.test", "secret")
    begins = datetime.now(UTC) - timedelta(days=60)

    def connect_as(mailbox_id: str, company_id: str, chosen: Login) -> None:
        consent_given = GivenConsent("Li", "2", "en")
        attempt = ConnectionAttempt(company_id, "main", mailbox_id, "registered", chosen, consent_given)
        registry.connection_attempts.connect(company_id, registry.connection_attempts.begin(attempt), chosen, begins)

    connect_as("m1", "c1", login)
    for company_id in ("c1", "c2"):
        with pytest.raises(RegistryError, match="connected"):
            registry.logins.check_available(company_id, replace(login, port=143, tls="starttls"))
    assert registry.logins.is_same("c1", "m1", replace(login, port=143, tls="starttls"))
    second = replace(login, port=1993)
    assert not registry.logins.is_same("c1", "m1", second)
    connect_as("m2", "c2", second)
    with pytest.raises(RegistryError, match="connected"):
        registry.logins.check_available("c1", second)
    # A mailbox that was connected before the port belonged to the hash.
    registry.connection.execute(
        "UPDATE registry.mailboxes SET login_hash = %s WHERE mailbox_id = 'm1'",
        (Hasher(bytes(32)).mailbox("other.example", "u"),),
    )
    registry.connection.execute(
        "UPDATE registry.mailboxes SET login_hash = %s WHERE mailbox_id = 'm2'",
        (Hasher(bytes(32)).mailbox(login.host, login.user),),
    )
    assert registry.logins.is_same("c2", "m2", second) and not registry.logins.is_same(
        "c2", "m2", replace(login, port=2993)
    )
    with pytest.raises(RegistryError, match="connected"):
        registry.logins.check_available("c1", second)
    registry.logins.check_available("c1", replace(login, port=2993))


def test_withdrawal_deletes_what_identifies_the_owner_and_lists_what_remains(
    run: Run, server: LabServer, dsn: str
) -> None:
    mailbox_id = added(run, server)["mailbox_id"]
    with connect(dsn, "tests") as connection:
        leases = Leases(connection, Vault(bytes(32)))
        leased = leases.lease("fetcher", 300)
        assert leased is not None
        printed = run("mailbox", "remove", "c1", mailbox_id, "--by", "Wang Li", "--lang", "zh").stdout
        assert all(sentence in printed for sentence in consent.load().remains["zh"])
        with pytest.raises(LeaseLost):
            leases.set_sent_folders(leased, [b"Sent"])
        columns = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'registry'"
            " AND column_name ~ 'sealed|masked|hash|override|folder$'"
        ).fetchall()
        assert len(columns) >= 8
        remaining = connection.execute(
            "SELECT to_jsonb(m) FROM registry.mailboxes m WHERE mailbox_id = %s", (mailbox_id,)
        ).fetchone()
        assert remaining is not None
        for table, column in columns:
            if table == "mailboxes":
                assert remaining[0][column] in (None, ""), column
            elif table not in ("connection_tests", "message_counts", "addresses"):
                count = connection.execute(f"SELECT count(*) FROM registry.{table}".encode()).fetchone()
                assert count == (0,), table
    history = json.loads(run("mailbox", "history", "c1", mailbox_id, "--json").stdout)
    assert history["history"][-1]["to_state"] == "removed" and history["history"][-1]["changed_by"] == "Wang Li"
    assert history["consents"][0]["withdrawn_by"] == "Wang Li"
    assert "removed before" in run("mailbox", "remove", "c1", mailbox_id, code=1).stderr
    # It may be connected again, as another mailbox and with another consent.
    assert added(run, server)["mailbox_id"] != mailbox_id


def test_a_window_of_the_provider_bounds_what_is_promised(command: Run, serve: Serve, tmp_path: Path) -> None:  # noqa: F811
    server = serve(QQ)
    fill(server, [now() - timedelta(days=3), now() - timedelta(hours=2)])
    (tmp_path / "password").write_text(server.secret, "utf-8")
    command(server, "company", "add", "c1")
    command(server, "account", "add", "c1", "main")
    done = command(
        server, "mailbox", "add", *place(server, consent_by="Li"), "--password-file", tmp_path / "password", "--json"
    )  # fmt: skip
    data = json.loads(done.stdout)
    begins = datetime.fromisoformat(data["complete_from"])
    assert abs(begins - (datetime.now(UTC) - timedelta(days=30))) < timedelta(minutes=5), "QQ shows 30 days"
    assert data["numbers"]["visible_on"] >= data["numbers"]["first_day"]


def test_the_database_has_the_moves_of_the_table_and_refuses_others(registry: Registry) -> None:
    connection = registry.connection
    rows = connection.execute("SELECT from_state, to_state FROM registry.mailbox_moves").fetchall()
    assert set(rows) == states.load().pairs
    connected(registry, "c1")
    with pytest.raises(psycopg.errors.CheckViolation, match="active cannot become pending_test"):
        connection.execute("UPDATE registry.mailboxes SET state = 'pending_test'")
    for state in sorted(set(STATES) - {to for frm, to in states.load().pairs if frm == "active"}):
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("UPDATE registry.mailboxes SET state = %s", (state,))


DEEDS = (
    "attempt", "fail", "refuse", "connect", "pause", "resume", "reconnect", "withdraw", "sync", "unsync", "address", "fetch",
)  # fmt: skip


@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deeds=st.lists(st.sampled_from(DEEDS), max_size=14))
def test_the_history_of_any_actions_follows_the_table_of_states(registry: Registry, deeds: list[str]) -> None:
    """Each action happens or is refused with a sentence; secrets exist exactly where a login is permitted."""
    connection = registry.connection
    connection.execute("DELETE FROM registry.mailboxes")
    connection.execute("DELETE FROM registry.coverage")
    connection.execute("UPDATE registry.accounts SET synced_by_platform_from = NULL")
    login = Login("a@mail.test", "imap.mail.test", 993, "a@mail.test", "secret")
    begins = datetime.now(UTC) - timedelta(days=60)
    newest = "none"

    def do(deed: str) -> None:
        nonlocal newest
        match deed:
            case "attempt":
                registry.accounts.check_needs_mailbox("c1", "main")
                registry.logins.check_available("c1", login)
                attempt = ConnectionAttempt(
                    "c1", "main", f"m{len(ids())}", "registered", login, GivenConsent("Li", "2", "en")
                )
                newest = registry.connection_attempts.begin(attempt)
            case "fail":
                registry.connection_attempts.fail("c1", newest, login, "login-refused")
            case "refuse":
                registry.connection_attempts.fail("c1", newest, login, "oauth2-needed")
            case "connect":
                registry.connection_attempts.connect("c1", newest, login, begins)
            case "pause":
                registry.mailboxes.pause("c1", newest)
            case "resume":
                registry.mailboxes.resume("c1", newest)
            case "reconnect":
                registry.connection_attempts.check_reconnect("c1", newest, login)
                registry.connection_attempts.reconnect("c1", newest, login, begins, consent=None, by="Li")
            case "withdraw":
                registry.mailboxes.remove("c1", newest)
            case "sync":
                registry.accounts.start_platform_sync("c1", "main", begins)
            case "unsync":
                registry.accounts.end_platform_sync("c1", "main")
            case "address":
                registry.addresses.set("c1", "main", "registered", f"n{len(ids())}@mail.test")
            case "fetch":
                leases = Leases(connection, Vault(bytes(32)))
                leased = leases.lease("f", 60)
                if leased is not None:
                    to = states.load().events["login-given-up"].to
                    leases.fail_poll(leased, reason="login-refused", next_seconds=1, counts=True, state=to)

    def ids() -> list[str]:
        return [mailbox["mailbox_id"] for mailbox in registry.mailboxes.summaries("c1")]

    for deed in deeds:
        with suppress(RegistryError):
            do(deed)
    for mailbox_id in ids():
        details = registry.mailboxes.details("c1", mailbox_id)
        walk = details["history"]
        assert walk[0]["from_state"] is None and walk[-1]["to_state"] == details["state"]
        for before, after in pairwise(walk):
            assert after["from_state"] == before["to_state"]
            assert (after["from_state"], after["to_state"]) in states.load().pairs
        secret = connection.execute(
            "SELECT count(*) FROM registry.secrets WHERE mailbox_id = %s", (mailbox_id,)
        ).fetchone()
        assert secret == (int(details["state"] in ("active", "paused", "needs_reconnect") and _has_secret(walk)),), walk


def _has_secret(walk: list[dict[str, Any]]) -> bool:
    """Whether credentials came after the platform took the last ones away."""
    for move in reversed(walk):
        if move["to_state"] == "synced_by_platform":
            return False
        if move["to_state"] == "active":
            return True
    return False


def test_every_event_can_be_reached_from_the_beginning() -> None:
    reached = {NEW}
    for _ in STATES:
        reached |= {event.to for event in states.load().events.values() if reached & set(event.froms)}
    assert reached == {NEW, *STATES}


def test_only_the_mailbox_of_the_old_address_is_affected(registry: Registry) -> None:
    registry.addresses.set("c1", "main", "registered", "old@mail.test")
    connected(registry, "c1", mailbox_id="m1", address="old@mail.test")
    connected(registry, "c1", mailbox_id="m2", address="alias@mail.test")
    assert registry.addresses.set("c1", "main", "registered", "old@mail.test") == []
    assert registry.addresses.set("c1", "main", "registered", "new@mail.test") == ["m1"]
    assert [mailbox["state"] for mailbox in registry.mailboxes.summaries("c1")] == ["needs_reconnect", "active"]


def test_the_first_known_address_affects_connected_mailboxes_of_other_addresses(registry: Registry) -> None:
    """Whatever their state; attempts, another role and removed mailboxes are left alone."""
    connection = registry.connection
    for mailbox_id, role, address in (
        ("active", "registered", "old@mail.test"), ("same", "registered", "New@Mail.test"), ("backup", "backup", "old@mail.test"),
        ("failing", "registered", "f@mail.test"), ("given-up", "registered", "g@mail.test"), ("paused", "registered", "p@mail.test"),
        ("removed", "registered", "r@mail.test"),
    ):  # fmt: skip
        connected(registry, "c1", mailbox_id=mailbox_id, role=role, address=address, host=f"{mailbox_id}.mail.test")
    connected(registry, "c2", mailbox_id="other", address="old@mail.test", host="elsewhere.mail.test")
    registry.mailboxes.pause("c1", "paused")
    registry.mailboxes.remove("c1", "removed")
    connection.execute("UPDATE registry.mailboxes SET failures = 2, state_reason = 'x' WHERE mailbox_id = 'failing'")
    connection.execute(
        "UPDATE registry.mailboxes SET state = 'needs_reconnect', state_reason = 'x' WHERE mailbox_id = 'given-up'"
    )
    login = Login("a@mail.test", "attempt.mail.test", 993, "a@mail.test", "secret")
    registry.connection_attempts.begin(
        ConnectionAttempt("c1", "main", "attempt", "registered", login, GivenConsent("Li", "2", "en"))
    )
    before = {
        mailbox["mailbox_id"]: (mailbox["state"], mailbox["state_reason"]) for mailbox in registry.mailboxes.summaries()
    }
    moved = {"active", "failing", "given-up", "paused"}
    assert set(registry.addresses.change("c1", "main", "registered", "new@mail.test")) == moved
    after = {
        mailbox["mailbox_id"]: (mailbox["state"], mailbox["state_reason"]) for mailbox in registry.mailboxes.summaries()
    }
    assert after == before | dict.fromkeys(moved, ("needs_reconnect", "address-changed"))
    last = registry.mailboxes.details("c1", "failing")["history"][-1]
    assert (last["from_state"], last["reason"], last["changed_by"]) == ("active", "address-changed", "account main")
    assert registry.addresses.change("c1", "main", "registered", "new@mail.test") == []
    assert registry.addresses.change("c1", "main", "backup", "old@mail.test") == []
    assert registry.mailboxes.details("c1", "backup")["state"] == "active"


def test_the_first_known_change_of_address_invalidates_a_mailbox(run: Run, server: LabServer) -> None:
    """On the command line: no address of the account was known before, not even from `account add`."""
    mailbox_id = added(run, server)["mailbox_id"]
    assert "No connected mailbox is affected." in run("account", "change-address", "c1", "main", server.user).stderr
    assert shown(run, mailbox_id)["state"] == "active"
    linked_mailbox = json.loads(
        run("mailbox", "add", *place(server, "c2", host="127.0.0.1", consent_by="Li"), "PASSWORD", "--json").stdout
    )
    printed = run("account", "change-address", "c2", "main", "new@mail.test").stderr
    assert f"mailbox reconnect c2 {linked_mailbox['mailbox_id']}" in printed
    mailbox = shown(run, linked_mailbox["mailbox_id"], "c2")
    assert (mailbox["state"], mailbox["state_reason"]) == ("needs_reconnect", "address-changed")
    again = run("mailbox", "reconnect", "c2", linked_mailbox["mailbox_id"], "PASSWORD", "--port", server.port, code=1)
    assert "n***@mail.test" in again.stderr


def test_adding_an_account_again_changes_no_address(run: Run, server: LabServer) -> None:
    run("account", "add", "c1", "sub", "--sub", "--address", "sub@mail.test")
    run("account", "add", "c1", "sub", "--sub", "--address", "sub@mail.test", "--backup-address", "b@mail.test")
    mailbox_id = added(run, server)["mailbox_id"]
    assert "reconnect" not in run("account", "add", "c1", "main", "--address", server.user).stderr
    run("account", "add", "c1", "main", "--backup-address", "b@mail.test")
    assert shown(run, mailbox_id)["state"] == "active"
    refused = run("account", "add", "c1", "sub", "--sub", "--address", "other@mail.test", code=1).stderr
    assert "account change-address c1 sub" in refused
    second_mailbox = json.loads(
        run("mailbox", "add", *place(server, "c2", host="127.0.0.1", consent_by="Li"), "PASSWORD", "--json").stdout
    )
    printed = run("account", "add", "c2", "main", "--address", "first@mail.test").stderr
    assert f"mailbox reconnect c2 {second_mailbox['mailbox_id']}" in printed, "the first known address is another one"
    # A refused command has changed nothing: nobody would learn about the mailbox that it stopped.
    third = ("account", "add", "c1", "third", "--sub")
    run(*third, "--backup-address", "b@mail.test")
    refused_third = run(*third, "--address", "new@mail.test", "--backup-address", "c@mail.test", code=1)
    assert "--role backup" in refused_third.stderr
    run(*third, "--address", "another@mail.test")
    later = ("account", "add", "c1", "later", "--synced-by-platform", "--since", "2999-01-01")
    assert "is in the future" in run(*later, code=2).stderr


def test_a_user_name_that_is_not_the_address_does_not_change_with_it(run: Run, server: LabServer) -> None:
    run("account", "change-address", "c1", "main", "first@mail.test")
    options = ("--company", "c1", "--account", "main", "--address", "first@mail.test", "--user", server.user)
    place = ("--host", "localhost", "--port", server.port)
    run("mailbox", "add", *options, *place, "--consent-by", "Li", "PASSWORD")
    (mailbox,) = json.loads(run("mailbox", "list", "c1", "--json").stdout)
    run("account", "change-address", "c1", "main", "second@mail.test")
    again = ("mailbox", "reconnect", "c1", mailbox["mailbox_id"], "--address", "second@mail.test", "PASSWORD", *place)
    assert "--user NAME" in run(*again, code=1).stderr
    run(*again, "--user", server.user)


def test_no_password_is_asked_for_a_mailbox_that_cannot_be_reconnected(run: Run, server: LabServer) -> None:
    mailbox_id = added(run, server)["mailbox_id"]
    run("mailbox", "pause", "c1", mailbox_id, "--by", "Zhao")
    printed = run("mailbox", "rescan", "c1", mailbox_id).stderr
    assert "once it is active; its state is paused" in printed
    history = json.loads(run("mailbox", "history", "c1", mailbox_id, "--json").stdout)["history"]
    assert history[-1]["changed_by"] == "Zhao"
    run("mailbox", "remove", "c1", mailbox_id)
    refused = run("mailbox", "reconnect", "c1", mailbox_id, input="Canary\n", code=1)
    assert "removed" in refused.stderr and "Password" not in refused.stderr
