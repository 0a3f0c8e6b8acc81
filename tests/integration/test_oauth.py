# ruff: noqa: F811
"""Mailboxes that sign in: tokens got, rotated, refused and ended, against a scripted endpoint and mail servers of the lab."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from services.cli.__main__ import main
from services.common.errors import TransientError
from services.common.kafka import Publisher
from services.common.lifecycle import Stop
from services.common.postgres import connect
from services.common.settings import KafkaSettings, OAuth2Settings, Settings
from services.common.topics import DEAD, SENT
from services.connect.onboarding import (
    ConnectedMailbox,
    ConnectionTester,
    ConnectRequest,
    LoginChanges,
    MailboxRefused,
    add_mailbox,
    changed_login,
    reconnect_mailbox,
)
from services.fetcher.poller import Poller
from services.imap.errors import MailboxError, SignInNotConfigured, TokenUnavailable
from services.imap.host_policy import resolve
from services.imap.tls import tls_context
from services.registry.leases import LeasedMailbox, LeaseLost, Leases
from services.registry.rotation import Rotation
from services.registry.tokens import RegistryTokenStore
from services.registry.vault import Vault
from services.signin.access_tokens import AccessTokens
from services.signin.clients import OAuthClient, client_for
from services.signin.device_flow import DEVICE_GRANT, SignInFailed, start_sign_in, wait_for_sign_in
from services.signin.http import post
from services.signin.token_endpoint import refresh_grant
from services.signin.token_store import MemoryTokenStore
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.profiles import GMAIL, OUTLOOK, SINA, Profile
from tests.imap_lab.server import LabServer
from tests.imap_lab.world import fill
from tests.support.builders import now
from tests.support.pollers import make_poller
from tests.support.provider_lab import HASHER, SMALL, Lab, Serve, serve, topics  # noqa: F401
from tests.support.token_endpoint import DRIP, TokenEndpoint
from tests.support.topics import read_all
from tests.support.wire import allowed

CANARY = "canary"
KEY = bytes(range(32))


@pytest.fixture
def endpoint(ca: CertificateAuthority) -> Iterator[TokenEndpoint]:
    with TokenEndpoint(ca) as found:
        yield found


class UntilIdle(Stop):
    """Ends a worker when it has to wait for work."""

    def wait(self, seconds: float) -> bool:
        self.set()
        return True


class SignedIn(Lab):
    """A lab whose mailboxes sign in at `endpoint`."""

    endpoint: TokenEndpoint
    tokens: AccessTokens
    seconds = 0.0

    def begin(self, endpoint: TokenEndpoint) -> "SignedIn":
        self.endpoint = endpoint
        self.forget()
        return self

    def forget(self) -> None:
        """A new process: what was in memory is gone."""
        self.tokens = AccessTokens(self.oauth2(), monotonic=lambda: time.monotonic() + self.seconds)

    def oauth2(self, **changes: Any) -> OAuth2Settings:
        client = {
            "client_id": "our-client", "client_secret": "Client-canary", "token_url": self.endpoint.url(),
            "device_url": self.endpoint.url("/device"), "hosts": ("localhost",),
        }  # fmt: skip
        return OAuth2Settings.model_validate({"microsoft": client | changes, "ca_file": self.ca_file})

    def settings(self, *servers: LabServer) -> Settings:
        return super().settings(*servers).model_copy(update={"oauth2": self.oauth2()})

    def connect(self, server: LabServer, *, known: bool = True, **changes: Any) -> ConnectedMailbox:
        """Connect a mailbox; `known`: its server takes the tokens of the endpoint."""
        server.access_tokens = self.endpoint.given if known else set()
        company_id = f"oauth-{time.monotonic_ns()}"
        request = ConnectRequest(
            company_id, "main", server.user, "Refresh-canary-0", "tests", host="localhost", port=server.port, kind="oauth2", **changes
        )  # fmt: skip
        with connect(self._dsn, "tests") as connection:
            registry = self.registry(connection)
            registry.companies.add(company_id)
            registry.accounts.add(company_id, "main")
            trial = ConnectionTester(self.settings(server).imap, resolve, "0", tokens=self.tokens)
            connected = add_mailbox(registry, request, trial)
        server.wire.clear()
        server.bearers.clear()
        return connected

    def lease(self, leases: Leases, connected: ConnectedMailbox, seconds: float = 60) -> LeasedMailbox:
        self.due(leases, connected)
        leased = leases.lease("tests", seconds)
        assert leased is not None and leased.company_id == connected.company_id
        return leased

    def due(self, leases: Leases, connected: ConnectedMailbox) -> None:
        """This mailbox is the only one that is due."""
        leases.connection.execute(
            "UPDATE registry.mailboxes SET lease_until = NULL, next_poll_at = clock_timestamp()"
            " + CASE WHEN company_id = %s THEN interval '-1 day' ELSE interval '1 day' END",
            (connected.company_id,),
        )

    def poll(self, connected: ConnectedMailbox, *servers: LabServer, **_: Any) -> dict[str, Any]:
        return self._with_poller(
            connected, servers, Stop(), lambda poller, leases: poller.poll(self.lease(leases, connected))
        )

    def work(self, connected: ConnectedMailbox, server: LabServer) -> dict[str, Any]:
        """As a worker does, until nothing is due."""

        def work(poller: Poller, leases: Leases) -> None:
            self.due(leases, connected)
            poller.run()

        return self._with_poller(connected, (server,), UntilIdle(), work)

    def _with_poller(
        self,
        connected: ConnectedMailbox,
        servers: Sequence[LabServer],
        stop: Stop,
        do: Callable[[Poller, Leases], None],
    ) -> dict[str, Any]:
        settings = self.settings(*servers)
        with connect(self._dsn, "tests") as connection, Publisher(self.topics, "tests") as publisher:
            leases = Leases(connection, Vault(KEY))
            poller = make_poller(
                leases, publisher, HASHER, settings, limits=SMALL, tokens=self.tokens, stop=stop
            )  # fmt: skip
            do(poller, leases)
            return self.registry(connection).mailboxes.details(connected.company_id, connected.mailbox_id)

    def stored(self, connected: ConnectedMailbox, key: bytes = KEY) -> str | None:
        with connect(self._dsn, "tests") as connection:
            return RegistryTokenStore(connection, Vault(key), connected.company_id, connected.mailbox_id).read()


@pytest.fixture
def lab(dsn: str, topics: KafkaSettings, tmp_path: Path, ca: CertificateAuthority, endpoint: TokenEndpoint) -> SignedIn:
    return SignedIn(dsn, topics, tmp_path, ca).begin(endpoint)


@pytest.fixture
def client(endpoint: TokenEndpoint) -> OAuthClient:
    return OAuthClient(
        "other", "our-client", "Client-canary", endpoint.url(), endpoint.url("/device"), ("mail", "offline")
    )


def outlook(serve: Serve) -> LabServer:
    found = serve(OUTLOOK)
    fill(found, [now() - timedelta(days=20), now() - timedelta(hours=3)])
    return found


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
    assert [one.command for one in server.wire if one.name in (b"AUTHENTICATE", b"LOGIN")] == [
        b"AUTHENTICATE " + mechanism
    ]
    assert all(allowed(one.command) for one in server.wire)
    assert endpoint.asked == [
        {
            "grant_type": "refresh_token", "refresh_token": "Refresh-canary-0", "client_id": "our-client",
            "client_secret": "Client-canary", "scope": "https://outlook.office.com/IMAP.AccessAsUser.All offline_access",
        }
    ]  # fmt: skip
    assert lab.published(connected)


def test_an_access_token_is_used_until_shortly_before_its_end(
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
    endpoint.given.clear()  # taken back before its time
    assert lab.poll(connected, server)["state_reason"] is None
    assert server.bearers == ["Access-canary-1", "Access-canary-2"]
    assert server.bearer_ends == [b""]  # an empty answer to the explained error
    server.access_tokens = set()
    server.bearers.clear()
    shown = [lab.poll(connected, server) for _ in range(3)]
    assert len(server.bearers) == 6
    assert [(one["state"], one["state_reason"]) for one in shown] == [
        ("active", "oauth2-login-refused"), ("active", "oauth2-login-refused"), ("needs_reconnect", "oauth2-login-refused"),
    ]  # fmt: skip


def test_oauthbearer_ends_a_refusal_as_rfc_7628_wants(lab: SignedIn, serve: Serve, endpoint: TokenEndpoint) -> None:
    server = serve(GMAIL)
    connected = lab.connect(server)
    endpoint.given.clear()
    assert lab.poll(connected, server)["state_reason"] is None
    assert server.bearer_ends == [b"AQ=="]


def test_a_mail_server_in_trouble_is_no_refusal(lab: SignedIn, serve: Serve) -> None:
    server = outlook(serve)
    connected = lab.connect(server)
    server.access_tokens, server.bearer_status = set(), b"503"
    shown = [lab.poll(connected, server) for _ in range(4)][-1]
    assert (shown["state"], shown["state_reason"]) == ("active", "throttled")


def test_a_grant_that_ended_needs_its_owner_at_once(lab: SignedIn, serve: Serve, endpoint: TokenEndpoint) -> None:
    server = outlook(serve)
    connected = lab.connect(server)
    lab.forget()
    endpoint.valid.clear()
    shown = lab.poll(connected, server)
    assert (shown["state"], shown["state_reason"]) == ("needs_reconnect", "oauth2-grant-ended")
    assert shown["history"][-1]["reason"] == "oauth2-grant-ended"
    assert server.bearers == []
    # Signed in again, it goes on where it was.
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
    assert not again.anew
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
def test_trouble_of_the_sign_in_service_is_not_the_mailbox_owners(
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


def test_an_answer_that_drips_ends_in_time(endpoint: TokenEndpoint, ca: CertificateAuthority) -> None:
    endpoint.script = [(200, DRIP)]
    began = time.monotonic()
    with pytest.raises(TokenUnavailable):
        status, body = post(endpoint.url(), {}, tls_context(ca.ca_file), seconds=0.5)
        raise AssertionError((status, body))
    assert time.monotonic() - began < 4


def test_a_rotated_refresh_token_is_kept_before_it_is_used(
    lab: SignedIn, serve: Serve, endpoint: TokenEndpoint
) -> None:
    server = outlook(serve)
    endpoint.rotates = True
    connected = lab.connect(server)
    assert lab.stored(connected) == "Refresh-canary-1"  # the test of the connection got it
    lab.forget()
    server.access_tokens = set()  # whatever comes after: here the login fails
    lab.poll(connected, server)
    assert (lab.stored(connected), endpoint.valid) == ("Refresh-canary-2", {"Refresh-canary-2"})
    server.access_tokens = endpoint.given
    for _ in range(3):
        lab.forget()
        assert lab.poll(connected, server)["state_reason"] is None
    assert endpoint.valid == {lab.stored(connected)}


def test_a_crash_behind_the_save_loses_nothing(lab: SignedIn, serve: Serve, endpoint: TokenEndpoint) -> None:
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


def test_a_token_that_comes_while_postgres_is_away_is_saved_when_it_is_back(
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
    # Once: a token that was put in its place since stays.
    with connect(lab._dsn, "tests") as connection:
        RegistryTokenStore(connection, Vault(KEY), connected.company_id, connected.mailbox_id).replace(
            lab.stored(connected) or "", "Refresh-canary-0"
        )
        lab.tokens.save(connection)
    assert lab.stored(connected) == "Refresh-canary-0"


def test_two_fetchers_and_one_rotated_token(lab: SignedIn, serve: Serve, endpoint: TokenEndpoint) -> None:
    """One froze, another took over and leased with the old token; the first one's new token is kept, the second finds it."""
    server = outlook(serve)
    connected = lab.connect(server)
    endpoint.rotates = True
    with connect(lab._dsn, "one") as one, connect(lab._dsn, "two") as two:
        first, second = Leases(one, Vault(KEY)), Leases(two, Vault(KEY))
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


