"""The servers and services of one fault run. tests/faults/run.py decides what is right at the end.

Every connection between services and servers passes a FaultProxy. A service that ends is started again, as any
orchestrator would do; only exit codes that mean "nothing was lost, start me again" are accepted.
"""

import random
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from services.common import codec, migrations
from services.common.errors import EXIT_UNAVAILABLE, EXIT_UNSURE, TransientError
from services.common.hashing import Hasher
from services.common.kafka import Admin, Publisher
from services.common.postgres import connect
from services.common.settings import KafkaSettings, Settings, load_settings
from services.common.topics import INQUIRIES, specs
from services.common.version import version
from services.connect.onboarding import add_mailbox
from services.connect.requests import ConnectRequest
from services.connect.tester import ConnectionTester
from services.imap.host_policy import resolve
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.standalone.servers.assembly import Assembly
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.environment import service_environ
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.postgres import EmbeddedPostgres
from services.standalone.world.events import events
from services.standalone.world.world import World, WorldMail
from tests.faults.proxy import FaultProxy
from tests.faults.schedule import KINDS, SERVICES
from tests.support.dovecot import Dovecot
from tests.support.processes import Process

PARTITIONS = 4
LINE_SECONDS = 180.0
BROKER_SECONDS = 240.0
ACCEPTED = {EXIT_UNSURE, EXIT_UNAVAILABLE, -signal.SIGKILL}
"""How a service may end on its own or by a fault; the matcher also ends with 70 when its state is unsure."""


@dataclass
class Slot:
    """One place where a service runs: its process is replaced whenever it ends."""

    service: str
    name: str
    environ: Mapping[str, str]
    log: Path
    process: Process
    codes: list[int] = field(default_factory=list)
    frozen_until: float | None = None
    leaves_at: float | None = None


