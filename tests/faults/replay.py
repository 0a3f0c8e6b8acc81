"""Replay of the whole topics into an empty database by a matcher without state: it must give the same ledger."""

from contextlib import ExitStack

from kafka import KafkaAdminClient

from services.common import migrations
from services.common.postgres import connect
from services.common.settings import load_settings
from services.common.topics import REPLIES
from tests.faults.arena import Arena
from tests.faults.progress import observe, wait_until_still
from tests.support.processes import Process, until

LEDGER = {
    "inquiries": "SELECT to_jsonb(t)::text FROM ledger.inquiries t ORDER BY 1",
    "statuses": "SELECT to_jsonb(t)::text FROM ledger.statuses t ORDER BY 1",
    "replies": "SELECT to_jsonb(t)::text FROM ledger.replies t ORDER BY 1",
    "erased": "SELECT to_jsonb(t)::text FROM ledger.erased t ORDER BY 1",
}
DELETE_SECONDS = 120.0


def forget(arena: Arena, topic: str) -> None:
    """Delete a topic, and return when it can be created again."""
    client = KafkaAdminClient(bootstrap_servers=arena.environ()["REPLYRATE_KAFKA__BOOTSTRAP_SERVERS"])
    try:
        client.delete_topics([topic])
        until(lambda: topic not in client.list_topics(), DELETE_SECONDS, f"topic {topic} is deleted")
    finally:
        client.close()


def ledger(dsn: str) -> dict[str, list[str]]:
    """Every row of the facts, as text."""
    with connect(dsn, "faults") as connection:
        return {
            name: [fact_row[0] for fact_row in connection.execute(query.encode()).fetchall()]
            for name, query in LEDGER.items()
        }


def replayed_differences(arena: Arena, still_seconds: float, longest_seconds: float) -> list[str]:
    """Replay the topics of `arena`, whose services must be stopped; a sentence for each row that differs."""
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
    # The joined states of the first matcher are deleted, so that the ledger can only come from the new one.
    forget(arena, REPLIES)
    arena.create_topics(load_settings(environ), app_id)
    with ExitStack() as stack:
        processes = tuple(
            stack.enter_context(Process(f"services.{service}", environ, arena.folder / f"replay-{service}.log"))
            for service in ("matcher", "aggregator")
        )

        def differences() -> list[str]:
            for process in processes:
                assert process.running(), f"a service of the replay ended: {process.log.read_text('utf-8')[-3000:]}"
            replayed = ledger(dsn)
            return [
                f"replay: {table}: {fact_row}"
                for table in LEDGER
                for fact_row in sorted(set(wanted[table]) ^ set(replayed[table]))[:5]
            ]

        remaining = wait_until_still(
            differences,
            lambda: observe(arena.kafka_settings, dsn, app_id),
            still_seconds=still_seconds,
            longest_seconds=longest_seconds,
        )
        codes = [process.terminate() for process in processes]
    return [*remaining, *(f"replay: a service ended with {code}" for code in codes if code != 0)]
