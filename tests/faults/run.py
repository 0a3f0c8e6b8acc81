"""One fault run: a world, a schedule of faults, a wait until nothing moves, and the comparison with the exact answer.

`python -m tests.faults.run --seed 1 --rounds 5 --faults 60` prints one table for all rounds and ends with 1 when
anything differs. The same seed gives the same world and the same schedule.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from services.common.postgres import connect
from services.standalone.demo import comparison
from services.standalone.servers.postgres import scratch_folder
from services.standalone.world.world import World
from tests.faults import schedule
from tests.faults.arena import Arena
from tests.faults.careless import MARKER
from tests.faults.deployment import now
from tests.faults.invariants import differences_of
from tests.faults.progress import observe, wait_until_still
from tests.faults.replay import replayed_differences
from tests.faults.world import Story

RULE_SETS = ("default", "first-reply-24h")
STILL_SECONDS = 150.0
LONGEST_SECONDS = 1_200.0


@dataclass(slots=True)
class Result:
    """What a round did, and what differs from the exact answer."""

    seed: int
    faults: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    exits: dict[str, int] = field(default_factory=dict)
    inquiries: int = 0
    mails: int = 0
    replies: int = 0
    rates: int = 0
    outcomes: int = 0
    poison: int = 0
    behind: int = 0
    """Joined states that the aggregator had not merged when the comparison was made."""
    seconds: float = 0
    settled_seconds: float = 0


def run(
    seed: int,
    *,
    faults: int,
    inquiries: int,
    folder: Path,
    modules: Mapping[str, str] | None = None,
    kinds: tuple[str, ...] | None = None,
    still_seconds: float = STILL_SECONDS,
    kill_at: str | None = None,
    replay: bool = False,
    progress: bool = False,
    kind_of_arena: type[Arena] = Arena,
) -> Result:
    """One round; AssertionError when it is stuck.

     1. Start the servers and services, and publish the first part of the history.
     2. For each fault: wait, apply it, publish the next part, file fresh mail.
     3. End every fault, and wait until the numbers are right or nothing moves any more.
     4. Compare with the exact answer, then stop the services.
     5. With `replay`: replay the topics into an empty database and compare again.

    `modules` replaces services (the control), `kinds` restricts the faults. With `kill_at` a fault does not wait for its
    time but for the next such line in the aggregator's log.
    """
    started = time.monotonic()
    story = Story(seed, now())
    history = story.history(inquiries * 3 // 4)
    chance = random.Random(seed + 1)
    planned = _plan(seed, faults, kinds, kind_of_arena)
    result = Result(seed)
    with kind_of_arena(folder, history, modules=modules, store=("memory", "rocksdb")[seed % 2]) as arena:
        parts = _parts(history, len(planned) + 1, chance)
        arena.start()
        arena.publish_facts(parts[0], chance)
        arena.rest(3)
        fresh = (inquiries - len(history.inquiries)) / max(1, len(planned))
        owed = 0.0
        for number, fault in enumerate(planned):
            if progress:
                print(
                    f"\r  seed {seed}: fault {number + 1} of {len(planned)}: {fault.kind:<24}", end="", file=sys.stderr
                )
            if kill_at is None:
                arena.rest(fault.wait_seconds)
            else:
                arena.await_line("aggregator", kill_at)
            arena.apply(fault)
            arena.step()
            owed += fresh
            more = story.fresh(int(owed), now())
            owed -= int(owed)
            arena.world = arena.world.joined(more)
            # The answer may be filed before the platform publishes the inquiry.
            arena.file(more.mails)
            arena.publish_facts(parts[number + 1].joined(more), chance)
        arena.end_faults()
        calm_at = time.monotonic()
        result.differences = _settle(arena, still_seconds, result)
        result.settled_seconds = round(time.monotonic() - calm_at, 1)
        _measure(arena, result)
        result.exits = {name: code for name, code in arena.stop().items() if code != 0}
        result.differences += [f"{name} ended with {code} after SIGTERM" for name, code in result.exits.items()]
        if replay:
            result.differences += replayed_differences(arena, still_seconds, LONGEST_SECONDS)
        result.faults = dict(sorted(arena.faults.items()))
        if result.differences:
            print(arena.logs()[-20_000:], file=sys.stderr)
    result.seconds = round(time.monotonic() - started, 1)
    return result


def _plan(seed: int, faults: int, kinds: tuple[str, ...] | None, kind_of_arena: type[Arena]) -> list[schedule.Fault]:
    if kinds is None:
        return schedule.plan(seed, faults, kind_of_arena.deck)
    return [fault for fault in schedule.plan(seed, faults * 20, kind_of_arena.deck) if fault.kind in kinds][:faults]


def _settle(arena: Arena, still_seconds: float, result: Result) -> list[str]:
    """Wait until ledger, outcomes, rates and dead letters are as planned; what differs when nothing moves any more."""

    def differences() -> list[str]:
        with connect(arena.direct_dsn, "faults") as connection:
            if wrong := comparison.compare_ledger(connection, arena.world, arena.hasher).differences:
                return wrong
            compared = comparison.compare(connection, arena.world, RULE_SETS)
        result.rates, result.outcomes = compared.rates, compared.outcomes
        return compared.differences or arena.poison_differences()

    return wait_until_still(
        differences,
        lambda: observe(arena.kafka_settings, arena.direct_dsn),
        still_seconds=still_seconds,
        longest_seconds=LONGEST_SECONDS,
        pause=arena.rest,
    )


def _measure(arena: Arena, result: Result) -> None:
    """Check the invariants of the tables, and count what the round came to."""
    with connect(arena.direct_dsn, "faults") as connection:
        result.differences += differences_of(connection)
        counted = connection.execute("SELECT count(*) FROM ledger.replies").fetchone()
    result.behind = observe(arena.kafka_settings, arena.direct_dsn).behind
    result.replies = counted[0] if counted else 0
    result.inquiries, result.mails = len(arena.world.inquiries), len(arena.world.mails)
    result.poison = arena.planted


def _parts(world: World, count: int, chance: random.Random) -> list[World]:
    """The platform's facts of `world` in `count` parts, in any order: a reply may be published long before its inquiry."""
    facts = [[] for _ in range(count)], [[] for _ in range(count)], [[] for _ in range(count)]  # type: ignore[var-annotated]
    for parts, kind in zip(facts, (world.inquiries, world.statuses, world.platform_replies), strict=True):
        for fact in kind:
            parts[chance.randrange(count)].append(fact)
    return [
        World(world.seed, world.now, world.companies, tuple(inquiries), tuple(statuses), tuple(replies))
        for inquiries, statuses, replies in zip(*facts, strict=True)
    ]


