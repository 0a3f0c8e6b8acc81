"""Checks that everything a measurement needs is there, by using it once, before anything is measured.

A run takes most of an hour, so a missing server must be reported in its first seconds.
"""

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from bench.matcher import PEERS_PYTHON
from bench.measure import scratch
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.paths import ROOT
from services.standalone.servers.postgres import EmbeddedPostgres
from tests.support.dovecot import Dovecot


def kafka(folder: Path) -> None:
    """Start the embedded Kafka."""
    with EmbeddedKafka(folder / "kafka"):
        pass


def postgres(folder: Path) -> None:
    """Start the embedded Postgres."""
    with EmbeddedPostgres(folder / "postgres", durable=True):
        pass


def dovecot(folder: Path) -> None:
    """Start a private Dovecot."""
    with Dovecot(folder / "dovecot", {"seller@mail.test": "bench"}, CertificateAuthority(folder / "ca")):
        pass


def peers(folder: Path) -> None:
    """Import the libraries that the matcher is compared with."""
    if not PEERS_PYTHON.exists():
        raise RuntimeError(f"{PEERS_PYTHON.relative_to(ROOT)} is missing: run `make bench`, which installs it")
    command = [str(PEERS_PYTHON), "-c", "import aiokafka, faust, quixstreams"]
    imported = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if imported.returncode != 0:
        reason = imported.stderr.strip().splitlines()[-1]
        raise RuntimeError(f"{reason}: remove .cache/bench and run `make bench` again")


def docker(folder: Path) -> None:
    """Reach the Docker daemon."""
    command = ["docker", "compose", "version"]
    try:
        reached = subprocess.run(
            [*command[:1], "info", "--format", "{{.ServerVersion}}"], cwd=folder, capture_output=True, check=False
        )
        composed = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    except FileNotFoundError:
        raise RuntimeError("Docker is missing: install it with its Compose plugin") from None
    if reached.returncode != 0 or composed.returncode != 0:
        raise RuntimeError("Docker does not answer: start its daemon, and install its Compose plugin")


CHECKS: Final[dict[str, Callable[[Path], None]]] = {
    "Dovecot": dovecot, "peers": peers, "Docker": docker, "Postgres": postgres, "Kafka": kafka,
}  # fmt: skip
"""By name; those that fail fast come first."""


def missing(needs: Iterable[str]) -> list[str]:
    """A sentence for each need that is not met: what is wrong, and what to do."""
    problems = []
    wanted = set(needs)
    for name, check in CHECKS.items():
        if name not in wanted:
            continue
        with scratch() as folder:
            try:
                check(folder)
            except Exception as error:
                problems.append(f"{name}: {error}")
    return problems
