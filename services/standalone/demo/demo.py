"""The demo: a seeded world in real servers, the three real services, and rates that are checked before they are shown.

`run` returns a Report; services.cli.play.demo shows it. Nothing is counted here: every figure comes from the views and the
registry, and the recount of services.standalone.demo.oracle must agree with them first.
"""

import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from services.aggregator.doctor import diagnosis
from services.aggregator.judge.rules import load_builtin
from services.common import codec, migrations
from services.common.errors import TransientError
from services.common.events import Buyer, Event, InquiryReceived, ReplyRecorded, StatusChanged
from services.common.hashing import Hasher
from services.common.kafka import Admin, Publisher
from services.common.postgres import clock, connect
from services.common.settings import load_settings
from services.common.topics import INQUIRIES, specs
from services.common.version import version
from services.connect.onboarding import ConnectionTester, ConnectRequest, add_mailbox
from services.imap.session import resolve
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.standalone.demo import recount
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.imap import EmbeddedImap, MailClient
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.postgres import EmbeddedPostgres, scratch_folder
from services.standalone.servers.supervisor import Supervisor
from services.standalone.world import cast
from services.standalone.world.world import Wave, World, WorldMail

PARTITIONS = 4
RULE_SETS = ("default", "first-reply-24h")
AGREE_SECONDS = 90
Progress = Callable[[str], None]


@dataclass(slots=True)
class DemoReport:
    """What the demo found, all of it read from the views and the registry."""

    companies: list[dict[str, Any]] = field(default_factory=list)
    histogram: list[dict[str, Any]] = field(default_factory=list)
    stories: list[dict[str, Any]] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    checked_rows: int = 0
    checked_outcomes: int = 0
    seconds: float = 0
    postgres: str = ""
    kafka: str = ""
    folder: str = ""


def run(
    *, seed: int, progress: Progress, keep: Callable[[DemoReport], None] | None = None, folder: Path | None = None
) -> DemoReport:
    """Run the world once. With `keep` everything stays up until that returns. TransientError when something fails."""
    began = time.monotonic()
    place = folder or scratch_folder("replyrate-demo-")
    report = DemoReport(folder=str(place))
    try:
        with ExitStack() as stack:
            now = datetime.now(UTC).replace(microsecond=0)
            stage = DemoStage(place, cast.build(seed, now), progress, stack)
            stage.open()
            stage.play()
            stage.read(report)
            report.seconds = time.monotonic() - began
            if keep is not None:
                keep(report)
            progress("stopping the services")
    finally:
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)
    return report


