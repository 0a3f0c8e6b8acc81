"""Unpacking compressed batches within limits, for both Kafka clients.

The limit of a topic applies to compressed batches, so a batch of 64 KiB may unpack to gigabytes. Both clients decompress a
batch as a whole. Two limits keep the memory of a consumer small:

- A batch that unpacks to more than BATCH_BYTES is not unpacked. It is delivered as one record, at the batch's last offset,
  whose value is an UnreadableBatch; decoding that value rejects it, so it becomes a dead letter and the next batch follows.
- A fetched partition ends after the batch that takes it over FETCHED_BYTES; what follows is fetched again. The matcher, which
  reads many partitions at once, takes no further partition when those before have unpacked that much (`take_unpacked`).

A single record that the client cannot read, such as one with a header name that is not UTF-8, is delivered as an
UnreadableBatch at its own offset; those before and after it are read.

A batch whose data is damaged is delivered in the same way; one with a wrong checksum when it is still wrong after it was
fetched again. A codec without its library is a ConfigError instead: the records are good, and this installation must be
repaired.
"""

import gzip
import io
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

from services.common.codec import UnreadableBatch
from services.common.errors import ConfigError

BATCH_BYTES: Final = 16 * 1024 * 1024
"""More than any batch of ours has, whose limit is 2 MiB, and 256 times the limit of an input topic."""
FETCHED_BYTES: Final = 16 * 1024 * 1024
MAX_DAMAGED: Final = 1000
CODECS: Final = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
"""By the codec bits of a batch's attributes."""
LIBRARIES: Final = {"snappy": ("snappy", "cramjam"), "lz4": ("lz4", "cramjam"), "zstd": ("zstandard", "cramjam")}
"""Codec → the modules that kafka-python (3.0.12) and aiokafka (0.14.0) read it with."""
CURE: Final = "install the packages of requirements/runtime.txt"
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = 16

_unpacked = threading.local()


def take_unpacked() -> int:
    """Bytes that this thread has unpacked since its last call."""
    total, _unpacked.total = getattr(_unpacked, "total", 0), 0
    return int(total)


class TooManyBytes(Exception):
    """A batch unpacks to more than BATCH_BYTES."""


def missing_libraries() -> list[str]:
    """One sentence for each codec that cannot be read here; empty when all can."""
    return [
        f"records compressed with {codec} cannot be read here: the Python module {' and '.join(missing)} is missing; {CURE}"
        for codec, modules in LIBRARIES.items()
        if (missing := [module for module in modules if find_spec(module) is None])
    ]


def limit_decoders(*modules: ModuleType) -> None:
    """Replace the functions with which the record module of a client decompresses."""
    for module in modules:
        for codec, decode in _DECODERS.items():
            # Both clients look these names up in their module at each call.
            setattr(module, f"{codec}_decode", decode)


@dataclass(slots=True)
class UnreadRecord:
    """A record in the place of a batch that was not unpacked, with the attributes that both clients read."""

    offset: int
    timestamp: int
    value: UnreadableBatch
    key: None = None
    timestamp_type: int = 0
    checksum: None = None
    size_in_bytes: int = 0
    headers: tuple[()] = ()

    def validate_crc(self) -> bool:
        """The checksum of the batch was compared before."""
        return True


