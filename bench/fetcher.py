"""A first scan beside a raw socket that only reads the same answers, and beside imapclient fetching envelopes."""

import json
import os
import pwd
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from imapclient import IMAPClient

from bench.measure import Figure, scratch, seconds
from services.common import migrations
from services.common.hashing import Hasher
from services.common.postgres import connect
from services.common.settings import ImapSettings
from services.fetcher.imap import ITEMS
from services.fetcher.onboarding import Request, add_mailbox
from services.fetcher.registry import Registry
from services.fetcher.session import resolve
from services.fetcher.vault import Vault
from services.standalone.ca import CertificateAuthority
from services.standalone.kafka import EmbeddedKafka
from services.standalone.letters import Letter
from services.standalone.postgres import EmbeddedPostgres
from tests.dovecot import Dovecot
from tests.integration.processes import Process, until
from tests.integration.topics import create_topics, kafka_settings
from tests.servers import delete_topics

MESSAGES = 20_000
CHUNK = 500
USER, PASSWORD = "seller@mail.test", "bench"


def measure(repeats: int) -> list[Figure]:
    """Both figures over one mailbox of 20,000 messages."""
    raw = Figure(
        "fetcher_vs_raw_imap", "headers/s of a first scan up to acked events ÷ a raw socket reading the same answers", 0.25,
        detail={"messages": MESSAGES},
    )  # fmt: skip
    envelope = Figure(
        "fetcher_vs_envelope", "÷ imapclient fetching ENVELOPE in chunks of 500, parsed, not published", 1.5,
        detail={"chunk": CHUNK},
    )  # fmt: skip
    with (
        scratch() as folder,
        EmbeddedPostgres(folder / "postgres", durable=True) as postgres,
        EmbeddedKafka(folder / "kafka") as kafka,
        Dovecot(folder / "dovecot", {USER: PASSWORD}, CertificateAuthority(folder / "ca")) as server,
    ):
        _fill(server)
        _raw(server)  # the first one makes Dovecot's index
        rates: dict[str, list[float]] = {"ours": [], "raw": [], "envelope": []}
        for number in range(repeats):
            rates["raw"].append(MESSAGES / seconds(lambda: _raw(server)))
            rates["envelope"].append(MESSAGES / seconds(lambda: _envelope(server)))
            dsn = postgres.create_database(f"bench_{number}")
            rates["ours"].append(MESSAGES / _ours(server, kafka, dsn, folder / f"run-{number}"))
    raw.values = [ours / other for ours, other in zip(rates["ours"], rates["raw"], strict=True)]
    envelope.values = [ours / other for ours, other in zip(rates["ours"], rates["envelope"], strict=True)]
    raw.detail["messages_per_second"] = {name: [round(value) for value in found] for name, found in rates.items()}
    return [raw, envelope]


def _fill(server: Dovecot) -> None:
    """The mailbox as maildir files, which is how Dovecot keeps them."""
    place = server.data_dir / "mail" / USER / "Sent"
    for name in ("cur", "new", "tmp"):
        (place / name).mkdir(parents=True, exist_ok=True)
    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(days=50)
    for number in range(MESSAGES):
        at = begin + timedelta(minutes=3 * number)
        letter = Letter(
            USER, (f"buyer{number}@shop{number % 900}.example",), f"Re: Inquiry {number} about brass valves", at,
            f"{number:016x}.bench@mail.test", in_reply_to=f"ask-{number}@platform.example",
            references=(f"ask-{number}@platform.example",),
        )  # fmt: skip
        file = place / "cur" / f"{int(at.timestamp())}.M{number}.bench:2,S"
        file.write_bytes(letter.render())
        os.utime(file, (at.timestamp(), at.timestamp()))
    if os.geteuid() == 0:
        owner = pwd.getpwnam("nobody")
        for found in (server.data_dir / "mail").rglob("*"):
            os.chown(found, owner.pw_uid, owner.pw_gid)