def table(results: list[Result]) -> str:
    """Faults by kind over all rounds, and the figures of each round."""
    kinds: Counter[str] = Counter()
    for result in results:
        kinds.update(result.faults)
    lines = [f"{'fault':<24}{'times':>6}"]
    lines += [
        f"{kind:<24}{kinds[kind]:>6}" for kind in dict.fromkeys(schedule.KINDS + schedule.ON_CONTAINERS) if kinds[kind]
    ]
    lines += [f"{'all':<24}{sum(kinds.values()):>6}", ""]
    head = ("seed", "faults", "inquiries", "mails", "replies", "outcomes", "rates", "poison", "settled", "s", "differ")
    lines.append("".join(f"{name:>10}" for name in head))
    for result in results:
        cells = (
            result.seed, sum(result.faults.values()), result.inquiries, result.mails, result.replies, result.outcomes,
            result.rates, result.poison, result.settled_seconds, result.seconds, len(result.differences),
        )  # fmt: skip
        lines.append("".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


CONTROL: Final[dict[str, Any]] = {
    "modules": {"aggregator": "tests.faults.careless"}, "kinds": ("kill-aggregator",), "kill_at": MARKER, "still_seconds": 45,
}  # fmt: skip
"""What makes a round lose facts for certain."""


def main() -> int:
    """Rounds from the command line (`make faults`)."""
    # The services run in sessions of their own; with this they end when this process ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser = argparse.ArgumentParser(prog="make faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="seed of the first round; each further round adds 1")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--faults", type=int, default=60, help="faults in a round")
    parser.add_argument("--inquiries", type=int, default=1500)
    parser.add_argument(
        "--control", action="store_true", help="use an aggregator that commits before it merges, which must lose facts"
    )
    parser.add_argument("--stack", action="store_true", help="use the containers of docker-compose.yml")
    parser.add_argument("--json", action="store_true", help="print one JSON object per round")
    arguments = parser.parse_args()
    if arguments.stack and arguments.control:
        parser.error("--control replaces a service, which images cannot do; leave out --stack")
    kind_of_arena = Arena
    if arguments.stack:
        # Needs Docker, so it is imported only when containers are wanted.
        from tests.faults.containers import ContainerArena

        kind_of_arena = ContainerArena
    results = []
    for seed in range(arguments.seed, arguments.seed + arguments.rounds):
        folder = scratch_folder("replyrate-faults-")
        try:
            result = run(
                seed, faults=arguments.faults, inquiries=arguments.inquiries, folder=folder, replay=not arguments.control,
                progress=True, kind_of_arena=kind_of_arena, **(CONTROL if arguments.control else {}),
            )  # fmt: skip
        except AssertionError as error:
            result = Result(seed, differences=[str(error)])
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(
            f"\r  seed {seed}: {len(result.differences)} differences in {result.seconds} s{' ' * 30}", file=sys.stderr
        )
        for difference in result.differences[:20]:
            print(f"    {difference}", file=sys.stderr)
        if arguments.json:
            print(json.dumps(asdict(result)), flush=True)
        if arguments.control:
            lost = sum("is lost" in difference for difference in result.differences)
            print(f"  seed {seed}: the control lost {lost} facts, {result.behind} not merged yet", file=sys.stderr)
        results.append(result)
    if not arguments.json:
        print(table(results))
    if arguments.control:
        return 0 if all(any("is lost" in difference for difference in result.differences) for result in results) else 1
    return 1 if any(result.differences for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