def test_a_reconnection_wins_over_a_rotation(lab: SignedIn, serve: Serve, endpoint: TokenEndpoint) -> None:
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


def test_a_rotation_of_the_vault_key_takes_refresh_tokens_along(
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
                one.what: one.state
                for one in Rotation(connection, Vault(new, KEY)).rotate()
                if one.company_id == connected.company_id
            }
            assert states == {connected.mailbox_id: place}
        assert lab.stored(connected, new) == "Refresh-canary-0"
        # A poll that began before keeps the token that it got, for it is the same secret under another key.
        kept = RegistryTokenStore(
            connection, Vault(new, KEY), connected.company_id, connected.mailbox_id, epoch=leased.epoch, lost=LeaseLost
        )
        kept.replace("Refresh-canary-0", "Refresh-canary-1")
        assert lab.stored(connected, new) == "Refresh-canary-1"
        list(Rotation(connection, Vault(KEY, new)).rotate())  # other tests' mailboxes are under the key before


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
def test_the_connection_test_tells_failures_of_a_sign_in_apart(
    lab: SignedIn, serve: Serve, endpoint: TokenEndpoint, changes: dict[str, Any], answer: Any, code: str
) -> None:  # fmt: skip
    server = outlook(serve)
    endpoint.script = [answer] if answer else []
    lab.tokens = AccessTokens(lab.oauth2(**changes))
    with pytest.raises(MailboxRefused) as refused:
        lab.connect(server, known=code != "oauth2-login-refused")
    assert (refused.value.stage, refused.value.code) == ("login", code)
    assert CANARY not in str(refused.value)


