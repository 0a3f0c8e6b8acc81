"""Calls that schemathesis generates from the document of the API: valid and invalid ones, and sequences of them.

`python -m tests.portal.generated_calls ORIGIN SECRET --examples 400` runs many and prints how many there were.
"""

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.standalone.servers.paths import ROOT

CHECKS: Final = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance"
EXCLUDED: Final = "/inquiries:batch"
"""Writes to Kafka; its own tests cover it."""


@dataclass(frozen=True, slots=True)
class GeneratedCalls:
    """What a run showed."""

    exit_code: int
    calls: int
    output: str


def run(origin: str, secret: str, folder: Path, *, examples: int) -> GeneratedCalls:
    """Generate at most `examples` calls for each operation and phase."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{origin}/v1/openapi.yaml", "--url", f"{origin}/v1",
        "--header", f"Authorization: Bearer {secret}", "--checks", CHECKS, "--max-examples", str(examples),
        "--mode", "all", "--seed", "1", "--no-color", "--exclude-path", EXCLUDED, "--report", "ndjson",
        "--report-ndjson-path", str(folder / "calls.ndjson"),
    ]  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.portal.generated_values"}
    finished = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environ, check=False)
    output = finished.stdout + finished.stderr
    cases = re.search(r"(\d+) generated", output)
    return GeneratedCalls(finished.returncode, int(cases.group(1)) if cases else 0, output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("origin")
    parser.add_argument("secret")
    parser.add_argument("--examples", type=int, default=400)
    given = parser.parse_args()
    counts = run(given.origin, given.secret, Path.cwd(), examples=given.examples)
    print(counts.output)
    print(f"{counts.calls} calls, exit {counts.exit_code}")
