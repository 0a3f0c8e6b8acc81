"""The join on our matcher, beside the same join on Faust as documented, on Quix Streams and on bare aiokafka."""

import asyncio
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from bench import traffic
from bench.measure import Figure, Usage, scratch
from services.common.errors import TransientError
from services.common.kafka import Admin
from services.common.settings import KafkaSettings
from services.common.topics import INQUIRIES, SENT, TopicSpec, changelog_name, partition_of
from services.matcher.handoff import Rows, send_all
from services.standalone.servers.environment import service_environ
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.paths import ROOT
from tests.support.processes import Process, until
from tests.support.topics import create_topics, kafka_settings

INQUIRY_COUNT = 100_000
EVENTS = 3 * INQUIRY_COUNT
NAIVE_EVENTS = 30_000
"""The naive join stops here: it would need minutes for all events, and becomes slower with time."""
PEERS_PYTHON = ROOT / ".cache" / "bench" / "bin" / "python"


GROWTH_INQUIRIES = 1_030_000
GROWTH_AT = (10_000, 100_000, 1_000_000)
"""Numbers of stored inquiries at which a stretch starts whose speed is measured."""
STRETCH = 60_000
"""Events of a stretch."""


def measure_growth(repeats: int) -> list[Figure]:
    """One long run (it takes minutes, so it is not repeated), then a recovery of its state."""
    del repeats
    growth = Figure("matcher_growth", "events/s: the slowest of three stretches ÷ the fastest", 0.8)
    recovery = Figure("recovery_seconds_per_100k", "seconds to rebuild 100,000 entries from the changelog", None)
    stored = Figure("state_bytes_per_message", "keys and values of the state ÷ stored sent messages", None)
    with scratch() as folder, EmbeddedKafka(folder / "kafka") as kafka:
        settings = kafka_settings(kafka.bootstrap_servers)
        create_topics(settings)
        print("  filling the topics for the long run", file=sys.stderr)
        events = fill(settings, traffic.records(2, GROWTH_INQUIRIES))
        run = Run(settings, folder / "run", "growth")
        print(f"  {events:,} events", file=sys.stderr)
        progress = run.long(events)
        stretches = [_stretch(progress, 3 * at, STRETCH) for at in GROWTH_AT]
        growth.values.append(min(speed for speed, _ in stretches) / max(speed for speed, _ in stretches))
        growth.detail = {
            "inquiries_stored": list(GROWTH_AT), "events_per_second": [round(speed) for speed, _ in stretches],
            "cpu_us_per_event": [round(cpu, 1) for _, cpu in stretches],
        }  # fmt: skip
        entries, size, seconds = run.recovered("long")
        recovery.values.append(seconds / entries * 100_000)
        recovery.detail = {"entries": entries, "seconds": seconds}
        stored.values.append(size / (2 * GROWTH_INQUIRIES))
        stored.detail = {"bytes": size, "messages": 2 * GROWTH_INQUIRIES, "inquiries": GROWTH_INQUIRIES}
    return [growth, recovery, stored]


def measure(repeats: int) -> list[Figure]:
    """In each repeat every variant reads the same topics from their start, one after the other."""
    detail = {"events": EVENTS, "naive_events": NAIVE_EVENTS, "companies": traffic.COMPANIES}
    naive = Figure("matcher_vs_naive_faust", "events/s ÷ the same join as idiomatic Faust", 10, detail=dict(detail))
    quix = Figure("matcher_vs_quix", "÷ the same join on Quix Streams 3.28", 3)
    bare = Figure("matcher_vs_bare_aiokafka", "÷ an aiokafka batch loop that persists nothing", 0.5)
    two = Figure("matcher_two_workers", "two processes ÷ one, two cores shared with the broker", 1.2)
    measured: dict[str, list[Rate]] = {name: [] for name in ("ours", "two", "naive", "quix", "bare")}
    with scratch() as folder, EmbeddedKafka(folder / "kafka") as kafka:
        settings = kafka_settings(kafka.bootstrap_servers)
        create_topics(settings)
        fill(settings, traffic.records(1, INQUIRY_COUNT))
        for number in range(repeats):
            print(f"  the matcher and its peers, {number + 1} of {repeats}", file=sys.stderr)
            run = Run(settings, folder / f"run-{number}", f"r{number}")
            measured["ours"].append(run.ours("ours", 1, EVENTS))
            measured["bare"].append(run.peer("bare_aiokafka", EVENTS))
            measured["two"].append(run.ours("two", 2, EVENTS))
            measured["quix"].append(run.peer("quix", EVENTS))
            measured["naive"].append(run.peer("naive_faust", NAIVE_EVENTS))
    ours = [rate.per_second for rate in measured["ours"]]
    for figure, peer in ((naive, "naive"), (quix, "quix"), (bare, "bare")):
        figure.values = [mine / theirs.per_second for mine, theirs in zip(ours, measured[peer], strict=True)]
    two.values = [both.per_second / mine for both, mine in zip(measured["two"], ours, strict=True)]
    naive.detail |= {
        name: {
            "events_per_second": [round(rate.per_second) for rate in rates],
            "cpu_us_per_event": [round(rate.cpu_us, 1) for rate in rates],
            "peak_rss_mb": [round(rate.peak_mb) for rate in rates],
        }
        for name, rates in measured.items()
    }
    return [naive, quix, bare, two]


