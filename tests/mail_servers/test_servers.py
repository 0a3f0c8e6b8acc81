"""The product against real IMAP servers: `make test-servers`. Every check runs on every server; docs/dev/servers.md shows the results."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.common.topics import SENT
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.paths import ROOT
from tests.mail_servers.corpus import COMPANY, HASH_KEY, SentMail, corpus, identity, mail
from tests.mail_servers.servers import SERVERS, MailServer, expect_ok, quoted
from tests.support.processes import Process, until
from tests.support.servers import delete_topics
from tests.support.topics import PARTITIONS, create_topics, kafka_settings, read_all

SCAN_SECONDS = 120
POLL_SECONDS = 60


class Installation:
    """Registry, topics and one mail server with 300 messages, as an operator has them; only commands and processes act."""

    def __init__(self, server: MailServer, dsn: str, bootstrap_servers: str, folder: Path) -> None:
        self.server = server
        self.dsn = dsn
        self.folder = folder
        self.kafka = kafka_settings(bootstrap_servers)
        self.messages: list[SentMail] = []
        self.environ = {
            "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
            "REPLYRATE_KAFKA__PARTITIONS": str(PARTITIONS),
            "REPLYRATE_POSTGRES__DSN": dsn,
            "REPLYRATE_HASH_KEY_FILE": str(self._key("hash.key", HASH_KEY)),
            "REPLYRATE_VAULT_KEY_FILE": str(self._key("vault.key", bytes(range(32, 64)))),
            "REPLYRATE_IMAP__CA_FILE": str(server.ca_file),
            "REPLYRATE_IMAP__ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128",
            "REPLYRATE_IMAP__ALLOWED_PORTS": str(server.port),
            "REPLYRATE_IMAP__POLL_INTERVAL_SECONDS": "0.5",
        }
        self.fetcher: Process | None = None

    def _key(self, name: str, key: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(key)
        return path

    def run(self, *arguments: str, code: int = 0) -> str:
        """Standard output of a command of the product."""
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120,
            check=False, env={**keep, "PYTHONPATH": str(ROOT), **self.environ},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout

    def fill(self, now: datetime) -> None:
        """File the corpus; messages that the server refuses are not expected later."""
        messages = list(corpus(now))
        taken = self.server.append_all([(entry.message, entry.filed_at, entry.flags) for entry in messages])
        self.messages = [entry for entry, accepted in zip(messages, taken, strict=True) if accepted]
        assert len(self.messages) > 280, f"the server took only {len(self.messages)} messages"

    def add_mailbox(self, password: str, code: int = 0) -> str:
        """`mailbox add` with this password; its standard output."""
        file = self.folder / "password"
        file.write_text(password + "\n", "utf-8")
        return self.run(
            "mailbox", "add", "--company", COMPANY, "--account", "main", "--address", "seller@mail.example",
            "--host", "localhost", "--port", str(self.server.port), "--user", self.server.user,
            "--password-file", str(file), "--consent-by", "tests", "--json", code=code,
        )  # fmt: skip

    def start_fetcher(self) -> None:
        """Start the fetcher process."""
        self.fetcher = Process("services.fetcher", self.environ, self.folder / "fetcher.log")

    def health(self) -> dict[str, Any]:
        """The mailbox as dashboards see it."""
        with psycopg.connect(self.dsn) as connection, connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            rows = cursor.execute("SELECT * FROM report_v1.mailbox_health WHERE state <> 'removed'").fetchall()
        assert len(rows) == 1
        return rows[0]

    def complete_since(self, instant: datetime) -> bool:
        """Whether a poll that started after `instant` was complete. A waiting mailbox is made due: backoff is not tested here."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(
                "UPDATE registry.mailboxes SET next_poll_at = now() WHERE state = 'active' AND next_poll_at > now() + interval '3 s'"
            )
        through = self.health()["complete_through"]
        return through is not None and through > instant

    def await_complete(self, what: str, seconds: float = POLL_SECONDS) -> None:
        """Wait for a complete poll that starts from now on."""
        assert self.fetcher is not None
        now = datetime.now(UTC)
        until(lambda: self.complete_since(now), seconds, what, (self.fetcher,))

    def published(self) -> list[str]:
        """The identity of every published record, repeats included."""
        return [json.loads(record.value or b"")["data"]["message_id"] for record in read_all(self.kafka, SENT)]

    def expected(self) -> tuple[set[str], int]:
        """Identities that must be published, and how many messages without a Message-ID."""
        within = [entry for entry in self.messages if entry.in_horizon]
        named = {identity(entry.message_id) for entry in within if entry.message_id is not None}
        return named, sum(entry.message_id is None for entry in within)

    def assert_all_published(self) -> None:
        """Every message of the folder is published, and nothing else."""
        named, unnamed = self.expected()
        published = set(self.published())
        missing = named - published
        assert not missing, f"{len(missing)} of {len(named)} messages were never published"
        assert len(published) == len(named) + unnamed


