"""The demo on the containers of docker-compose.yml, profile `demo`: the same world, the services of the stack.

`python -m services.standalone.demo.stack mail FOLDER` is the mail server with the sellers' mailboxes; its authority's
certificate goes into FOLDER, where fetcher and command line look for it. `… play` registers everybody, fills the
mailboxes, publishes the inquiries, compares every number with the recount and prints the rates; then it stays, healthy
(AGREES exists), so that `docker compose --profile demo up --wait` ends when the rates are there.
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

from services.cli.play.demo import print_report
from services.common import lifecycle
from services.common.errors import EXIT_FAILED, EXIT_USAGE
from services.common.hashing import Hasher
from services.common.kafka import Publisher
from services.common.postgres import connect
from services.common.settings import load_settings
from services.registry.vault import Vault
from services.standalone.demo.demo import DemoReport, DemoStage
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.imap import MailClient
from services.standalone.world import cast

SEED: Final = 1
MAIL_HOST: Final = "demo-mail"
MAIL_PORT: Final = 993
AGREES: Final = Path("/tmp/agrees")
PRIVATE: Final = Path("/var/lib/replyrate")
"""Where the mail server keeps its key, so that it is the same server after a restart. Its mail it forgets."""
POLL_NOW: Final = "UPDATE registry.mailboxes SET next_poll_at = clock_timestamp() WHERE state = 'active'"


class StackStage(DemoStage):
    """The demo's world as a guest of servers and services that run already."""

    mail_host = MAIL_HOST
    mail_port = MAIL_PORT

    def open(self) -> None:
        """Fill the mailboxes, register everybody."""
        self._settings = load_settings(os.environ)
        self.dsn = self._settings.postgres.dsn.get_secret_value()
        self._hasher, self._vault = Hasher(self._settings.hash_key()), Vault(self._settings.vault_key())
        assert self._settings.imap.ca_file is not None
        users = {mailbox.address: mailbox.password for mailbox in self.world.mailboxes}
        self._client = MailClient(MAIL_HOST, MAIL_PORT, self._settings.imap.ca_file / "ca.pem", users)
        self._stack.callback(self._client.close)
        self._publisher = self._stack.enter_context(Publisher(self._settings.kafka, "replyrate-demo"))

    def here_before(self) -> bool:
        """Whether an earlier run registered its companies."""
        with self._registry() as registry:
            return any(row["company_id"] == self.world.companies[0].company_id for row in registry.mailboxes())

    def register_and_publish(self) -> None:
        """The history into the mailboxes, the companies into the registry."""
        self._progress("filling the mailboxes")
        self._deliver(self.world.mails)
        self._register()

    @property
    def logs(self) -> str:
        return "docker compose logs fetcher"

    def _mail_client(self) -> MailClient:
        return self._client

    def _start_services(self) -> None:
        """They run."""

    def _check_services(self) -> None:
        """Compose does."""

    def _mail_came(self) -> None:
        with connect(self.dsn, "replyrate-demo") as connection:
            connection.execute(POLL_NOW)


def play() -> None:
    """The whole demo once, then stay until SIGTERM; ends with 1 when a number is not that of the recount."""
    began = time.monotonic()
    AGREES.unlink(missing_ok=True)
    with ExitStack() as stack:
        world = cast.build(SEED, datetime.now(UTC).replace(microsecond=0))
        stage = StackStage(Path(), world, StartProgress(), stack)
        stage.open()
        if stage.here_before():
            # Its plan is not known here, so nothing can be compared: it had another `now`.
            print(
                "the sellers of an earlier start are here; `docker compose --profile demo down -v` makes room for new ones"
            )
            print("their rates: docker compose run --rm replyrate rate")
        else:
            report = DemoReport()
            stage.register_and_publish()
            stage.play()
            stage.read(report)
            report.seconds = time.monotonic() - began
            print_report(report, False)
            if report.differences:
                sys.exit(EXIT_FAILED)
    sys.stdout.flush()
    AGREES.touch()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


class StartProgress:
    """Each step once, as a line of the container's log."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, line: str) -> None:
        if line != self._last:
            print(line, file=sys.stderr, flush=True)
        self._last = line


def mail(folder: Path) -> None:
    """The mail server, until SIGTERM."""
    # Here: only the image of the demo has pymap.
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
    """Which of the two."""
    match arguments:
        case ["mail", folder]:
            return lifecycle.run(lambda: mail(Path(folder)))
        case ["play"]:
            return lifecycle.run(play)
    print("usage: python -m services.standalone.demo.stack mail FOLDER | play", file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
