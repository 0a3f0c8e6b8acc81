"""What is stored of published messages: the same bytes in every form, dropped by the week, gone with the mailbox."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg
import pytest
from psycopg import sql

from services.common import codec
from services.common.events import MessageSent
from services.common.hashing import Hasher
from services.common.lifecycle import Stop
from services.common.postgres import connect
from services.common.stored_message import MailboxPlace
from services.registry import erasure, published, retention
from services.registry.published import PublishedMessage, PublishedMessages
from services.registry.registry import Registry
from services.registry.vault import Vault
from tests.support.builders import a_sent_message, hash_of
from tests.support.mailboxes import connected

PLACE: Final = MailboxPlace("shop", "main", "m1")
MAILBOX: Final = {"company_id": "shop", "mailbox_id": "m1"}
NOW: Final = datetime.now(UTC)
MESSAGES: Final = [
    a_sent_message(
        company_id="shop", message_id=hash_of(number), sent_at=NOW - timedelta(days=number, microseconds=number), filed_before=NOW,
        recipients=(hash_of(99),), kind_reason="auto-submitted" if number % 2 else None,
    )
    for number in range(1, 21)
]  # fmt: skip


def message(number: int, age_days: float) -> PublishedMessage:
    sent_at = NOW - timedelta(days=age_days)
    return published_message(
        a_sent_message(company_id="shop", message_id=hash_of(number), sent_at=sent_at, filed_before=NOW)
    )


def published_message(event: MessageSent) -> PublishedMessage:
    record = codec.encode(event, id=event.message_id, source=PLACE.source, time=NOW)
    return PublishedMessage(event, record)


def records(connection: psycopg.Connection, count: int = 20) -> dict[str, bytes]:
    """The records of the first `count` messages, as they would be published again."""
    ids = [hash_of(number) for number in range(1, count + 1)]
    return {key: record for key, (_, record) in PublishedMessages(connection).records(PLACE, ids).items()}


def upgraded(connection: psycopg.Connection) -> None:
    """As after an upgrade: fetchers of the earlier release may run for another day."""
    connection.execute("UPDATE registry.published_form SET compact = false, compact_from = now() + interval '1 day'")
    connection.execute("UPDATE replyrate.migrations SET additive = true WHERE name = 'published_compact'")
    connection.execute("GRANT SELECT, INSERT, DELETE ON registry.published TO replyrate_fetcher")


@pytest.fixture
def owner(dsn: str) -> Iterator[psycopg.Connection]:
    """The owner of the database, in which a company has one mailbox."""
    with connect(dsn, "tests") as connection:
        registry = Registry(connection, Hasher(bytes(32)), Vault(bytes(range(32))))
        registry.companies.add("shop")
        registry.accounts.add("shop", "main")
        connected(registry, "shop")
        yield connection


@pytest.fixture
def fetcher(owner: psycopg.Connection, dsn: str) -> Iterator[psycopg.Connection]:
    """A connection with the privileges of a fetcher."""
    with connect(dsn, "tests") as connection:
        connection.execute("SET ROLE replyrate_fetcher")
        yield connection


def test_the_owner_of_the_database_explains_without_being_a_superuser(owner: psycopg.Connection) -> None:
    """As the command line does in a stack: its login belongs to none of the services' roles."""
    PublishedMessages(owner).save(MAILBOX, [message(1, 1)])
    login = sql.Identifier(f"{owner.info.dbname}_owner")
    owner.execute(sql.SQL("CREATE ROLE {}").format(login))
    try:
        owner.execute(sql.SQL("GRANT USAGE ON SCHEMA registry TO {}").format(login))
        owner.execute(sql.SQL("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA registry TO {}").format(login))
        owner.execute(sql.SQL("SET SESSION AUTHORIZATION {}").format(login))
        stored = owner.execute(
            "SELECT count(*) FROM registry.stored_message('shop', 'm1', %s)", (hash_of(1),)
        ).fetchone()
        assert stored == (1,)
    finally:
        owner.execute("RESET SESSION AUTHORIZATION")
        owner.execute(sql.SQL("DROP OWNED BY {}").format(login))
        owner.execute(sql.SQL("DROP ROLE {}").format(login))


def names(connection: psycopg.Connection) -> list[str]:
    weeks = connection.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'registry.published_messages'::regclass ORDER BY 1"
    ).fetchall()
    return [name for (name,) in weeks]


@pytest.mark.parametrize("compact", [True, False])
def test_records_come_back_byte_for_byte(owner: psycopg.Connection, fetcher: psycopg.Connection, compact: bool) -> None:
    if not compact:
        upgraded(owner)
    sent = [published_message(event) for event in MESSAGES]
    PublishedMessages(fetcher).save(MAILBOX, sent)
    assert records(fetcher) == {message.message_id: message.record for message in sent}
    assert PublishedMessages(fetcher).records(MailboxPlace("shop", "main", "m2"), [hash_of(1)]) == {}
    tables = owner.execute(
        "SELECT (SELECT count(*) FROM registry.published_messages), (SELECT count(*) FROM registry.published)"
    ).fetchone()
    assert tables == ((20, 0) if compact else (0, 20))


