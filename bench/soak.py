"""`make soak`: the RSS of the services at full rate, which must not grow, and of the matcher with millions of messages.

`services`: all three for minutes with the same facts: a mailbox is rescanned as soon as it has been read, inquiries and
joined states are published repeatedly. State cannot grow from that, so growing memory is a leak.

`state`: one matcher with RocksDB and a given number of stored sent messages: its memory and its recovery.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import linear_regression

import psycopg

from bench import fetcher as mailbox
from bench import traffic
from bench.matcher import Run, fill, recovered_at, start_matcher, watched
from bench.measure import Figure, Usage, save, scratch, show
from bench.world import PASSWORD, World
from services.common.kafka import Admin, Publisher
from services.common.settings import KafkaSettings
from services.common.topics import INQUIRIES, REPLIES
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.postgres import EmbeddedPostgres
from tests.support.dovecot import Dovecot
from tests.support.processes import until
from tests.support.topics import create_topics, kafka_settings, publish, read_all

SAMPLE_SECONDS = 5.0
WARM = 1 / 3
"""The part of a soak in which caches fill; the slope is measured after it."""
MESSAGES = 5_000
INQUIRIES_AGAIN = 5_000
BEHIND = 20_000
"""Lag of a reader, in records, above which nothing more is published."""
SERVICES = ("fetcher", "matcher", "aggregator")


def services(minutes: float) -> list[Figure]:
    """The slope of each service's RSS, in MB a minute."""
    mailbox.MESSAGES = MESSAGES
    with (
        scratch() as folder,
        EmbeddedPostgres(folder / "postgres", durable=True) as postgres,
        EmbeddedKafka(folder / "kafka") as kafka,
        Dovecot(folder / "dovecot", {mailbox.USER: PASSWORD}, CertificateAuthority(folder / "ca")) as server,
    ):
        mailbox._fill(server)
        settings = kafka_settings(kafka.bootstrap_servers)
        create_topics(settings)
        world = World(folder / "world", settings, postgres.create_database("soak"), server)
        world.add_mailboxes([("company-0000", mailbox.USER)])
        inquiries = [(key, value) for topic, key, value in traffic.records(1, INQUIRIES_AGAIN) if topic == INQUIRIES]
        publish(settings, INQUIRIES, [*inquiries])
        with world.start("fetcher") as fetcher, world.start("matcher") as matcher, world.start("aggregator") as merger:
            processes = (fetcher, matcher, merger)
            until(lambda: "reached the horizon" in fetcher.log.read_text("utf-8"), 300, "the first scan", processes)
            states = [(record.key or b"", record.value) for record in read_all(settings, REPLIES)]
            done = threading.Event()
            threads = [
                threading.Thread(target=_rescan_repeatedly, args=(world.dsn, done), daemon=True),
                threading.Thread(
                    target=_publish_repeatedly,
                    args=(settings, INQUIRIES, inquiries, "replyrate-matcher", done),
                    daemon=True,
                ),
                threading.Thread(
                    target=_publish_repeatedly,
                    args=(settings, REPLIES, states, "replyrate-aggregator", done),
                    daemon=True,
                ),
            ]
            for thread in threads:
                thread.start()
            samples = _sampled(
                [Usage(process.pid) for process in processes], minutes, lambda: all(p.running() for p in processes)
            )
            done.set()
            for thread in threads:
                thread.join(30)
        with Admin(settings, "soak") as admin:
            read = {
                group: sum(admin.committed(group).values()) for group in ("replyrate-matcher", "replyrate-aggregator")
            }
    figures = []
    for place, name in enumerate(SERVICES):
        series = [(at, sizes[place]) for at, sizes in samples]
        warm = [sample for sample in series if sample[0] >= minutes * 60 * WARM]
        figure = Figure(f"rss_slope_{name}", "MB a minute, the first third left out", 1.0, smaller_is_better=True)
        figure.values = [linear_regression(*zip(*warm, strict=True)).slope * 60]
        figure.detail = {
            "minutes": minutes, "mb_begin": round(warm[0][1], 1), "mb_end": round(warm[-1][1], 1),
            "mb_each_minute": [round(size) for _, size in series[:: round(60 / SAMPLE_SECONDS)]], "records_read": read,
        }  # fmt: skip
        figures.append(figure)
    return figures


