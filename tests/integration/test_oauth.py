# ruff: noqa: F811
"""Mailboxes that sign in: tokens renewed, rotated, refused and ended, against a scripted endpoint and mail servers of the lab."""

import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from services.cli.__main__ import main
from services.common.errors import TransientError
from services.common.postgres import connect
from services.common.settings import KafkaSettings
from services.common.topics import DEAD, SENT
from services.connect.onboarding import ConnectedMailbox, MailboxRefused, reconnect_mailbox
from services.connect.requests import LoginChanges, changed_login
from services.connect.tester import ConnectionTester
from services.imap.errors import SignInNotConfigured
from services.imap.host_policy import resolve
from services.registry.leases import LeaseLost, Leases
from services.registry.rotation import Rotation
from services.registry.tokens import RegistryTokenStore
from services.registry.vault import Vault
from services.signin.access_tokens import AccessTokens
from services.signin.clients import client_for
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.profiles import GMAIL, OUTLOOK, SINA, Profile
from tests.imap_lab.server import LabServer
from tests.imap_lab.world import fill
from tests.support.builders import now
from tests.support.provider_lab import HASHER, SMALL, Lab, Serve, serve, topics  # noqa: F401
from tests.support.signed_in_lab import KEY, SignedIn
from tests.support.token_endpoint import TokenEndpoint
from tests.support.topics import read_all
from tests.support.wire import allowed

CANARY = "canary"


@pytest.fixture
def endpoint(ca: CertificateAuthority) -> Iterator[TokenEndpoint]:
    with TokenEndpoint(ca) as opened:
        yield opened


@pytest.fixture
def lab(dsn: str, topics: KafkaSettings, tmp_path: Path, ca: CertificateAuthority, endpoint: TokenEndpoint) -> SignedIn:
    return SignedIn(dsn, topics, tmp_path, ca).use(endpoint)


def outlook(serve: Serve) -> LabServer:
    server = serve(OUTLOOK)
    fill(server, [now() - timedelta(days=20), now() - timedelta(hours=3)])
    return server


@pytest.mark.parametrize(
    ("profile", "mechanism"), [(OUTLOOK, b"XOAUTH2"), (GMAIL, b"OAUTHBEARER")], ids=["outlook", "gmail"]
)
def test_a_mailbox_signs_in_and_is_read(
    lab: SignedIn, serve: Serve, endpoint: TokenEndpoint, profile: Profile, mechanism: bytes
) -> None:  # fmt: skip
    server = serve(profile)
    fill(server, [now() - timedelta(days=20), now() - timedelta(hours=3)])
    connected = lab.connect(server)
    shown = lab.poll(connected, server)
    assert (shown["state"], shown["state_reason"], shown["complete_through"] is not None) == ("active", None, True)
    assert [sent.command for sent in server.wire if sent.name in (b"AUTHENTICATE", b"LOGIN")] == [
        b"AUTHENTICATE " + mechanism
    ]
    assert all(allowed(sent.command) for sent in server.wire)
    assert endpoint.asked == [
        {
            "grant_type": "refresh_token", "refresh_token": "Refresh-canary-0", "client_id": "our-client",
            "client_secret": "Client-canary", "scope": "https://outlook.office.com/IMAP.AccessAsUser.All offline_access",
        }
    ]  # fmt: skip
    assert lab.published(connected)


def test_an_access_token_is_used_until_shortly_before_it_expires(
    lab: SignedIn, serve: Serve, endpoint: TokenEndpoint
) -> None:
    server = outlook(serve)
    connected = lab.connect(server)
    for seconds, asked in ((0, 1), (3600 - 301, 1), (3600 - 299, 2)):
        lab.seconds = seconds
        assert lab.poll(connected, server)["state_reason"] is None
        assert len(endpoint.asked) == asked
    assert server.bearers == ["Access-canary-1", "Access-canary-1", "Access-canary-2"]


