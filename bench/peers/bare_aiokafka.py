"""A loop on aiokafka that takes whole batches and persists nothing: its state is lost with the process."""

import asyncio
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.peers.core import FirstRecord, joined
from services.common.topics import INQUIRIES, SENT, partition_of
from services.matcher.handoff import MAX_BATCH_BYTES, Rows, send_all


async def run(address: str, group: str, output: str, partitions: int) -> None:
    """Poll, join, send, wait for the acks, commit once a second."""
    consumer = AIOKafkaConsumer(
        INQUIRIES, SENT, bootstrap_servers=address, group_id=group, enable_auto_commit=False,
        auto_offset_reset="earliest", max_partition_fetch_bytes=4 * 1024 * 1024,
    )  # fmt: skip
    producer = AIOKafkaProducer(bootstrap_servers=address, linger_ms=0, max_batch_size=MAX_BATCH_BYTES)
    await consumer.start()
    await producer.start()
    entries: dict[bytes, bytes | None] = {}
    first_record, committed = FirstRecord(), time.monotonic()
    while True:
        fetched = await consumer.getmany(timeout_ms=500)
        for records in fetched.values():
            first_record.now()
            out = joined([(record.topic, record.value) for record in records], entries.get)
            entries.update(out.changes)
            rows: Rows = {}
            for key, value in out.states:
                rows.setdefault(partition_of(key, partitions), []).append((key, value, []))
            await asyncio.gather(*await send_all(producer, output, rows))
        if not fetched or time.monotonic() - committed > 1:
            await consumer.commit()
            committed = time.monotonic()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
