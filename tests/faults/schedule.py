"""The faults of a run and their times: a function of the seed only, so that a failing seed can be repeated."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SERVICES: Final = ("fetcher", "matcher", "aggregator")
KINDS: Final = (
    *(f"kill-{name}" for name in SERVICES),
    *(f"freeze-{name}" for name in SERVICES),
    *(f"second-{name}" for name in SERVICES),
    "kill-kafka",
    "reset-connections",
    "slow-connections",
    "restart-postgres",
    "lossy-failover",
    "reset-uidvalidity",
    "recreate-folder",
    "delete-matcher-state",
    "republish-topics",
    "poison-batch",
)
"""Every kind once is a deck; a run uses as many decks as it needs for its faults."""

ON_CONTAINERS: Final = (*(kind for kind in KINDS if not kind.endswith("-connections")), "isolate-service")
"""The deck for containers: there is no proxy between them, but Docker can take one off its network."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: the wait before it, its kind, and the random seed of its details."""

    wait_seconds: float
    kind: str
    dice: int


def plan(seed: int, faults: int, deck: Sequence[str] = KINDS) -> list[Fault]:
    """The faults of a run, one every 1 to 4 s, all kinds about equally often."""
    chance = random.Random(seed)
    kinds: list[str] = []
    while len(kinds) < faults:
        kinds += chance.sample(deck, len(deck))
    return [Fault(chance.uniform(1, 4), kind, chance.getrandbits(32)) for kind in kinds[:faults]]
