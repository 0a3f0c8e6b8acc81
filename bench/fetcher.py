"""A first scan beside a raw socket that only reads the same answers, and beside imapclient fetching envelopes."""

import socket
import ssl
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from imapclient import IMAPClient

from bench.measure import Figure, Usage, scratch, seconds
from bench.traffic import HASH_KEY
from bench.world import PASSWORD, VAULT_KEY, World
from services.common.hashing import Hasher
from services.common.kafka import Publisher
from services.common.postgres import connect
from services.common.settings import load_settings
from services.imap.connection import ITEMS
from services.imap.limits import BoundedClient
from services.registry.leases import Leases
from services.registry.vault import Vault
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.postgres import EmbeddedPostgres
from services.standalone.world.letters import MailText
from tests.support.dovecot import Dovecot
from tests.support.pollers import make_poller
from tests.support.processes import until
from tests.support.servers import delete_topics
from tests.support.topics import create_topics, kafka_settings

MESSAGES = 20_000
CHUNK = 500
USER = "seller@mail.test"
IDLE_MAILBOXES = 500
IDLE_SECONDS = 15


def measure(repeats: int) -> list[Figure]:
    """Both figures over one mailbox of 20,000 messages."""
    raw = Figure(
        "fetcher_vs_raw_imap", "headers/s of a first scan up to acked events ÷ a raw socket reading the same answers", 0.25,
        detail={"messages": MESSAGES, "cpu_us_per_message": [], "peak_rss_mb": []},
    )  # fmt: skip
    envelope = Figure(
        "fetcher_vs_envelope", "÷ imapclient fetching ENVELOPE in chunks of 500, parsed, not published", 1.5,
        detail={"chunk": CHUNK},
    )  # fmt: skip
    round_trips = Figure(
        "idle_poll_round_trips", "commands for each folder once the session is up", 2, smaller_is_better=True
    )
    idle = Figure(
        "mailboxes_per_minute_per_core", "idle mailboxes polled in a minute of the fetcher's CPU", None,
        detail={"mailboxes": IDLE_MAILBOXES, "per_minute": []},
    )  # fmt: skip
    users = [USER, *map(_idle_user, range(IDLE_MAILBOXES))]
    with (
        scratch() as folder,
        EmbeddedPostgres(folder / "postgres", durable=True) as postgres,
        EmbeddedKafka(folder / "kafka") as kafka,
        Dovecot(folder / "dovecot", dict.fromkeys(users, PASSWORD), CertificateAuthority(folder / "ca")) as server,
    ):
        _fill(server)
        _raw(server)  # the first scan builds Dovecot's index
        rates: dict[str, list[float]] = {"ours": [], "raw": [], "envelope": []}
        for number in range(repeats):
            print(f"  the fetcher, {number + 1} of {repeats}", file=sys.stderr)
            rates["raw"].append(MESSAGES / seconds(lambda: _raw(server)))
            rates["envelope"].append(MESSAGES / seconds(lambda: _envelope(server)))
            dsn = postgres.create_database(f"bench_{number}")
            taken, cpu, peak = _ours(server, kafka, dsn, folder / f"run-{number}")
            rates["ours"].append(MESSAGES / taken)
            raw.detail["cpu_us_per_message"].append(round(cpu / MESSAGES * 1e6, 1))
            raw.detail["peak_rss_mb"].append(round(peak))
            dsn = postgres.create_database(f"bench_idle_{number}")
            per_minute, per_core, trips = _idle(server, kafka, dsn, folder / f"idle-{number}")
            idle.values.append(per_core)
            idle.detail["per_minute"].append(round(per_minute))
            round_trips.values.append(trips)
    raw.values = [ours / theirs for ours, theirs in zip(rates["ours"], rates["raw"], strict=True)]
    envelope.values = [ours / theirs for ours, theirs in zip(rates["ours"], rates["envelope"], strict=True)]
    raw.detail["messages_per_second"] = {name: [round(value) for value in values] for name, values in rates.items()}
    return [raw, envelope, round_trips, idle]


def _idle_user(number: int) -> str:
    return f"idle{number}@mail.test"


