"""The servers, the services and the faults of one run. What is right at the end is decided in tests/faults/run.py.

Every connection between services and servers passes a FaultProxy. A service that ends is started again, as any
orchestrator would; only exit codes that promise "nothing was lost, start me again" are accepted.
"""

import base64
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg

from services.common import codec, migrations
from services.common.errors import EXIT_UNAVAILABLE, EXIT_UNSURE, TransientError
from services.common.hashing import Hasher
from services.common.kafka import Admin, Publisher
from services.common.postgres import connect
from services.common.settings import KafkaSettings, Settings, load_settings
from services.common.topics import DEAD, INQUIRIES, REPLIES, SENT, specs
from services.common.version import version
from services.connect.onboarding import ConnectionTester, ConnectRequest, add_mailbox
from services.imap.host_policy import resolve
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.postgres import EmbeddedPostgres
from services.standalone.world.events import events
from services.standalone.world.world import World, WorldMail
from tests.faults.proxy import FaultProxy
from tests.faults.schedule import KINDS, SERVICES, Fault
from tests.support.dovecot import Dovecot
from tests.support.processes import Process
from tests.support.topics import read_all

PARTITIONS = 4
FREEZE_SECONDS = 10.0
LINE_SECONDS = 180.0
BROKER_SECONDS = 240.0
ACCEPTED = {EXIT_UNSURE, EXIT_UNAVAILABLE, -signal.SIGKILL}
"""How a service may end by itself or by our hand; the matcher also ends with 70 when it cannot know."""

MARK: Final = b"poison"
POISON: Mapping[str, tuple[bytes, ...]] = {
    INQUIRIES: (b'{"poison": "%s"', b'{"poison": "%s", "specversion": "1.0"}', b"\xff\xfe %s"),
    SENT: (b'{"poison": "%s"', b'{"poison": "%s", "specversion": "1.0", "type": "replyrate.message-sent.v2"}'),
    REPLIES: (b'{"poison": "%s"', b"not even json: %s"),
}


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


