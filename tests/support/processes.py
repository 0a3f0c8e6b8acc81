"""The three services as processes, the way production starts them: environment in, JSON lines out."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from services.standalone.servers.paths import ROOT

STOP_SECONDS = 25
BYTECODE = ROOT / ".cache" / "bytecode"
"""Where processes of the tests keep compiled modules, beside no source: compiling them anew is a fifth of a start."""


class Process:
    """One service; its log goes to a file. A context manager that never leaves a process behind.

    `root`: the folder of its code, for another release than this one.
    """

    def __init__(self, module: str, environ: Mapping[str, str], log: Path, root: Path = ROOT) -> None:
        self.log = log
        self._stream = log.open("ab")
        keep = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "LANG")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=root,
            env={**keep, "PYTHONPATH": str(root), "PYTHONPYCACHEPREFIX": str(BYTECODE), **environ},
            stdout=self._stream,
            stderr=self._stream,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def running(self) -> bool:
        """Whether it is running."""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait until it has ended."""
        self._process.kill()
        self._process.wait(10)

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Wait until it ends; its exit code."""
        return self._process.wait(seconds)

    def terminate(self) -> int:
        """SIGTERM; the exit code. Fails if it takes longer than promised."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_SECONDS)

    def lines(self) -> list[dict[str, Any]]:
        """The log so far; a line that is not JSON appears as {"text": …}."""
        parsed = []
        for line in self.log.read_text("utf-8").splitlines():
            try:
                parsed.append(json.loads(line))
            except ValueError:
                parsed.append({"text": line})
        return parsed

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        if self.running():
            self.kill()
        self._stream.close()


def get(port: int, page: str) -> tuple[int, str]:
    """Status and text of a page on loopback; (0, "") if there is no answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def until(
    true: Callable[[], bool], seconds: float, what: str, processes: tuple[Process, ...] = (), *, pause: float = 0.05
) -> None:
    """Wait until `true()`, asked every `pause` seconds; fails with `what` after `seconds`, or if one of `processes` has ended."""
    deadline = time.monotonic() + seconds
    while not true():
        for process in processes:
            assert process.running(), f"a service ended: {process.log.read_text('utf-8')[-3000:]}"
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n" + "\n".join(
            process.log.read_text("utf-8")[-3000:] for process in processes
        )
        time.sleep(pause)
