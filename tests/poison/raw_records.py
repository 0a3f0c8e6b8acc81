"""Record batches as bytes, and a way to bring them to a broker: what no client library would write.

Format of a batch and of a record: https://kafka.apache.org/documentation/#messageformat (magic 2). `produce` is one Produce
request of version 7 over a bare socket; `append_to_log` writes into the segment of a stopped broker, as a failing disk does.
"""

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from kafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from kafka.record.util import calc_crc32c

CODECS: Final = {
    "none": (0, bytes), "gzip": (1, gzip_encode), "snappy": (2, snappy_encode), "lz4": (3, lz4_encode), "zstd": (4, zstd_encode),
}  # fmt: skip
"""Name → bits in the attributes of a batch, and what compresses."""
HEAD: Final = struct.Struct(">qiiBIhiqqqhii")
"""Base offset, size, leader epoch, magic, CRC, attributes, last offset delta, first and last time, producer id, epoch,
sequence, number of records."""
CHECKED_FROM: Final = 21
"""The CRC covers everything behind itself."""
SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record before it is in a batch. `timestamp_ms` since 1970; header names are bytes."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[bytes, bytes | None], ...] = ()
    timestamp_ms: int = 0

    def but(self, **changes: Any) -> Self:
        """The record with other fields."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a batch."""

    codec_bits: int | None = None
    """Stated instead of the codec that was used."""
    payload: bytes | None = None
    """Instead of the records."""
    cut: int = 0
    """Bytes that are missing at the end of the records."""
    count: int | None = None
    """Stated instead of the number of records."""
    crc: int = 0
    """Bits of the checksum that are flipped."""
    record_prefix: bytes | None = None
    """Instead of the length of the first record."""
    attributes: int = 0
    """Further bits of the attributes."""
    offset_deltas: tuple[int, ...] = field(default=())
    """Of the records, instead of 0, 1, 2."""


INTACT: Final = Damage()


def batch(records: Sequence[RawRecord], codec: str = "none", *, base_offset: int = 0, damage: Damage = INTACT) -> bytes:
    """A batch of `records`; its offsets begin at `base_offset`."""
    bits, compress = CODECS[codec]
    start = records[0].timestamp_ms if records else 0
    deltas = damage.offset_deltas or tuple(range(len(records)))
    encoded = [
        _record(record, record.timestamp_ms - start, delta) for record, delta in zip(records, deltas, strict=True)
    ]
    if damage.record_prefix is not None:
        encoded[0] = damage.record_prefix + encoded[0][1:]
    payload = compress(b"".join(encoded)) if damage.payload is None else damage.payload
    payload = payload[: len(payload) - damage.cut]
    attributes = (bits if damage.codec_bits is None else damage.codec_bits) | damage.attributes
    count = len(records) if damage.count is None else damage.count
    last_delta, newest = (max(deltas), max(record.timestamp_ms for record in records)) if records else (0, 0)
    fields = (attributes, last_delta, start, newest, -1, -1, -1, count)
    unchecked = HEAD.pack(base_offset, HEAD.size - 12 + len(payload), 0, 2, 0, *fields) + payload
    crc = calc_crc32c(unchecked[CHECKED_FROM:]) ^ damage.crc
    return HEAD.pack(base_offset, HEAD.size - 12 + len(payload), 0, 2, crc, *fields) + payload


def produce(bootstrap_servers: str, topic: str, partition: int, raw: bytes) -> tuple[int, int]:
    """Send a batch; returns Kafka's error code (0: none) and the offset that its first record got."""
    host, _, port = bootstrap_servers.partition(":")
    client = b"tests"
    body = struct.pack(">hhih", 0, 7, 1, len(client)) + client + struct.pack(">hhi", -1, -1, SECONDS * 1000)
    body += struct.pack(">ih", 1, len(topic)) + topic.encode() + struct.pack(">iii", 1, partition, len(raw)) + raw
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        with connection.makefile("rb") as stream:
            (size,) = struct.unpack(">i", stream.read(4))
            answer = stream.read(size)
    _correlation, _topics, name_size = struct.unpack_from(">iih", answer)
    _partitions, _partition, error, offset = struct.unpack_from(">iihq", answer, 10 + name_size)
    return error, offset


def append_to_log(folder: Path, topic: str, partition: int, raw: bytes) -> None:
    """Write batches at the end of a partition of a stopped broker, whose data are in `folder`."""
    segment = max((folder / f"{topic}-{partition}").glob("*.log"))
    with segment.open("ab") as file:
        file.write(raw)


def _record(record: RawRecord, time_delta: int, offset_delta: int) -> bytes:
    parts = [b"\0", _varint(time_delta), _varint(offset_delta), _sized(record.key), _sized(record.value)]
    parts.append(_varint(len(record.headers)))
    for name, content in record.headers:
        parts += [_sized(name), _sized(content)]
    encoded = b"".join(parts)
    return _varint(len(encoded)) + encoded


def _sized(content: bytes | None) -> bytes:
    return _varint(-1) if content is None else _varint(len(content)) + content


def _varint(number: int) -> bytes:
    zigzag = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while zigzag > 0x7F:
        encoded.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    encoded.append(zigzag)
    return bytes(encoded)
