"""Both stores recover the same from a changelog, whatever it repeats and however it is split into batches."""

import random
from pathlib import Path

import pytest

from services.matcher import state
from services.matcher.state import JoinKeyEntry
from services.matcher.stores import Stores


@pytest.mark.parametrize("kind", ["memory", "rocksdb"])
@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_recovery_merges_repeated_rows_and_drops_dropped_ones(kind: str, size: int, tmp_path: Path) -> None:
    chance = random.Random(size)
    keys = [state.join_key("c1", f"{number:032x}") for number in range(6)]
    rows: list[tuple[bytes, bytes | None]] = [
        (chance.choice(keys), None if chance.random() < 0.2 else state.pack(JoinKeyEntry({}, [chance.randrange(9)])))
        for _ in range(80)
    ]
    expected: dict[bytes, set[int]] = {}
    for key, value in rows:
        if value is None:
            expected.pop(key, None)
        else:
            entry = state.unpack(key, value)
            assert isinstance(entry, JoinKeyEntry)
            expected.setdefault(key, set()).update(entry.days)
    stores = Stores(kind, tmp_path)
    for begin in range(0, len(rows), size):
        stores.recover(0, rows[begin : begin + size])
    days_by_key = {}
    for key in keys:
        if (value := stores[0].get(key)) is not None:
            entry = state.unpack(key, value)
            assert isinstance(entry, JoinKeyEntry)
            days_by_key[key] = set(entry.days)
    stores.close()
    assert days_by_key == expected and expected