@dataclass(frozen=True, slots=True)
class Rate:
    """The speed of one variant: events/s, CPU µs per event of all its processes, and the peak RSS of the largest in MB."""

    per_second: float
    cpu_us: float
    peak_mb: float


def fill(
    settings: KafkaSettings,
    events: Iterator[tuple[str, bytes, bytes]],
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Put the events into their topics, packed like the matcher packs; returns how many. `progress` is called after each chunk."""

    async def run() -> int:
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.bootstrap_servers, linger_ms=0, max_batch_size=64 * 1024, max_request_size=2**20
        )
        await producer.start()
        count = 0
        while chunk := list(itertools.islice(events, 20_000)):
            topics: dict[str, Rows] = {INQUIRIES: {}, SENT: {}}
            for topic, key, value in chunk:
                rows = topics[topic].setdefault(partition_of(key, settings.partitions), [])
                rows.append((key, value, []))
            sent = [future for topic, rows in topics.items() for future in await send_all(producer, topic, rows)]
            await asyncio.gather(*sent)
            count += len(chunk)
            progress(count)
        await producer.stop()
        return count

    return asyncio.run(run())


@dataclass(slots=True)
class Progress:
    """How many records a group has committed, sampled: (epoch seconds, records, CPU seconds of the processes)."""

    samples: list[tuple[float, int, float]] = field(default_factory=list)

    def reaches(self, count: int) -> bool:
        """Whether that many are committed."""
        return bool(self.samples) and self.samples[-1][1] >= count

    def at(self, instant: float) -> tuple[float, int, float]:
        """The last sample up to an instant."""
        before = [sample for sample in self.samples if sample[0] <= instant]
        return before[-1] if before else (instant, 0, 0.0)


@contextmanager
def watched(settings: KafkaSettings, group: str, usage: Sequence[Usage]) -> Iterator[Progress]:
    """Sample a group ten times a second."""
    progress, done = Progress(), threading.Event()

    def sample() -> None:
        with Admin(settings, "bench") as admin:
            while not done.wait(0.1):
                try:
                    offsets = admin.committed(group)
                except TransientError:
                    continue  # a broker that has just started creates its offsets topic first
                count = sum(offset for (topic, _), offset in offsets.items() if topic in (INQUIRIES, SENT))
                progress.samples.append(
                    (time.time(), count, sum(process_usage.cpu_seconds() for process_usage in usage))
                )

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        done.set()
        thread.join(10)


class Run:
    """One repeat: every variant with a group and state of its own."""

    def __init__(self, settings: KafkaSettings, folder: Path, label: str) -> None:
        self._settings = settings
        self._folder = folder
        self._label = label
        folder.mkdir()

    def ours(self, name: str, workers: int, target: int, store: str = "memory") -> Rate:
        """Our matcher in `workers` processes, from the time when all of them have their partitions to the last commit."""
        app_id = f"bench-{name}-{self._label}"
        create_topics(self._settings, app_id)
        processes = [start_matcher(self._settings, self._folder / f"{name}-{n}", app_id, store) for n in range(workers)]
        try:
            usage = [Usage(process.pid) for process in processes]
            with watched(self._settings, app_id, usage) as progress:
                until(lambda: progress.reaches(target), 600, f"{app_id} is done", tuple(processes))
            return _rate(progress, max(recovered_at(process) for process in processes), target, usage)
        finally:
            for process in processes:
                process.kill()
                process.__exit__()

    def long(self, target: int) -> Progress:
        """One worker through all events; its progress."""
        app_id = f"bench-long-{self._label}"
        create_topics(self._settings, app_id)
        with start_matcher(self._settings, self._folder / "long", app_id, "memory") as process:
            with watched(self._settings, app_id, [Usage(process.pid)]) as progress:
                until(lambda: progress.reaches(target), 1_200, f"{app_id} is done", (process,))
            process.terminate()
        return progress

    def recovered(self, name: str, store: str = "memory") -> tuple[int, int, float]:
        """Entries, bytes and seconds of a worker that starts with nothing but the changelog of `name`."""
        with start_matcher(self._settings, self._folder / "again", f"bench-{name}-{self._label}", store) as process:
            until(lambda: bool(_recoveries(process)), 600, "the state is here", (process,))
            recovery = _recoveries(process)[-1]
            process.terminate()
        return recovery["entries"], recovery["bytes"], recovery["seconds"]

    def peer(self, module: str, target: int) -> Rate:
        """One of bench/peers, from its first record to the commit of its `target`th."""
        group, output = f"bench-{module}-{self._label}", f"{module}-{self._label}"
        with Admin(self._settings, "bench") as admin:
            shape = {"min.insync.replicas": "1"}
            names = (output, changelog_name(group))
            admin.create_topics([TopicSpec(each, self._settings.partitions, 1, shape) for each in names])
        command = [
            str(PEERS_PYTHON), "-m", f"bench.peers.{module}", self._settings.bootstrap_servers, group, output,
            str(self._settings.partitions), str(self._folder / module),
        ]  # fmt: skip
        log = self._folder / f"{module}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(ROOT)}
            )
        try:
            usage = [Usage(process.pid)]
            with watched(self._settings, group, usage) as progress:
                deadline = time.monotonic() + 600
                while not progress.reaches(target):
                    output = log.read_text("utf-8")[-3000:]
                    assert process.poll() is None, f"{module} ended: {output}"
                    assert time.monotonic() < deadline, f"{module} is not done: {output}"
                    time.sleep(0.05)
            first = [line for line in log.read_text("utf-8").splitlines() if line.startswith("first ")]
            return _rate(progress, float(first[0].split()[1]), target, usage)
        finally:
            process.kill()
            process.wait()


def _stretch(progress: Progress, start_at: int, events: int) -> tuple[float, float]:
    """events/s and CPU µs per event between two commits that are about `events` apart."""
    first = next(sample for sample in progress.samples if sample[1] >= start_at)
    last = next((sample for sample in progress.samples if sample[1] >= first[1] + events), progress.samples[-1])
    count = last[1] - first[1]
    return count / (last[0] - first[0]), (last[2] - first[2]) / count * 1e6


def start_matcher(settings: KafkaSettings, folder: Path, app_id: str, store: str) -> Process:
    """The service as production starts it."""
    folder.mkdir()
    (folder / "hash.key").write_bytes(traffic.HASH_KEY)
    environ = service_environ(
        folder,
        kafka=settings.bootstrap_servers,
        partitions=settings.partitions,
        dsn="postgresql://unused@127.0.0.1:1/none",
        MATCHER__APP_ID=app_id,
        MATCHER__STORE=store,
    )
    return Process("services.matcher", environ, folder / "log")


def recovered_at(process: Process) -> float:
    """When the worker last completed a recovery (epoch seconds)."""
    return datetime.fromisoformat(_recoveries(process)[-1]["at"].replace("Z", "+00:00")).timestamp()


def _recoveries(process: Process) -> list[dict[str, Any]]:
    return [line for line in process.lines() if line.get("action") == "recovery-done"]


def _rate(progress: Progress, start_at: float, target: int, usage: Sequence[Usage]) -> Rate:
    _, count, cpu = progress.at(start_at)
    end, total, spent = next(sample for sample in progress.samples if sample[1] >= target)
    events = total - count
    return Rate(
        events / (end - start_at), (spent - cpu) / events * 1e6, max(process_usage.peak_mb for process_usage in usage)
    )