def test_a_token_that_is_refused_is_renewed_once(lab: SignedIn, serve: Serve, endpoint: TokenEndpoint) -> None:
    server = outlook(serve)
    connected = lab.connect(server)
    endpoint.given.clear()  # revoked before its time
    assert lab.poll(connected, server)["state_reason"] is None
    assert server.bearers == ["Access-canary-1", "Access-canary-2"]
    assert server.bearer_ends == [b""]  # an empty answer to the explained error
    server.access_tokens = set()
    server.bearers.clear()
    shown = [lab.poll(connected, server) for _ in range(3)]
    assert len(server.bearers) == 6
    assert [(status["state"], status["state_reason"]) for status in shown] == [
        ("active", "oauth2-login-refused"), ("active", "oauth2-login-refused"), ("needs_reconnect", "oauth2-login-refused"),
    ]  # fmt: skip


def test_oauthbearer_ends_a_refusal_as_rfc_7628_demands(lab: SignedIn, serve: Serve, endpoint: TokenEndpoint) -> None:
    server = serve(GMAIL)
    connected = lab.connect(server)
    endpoint.given.clear()
    assert lab.poll(connected, server)["state_reason"] is None
    assert server.bearer_ends == [b"AQ=="]


def test_trouble_of_the_mail_server_is_not_a_refusal(lab: SignedIn, serve: Serve) -> None:
    server = outlook(serve)
    connected = lab.connect(server)
    server.access_tokens, server.bearer_status = set(), b"503"
    shown = [lab.poll(connected, server) for _ in range(4)][-1]
    assert (shown["state"], shown["state_reason"]) == ("active", "throttled")


def test_an_ended_grant_needs_its_owner_at_once(lab: SignedIn, serve: Serve, endpoint: TokenEndpoint) -> None:
    server = outlook(serve)
    connected = lab.connect(server)
    lab.forget()
    endpoint.valid.clear()
    shown = lab.poll(connected, server)
    assert (shown["state"], shown["state_reason"]) == ("needs_reconnect", "oauth2-grant-ended")
    assert shown["history"][-1]["reason"] == "oauth2-grant-ended"
    assert server.bearers == []
    # After another sign-in it continues where it was.
    endpoint.valid.add("Refresh-canary-new")
    with connect(lab._dsn, "tests") as connection:
        registry = lab.registry(connection)
        again = reconnect_mailbox(
            registry, connected.company_id, connected.mailbox_id,
            changed_login(
                registry.logins.without_password(connected.company_id, connected.mailbox_id), LoginChanges("Refresh-canary-new", kind="oauth2")
            ),
            ConnectionTester(lab.settings(server).imap, resolve, "0", tokens=lab.tokens),
        )  # fmt: skip
    assert not again.from_start
    assert lab.poll(connected, server)["state"] == "active"


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (503, {"error": "temporarily_unavailable"}, "oauth2-unavailable"), (500, b"<html>canary", "oauth2-unavailable"),
        (429, b"", "oauth2-unavailable"), (200, b"[]", "oauth2-unavailable"), (200, b"[" * 50_000, "oauth2-unavailable"),
        (200, b" " * 100_000, "oauth2-unavailable"), (200, {"access_token": "a\r\nb"}, "oauth2-unavailable"),
        (200, {"access_token": "a", "token_type": "mac"}, "oauth2-unavailable"), (200, {"access_token": 7}, "oauth2-unavailable"),
        (302, b"", "oauth2-unavailable"), (401, {"error": "invalid_client"}, "oauth2-client-refused"),
        (400, {"error": "invalid_scope"}, "oauth2-client-refused"), (400, {"error": "canary"}, "oauth2-unavailable"),
        (400, {"error": ["canary"]}, "oauth2-unavailable"),
    ],
)  # fmt: skip
def test_trouble_of_the_sign_in_service_is_not_counted_against_the_mailbox(
    lab: SignedIn, serve: Serve, endpoint: TokenEndpoint, status: int, body: Any, reason: str
) -> None:  # fmt: skip
    server = outlook(serve)
    connected = lab.connect(server)
    lab.forget()
    if status == 302:
        endpoint.headers["Location"] = endpoint.url("/elsewhere")
    endpoint.script = [(status, body)] * 4
    shown = [lab.poll(connected, server) for _ in range(4)][-1]
    assert (shown["state"], shown["state_reason"], shown["failures"]) == ("active", reason, 4)
    assert "/elsewhere" not in endpoint.paths
    assert lab.poll(connected, server)["state_reason"] is None