class Deployment(Assembly):
    """Starts the servers and services, and keeps the services running."""

    deck: Sequence[str] = KINDS
    """The faults that can be applied."""
    imap_host = "localhost"
    """The mail server's name in the registry."""
    resolve = staticmethod(resolve)

    def __init__(self, folder: Path, world: World, *, modules: Mapping[str, str] | None = None, store: str = "memory"):
        super().__init__()
        self.folder = folder
        self.world = world
        self.faults: dict[str, int] = {}
        self.planted = 0
        self._modules = {name: f"services.{name}" for name in SERVICES} | dict(modules or {})
        self._store = store
        self._slots: list[Slot] = []
        self._slow_until = 0.0
        self._numbers = 0
        self._lines: dict[str, int] = {}

    def _open(self) -> None:
        ca = CertificateAuthority(self.folder / "ca")
        users = {mailbox.address: mailbox.password for mailbox in self.world.mailboxes}
        self.postgres = EmbeddedPostgres(self.folder / "postgres")
        self._stack.callback(self.postgres.stop)
        self.postgres.start()
        self.dovecot = self._stack.enter_context(Dovecot(self.folder / "dovecot", users, ca, savedate=False))
        self.proxies = {"postgres": FaultProxy(self.postgres.port), "imap": FaultProxy(self.dovecot.port)}
        self.proxies["kafka"] = FaultProxy(0)
        for proxy in self.proxies.values():
            self._stack.callback(proxy.close)
        self.kafka = EmbeddedKafka(self.folder / "kafka", advertised_port=self.proxies["kafka"].port)
        self.proxies["kafka"].target = self.kafka.port
        self._stack.enter_context(self.kafka)
        self.direct_dsn = self.postgres.create_database("replyrate")
        self.settings = load_settings(self.environ())
        self.hasher, vault = Hasher(self.settings.hash_key()), Vault(self.settings.vault_key())
        self.create_topics(self.settings)
        with connect(self.direct_dsn, "faults") as connection:
            migrations.migrate(connection, lambda _: None)
            self.register(Registry(connection, self.hasher, vault), self.settings)
        self.file(self.world.mails)
        self.publisher = self._stack.enter_context(Publisher(self.settings.kafka, "faults", delivery_seconds=20))
        self._stack.callback(self._kill_all)

    @property
    def kafka_settings(self) -> KafkaSettings:
        """The broker of the topics."""
        return self.settings.kafka

    @property
    def imap_port(self) -> int:
        """The mail server's port in the registry."""
        return self.proxies["imap"].port

    def environ(self, **changes: str) -> dict[str, str]:
        """The settings of a service."""
        dsn = self.direct_dsn.replace(f":{self.postgres.port}/", f":{self.proxies['postgres'].port}/")
        environ = service_environ(
            self.folder,
            kafka=self.kafka.bootstrap_servers,
            partitions=PARTITIONS,
            dsn=dsn,
            ca_file=self.dovecot.ca_file,
            imap_ports=[self.proxies["imap"].port],
            IMAP__POLL_INTERVAL_SECONDS="2",
            FETCHER__WORKERS="2",
            FETCHER__LEASE_SECONDS="30",
            IMAP__SESSION_SECONDS="20",
            MATCHER__STORE=self._store,
            MATCHER__SESSION_TIMEOUT_SECONDS="6",
            AGGREGATOR__SESSION_TIMEOUT_SECONDS="6",
            AGGREGATOR__REFRESH_INTERVAL_SECONDS="0.5",
        )
        return {**environ, **changes}

    def create_database(self, name: str) -> str:
        """An empty database beside the one of the run; its dsn."""
        return self.postgres.create_database(name)

    def create_topics(self, settings: Settings, app_id: str = "replyrate-matcher") -> None:
        """Every topic of an installation, with the changelog of `app_id`."""
        with Admin(settings.kafka, "faults") as admin:
            admin.create_topics(specs(partitions=PARTITIONS, horizon_days=settings.horizon_days, app_id=app_id))

    def register(self, registry: Registry, settings: Settings) -> None:
        """Companies, accounts, mailboxes of the world."""
        for company in self.world.companies:
            registry.companies.add(company.company_id)
            for account in company.accounts:
                registry.accounts.add(account.company_id, account.account_id, kind=account.kind)
                registry.addresses.set(
                    account.company_id, account.account_id, "registered", account.registered_address or ""
                )
            for mailbox in company.mailboxes:
                request = ConnectRequest(
                    company_id=mailbox.company_id,
                    account_id=mailbox.account_id,
                    address=mailbox.address,
                    password=mailbox.password,
                    consent_by="faults",
                    role=mailbox.role,
                    host=self.imap_host,
                    port=self.imap_port,
                )
                add_mailbox(registry, request, ConnectionTester(settings.imap, self.resolve, version()))

    # The world

    def file(self, mails: tuple[WorldMail, ...]) -> None:
        """Put mail into the Sent folders, not through the proxy: the seller's own client uses another network."""
        by_key = {mailbox.key: mailbox for mailbox in self.world.mailboxes}
        for mail in mails:
            mailbox = by_key[mail.mailbox]
            self.dovecot.append(mailbox.address, mailbox.folder, mail.letter.render(), mail.filed_at)

    def publish_facts(self, world: World, chance: random.Random) -> None:
        """Publish the platform's facts of `world`, in any order, some of them twice."""
        records = []
        for event, at, copies in events(world, "first"):
            for copy in range(copies):
                identity = f"f{self._number()}-{copy}"
                records.append((event.company_id, codec.encode(event, id=identity, source="faults/platform", time=at)))  # type: ignore[union-attr]
        chance.shuffle(records)
        self.publish(INQUIRIES, [(company_id.encode(), value, None) for company_id, value in records])

    def publish(self, topic: str, records: Sequence[tuple[bytes, bytes | None, int | None]]) -> None:
        """Send until everything is acknowledged; a record whose acknowledgement was lost may be in the topic twice."""
        deadline = time.monotonic() + BROKER_SECONDS
        while True:
            try:
                self.publisher.wait(
                    [self.publisher.send(topic, key, value, partition=at) for key, value, at in records]
                )
                return
            except TransientError:
                assert time.monotonic() < deadline, "the broker did not come back"
                time.sleep(0.5)

    # The services

    def start(self) -> None:
        """One process of each service."""
        for service in SERVICES:
            self._slots.append(self._slot(service, service))

    def step(self) -> None:
        """Resume processes that were frozen long enough, end second workers, replace processes that ended."""
        now = time.monotonic()
        if now > self._slow_until:
            for proxy in self.proxies.values():
                proxy.delay_seconds = 0.0
        for slot in list(self._slots):
            if slot.frozen_until is not None and now >= slot.frozen_until:
                slot.frozen_until = None
                slot.process.signal(signal.SIGCONT)
            if slot.leaves_at is not None and now >= slot.leaves_at and slot.frozen_until is None:
                self._leave(slot)
            elif not slot.process.running():
                code = slot.process.wait(1)
                slot.codes.append(code)
                assert code in ACCEPTED, f"{slot.name} ended with {code}; the end of its log:\n{_tail(slot.log)}"
                slot.process = self._process(slot.service, slot.environ, slot.log)

    def rest(self, seconds: float) -> None:
        """Let the services work for `seconds`, and keep them running."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.step()
            time.sleep(0.1)

    def await_line(self, service: str, text: str) -> None:
        """Let the services work until `text` appears in the log of `service` again, more often than at the last call."""
        deadline = time.monotonic() + LINE_SECONDS
        while (count := self._first(service).log.read_text("utf-8", "replace").count(text)) <= self._lines.get(text, 0):
            assert time.monotonic() < deadline, f"{service} did not log {text!r} within {LINE_SECONDS} s"
            self.rest(0.1)
        self._lines[text] = count

    def end_faults(self) -> None:
        """End every fault: nothing is frozen or slow, and there is one process of each service."""
        self._slow_until = 0.0
        for slot in self._slots:
            slot.frozen_until = 0.0 if slot.frozen_until is not None else None
            slot.leaves_at = 0.0 if slot.leaves_at is not None else None
        self.step()
        self.step()

    def stop(self) -> dict[str, int]:
        """SIGTERM to each service; the exit codes."""
        slots, self._slots = self._slots, []
        return {slot.name: slot.process.terminate() for slot in slots}

    def logs(self) -> str:
        """The end of every service's log."""
        return "\n".join(f"--- {file.name}\n{_tail(file)}" for file in sorted(self.folder.glob("*.log")))

    def _slot(self, service: str, name: str) -> Slot:
        changes = {"REPLYRATE_MATCHER__DATA_DIR": str(self.folder / name)} if service == "matcher" else {}
        environ = self.environ(**changes)
        log = self.folder / f"{name}.log"
        return Slot(service, name, environ, log, self._process(service, environ, log))

    def _process(self, service: str, environ: Mapping[str, str], log: Path) -> Process:
        return Process(self._modules[service], environ, log)

    def _leave(self, slot: Slot) -> None:
        self._slots.remove(slot)
        code = slot.process.terminate() if slot.process.running() else slot.process.wait(1)
        # It may be ended before it had started, when it did not handle the signal yet.
        not_started = code == -signal.SIGTERM and not slot.log.read_bytes()
        assert not_started or code in {0, *ACCEPTED}, (
            f"{slot.name} left with {code}; the end of its log:\n{_tail(slot.log)}"
        )

    def _kill_all(self) -> None:
        for slot in self._slots:
            slot.process.__exit__()
        self._slots = []

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _first(self, service: str) -> Slot:
        return next(slot for slot in self._slots if slot.name == service)


def _tail(file: Path) -> str:
    return "\n".join(file.read_text("utf-8", "replace").splitlines()[-15:])


def now() -> datetime:
    """This instant, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
