"""Faust as its documentation shows it: an agent over events, a table, `send` for each output."""

import sys
from typing import Any

import faust

from bench.peers.core import FirstRecord, joined
from services.common.topics import INQUIRIES, SENT


def main() -> None:
    """Run until it is killed."""
    address, group, output, partitions, folder = sys.argv[1:6]
    app = faust.App(
        group, broker=f"kafka://{address}", datadir=folder, store="memory://", web_enabled=False, topic_allow_declare=False,
        topic_disable_leader=True, topic_partitions=int(partitions), broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest", value_serializer="raw", key_serializer="raw",
    )  # fmt: skip
    table = app.Table("joined", partitions=int(partitions), key_type=bytes, value_type=bytes)
    incoming = app.topic(INQUIRIES, SENT, key_type=bytes, value_type=bytes)
    states = app.topic(output, key_type=bytes, value_type=bytes)
    first_record = FirstRecord()

    @app.agent(incoming, concurrency=1)  # type: ignore[untyped-decorator]
    async def join(stream: Any) -> None:
        async for event in stream.events():
            first_record.now()
            out = joined([(event.message.topic, event.value)], table.get)
            for key, value in out.changes.items():
                table[key] = value
            for key, value in out.states:
                await states.send(key=key, value=value)

    faust.Worker(app, loglevel="ERROR").execute_from_commandline()


if __name__ == "__main__":
    main()