def test_a_server_without_sign_in_says_so(lab: SignedIn, serve: Serve) -> None:
    with pytest.raises(MailboxRefused) as refused:
        lab.connect(serve(SINA))
    assert refused.value.code == "oauth2-not-offered"


def test_a_token_goes_to_no_server_that_a_seller_types(lab: SignedIn) -> None:
    with pytest.raises(SignInNotConfigured):
        client_for("imap.evil.test", lab.oauth2())
    known = client_for("outlook.office365.com", lab.oauth2(token_url=None, tenant="contoso.com"))
    assert known.token_url == "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token"


def test_a_sign_in_with_a_code_waits_as_it_is_told(
    client: OAuthClient, endpoint: TokenEndpoint, ca: CertificateAuthority
) -> None:
    context, slept = tls_context(ca.ca_file), list[float]()
    device = start_sign_in(client, context)
    assert (device.url, device.code) == ("https://sign.in/device", "ABCD-EFGH")
    endpoint.script = [
        (400, {"error": "authorization_pending"}), (400, {"error": "slow_down"}), (503, b"away"), (400, {"error": "authorization_pending"}),
    ]  # fmt: skip
    found = wait_for_sign_in(client, device, context, sleep=slept.append, monotonic=lambda: sum(slept))
    assert slept == [1, 1, 6, 12, 12]
    assert found.refresh in endpoint.valid
    assert endpoint.asked[-1]["grant_type"] == DEVICE_GRANT
    assert endpoint.asked[-1]["device_code"] == "Device-canary"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((400, {"error": "access_denied"}), "declined"), ((400, {"error": "expired_token"}), "expired"),
        ((400, {"error": "authorization_pending"}), "expired"), ((200, {"access_token": "a"}), "offline_access"),
    ],
)  # fmt: skip
def test_a_sign_in_that_does_not_end_well_says_what_to_do(
    client: OAuthClient, endpoint: TokenEndpoint, ca: CertificateAuthority, answer: Any, says: str
) -> None:
    context, slept = tls_context(ca.ca_file), list[float]()
    device = start_sign_in(client, context)
    endpoint.script = [answer] * 1000
    with pytest.raises(SignInFailed, match=says):
        wait_for_sign_in(client, device, context, sleep=slept.append, monotonic=lambda: sum(slept) * 10)