class DemoStage:
    """The servers, the services, and the world that is put into them."""

    mail_host = "localhost"

    def __init__(self, folder: Path, world: World, progress: Progress, stack: ExitStack) -> None:
        self.folder = folder
        self.world = world
        self._progress = progress
        self._stack = stack
        self._ids: dict[str, str] = {}

    def open(self) -> None:
        """Start the servers side by side, make schema and topics, register everybody, deliver the history."""
        self._progress("starting Postgres, Kafka and the mail server")
        ca = CertificateAuthority(self.folder / "ca")
        users = {mailbox.address: mailbox.password for mailbox in self.world.mailboxes}
        self.postgres = EmbeddedPostgres(self.folder / "postgres")
        self.kafka = EmbeddedKafka(self.folder / "kafka")
        self.imap = EmbeddedImap(self.folder / "imap", users, ca)
        self.mail_port = self.imap.port
        with ThreadPoolExecutor(3) as pool:
            started = [pool.submit(server.start) for server in (self.postgres, self.kafka, self.imap)]
            for server in (self.postgres, self.kafka, self.imap):
                self._stack.callback(server.stop)
        for start in started:
            start.result()
        self.dsn = self.postgres.create_database("replyrate")
        self._settings = load_settings(self._environ())
        self._hasher, self._vault = Hasher(self._settings.hash_key()), Vault(self._settings.vault_key())
        with ThreadPoolExecutor(2) as pool:
            mail = pool.submit(self._deliver, self.world.mails)
            topics = pool.submit(self._create_topics)
            self._progress("making the schema and the topics, filling the mailboxes")
            with connect(self.dsn, "replyrate-demo") as connection:
                migrations.migrate(connection, lambda _: None)
            topics.result()
            mail.result()
        self._publisher = self._stack.enter_context(Publisher(self._settings.kafka, "replyrate-demo"))
        self._register()

    def play(self) -> None:
        """Inquiries, the services, what comes later, and new mail while everything runs."""
        self._progress("publishing inquiries")
        self._publish("first")
        self._start_services()
        self._await_scans()
        self._progress("publishing inquiries that were answered before we heard of them")
        self._publish("second")
        self._change_addresses()
        self._progress("new inquiries, and new mail in the Sent folders")
        live = cast.build_live(self.world, datetime.now(UTC))
        self.world = self.world.joined(live)
        self._publish("live")
        self._deliver(live.mails)
        self._mail_came()

    def read(self, report: DemoReport) -> None:
        """Wait until views and recount agree; then read what is shown."""
        self._progress("comparing every number with the recount")
        deadline = time.monotonic() + AGREE_SECONDS
        with connect(self.dsn, "replyrate-demo") as connection:
            while True:
                self._check_services()
                found = recount.compare(connection, self.world, RULE_SETS)
                report.differences, report.checked_rows, report.checked_outcomes = (
                    found.differences, found.rates, found.outcomes,
                )  # fmt: skip
                if not report.differences or time.monotonic() > deadline:
                    break
                time.sleep(0.4)
            report.companies = self._companies(connection)
            report.histogram = recount.rows(connection, HISTOGRAM)
            report.stories = self._stories(connection)
        report.postgres, report.kafka = self.dsn, self._settings.kafka.bootstrap_servers

    @property
    def logs(self) -> str:
        """Where to look when something does not come."""
        return f"{self.folder}/services"

    def _start_services(self) -> None:
        self._progress("starting fetcher, matcher and aggregator")
        self.supervisor = self._stack.enter_context(Supervisor(self.folder / "services", self._environ()))
        self.supervisor.start()

    def _check_services(self) -> None:
        self.supervisor.check()

    def _mail_came(self) -> None:
        """Nothing to do: the next poll is two seconds away."""

    def _environ(self) -> dict[str, str]:
        for name in ("hash.key", "vault.key"):
            file = self.folder / name
            if not file.exists():
                file.touch(mode=0o600)
                file.write_bytes(secrets.token_bytes(32))
        return {
            "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "REPLYRATE_KAFKA__PARTITIONS": str(PARTITIONS),
            "REPLYRATE_POSTGRES__DSN": self.dsn,
            "REPLYRATE_HASH_KEY_FILE": str(self.folder / "hash.key"),
            "REPLYRATE_VAULT_KEY_FILE": str(self.folder / "vault.key"),
            "REPLYRATE_IMAP__CA_FILE": str(self.imap.ca_file),
            "REPLYRATE_IMAP__ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128",
            "REPLYRATE_IMAP__ALLOWED_PORTS": str(self.imap.port),
            "REPLYRATE_IMAP__LOGINS_PER_HOUR": "1000000",
            "REPLYRATE_IMAP__POLL_INTERVAL_SECONDS": "2",
            "REPLYRATE_FETCHER__WORKERS": "4",
            "REPLYRATE_MATCHER__STORE": "memory",
            "REPLYRATE_MATCHER__DATA_DIR": str(self.folder / "matcher"),
            "REPLYRATE_AGGREGATOR__REFRESH_INTERVAL_SECONDS": "0.3",
        }

    def _create_topics(self) -> None:
        with Admin(self._settings.kafka, "replyrate-demo") as admin:
            admin.create_topics(specs(partitions=PARTITIONS, horizon_days=self._settings.horizon_days))

    def _deliver(self, mails: tuple[WorldMail, ...]) -> None:
        by_key = {mailbox.key: mailbox for mailbox in self.world.mailboxes}
        client = self._mail_client()
        for mailbox in self.world.mailboxes:
            client.create(mailbox.address, mailbox.folder)
        for mail in mails:
            mailbox = by_key[mail.mailbox]
            client.append(mailbox.address, mailbox.folder, mail.letter.render(), mail.filed_at)

    def _mail_client(self) -> MailClient:
        return self.imap.client

    @contextmanager
    def _registry(self) -> Iterator[Registry]:
        with connect(self.dsn, "replyrate-demo") as connection:
            yield Registry(connection, self._hasher, self._vault)

    def _register(self) -> None:
        self._progress("registering companies, connecting their mailboxes")
        with self._registry() as registry:
            for company in self.world.companies:
                registry.add_company(company.company_id)
                for account in company.accounts:
                    registry.add_account(
                        account.company_id, account.account_id, kind=account.kind, synced_from=account.synced_from
                    )
                    for role, address in (
                        ("registered", account.registered_address), ("backup", account.backup_address),
                    ):  # fmt: skip
                        if address is not None:
                            registry.set_address(account.company_id, account.account_id, role, address)
                for mailbox in company.mailboxes:
                    if mailbox.connected:
                        request = ConnectRequest(
                            company_id=mailbox.company_id,
                            account_id=mailbox.account_id,
                            address=mailbox.address,
                            password=mailbox.password,
                            consent_by="demo",
                            role=mailbox.role,
                            host=self.mail_host,
                            port=self.mail_port,
                        )
                        connected = add_mailbox(
                            registry, request, ConnectionTester(self._settings.imap, resolve, version())
                        )
                        self._ids[mailbox.key] = connected.mailbox_id

    def _publish(self, wave: Wave) -> None:
        """The platform's facts of a wave, some of them more than once."""
        sent = []
        for event, at, copies in events(self.world, wave):
            for _ in range(copies):
                identity = f"demo-{secrets.token_hex(8)}"
                value = codec.encode(event, id=identity, source="demo/platform", time=at)
                sent.append(self._publisher.send(INQUIRIES, event.company_id.encode(), value))  # type: ignore[union-attr]
        self._publisher.wait(sent)

    def _await_scans(self) -> None:
        deadline = time.monotonic() + AGREE_SECONDS
        ours = {company.company_id for company in self.world.companies}
        with self._registry() as registry:
            while True:
                self._check_services()
                shown = [one for one in registry.mailboxes() if one["company_id"] in ours]
                done = sum(mailbox["complete_through"] is not None for mailbox in shown)
                seen = sum(mailbox["messages_seen"] for mailbox in shown)
                self._progress(f"first scan: {done} of {len(shown)} mailboxes, {seen} messages")
                if done == len(shown):
                    return
                if time.monotonic() > deadline:
                    raise TransientError(f"only {done} of {len(shown)} mailboxes were read; see {self.logs}")
                time.sleep(0.2)

    def _change_addresses(self) -> None:
        with self._registry() as registry:
            for company in self.world.companies:
                for old in company.mailboxes:
                    if old.address_changes:
                        new = next(
                            one for one in company.mailboxes if one is not old and one.account_id == old.account_id
                        )
                        registry.set_address(old.company_id, old.account_id, old.role, new.address)

    def _companies(self, connection: psycopg.Connection) -> list[dict[str, Any]]:
        titles = {company.company_id: company for company in self.world.companies}
        rows = recount.rows(
            connection, "SELECT * FROM report_v1.reply_rate_latest WHERE level = 'company' ORDER BY company_id"
        )
        return [
            {**row, "title": titles[row["company_id"]].title, "story": titles[row["company_id"]].story}
            for row in rows
            if row["company_id"] in titles
        ]

    def _stories(self, connection: psycopg.Connection) -> list[dict[str, Any]]:
        figures = {row["company_id"]: row for row in recount.rows(connection, STORIES)}
        looked = diagnosis.look(connection, load_builtin("default"), list(figures), clock(connection))
        found = {one.company_id: one.findings for one in looked if not one.account_id}
        return [
            {
                "title": company.title, "story": company.story, **figures[company.company_id],
                "diagnosis": [
                    {"cause": one.cause, "confidence": one.confidence, "title": diagnosis.title(one, "en")}
                    for one in found.get(company.company_id, ())
                ],
            }
            for company in self.world.companies
        ]  # fmt: skip


