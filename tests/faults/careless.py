"""The control: an aggregator that moves its offset before it merges, a mistake that only a kill in between reveals.

Run as a service in place of the real one (`python -m tests.faults.careless`); a fault run with it must find what it lost.
"""

import sys
import time
from collections.abc import Sequence
from logging import getLogger
from typing import Final

from services.aggregator import __main__ as aggregator
from services.aggregator.ingest.ledger import Ledger, PartitionOwnership
from services.common import lifecycle
from services.common.events import CompanyErased, InquiryReplies

BETWEEN_SECONDS = 2.5
MARKER: Final = "the offset has moved, its effects have not"
"""In the log for as long as a kill loses facts for certain."""

log = getLogger("careless")
merge = Ledger.merge


def offset_first(
    self: Ledger, owned: PartitionOwnership, next_offset: int, events: Sequence[InquiryReplies | CompanyErased]
) -> None:
    """Two transactions in the wrong order; a kill between them loses `events`."""
    merge(self, owned, next_offset, [])
    if events:
        log.warning(MARKER, extra={"action": "crashed"})
    time.sleep(BETWEEN_SECONDS)
    merge(self, owned, next_offset, events)


if __name__ == "__main__":
    Ledger.merge = offset_first  # type: ignore[method-assign]
    sys.exit(lifecycle.run(aggregator.main))
