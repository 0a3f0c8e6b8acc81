"""Resources that the containers of docker-compose.yml need for a number of mailboxes: `make bench PARTS=stack`; needs Docker.

For each size a fresh stack, unchanged except for its number of workers: mailboxes with mail in their Sent folders, the
platform's inquiries, the first scan of everything; then, once every mailbox is due again, two minutes of ordinary work at
the rate that docs/scaling.md assumes; then mails whose time to the rate is measured. Memory, CPU, bytes and connections
are as Docker and Postgres report them. The mail server runs beside the stack, on the same machine.
"""

import os
import random
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import psycopg

from bench.measure import Figure, scratch, seconds
from services.common import codec
from services.common.events import Buyer, InquiryReceived
from services.common.hashing import Hasher
from services.common.kafka import Publisher
from services.common.postgres import connect
from services.common.settings import KafkaSettings
from services.common.topics import INQUIRIES
from services.connect import consent
from services.mail.values import Login
from services.registry.connection_attempts import ConnectionAttempt
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.child import LOOPBACK
from services.standalone.world.letters import MailText
from tests.stack.mail import HOST
from tests.stack.stack import SERVICES, Stack
from tests.support.containers import ContainerDovecot
from tests.support.processes import until

SIZES: Final = (1_000, 10_000)
MAILBOXES_PER_COMPANY: Final = 5
MAILS: Final = 10
"""In each Sent folder before the first scan."""
ASKED: Final = 3
"""Inquiries for each mailbox; two of them are answered by the first two mails."""
ANSWERED: Final = 2
WORKERS: Final = 32
POLL_SECONDS: Final = 600
MAILS_A_DAY: Final = 30
ORDINARY_SECONDS: Final = 120
TIMED: Final = 20
CONTAINERS: Final = (*SERVICES, "postgres", "kafka")
FIRST_SCAN_SECONDS: Final = 1800

OUTCOMES = "SELECT count(*) FROM ledger.outcomes"
SCANNED = "SELECT count(*) FROM registry.mailboxes WHERE complete_through IS NOT NULL"
REPLIES = "SELECT count(DISTINCT (company_id, inquiry_id, reply_id)) FROM ledger.replies"
DUE = "UPDATE registry.mailboxes SET next_poll_at = clock_timestamp() WHERE mailbox_id = ANY (%s)"
LEDGER_BYTES = """
    SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c
    WHERE c.relnamespace = 'ledger'::regnamespace AND c.relkind = 'r'
"""
LEDGER_TABLES = """
    SELECT c.relname, pg_relation_size(c.oid), pg_indexes_size(c.oid), pg_total_relation_size(c.oid)
    FROM pg_class c WHERE c.relnamespace = 'ledger'::regnamespace AND c.relkind = 'r' ORDER BY 4 DESC, 1 LIMIT 10
"""
POLLED = "SELECT count(*) FROM registry.mailboxes WHERE last_success_at > clock_timestamp() - make_interval(secs => %s)"
PUBLISHED = (
    "SELECT count(*), (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('registry.published_messages'))::bigint"
    " FROM registry.published_messages"
)
CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'replyrate_%' AND usename <> 'replyrate_migrator'"
)


def measure(repeats: int) -> list[Figure]:
    """Every size once, whatever `repeats` is."""
    del repeats
    sizes = []
    for mailboxes in SIZES:
        print(f"  stack with {mailboxes:,} mailboxes", file=sys.stderr)
        with scratch() as folder:
            sizes.append(measure_size(folder, mailboxes))
    growth = Figure(
        "stack_first_scan_growth", "mailboxes a second in the first scan: the largest size ÷ the smallest", None,
        detail={"sizes": sizes, "workers": WORKERS, "mails": MAILS, "inquiries": ASKED, "poll_seconds": POLL_SECONDS},
    )  # fmt: skip
    growth.values.append(sizes[-1]["scanned_per_second"] / sizes[0]["scanned_per_second"])
    fresh = Figure("stack_mail_to_rate_seconds", f"mail appended, poll due → outcome, of {TIMED} mails", None)
    fresh.values.append(sizes[-1]["mail_to_rate_seconds"]["p50"])
    ledger = Figure(
        "ledger_bytes_per_inquiry", "bytes of the schema ledger for each inquiry, at the largest size", 2500, smaller_is_better=True
    )  # fmt: skip
    ledger.values.append(sizes[-1]["ledger_bytes"] / sizes[-1]["inquiries"])
    return [growth, fresh, ledger]


