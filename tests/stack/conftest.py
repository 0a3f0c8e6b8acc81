"""What the system tests share: Docker must be there, the images are built once, one stack serves most tests."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.mail import HOST, Dovecot
from tests.stack.stack import ROOT, SERVICES, WEB, Stack, clean_environment, run, running

IMAGES = ("fetcher", "matcher", "aggregator", "portal", "cli", "demo")
IMPATIENT = {
    "REPLYRATE_IMAP__PRIVATE_HOSTS": HOST,
    "REPLYRATE_IMAP__POLL_INTERVAL_SECONDS": "2",
    "REPLYRATE_FETCHER__LEASE_SECONDS": "30",
    "REPLYRATE_IMAP__SESSION_SECONDS": "20",
    # Shorter than in production, so that a killed worker's partitions are not idle for 45 s.
    "REPLYRATE_MATCHER__SESSION_TIMEOUT_SECONDS": "10",
    "REPLYRATE_AGGREGATOR__SESSION_TIMEOUT_SECONDS": "10",
}
"""Settings of every stack that reads the test's mail server."""
IMAGE_BYTES = 110_000_000
"""Most that an image may have above its base."""
ARCHIVE_BYTES = 80_000_000
"""Most that pyarrow may add to an image that reads the archive."""
FIGURES: dict[str, str] = {}
"""Printed at the end: name → value with unit."""


def pytest_sessionstart(session: pytest.Session) -> None:
    """Fail without Docker: these tests are never skipped."""
    for command, cure in (
        (["docker", "version"], "no Docker engine answers; install Docker, on Debian or Ubuntu: .ci/docker up"),
        (["docker", "compose", "version"], "Docker Compose is missing; on Debian or Ubuntu: .ci/docker up"),
    ):
        try:
            run(command, 30)
        except (AssertionError, OSError):
            pytest.exit(f"the system tests did not run: {cure}", returncode=3)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures of this run."""
    if FIGURES:
        terminalreporter.section("figures")
        for name, value in FIGURES.items():
            terminalreporter.write_line(f"{name:44} {value}")


@pytest.fixture(scope="session")
def images() -> None:
    """Every image built from this tree, as an operator builds them."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as nowhere:
        run(
            ["docker", "compose", "--project-directory", str(ROOT), "--env-file", "/dev/null", "--profile", "demo", "build", "--quiet"],
            env={**clean_environment(), "SECRETS_DIR": nowhere},
        )  # fmt: skip
    FIGURES["build of all images, s"] = f"{time.monotonic() - started:.0f}"
    for name in IMAGES:
        size = int(run(["docker", "image", "inspect", "--format", "{{.Size}}", f"replyrate/{name}:local"]))
        base = int(run(["docker", "image", "inspect", "--format", "{{.Size}}", "python:3.11-slim-bookworm"]))
        FIGURES[f"image replyrate/{name}, MB (above its base)"] = f"{size / 1e6:.0f} ({(size - base) / 1e6:.0f})"
        most = IMAGE_BYTES + ARCHIVE_BYTES * (name in ("aggregator", "cli"))
        assert size - base <= most, (
            f"replyrate/{name}: {(size - base) / 1e6:.1f} MB above its base; see deploy/strip_libraries.py"
        )


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that Docker can mount from."""
    scratch = Path(tempfile.mkdtemp(prefix="replyrate-system-"))
    yield scratch
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """The same for the whole session."""
    scratch = Path(tempfile.mkdtemp(prefix="replyrate-system-"))
    yield scratch
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="session")
def mail_server(session_folder: Path) -> Dovecot:
    """The Dovecot of the session; `stack` starts it."""
    return Dovecot(session_folder / "dovecot")


@pytest.fixture(scope="session")
def stack(images: None, session_folder: Path, mail_server: Dovecot) -> Iterator[Stack]:
    """The stack that most tests share; each test has sellers of its own."""
    shared = Stack(
        session_folder / "stack",
        {
            "IMAP_CA_DIR": str(mail_server.folder / "ca"),
            **IMPATIENT,
        },
    )
    shared.make_secrets()
    with running(shared):
        started = time.monotonic()
        shared.up()
        FIGURES["up --wait, from nothing to healthy, s"] = f"{time.monotonic() - started:.1f}"
        mail_server.start(shared)
        for service in (*SERVICES, *WEB, "postgres", "kafka"):
            FIGURES[f"memory of {service}, idle"] = memory(shared, service)
        try:
            yield shared
        finally:
            mail_server.stop()


def memory(stack: Stack, service: str) -> str:
    """What a service's first container takes, as Docker shows it."""
    container = stack.containers(service)[0]
    shown = json.loads(run(["docker", "stats", "--no-stream", "--format", "{{json .}}", container]))
    return str(shown["MemUsage"])
