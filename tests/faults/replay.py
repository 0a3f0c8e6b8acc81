"""The whole topics once more, into an empty database and by a matcher that knows nothing: the same ledger."""

import time
from contextlib import ExitStack

from kafka import KafkaAdminClient

from services.common import migrations
from services.common.postgres import connect
from services.common.settings import load_settings
from services.common.topics import REPLIES
from tests.faults.arena import Arena
from tests.support.processes import Process, until

LEDGER = {
    "inquiries": "SELECT to_jsonb(t)::text FROM ledger.inquiries t ORDER BY 1",
    "statuses": "SELECT to_jsonb(t)::text FROM ledger.statuses t ORDER BY 1",
    "replies": "SELECT to_jsonb(t)::text FROM ledger.replies t ORDER BY 1",
    "erased": "SELECT to_jsonb(t)::text FROM ledger.erased t ORDER BY 1",
}
SECONDS = 90.0


def forget(arena: Arena, topic: str) -> None:
    """Delete a topic; it may be made again then."""
    client = KafkaAdminClient(bootstrap_servers=arena.environ()["REPLYRATE_KAFKA__BOOTSTRAP_SERVERS"])
    try:
        client.delete_topics([topic])
        deadline = time.monotonic() + 20
        while topic in client.list_topics():
            assert time.monotonic() < deadline, f"topic {topic} does not go away"
            time.sleep(0.1)
    finally:
        client.close()


def ledger(dsn: str) -> dict[str, list[str]]:
    """Every row of the facts, as text."""
    with connect(dsn, "faults") as connection:
        return {
            name: [row[0] for row in connection.execute(query.encode()).fetchall()] for name, query in LEDGER.items()
        }


def replayed_differences(arena: Arena) -> list[str]:
    """Replay what the topics of `arena` hold; its services must be stopped. Sentences about what differs."""
    app_id, name = "replyrate-replay", "replayed"
    dsn = arena.create_database(name)
    with connect(dsn, "faults") as connection:
        migrations.migrate(connection, lambda _: None)
    environ = arena.environ(
        REPLYRATE_POSTGRES__DSN=dsn,
        REPLYRATE_MATCHER__APP_ID=app_id,
        REPLYRATE_MATCHER__DATA_DIR=str(arena.folder / name),
        REPLYRATE_AGGREGATOR__GROUP=f"{app_id}-ledger",
    )
    wanted = ledger(arena.direct_dsn)
    # What the first matcher joined goes, so that the ledger can only come from the new one.
    forget(arena, REPLIES)
    arena.create_topics(load_settings(environ), app_id)
    with ExitStack() as stack:
        processes = tuple(
            stack.enter_context(Process(f"services.{service}", environ, arena.folder / f"replay-{service}.log"))
            for service in ("matcher", "aggregator")
        )
        try:
            until(lambda: ledger(dsn) == wanted, SECONDS, "the replay", processes)
        except AssertionError:
            found = ledger(dsn)
            return [
                f"replay: {table}: {row}"
                for table in LEDGER
                for row in sorted(set(wanted[table]) ^ set(found[table]))[:5]
            ]
        codes = [process.terminate() for process in processes]
    return [f"replay: a service ended with {code}" for code in codes if code != 0]