def test_tls_of_the_sign_in_service_is_verified(lab: SignedIn, serve: Serve, endpoint: TokenEndpoint) -> None:
    server = outlook(serve)
    connected = lab.connect(server)
    lab.tokens = AccessTokens(lab.oauth2().model_copy(update={"ca_file": None}))
    asked = len(endpoint.asked)
    assert lab.poll(connected, server)["state_reason"] == "oauth2-unavailable"
    assert len(endpoint.asked) == asked


def test_a_rotated_refresh_token_is_stored_before_it_is_used(
    lab: SignedIn, serve: Serve, endpoint: TokenEndpoint
) -> None:
    server = outlook(serve)
    endpoint.rotates = True
    connected = lab.connect(server)
    assert lab.stored(connected) == "Refresh-canary-1"  # rotated by the connection test
    lab.forget()
    server.access_tokens = set()  # the login fails afterwards
    lab.poll(connected, server)
    assert (lab.stored(connected), endpoint.valid) == ("Refresh-canary-2", {"Refresh-canary-2"})
    server.access_tokens = endpoint.given
    for _ in range(3):
        lab.forget()
        assert lab.poll(connected, server)["state_reason"] is None
    assert endpoint.valid == {lab.stored(connected)}


def test_a_crash_after_the_token_was_stored_loses_nothing(lab: SignedIn, serve: Serve, endpoint: TokenEndpoint) -> None:
    server = outlook(serve)
    connected = lab.connect(server)
    lab.forget()
    endpoint.rotates = True

    def crash(token: str) -> None:
        assert endpoint.valid == {lab.stored(connected)}
        raise KeyboardInterrupt

    with connect(lab._dsn, "tests") as connection:
        leases = Leases(connection, Vault(KEY))
        leased = lab.lease(leases, connected)
        with pytest.raises(KeyboardInterrupt):
            lab.tokens.log_in("localhost", leased.user, leased.password, leases.token_store(leased), crash)
    lab.forget()
    assert lab.poll(connected, server)["state_reason"] is None


def test_a_token_that_arrives_while_postgres_is_away_is_stored_when_it_is_back(
    lab: SignedIn, serve: Serve, endpoint: TokenEndpoint
) -> None:
    server = outlook(serve)
    connected = lab.connect(server)
    lab.forget()
    endpoint.rotates = True
    used: list[str] = []
    with connect(lab._dsn, "tests") as connection:
        leases = Leases(connection, Vault(KEY))
        leased = lab.lease(leases, connected)
        connection.close()
        with pytest.raises(TransientError):
            lab.tokens.log_in("localhost", leased.user, leased.password, leases.token_store(leased), used.append)
        with pytest.raises(TransientError):
            lab.tokens.save(connection)
    assert (used, lab.stored(connected)) == ([], "Refresh-canary-0")
    assert "Refresh-canary-0" not in endpoint.valid
    assert lab.work(connected, server)["state_reason"] is None
    assert endpoint.valid == {lab.stored(connected)}
    # Only once: a token that replaced it since then stays.
    with connect(lab._dsn, "tests") as connection:
        RegistryTokenStore(connection, Vault(KEY), connected.company_id, connected.mailbox_id).replace(
            lab.stored(connected) or "", "Refresh-canary-0"
        )
        lab.tokens.save(connection)
    assert lab.stored(connected) == "Refresh-canary-0"