def state(messages: int) -> list[Figure]:
    """Peak RSS of the matcher with `messages` sent messages in RocksDB."""
    with scratch() as folder, EmbeddedKafka(folder / "kafka") as kafka:
        settings = kafka_settings(kafka.bootstrap_servers)
        create_topics(settings)
        run = Run(settings, folder / "run", "soak")
        app_id = "bench-state-soak"
        create_topics(settings, app_id)
        with start_matcher(settings, folder / "matcher", app_id, "rocksdb") as matcher:
            usage = Usage(matcher.pid)
            with watched(settings, app_id, [usage]) as progress:
                events = fill(
                    settings,
                    traffic.records(3, messages // 2),
                    lambda sent: _print_progress(sent, progress.samples[-1:]),
                )
                until(lambda: progress.reaches(events), 3_600, "everything is joined", (matcher,))
            recovered = recovered_at(matcher)
            matcher.terminate()
        rate = events / (progress.samples[-1][0] - recovered)
        entries, size, seconds = run.recovered("state", "rocksdb")
    peak = Figure("matcher_rocksdb_peak_mb", f"peak RSS of the matcher with {messages:,} sent messages stored", None)
    peak.values = [usage.peak_mb]
    peak.detail = {
        "messages": messages, "events": events, "entries": entries, "bytes": size, "events_per_second": round(rate),
        "recovery_seconds": seconds,
    }  # fmt: skip
    return [peak]


def _sampled(usage: list[Usage], minutes: float, running: Callable[[], bool]) -> list[tuple[float, list[float]]]:
    started = time.monotonic()
    samples: list[tuple[float, list[float]]] = []
    while (at := time.monotonic() - started) < minutes * 60:
        assert running(), "a service ended"
        samples.append((at, [process_usage.rss_mb() for process_usage in usage]))
        sizes_text = ", ".join(f"{name} {size:.0f} MB" for name, size in zip(SERVICES, samples[-1][1], strict=True))
        print(f"\r  {at / 60:5.1f} of {minutes:g} min: {sizes_text}   ", end="", file=sys.stderr, flush=True)
        time.sleep(SAMPLE_SECONDS)
    print(file=sys.stderr)
    return samples


def _rescan_repeatedly(dsn: str, done: threading.Event) -> None:
    """Request a rescan whenever the last one is complete."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        while not done.wait(0.2):
            connection.execute(
                "UPDATE registry.mailboxes SET reconcile_after = now(), next_poll_at = now()"
                " WHERE lease_owner IS NULL AND reconcile_after > now()"
            )


def _publish_repeatedly(
    settings: KafkaSettings, topic: str, records: list[tuple[bytes, bytes | None]], group: str, done: threading.Event
) -> None:
    """Publish the same records repeatedly, as fast as the group reads them."""
    sent = 0
    with Publisher(settings, "soak") as publisher, Admin(settings, "soak") as admin:
        while not done.is_set():
            read = sum(offset for (name, _), offset in admin.committed(group).items() if name == topic)
            if sent - read > BEHIND:
                time.sleep(0.1)
                continue
            assert not publisher.wait([publisher.send(topic, key, value) for key, value in records])
            sent += len(records)


def _print_progress(sent: int, last: list[tuple[float, int, float]]) -> None:
    print(f"\r  {sent:,} events sent, {last[0][1] if last else 0:,} joined   ", end="", file=sys.stderr, flush=True)


def main() -> int:
    """Measure both parts, or the one that is named."""
    parser = argparse.ArgumentParser(prog="make soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", nargs="?", choices=("services", "state"))
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--messages", type=int, default=5_000_000)
    options = parser.parse_args()
    figures: list[Figure] = []
    if options.part in (None, "services"):
        figures += services(options.minutes)
    if options.part in (None, "state"):
        figures += state(options.messages)
    print(show(figures))
    print(f"written to {save(figures, Path(__file__).with_name('results'), 'soak')}", file=sys.stderr)
    return 1 if any(figure.reached is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
