"""Stores for the entries of a partition: a dict, or RocksDB if they outgrow memory.

Both are caches of the changelog: a store is empty when its partition is assigned to this process, and recovery fills it.
So a local file that is old, damaged or deleted can never be wrong, and nothing here needs a sync.
"""

import shutil
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from services.matcher import state


class Store(Protocol):
    """Entries of one partition."""

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`, if any."""

    def scan(self, prefix: bytes) -> Iterator[bytes]:
        """Keys with this prefix, in order."""

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Set entries, and drop those whose value is None, all together."""

    def slice(self, after: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """The next `count` entries after the key `after`, in key order; empty at the end."""

    def close(self) -> None:
        """Drop everything."""

    def size(self) -> tuple[int, int]:
        """(entries, bytes of keys and values); an estimate where counting would cost too much."""


class MemoryStore:
    """A dict."""

    def __init__(self) -> None:
        self._entries: dict[bytes, bytes] = {}
        self._bytes = 0
        self._order: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

    def scan(self, prefix: bytes) -> Iterator[bytes]:
        return iter(sorted(key for key in self._entries if key.startswith(prefix)))

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        entries = self._entries
        for key, value in changes.items():
            before = entries.get(key)
            if before is not None:
                self._bytes -= len(key) + len(before)
            if value is not None:
                entries[key] = value
                self._bytes += len(key) + len(value)
            elif before is not None:
                del entries[key]

    def slice(self, after: bytes, count: int) -> list[tuple[bytes, bytes]]:
        # Sorted once per round, not per slice; keys that were added since then are part of the next round.
        if not after:
            self._order = sorted(self._entries)
        start = bisect_left(self._order, after + b"\0" if after else b"")
        entries: list[tuple[bytes, bytes]] = []
        for key in self._order[start:]:
            value = self._entries.get(key)
            if value is not None:
                entries.append((key, value))
            if len(entries) == count:
                break
        if not entries:
            self._order = []
        return entries

    def close(self) -> None:
        self._entries.clear()
        self._order = []
        self._bytes = 0

    def size(self) -> tuple[int, int]:
        return len(self._entries), self._bytes


class RocksStore:
    """RocksDB in its own folder, which is wiped when it is opened."""

    def __init__(self, folder: Path) -> None:
        from rocksdict import AccessType, BlockBasedOptions, Cache, Options, Rdict, WriteBatch, WriteOptions

        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        # By default the library takes 2 GiB of cache for each store; a partition needs a small part of that.
        options.set_write_buffer_size(16 * 1024 * 1024)
        blocks = BlockBasedOptions()
        blocks.set_block_cache(Cache(16 * 1024 * 1024))
        blocks.set_bloom_filter(10, False)
        options.set_block_based_table_factory(blocks)
        self._folder = folder
        self._new_batch = WriteBatch
        write_options: Any = WriteOptions()
        write_options.disable_wal = True
        self._write_options = write_options
        self._db: Any = Rdict(str(folder), options, access_type=AccessType.read_write())

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._db.get(key)
        return value

    def scan(self, prefix: bytes) -> Iterator[bytes]:
        for key in self._db.keys(from_key=prefix):
            if not key.startswith(prefix):
                return
            yield key

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        batch = self._new_batch(raw_mode=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        self._db.write(batch, self._write_options)

    def slice(self, after: bytes, count: int) -> list[tuple[bytes, bytes]]:
        entries: list[tuple[bytes, bytes]] = []
        for key, value in self._db.items(from_key=after + b"\0" if after else b"\0"):
            entries.append((key, value))
            if len(entries) == count:
                break
        return entries

    def close(self) -> None:
        self._db.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def size(self) -> tuple[int, int]:
        entries = self._db.property_int_value("rocksdb.estimate-num-keys") or 0
        return entries, self._db.property_int_value("rocksdb.estimate-live-data-size") or 0


class Stores:
    """The stores of the partitions that are assigned to this process."""

    def __init__(self, kind: str, folder: Path) -> None:
        """`kind`: `memory` or `rocksdb`; `folder`: where RocksDB may write."""
        self._kind = kind
        self._folder = folder
        self._stores: dict[int, Store] = {}

    def __getitem__(self, partition: int) -> Store:
        """The store of a partition; a new and empty one if there is none."""
        store = self._stores.get(partition)
        if store is None:
            store = MemoryStore() if self._kind == "memory" else RocksStore(self._folder / f"partition-{partition}")
            self._stores[partition] = store
        return store

    def partitions(self) -> list[int]:
        """The partitions that have a store."""
        return sorted(self._stores)

    def recover(self, partition: int, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Merge rows of the changelog, oldest first, into the store, so that an old row takes nothing away."""
        store = self[partition]
        changes: dict[bytes, bytes | None] = {}
        for key, value in rows:
            stored = changes[key] if key in changes else store.get(key)
            changes[key] = value if value is None or stored is None else state.merge(key, stored, value)
        store.write(changes)

    def drop(self, partition: int) -> None:
        """Remove a partition's store."""
        store = self._stores.pop(partition, None)
        if store is not None:
            store.close()

    def close(self) -> None:
        """Remove all stores."""
        for partition in self.partitions():
            self.drop(partition)

    def size(self) -> tuple[int, int]:
        """(entries, bytes) of all stores."""
        sizes = [store.size() for store in self._stores.values()]
        return sum(entries for entries, _ in sizes), sum(size for _, size in sizes)
