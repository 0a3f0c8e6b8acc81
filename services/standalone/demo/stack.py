"""The demo on the containers of docker-compose.yml, profile `demo`: the same world, on the services of the stack.

`python -m services.standalone.demo.stack mail FOLDER` is the mail server with the sellers' mailboxes; the certificate
of its authority goes into FOLDER, where fetcher and command line look for it. `… play` registers everybody, fills the
mailboxes, publishes the inquiries, compares every number with the recount and prints the rates. Then it keeps running,
healthy (AGREES exists), so that `docker compose --profile demo up --wait` ends when the rates are there.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from services.common import lifecycle
from services.common.errors import EXIT_FAILED, EXIT_USAGE
from services.common.kafka import Publisher
from services.common.postgres import connect
from services.common.settings import load_settings
from services.standalone.demo.report import DemoReport, print_differences, print_report
from services.standalone.demo.stage import CLIENT_ID, DemoStage
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.imap import MailClient
from services.standalone.world import cast

SEED: Final = 1
MAIL_HOST: Final = "demo-mail"
MAIL_PORT: Final = 993
AGREES: Final = Path("/tmp/agrees")
PRIVATE: Final = Path("/var/lib/replyrate")
"""Where the mail server keeps its key, so that it is the same server after a restart. Its mail does not survive one."""
POLL_NOW: Final = "UPDATE registry.mailboxes SET next_poll_at = clock_timestamp() WHERE state = 'active'"


class StackStage(DemoStage):
    """The demo's world on servers and services that run already."""

    mail_host = MAIL_HOST
    mail_port = MAIL_PORT

    def open(self) -> None:
        """Read the settings and connect; `register` does the rest, unless an earlier run did."""
        self._settings = load_settings(os.environ)
        self.dsn = self._settings.postgres.dsn.get_secret_value()
        assert self._settings.imap.ca_file is not None
        users = {mailbox.address: mailbox.password for mailbox in self.world.mailboxes}
        self._client = MailClient(MAIL_HOST, MAIL_PORT, self._settings.imap.ca_file / "ca.pem", users)
        self._stack.callback(self._client.close)
        self._publisher = self._stack.enter_context(Publisher(self._settings.kafka, CLIENT_ID))

    def here_before(self) -> bool:
        """Whether an earlier run registered its companies."""
        with self._registry() as registry:
            return any(
                mailbox["company_id"] == self.world.companies[0].company_id
                for mailbox in registry.mailboxes.summaries()
            )

    def register(self) -> None:
        """Put the history into the mailboxes, the companies into the registry."""
        self._progress("filling the mailboxes")
        self._deliver(self.world.mails)
        self._register()

    @property
    def logs(self) -> str:
        return "docker compose logs fetcher"

    def _mail_client(self) -> MailClient:
        return self._client

    def _start_services(self) -> None:
        """They run already."""

    def _check_services(self) -> None:
        """Compose does it."""

    def _mail_came(self) -> None:
        with connect(self.dsn, CLIENT_ID) as connection:
            connection.execute(POLL_NOW)


def play() -> None:
    """Run the whole demo once, then stay until SIGTERM; exit with 1 when a number is not that of the recount."""
    started = time.monotonic()
    AGREES.unlink(missing_ok=True)
    with ExitStack() as stack:
        world = cast.build(SEED, datetime.now(UTC).replace(microsecond=0))
        stage = StackStage(Path(), world, StartProgress(), stack)
        stage.open()
        if stage.here_before():
            # Its plan had another `now` and is not known here, so nothing can be compared.
            print(
                "The sellers of an earlier start are still registered. Their rates: docker compose run --rm replyrate rate"
            )
            print("To start over: docker compose --profile demo down -v")
        else:
            report = DemoReport()
            stage.register()
            stage.play()
            stage.read(report)
            report.seconds = time.monotonic() - started
            print_differences(report)
            print_report(report)
            if report.differences:
                sys.exit(EXIT_FAILED)
    sys.stdout.flush()
    AGREES.touch()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


class StartProgress:
    """Prints each step once, as a line of the container's log."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, line: str) -> None:
        if line != self._last:
            print(line, file=sys.stderr, flush=True)
        self._last = line


def mail(folder: Path) -> None:
    """Run the mail server until SIGTERM."""
    # Imported here: only the image of the demo has pymap.
    from services.standalone.servers import imap_server

    certificate, key = PRIVATE / "server.pem", PRIVATE / "server.key"
    if not (key.exists() and (folder / "ca.pem").exists()):
        authority = CertificateAuthority(PRIVATE)
        files = authority.issue("server", (MAIL_HOST, "localhost"))
        assert (files.certificate, files.key) == (certificate, key)
        (folder / "ca.pem").write_bytes(authority.ca_file.read_bytes())
    world = cast.build(SEED, datetime.now(UTC).replace(microsecond=0))
    users = {mailbox.address: mailbox.password for mailbox in world.mailboxes}
    settings = {"host": "", "port": MAIL_PORT, "certificate": str(certificate), "key": str(key), "users": users}
    asyncio.run(imap_server.serve(settings))


def main(arguments: list[str]) -> int:
    """Run what the arguments name; returns the exit code."""
    match arguments:
        case ["mail", folder]:
            return lifecycle.run(lambda: mail(Path(folder)))
        case ["play"]:
            return lifecycle.run(play)
    print("usage: python -m services.standalone.demo.stack mail FOLDER | play", file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
