"""A child process under a guard: its output goes to a file, it is stopped with its signal and then with SIGKILL.

Also the two things that every embedded server needs: a free port on loopback and a lock on its data folder.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from services.common.errors import ConfigError, TransientError

GUARD = Path(__file__).with_name("guard.py")
LOOPBACK = "127.0.0.1"


_reserved: list[socket.socket] = []
"""A bound socket for each reserved port."""


def free_port() -> int:
    """A free port on loopback, reserved for an embedded server as long as this process lives.

    A port that is only looked up may be taken before its server listens: creating a database takes seconds, and meanwhile
    every outgoing connection gets a port from the same range.
    """
    holder = socket.socket()
    holder.bind((LOOPBACK, 0))
    # Bound but not listening: only a listener that also sets SO_REUSEADDR can take the port, as servers do. Set after the
    # bind, so that the kernel does not choose a port that is reserved already.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _reserved.append(holder)
    port: int = holder.getsockname()[1]
    return port


def reserve_port(port: int) -> bool:
    """Reserve a certain port as `free_port` does; False when it is taken."""
    holder = socket.socket()
    # Set before the bind: connections of a server that has just ended then do not block its port.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((LOOPBACK, port))
    except OSError:
        holder.close()
        return False
    _reserved.append(holder)
    return True


class FolderLock:
    """An exclusive lock on a data folder: a second server on the same files would break the first one."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "lock"
        self._stream: IO[str] | None = None

    def take(self) -> None:
        """Take the lock. ConfigError when another process has it."""
        stream = self._file.open("w")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            raise ConfigError(
                f"{self._file.parent} is in use by another process: stop it or use another folder"
            ) from None
        self._stream = stream

    def release(self) -> None:
        """Release the lock; does nothing when it is not taken."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class Child:
    """One process under guard. `pid` is the real process, not the guard."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_seconds: float = 20,
        user: tuple[int, int] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._grace_seconds = grace_seconds
        uid, gid = user or (-1, -1)
        guarded = [
            sys.executable,
            "-I",
            "-S",
            str(GUARD),
            str(int(stop_signal)),
            str(grace_seconds),
            str(uid),
            str(gid),
        ]
        with log.open("ab") as output:
            # The pipe to the guard's standard input stays open as long as this process lives.
            self._guard = subprocess.Popen(
                [*guarded, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output,
                env=None if env is None else dict(env), cwd=cwd, start_new_session=True,
            )  # fmt: skip
        assert self._guard.stdout is not None
        line = self._guard.stdout.readline()
        self._guard.stdout.close()
        if not line:
            raise TransientError(f"{name} cannot be started: see {log}")
        self.pid = int(line)

    def poll(self) -> int | None:
        """The exit code (128 + number after a signal), or None while it runs."""
        return self._guard.poll()

    def wait(self, seconds: float) -> int | None:
        """The exit code, or None when it still runs after `seconds`."""
        try:
            return self._guard.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the real process; does nothing when it has ended."""
        if self.poll() is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def stop(self) -> int:
        """Send the stop signal and, after the grace, SIGKILL; returns the exit code. Can be called twice."""
        if self._guard.stdin is not None and not self._guard.stdin.closed:
            self._guard.stdin.close()
        return self._guard.wait(self._grace_seconds + 10)

    def kill(self) -> int:
        """Send SIGKILL to the real process, as in a power failure; returns the exit code."""
        self.signal(signal.SIGKILL)
        return self.stop()

    def tail(self, lines: int = 20) -> str:
        """The last lines of its output."""
        try:
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])
        except OSError:
            return ""


def await_answer(child: Child, answers: Callable[[], bool], seconds: float, *, pause: float = 0.05) -> None:
    """Wait until `answers()` is true. TransientError with the end of the log when the process ends or time runs out."""
    deadline = time.monotonic() + seconds
    while not answers():
        if (code := child.poll()) is not None:
            raise TransientError(f"{child.name} ended with exit code {code} before it was ready:\n{child.tail()}")
        if time.monotonic() >= deadline:
            raise TransientError(f"{child.name} does not answer after {seconds:.0f} s:\n{child.tail()}")
        time.sleep(pause)