class Arena:
    """Starts everything, applies faults, keeps the services up. A context manager."""

    deck: Sequence[str] = KINDS
    """The faults that it knows."""
    imap_host = "localhost"
    """The mail server's name in the registry."""
    resolve = staticmethod(resolve)

    def __init__(self, folder: Path, world: World, *, modules: Mapping[str, str] | None = None, store: str = "memory"):
        self.folder = folder
        self.world = world
        self.faults: dict[str, int] = {}
        self.planted = 0
        self._modules = {name: f"services.{name}" for name in SERVICES} | dict(modules or {})
        self._store = store
        self._slots: list[Slot] = []
        self._stack = ExitStack()
        self._slow_until = 0.0
        self._numbers = 0
        self._lines: dict[str, int] = {}

    def __enter__(self) -> "Arena":
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

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
        """Where the topics are."""
        return self.settings.kafka

    @property
    def imap_port(self) -> int:
        """The mail server's port in the registry."""
        return self.proxies["imap"].port

    def environ(self, **changes: str) -> dict[str, str]:
        """The settings of a service."""
        for name in ("hash.key", "vault.key"):
            file = self.folder / name
            if not file.exists():
                file.write_bytes(secrets.token_bytes(32))
        dsn = self.direct_dsn.replace(f":{self.postgres.port}/", f":{self.proxies['postgres'].port}/")
        return {
            "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "REPLYRATE_KAFKA__PARTITIONS": str(PARTITIONS),
            "REPLYRATE_POSTGRES__DSN": dsn,
            "REPLYRATE_HASH_KEY_FILE": str(self.folder / "hash.key"),
            "REPLYRATE_VAULT_KEY_FILE": str(self.folder / "vault.key"),
            "REPLYRATE_IMAP__CA_FILE": str(self.dovecot.ca_file),
            "REPLYRATE_IMAP__ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128",
            "REPLYRATE_IMAP__ALLOWED_PORTS": str(self.proxies["imap"].port),
            "REPLYRATE_IMAP__POLL_INTERVAL_SECONDS": "2",
            "REPLYRATE_FETCHER__WORKERS": "2",
            "REPLYRATE_FETCHER__LEASE_SECONDS": "30",
            "REPLYRATE_MATCHER__STORE": self._store,
            "REPLYRATE_MATCHER__DATA_DIR": str(self.folder / "matcher"),
            "REPLYRATE_MATCHER__SESSION_TIMEOUT_SECONDS": "6",
            "REPLYRATE_AGGREGATOR__SESSION_TIMEOUT_SECONDS": "6",
            "REPLYRATE_AGGREGATOR__REFRESH_INTERVAL_SECONDS": "0.5",
            **changes,
        }

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

    # What the world does

    def file(self, mails: tuple[WorldMail, ...]) -> None:
        """Put mail into the Sent folders, past the proxy: the seller's own client has a network of its own."""
        by_key = {mailbox.key: mailbox for mailbox in self.world.mailboxes}
        for mail in mails:
            mailbox = by_key[mail.mailbox]
            self.dovecot.append(mailbox.address, mailbox.folder, mail.letter.render(), mail.filed_at)

    def tell(self, world: World, chance: random.Random) -> None:
        """Publish the platform's facts of `world`, in any order, some of them twice."""
        records = []
        for event, at, copies in events(world, "first"):
            for copy in range(copies):
                identity = f"f{self._number()}-{copy}"
                records.append((event.company_id, codec.encode(event, id=identity, source="faults/platform", time=at)))  # type: ignore[union-attr]
        chance.shuffle(records)
        self.publish(INQUIRIES, [(company_id.encode(), value, None) for company_id, value in records])

    def publish(self, topic: str, records: Sequence[tuple[bytes, bytes | None, int | None]]) -> None:
        """Send until everything is acknowledged; what was sent in vain may stand in the topic all the same."""
        deadline = time.monotonic() + BROKER_SECONDS
        while True:
            try:
                self.publisher.wait(
                    [self.publisher.send(topic, key, value, partition=at) for key, value, at in records]
                )
                return
            except TransientError:
                assert time.monotonic() < deadline, "the broker does not come back"
                time.sleep(0.5)

    # The services

    def start(self) -> None:
        """One process of each service."""
        for service in SERVICES:
            self._slots.append(self._slot(service, service))

    def step(self) -> None:
        """Wake what is frozen long enough, end second workers, replace what ended."""
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
        """Let the services work, and keep them up."""
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

    def calm(self) -> None:
        """No fault is left in force: nothing frozen, nothing slow, one process of each service."""
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
        # One that was told to leave before it had begun: nobody listened to the signal yet.
        unborn = code == -signal.SIGTERM and not slot.log.read_bytes()
        assert unborn or code in {0, *ACCEPTED}, f"{slot.name} left with {code}; the end of its log:\n{_tail(slot.log)}"

    def _kill_all(self) -> None:
        for slot in self._slots:
            slot.process.__exit__()
        self._slots = []

    def _first(self, service: str) -> Slot:
        return next(slot for slot in self._slots if slot.name == service)

    # The faults

    def hit(self, fault: Fault) -> None:
        """Apply one fault."""
        name, _, target = fault.kind.partition("-")
        chance = random.Random(fault.dice)
        self._deeds()[name](target, chance)
        self.faults[fault.kind] = self.faults.get(fault.kind, 0) + 1

    def _deeds(self) -> dict[str, Callable[[str, random.Random], None]]:
        """The first word of a fault's kind → what it does, given the rest of the kind and dice."""
        return {
            "kill": self._kill,
            "freeze": self._freeze,
            "second": self._second,
            "reset": self._reset,
            "slow": self._slow,
            "restart": self._restart,
            "lossy": self._lossy,
            "recreate": self._recreate,
            "delete": self._delete,
            "republish": self._republish,
            "poison": self._poison,
        }

    def _kill(self, service: str, _: random.Random) -> None:
        if service == "kafka":
            self.kafka.kill()
            self.kafka.start()
            return
        self._first(service).process.kill()

    def _freeze(self, service: str, _: random.Random) -> None:
        """Stand still for longer than the session or the lease lasts, while a second worker takes over."""
        slot = self._first(service)
        if slot.frozen_until is not None or not slot.process.running():
            return
        slot.process.signal(signal.SIGSTOP)
        slot.frozen_until = time.monotonic() + FREEZE_SECONDS
        if service == "fetcher":
            # Its leases last 30 s, the frost 10: they end now, as if the frost had been longer.
            with connect(self.direct_dsn, "faults") as connection:
                connection.execute("UPDATE registry.mailboxes SET lease_until = clock_timestamp()")
        self._second(service, random.Random(0))

    def _second(self, service: str, chance: random.Random) -> None:
        second = self._slot(service, f"{service}-{self._number()}")
        second.leaves_at = time.monotonic() + max(FREEZE_SECONDS + 2 if chance.random() > 0.8 else 6, 6)
        self._slots.append(second)

    def _reset(self, what: str, chance: random.Random) -> None:
        if what == "uidvalidity":
            mailbox = chance.choice(self.world.mailboxes)
            self.dovecot.stop()
            self.dovecot.reset_uidvalidity(mailbox.address, mailbox.folder)
            self.dovecot.start()
            return
        for proxy in self.proxies.values():
            proxy.reset()

    def _slow(self, _: str, chance: random.Random) -> None:
        for proxy in self.proxies.values():
            proxy.delay_seconds = chance.uniform(0.01, 0.08)
        self._slow_until = time.monotonic() + chance.uniform(3, 6)

    def _restart(self, _: str, chance: random.Random) -> None:
        """Immediate stop: no checkpoint, every session cut."""
        assert self.postgres.pid is not None
        os.kill(self.postgres.pid, signal.SIGQUIT)
        time.sleep(chance.uniform(0.2, 1.5))
        self._postgres_again()

    def _lossy(self, _: str, chance: random.Random) -> None:
        """The primary is gone for good; its replica, which takes over, lacks the last commits."""
        assert self.postgres.pid is not None
        os.kill(self.postgres.pid, signal.SIGQUIT)
        self.postgres.stop()
        cluster, replica = self.folder / "postgres" / "cluster", self.folder / "postgres" / "replica"
        subprocess.run(["cp", "-a", str(cluster), str(replica)], check=True)
        self.postgres.start()
        self.rest(chance.uniform(1.5, 4))
        self.postgres.kill()
        shutil.rmtree(cluster)
        replica.rename(cluster)
        self._postgres_again()

    def _postgres_again(self) -> None:
        self.postgres.stop()
        self.postgres.start()

    def _recreate(self, _: str, chance: random.Random) -> None:
        """The folder is deleted and made again with the same mail: all UIDs are other ones."""
        mailbox = chance.choice(self.world.mailboxes)
        self.dovecot.client.delete_folder(mailbox.address, mailbox.folder)
        self.file(tuple(mail for mail in self.world.mails if mail.mailbox == mailbox.key))

    def _delete(self, _: str, __: random.Random) -> None:
        """The matcher and everything it kept on its disk."""
        slot = self._first("matcher")
        slot.process.kill()
        shutil.rmtree(slot.environ["REPLYRATE_MATCHER__DATA_DIR"], ignore_errors=True)

    def _republish(self, _: str, chance: random.Random) -> None:
        """What stands in both topics, a part of it once more and in another order."""
        for topic in (INQUIRIES, SENT):
            records = [record for record in read_all(self.kafka_settings, topic) if not _planted(record.key)]
            again = chance.sample(records, min(len(records), 400))
            self.publish(topic, [(record.key or b"", record.value, record.partition) for record in again])

    def _poison(self, _: str, chance: random.Random) -> None:
        """One bad record at every place of a batch of five good ones, in each topic that is read."""
        for topic, forms in POISON.items():
            good = [record for record in read_all(self.kafka_settings, topic) if not _planted(record.key)]
            partition = chance.choice(good).partition if good else 0
            neighbours = [
                (record.key or b"", record.value, record.partition) for record in good if record.partition == partition
            ][:5]
            batch: list[tuple[bytes, bytes | None, int | None]] = []
            for place in range(len(neighbours) + 1):
                marker = f"{self._number()}"
                batch.append((MARK, chance.choice(forms).replace(b"%s", marker.encode()), partition))
                batch += neighbours[place : place + 1]
                self.planted += 1
            self.publish(topic, batch)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    # What came of it

    def poison_differences(self) -> list[str]:
        """Dead letters must name exactly the positions of the poison."""
        planted: set[tuple[str, int, int]] = set()
        for topic in POISON:
            planted |= {
                (topic, record.partition, record.offset)
                for record in read_all(self.kafka_settings, topic)
                if _planted(record.key)
            }
        letters = [json.loads(record.value or b"{}")["data"] for record in read_all(self.kafka_settings, DEAD)]
        lettered = {(letter.get("topic"), letter.get("partition"), letter.get("offset")) for letter in letters}
        assert len(planted) >= self.planted
        wrong = [f"poison at {place} has no dead letter" for place in sorted(planted - lettered)]
        wrong += [f"a dead letter for {place}: {_reason(letters, place)}" for place in lettered - planted]
        return wrong


