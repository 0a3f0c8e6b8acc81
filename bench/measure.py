"""Figures: what a measurement results in, how it is shown and how it is written."""

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from services.standalone.servers.postgres import scratch_folder


@dataclass(slots=True)
class Figure:
    """One ratio: its value in each repeat, what it must reach (None: it is only reported), and what it means."""

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
    """A folder that servers can use; removed afterwards."""
    folder = scratch_folder("replyrate-bench-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Usage:
    """CPU time and peak memory of a process, from /proc; after its end the last reading stays."""

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc") / str(pid)
        self._cpu = 0.0
        self.peak_mb = 0.0
        """The largest resident set so far."""

    def cpu_seconds(self) -> float:
        """User and system time since the process started; reads the peak too."""
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
        """The resident set size now."""
        pages = int((self._folder / "statm").read_text("utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def show(figures: Sequence[Figure]) -> str:
    """A table for people."""
    lines = [f"{'figure':<28}{'median':>9}  {'repeats':<26}{'reach':>8}  meaning"]
    for figure in figures:
        repeats = " ".join(f"{value:.3g}" for value in figure.values)
        sign = "" if figure.reach is None else f"{'≤' if figure.smaller_is_better else '≥'} {figure.reach:g}"
        mark = {True: " ", False: "!", None: " "}[figure.reached]
        lines.append(f"{figure.name:<28}{figure.value:>9.3g}{mark} {repeats:<26}{sign:>8}  {figure.meaning}")
    return "\n".join(lines)


def save(figures: Sequence[Figure], folder: Path, kind: str) -> Path:
    """Write the figures to a new file; returns it."""
    file = folder / f"{kind}-{time.strftime('%Y-%m-%d-%H%M%S')}.json"
    write(figures, file)
    return file


def write(figures: Sequence[Figure], file: Path, seconds: Mapping[str, float] | None = None) -> None:
    """Write the figures as JSON, replacing the file as a whole; `seconds`: how long each part took."""
    file.parent.mkdir(exist_ok=True)
    document: dict[str, Any] = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "figures": {
            figure.name: {
                "median": round(figure.value, 4), "repeats": [round(value, 4) for value in figure.values],
                "reach": figure.reach, "smaller_is_better": figure.smaller_is_better, "reached": figure.reached,
                "meaning": figure.meaning, **figure.detail,
            }
            for figure in figures
        },
    }  # fmt: skip
    if seconds is not None:
        document["seconds"] = {name: round(taken) for name, taken in seconds.items()}
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    temporary.replace(file)
