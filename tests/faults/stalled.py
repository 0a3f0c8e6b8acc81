"""`python -m tests.faults.stalled`: a matcher that stops to read after its first batches, and stays in its group.

What its libraries do now and then after a broker was restarted: a task waits for an answer that never comes, while another
one sends the heartbeats.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

from services.common import lifecycle
from services.matcher import __main__, host
from services.matcher.faust_batches import BatchConsumer

LIMIT_SECONDS = 3.0

_deliver = BatchConsumer.getmany


async def _getmany(self: BatchConsumer, timeout: float) -> AsyncIterator[Any]:
    has_delivered = False
    async for delivery in _deliver(self, timeout):
        has_delivered = True
        yield delivery
    if has_delivered:
        await asyncio.Event().wait()


if __name__ == "__main__":
    BatchConsumer.getmany = _getmany  # type: ignore[method-assign]
    host.STALL_SECONDS = LIMIT_SECONDS  # type: ignore[misc]
    sys.exit(lifecycle.run(__main__.main))
