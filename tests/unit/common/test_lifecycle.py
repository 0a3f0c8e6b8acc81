"""Signals, heartbeats and exit codes."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from services.common import logs
from services.common.errors import ConfigError, TransientError, UnsureError
from services.common.lifecycle import Heartbeat, Stop, finish, on_signals, run


def test_a_signal_sets_stop_and_wakes_those_who_wait() -> None:
    stop = Stop()
    woken: list[bool] = []
    stop.on_stop(lambda: woken.append(True))
    with on_signals(stop):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(10)
    assert stop.is_set() and woken == [True]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_late_action_runs_at_once() -> None:
    stop = Stop()
    stop.set()
    woken: list[bool] = []
    stop.on_stop(lambda: woken.append(True))
    assert woken == [True]


@pytest.mark.parametrize(
    ("wall", "since_start"),
    [
        ((0, 0, 3600), (0, 1, 2)),  # set forward, or corrected after a start with a wrong clock
        ((0, -86400, -86400), (0, 1, 3600)),  # set back
        ((0, 1, 3601), (0, 1, 3601)),  # suspended for an hour
    ],
)
def test_work_that_depends_on_the_date_is_due_by_the_first_of_two_clocks(
    wall: tuple[float, ...], since_start: tuple[float, ...]
) -> None:
    """The readings are the start, one before the hour has passed, and one after it; there is no fourth."""
    readings = (iter(wall), iter(since_start))
    clocks = [partial(next, clock) for clock in readings]
    assert not Stop().wait_on_clocks(3600, look_seconds=0.001, clocks=clocks)
    assert [list(clock) for clock in readings] == [[], []]


def test_a_stop_ends_the_wait_for_the_clocks() -> None:
    stop = Stop()
    stop.set()
    assert stop.wait_on_clocks(3600)


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


def test_a_heartbeat_that_stopped_is_a_problem_until_the_next_beat() -> None:
    now = [0.0]
    heartbeat = Heartbeat(5, lambda: now[0])
    now[0] = 5
    assert heartbeat.problems("poll") == []
    now[0] = 5.6
    assert heartbeat.problems("poll") == ["the poll loop has not progressed for 6 s"]
    heartbeat.beat()
    assert heartbeat.problems("poll") == []


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
def test_how_a_process_ends_is_its_exit_code(error: Exception | None, code: int) -> None:
    def main() -> None:
        if error is not None:
            raise error

    assert run(main) == code


def test_problems_of_the_configuration_are_reported_in_the_format_of_the_logs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def main() -> None:
        raise ConfigError(["one", "two"])

    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert run(main) == 78
    assert capsys.readouterr().err == "configuration: one\nconfiguration: two\n", "no settings yet, so no log either"
    logs.configure("json", "info", "matcher")
    assert run(main) == 78
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["action"], line["service"], line["text"]) for line in lines] == [
        ("configuration-refused", "matcher", "one"),
        ("configuration-refused", "matcher", "two"),
    ]


@pytest.mark.parametrize("finished", [True, False])
def test_threads_share_one_deadline_and_those_that_hang_are_named(
    finished: bool, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()
    threads = [threading.Thread(target=go_on.wait, name=f"worker-{number}", daemon=True) for number in range(20)]
    for thread in threads:
        thread.start()
    if finished:
        go_on.set()
    started = time.monotonic()
    finish(threads, 1)
    assert time.monotonic() - started < 15, "1 s for all, not for each"
    assert ("worker-0, worker-1" in caplog.text) != finished
    go_on.set()


@pytest.mark.parametrize(
    ("end", "code", "logged"),
    [("os.kill(os.getpid(), signal.SIGTERM)", 0, True), ("stop.set(); timer.start()", 7, False)],
    ids=["by a signal", "by itself"],
)
def test_a_process_that_hangs_in_a_stop_exits_0_in_time_and_a_failure_is_not_cut_off(
    end: str, code: int, logged: bool
) -> None:
    program = (
        "import os, signal, threading\n"
        "from services.common.lifecycle import Stop, on_signals\n"
        "stop, timer = Stop(), threading.Timer(1.5, lambda: os._exit(7))\n"
        "with on_signals(stop, 0.5):\n"
        f"    {end}\n"
        "    threading.Event().wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=15, check=False, capture_output=True, text=True)
    assert done.returncode == code and ("the stop took too long" in done.stderr) == logged
