"""Time, CPU and size of calls of a web process."""

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

import httpx

from bench.measure import Usage
from bench.polls import PostgresUsage


@dataclass(slots=True)
class Timings:
    """Calls of one kind: milliseconds of each, the largest body as it travels compressed, CPU of web process and Postgres for a call."""

    name: str
    milliseconds: list[float] = field(default_factory=list)
    compressed_kb: float = 0
    portal_ms: float = 0
    postgres_ms: float = 0

    @property
    def p95(self) -> float:
        """The slowest of 20."""
        return quantiles(self.milliseconds, n=20)[-1] if len(self.milliseconds) > 1 else self.milliseconds[0]

    def line(self) -> list[Any]:
        """As it is written: name, calls, p50, p95, CPU of portal and Postgres for a call, compressed size."""
        times = [median(self.milliseconds), self.p95, self.portal_ms, self.postgres_ms, self.compressed_kb]
        return [self.name, len(self.milliseconds), *(round(value, 1) for value in times)]


@dataclass(frozen=True, slots=True)
class Meter:
    """Measures calls of one kind after the other."""

    process: Usage
    """Of the web process."""
    postgres: PostgresUsage

    def measured(self, name: str, calls: Sequence[Callable[[], httpx.Response]]) -> Timings:
        """Time each call until its answer is read. Fails when an answer is an error."""
        timings = Timings(name)
        before = self.process.cpu_seconds(), self.postgres.cpu_seconds()
        for call in calls:
            started = time.perf_counter()
            response = call()
            timings.milliseconds.append(1000 * (time.perf_counter() - started))
            assert response.status_code < 400, (name, response.status_code, response.text[:300])
            timings.compressed_kb = max(timings.compressed_kb, compressed_kb(response))
        timings.portal_ms = 1000 * (self.process.cpu_seconds() - before[0]) / len(calls)
        timings.postgres_ms = 1000 * (self.postgres.cpu_seconds() - before[1]) / len(calls)
        return timings


def compressed_kb(response: httpx.Response) -> float:
    """What a proxy that compresses sends for a body, kB; 0 for an export, of which only the first bytes are read."""
    try:
        return len(zlib.compress(response.content)) / 1000
    except httpx.ResponseNotRead:
        return 0