def test_two_fetchers_and_one_rotated_token(lab: SignedIn, serve: Serve, endpoint: TokenEndpoint) -> None:
    """One froze, the other leased the mailbox with the old token; the new token of the first is stored, the second finds it."""
    server = outlook(serve)
    connected = lab.connect(server)
    endpoint.rotates = True
    with connect(lab._dsn, "first") as first_connection, connect(lab._dsn, "second") as second_connection:
        first, second = Leases(first_connection, Vault(KEY)), Leases(second_connection, Vault(KEY))
        frozen = lab.lease(first, connected)
        taken = lab.lease(second, connected)
        assert frozen.password == taken.password == "Refresh-canary-0"
        used: list[str] = []
        with pytest.raises(LeaseLost):
            AccessTokens(lab.oauth2()).log_in(
                "localhost", frozen.user, frozen.password, first.token_store(frozen), used.append
            )
        assert used == []  # a fetcher without the lease does not log in
        assert endpoint.valid == {lab.stored(connected)}
        AccessTokens(lab.oauth2()).log_in(
            "localhost", taken.user, taken.password, second.token_store(taken), used.append
        )
        assert len(used) == 1
        assert endpoint.valid == {lab.stored(connected)}


def test_a_reconnection_takes_precedence_over_a_rotation(lab: SignedIn, serve: Serve, endpoint: TokenEndpoint) -> None:
    server = outlook(serve)
    connected = lab.connect(server)
    with connect(lab._dsn, "tests") as connection:
        leases = Leases(connection, Vault(KEY))
        leased = lab.lease(leases, connected)
        endpoint.valid.add("Refresh-canary-new")
        registry = lab.registry(connection)
        reconnect_mailbox(
            registry, connected.company_id, connected.mailbox_id,
            changed_login(
                registry.logins.without_password(connected.company_id, connected.mailbox_id), LoginChanges("Refresh-canary-new", kind="oauth2")
            ),
            ConnectionTester(lab.settings(server).imap, resolve, "0", tokens=lab.tokens),
        )  # fmt: skip
        with pytest.raises(LeaseLost):
            leases.token_store(leased).replace("Refresh-canary-0", "Refresh-canary-late")
    assert lab.stored(connected) == "Refresh-canary-new"


def test_a_rotation_of_the_vault_key_seals_refresh_tokens_again(
    lab: SignedIn, serve: Serve, endpoint: TokenEndpoint
) -> None:
    server = outlook(serve)
    connected = lab.connect(server)
    new = bytes(reversed(KEY))
    with connect(lab._dsn, "tests") as connection:
        leases = Leases(connection, Vault(KEY))
        leased = lab.lease(leases, connected)
        for place in ("rotated", "current"):
            states = {
                sealed.what: sealed.state
                for sealed in Rotation(connection, Vault(new, KEY)).rotate()
                if sealed.company_id == connected.company_id
            }
            assert states == {connected.mailbox_id: place}
        assert lab.stored(connected, new) == "Refresh-canary-0"
        # A poll that started before may still store its token: it is the same secret under another key.
        store = RegistryTokenStore(
            connection, Vault(new, KEY), connected.company_id, connected.mailbox_id, epoch=leased.epoch, lost=LeaseLost
        )
        store.replace("Refresh-canary-0", "Refresh-canary-1")
        assert lab.stored(connected, new) == "Refresh-canary-1"
        list(
            Rotation(connection, Vault(KEY, new)).rotate()
        )  # the mailboxes of other tests are sealed with the earlier key