def _raw(server: Dovecot) -> None:
    """The least that anyone could do: the same FETCH, read to its end, nothing looked at."""
    context = ssl.create_default_context(cafile=str(server.ca_file))
    with (
        socket.create_connection((server.host, server.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.recv(4096)
        _ask(connection, b"a1", f'LOGIN "{USER}" "{PASSWORD}"')
        _ask(connection, b"a2", 'EXAMINE "Sent"')
        items = " ".join([*ITEMS, "SAVEDATE"])
        for number, low in enumerate(range(1, MESSAGES + 1, CHUNK)):
            _ask(connection, f"b{number}".encode(), f"UID FETCH {low}:{low + CHUNK - 1} ({items})")


def _ask(connection: ssl.SSLSocket, tag: bytes, command: str) -> None:
    connection.sendall(tag + b" " + command.encode() + b"\r\n")
    tail = b""
    while b"\n" + tag + b" " not in b"\n" + tail or not tail.endswith(b"\r\n"):
        received = connection.recv(256 * 1024)
        assert received, "the server closed the connection"
        tail = (tail + received)[-4096:]


def _envelope(server: Dovecot) -> None:
    context = ssl.create_default_context(cafile=str(server.ca_file))
    client = IMAPClient("localhost", server.port, ssl_context=context)
    client.login(USER, PASSWORD)
    client.select_folder("Sent", readonly=True)
    uids = client.search("ALL")
    found = 0
    for begin in range(0, len(uids), CHUNK):
        found += len(client.fetch(uids[begin : begin + CHUNK], ["ENVELOPE", "INTERNALDATE"]))
    assert found == MESSAGES
    client.logout()


def _ours(server: Dovecot, kafka: EmbeddedKafka, dsn: str, folder: Path) -> float:
    """Seconds of the service's first scan, from its first to its last log line about it."""
    folder.mkdir()
    settings = kafka_settings(kafka.bootstrap_servers)
    delete_topics(kafka.bootstrap_servers)
    create_topics(settings)
    (folder / "hash.key").write_bytes(bytes(range(32)))
    (folder / "vault.key").write_bytes(bytes(range(32, 64)))
    imap = {
        "ca_file": server.ca_file,
        "allowed_private_networks": ("127.0.0.0/8", "::1/128"),
        "allowed_ports": (server.port,),
    }
    with connect(dsn, "bench") as connection:
        migrations.migrate(connection, lambda _: None)
        registry = Registry(connection, Hasher(bytes(range(32))), Vault(bytes(range(32, 64))))
        registry.add_company("c1")
        registry.add_account("c1", "main")
        request = Request("c1", "main", USER, PASSWORD, "bench", host="localhost", port=server.port)
        add_mailbox(registry, ImapSettings.model_validate(imap), request, resolve=resolve, version="0")
    environ = {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "REPLYRATE_KAFKA__PARTITIONS": str(settings.partitions),
        "REPLYRATE_POSTGRES__DSN": dsn,
        "REPLYRATE_HASH_KEY_FILE": str(folder / "hash.key"),
        "REPLYRATE_VAULT_KEY_FILE": str(folder / "vault.key"),
        "REPLYRATE_IMAP__CA_FILE": str(server.ca_file),
        "REPLYRATE_IMAP__ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128",
        "REPLYRATE_IMAP__ALLOWED_PORTS": str(server.port),
    }
    with Process("services.fetcher", environ, folder / "log") as fetcher:
        until(lambda: "horizon is reached" in fetcher.log.read_text("utf-8"), 300, "the first scan", (fetcher,))
        fetcher.terminate()
        scans = [line for line in fetcher.lines() if line.get("action") == "mailbox-scan"]
    assert json.dumps(scans)
    first, last = (datetime.fromisoformat(scans[place]["at"].replace("Z", "+00:00")) for place in (0, -1))
    return (last - first).total_seconds()
