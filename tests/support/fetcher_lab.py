"""A registry, topics and one IMAP server for the fetcher as a process. `make_lab` and `lab` are fixtures to import."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from services.common import codec
from services.common.events import MessageSent
from services.common.hashing import Hasher
from services.common.postgres import connect
from services.common.settings import ImapSettings, KafkaSettings
from services.common.topics import SENT
from services.connect.onboarding import ConnectedMailbox, add_mailbox
from services.connect.requests import ConnectRequest
from services.connect.tester import ConnectionTester
from services.imap.host_policy import resolve
from services.registry.leases import Leases
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.standalone.servers.environment import service_environ
from services.standalone.servers.imap import EmbeddedImap
from tests.imap_lab.server import LabServer
from tests.support.dovecot import Dovecot
from tests.support.processes import Process
from tests.support.servers import USERS
from tests.support.topics import PARTITIONS, create_topics, kafka_settings, read_all

KEY, VAULT_KEY = bytes(range(32)), bytes(range(32, 64))
HASHER = Hasher(KEY)
USER = "seller-1@mail.test"
SENT_ONLY = frozenset({"replyrate.message-sent.v1"})
Server = EmbeddedImap | Dovecot | LabServer


def letter(number: int, at: datetime, *extra: str, to: str = "Buyer <buyer@shop.example>") -> bytes:
    lines = [
        f"Message-ID: <sent-{number}@mail.test>", f"Date: {at:%a, %d %b %Y %H:%M:%S} +0000",
        f"From: {USER}", f"To: {to}", "Subject: Re: canary-subject", *extra,
    ]  # fmt: skip
    return "\r\n".join([*lines, "", "canary-body"]).encode()


@dataclass
class Lab:
    """A registry, topics and one IMAP server, with what a fetcher needs to read them."""

    dsn: str
    kafka: KafkaSettings
    environ: dict[str, str]
    folder: Path
    server: Server

    @contextmanager
    def registry(self) -> Iterator[Registry]:
        with connect(self.dsn, "tests") as connection:
            yield Registry(connection, HASHER, Vault(VAULT_KEY))

    @contextmanager
    def leases(self) -> Iterator[Leases]:
        with connect(self.dsn, "tests") as connection:
            yield Leases(connection, Vault(VAULT_KEY))

    def connect(self, user: str = USER, company_id: str = "c1", **changes: Any) -> ConnectedMailbox:
        values: dict[str, Any] = {
            "company_id": company_id, "account_id": "main", "address": user, "password": USERS[user], "port": self.server.port,
        } | changes  # fmt: skip
        request = ConnectRequest(consent_by="tests", host="localhost", **values)
        with self.registry() as registry:
            registry.companies.add(company_id)
            registry.accounts.add(company_id, "main")
            return add_mailbox(registry, request, ConnectionTester(imap_settings(self.server), resolve, "0"))

    def fetcher(self, name: str = "fetcher", **environ: str) -> Process:
        return Process("services.fetcher", {**self.environ, **environ}, self.folder / f"{name}.log")

    def mailbox(self, mailbox_id: str, company_id: str = "c1") -> dict[str, Any]:
        with self.registry() as registry:
            return registry.mailboxes.details(company_id, mailbox_id)

    def complete(self, mailbox_id: str, since: datetime | None = None) -> bool:
        through = self.mailbox(mailbox_id)["complete_through"]
        return through is not None and (since is None or through > since)

    def sent(self) -> list[MessageSent]:
        events = [codec.decode(record.value or b"", accept=SENT_ONLY).data for record in read_all(self.kafka, SENT)]
        return [event for event in events if isinstance(event, MessageSent)]


def ports(server: Server) -> tuple[int, ...]:
    """The ports at which a mailbox on this server may be connected."""
    return (server.port, server.starttls_port) if isinstance(server, Dovecot) else (server.port,)


def imap_settings(server: Server) -> ImapSettings:
    return ImapSettings.model_validate(
        {
            "ca_file": server.ca_file,
            "allowed_private_networks": ("127.0.0.0/8", "::1/128"),
            "allowed_ports": ports(server),
        }
    )


@pytest.fixture
def make_lab(dsn: str, topics_gone: str, tmp_path: Path) -> Callable[[Server], Lab]:
    def make(server: Server) -> Lab:
        kafka = kafka_settings(topics_gone)
        create_topics(kafka)
        (tmp_path / "hash.key").write_bytes(KEY)
        (tmp_path / "vault.key").write_bytes(VAULT_KEY)
        environ = service_environ(
            tmp_path,
            kafka=kafka.bootstrap_servers,
            partitions=PARTITIONS,
            dsn=dsn,
            ca_file=server.ca_file,
            imap_ports=ports(server),
            IMAP__POLL_INTERVAL_SECONDS="0.5",
        )
        return Lab(dsn, kafka, environ, tmp_path, server)

    return make


@pytest.fixture(params=["pymap", "dovecot"])
def lab(request: pytest.FixtureRequest, make_lab: Callable[[Server], Lab]) -> Lab:
    return make_lab(request.getfixturevalue(request.param))