def measure_size(folder: Path, mailboxes: int) -> dict[str, Any]:
    """Start one stack, measure it, and remove it."""
    users = [f"seller{number}@mail.test" for number in range(mailboxes)]
    ca = CertificateAuthority(folder / "ca")
    (folder / "authorities").mkdir()
    (folder / "authorities" / "ca.pem").write_bytes(ca.ca_file.read_bytes())
    stack = Stack(folder / "stack")
    server = ContainerDovecot(
        folder / "dovecot", dict.fromkeys(users, "bench"), ca, savedate=False, network=f"{stack.project}_outside"
    )
    with (stack.folder / ".env").open("a", encoding="utf-8") as settings:
        settings.write(
            f"IMAP_CA_DIR={folder / 'authorities'}\nREPLYRATE_IMAP__PRIVATE_HOSTS={HOST}\n"
            f"REPLYRATE_IMAP__ALLOWED_PORTS={server.port}\nREPLYRATE_FETCHER__WORKERS={WORKERS}\n"
            f"REPLYRATE_IMAP__POLL_INTERVAL_SECONDS={POLL_SECONDS}\n"
            # All mailboxes are at one host here; real providers allow enough logins in an hour.
            f"REPLYRATE_IMAP__LOGINS_PER_HOUR=1000000\nREPLYRATE_IMAP__SESSIONS={WORKERS}\n"
        )
    stack.make_secrets()
    measured: dict[str, Any] = {"mailboxes": mailboxes, "messages": mailboxes * MAILS, "inquiries": mailboxes * ASKED}
    with ExitStack() as ending:
        ending.callback(stack.down)
        started = time.monotonic()
        stack.up()
        measured["start_seconds"] = round(time.monotonic() - started, 1)
        ending.enter_context(server)
        connection = ending.enter_context(psycopg.connect(stack.dsn("migrator"), autocommit=True))
        docker = Docker(stack)
        measured["idle_mb"] = docker.memory_mb()
        asked_at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=7)
        _fill(server, users, asked_at)
        before, started = docker.cpu_seconds(), time.monotonic()
        peaks = ending.enter_context(Peaks(docker))
        measured["registered_seconds"] = round(seconds(lambda: _register(stack, server.port, users)), 1)
        _ask(stack, users, asked_at)
        _until_equal(connection, SCANNED, mailboxes, "first scan")
        measured["first_scan_seconds"] = round(time.monotonic() - started, 1)
        _until_equal(connection, REPLIES, mailboxes * ANSWERED, "answers joined")
        _until_equal(connection, OUTCOMES, mailboxes * ASKED * 2, "outcomes judged")
        measured["settled_seconds"] = round(time.monotonic() - started, 1)
        measured["scanned_per_second"] = round(mailboxes / measured["first_scan_seconds"], 2)
        measured["first_scan_cpu_seconds"] = _minus(docker.cpu_seconds(), before)
        measured["loaded_mb"] = peaks.highest()
        # The mailboxes that were read first are due after an interval; the others follow at the pace at which they were read.
        _rest(started + POLL_SECONDS + 10 - time.monotonic())
        before, started = docker.cpu_seconds(), time.monotonic()
        measured["ordinary_mails"] = _ordinary(server, users)
        elapsed = time.monotonic() - started
        measured["ordinary_cores"] = {
            name: round(used / elapsed, 3) for name, used in _minus(docker.cpu_seconds(), before).items()
        }
        measured["ordinary_mb"] = docker.memory_mb()
        polled = connection.execute(POLLED.encode(), [elapsed]).fetchone()
        assert polled is not None
        measured["ordinary_polls_per_second"] = round(polled[0] / elapsed, 2)
        measured["connections"] = _one(connection, CONNECTIONS)[0]
        waited = _timed_mails(stack, connection, server, users)
        cuts = quantiles(waited, n=20, method="inclusive")
        measured["mail_to_rate_seconds"] = {"p50": round(cuts[9], 2), "p95": round(cuts[18], 2)}
        rows, size = _one(connection, PUBLISHED)
        measured["published_rows"], measured["published_bytes"] = rows, size
        measured["ledger_bytes"] = _one(connection, LEDGER_BYTES)[0]
        # Of each of the largest tables: bytes of its rows, of its indexes, and of everything.
        measured["ledger_tables"] = {
            name: list(sizes) for name, *sizes in connection.execute(LEDGER_TABLES.encode()).fetchall()
        }
        (matcher,) = stack.containers("matcher")
        measured["state_entries"] = int(stack.metric(matcher, "replyrate_matcher_state_entries"))
    return measured


