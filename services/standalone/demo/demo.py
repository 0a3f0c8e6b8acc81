"""The demo on embedded servers: a seeded world, the real services, and rates that are checked before they are shown.

`run` returns a report; services.standalone.demo.report prints it. Nothing is counted here: every figure comes from the
views and the registry, and must first agree with the recount (services.standalone.demo.comparison).
"""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from services.common import migrations
from services.common.kafka import Admin, Publisher
from services.common.postgres import connect
from services.common.settings import load_settings
from services.common.topics import specs
from services.registry.staff_sessions import StaffSessions
from services.standalone.demo.connect_offer import make_offer
from services.standalone.demo.report import DemoReport
from services.standalone.demo.stage import CLIENT_ID, DemoStage, Progress
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.child import free_port
from services.standalone.servers.environment import service_environ
from services.standalone.servers.imap import EmbeddedImap, MailClient
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.portal_login import console_environ, portal_environ, portal_origin
from services.standalone.servers.postgres import EmbeddedPostgres, scratch_folder
from services.standalone.servers.server import start_together
from services.standalone.servers.supervisor import Supervisor
from services.standalone.world import cast

PARTITIONS: Final = 4


def run(
    *, seed: int, progress: Progress, keep: Callable[[DemoReport], None] | None = None, folder: Path | None = None
) -> DemoReport:
    """Run the world once. With `keep` everything stays up until that returns. TransientError when something fails."""
    started = time.monotonic()
    place = folder or scratch_folder("replyrate-demo-")
    report = DemoReport(folder=str(place))
    try:
        with ExitStack() as stack:
            now = datetime.now(UTC).replace(microsecond=0)
            stage = EmbeddedStage(place, cast.build(seed, now), progress, stack)
            stage.open()
            stage.play()
            stage.read(report)
            report.seconds = time.monotonic() - started
            if keep is not None:
                report.connect_offer = make_offer(
                    stage.dsn, stage.world, stage.portal_url, stage.mail_host, stage.mail_port
                )
                report.console_link = stage.open_console()
                keep(report)
            progress("stopping the services")
    finally:
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)
    return report


class EmbeddedStage(DemoStage):
    """The demo's world on servers that are started for it."""

    mail_host = "localhost"

    def open(self) -> None:
        """Start the servers side by side, create schema and topics, register everybody, deliver the history."""
        self._progress("starting Postgres, Kafka and the mail server")
        ca = CertificateAuthority(self.folder / "ca")
        users = {mailbox.address: mailbox.password for mailbox in self.world.mailboxes}
        self.postgres = EmbeddedPostgres(self.folder / "postgres")
        self.kafka = EmbeddedKafka(self.folder / "kafka")
        self.imap = EmbeddedImap(self.folder / "imap", users, ca)
        self.mail_port = self.imap.port
        start_together(self._stack, self.postgres, self.kafka, self.imap)
        self.dsn = self.postgres.create_database("replyrate")
        self._settings = load_settings(self.environ())
        with ThreadPoolExecutor(2) as pool:
            mail = pool.submit(self._deliver, self.world.mails)
            topics = pool.submit(self._create_topics)
            self._progress("creating the schema and the topics, filling the mailboxes")
            with connect(self.dsn, CLIENT_ID) as connection:
                migrations.migrate(connection, lambda _: None)
            topics.result()
            mail.result()
        self._publisher = self._stack.enter_context(Publisher(self._settings.kafka, CLIENT_ID))
        self._register()

    @property
    def logs(self) -> str:
        return f"{self.folder}/services"

    def _mail_client(self) -> MailClient:
        return self.imap.client

    def _start_services(self) -> None:
        self._progress("starting fetcher, matcher, aggregator and portal")
        port, environ = free_port(), self.environ()
        self.portal_url = portal_origin(port)
        self.supervisor = self._stack.enter_context(
            Supervisor(self.folder / "services", environ, portal_environ(environ, self.dsn, port))
        )
        self.supervisor.start()

    def open_console(self) -> str:
        """Start the staff console; a link that opens it as an operator."""
        port = free_port()
        self.supervisor.start_console(console_environ(self.environ(), self.dsn, port))
        with connect(self.dsn, CLIENT_ID) as connection:
            return StaffSessions(connection).make_link("operator", "Demo").url(portal_origin(port))

    def _check_services(self) -> None:
        self.supervisor.check()

    def _mail_came(self) -> None:
        """Nothing to do: the next poll is two seconds away."""

    def environ(self) -> dict[str, str]:
        """The settings of the services; the keys are created with the first call."""
        return service_environ(
            self.folder,
            kafka=self.kafka.bootstrap_servers,
            partitions=PARTITIONS,
            dsn=self.dsn,
            ca_file=self.imap.ca_file,
            imap_ports=[self.imap.port],
            IMAP__LOGINS_PER_HOUR="1000000",
            IMAP__POLL_INTERVAL_SECONDS="2",
            FETCHER__WORKERS="4",
            AGGREGATOR__REFRESH_INTERVAL_SECONDS="0.3",
        )

    def _create_topics(self) -> None:
        with Admin(self._settings.kafka, CLIENT_ID) as admin:
            admin.create_topics(specs(partitions=PARTITIONS, horizon_days=self._settings.horizon_days))
