"""Calls that schemathesis generates from the document of the API: valid and invalid ones, and sequences of them.

`python -m tests.portal.generated_calls` starts a web process with its servers, sends more than 10,000 calls, and prints what was
answered, by operation. Exit code 1: an answer was a server error, or none that the document describes, or no call of an operation
succeeded.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from services.common import migrations
from services.common.hashing import Hasher
from services.common.postgres import connect
from services.registry.addresses import ROLES
from services.registry.connect_requests import ConnectRequests
from services.registry.registry import Registry
from services.registry.sealing import OpeningKeys
from services.registry.vault import Vault
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.paths import ROOT
from services.standalone.servers.postgres import EmbeddedPostgres, scratch_folder
from tests.portal import api_document
from tests.portal.generated_values import LINKED, MAILBOXES
from tests.support.api_lab import new_key
from tests.support.mailboxes import connected
from tests.support.portal_lab import Portal, portal_login, running_portal
from tests.support.seeded import seed
from tests.support.topics import create_topics, kafka_settings

CHECKS: Final = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance"
MANY_EXAMPLES: Final = 250
"""For each operation and phase: more than 10,000 calls."""
REQUESTS_PER_MINUTE: Final = "100000"
REQUEST_SECONDS: Final = "300"
"""For an answer; a busy machine needs more than the 10 of schemathesis for a large body."""
UNDESCRIBED: Final = "methods that the document does not have"
NEVER: Final[Mapping[str, str]] = {UNDESCRIBED: "they are refused"}
"""Operation that no generated call succeeds in → why."""
CLASSES: Final = ("2xx", "3xx", "4xx", "5xx")


@dataclass(frozen=True, slots=True)
class GeneratedCalls:
    """What a run showed. `answers`: by operation, how many answers had a status of each class, or that there was none."""

    exit_code: int
    answers: Mapping[str, Counter[str]]
    output: str

    @property
    def calls(self) -> int:
        """How many calls were sent."""
        return sum(counts.total() for counts in self.answers.values())

    @property
    def server_errors(self) -> int:
        """How many answers were server errors, or missing."""
        return sum(counts["5xx"] + counts["none"] for counts in self.answers.values())

    def without_success(self) -> list[str]:
        """Operations of which no call succeeded, although one should."""
        return [name for name, counts in self.answers.items() if not counts["2xx"] and name not in NEVER]

    def table(self) -> str:
        """Calls by operation and class of the status, as a table of Markdown."""
        lines = [f"| Operation | Calls | {' | '.join(CLASSES)} |", "|---" * (2 + len(CLASSES)) + "|"]
        total = sum(self.answers.values(), Counter[str]())
        for name, counts in (*self.answers.items(), ("all", total)):
            cells = [counts.total(), *(counts[status] for status in CLASSES)]
            lines.append(f"| {name} | {' | '.join(f'{cell:,}' for cell in cells)} |")
        return "\n".join(lines)


def prepare(dsn: str, kafka: str) -> str:
    """Give the calls something to reach: numbers, mailboxes, a sealing key, topics. Returns the secret of a key with every scope."""
    create_topics(kafka_settings(kafka))
    with connect(dsn, "tests") as connection:
        seed(connection)
        _register(Registry(connection, Hasher(bytes(32)), Vault(bytes(32))))
        ConnectRequests(connection).publish_key(OpeningKeys(b"v" * 32).current)
    return new_key(dsn, "c1").secret


def _register(registry: Registry) -> None:
    """What the ids of generated_values.py are about."""
    for role in ROLES:  # before the mailboxes, which had to be connected again otherwise
        registry.addresses.set("c1", "main", role, "c1@mail.test")
    for mailbox_id in MAILBOXES[1:]:
        connected(registry, "c1", mailbox_id=mailbox_id, address=f"{mailbox_id}@mail.test")
    for company_id in LINKED:
        registry.companies.add(company_id)
        registry.links.add("c1", MAILBOXES[0], company_id, by="tests")


def run(origin: str, secret: str, folder: Path, *, examples: int) -> GeneratedCalls:
    """Generate at most `examples` calls for each operation and phase."""
    report = folder / "calls.ndjson"
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{origin}/v1/openapi.yaml", "--url", f"{origin}/v1",
        "--header", f"Authorization: Bearer {secret}", "--checks", CHECKS, "--max-examples", str(examples),
        "--request-timeout", REQUEST_SECONDS, "--mode", "all", "--seed", "1", "--no-color", "--report", "ndjson", "--report-ndjson-path", str(report),
    ]  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.portal.generated_values"}
    finished = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environ, check=False)
    return GeneratedCalls(finished.returncode, answers(report), finished.stdout + finished.stderr)


def answers(report: Path) -> dict[str, Counter[str]]:
    """The answers in a report of schemathesis, by operation in the order of the document."""
    operations = yaml.safe_load(api_document.FILE.read_text("utf-8"))["paths"]
    names = [f"{method.upper()} {path}" for path, methods in operations.items() for method in methods]
    counts = {name: Counter[str]() for name in (*names, UNDESCRIBED)}
    with report.open(encoding="utf-8") as lines:
        for line in lines:
            recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
            for case_id, interaction in recorder.get("interactions", {}).items():
                case, response = recorder["cases"][case_id]["value"], interaction.get("response")
                name = f"{case['method']} {case['path']}"
                status = f"{response['status_code'] // 100}xx" if response else "none"
                counts[name if name in counts else UNDESCRIBED][status] += 1
    return counts


@contextmanager
def _own_portal(folder: Path) -> Iterator[tuple[Portal, str]]:
    """A web process with servers of its own, and the secret of a key."""
    with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedKafka(folder / "kafka") as kafka:
        dsn = postgres.create_database("calls")
        with connect(dsn, "tests") as connection:
            migrations.migrate(connection, lambda _: None)
        secret = prepare(dsn, kafka.bootstrap_servers)
        with (
            portal_login(dsn) as login,
            running_portal(
                kafka.bootstrap_servers, login, folder, PORTAL__API_REQUESTS_PER_MINUTE=REQUESTS_PER_MINUTE
            ) as portal,
        ):
            yield portal, secret


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--examples", type=int, default=MANY_EXAMPLES, help="calls for each operation and phase at most"
    )
    examples: int = parser.parse_args().examples
    folder = scratch_folder("replyrate-calls-")
    with _own_portal(folder) as (portal, secret):
        counts = run(portal.origin, secret, folder, examples=examples)
    print(f"{counts.output}\n{counts.table()}\n\n{counts.calls:,} calls, {counts.server_errors} server errors")
    print(f"Operations without a success: {', '.join(counts.without_success()) or 'none'}")
    for name, reason in NEVER.items():
        print(f"Not expected to succeed: {name} ({reason})")
    print(f"Log of the web process and report: {folder}")
    return 1 if counts.exit_code or counts.server_errors or counts.without_success() else 0


if __name__ == "__main__":
    sys.exit(main())
