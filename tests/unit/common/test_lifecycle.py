"""Signals, heartbeats and exit codes."""

import os
import signal
import subprocess
import sys

import pytest

from services.common.errors import ConfigError, TransientError, UnsureError
from services.common.lifecycle import Heartbeat, Stop, on_signals, run


def test_a_signal_sets_stop_and_wakes_who_waits() -> None:
    stop = Stop()
    woken: list[bool] = []
    stop.also(lambda: woken.append(True))
    with on_signals(stop):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(10)
    assert stop.is_set() and woken == [True]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_late_action_runs_at_once() -> None:
    stop = Stop()
    stop.set()
    woken: list[bool] = []
    stop.also(lambda: woken.append(True))
    assert woken == [True]


def test_the_second_signal_ends_the_process() -> None:
    program = (
        "import os, signal, time\n"
        "from services.common.lifecycle import Stop, on_signals\n"
        "stop = Stop()\n"
        "with on_signals(stop):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    stop.wait(10)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(20)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=15, check=False).returncode == 128 + signal.SIGTERM


def test_a_heart_that_stopped_is_not_alive() -> None:
    now = [0.0]
    heartbeat = Heartbeat(5, lambda: now[0])
    now[0] = 5
    assert heartbeat.alive()
    now[0] = 5.1
    assert not heartbeat.alive()
    heartbeat.beat()
    assert heartbeat.alive()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (ConfigError(["one", "two"]), 78),
        (TransientError("away"), 69),
        (UnsureError("?"), 70),
        (KeyError("x"), 1),
    ],
)
def test_how_a_process_ends_is_its_exit_code(
    error: Exception | None, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        if error is not None:
            raise error

    assert run(main) == code
    if code == 78:
        assert capsys.readouterr().err == "configuration: one\nconfiguration: two\n"