class LimitedBatches:
    """The batches of a fetched partition, as a client iterates over them."""

    def __init__(
        self, batches: Any, topic: str, partition: int, reopen: Callable[[Any], Any] = lambda batch: batch
    ) -> None:
        """`batches`: the client's MemoryRecords. `reopen` gives a batch in the client's Python class, not its compiled one."""
        self._batches = batches
        self._reopen = reopen
        self._where = f"{topic}, partition {partition}"
        self._bytes_left = FETCHED_BYTES
        self._next: Any = None

    def has_next(self) -> bool:
        """Whether there is another batch within the limit."""
        if self._next is None:
            self._next = self._take()
        return self._next is not None

    def next_batch(self) -> Any:
        """The next batch; None behind the last one, or when the limit is reached."""
        batch, self._next = self._next or self._take(), None
        return batch

    def _take(self) -> Any:
        """The next batch of the client. One with a wrong checksum ends the fetch at first: it may have been damaged on the way."""
        if self._bytes_left <= 0 or (batch := self._batches.next_batch()) is None or batch.magic < 2:
            return None if self._bytes_left <= 0 else batch
        if not batch.validate_crc():
            if _damaged.first(self._where, batch.base_offset):
                self._bytes_left = 0
                return None
            return _DamagedBatch(batch, self)
        return batch if batch.is_control_batch else _LimitedBatch(batch, self)

    def damaged(self, batch: Any) -> Iterator[Any]:
        """The record in the place of a batch with a wrong checksum."""
        why = "has a wrong checksum: it was damaged on the broker's disk"
        return iter((self._unread(batch, "not-json", why),))

    def records_of(self, batch: Any) -> Iterator[Any]:
        """The records of a batch. ConfigError when the library of its codec is missing."""
        codec = CODECS.get(batch.compression_type, f"codec {batch.compression_type}")
        try:
            records: Iterator[Any] = iter(batch)
        except TooManyBytes:
            return iter((self._unread(batch, "limit", f"unpacks to more than {BATCH_BYTES // 1024**2} MiB"),))
        except Exception as error:
            # Each client has its own class of this name.
            if isinstance(error, ImportError) or type(error).__name__ == "UnsupportedCodecError":
                raise ConfigError(
                    f"{self._where}: the records at offset {batch.base_offset} are compressed with {codec}, which cannot be"
                    f" read here; {CURE}, then start the service again"
                ) from error
            return iter((self._unread(batch, "not-json", f"cannot be unpacked ({type(error).__name__})"),))
        if batch.compression_type:
            self._bytes_left -= _unpacked.size
            _unpacked.total = getattr(_unpacked, "total", 0) + _unpacked.size
        return self._readable(batch, records)

    def _readable(self, batch: Any, records: Iterator[Any]) -> Iterator[Any]:
        """`records` of the batch, with an UnreadRecord in the place of each that the client cannot read."""
        delivered = -1
        try:
            for record in records:
                delivered = record.offset
                yield record
        except Exception:
            # Damaged records (aiokafka: UnicodeDecodeError, CorruptRecordException; kafka-python: CorruptRecordError).
            yield from self._one_by_one(self._reopen(batch), delivered)

    def _one_by_one(self, batch: Any, delivered: int) -> Iterator[Any]:
        """The records after the offset `delivered`, past those that cannot be read."""
        records = iter(batch)
        while True:
            try:
                record = next(records)
            except StopIteration:
                return
            except Exception as error:
                record = _pass_record(batch, error)
                if record is None and delivered >= batch.next_offset - 1:
                    return  # more records are stated than there are, and all of them were delivered
                if record is None:
                    yield self._unread(batch, "not-json", f"is damaged ({type(error).__name__})")
                    return
            if record.offset > delivered:
                delivered = record.offset
                yield record

    def _unread(self, batch: Any, reason: str, why: str) -> UnreadRecord:
        last = batch.next_offset - 1
        codec = CODECS.get(batch.compression_type, "an unknown codec") if batch.compression_type else "uncompressed"
        detail = (
            f"the {codec} batch of offsets {batch.base_offset} to {last} {why}; its records were not read. Publish them"
            " again in smaller batches"
        )
        return UnreadRecord(last, batch.max_timestamp, UnreadableBatch(reason, detail))


