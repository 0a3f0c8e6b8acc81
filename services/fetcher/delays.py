"""How long a mailbox waits after a poll that failed."""

from typing import Final

from services.common.retry import Backoff
from services.registry import pacing
from services.registry.leases import LeasedMailbox

DEPENDENCY_SECONDS: Final = 5.0
FAILURE: Final = Backoff(60, 2, 6 * 3600)
THROTTLE: Final = Backoff(300, 2, 24 * 3600)


def spaced(leased: LeasedMailbox, seconds: float) -> float:
    """`seconds`, or the provider's minimum between two logins of a mailbox if that is longer."""
    return max(seconds, pacing.again_seconds(leased.host))
