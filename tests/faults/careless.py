"""The control: an aggregator that moves its offset before it merges, as one would who never tried a kill.

Run as a service in place of the real one (`python -m tests.faults.careless`); a fault run with it must find what it lost.
"""

import sys
import time
from collections.abc import Sequence

from services.aggregator import __main__ as aggregator
from services.aggregator.ingest.ledger import Ledger, PartitionOwnership
from services.common import lifecycle
from services.common.events import CompanyErased, InquiryReplies

BETWEEN_SECONDS = 2.5

merge = Ledger.merge


def offset_first(
    self: Ledger, owned: PartitionOwnership, next_offset: int, events: Sequence[InquiryReplies | CompanyErased]
) -> None:
    """Two transactions in the wrong order; a kill between them loses `events`."""
    merge(self, owned, next_offset, [])
    time.sleep(BETWEEN_SECONDS)
    merge(self, owned, next_offset, events)


if __name__ == "__main__":
    Ledger.merge = offset_first  # type: ignore[method-assign]
    sys.exit(lifecycle.run(aggregator.main))
