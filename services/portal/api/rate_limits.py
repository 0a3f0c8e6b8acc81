"""How many requests a key may send: a token bucket for each key, in this process.

The answer to every request tells how much is left (draft-ietf-httpapi-ratelimit-headers).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Final

WINDOW_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class RateDecision:
    """Whether a request is within the limit. `remaining` requests may follow at once; `wait_seconds`: until the next one may."""

    limit: int
    remaining: int
    wait_seconds: int

    @property
    def allowed(self) -> bool:
        """Whether the request is within the limit."""
        return self.wait_seconds == 0

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        retry = {} if self.allowed else {"Retry-After": str(self.wait_seconds)}
        return {
            "RateLimit-Policy": f'"key";q={self.limit};w={WINDOW_SECONDS}',
            "RateLimit": f'"key";r={self.remaining};t={max(self.wait_seconds, ceil(WINDOW_SECONDS / self.limit))}',
            **retry,
        }


class RateLimiter:
    """Counts requests by key; has as many entries as there are keys, and accounts whose panel is in a frame. Safe to use from any thread."""

    def __init__(self, per_minute: int, monotonic: Callable[[], float]) -> None:
        """`monotonic`: seconds of a clock that never goes back."""
        self._per_minute = per_minute
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key_id: str) -> RateDecision:
        """Count one request of a key."""
        per_second = self._per_minute / WINDOW_SECONDS
        with self._lock:
            now = self._monotonic()
            tokens, at = self._buckets.get(key_id, (float(self._per_minute), now))
            tokens = min(float(self._per_minute), tokens + (now - at) * per_second)
            is_allowed = tokens >= 1
            tokens -= is_allowed
            self._buckets[key_id] = (tokens, now)
        wait = 0 if is_allowed else max(1, ceil((1 - tokens) / per_second))
        return RateDecision(self._per_minute, int(tokens), wait)