def _planted(key: bytes | None) -> bool:
    return key == MARK


def _reason(letters: list[dict[str, object]], place: tuple[object, ...]) -> str:
    letter = next(
        letter for letter in letters if (letter.get("topic"), letter.get("partition"), letter.get("offset")) == place
    )
    value = base64.b64decode(str(letter.get("value") or ""))[:200]
    return f"{letter.get('reason')}: {letter.get('detail')} {value!r}"


def _tail(file: Path) -> str:
    return "\n".join(file.read_text("utf-8", "replace").splitlines()[-15:])


def differences_of(connection: psycopg.Connection) -> list[str]:
    """What must hold of the tables whatever happened; a sentence for each query that finds a row."""
    wrong = []
    for name, statement in INVARIANTS.items():
        rows = connection.execute(statement.encode()).fetchall()
        wrong += [f"{name}: {violation}" for violation in rows[:5]]
    return wrong


INVARIANTS = {
    "counts of a rate do not add up": """
        SELECT company_id, as_of, account_id FROM report_v1.reply_rate
        WHERE counted <> timely + late + unanswered OR timely > counted OR excluded > inquiries
            OR rate IS DISTINCT FROM CASE WHEN rate IS NOT NULL THEN timely::numeric / counted END
            OR rate NOT BETWEEN 0 AND 1 OR coverage NOT BETWEEN 0 AND 1""",
    "two versions of one rate hold": """
        SELECT rule_set, level, company_id, account_id, as_of FROM ledger.rates WHERE valid_to IS NULL
        GROUP BY 1, 2, 3, 4, 5 HAVING count(*) > 1""",
    "a rate of a company is not the sum of its accounts": """
        SELECT c.company_id, c.as_of, a.* FROM report_v1.reply_rate c, LATERAL (
            SELECT sum(a.timely) AS timely, sum(a.late) AS late, sum(a.unanswered) AS unanswered,
                sum(a.unmeasured) AS unmeasured, sum(a.pending) AS pending, sum(a.inquiries) AS inquiries
            FROM report_v1.reply_rate a WHERE a.level = 'account'
                AND (a.rule_set, a.company_id, a.as_of) = (c.rule_set, c.company_id, c.as_of)) a
        WHERE c.level = 'company' AND (c.timely, c.late, c.unanswered, c.unmeasured, c.pending, c.inquiries)
            IS DISTINCT FROM (a.timely, a.late, a.unanswered, a.unmeasured, a.pending, a.inquiries)""",
    "a unit's first inquiry is not in it": """
        SELECT o.company_id, o.inquiry_id FROM report_v1.inquiry_outcomes o
        WHERE o.outcome = 'merged' AND NOT EXISTS (
            SELECT FROM report_v1.inquiry_outcomes f
            WHERE (f.rule_set, f.company_id, f.inquiry_id, f.unit_inquiry_id)
                = (o.rule_set, o.company_id, o.unit_inquiry_id, o.unit_inquiry_id))""",
    "a reply precedes its inquiry": """
        SELECT r.company_id, r.inquiry_id FROM ledger.replies r JOIN ledger.inquiries i USING (company_id, inquiry_id)
        WHERE r.source = 'mail' AND r.replied_at < i.received_at - interval '300 s'""",
    "a reply belongs to another company": """
        SELECT r.company_id, r.mailbox_id FROM ledger.replies r JOIN registry.mailboxes m USING (mailbox_id)
        WHERE m.company_id <> r.company_id""",
    "a mailbox is complete for the future": """
        SELECT mailbox_id FROM registry.mailboxes WHERE complete_through > clock_timestamp()""",
}


def now() -> datetime:
    """This instant, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
