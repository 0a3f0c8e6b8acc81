"""Quix Streams: both topics concatenated, a stateful `apply` over RocksDB with its changelog."""

import sys
from pathlib import Path
from typing import Any

from quixstreams import Application
from quixstreams.models.serializers import Serializer

from bench.peers.core import FirstRecord, joined
from services.common.topics import INQUIRIES, SENT


class Second(Serializer):  # type: ignore[misc]
    """Values are (key, bytes)."""

    def __call__(self, value: tuple[bytes, bytes], ctx: Any) -> bytes:
        """The bytes."""
        return value[1]


def main() -> None:
    """Run until it is killed."""
    address, group, output, _, folder = sys.argv[1:6]
    app = Application(
        broker_address=address, consumer_group=group, auto_offset_reset="earliest", commit_interval=1.0,
        state_dir=Path(folder), processing_guarantee="at-least-once", loglevel="WARNING",
    )  # fmt: skip
    first_record = FirstRecord()

    def join(value: bytes, state: Any, topic: str) -> list[tuple[bytes, bytes]]:
        first_record.now()
        out = joined([(topic, value)], lambda key: state.get_bytes(key.decode("latin-1")))
        for key, entry in out.changes.items():
            if entry is None:
                state.delete(key.decode("latin-1"))
            else:
                state.set_bytes(key.decode("latin-1"), entry)
        return out.states

    def source(name: str) -> Any:
        topic = app.topic(name, key_deserializer="bytes", value_deserializer="bytes")
        return app.dataframe(topic).apply(lambda value: (name, value))

    frame = source(INQUIRIES).concat(source(SENT))
    frame = frame.apply(lambda pair, state: join(pair[1], state, pair[0]), stateful=True, expand=True)
    frame.to_topic(app.topic(output, key_serializer="bytes", value_serializer=Second()), key=lambda pair: pair[0])
    app.run()


if __name__ == "__main__":
    main()
