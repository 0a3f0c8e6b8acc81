"""Servers of the lab, a registry and pollers in this process. `serve` and `topics` are fixtures to import."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.common import codec
from services.common.events import MessageSent
from services.common.hashing import Hasher
from services.common.kafka import Publisher
from services.common.postgres import connect
from services.common.settings import KafkaSettings, Settings, load_settings
from services.common.topics import DEAD, SENT
from services.connect.onboarding import ConnectedMailbox, add_mailbox
from services.connect.requests import ConnectRequest
from services.connect.tester import ConnectionTester
from services.imap.host_policy import resolve
from services.imap.limits import SessionLimits
from services.registry.leases import Leases
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.environment import service_environ
from tests.imap_lab.profiles import Defect, Profile
from tests.imap_lab.server import LabServer
from tests.support.pollers import make_poller
from tests.support.servers import delete_topics
from tests.support.topics import create_topics, kafka_settings, read_all

KEY = bytes(range(32))
HASHER = Hasher(KEY)
SENT_ONLY = frozenset({"replyrate.message-sent.v1"})
SMALL = SessionLimits(command_seconds=2, session_seconds=6, connect_seconds=2)

Serve = Callable[..., LabServer]


@pytest.fixture(scope="module")
def topics(kafka: str) -> Iterator[KafkaSettings]:
    """Fresh topics for this module; tests are separated by company."""
    delete_topics(kafka)
    settings = kafka_settings(kafka)
    create_topics(settings)
    yield settings
    delete_topics(kafka)


@pytest.fixture
def serve(tmp_path: Path, ca: CertificateAuthority) -> Iterator[Serve]:
    """Starts servers: serve(profile, *defects)."""
    with ExitStack() as stack:

        def start(profile: Profile, *defects: Defect, **changes: Any) -> LabServer:
            server = LabServer(tmp_path / f"lab-{time.monotonic_ns()}", ca, dataclasses.replace(profile, **changes))
            server.defects |= set(defects)
            return stack.enter_context(server)

        yield start


class Lab:
    """A registry, topics and pollers in this process, so that budgets can be small and the wire is at hand."""

    def __init__(self, dsn: str, topics: KafkaSettings, folder: Path, ca: CertificateAuthority) -> None:
        self._dsn = dsn
        self.topics = topics
        self.ca_file = ca.ca_file
        self._folder = folder
        self._leasing = threading.Lock()
        for name in ("hash.key", "vault.key"):
            (folder / name).write_bytes(bytes(range(32)))

    def settings(self, *servers: LabServer) -> Settings:
        return load_settings(
            service_environ(
                self._folder,
                kafka=self.topics.bootstrap_servers,
                partitions=self.topics.partitions,
                dsn=self._dsn,
                ca_file=self.ca_file,
                imap_ports=[server.port for server in servers],
            )
        )

    def registry(self, connection: psycopg.Connection) -> Registry:
        return Registry(connection, HASHER, Vault(bytes(range(32))))

    def connect(self, server: LabServer, **changes: Any) -> ConnectedMailbox:
        """Connect the mailbox for a company of its own, while the server behaves."""
        defects, server.defects = server.defects, set(server.profile.defects) - {Defect.LOGIN_DISABLED}
        company_id = f"lab-{time.monotonic_ns()}"
        request = ConnectRequest(
            company_id, "main", server.user, server.secret, "tests", host="localhost", port=server.port, **changes
        )
        with connect(self._dsn, "tests") as connection:
            registry = self.registry(connection)
            registry.companies.add(company_id)
            registry.accounts.add(company_id, "main")
            connected = add_mailbox(registry, request, ConnectionTester(self.settings(server).imap, resolve, "0"))
        server.defects = defects
        server.wire.clear()
        return connected

    def poll(self, connected: ConnectedMailbox, *servers: LabServer, budgets: SessionLimits = SMALL) -> dict[str, Any]:
        """One poll of a mailbox, as a worker makes it; returns what the registry says of it then."""
        settings = self.settings(*servers)
        with connect(self._dsn, "tests") as connection, Publisher(self.topics, "tests") as publisher:
            leases, registry = Leases(connection, Vault(bytes(range(32)))), self.registry(connection)
            poller = make_poller(leases, publisher, HASHER, settings, limits=budgets)
            with self._leasing:  # this one is due, the others are not
                connection.execute(
                    "UPDATE registry.mailboxes SET next_poll_at = clock_timestamp()"
                    " + CASE WHEN company_id = %s THEN interval '-1 day' ELSE interval '1 day' END",
                    (connected.company_id,),
                )
                leased = leases.lease("tests", 60)
            assert leased is not None and leased.company_id == connected.company_id
            poller.poll(leased)
            return registry.mailboxes.details(connected.company_id, connected.mailbox_id)

    def complete(
        self, connected: ConnectedMailbox, *servers: LabServer, most: int = 12, budgets: SessionLimits = SMALL
    ) -> int:
        """Poll until everything is read; returns how many polls it took."""
        for number in range(1, most + 1):
            shown = self.poll(connected, *servers, budgets=budgets)
            if shown["complete_through"] is not None and shown["state_reason"] is None:
                return number
        raise AssertionError(f"not complete after {most} polls: {shown}")

    def events(self, connected: ConnectedMailbox) -> list[MessageSent]:
        """What was published for a mailbox, repeats included; each is a valid event."""
        key = connected.company_id.encode()
        published = [
            codec.decode(record.value or b"", accept=SENT_ONLY).data
            for record in read_all(self.topics, SENT)
            if record.key == key
        ]
        return [event for event in published if isinstance(event, MessageSent)]

    def published(self, connected: ConnectedMailbox) -> set[str]:
        return {event.message_id for event in self.events(connected)}

    def buried(self, connected: ConnectedMailbox) -> int:
        return len([record for record in read_all(self.topics, DEAD) if record.key == connected.company_id.encode()])

    def rescan(self, connected: ConnectedMailbox) -> None:
        with connect(self._dsn, "tests") as connection:
            self.registry(connection).mailboxes.rescan(connected.company_id, connected.mailbox_id)
