"""`python -m bench`: every figure, repeated, as a table and as JSON in bench/results."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bench import aggregator, fetcher, freshness, matcher, recompute, stack
from bench.measure import Figure, save, show

PARTS: dict[str, Callable[[int], list[Figure]]] = {
    "matcher": matcher.measure,
    "fetcher": fetcher.measure,
    "aggregator": aggregator.measure,
    "freshness": freshness.measure,
    "aggregator-service": aggregator.measure_service,
    "aggregator-growth": aggregator.measure_growth,
    "matcher-growth": matcher.measure_growth,
}
LONG: dict[str, Callable[[int], list[Figure]]] = {"recompute": recompute.measure, "stack": stack.measure}
"""Measured only when they are named."""
ALL = PARTS | LONG


def main() -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(ALL)}; all but {', '.join(LONG)} when none is named")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    if unknown := set(asked.parts) - ALL.keys():
        parser.error(f"{', '.join(sorted(unknown))}: the parts are {', '.join(ALL)}")
    figures: list[Figure] = []
    for name in asked.parts or PARTS:
        print(f"measuring the {name} …", file=sys.stderr)
        figures += ALL[name](asked.repeats)
    print(show(figures))
    print(
        f"written to {save(figures, Path(__file__).with_name('results'), 'bench' if set(asked.parts) - LONG.keys() or not asked.parts else asked.parts[0])}",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