@pytest.fixture(scope="module", params=SERVERS, ids=lambda server: server.name)
def installation(
    request: pytest.FixtureRequest,
    ca: CertificateAuthority,
    kafka: str,
    postgres: Callable[[], str],
    server_folder: Path,
) -> Iterator[Installation]:
    folder = server_folder / f"mail-{request.param.name}"
    folder.mkdir()
    delete_topics(kafka)
    with request.param(folder / "server", ca) as server:
        installation = Installation(server, postgres(), kafka, folder)
        create_topics(installation.kafka)
        installation.run("company", "add", COMPANY)
        installation.run("account", "add", COMPANY, "main")
        try:
            yield installation
        finally:
            if installation.fetcher is not None:
                installation.fetcher.__exit__()
    delete_topics(kafka)


def test_wrong_password_is_reported_as_such(installation: Installation) -> None:
    installation.fill(datetime.now(UTC))
    assert "login-refused" in installation.add_mailbox("not-the-password", code=1)


def test_connect_finds_the_sent_folder(installation: Installation) -> None:
    added = json.loads(installation.add_mailbox(installation.server.password))
    assert installation.server.sent_folder in json.dumps(added, ensure_ascii=False)


def test_first_scan_survives_a_restart_of_the_server(installation: Installation) -> None:
    """The server is killed once the first records are published; where it keeps its mail, the scan continues."""
    installation.start_fetcher()
    assert installation.fetcher is not None
    until(lambda: bool(installation.published()), SCAN_SECONDS, "the first record", (installation.fetcher,))
    if installation.server.keeps_mail:
        installation.server.kill()
        installation.server.start()
    installation.await_complete("the first scan", SCAN_SECONDS)
    installation.assert_all_published()
    assert installation.health()["state"] == "active"


def test_idle_polls_publish_nothing(installation: Installation) -> None:
    before = len(installation.published())
    installation.await_complete("an idle poll")
    installation.await_complete("another idle poll")
    assert len(installation.published()) == before


def test_new_mail_is_published_by_the_next_complete_poll(installation: Installation) -> None:
    now = datetime.now(UTC)
    for number in (2001, 2002):
        message_id = f"new-{number}@mail.example"
        entry = SentMail(mail(number, now, message_id=message_id), now, message_id=message_id)
        assert installation.server.append(entry.message, entry.filed_at)
        installation.messages.append(entry)
        installation.await_complete("a poll after new mail")
        installation.assert_all_published()


def test_a_deleted_message_changes_nothing(installation: Installation) -> None:
    before = len(installation.published())
    with installation.server.session() as client:
        expect_ok(client.select(quoted(installation.server.sent_folder)))
        expect_ok(client.store("5", "+FLAGS", "(\\Deleted)"))
        expect_ok(client.expunge())
    installation.await_complete("a poll after a deletion")
    assert len(installation.published()) == before


def test_a_recreated_folder_is_scanned_again_without_new_events(installation: Installation) -> None:
    """UIDVALIDITY changes, or UIDs start over. The same mail has the same identities.

    Without a Message-ID the identity contains the size that the server reports, and Mailutils reports another one after the
    message was filed again: only messages with a Message-ID are filed again here.
    """
    before = set(installation.published())
    server = installation.server
    with server.session() as client:
        expect_ok(client.delete(quoted(server.sent_folder)))
    server.create_sent_folder()
    recent = [entry for entry in installation.messages if entry.in_horizon and entry.message_id is not None][-40:]
    assert all(server.append_all([(entry.message, entry.filed_at, entry.flags) for entry in recent]))
    installation.await_complete("a poll of the recreated folder")
    assert set(installation.published()) == before
    entry = SentMail(
        mail(3001, datetime.now(UTC), message_id="after@mail.example"),
        datetime.now(UTC),
        message_id="after@mail.example",
    )
    assert server.append(entry.message, entry.filed_at)
    installation.await_complete("a poll after new mail in the recreated folder")
    assert set(installation.published()) == before | {identity("after@mail.example")}


def test_nothing_is_marked_as_read(installation: Installation) -> None:
    with installation.server.session() as client:
        expect_ok(client.select(quoted(installation.server.sent_folder), readonly=True))
        _, answers = client.fetch("1:*", "(FLAGS)")
    texts = [entry if isinstance(entry, bytes) else entry[0] for entry in answers if entry]
    assert texts
    assert not [text for text in texts if re.search(rb"\\Seen", text, re.IGNORECASE)]