def test_a_refresh_token_is_never_opened_as_a_password(lab: SignedIn, serve: Serve, endpoint: TokenEndpoint) -> None:
    server = outlook(serve)
    connected = lab.connect(server)
    with connect(lab._dsn, "tests") as connection:
        connection.execute(
            "UPDATE registry.secrets SET kind = 'password' WHERE company_id = %s", (connected.company_id,)
        )
        connection.execute(
            "UPDATE registry.mailboxes SET lease_until = NULL, next_poll_at = clock_timestamp()"
            " + CASE WHEN company_id = %s THEN interval '-1 day' ELSE interval '1 day' END", (connected.company_id,),
        )  # fmt: skip
        assert Leases(connection, Vault(KEY)).lease("tests", 60) is None
        shown = lab.registry(connection).mailboxes.details(connected.company_id, connected.mailbox_id)
    assert (shown["state"], shown["state_reason"]) == ("needs_reconnect", "secret-unreadable")


@pytest.mark.parametrize(
    ("changes", "answer", "code"),
    [
        ({}, (400, {"error": "invalid_grant"}), "oauth2-grant-ended"), ({}, (503, b""), "oauth2-unavailable"),
        ({}, (401, {"error": "invalid_client"}), "oauth2-client-refused"), ({"client_id": None}, None, "oauth2-not-set-up"),
        ({"hosts": ()}, None, "oauth2-not-set-up"), ({}, None, "oauth2-login-refused"),
    ],
)  # fmt: skip
def test_the_connection_test_distinguishes_failures_of_a_sign_in(
    lab: SignedIn, serve: Serve, endpoint: TokenEndpoint, changes: dict[str, Any], answer: Any, code: str
) -> None:  # fmt: skip
    server = outlook(serve)
    endpoint.script = [answer] if answer else []
    lab.tokens = AccessTokens(lab.oauth2(**changes))
    with pytest.raises(MailboxRefused) as refused:
        lab.connect(server, accepts_tokens=code != "oauth2-login-refused")
    assert (refused.value.stage, refused.value.code) == ("login", code)
    assert CANARY not in str(refused.value)


def test_a_server_without_sign_in_is_reported(lab: SignedIn, serve: Serve) -> None:
    with pytest.raises(MailboxRefused) as refused:
        lab.connect(serve(SINA))
    assert refused.value.code == "oauth2-not-offered"


def test_a_token_goes_to_no_server_that_a_seller_types(lab: SignedIn) -> None:
    with pytest.raises(SignInNotConfigured):
        client_for("imap.evil.test", lab.oauth2())
    microsoft = client_for("outlook.office365.com", lab.oauth2(token_url=None, tenant="contoso.com"))
    assert microsoft.token_url == "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token"


def environ(lab: SignedIn, server: LabServer, folder: Path) -> dict[str, str]:
    settings = lab.settings(server)
    (folder / "client-secret").write_text("Client-canary\n", "utf-8")
    return {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9",
        "REPLYRATE_POSTGRES__DSN": settings.postgres.dsn.get_secret_value(),
        "REPLYRATE_HASH_KEY_FILE": str(settings.hash_key_file),
        "REPLYRATE_VAULT_KEY_FILE": str(settings.vault_key_file),
        "REPLYRATE_IMAP__CA_FILE": str(lab.ca_file),
        "REPLYRATE_IMAP__ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128",
        "REPLYRATE_IMAP__ALLOWED_PORTS": str(server.port),
        "REPLYRATE_OAUTH2__CA_FILE": str(lab.ca_file),
        "REPLYRATE_OAUTH2__MICROSOFT__CLIENT_ID": "our-client",
        "REPLYRATE_OAUTH2__MICROSOFT__CLIENT_SECRET_FILE": str(folder / "client-secret"),
        "REPLYRATE_OAUTH2__MICROSOFT__TOKEN_URL": lab.endpoint.url(),
        "REPLYRATE_OAUTH2__MICROSOFT__DEVICE_URL": lab.endpoint.url("/device"),
        "REPLYRATE_OAUTH2__MICROSOFT__HOSTS": "localhost",
    }