HISTOGRAM = """
SELECT bucket, label, sum(answered)::bigint AS answered
FROM report_v1.reply_time_histogram JOIN report_v1.reply_rate_latest USING (rule_set, level, company_id, as_of)
WHERE rule_set = 'default' AND level = 'company' GROUP BY bucket, label ORDER BY bucket
"""
STORIES = """
SELECT c.company_id,
    (SELECT count(*) FROM report_v1.mailbox_health h WHERE h.company_id = c.company_id) AS mailboxes,
    (SELECT string_agg(DISTINCT h.state || coalesce(' (' || h.state_reason || ')', ''), ', ')
        FROM report_v1.mailbox_health h WHERE h.company_id = c.company_id) AS mailbox_states,
    (SELECT string_agg(a.role || CASE WHEN EXISTS (
            SELECT FROM registry.mailboxes m WHERE m.company_id = a.company_id AND m.account_id = a.account_id
                AND m.role = a.role AND m.address_hash = a.address_hash AND m.state = 'active'
        ) THEN ' connected' ELSE ' not connected' END, ', ' ORDER BY a.role DESC)
        FROM registry.addresses a WHERE a.company_id = c.company_id) AS addresses,
    (SELECT jsonb_object_agg(k.kind, k.messages) FROM (
        SELECT kind, sum(messages) AS messages FROM registry.message_counts m
        WHERE m.company_id = c.company_id GROUP BY kind) k) AS seen,
    (SELECT count(DISTINCT r.reply_id) FROM ledger.replies r
        WHERE r.company_id = c.company_id AND r.source = 'mail') AS matched,
    (SELECT count(DISTINCT r.reply_id) FROM ledger.replies r
        WHERE r.company_id = c.company_id AND r.source = 'platform') AS platform_replies,
    (SELECT max(h.complete_through) FROM report_v1.mailbox_health h WHERE h.company_id = c.company_id) AS complete_through,
    (SELECT min(synced_by_platform_from) FROM registry.accounts a WHERE a.company_id = c.company_id) AS synced_from,
    (SELECT rate FROM report_v1.reply_rate_latest l
        WHERE l.company_id = c.company_id AND l.level = 'company' AND l.rule_set = 'default') AS rate
FROM registry.companies c ORDER BY c.company_id
"""


