"""What a measurement is, and how it is shown."""

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from services.standalone.servers.postgres import scratch_folder


@dataclass(slots=True)
class Figure:
    """One ratio: its value in each repeat, what it must reach (None: it is only told), and what it means."""

    name: str
    meaning: str
    reach: float | None
    smaller_is_better: bool = False
    values: list[float] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def reached(self) -> bool | None:
        """Whether the median reaches what it must."""
        if self.reach is None:
            return None
        return self.value <= self.reach if self.smaller_is_better else self.value >= self.reach


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that servers can use, gone afterwards."""
    folder = scratch_folder("replyrate-bench-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Usage:
    """CPU time and peak memory of a process, from /proc; the last reading stays when it has ended."""

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc") / str(pid)
        self._cpu = 0.0
        self.peak_mb = 0.0
        """The largest resident set so far."""

    def cpu_seconds(self) -> float:
        """User and system time since the process began; reads the peak too."""
        try:
            fields = (self._folder / "stat").read_text("utf-8").rpartition(")")[2].split()
            status = (self._folder / "status").read_text("utf-8")
        except OSError:
            return self._cpu
        self._cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self.peak_mb = int(line.split()[1]) / 1024
        return self._cpu

    def rss_mb(self) -> float:
        """What is resident now."""
        pages = int((self._folder / "statm").read_text("utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def show(figures: list[Figure]) -> str:
    """A table for people."""
    lines = [f"{'figure':<28}{'median':>9}  {'repeats':<26}{'reach':>8}  meaning"]
    for one in figures:
        repeats = " ".join(f"{value:.3g}" for value in one.values)
        sign = "" if one.reach is None else f"{'≤' if one.smaller_is_better else '≥'} {one.reach:g}"
        mark = {True: " ", False: "!", None: " "}[one.reached]
        lines.append(f"{one.name:<28}{one.value:>9.3g}{mark} {repeats:<26}{sign:>8}  {one.meaning}")
    return "\n".join(lines)


def save(figures: list[Figure], folder: Path, kind: str = "bench") -> Path:
    """Write the figures as JSON; returns the file."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{kind}-{time.strftime('%Y-%m-%d-%H%M%S')}.json"
    told = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "figures": {
            one.name: {
                "median": round(one.value, 4), "repeats": [round(value, 4) for value in one.values], "reach": one.reach,
                "smaller_is_better": one.smaller_is_better, "reached": one.reached, "meaning": one.meaning, **one.detail,
            }
            for one in figures
        },
    }  # fmt: skip
    file.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return file
