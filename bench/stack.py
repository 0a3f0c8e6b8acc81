"""What the containers of docker-compose.yml take for so many mailboxes: `make bench PARTS=stack`, Docker is needed.

For each size a fresh stack, unchanged but for its number of workers: mailboxes with mail in their Sent folders, the
platform's inquiries, the first scan of everything, then, once every mailbox is due again, a while of ordinary work at the
rate that docs/scaling.md assumes for so many, then mails whose way to the rate is timed. Memory, CPU, bytes and connections are what Docker and Postgres
say. The mail server stands beside, on the same machine.
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
from services.connect.onboarding import consented
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
POLLED = "SELECT count(*) FROM registry.mailboxes WHERE last_success_at > clock_timestamp() - make_interval(secs => %s)"
PUBLISHED = "SELECT count(*), pg_total_relation_size('registry.published') FROM registry.published"
CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'replyrate_%' AND usename <> 'replyrate_migrator'"
)


def measure(repeats: int) -> list[Figure]:
    """Every size once, however many repeats are asked for."""
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
    return [growth, fresh]


def measure_size(folder: Path, mailboxes: int) -> dict[str, Any]:
    """One stack, from nothing to its end; what was measured."""
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
            # All mailboxes lie at one host here; providers let so many log in that an hour is enough.
            f"REPLYRATE_IMAP__LOGINS_PER_HOUR=1000000\nREPLYRATE_IMAP__SESSIONS={WORKERS}\n"
        )
    stack.make_secrets()
    told: dict[str, Any] = {"mailboxes": mailboxes, "messages": mailboxes * MAILS, "inquiries": mailboxes * ASKED}
    with ExitStack() as ending:
        ending.callback(stack.down)
        began = time.monotonic()
        stack.up()
        told["start_seconds"] = round(time.monotonic() - began, 1)
        ending.enter_context(server)
        connection = ending.enter_context(psycopg.connect(stack.dsn("migrator"), autocommit=True))
        docker = Docker(stack)
        told["idle_mb"] = docker.memory_mb()
        asked_at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=7)
        _fill(server, users, asked_at)
        before, began = docker.cpu_seconds(), time.monotonic()
        peaks = ending.enter_context(Peaks(docker))
        told["registered_seconds"] = round(seconds(lambda: _register(stack, server.port, users)), 1)
        _ask(stack, users, asked_at)
        _until_equal(connection, SCANNED, mailboxes, "first scan")
        told["first_scan_seconds"] = round(time.monotonic() - began, 1)
        _until_equal(connection, REPLIES, mailboxes * ANSWERED, "answers joined")
        _until_equal(connection, OUTCOMES, mailboxes * ASKED * 2, "outcomes judged")
        told["settled_seconds"] = round(time.monotonic() - began, 1)
        told["scanned_per_second"] = round(mailboxes / told["first_scan_seconds"], 2)
        told["first_scan_cpu_seconds"] = _minus(docker.cpu_seconds(), before)
        told["loaded_mb"] = peaks.highest()
        # Those that were read first are due after an interval, and the others spread as they were read.
        _rest(began + POLL_SECONDS + 10 - time.monotonic())
        before, began = docker.cpu_seconds(), time.monotonic()
        told["ordinary_mails"] = _ordinary(server, users)
        elapsed = time.monotonic() - began
        told["ordinary_cores"] = {
            name: round(used / elapsed, 3) for name, used in _minus(docker.cpu_seconds(), before).items()
        }
        told["ordinary_mb"] = docker.memory_mb()
        polled = connection.execute(POLLED.encode(), [elapsed]).fetchone()
        assert polled is not None
        told["ordinary_polls_per_second"] = round(polled[0] / elapsed, 2)
        told["connections"] = _one(connection, CONNECTIONS)[0]
        waited = _timed_mails(stack, connection, server, users)
        cuts = quantiles(waited, n=20, method="inclusive")
        told["mail_to_rate_seconds"] = {"p50": round(cuts[9], 2), "p95": round(cuts[18], 2)}
        rows, size = _one(connection, PUBLISHED)
        told["published_rows"], told["published_bytes"] = rows, size
        told["ledger_bytes"] = _one(connection, LEDGER_BYTES)[0]
        (matcher,) = stack.containers("matcher")
        told["state_entries"] = int(stack.metric(matcher, "replyrate_matcher_state_entries"))
    return told


class Docker:
    """Memory and CPU of the stack's containers, as Docker's own command shows them."""

    def __init__(self, stack: Stack) -> None:
        from docker import from_env

        client = from_env()
        self._containers = {name: client.containers.get(stack.containers(name)[0]) for name in CONTAINERS}

    def memory_mb(self) -> dict[str, float]:
        """Container → what it holds, without the file pages that the kernel can drop at once."""
        return {
            name: round((stats["usage"] - stats["stats"].get("inactive_file", stats["stats"].get("total_inactive_file", 0))) / 1024**2, 1)
            for name, stats in self._read("memory_stats").items()
        }  # fmt: skip

    def cpu_seconds(self) -> dict[str, float]:
        """Container → CPU time since it began."""
        return {name: stats["cpu_usage"]["total_usage"] / 1e9 for name, stats in self._read("cpu_stats").items()}

    def _read(self, part: str) -> dict[str, Any]:
        # Docker takes a second for each; all at once take no longer.
        with ThreadPoolExecutor(len(self._containers)) as pool:
            read = {name: pool.submit(container.stats, stream=False) for name, container in self._containers.items()}
            return {name: pending.result()[part] for name, pending in read.items()}


class Peaks:
    """Looks at the memory every few seconds, in a thread of its own. A context manager."""

    def __init__(self, docker: Docker) -> None:
        self._docker = docker
        self._highest: dict[str, float] = {}
        self._done = False
        self._pool = ThreadPoolExecutor(1)

    def highest(self) -> dict[str, float]:
        """Container → the most of what was seen, in MB."""
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
    """Mail of the past straight into the folders: the first two of each answer an inquiry an hour after it."""
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
    """Without the connection test of each, which is not what is measured."""
    keys = stack.folder / "secrets"
    hasher, vault = Hasher((keys / "hash.key").read_bytes()), Vault((keys / "vault.key").read_bytes())
    with connect(stack.dsn("migrator"), "bench") as connection:
        registry, consent = Registry(connection, hasher, vault), consented("bench", "en")
        since = datetime.now(UTC) - timedelta(days=60)
        for number, user in enumerate(users):
            company_id, account_id = _place(number)
            registry.companies.add(company_id)
            registry.accounts.add(company_id, account_id)
            login = Login(user, HOST, port, user, "bench")
            registry.connection_attempts.begin(
                ConnectionAttempt(company_id, account_id, f"m{number}", "registered", login, consent)
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
    """Wait, and say for how long."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        print(f"\r    every mailbox is due again in {left:.0f} s    ", end="", file=sys.stderr)
        time.sleep(min(5, left))
    print(file=sys.stderr)


def _ordinary(server: ContainerDovecot, users: list[str]) -> int:
    """Mail at the rate of an ordinary day for a while; how many were appended."""
    chance = random.Random(1)
    pause = 86_400 / MAILS_A_DAY / len(users)
    began, sent = time.monotonic(), 0
    while (now := time.monotonic()) < began + ORDINARY_SECONDS:
        if now >= began + sent * pause:
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
        began = time.monotonic()
        connection.execute(DUE, [[f"m{mailbox}"]])

        def answered(company_id: str = company_id, inquiry_id: str = f"i{mailbox}-{ANSWERED}") -> bool:
            answer_row = connection.execute(
                "SELECT bool_and(first_reply_at IS NOT NULL) FROM report_v1.inquiry_outcomes"
                " WHERE company_id = %s AND inquiry_id = %s",
                (company_id, inquiry_id),
            ).fetchone()
            return answer_row == (True,)

        until(answered, 120, f"the answer of {users[mailbox]}")
        waited.append(time.monotonic() - began)
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
