"""A process that holds keys and passwords leaves no core dump when it crashes."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.standalone.servers.child import free_port
from services.standalone.servers.environment import service_environ
from services.standalone.servers.paths import ROOT

WAITING = "import time; print('up', flush=True); time.sleep(600)"
GUARDED = f"from services.common import core_dumps; core_dumps.forbid(); {WAITING}"


def start(arguments: list[str], folder: Path, environ: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A Python process in `folder` that may write core dumps as far as this machine allows."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)),
    )


def crash(process: subprocess.Popen[bytes]) -> bool:
    """End the process with SIGSEGV; whether the kernel wrote its memory."""
    process.send_signal(signal.SIGSEGV)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = -signal.SIGSEGV
    assert process.stdout is not None
    process.stdout.close()
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSEGV
    return os.WCOREDUMP(status)


def read_until(process: subprocess.Popen[bytes], text: bytes) -> None:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return
    pytest.fail(f"the process ended: {lines}")


@pytest.fixture
def _dumps_are_written(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where no process would leave a dump: the test would prove nothing."""
    try:
        process = start(["-c", WAITING], tmp_path_factory.mktemp("control"))
    except subprocess.SubprocessError:
        pytest.skip("this user may not raise the limit of core dumps")
    read_until(process, b"up")
    if not crash(process):
        pytest.skip("this machine writes no core dumps")


@pytest.mark.usefixtures("_dumps_are_written")
def test_a_guarded_process_writes_no_core_dump(tmp_path: Path) -> None:
    process = start(["-c", GUARDED], tmp_path)
    read_until(process, b"up")
    assert not crash(process)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_dumps_are_written")
@pytest.mark.parametrize("service", ["fetcher", "matcher", "aggregator", "portal"])
def test_a_service_that_crashes_writes_no_core_dump(service: str, tmp_path: Path) -> None:
    """Its servers are away: it has read its keys and waits for them."""
    secrets, folder = tmp_path / "secrets", tmp_path / "working"
    secrets.mkdir()
    folder.mkdir()
    environ = service_environ(
        secrets,
        kafka=f"127.0.0.1:{free_port()}",
        partitions=1,
        dsn=f"postgresql://nobody:canary@127.0.0.1:{free_port()}/none?gssencmode=disable",
    )
    process = start(["-m", f"services.{service}"], folder, environ)
    read_until(process, b"dependency-away")
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core file size")] == [["0", "0"]]
    assert not crash(process)
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("_dumps_are_written")
def test_the_command_line_writes_no_core_dump(tmp_path: Path) -> None:
    """The command waits for a password on its standard input, which stays open."""
    read_end, write_end = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "message", "-"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            stdin=read_end,
            stdout=subprocess.PIPE,
        )
        limits = Path(f"/proc/{process.pid}/limits")
        deadline = time.monotonic() + 60
        while not any(
            line.split()[4:6] == ["0", "0"]
            for line in limits.read_text().splitlines()
            if line.startswith("Max core file size")
        ):
            assert time.monotonic() < deadline and process.poll() is None, "the command did not forbid core dumps"
            time.sleep(0.05)
        assert not crash(process)
        assert list(tmp_path.iterdir()) == []
    finally:
        os.close(read_end)
        os.close(write_end)
