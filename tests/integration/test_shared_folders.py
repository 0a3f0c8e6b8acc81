"""A real Dovecot on which a colleague shares her Sent folder with the seller (ACL, shared namespace): it is not read (B6)."""

import imaplib
import shutil
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.postgres import scratch_folder
from tests.support.dovecot import Dovecot
from tests.support.fetcher_lab import USER, Lab, Server, letter, make_lab
from tests.support.processes import until
from tests.support.servers import USERS

__all__ = ["make_lab"]

COLLEAGUE = "seller-2@mail.test"


@contextmanager
def scratch() -> Iterator[Path]:
    folder = scratch_folder("dovecot-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def session(server: Dovecot, user: str) -> imaplib.IMAP4_SSL:
    client = imaplib.IMAP4_SSL(
        "localhost", server.port, ssl_context=ssl.create_default_context(cafile=server.ca_file), timeout=20
    )
    client.login(user, USERS[user])
    return client


@pytest.mark.parametrize(
    ("prefix", "hidden"), [("Shared", False), ("Shared", True), ("Team", False), ("Kollegen.2026", False)]
)
def test_b6_a_shared_sent_folder_of_a_real_server_is_not_read(
    make_lab: Callable[[Server], Lab],
    ca: CertificateAuthority,
    prefix: str,
    hidden: bool,
) -> None:
    with scratch() as folder, Dovecot(folder, USERS, ca, shared_below=prefix, hidden=hidden) as dovecot:
        lab = make_lab(dovecot)
        at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        dovecot.append(USER, "Sent", letter(1, at), at)
        dovecot.append(COLLEAGUE, "Sent", letter(2, at, to="her-buyer@shop.example"), at)
        shared = f"{prefix}/{COLLEAGUE}/Sent"
        with session(dovecot, COLLEAGUE) as client:
            assert client.setacl("Sent", USER, "lr")[0] == "OK"
        with session(dovecot, USER) as client:
            # The control: he sees her folder and may read it.
            assert any(isinstance(line, bytes) and shared.encode() in line for line in client.list()[1])
            assert client.select(f'"{shared}"', readonly=True) == ("OK", [b"1"])
            assert (prefix.encode() in client.namespace()[1][0]) is not hidden
        connected = lab.connect()
        assert [folder.name for folder in connected.folders] == [b"Sent"]
        with lab.fetcher() as fetcher:
            until(lambda: lab.complete(connected.mailbox_id), 60, "the mailbox is complete", (fetcher,))
        assert len(lab.sent()) == 1 and lab.mailbox(connected.mailbox_id)["messages_seen"] == 1