def test_a_device_answer_that_is_none(client: OAuthClient, endpoint: TokenEndpoint, ca: CertificateAuthority) -> None:
    good = {
        "device_code": "x",
        "user_code": "A",
        "verification_uri": "https://sign.in",
        "interval": "no",
        "expires_in": None,
    }
    for bad in (
        {"user_code": "\x1b[2J"},
        {"verification_uri": "http://sign.in"},
        {"device_code": ""},
        {"user_code": 7},
    ):
        endpoint.script = [(200, good | bad)]
        with pytest.raises(TokenUnavailable):
            start_sign_in(client, tls_context(ca.ca_file))
    endpoint.script = [(200, good)]
    device = start_sign_in(client, tls_context(ca.ca_file))
    assert (device.interval, device.seconds) == (5, 900)


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


def test_on_the_command_line_and_nowhere_a_token(
    lab: SignedIn, serve: Serve, endpoint: TokenEndpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    server = outlook(serve)
    server.access_tokens = endpoint.given
    company_id, said = f"oauth-{time.monotonic_ns()}", ""
    values = environ(lab, server, tmp_path)

    def run(*args: object, code: int = 0) -> Result:
        nonlocal said
        result = CliRunner().invoke(main, [str(one) for one in args], env=values)
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
        # Before anything is stored: tried with a sign-in, and with a refresh token that a single use takes away.
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
            (found,) = lab.registry(connection).mailboxes.summaries(company_id)
        run("mailbox", "test", company_id, found["mailbox_id"])
        endpoint.rotates = True
        run("mailbox", "test", company_id, found["mailbox_id"])  # the token that the test got is kept
        connected = ConnectedMailbox(company_id, found["mailbox_id"], now(), None, now())  # type: ignore[arg-type]
        assert endpoint.valid >= {lab.stored(connected)}
        lab.poll(connected, server)
        server.access_tokens = set()
        lab.poll(connected, server)
        endpoint.valid.clear()
        lab.forget()
        assert lab.poll(connected, server)["state"] == "needs_reconnect"
        refused = run("mailbox", "test", company_id, found["mailbox_id"], "--lang", "zh", code=1).output
        assert "授权已失效" in refused
        run("mailbox", "show", company_id, found["mailbox_id"])
        run("mailbox", "history", company_id, found["mailbox_id"])
    with connect(lab._dsn, "tests") as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables"
            " WHERE table_schema IN ('registry', 'ledger', 'report_v1', 'replyrate')"
        ).fetchall()
        assert len(tables) > 10
        for (table,) in tables:
            said += str(connection.execute(f"SELECT t::text FROM {table} t").fetchall())
    events = b"".join(one.value or b"" for topic in (SENT, DEAD) for one in read_all(lab.topics, topic))
    for text in (
        said,
        caplog.text,
        str([vars(record) for record in caplog.records]),
        events.decode("utf-8", "replace"),
    ):
        for secret in ("Refresh-canary", "Access-canary", "Client-canary", "Device-canary"):
            assert secret not in text


def test_what_holds_tokens_does_not_show_them(
    client: OAuthClient, endpoint: TokenEndpoint, ca: CertificateAuthority
) -> None:
    context = tls_context(ca.ca_file)
    device = start_sign_in(client, context)
    tokens = refresh_grant(client, "Refresh-canary-0", context)
    endpoint.valid.clear()
    with pytest.raises(MailboxError) as error:
        AccessTokens(OAuth2Settings.model_validate(
            {"other": {"client_id": "c", "token_url": endpoint.url(), "hosts": "localhost"}, "ca_file": ca.ca_file}
        )).renew("localhost", "u", "Refresh-canary-0", MemoryTokenStore("Refresh-canary-0"))  # fmt: skip
    for one in (client, device, tokens, error.value):
        assert CANARY not in repr(one).lower() and CANARY not in str(one).lower()
