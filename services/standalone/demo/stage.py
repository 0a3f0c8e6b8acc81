"""The demo's steps, the same on embedded servers and on the containers of docker-compose.yml.

1. `open`: servers, schema and topics; the companies are registered and the history is put into their mailboxes.
2. `play`: publish inquiries, start the services, wait for the first scan, publish what was answered before, change
   addresses, then send new inquiries and new mail while everything runs.
3. `read`: wait until every number is that of the recount, then read what is shown.
"""

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from services.common import codec
from services.common.errors import TransientError
from services.common.hashing import Hasher
from services.common.kafka import Publisher
from services.common.postgres import connect
from services.common.settings import Settings
from services.common.topics import INQUIRIES
from services.common.version import version
from services.connect.onboarding import add_mailbox
from services.connect.requests import ConnectRequest
from services.connect.tester import ConnectionTester
from services.imap.host_policy import resolve
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.standalone.demo import comparison, results
from services.standalone.demo.report import DemoReport
from services.standalone.servers.imap import MailClient
from services.standalone.world import cast
from services.standalone.world.events import events
from services.standalone.world.world import Wave, World, WorldMail, WorldMailbox

CLIENT_ID: Final = "replyrate-demo"
RULE_SETS: Final = ("default", "first-reply-24h")
AGREE_SECONDS: Final = 90
"""How long the first scan, and the services' numbers, may take."""
Progress = Callable[[str], None]


class DemoStage(ABC):
    """A world, and the servers and services into which it is put."""

    mail_host: str
    mail_port: int
    dsn: str
    portal_url: str = ""
    """Of the portal, where this started one."""
    _settings: Settings
    _publisher: Publisher

    def __init__(self, folder: Path, world: World, progress: Progress, stack: ExitStack) -> None:
        """What is opened is closed with `stack`."""
        self.folder = folder
        self.world = world
        self._progress = progress
        self._stack = stack
        self.mailbox_ids: dict[str, str] = {}
        """Key of a connected mailbox in the world → its id in the registry."""

    @abstractmethod
    def open(self) -> None:
        """Prepare the servers, register everybody, deliver the history."""

    @property
    @abstractmethod
    def logs(self) -> str:
        """Where the logs of the services are."""

    @abstractmethod
    def _mail_client(self) -> MailClient:
        """The sellers' side of the mail server."""

    @abstractmethod
    def _start_services(self) -> None:
        """Start the services where they do not run."""

    @abstractmethod
    def _check_services(self) -> None:
        """TransientError when a service ended."""

    @abstractmethod
    def _mail_came(self) -> None:
        """New mail is in the Sent folders: see to it that it is read soon."""

    def play(self) -> None:
        """Publish inquiries, run the services, publish what comes later, send new mail while everything runs."""
        self._progress("publishing inquiries")
        self._publish("first")
        self._start_services()
        self._await_scans()
        self._progress("publishing inquiries that were answered before they were published")
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
        with connect(self.dsn, CLIENT_ID) as connection:
            while True:
                self._check_services()
                compared = comparison.compare(connection, self.world, RULE_SETS)
                report.differences = compared.differences
                report.checked_rows, report.checked_outcomes = compared.rates, compared.outcomes
                if not report.differences or time.monotonic() > deadline:
                    break
                time.sleep(0.4)
            report.companies = results.companies(connection, self.world)
            report.histogram = results.histogram(connection)
            report.stories = results.stories(connection, self.world)
        report.postgres, report.kafka = self.dsn, self._settings.kafka.bootstrap_servers
        report.portal = self.portal_url

    def _deliver(self, mails: tuple[WorldMail, ...]) -> None:
        """Store mails in the Sent folders, each with the date at which it was filed."""
        by_key = {mailbox.key: mailbox for mailbox in self.world.mailboxes}
        client = self._mail_client()
        for mailbox in self.world.mailboxes:
            client.create(mailbox.address, mailbox.folder)
        for mail in mails:
            mailbox = by_key[mail.mailbox]
            client.append(mailbox.address, mailbox.folder, mail.letter.render(), mail.filed_at)

    @contextmanager
    def _registry(self) -> Iterator[Registry]:
        with connect(self.dsn, CLIENT_ID) as connection:
            yield Registry(connection, Hasher(self._settings.hash_key()), Vault(self._settings.vault_key()))

    def _register(self) -> None:
        """Register companies, accounts and their addresses; test and connect the mailboxes."""
        self._progress("registering companies, connecting their mailboxes")
        with self._registry() as registry:
            for company in self.world.companies:
                registry.companies.add(company.company_id)
                for account in company.accounts:
                    registry.accounts.add(
                        account.company_id, account.account_id, kind=account.kind, synced_from=account.synced_from
                    )
                    for role, address in (
                        ("registered", account.registered_address), ("backup", account.backup_address),
                    ):  # fmt: skip
                        if address is not None:
                            registry.addresses.set(account.company_id, account.account_id, role, address)
                for mailbox in company.mailboxes:
                    if mailbox.connected:
                        tester = ConnectionTester(self._settings.imap, resolve, version())
                        connected = add_mailbox(registry, self._connect_request(mailbox), tester)
                        self.mailbox_ids[mailbox.key] = connected.mailbox_id

    def _connect_request(self, mailbox: WorldMailbox) -> ConnectRequest:
        return ConnectRequest(
            company_id=mailbox.company_id,
            account_id=mailbox.account_id,
            address=mailbox.address,
            password=mailbox.password,
            consent_by="demo",
            role=mailbox.role,
            host=self.mail_host,
            port=self.mail_port,
        )

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
        """Wait until every mailbox was read once. TransientError when that takes too long."""
        deadline = time.monotonic() + AGREE_SECONDS
        company_ids = {company.company_id for company in self.world.companies}
        with self._registry() as registry:
            while True:
                self._check_services()
                mailboxes = [
                    mailbox for mailbox in registry.mailboxes.summaries() if mailbox["company_id"] in company_ids
                ]
                done = sum(mailbox["complete_through"] is not None for mailbox in mailboxes)
                seen = sum(mailbox["messages_seen"] for mailbox in mailboxes)
                self._progress(f"first scan: {done} of {len(mailboxes)} mailboxes, {seen} messages")
                if done == len(mailboxes):
                    return
                if time.monotonic() > deadline:
                    raise TransientError(f"only {done} of {len(mailboxes)} mailboxes were read; see {self.logs}")
                time.sleep(0.2)

    def _change_addresses(self) -> None:
        """What the platform does when a seller changes an address: the old mailbox is disconnected."""
        with self._registry() as registry:
            for company in self.world.companies:
                for old in company.mailboxes:
                    if old.address_changes:
                        new = next(
                            mailbox
                            for mailbox in company.mailboxes
                            if mailbox is not old and mailbox.account_id == old.account_id
                        )
                        registry.addresses.set(old.company_id, old.account_id, old.role, new.address)
