"""The entries that one batch touches: each is read and unpacked once, changed in memory, and packed once at the end.

The join works with typed entries and never sees bytes. A key begins with the kind of its entry (state.py), so the
methods below know the type of what they return.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from services.common.events import InquiryReplies
from services.matcher import state
from services.matcher.state import Entry, ErasureEntry, JoinDayEntry, JoinKeyEntry

Read = Callable[[bytes], bytes | None]
"""The stored value of a key, if any."""
Scan = Callable[[bytes], Iterable[bytes]]
"""The stored keys with a prefix."""

_NO_JOIN_KEY: Final = JoinKeyEntry()
_NO_MESSAGES: Final = JoinDayEntry()


class BatchEntries:
    """A write-back cache over the store of a partition, for the time of one batch."""

    def __init__(self, read: Read, scan: Scan) -> None:
        self._read = read
        self._scan = scan
        self._entries: dict[bytes, Any] = {}
        """Entries as the batch sees them; None where there is no entry."""
        self._stored: dict[bytes, bytes | None] = {}
        """The same keys as they were stored when the batch first touched them."""
        self._changed: set[bytes] = set()

    def inquiry(self, key: bytes) -> InquiryReplies | None:
        """The joined state of an inquiry."""
        entry: InquiryReplies | None = self.get(key)
        return entry

    def join_key(self, key: bytes) -> JoinKeyEntry:
        """What waits under an address or Message-ID; an empty entry (do not change it in place) if there is none."""
        entry: JoinKeyEntry | None = self.get(key)
        return _NO_JOIN_KEY if entry is None else entry

    def join_day(self, key: bytes) -> JoinDayEntry:
        """The messages of a day; an empty entry (do not change it in place) if there is none."""
        entry: JoinDayEntry | None = self.get(key)
        return _NO_MESSAGES if entry is None else entry

    def erasure(self, key: bytes) -> ErasureEntry | None:
        """Up to when a company was erased."""
        entry: ErasureEntry | None = self.get(key)
        return entry

    def get(self, key: bytes) -> Any:
        """The entry of any kind under `key`, or None."""
        try:
            return self._entries[key]
        except KeyError:
            value = self._stored[key] = self._read(key)
            entry = self._entries[key] = None if value is None else state.unpack(key, value)
            return entry

    def put(self, key: bytes, entry: Entry | None) -> None:
        """Replace an entry that was read before; None drops it."""
        self._entries[key] = entry
        self._changed.add(key)

    def keys(self, prefixes: tuple[bytes, ...]) -> list[bytes]:
        """Keys with one of these prefixes in order, those of the store and those of the batch."""
        stored = {key for prefix in prefixes for key in self._scan(prefix)}
        return sorted(stored.union(key for key in self._entries if key.startswith(prefixes)))

    def changes(self) -> Iterator[tuple[bytes, Entry | None, bytes | None]]:
        """(key, entry, packed entry) of each entry that differs from what is stored, by key; None: dropped."""
        for key in sorted(self._changed):
            entry = self._entries[key]
            value = None if entry is None else state.pack(entry)
            if value != self._stored.get(key):
                yield key, entry, value