def _fill(server: Dovecot) -> None:
    """Write the mailbox as maildir files, the form in which Dovecot stores them."""
    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(days=50)
    for number in range(MESSAGES):
        at = begin + timedelta(minutes=3 * number)
        letter = MailText(
            USER, (f"buyer{number}@shop{number % 900}.example",), f"Re: Inquiry {number} about brass valves", at,
            f"{number:016x}.bench@mail.test", in_reply_to=f"ask-{number}@platform.example",
            references=(f"ask-{number}@platform.example",),
        )  # fmt: skip
        server.deliver(USER, "Sent", f"M{number}", letter.render(), at)


def _raw(server: Dovecot) -> None:
    """The minimum: the same FETCH, read to its end, nothing parsed."""
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
    count = 0
    for begin in range(0, len(uids), CHUNK):
        count += len(client.fetch(uids[begin : begin + CHUNK], ["ENVELOPE", "INTERNALDATE"]))
    assert count == MESSAGES
    client.logout()


def _ours(server: Dovecot, kafka: EmbeddedKafka, dsn: str, folder: Path) -> tuple[float, float, float]:
    """Seconds of the service's first scan from its first to its last log line, its CPU seconds, its peak in MB."""
    settings = kafka_settings(kafka.bootstrap_servers)
    delete_topics(kafka.bootstrap_servers)
    create_topics(settings)
    world = World(folder, settings, dsn, server)
    world.add_mailboxes([("c1", USER)])
    with world.start("fetcher") as fetcher:
        usage = Usage(fetcher.pid)
        until(lambda: "reached the horizon" in fetcher.log.read_text("utf-8"), 300, "the first scan", (fetcher,))
        cpu = usage.cpu_seconds()
        fetcher.terminate()
        scans = [line for line in fetcher.lines() if line.get("action") == "mailbox-scan"]
    first, last = (datetime.fromisoformat(scans[place]["at"].replace("Z", "+00:00")) for place in (0, -1))
    return (last - first).total_seconds(), cpu, usage.peak_mb


def _idle(server: Dovecot, kafka: EmbeddedKafka, dsn: str, folder: Path) -> tuple[float, float, float]:
    """Many mailboxes without new mail: polls a minute, polls a minute of CPU, and commands for each folder."""
    settings = kafka_settings(kafka.bootstrap_servers)
    delete_topics(kafka.bootstrap_servers)
    create_topics(settings)
    world = World(folder, settings, dsn, server)
    world.add_mailboxes((f"c{number}", _idle_user(number)) for number in range(IDLE_MAILBOXES))
    with world.start("fetcher", REPLYRATE_IMAP__POLL_INTERVAL_SECONDS="1") as fetcher:

        def polls() -> int:
            with connect(dsn, "bench") as connection:
                leases_so_far = connection.execute("SELECT sum(lease_epoch)::bigint FROM registry.mailboxes").fetchone()
            assert leases_so_far is not None
            return int(leases_so_far[0])

        until(lambda: polls() >= 2 * IDLE_MAILBOXES, 300, "every mailbox was read", (fetcher,))
        usage = Usage(fetcher.pid)
        before, cpu, started = polls(), usage.cpu_seconds(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        count, spent, taken = polls() - before, usage.cpu_seconds() - cpu, time.monotonic() - started
        fetcher.terminate()
    return 60 * count / taken, 60 * count / spent, _round_trips(world)


def _recording_client(sent: list[bytes]) -> Callable[..., BoundedClient]:
    """A BoundedClient that appends every byte it sends to `sent`."""

    def client(*arguments: Any, **options: Any) -> BoundedClient:
        return BoundedClient(*arguments, **{**options, "record": sent.append})

    return client


def _round_trips(world: World) -> float:
    """Commands between the end of the login and LOGOUT in one idle poll, LIST aside, for each folder."""
    sent: list[bytes] = []
    settings = load_settings(world.environ)
    with connect(world.dsn, "bench") as connection, Publisher(settings.kafka, "bench") as publisher:
        leases = Leases(connection, Vault(VAULT_KEY))
        connection.execute("UPDATE registry.mailboxes SET next_poll_at = now()")
        leased = leases.lease("bench", 60)
        assert leased is not None
        poller = make_poller(leases, publisher, Hasher(HASH_KEY), settings)
        with mock.patch("services.imap.connection.BoundedClient", _recording_client(sent)):
            poller.poll(leased)
    commands = [line.split()[1] for line in b"".join(sent).splitlines()]
    assert commands[-1] == b"LOGOUT", commands
    opened = commands.count(b"EXAMINE")
    return (len(commands) - 1 - commands.index(b"EXAMINE")) / opened
