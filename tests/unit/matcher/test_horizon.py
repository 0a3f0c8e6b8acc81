"""The horizon moves with the records, and never faster than this host's clock."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from services.matcher import state
from services.matcher.horizon import AHEAD_OF_RECORDS, HorizonClock, HorizonSweeper
from services.matcher.stores import Stores

NOW = datetime(2026, 11, 1, tzinfo=UTC)
HORIZON = timedelta(days=60)


def milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def test_the_earlier_of_host_and_records_decides() -> None:
    clock = HorizonClock(lambda: NOW, HORIZON)
    assert clock.earliest() is None, "no record was read"
    clock.note(-1)
    assert clock.earliest() is None, "a record without a timestamp"
    clock.note(milliseconds(NOW - timedelta(days=70)))
    assert clock.earliest() == NOW - timedelta(days=70) + AHEAD_OF_RECORDS - HORIZON
    clock.note(milliseconds(NOW))
    clock.note(milliseconds(NOW - timedelta(days=3)))
    assert clock.earliest() == NOW - HORIZON
    clock.note(milliseconds(NOW + timedelta(days=70)))
    assert clock.earliest() == NOW - HORIZON, "a producer that runs ahead"
    clock.note(2**62)
    assert clock.earliest() == NOW - HORIZON


def test_a_host_70_days_ahead_drops_no_state(tmp_path: Path) -> None:
    stores = Stores("memory", tmp_path)
    key = state.join_day("c", "0" * 32, state.day_of(NOW))
    stores[0].write({key: state.pack(state.JoinDayEntry())})
    sent: list[Any] = []

    async def send(rows: Any) -> None:
        sent.append(rows)

    async def sweep(host: datetime, newest: datetime) -> None:
        clock = HorizonClock(lambda: host, HORIZON)
        clock.note(milliseconds(newest))
        sender: Any = SimpleNamespace(send=send)
        await HorizonSweeper(stores, sender, "changelog", clock.earliest, asyncio.Lock())._sweep(0)

    asyncio.run(sweep(NOW + timedelta(days=70), NOW))
    assert sent == [] and stores[0].get(key) is not None
    asyncio.run(sweep(NOW + timedelta(days=70), NOW + timedelta(days=70)))
    assert len(sent) == 1 and stores[0].get(key) is None
