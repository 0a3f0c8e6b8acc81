"""Debian's Prometheus scrapes the three running services; every query of the operations board returns rows, and every
alert rule can be evaluated on what they show.
"""

import json
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from services.common.topics import INQUIRIES
from services.standalone.demo.demo import EmbeddedStage
from services.standalone.servers.child import free_port
from services.standalone.servers.paths import ROOT
from services.standalone.world import cast
from tests.support.monitoring import BOARDS, RULES
from tests.support.processes import Process, until
from tests.support.topics import kafka_settings, publish

QUERIES = [target["expr"] for panel in BOARDS["en/operations"]["panels"] for target in panel["targets"]]


class Prometheus:
    """A server that scrapes some ports each second."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, page: str, **values: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self._url}/{page}?{urllib.parse.urlencode(values)}", timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def rows(self, query: str) -> int:
        answer = self.ask("query", query=query.replace("$__rate_interval", "1m"))
        return 0 if answer is None else len(answer["result"])


@contextmanager
def prometheus(folder: Path, ports: dict[str, int]) -> Iterator[Prometheus]:
    program = shutil.which("prometheus")
    assert program, "prometheus is missing: run .ci/install-prometheus"
    port = free_port()
    targets = [{"targets": [f"127.0.0.1:{port}"]} for port in ports.values()]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ROOT / "deploy" / "prometheus" / "alerts.yml")],
        "scrape_configs": [{"job_name": "replyrate", "static_configs": targets}],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config), "utf-8")
    with (folder / "prometheus.log").open("wb") as log:
        server = subprocess.Popen(
            [program, f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"],
            stdout=log, stderr=log,
        )  # fmt: skip
        try:
            yield Prometheus(port)
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(10)


def test_every_query_of_the_board_returns_rows(scratch: Path) -> None:
    ports = {name: free_port() for name in ("fetcher", "matcher", "aggregator", "portal")}
    pages = free_port()
    with ExitStack() as stack:
        stage = EmbeddedStage(scratch, cast.build(2, datetime.now(UTC).replace(microsecond=0)), lambda _: None, stack)
        stage.open()
        board = stack.enter_context(prometheus(scratch, ports))
        processes = tuple(
            stack.enter_context(
                Process(
                    f"services.{name}",
                    {**stage.environ(), "REPLYRATE_HTTP__PORT": str(port), "REPLYRATE_PORTAL__PORT": str(pages)},
                    scratch / f"{name}.log",
                )
            )
            for name, port in ports.items()
        )
        until(lambda: board.rows("replyrate_ready == 1") == len(ports), 60, "scraped and ready", processes)
        stage._publish("first")
        kafka = kafka_settings(stage.kafka.bootstrap_servers)
        publish(kafka, INQUIRIES, [(b"c1", b"no json")])
        missing = set(QUERIES)

        def all_there() -> bool:
            missing.difference_update([query for query in missing if board.rows(query)])
            return not missing

        until(all_there, 90, f"rows of every query: {missing}", processes)
        loaded = board.ask("rules")["groups"]
        names = [rule["name"] for group in loaded for rule in group["rules"]]
        assert sorted(names) == sorted(rule["alert"] for rule in RULES)
        until(
            lambda: all(r["health"] == "ok" for g in board.ask("rules")["groups"] for r in g["rules"]),
            30, "every rule evaluated", processes,
        )  # fmt: skip
        for process in processes:
            assert process.terminate() == 0