def events(world: World, wave: Wave) -> Iterator[tuple[Event, datetime, int]]:
    """(event, its time, how often it is published)."""
    for asked in world.inquiries:
        if asked.wave == wave:
            buyer = Buyer(id=asked.buyer_id, addresses=asked.addresses, region=asked.region)
            event = InquiryReceived(
                company_id=asked.company_id, account_id=asked.account_id, inquiry_id=asked.inquiry_id,
                received_at=asked.received_at, buyer=buyer, message_ids=asked.message_ids,
                reply_addresses=asked.reply_addresses,
            )  # fmt: skip
            yield event, asked.received_at, asked.copies
    for mark in world.statuses:
        if mark.wave == wave:
            status = StatusChanged(
                company_id=mark.company_id, inquiry_id=mark.inquiry_id, status=mark.status, at=mark.at,
                account_id=mark.account_id,
            )  # fmt: skip
            yield status, mark.at, 1
    for reply in world.platform_replies:
        if reply.wave == wave:
            recorded = ReplyRecorded(
                company_id=reply.company_id, account_id=reply.account_id, inquiry_id=reply.inquiry_id,
                reply_id=reply.reply_id, replied_at=reply.replied_at, channel="mail", automatic=reply.automatic,
            )  # fmt: skip
            yield recorded, reply.replied_at, 1
