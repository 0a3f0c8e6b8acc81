"""Clocks of this machine, and which one a duration needs.

`time.monotonic` stands still while the machine is suspended (a laptop's lid, a paused virtual machine). That is right where
time counts only while this process could work: health pages, retry delays, measurements. It is wrong where the time of others
goes on meanwhile: a Kafka session, a lease, the life of a token, a server's patience. Those are measured with `boot_seconds`.
"""

import time
from typing import Final

_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""clock_gettime(2): CLOCK_BOOTTIME includes suspension. macOS has no such name; its CLOCK_MONOTONIC includes it."""


def boot_seconds() -> float:
    """Seconds since the machine started, including those in which it was suspended; no change of the wall clock moves it."""
    return time.clock_gettime(_CLOCK)


def wall_seconds() -> float:
    """Seconds since 1970 by the wall clock, which can be set; only for waiting for a date. What is stored takes its time as an argument."""
    return time.clock_gettime(time.CLOCK_REALTIME)
