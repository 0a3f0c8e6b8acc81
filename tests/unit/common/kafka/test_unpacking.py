"""Unpacking within limits: every codec, too much of it, damaged data, a missing library; in the classes of both clients."""

import gzip
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.record._crecords.memory_records import MemoryRecords as AioRecords
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as DefaultRecordBatchBuilder
from kafka.record import MemoryRecords, MemoryRecordsBuilder

import services.common.kafka.reader
import services.matcher.faust_batches  # noqa: F401 # both replace the decoders of their client
from services.common import codec
from services.common.errors import ConfigError, InvalidEvent
from services.common.kafka import unpacking
from services.common.kafka.unpacking import BATCH_BYTES, LimitedBatches, missing_libraries
from services.matcher.faust_batches import KeptRecords
from tests.poison.raw_records import Damage, RawRecord, batch
from tests.support.topics import CODECS, RawName

CLIENTS = [MemoryRecords, AioRecords]
NUMBERS = {name: number for number, name in unpacking.CODECS.items()}


def packed(compression: str, values: list[bytes], offset: int = 0) -> bytes:
    """A batch as a producer packs it."""
    builder = MemoryRecordsBuilder(magic=2, compression_type=NUMBERS[compression], batch_size=1 << 30, offset=offset)
    for value in values:
        builder.append(timestamp=1_700_000_000_000, key=b"k", value=value)
    builder.close()
    return bytes(builder.buffer())


def read(client: Callable[[bytes], Any], raw: bytes) -> list[tuple[int, bytes]]:
    """(offset, value) of every record that one fetch delivers."""
    batches = LimitedBatches(client(raw), "inquiries.v1", 3)
    delivered = []
    while batches.has_next():
        delivered += [(record.offset, record.value) for record in batches.next_batch()]
    return delivered


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("compression", CODECS)
def test_every_codec_is_read(client: Callable[[bytes], Any], compression: str) -> None:
    values = [b"one", b"x" * 200_000, b"three"]
    assert read(client, packed(compression, values)) == list(enumerate(values))


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("compression", CODECS)
def test_too_large_a_batch_is_one_unreadable_record_at_its_last_offset(
    client: Callable[[bytes], Any], compression: str
) -> None:
    large = packed(compression, [b"a", b" " * (BATCH_BYTES + 1)])
    (first, second) = read(client, large + packed(compression, [b"next"], offset=2))
    assert (first[0], second) == (1, (2, b"next"))
    with pytest.raises(
        InvalidEvent, match=f"limit: the {compression} batch of offsets 0 to 1 unpacks to more than 16 MiB"
    ):
        codec.decode(first[1], accept=frozenset())


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("compression", CODECS)
def test_a_fetch_ends_when_it_has_unpacked_enough(client: Callable[[bytes], Any], compression: str) -> None:
    raw = b"".join(packed(compression, [b" " * (BATCH_BYTES // 2)], offset) for offset in range(5))
    assert [offset for offset, _ in read(client, raw)] == [0, 1]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("compression", CODECS)
def test_damaged_data_is_one_unreadable_record(client: Callable[[bytes], Any], compression: str) -> None:
    raw = batch([RawRecord(b"k", b"x" * 1000)], compression, damage=Damage(payload=b"\xff" * 500))
    ((offset, value),) = read(client, raw)
    assert offset == 0
    with pytest.raises(InvalidEvent, match="not-json: .* cannot be unpacked"):
        codec.decode(value, accept=frozenset())


@pytest.mark.parametrize("client", CLIENTS)
def test_unknown_codec_bits_are_one_error_with_topic_partition_and_cure(client: Callable[[bytes], Any]) -> None:
    raw = batch([RawRecord(b"k", b"x" * 1000)], damage=Damage(codec_bits=6))
    with pytest.raises(
        ConfigError, match=r"inquiries.v1, partition 3: .* offset 0 .* codec 6, .* requirements/runtime.txt"
    ):
        read(client, raw)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("compression", ["none", *CODECS])
def test_a_wrong_checksum_is_fetched_again_and_then_one_unreadable_record(
    client: Callable[[bytes], Any], compression: str
) -> None:
    records = [RawRecord(b"k", b"first"), RawRecord(b"k", b"second")]
    good = batch(records, compression)
    damaged = batch(records, compression, base_offset=2, damage=Damage(crc=1))
    after = batch(records, compression, base_offset=4)
    assert [offset for offset, _ in read(client, good + damaged + after)] == [0, 1], (
        "it may have been damaged on the way"
    )
    (unread, *following) = read(client, damaged + after)
    assert unread[0] == 3 and [offset for offset, _ in following] == [4, 5]
    with pytest.raises(InvalidEvent, match="not-json: .* offsets 2 to 3 has a wrong checksum"):
        codec.decode(unread[1], accept=frozenset())


def test_a_missing_library_is_one_error_and_a_problem_of_topics_check(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_libraries() == []
    raw = packed("zstd", [b"x" * 1000])
    monkeypatch.setattr("kafka.codec.zstd", None)
    with pytest.raises(ConfigError, match=r"inquiries.v1, partition 3: .* compressed with zstd"):
        read(MemoryRecords, raw)
    monkeypatch.setattr(unpacking, "find_spec", lambda module: None if module == "cramjam" else module)
    assert [problem.split(" cannot")[0] for problem in missing_libraries()] == [
        f"records compressed with {name}" for name in ("snappy", "lz4", "zstd")
    ]


def test_several_gzip_members_are_bounded_together() -> None:
    half = gzip.compress(b" " * (BATCH_BYTES // 2 + 1))
    with pytest.raises(unpacking.TooManyBytes):
        unpacking._DECODERS["gzip"](half + half)


def with_bad_header(name: bytes, compression: str = "gzip") -> bytes:
    """Three records; the second one has a header whose name is in no character set."""
    builder = DefaultRecordBatchBuilder(2, NUMBERS.get(compression, 0), 0, -1, -1, -1, 1 << 20)
    for offset in range(3):
        header: list[tuple[str, bytes]] = [(RawName(name), b"v")] if offset == 1 else []
        builder.append(offset, 1_700_000_000_000, b"k", f"v{offset}".encode(), header)
    return bytes(builder.build())


@pytest.mark.parametrize("client", [MemoryRecords, KeptRecords])
@pytest.mark.parametrize("compression", ["none", *CODECS])
@pytest.mark.parametrize("name", [b"\xff\xfe", b"\xc3"])
def test_a_header_name_that_is_not_utf_8_costs_only_its_record(
    client: Callable[[bytes], Any], compression: str, name: bytes
) -> None:
    raw = with_bad_header(name, compression)
    source = client(raw)
    batches = LimitedBatches(source, "inquiries.v1", 3, getattr(source, "reopen", lambda batch: batch))
    records = list(batches.next_batch())
    assert [record.offset for record in records] == [0, 1, 2]
    assert [record.value for record in records if record.offset != 1] == [b"v0", b"v2"]
    with pytest.raises(InvalidEvent, match="not-json: the record's headers cannot be read"):
        codec.decode(records[1].value, accept=frozenset())