def test_sign_in_on_the_command_line_never_shows_a_token(
    lab: SignedIn, serve: Serve, endpoint: TokenEndpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    server = outlook(serve)
    server.access_tokens = endpoint.given
    company_id, said = f"oauth-{time.monotonic_ns()}", ""
    values = environ(lab, server, tmp_path)

    def run(*args: object, code: int = 0) -> Result:
        nonlocal said
        result = CliRunner().invoke(main, [str(argument) for argument in args], env=values)
        assert result.exit_code == code, (result.output, result.exception)
        said += result.output
        return result

    run("company", "add", company_id)
    run("account", "add", company_id, "main")
    add = ("mailbox", "add", "--company", company_id, "--account", "main", "--address", server.user, "--host", "localhost",
           "--port", server.port, "--oauth2", "--consent-by", "Wang Wei")  # fmt: skip
    with caplog.at_level(logging.DEBUG):
        endpoint.script = [(401, {"error": "invalid_client", "error_description": "canary"})]
        assert "docs/oauth.md" in run(*add, code=1).output
        # Before anything is stored: tested with a sign-in, and with a refresh token that is void after one use.
        test = ("mailbox", "test", company_id, "--address", server.user, "--host", "localhost", "--port", server.port,
                "--oauth2")  # fmt: skip
        tried = run(*test)
        assert "enter the code ABCD-EFGH" in tried.output and "The mailbox can be connected." in tried.stdout
        (tmp_path / "refresh").write_text("Refresh-canary-0\n", "utf-8")
        endpoint.valid.add("Refresh-canary-0")
        from_file = (*test, "--password-file", tmp_path / "refresh")
        assert "Sign in without --password-file" not in run(*from_file).output
        endpoint.rotates = True
        assert "Sign in without --password-file to connect this mailbox" in run(*from_file).output
        endpoint.rotates = False
        run("mailbox", "test", company_id, "m1", "--oauth2", code=2)
        with connect(lab._dsn, "tests") as connection:
            assert lab.registry(connection).mailboxes.summaries(company_id) == []
        shown = run(*add).output
        assert "open https://sign.in/device and enter the code ABCD-EFGH" in shown
        with connect(lab._dsn, "tests") as connection:
            (mailbox,) = lab.registry(connection).mailboxes.summaries(company_id)
        run("mailbox", "test", company_id, mailbox["mailbox_id"])
        endpoint.rotates = True
        run("mailbox", "test", company_id, mailbox["mailbox_id"])  # the token that the test got is stored
        connected = ConnectedMailbox(company_id, mailbox["mailbox_id"], now(), None, now())  # type: ignore[arg-type]
        assert endpoint.valid >= {lab.stored(connected)}
        lab.poll(connected, server)
        server.access_tokens = set()
        lab.poll(connected, server)
        endpoint.valid.clear()
        lab.forget()
        assert lab.poll(connected, server)["state"] == "needs_reconnect"
        refused = run("mailbox", "test", company_id, mailbox["mailbox_id"], "--lang", "zh", code=1).output
        assert "授权已失效" in refused
        run("mailbox", "show", company_id, mailbox["mailbox_id"])
        run("mailbox", "history", company_id, mailbox["mailbox_id"])
    with connect(lab._dsn, "tests") as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables"
            " WHERE table_schema IN ('registry', 'ledger', 'report_v1', 'replyrate')"
        ).fetchall()
        assert len(tables) > 10
        for (table,) in tables:
            said += str(connection.execute(f"SELECT t::text FROM {table} t").fetchall())
    events = b"".join(record.value or b"" for topic in (SENT, DEAD) for record in read_all(lab.topics, topic))
    for text in (
        said,
        caplog.text,
        str([vars(record) for record in caplog.records]),
        events.decode("utf-8", "replace"),
    ):
        for secret in ("Refresh-canary", "Access-canary", "Client-canary", "Device-canary"):
            assert secret not in text
