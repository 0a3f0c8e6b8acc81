"""A service on a host whose clock is ten days behind (late_matcher.py, late_aggregator.py)."""

from datetime import datetime, timedelta, tzinfo
from importlib import import_module

from services.common import lifecycle

BEHIND = timedelta(days=10)


class LateClock(datetime):
    """The clock of such a host."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """What it says."""
        return datetime.now(tz) - BEHIND


def run_late(name: str) -> int:
    """Run a service with this clock; its exit code."""
    service = import_module(f"services.{name}.__main__")
    service.datetime = LateClock  # type: ignore[attr-defined]
    return lifecycle.run(service.main)