def _pass_record(batch: Any, error: Exception) -> UnreadRecord | None:
    """Move the batch past the record at its position, which cannot be read; None when its end cannot be found."""
    # Private in both clients' Python classes (kafka-python 3.0.12, aiokafka 0.14.0), whose position stays at the record that
    # raised: `_buffer`, `_pos`, `_next_record_index`. The record begins with its length, attributes, time and offset.
    try:
        length, start = _varint(batch._buffer, batch._pos)
        _, at = _varint(batch._buffer, start)
        _, at = _varint(batch._buffer, at)
        offset_delta, _ = _varint(batch._buffer, at)
    except IndexError:
        return None
    if length <= 0 or start + length > len(batch._buffer) or not 0 <= offset_delta <= batch.last_offset_delta:
        return None
    batch._pos = start + length
    batch._next_record_index += 1
    why = f"the record's headers cannot be read ({type(error).__name__}); a header name must be UTF-8"
    return UnreadRecord(batch.base_offset + offset_delta, batch.max_timestamp, UnreadableBatch("not-json", why))


def _varint(buffer: Any, at: int) -> tuple[int, int]:
    """The zigzag number at a position, and the position behind it."""
    number = shift = 0
    while True:
        octet = buffer[at]
        number |= (octet & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if octet < 0x80:
            return (number >> 1) ^ -(number & 1), at


class _LimitedBatch:
    """A batch of the client whose records come from LimitedBatches; everything else is the batch's own."""

    def __init__(self, batch: Any, batches: LimitedBatches) -> None:
        self._batch = batch
        self._batches = batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def validate_crc(self) -> bool:
        """LimitedBatches compared the checksum."""
        return True

    def __iter__(self) -> Iterator[Any]:
        return self._batches.records_of(self._batch)


class _DamagedBatch(_LimitedBatch):
    """A batch whose checksum is wrong, so none of its attributes can be believed."""

    is_control_batch = False
    is_transactional = False

    def __iter__(self) -> Iterator[Any]:
        return self._batches.damaged(self._batch)


class _DamagedPositions:
    """Where a wrong checksum was seen once. Shared by the partitions of a process and by its threads."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], None] = {}
        self._lock = threading.Lock()

    def first(self, where: str, offset: int) -> bool:
        """Whether a wrong checksum is seen there for the first time; the second time forgets it."""
        with self._lock:
            if (where, offset) in self._seen:
                del self._seen[where, offset]
                return False
            self._seen[where, offset] = None
            if len(self._seen) > MAX_DAMAGED:
                del self._seen[next(iter(self._seen))]
            return True


_damaged = _DamagedPositions()


def _counted(decode: Callable[[bytes], bytes]) -> Callable[[Any], bytes]:
    def limited(payload: Any) -> bytes:
        unpacked = decode(bytes(payload))
        if len(unpacked) > BATCH_BYTES:
            raise TooManyBytes
        _unpacked.size = len(unpacked)
        return unpacked

    return limited


def _gzip(payload: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(payload)) as stream:
        return stream.read(BATCH_BYTES + 1)


def _lz4(payload: bytes) -> bytes:
    from lz4.frame import LZ4FrameDecompressor

    decompressor = LZ4FrameDecompressor()
    unpacked: bytes = decompressor.decompress(payload, max_length=BATCH_BYTES + 1)
    if len(unpacked) <= BATCH_BYTES and not decompressor.eof:
        raise EOFError("the lz4 frame is incomplete")
    return unpacked


def _zstd(payload: bytes) -> bytes:
    import zstandard

    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(payload), read_across_frames=True) as stream:
        return stream.read(BATCH_BYTES + 1)


def _snappy(payload: bytes) -> bytes:
    import cramjam

    blocks = [payload]
    # The framing of xerial's Java library, which Kafka's own client uses; some producers write its version in the other
    # byte order, so only the name is compared (https://github.com/dpkp/kafka-python/issues/2414).
    if payload.startswith(_XERIAL):
        blocks, at = [], _XERIAL_HEADER
        while at < len(payload):
            (size,) = struct.unpack_from("!I", payload, at)
            blocks.append(payload[at + 4 : at + 4 + size])
            at += 4 + size
    if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > BATCH_BYTES:
        raise TooManyBytes
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)


_DECODERS: Final = {
    "gzip": _counted(_gzip),
    "snappy": _counted(_snappy),
    "lz4": _counted(_lz4),
    "zstd": _counted(_zstd),
}
