"""A lab of mail servers whose mailboxes sign in at a scripted token endpoint."""

import threading
import time
from typing import Any

import psycopg

from services.common.kafka import Publisher
from services.common.lifecycle import Stop
from services.common.postgres import connect
from services.common.settings import OAuth2Settings, Settings
from services.connect.onboarding import ConnectedMailbox, add_mailbox
from services.connect.requests import ConnectRequest
from services.connect.tester import ConnectionTester
from services.fetcher.workers import Workers
from services.imap.host_policy import resolve
from services.registry.leases import LeasedMailbox, Leases
from services.registry.tokens import RegistryTokenStore
from services.registry.vault import Vault
from services.signin.access_tokens import AccessTokens
from tests.imap_lab.server import LabServer
from tests.support.pollers import make_poller, make_resources
from tests.support.processes import until
from tests.support.provider_lab import HASHER, SMALL, Lab, Serve, serve, topics  # noqa: F401
from tests.support.token_endpoint import TokenEndpoint

KEY = bytes(range(32))


class SignedIn(Lab):
    """A lab whose mailboxes sign in at `endpoint`; the clock of its access tokens is `seconds`."""

    endpoint: TokenEndpoint
    tokens: AccessTokens
    seconds = 0.0

    def use(self, endpoint: TokenEndpoint) -> "SignedIn":
        self.endpoint = endpoint
        self.forget()
        return self

    def forget(self) -> None:
        """As in a new process: no token is cached."""
        self.tokens = AccessTokens(self.oauth2(), monotonic=lambda: self.seconds)

    def oauth2(self, **changes: Any) -> OAuth2Settings:
        client = {
            "client_id": "our-client", "client_secret": "Client-canary", "token_url": self.endpoint.url(),
            "device_url": self.endpoint.url("/device"), "hosts": ("localhost",),
        }  # fmt: skip
        return OAuth2Settings.model_validate({"microsoft": client | changes, "ca_file": self.ca_file})

    def settings(self, *servers: LabServer) -> Settings:
        return super().settings(*servers).model_copy(update={"oauth2": self.oauth2()})

    def connect(self, server: LabServer, *, accepts_tokens: bool = True, **changes: Any) -> ConnectedMailbox:
        """Connect a mailbox; `accepts_tokens`: its server accepts the tokens of the endpoint."""
        server.access_tokens = self.endpoint.given if accepts_tokens else set()
        company_id = f"oauth-{time.monotonic_ns()}"
        request = ConnectRequest(
            company_id, "main", server.user, "Refresh-canary-0", "tests", host="localhost", port=server.port, kind="oauth2", **changes
        )  # fmt: skip
        with connect(self._dsn, "tests") as connection:
            registry = self.registry(connection)
            registry.companies.add(company_id)
            registry.accounts.add(company_id, "main")
            tester = ConnectionTester(self.settings(server).imap, resolve, "0", tokens=self.tokens)
            connected = add_mailbox(registry, request, tester)
        server.wire.clear()
        server.bearers.clear()
        return connected

    def lease(self, leases: Leases, connected: ConnectedMailbox, seconds: float = 60) -> LeasedMailbox:
        self.due(leases, connected)
        leased = leases.lease("tests", seconds)
        assert leased is not None and leased.company_id == connected.company_id
        return leased

    def due(self, leases: Leases, connected: ConnectedMailbox) -> None:
        """Make this mailbox the only one that is due."""
        assert isinstance(leases.connection, psycopg.Connection)
        leases.connection.execute(
            "UPDATE registry.mailboxes SET lease_until = NULL, next_poll_at = clock_timestamp()"
            " + CASE WHEN company_id = %s THEN interval '-1 day' ELSE interval '1 day' END",
            (connected.company_id,),
        )

    def poll(self, connected: ConnectedMailbox, *servers: LabServer, **_: Any) -> dict[str, Any]:
        settings = self.settings(*servers)
        with connect(self._dsn, "tests") as connection, Publisher(self.topics, "tests") as publisher:
            leases = Leases(connection, Vault(KEY))
            poller = make_poller(leases, publisher, HASHER, settings, limits=SMALL, tokens=self.tokens)
            poller.poll(self.lease(leases, connected))
            return self.registry(connection).mailboxes.details(connected.company_id, connected.mailbox_id)

    def work(self, connected: ConnectedMailbox, server: LabServer) -> dict[str, Any]:
        """Poll as the threads of a fetcher do, until the mailbox was polled."""
        settings, stop = self.settings(server), Stop()
        with connect(self._dsn, "tests") as connection, Publisher(self.topics, "tests") as publisher:
            self.due(Leases(connection, Vault(KEY)), connected)
            mailboxes = self.registry(connection).mailboxes
            before = mailboxes.details(connected.company_id, connected.mailbox_id)["last_success_at"]
            resources = make_resources(publisher, HASHER, settings, limits=SMALL, tokens=self.tokens)
            threads = threading.Thread(target=Workers(settings, Vault(KEY), stop).run, args=(resources,))
            threads.start()
            try:
                until(
                    lambda: mailboxes.details(connected.company_id, connected.mailbox_id)["last_success_at"] != before,
                    30,
                    "the mailbox polled",
                )
            finally:
                stop.set()
                threads.join(30)
            return mailboxes.details(connected.company_id, connected.mailbox_id)

    def stored(self, connected: ConnectedMailbox, key: bytes = KEY) -> str | None:
        with connect(self._dsn, "tests") as connection:
            return RegistryTokenStore(connection, Vault(key), connected.company_id, connected.mailbox_id).read()
