"""Mailboxes of one host, each on a server of its own with a log of its commands, and fetchers that read them.

`make_town` is a fixture to import.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.common.hashing import Hasher
from services.common.postgres import connect
from services.common.settings import KafkaSettings, Settings, load_settings
from services.connect.onboarding import add_mailbox
from services.connect.requests import ConnectRequest
from services.connect.tester import ConnectionTester
from services.imap.host_policy import resolve
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.environment import service_environ
from tests.imap_lab.mailbox import SentCommand
from tests.imap_lab.profiles import DOVECOT
from tests.imap_lab.server import LabServer
from tests.imap_lab.world import fill
from tests.support.processes import Process
from tests.support.topics import PARTITIONS, create_topics, kafka_settings

KEY = bytes(range(32))
HOUR = "UPDATE registry.login_slots SET free_at = free_at - interval '1 hour 2 minutes' WHERE kind = 'login'"
"""An hour goes by for the logins."""
DUE = "UPDATE registry.mailboxes SET next_poll_at = coalesce(last_success_at, connected_at)"
"""All are due, the longest unread first."""


@dataclass
class Wire:
    """The commands that several servers received, in order."""

    said: list[tuple[int, SentCommand]] = field(default_factory=list)
    hold: threading.Event | None = None
    """Logins are answered only while this is set."""

    def logins(self) -> int:
        return sum(command.name == b"LOGIN" for _, command in self.said)

    def sessions(self) -> int:
        """The most that were logged in at once."""
        sessions: set[tuple[int, int]] = set()
        most = 0
        for server, command in self.said:
            if command.name == b"LOGIN":
                sessions.add((server, command.session))
                most = max(most, len(sessions))
            elif command.name == b"LOGOUT":
                sessions.discard((server, command.session))
        return most


class _OfServer(list[SentCommand]):
    """The wire log of one server; a login takes a moment, so that sessions overlap."""

    def __init__(self, server: int, wire: Wire) -> None:
        super().__init__()
        self._server, self._wire = server, wire

    def append(self, sent: SentCommand) -> None:
        super().append(sent)
        self._wire.said.append((self._server, sent))
        if sent.name == b"LOGIN":
            time.sleep(0.1)
            if self._wire.hold is not None:
                self._wire.hold.wait(30)


@dataclass
class Town:
    """Mailboxes of one host, each on a server of its own, and fetchers that read them."""

    dsn: str
    kafka: KafkaSettings
    folder: Path
    servers: list[LabServer]
    wire: Wire

    def environ(self, **more: str) -> dict[str, str]:
        environ = service_environ(
            self.folder,
            kafka=self.kafka.bootstrap_servers,
            partitions=PARTITIONS,
            dsn=self.dsn,
            ca_file=self.servers[0].ca_file,
            imap_ports=[server.port for server in self.servers],
            IMAP__POLL_INTERVAL_SECONDS="0.5",
            FETCHER__WORKERS="4",
        )
        return {**environ, **more}

    def settings(self, **more: str) -> Settings:
        return load_settings(self.environ(**more))

    def connect(self, settings: Settings, *servers: LabServer) -> None:
        """Connect mailboxes, each for a company of its own."""
        with connect(self.dsn, "tests") as connection:
            registry = Registry(connection, Hasher(KEY), Vault(KEY))
            for server in servers:
                company_id = f"c{server.port}"
                registry.companies.add(company_id)
                registry.accounts.add(company_id, "main")
                request = ConnectRequest(
                    company_id, "main", server.user, server.secret, "tests", host="localhost", port=server.port
                )
                add_mailbox(registry, request, ConnectionTester(settings.imap, resolve, "0"))

    def fetcher(self, name: str, **more: str) -> Process:
        return Process("services.fetcher", self.environ(**more), self.folder / f"{name}.log")

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        with connect(self.dsn, "tests") as connection:
            done = connection.execute(statement)
            return list(done.fetchall()) if done.description else []


@pytest.fixture
def make_town(dsn: str, topics_gone: str, tmp_path: Path, ca: CertificateAuthority) -> Iterator[Callable[[int], Town]]:
    kafka = kafka_settings(topics_gone)
    create_topics(kafka)
    for name in ("hash.key", "vault.key"):
        (tmp_path / name).write_bytes(KEY)
    with ExitStack() as stack:

        def make(count: int) -> Town:
            wire, servers = Wire(), []
            for number in range(count):
                server = LabServer(tmp_path / f"lab-{number}", ca, DOVECOT, user=f"seller-{number}@mail.test")
                server.wire = _OfServer(number, wire)
                fill(server, [datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)])
                servers.append(stack.enter_context(server))
            return Town(dsn, kafka, tmp_path, servers, wire)

        yield make