def test_after_a_day_what_the_earlier_release_stored_is_moved_in_pieces(
    owner: psycopg.Connection, fetcher: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended after any piece it goes on where it was, and no record changes."""
    monkeypatch.setattr(published, "PIECE_ROWS", 6)
    upgraded(owner)
    sent = [published_message(event) for event in MESSAGES]
    PublishedMessages(fetcher).save(MAILBOX, sent)
    expected = {message.message_id: message.record for message in sent}
    # Of an earlier version, with a field less; and one whose record cannot be read at all.
    expected[hash_of(3)] = expected[hash_of(3)].replace(b',"senders":[]', b"")
    expected[hash_of(4)] = b'{"unreadable":true}'
    for number in (3, 4):
        owner.execute(
            "UPDATE registry.published SET record = %s WHERE message_id = %s",
            (expected[hash_of(number)], hash_of(number)),
        )
    retention.keep_weeks(fetcher, 60)
    assert retention.move_records(fetcher, 60, Stop()) == 0 and records(fetcher) == expected

    owner.execute("UPDATE registry.published_form SET compact_from = now()")
    retention.keep_weeks(fetcher, 60)
    assert next(iter(PublishedMessages(fetcher).move_records(60, Stop()))) == 6
    assert records(fetcher) == expected
    assert retention.move_records(fetcher, 60, Stop()) == 14 and records(fetcher) == expected
    assert owner.execute("SELECT count(*) FROM registry.published").fetchone() == (0,)
    retention.keep_weeks(fetcher, 60)
    assert owner.execute("SELECT pg_relation_size('registry.published')").fetchone() == (0,)
    forms = owner.execute(
        "SELECT count(*) FILTER (WHERE get_byte(record, 0) = ascii('{')), count(*) FROM registry.published_messages"
    ).fetchone()
    assert forms == (2, 20)


def test_fetchers_of_the_earlier_release_end_before_the_first_compact_row(
    owner: psycopg.Connection, fetcher: psycopg.Connection
) -> None:
    upgraded(owner)
    retention.keep_weeks(fetcher, 60)
    fetcher.execute("SELECT record FROM registry.published")
    owner.execute("UPDATE registry.published_form SET compact_from = now()")
    PublishedMessages(fetcher).save(MAILBOX, [message(1, 1)])
    assert owner.execute("SELECT count(*) FROM registry.published_messages").fetchone() == (0,)
    retention.keep_weeks(fetcher, 60)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        fetcher.execute("SELECT record FROM registry.published")
    assert owner.execute("SELECT additive FROM replyrate.migrations WHERE name = 'published_compact'").fetchone() == (
        False,
    )
    PublishedMessages(fetcher).save(MAILBOX, [message(2, 1)])
    assert records(fetcher).keys() == {hash_of(1), hash_of(2)}


def test_weeks_before_the_horizon_are_dropped_and_no_row_is_deleted(
    owner: psycopg.Connection, fetcher: psycopg.Connection
) -> None:
    retention.keep_weeks(fetcher, 120)
    weeks = names(owner)
    PublishedMessages(fetcher).save(
        MAILBOX, [message(number, age) for number, age in enumerate((0, 1, 59, 70, 90, 119), 1)]
    )
    owner.execute(
        "CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'a row is deleted'; END $$;"
        " CREATE TRIGGER refuse BEFORE DELETE ON registry.published_messages FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse()"
    )
    assert retention.trim(fetcher, 60)["published"] == 0
    retention.keep_weeks(fetcher, 60)
    assert records(fetcher).keys() == {hash_of(1), hash_of(2), hash_of(3)}
    assert len(weeks) - len(names(owner)) in (8, 9)
    # The weeks to come are there: a mail whose Date runs ahead has its place.
    PublishedMessages(fetcher).save(MAILBOX, [message(7, -28)])
    assert hash_of(7) in records(fetcher)


def test_a_week_that_is_being_read_is_dropped_later(owner: psycopg.Connection, fetcher: psycopg.Connection) -> None:
    """A dump holds its locks for hours: nothing waits for it longer than the lock timeout."""
    retention.keep_weeks(fetcher, 70)
    before = len(names(owner))
    PublishedMessages(fetcher).save(MAILBOX, [message(1, 69)])
    with owner.transaction():
        owner.execute("SELECT count(*) FROM registry.published_messages")
        retention.keep_weeks(fetcher, 60)
        PublishedMessages(fetcher).save(MAILBOX, [message(2, 1)])
    assert len(names(owner)) == before
    retention.keep_weeks(fetcher, 60)
    assert len(names(owner)) < before and records(fetcher).keys() == {hash_of(2)}


def test_weeks_are_kept_with_statistics_of_the_catalog(owner: psycopg.Connection, fetcher: psycopg.Connection) -> None:
    """With them the planner may read names of other relations before it looks for the partitions."""
    owner.execute("VACUUM ANALYZE pg_catalog.pg_class")
    owner.execute("VACUUM ANALYZE pg_catalog.pg_inherits")
    retention.keep_weeks(fetcher, 60)
    assert len(names(owner)) > 8


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("how", ["erased", "removed"])
def test_messages_go_with_their_mailbox(
    owner: psycopg.Connection, fetcher: psycopg.Connection, how: str, compact: bool
) -> None:
    if not compact:
        upgraded(owner)
    registry = Registry(owner, Hasher(bytes(32)), Vault(bytes(range(32))))
    registry.accounts.add("shop", "second")
    connected(registry, "shop", "second", "m2", address="other@mail.test")
    PublishedMessages(fetcher).save(MAILBOX, [message(1, 1)])
    PublishedMessages(fetcher).save({**MAILBOX, "mailbox_id": "m2"}, [message(2, 1)])
    assert erasure.count_rows(fetcher, "shop")["published"] == 2
    if how == "removed":
        registry.mailboxes.remove("shop", "m1")
        assert erasure.count_rows(fetcher, "shop")["published"] == 1
        assert records(fetcher) == {}
    else:
        fetcher.execute("SELECT registry.erase_company('shop')")
    stored = owner.execute(
        "SELECT (SELECT count(*) FROM registry.published_messages) + (SELECT count(*) FROM registry.published)"
    ).fetchone()
    assert stored == (1 if how == "removed" else 0,)
