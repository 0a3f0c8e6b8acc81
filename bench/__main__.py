"""`python -m bench`: every figure, repeated, as a table and as JSON in bench/results.

 1. Check everything that the chosen parts need, and stop if something is missing (needs.py).
 2. Measure one part after the other. After each, write the figures so far and print the remaining time.
    A part that fails costs its own figures and no others.
 3. Print the table.

While it runs, and if a part failed, the file is named `partial-…json`; it gets its final name when every part is done.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from bench import aggregator, fetcher, freshness, matcher, needs, periodic, portal, recompute, scale, stack
from bench.measure import Figure, show, write

RESULTS: Final = Path(__file__).with_name("results")


@dataclass(frozen=True, slots=True)
class Part:
    """A group of figures that are measured together."""

    measure: Callable[[int], list[Figure]]
    needs: tuple[str, ...]
    minutes: float
    """For one repeat, on two cores; the first guess of the remaining time."""
    fixed_minutes: float = 0
    """Whatever the number of repeats."""

    def expected_minutes(self, repeats: int) -> float:
        """How long it takes, as far as is known beforehand."""
        return self.minutes * repeats + self.fixed_minutes


PARTS: Final[dict[str, Part]] = {
    "matcher": Part(matcher.measure, ("Kafka", "peers"), 2.5, 1),
    "fetcher": Part(fetcher.measure, ("Kafka", "Postgres", "Dovecot"), 2, 1),
    "aggregator": Part(aggregator.measure, ("Postgres",), 2.5, 2),
    "freshness": Part(freshness.measure, ("Kafka", "Postgres", "Dovecot"), 2),
    "aggregator-service": Part(aggregator.measure_service, ("Kafka", "Postgres"), 1.5),
    "aggregator-growth": Part(aggregator.measure_growth, ("Postgres",), 2),
    "matcher-growth": Part(matcher.measure_growth, ("Kafka",), 0, 8),
}
LONG: Final[dict[str, Part]] = {
    "recompute": Part(recompute.measure, ("Postgres",), 0, 8),
    "scale": Part(scale.measure, ("Kafka", "Postgres"), 2, 13),
    "periodic": Part(periodic.measure, ("Postgres",), 0, 13),
    "portal": Part(portal.measure, ("Postgres", "Kafka"), 0, 12),
    "stack": Part(stack.measure, ("Docker",), 0, 45),
}
"""Measured only when they are named."""
ALL: Final = PARTS | LONG


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the parts that are named; 1 if something is missing or a part failed."""
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", help=f"any of {', '.join(ALL)}; default: all except {' and '.join(LONG)}", metavar="PART"
    )
    parser.add_argument("--repeats", type=int, default=3, help="repeats of each figure; the median counts")
    parser.add_argument(
        "--mailboxes", type=int, help="how many mailboxes PART scale polls; default: 10,000", metavar="NUMBER"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - ALL.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; the parts are {', '.join(ALL)}")
    names: list[str] = options.parts or list(PARTS)
    parts = {name: ALL[name] for name in names}
    if options.mailboxes is not None and "scale" in parts:
        parts["scale"] = replace(parts["scale"], measure=partial(scale.measure, mailboxes=options.mailboxes))
    return run(parts, options.repeats, RESULTS)


def run(
    parts: Mapping[str, Part], repeats: int, folder: Path, check: Callable[[set[str]], list[str]] = needs.missing
) -> int:
    """Check, measure, write; returns the exit code."""
    _print("checking what the measurements need …")
    if problems := check({need for part in parts.values() for need in part.needs}):
        for problem in problems:
            _print(f"  {problem}")
        _print("Nothing was measured.")
        return 1
    kind = "bench" if parts.keys() - LONG.keys() else next(iter(parts))
    file = folder / f"partial-{kind}-{time.strftime('%Y-%m-%d-%H%M%S')}.json"
    figures: list[Figure] = []
    seconds: dict[str, float] = {}
    failed: list[str] = []
    for name, part in parts.items():
        _print(f"measuring: {name} ({_remaining(parts, repeats, seconds)})")
        started = time.monotonic()
        try:
            figures += part.measure(repeats)
        except Exception:
            traceback.print_exc()
            failed.append(name)
        seconds[name] = time.monotonic() - started
        if name not in failed:
            write(figures, file, seconds)
            _print(f"{name} took {_minutes(seconds[name])}; written to {file}")
    print(show(figures))
    if failed:
        _print(f'These parts failed: {", ".join(failed)}. Run `make bench PARTS="{" ".join(failed)}"` for them alone.')
        return 1
    final = file.with_name(file.name.removeprefix("partial-"))
    file.rename(final)
    _print(f"All figures are in {final}")
    return 0


def _remaining(parts: Mapping[str, Part], repeats: int, seconds: Mapping[str, float]) -> str:
    """The remaining time: what is expected, corrected by how long the finished parts took."""
    expected = {name: 60 * part.expected_minutes(repeats) for name, part in parts.items()}
    remaining = sum(expected[name] for name in parts if name not in seconds)
    finished = sum(expected[name] for name in seconds)
    pace = sum(seconds.values()) / finished if finished else 1.0
    return f"about {_minutes(remaining * pace)} for {len(parts) - len(seconds)} of {len(parts)} parts remain"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
