"""Runs one command and ends it when the process that started the guard ends, however that happens.

A server that outlives a killed demo or test run would block its port and its data folder. The guard has the read end of
a pipe; when the starter dies, even by SIGKILL, the pipe closes and the guard stops the command (its stop signal, then
SIGKILL). When the guard itself is killed, Linux kills the command (PR_SET_PDEATHSIG).

Started by services.standalone.servers.child as a plain file with `python -I -S`: it may import the standard library only.
Arguments: stop-signal grace-seconds uid gid command…; uid -1 keeps the user. It writes the pid of the command to standard output.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Exit code: the command's own, or 128 + signal number when a signal ended it."""
    stop_signal, grace = int(arguments[0]), float(arguments[1])
    uid, gid = int(arguments[2]), int(arguments[3])
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    child = _start(arguments[4:], uid, gid)
    os.write(1, f"{child.pid}\n".encode("ascii"))
    os.close(1)
    kill_at: float | None = None
    while child.poll() is None:
        seconds_left = None if kill_at is None else max(0.0, kill_at - time.monotonic())
        watched = [wakeup_read] if kill_at is not None else [wakeup_read, 0]
        ready = select.select(watched, [], [], seconds_left)[0]
        stop_requested = False
        if wakeup_read in ready:
            stop_requested = any(number != signal.SIGCHLD for number in os.read(wakeup_read, 64))
        if 0 in ready:
            stop_requested = stop_requested or not os.read(0, 64)
        if stop_requested and kill_at is None:
            kill_at = time.monotonic() + grace
            child.send_signal(stop_signal)
        elif kill_at is not None and time.monotonic() >= kill_at:
            child.kill()
            child.wait()
    _sweep(child.pid)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _start(command: list[str], uid: int, gid: int) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    # Looked up before the fork: after it the user may not be allowed to read Python's own files.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def die_with_parent() -> None:  # runs after the change of user, because that clears the setting
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(127)

    change = {} if uid < 0 else {"user": uid, "group": gid, "extra_groups": []}
    started: subprocess.Popen[bytes] = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=2, stderr=2, start_new_session=True,
        preexec_fn=die_with_parent, **change,  # type: ignore[call-overload]
    )  # fmt: skip
    return started


def _sweep(group: int) -> None:
    """Kill what the command left in its process group."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
