"""How long to wait before the same thing is tried again: exponential, capped, with full-range jitter handed in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds: `first`, then `factor` times as long each attempt, never over `cap`."""

    first: float
    factor: float = 2.0
    cap: float = 60.0

    def delay(self, attempt: int, jitter: float) -> float:
        """Seconds before attempt number `attempt` + 1 (the first failure is attempt 1).

        `jitter` lies in 0..1 and spreads the delay over its upper half, so that many clients that failed together do
        not come back together.
        """
        # The exponent is bounded first: 2.0 ** 5000 would overflow long before min() could help.
        ceiling = self.first
        for _ in range(min(attempt - 1, 64)):
            if ceiling >= self.cap:
                break
            ceiling *= self.factor
        ceiling = min(ceiling, self.cap)
        return ceiling / 2 + ceiling / 2 * jitter
