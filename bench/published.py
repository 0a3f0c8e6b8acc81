"""What is stored of a published message, in bytes on disk with indexes, and what looking messages up costs. Part of `PARTS=scale`.

1. Parse headers as mailboxes of sellers have them: one recipient, and six of ten in a conversation of one to three mails.
2. Save them through the code of the fetcher: half of the days in first scans, mailbox by mailbox, the other half in polls of a few
   messages, all mailboxes in turns. Measure after a VACUUM.
3. The same into the form of releases before migration 0031, for comparison.
"""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, LiteralString

import psycopg

from bench.measure import Figure, Usage, scratch
from services.common import codec, migrations
from services.common.events import MessageSent
from services.common.hashing import Hasher
from services.common.postgres import connect
from services.common.stored_message import MailboxPlace
from services.mail import messages
from services.mail.messages import ParsedMessage
from services.mail.values import FetchedHeader
from services.registry.published import PublishedMessage, PublishedMessages
from services.standalone.servers.postgres import EmbeddedPostgres

MAILBOXES: Final = 100
DAYS: Final = 58
A_DAY: Final = 20
IN_A_POLL: Final = 2
IN_A_SCAN: Final = 500
LOOKUPS: Final = 200
HASHER: Final = Hasher(bytes(range(32)))
COMPACT: Final[LiteralString] = "registry.published_messages"
BEFORE: Final[LiteralString] = "registry.published"


def measure(repeats: int) -> list[Figure]:
    """Measured once, whatever `repeats` is."""
    del repeats
    size = Figure(
        "published_bytes_per_message", f"bytes of {COMPACT} with indexes, a message", 200, smaller_is_better=True
    )
    before = Figure("published_bytes_per_message_before", "… of the form before migration 0031, for comparison", None)
    single = Figure("published_lookup_cpu_ms", "Postgres' CPU to look up one new message of a mailbox", None)
    many = Figure("published_lookups_cpu_ms", f"… {IN_A_SCAN} known ones", None)
    with scratch() as folder, EmbeddedPostgres(folder / "postgres") as server:
        dsn = server.create_database("bench")
        with connect(dsn, "bench", statement_seconds=3600) as connection:
            migrations.migrate(connection, lambda _: None)
            connection.execute("SET session_replication_role = replica")  # no mailboxes are needed
            mailboxes = [sent_messages(number) for number in range(MAILBOXES)]
            save(connection, mailboxes)
            size.values.append(bytes_each(connection, COMPACT))
            size.detail["messages"] = sum(len(mailbox) for mailbox in mailboxes)
            size.detail["bytes of an event"] = round(
                sum(len(message.record) for message in mailboxes[0]) / len(mailboxes[0])
            )
            single.values.append(lookup_ms(connection, mailboxes, ["f" * 32]))
            many.values.append(lookup_ms(connection, mailboxes, None))
            connection.execute("UPDATE registry.published_form SET compact = false")
            save(connection, mailboxes)
            before.values.append(bytes_each(connection, BEFORE))
    return [size, before, single, many]


def place(number: int) -> MailboxPlace:
    """The ids of a mailbox; five are of one company."""
    return MailboxPlace(f"company-{number // 5:06}", "main", f"mailbox-{number:06}")


def sent_messages(mailbox: int) -> list[PublishedMessage]:
    """What a mailbox sent, oldest first, as its fetcher publishes it."""
    chance, ids, published = random.Random(mailbox), place(mailbox), []
    now = datetime.now(UTC)
    for number in range(DAYS * A_DAY):
        sent_at = (now - timedelta(days=DAYS - number / A_DAY)).replace(microsecond=0)
        lines = [
            f"Message-ID: <{chance.getrandbits(80):x}@seller-{mailbox}.example>", f"From: sales@seller-{mailbox}.example",
            f"To: buyer-{chance.randrange(10**6)}@shop.example", f"Date: {sent_at:%a, %d %b %Y %H:%M:%S} +0000", "Subject: Re: order",
        ]  # fmt: skip
        if chance.random() < 0.6:
            thread = [f"<{chance.getrandbits(80):x}@shop.example>" for _ in range(chance.randint(1, 3))]
            lines += [f"In-Reply-To: {thread[-1]}", f"References: {' '.join(thread)}"]
        header = FetchedHeader(
            number, sent_at + timedelta(seconds=2), None, 2_000, False, "\r\n".join([*lines, "", ""]).encode()
        )
        parsed = messages.parse_message(ids.company_id, header, HASHER)
        assert isinstance(parsed, ParsedMessage)
        is_scanned = number < DAYS * A_DAY / 2
        seen = now if is_scanned else sent_at + timedelta(seconds=chance.random() * 600)
        event, _ = messages.event(
            ids.company_id, ids.account_id, ids.mailbox_id, parsed, HASHER, after=None if is_scanned else seen - timedelta(seconds=600.2),
            first_seen=seen, login=f"sales@seller-{mailbox}.example",
        )  # fmt: skip
        published.append(PublishedMessage(event, record_of(event, ids, seen)))
    return published


def record_of(event: MessageSent, ids: MailboxPlace, seen: datetime) -> bytes:
    """The record of an event as it was sent."""
    return codec.encode(event, id=event.message_id, source=ids.source, time=seen)


def save(connection: psycopg.Connection, mailboxes: Sequence[Sequence[PublishedMessage]]) -> None:
    """Save what was published, each batch in a transaction of its own."""
    records = PublishedMessages(connection)
    for number, batch in batches(mailboxes):
        ids = place(number)
        records.save({"company_id": ids.company_id, "mailbox_id": ids.mailbox_id}, batch)


def batches(mailboxes: Sequence[Sequence[PublishedMessage]]) -> Iterator[tuple[int, Sequence[PublishedMessage]]]:
    """(mailbox, messages): the older half newest first as a scan reads it, then polls of all mailboxes in turns."""
    half = DAYS * A_DAY // 2
    for number, mailbox in enumerate(mailboxes):
        scanned = mailbox[half - 1 :: -1]
        for start in range(0, half, IN_A_SCAN):
            yield number, scanned[start : start + IN_A_SCAN]
    for start in range(half, DAYS * A_DAY, IN_A_POLL):
        for number, mailbox in enumerate(mailboxes):
            yield number, mailbox[start : start + IN_A_POLL]


def bytes_each(connection: psycopg.Connection, table: LiteralString) -> float:
    """Bytes of a table, its partitions and indexes for each row."""
    connection.execute(f"VACUUM ANALYZE {table}")
    (measured,) = connection.execute(
        f"SELECT (SELECT sum(pg_total_relation_size(relid)) FROM (SELECT '{table}'::regclass AS relid UNION"
        f" SELECT relid FROM pg_partition_tree('{table}')) leaf)::float8 / count(*) FROM {table}"
    ).fetchall()
    return float(measured[0])


def lookup_ms(
    connection: psycopg.Connection, mailboxes: Sequence[Sequence[PublishedMessage]], ids: list[str] | None
) -> float:
    """Milliseconds of Postgres' CPU for a lookup in one mailbox; `ids` None: of messages that it has."""
    usage, records = Usage(connection.info.backend_pid), PublishedMessages(connection)
    before = usage.cpu_seconds()
    for number in range(LOOKUPS):
        mailbox = number % MAILBOXES
        asked = ids or [message.message_id for message in mailboxes[mailbox][:IN_A_SCAN]]
        assert len(records.records(place(mailbox), asked)) == (0 if ids else IN_A_SCAN)
    return 1000 * (usage.cpu_seconds() - before) / LOOKUPS
