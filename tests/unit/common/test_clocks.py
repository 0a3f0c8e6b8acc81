"""The clock that goes on while the machine is suspended, and who reads it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.common.clocks import boot_seconds
from services.common.errors import EXIT_UNSURE
from services.standalone.servers.paths import ROOT

GOES_ON_OUTSIDE = (
    "services/imap/limits.py",
    "services/fetcher/poll_budget.py",
    "services/signin/access_tokens.py",
    "services/signin/device_flow.py",
    "services/matcher/__main__.py",
)
"""Modules that measure what goes on elsewhere while this machine is suspended: sessions, leases, tokens."""


def test_it_counts_from_the_start_of_the_machine() -> None:
    before = boot_seconds()
    uptime = float(Path("/proc/uptime").read_text().split()[0])  # rounded down to hundredths; CLOCK_BOOTTIME (proc(5))
    assert before - 0.02 <= uptime <= boot_seconds()


def test_it_is_not_the_clock_that_stands_still() -> None:
    """In a time namespace in which only CLOCK_BOOTTIME is a day ahead, as after a suspended day."""
    check = "import time; from services.common.clocks import boot_seconds; print(boot_seconds() - time.monotonic())"
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("util-linux is missing")
    ahead = subprocess.run(
        [unshare, "--time", "--fork", "--boottime", "86400", "--monotonic", "0", sys.executable, "-c", check],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in ahead.stderr:
        pytest.skip("time namespaces are not available here")
    here = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(ahead.stdout) - float(here.stdout) == pytest.approx(86400, abs=1)


@pytest.mark.parametrize("path", GOES_ON_OUTSIDE)
def test_who_measures_the_time_of_others_reads_it(path: str) -> None:
    source = (ROOT / path).read_text("utf-8")
    assert "boot_seconds" in source and "time.monotonic" not in source


@pytest.mark.parametrize(("stood_still", "code"), [(4.0, 0), (6.0, EXIT_UNSURE)])
def test_a_matcher_that_was_suspended_for_half_a_session_sends_nothing(stood_still: float, code: int) -> None:
    check = (
        "from services.matcher.handoff import FreezeGuard; "
        f"guard = FreezeGuard(10, iter((0.0, {stood_still})).__next__); guard.check()"
    )
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == code
