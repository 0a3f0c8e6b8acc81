"""A recompute of a rule set over a large ledger, as production does it, beside the floor of bench/aggregator.py.

Three million inquiries of two thousand companies over sixty days: every row of those days, two processes that share the
companies, then the one transaction that shows the result. Takes some minutes; `make bench PARTS=recompute`.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from bench.aggregator import COMPANIES, FLOOR, SCAN, _load
from bench.measure import Figure, Usage, scratch, seconds
from services.aggregator.judge import rules
from services.aggregator.refresh import recompute
from services.common import migrations
from services.common.postgres import connect
from services.standalone.servers.paths import ROOT
from services.standalone.servers.postgres import EmbeddedPostgres

INQUIRIES = 3_000_000
WORKERS = 2
POLL_SECONDS = 1.0


def measure(repeats: int) -> list[Figure]:
    """Measured once, whatever `repeats` is."""
    del repeats
    whole = Figure(
        "recompute_3m_seconds", "3 M inquiries, 2,000 companies, every row of 60 days: started → shown, two processes", None,
        detail={"inquiries": INQUIRIES, "companies": COMPANIES, "workers": WORKERS},
    )  # fmt: skip
    shown = Figure("recompute_3m_show_seconds", "the one transaction that shows it", None)
    floor = Figure("recompute_3m_vs_floor", "(one aggregate scan + bare INSERT of as many outcome rows) ÷ that", 0.4)
    worker = Figure("recompute_3m_worker_peak_mb", "peak RSS of a worker", None)
    backend = Figure("recompute_3m_backend_peak_mb", "peak RSS of its Postgres backend, shared buffers included", None)
    with scratch() as folder, EmbeddedPostgres(folder / "postgres", durable=True) as server:
        dsn = server.create_database("bench")
        with connect(dsn, "bench", statement_seconds=3600) as connection:
            migrations.migrate(connection, lambda _: None)
            _load(connection, INQUIRIES)
            connection.execute(
                "INSERT INTO ledger.companies (company_id) SELECT DISTINCT company_id FROM ledger.inquiries"
            )
            bare = seconds(lambda: connection.execute(SCAN).fetchall()) + seconds(
                lambda: connection.execute(FLOOR.encode())
            )
            recompute.activate(connection, rules.load_builtin("default"))
            taken, showing, peaks = _run(connection, dsn, folder)
            rows = connection.execute("SELECT count(*) FROM report_v1.reply_rate").fetchone()
            assert rows is not None and rows[0] > 0
    whole.values.append(taken)
    whole.detail |= {"floor_seconds": round(bare, 1), "rows_of_reply_rate": rows[0]}
    shown.values.append(showing)
    floor.values.append(bare / taken)
    worker.values.append(max(peaks["worker"]))
    backend.values.append(max(peaks["backend"]))
    return [whole, shown, floor, worker, backend]


def _run(connection: psycopg.Connection, dsn: str, folder: Path) -> tuple[float, float, dict[str, list[float]]]:
    for name in ("hash.key", "vault.key"):
        (folder / name).write_bytes(bytes(32))
    environ = {
        "PATH": os.environ["PATH"], "REPLYRATE_POSTGRES__DSN": dsn, "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "REPLYRATE_HASH_KEY_FILE": str(folder / "hash.key"), "REPLYRATE_VAULT_KEY_FILE": str(folder / "vault.key"),
    }  # fmt: skip
    command = [sys.executable, "-m", "services.cli", "recompute", "--rules", "default", "--json"]
    started = time.monotonic()
    workers = [subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(WORKERS)]
    usages = [Usage(worker.pid) for worker in workers]
    backends: dict[int, Usage] = {}
    judged_at = 0.0
    while any(worker.poll() is None for worker in workers):
        time.sleep(POLL_SECONDS)
        for (pid,) in connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'replyrate-cli'"):
            backends.setdefault(pid, Usage(pid))
        for usage in (*usages, *backends.values()):
            usage.cpu_seconds()
        progress = recompute.progress(connection)
        if progress and progress[0]["done"] == progress[0]["companies"] and not judged_at:
            judged_at = time.monotonic()
    ended = time.monotonic()
    results = [json.loads(worker.communicate()[0]) for worker in workers]
    assert all(result["companies"] == COMPANIES for result in results), results
    peaks = {"worker": [usage.peak_mb for usage in usages], "backend": [usage.peak_mb for usage in backends.values()]}
    return ended - started, ended - (judged_at or ended), peaks