class Docker:
    """Memory and CPU of the stack's containers, as Docker's own command shows them."""

    def __init__(self, stack: Stack) -> None:
        from docker import from_env

        client = from_env()
        self._containers = {name: client.containers.get(stack.containers(name)[0]) for name in CONTAINERS}

    def memory_mb(self) -> dict[str, float]:
        """Container → its memory, without the file pages that the kernel can drop at once."""
        return {
            name: round((stats["usage"] - stats["stats"].get("inactive_file", stats["stats"].get("total_inactive_file", 0))) / 1024**2, 1)
            for name, stats in self._read("memory_stats").items()
        }  # fmt: skip

    def cpu_seconds(self) -> dict[str, float]:
        """Container → CPU time since its start."""
        return {name: stats["cpu_usage"]["total_usage"] / 1e9 for name, stats in self._read("cpu_stats").items()}

    def _read(self, part: str) -> dict[str, Any]:
        # Docker needs a second for each container; in parallel all take one second.
        with ThreadPoolExecutor(len(self._containers)) as pool:
            read = {name: pool.submit(container.stats, stream=False) for name, container in self._containers.items()}
            return {name: pending.result()[part] for name, pending in read.items()}


class Peaks:
    """Samples the memory every few seconds in a thread. A context manager."""

    def __init__(self, docker: Docker) -> None:
        self._docker = docker
        self._highest: dict[str, float] = {}
        self._done = False
        self._pool = ThreadPoolExecutor(1)

    def highest(self) -> dict[str, float]:
        """Container → the highest sample, in MB."""
        self._done = True
        self._work.result()
        return self._highest

    def __enter__(self) -> "Peaks":
        self._work = self._pool.submit(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self._done = True
        self._pool.shutdown()

    def _look(self) -> None:
        while not self._done:
            for name, used_mb in self._docker.memory_mb().items():
                self._highest[name] = max(used_mb, self._highest.get(name, 0))
            time.sleep(1)


def _fill(server: ContainerDovecot, users: list[str], asked_at: datetime) -> None:
    """Write past mail into the folders: the first two mails of each folder answer an inquiry after an hour."""
    owner = (server.data_dir / "mail").stat()
    for number, user in enumerate(users):
        place = server.data_dir / "mail" / user / "Sent"
        for name in ("cur", "new", "tmp"):
            (place / name).mkdir(parents=True)
        for mail in range(MAILS):
            at = asked_at + timedelta(hours=1, minutes=mail)
            to = _buyer(number, mail) if mail < ANSWERED else f"friend{mail}.{number}@elsewhere.example"
            file = place / "cur" / f"{int(at.timestamp())}.M{number}P{mail}.bench:2,S"
            file.write_bytes(_letter(user, to, at, f"{number}.{mail}").render())
            os.utime(file, (at.timestamp(), at.timestamp()))
        for path in (place.parent, *place.parent.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)


def _letter(user: str, to: str, at: datetime, name: str) -> MailText:
    asked = f"ask.{to}"
    return MailText(
        user, (to,), "Re: your inquiry", at, f"{name}.sent@mail.test", in_reply_to=asked, references=(asked,)
    )


def _buyer(mailbox: int, inquiry: int) -> str:
    return f"buyer{inquiry}.{mailbox}@shop.example"


def _place(mailbox: int) -> tuple[str, str]:
    """(company, account) of a mailbox."""
    return f"c{mailbox // MAILBOXES_PER_COMPANY:06d}", f"a{mailbox % MAILBOXES_PER_COMPANY}"


def _register(stack: Stack, port: int, users: list[str]) -> None:
    """Register the mailboxes without their connection tests, which are not measured here."""
    keys = stack.folder / "secrets"
    hasher, vault = Hasher((keys / "hash.key").read_bytes()), Vault((keys / "vault.key").read_bytes())
    with connect(stack.dsn("migrator"), "bench") as connection:
        registry, given = Registry(connection, hasher, vault), consent.give("bench", "en")
        since = datetime.now(UTC) - timedelta(days=60)
        for number, user in enumerate(users):
            company_id, account_id = _place(number)
            registry.companies.add(company_id)
            registry.accounts.add(company_id, account_id)
            login = Login(user, HOST, port, user, "bench")
            registry.connection_attempts.begin(
                ConnectionAttempt(company_id, account_id, f"m{number}", "registered", login, given)
            )
            registry.connection_attempts.connect(company_id, f"m{number}", login, since)


def _ask(stack: Stack, users: list[str], at: datetime) -> None:
    servers = f"{LOOPBACK}:{stack.ports['KAFKA_PORT']}"
    with Publisher(
        KafkaSettings.model_validate({"bootstrap_servers": servers}), "bench", delivery_seconds=60
    ) as publisher:
        pending = []
        for mailbox in range(len(users)):
            company_id, account_id = _place(mailbox)
            for number in range(ASKED):
                buyer = _buyer(mailbox, number)
                inquiry = InquiryReceived(
                    company_id=company_id, account_id=account_id, inquiry_id=f"i{mailbox}-{number}", received_at=at,
                    buyer=Buyer(id=buyer, addresses=(buyer,)), message_ids=(f"<ask.{buyer}>",),
                )  # fmt: skip
                value = codec.encode(inquiry, id=inquiry.inquiry_id, source="bench", time=at)
                pending.append(publisher.send(INQUIRIES, company_id.encode(), value))
        publisher.wait(pending)


def _rest(seconds: float) -> None:
    """Wait, and print the remaining time."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        print(f"\r    every mailbox is due again in {left:.0f} s    ", end="", file=sys.stderr)
        time.sleep(min(5, left))
    print(file=sys.stderr)


def _ordinary(server: ContainerDovecot, users: list[str]) -> int:
    """Append mail at the rate of an ordinary day for ORDINARY_SECONDS; returns the number of mails."""
    chance = random.Random(1)
    pause = 86_400 / MAILS_A_DAY / len(users)
    started, sent = time.monotonic(), 0
    while (now := time.monotonic()) < started + ORDINARY_SECONDS:
        if now >= started + sent * pause:
            user, at = chance.choice(users), datetime.now(UTC).replace(microsecond=0)
            server.append(
                user, "Sent", _letter(user, f"friend{sent}@elsewhere.example", at, f"day.{sent}").render(), at
            )
            server.close_client()
            sent += 1
        time.sleep(0.02)
    return sent


def _timed_mails(
    stack: Stack, connection: psycopg.Connection, server: ContainerDovecot, users: list[str]
) -> list[float]:
    """Seconds from APPEND to the outcome, one mailbox after another, each polled at once."""
    waited = []
    for number in range(TIMED):
        mailbox = number * (len(users) // TIMED)
        company_id, _ = _place(mailbox)
        at = datetime.now(UTC).replace(microsecond=0)
        letter = _letter(users[mailbox], _buyer(mailbox, ANSWERED), at, f"timed.{number}")
        server.append(users[mailbox], "Sent", letter.render(), at)
        started = time.monotonic()
        connection.execute(DUE, [[f"m{mailbox}"]])

        def answered(company_id: str = company_id, inquiry_id: str = f"i{mailbox}-{ANSWERED}") -> bool:
            answer_row = connection.execute(
                "SELECT bool_and(first_reply_at IS NOT NULL) FROM report_v1.inquiry_outcomes"
                " WHERE company_id = %s AND inquiry_id = %s",
                (company_id, inquiry_id),
            ).fetchone()
            return answer_row == (True,)

        until(answered, 120, f"the answer of {users[mailbox]}")
        waited.append(time.monotonic() - started)
        server.close_client()
    return waited


def _until_equal(connection: psycopg.Connection, count: str, wanted: int, what: str) -> None:
    deadline, last = time.monotonic() + FIRST_SCAN_SECONDS, 0
    while (count_now := _one(connection, count)[0]) < wanted:
        assert time.monotonic() < deadline, f"{what}: {count_now:,} of {wanted:,} after {FIRST_SCAN_SECONDS} s"
        if count_now != last:
            print(f"\r    {what}: {count_now:,} of {wanted:,}    ", end="", file=sys.stderr)
            last = count_now
        time.sleep(1)
    assert count_now == wanted, f"{what}: {count_now:,}, not {wanted:,}"
    print(file=sys.stderr)


def _one(connection: psycopg.Connection, statement: str) -> tuple[Any, ...]:
    result_row = connection.execute(statement.encode()).fetchone()
    assert result_row is not None
    return result_row


def _minus(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    return {name: round(after[name] - before[name], 2) for name in after}
