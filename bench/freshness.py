"""How long it takes from a mail in the Sent folder to the changed row of the rate: all three services, one machine."""

import random
import sys
import time
from datetime import UTC, datetime, timedelta
from statistics import quantiles

import psycopg

from bench.measure import Figure, scratch
from bench.world import PASSWORD, World
from services.common import codec
from services.common.events import Buyer, InquiryReceived
from services.common.settings import KafkaSettings
from services.common.topics import INQUIRIES
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.postgres import EmbeddedPostgres
from services.standalone.world.letters import MailText
from tests.support.dovecot import Dovecot
from tests.support.processes import until
from tests.support.topics import create_topics, kafka_settings, publish

MAILBOXES = 10
ROUNDS = 6
POLL_SECONDS = 5
ASKED = timedelta(days=7)
"""Long enough ago that the day is final and in the window: a late answer changes its row."""
ANSWERED = "SELECT company_id, late FROM report_v1.reply_rate_latest WHERE level = 'company' AND rule_set = 'default'"
KNOWN = "SELECT count(*) FROM report_v1.inquiry_outcomes WHERE rule_set = 'default'"


def measure(repeats: int) -> list[Figure]:
    """Every company has a mailbox; in each round each company answers one inquiry at its own time."""
    middle = Figure("freshness_p50_seconds", f"mail appended → rate row changed, polled every {POLL_SECONDS} s", None)
    late = Figure("freshness_p95_seconds", "the same, the slowest of 20 mails", None)
    users = [f"fresh{number}@mail.test" for number in range(MAILBOXES)]
    for number in range(repeats):
        print(f"  freshness, {number + 1} of {repeats}", file=sys.stderr)
        with (
            scratch() as folder,
            EmbeddedPostgres(folder / "postgres", durable=True) as postgres,
            EmbeddedKafka(folder / "kafka") as kafka,
            Dovecot(folder / "dovecot", dict.fromkeys(users, PASSWORD), CertificateAuthority(folder / "ca")) as server,
        ):
            settings = kafka_settings(kafka.bootstrap_servers)
            create_topics(settings)
            world = World(folder / "world", settings, postgres.create_database("bench"), server)
            world.add_mailboxes((f"c{place}", user) for place, user in enumerate(users))
            polled = {"REPLYRATE_IMAP__POLL_INTERVAL_SECONDS": str(POLL_SECONDS)}
            with (
                world.start("fetcher", **polled),
                world.start("matcher"),
                world.start("aggregator"),
                psycopg.connect(world.dsn, autocommit=True) as connection,
            ):
                _ask(settings, connection)
                waited = [
                    seconds
                    for round_ in range(ROUNDS)
                    for seconds in _round(connection, server, users, round_, random.Random(f"{number}/{round_}"))
                ]
        cuts = quantiles(waited, n=20, method="inclusive")
        middle.values.append(cuts[9])
        late.values.append(cuts[18])
    return [middle, late]


def _ask(settings: KafkaSettings, connection: psycopg.Connection) -> None:
    """Publish every inquiry of every round, and wait until they are judged."""
    inquiries = [_inquiry(company, round_) for company in range(MAILBOXES) for round_ in range(ROUNDS)]
    publish(settings, INQUIRIES, [*inquiries])

    def known() -> bool:
        return connection.execute(KNOWN).fetchone() == (len(inquiries),)

    until(known, 120, "the inquiries are judged")


def _inquiry(company: int, round_: int) -> tuple[bytes, bytes]:
    at = datetime.now(UTC).replace(microsecond=0) - ASKED
    name = f"c{company}-{round_}"
    inquiry = InquiryReceived(
        company_id=f"c{company}", account_id="main", inquiry_id=name, received_at=at,
        buyer=Buyer(id=name, addresses=(f"{name}@shop.example",)), message_ids=(f"<{name}@platform.example>",),
    )  # fmt: skip
    return inquiry.company_id.encode(), codec.encode(inquiry, id=name, source="bench", time=at)


def _round(
    connection: psycopg.Connection, server: Dovecot, users: list[str], round_: int, chance: random.Random
) -> list[float]:
    """Append one answer to each mailbox, spread over a poll interval; seconds until each company's row shows it."""
    started = time.monotonic()
    due = sorted((started + chance.uniform(0, POLL_SECONDS), company) for company in range(MAILBOXES))
    appended: dict[str, float] = {}
    fresh: dict[str, float] = {}
    while len(fresh) < MAILBOXES:
        assert time.monotonic() - started < 90, f"not fresh after 90 s: {set(appended) - set(fresh)}"
        while due and due[0][0] <= time.monotonic():
            _, company = due.pop(0)
            _append(server, users[company], f"c{company}-{round_}")
            appended[f"c{company}"] = time.monotonic()
        rows: dict[str, int] = dict(connection.execute(ANSWERED).fetchall())
        for company_id in appended.keys() - fresh.keys():
            if rows.get(company_id, 0) >= round_ + 1:
                fresh[company_id] = time.monotonic() - appended[company_id]
        time.sleep(0.05)
    return list(fresh.values())


def _append(server: Dovecot, user: str, name: str) -> None:
    at = datetime.now(UTC).replace(microsecond=0)
    letter = MailText(
        user, (f"{name}@shop.example",), "Re: your inquiry", at, f"{name}.answer@mail.test",
        in_reply_to=f"{name}@platform.example", references=(f"{name}@platform.example",),
    )  # fmt: skip
    server.append(user, "Sent", letter.render(), at)
