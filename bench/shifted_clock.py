"""A wall clock that a measurement moves: this process and every process that it starts show it (shifted_clock.c).

A year passes in steps: the clock jumps while all services are idle. Timers and the monotonic clocks stay real.
"""

import mmap
import os
import struct
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NoReturn

from services.standalone.servers.postgres import scratch_folder

SOURCE: Final = Path(__file__).with_suffix(".c")
FILE: Final = "REPLYRATE_BENCH_CLOCK"
"""The environment variable with the file that contains the shift."""


class ShiftedClock:
    """The clock of this process and its children. Use `restart_under` first."""

    def __init__(self) -> None:
        with Path(os.environ[FILE]).open("r+b") as file:
            self._shift = mmap.mmap(file.fileno(), 8)

    def now(self) -> datetime:
        """The time that all processes see."""
        return datetime.now(UTC)

    def advance(self, by: timedelta) -> None:
        """Move the clock forward, in all processes at once."""
        shift = struct.unpack("q", self._shift[:])[0] + round(by.total_seconds()) * 1_000_000_000
        self._set(shift)

    def restore(self) -> None:
        """Show the real time again."""
        self._set(0)

    def _set(self, shift: int) -> None:
        # One aligned store of eight bytes: no process sees half of it.
        self._shift[:] = struct.pack("q", shift)


def environ() -> dict[str, str]:
    """What a child needs in its environment, where it does not inherit it."""
    return {name: os.environ[name] for name in (FILE, "LD_PRELOAD")}


def restart_under(module: str, back: timedelta) -> Path:
    """Start this process again with a clock that is `back` behind; in the process that has it, returns the folder of the clock.

    The caller removes the folder. Needs a C compiler.
    """
    if FILE not in os.environ:
        _restart(module, back)
    return Path(os.environ[FILE]).parent


def _restart(module: str, back: timedelta) -> NoReturn:
    folder = scratch_folder("replyrate-clock-")
    library, clock = folder / "shifted_clock.so", folder / "clock"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    clock.write_bytes(struct.pack("q", -round(back.total_seconds()) * 1_000_000_000))
    # Servers that run as another user read it; only this process writes it.
    clock.chmod(0o644)
    os.execve(
        sys.executable,
        [sys.executable, "-m", module, *sys.argv[1:]],
        {**os.environ, FILE: str(clock), "LD_PRELOAD": str(library)},
    )
