"""One fault run: a world, a schedule of faults, quiet, and the comparison with what is right.

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

from services.aggregator.ingest.ledger import Ledger
from services.common.errors import TransientError
from services.common.postgres import connect
from services.common.topics import REPLIES
from services.standalone.demo import comparison
from services.standalone.servers.postgres import scratch_folder
from services.standalone.world.world import World
from tests.faults import schedule
from tests.faults.arena import Arena, differences_of, now
from tests.faults.replay import replayed_differences
from tests.faults.world import Story
from tests.support.topics import read_all

RULE_SETS = ("default", "first-reply-24h")
QUIET_SECONDS = 150.0


@dataclass(slots=True)
class Result:
    """What a round did and what differs from the exact answer."""

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
    quiet_seconds: float = QUIET_SECONDS,
    replay: bool = False,
    progress: bool = False,
    kind_of_arena: type[Arena] = Arena,
) -> Result:
    """One round. `modules` replaces services (the control), `kinds` narrows the faults; AssertionError when stuck."""
    began = time.monotonic()
    story = Story(seed, now())
    history = story.history(inquiries * 3 // 4)
    chance = random.Random(seed + 1)
    planned = schedule.plan(seed, faults, kind_of_arena.deck)
    if kinds is not None:
        planned = [fault for fault in schedule.plan(seed, faults * 20, kind_of_arena.deck) if fault.kind in kinds][
            :faults
        ]
    result = Result(seed)
    with kind_of_arena(folder, history, modules=modules, store=("memory", "rocksdb")[seed % 2]) as arena:
        parts = _parts(history, len(planned) + 1, chance)
        arena.start()
        arena.tell(parts[0], chance)
        arena.rest(3)
        fresh = (inquiries - len(history.inquiries)) / max(1, len(planned))
        owed = 0.0
        for number, fault in enumerate(planned):
            if progress:
                print(
                    f"\r  seed {seed}: fault {number + 1} of {len(planned)}: {fault.kind:<24}", end="", file=sys.stderr
                )
            arena.rest(fault.wait_seconds)
            arena.hit(fault)
            arena.step()
            owed += fresh
            more = story.fresh(int(owed), now())
            owed -= int(owed)
            arena.world = arena.world.joined(more)
            # The answer may be filed before the platform tells what was asked.
            arena.file(more.mails)
            arena.tell(parts[number + 1].joined(more), chance)
        arena.calm()
        quiet = time.monotonic()
        result.differences = _settle(arena, quiet_seconds, result)
        result.settled_seconds = round(time.monotonic() - quiet, 1)
        result.differences += arena.poison_differences()
        with connect(arena.direct_dsn, "faults") as connection:
            result.differences += differences_of(connection)
            row = connection.execute("SELECT count(*) FROM ledger.replies").fetchone()
            merged = Ledger(connection, REPLIES).lag()
        ends = {record.partition: record.offset + 1 for record in read_all(arena.kafka_settings, REPLIES)}
        result.behind = sum(end - merged.get(partition, 0) for partition, end in ends.items())
        result.replies = row[0] if row else 0
        result.inquiries, result.mails = len(arena.world.inquiries), len(arena.world.mails)
        result.poison = arena.planted
        result.exits = {name: code for name, code in arena.stop().items() if code != 0}
        result.differences += [f"{name} ended with {code} after SIGTERM" for name, code in result.exits.items()]
        if replay:
            result.differences += replayed_differences(arena)
        result.faults = dict(sorted(arena.faults.items()))
        if result.differences:
            print(arena.logs()[-20_000:], file=sys.stderr)
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _settle(arena: Arena, seconds: float, result: Result) -> list[str]:
    """Wait until ledger, outcomes and rates equal the plan; what still differs at the end of the time."""
    deadline = time.monotonic() + seconds
    found = ["nothing was compared"]
    while found and time.monotonic() < deadline:
        arena.rest(1)
        try:
            with connect(arena.direct_dsn, "faults") as connection:
                found = comparison.compare_ledger(connection, arena.world, arena.hasher).differences
                if not found:
                    compared = comparison.compare(connection, arena.world, RULE_SETS)
                    found, result.rates, result.outcomes = compared.differences, compared.rates, compared.outcomes
        except TransientError as error:
            found = [str(error)]
    return found


def _parts(world: World, count: int, chance: random.Random) -> list[World]:
    """The platform's facts of `world` in so many parts, in any order: a reply may be told long before its inquiry."""
    facts = [[] for _ in range(count)], [[] for _ in range(count)], [[] for _ in range(count)]  # type: ignore[var-annotated]
    for kind, told in zip(facts, (world.inquiries, world.statuses, world.platform_replies), strict=True):
        for fact in told:
            kind[chance.randrange(count)].append(fact)
    return [
        World(world.seed, world.now, world.companies, tuple(asked), tuple(marked), tuple(replied))
        for asked, marked, replied in zip(*facts, strict=True)
    ]


def table(results: list[Result]) -> str:
    """Faults by kind over all rounds, and what each round came to."""
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
    for one in results:
        cells = (
            one.seed, sum(one.faults.values()), one.inquiries, one.mails, one.replies, one.outcomes, one.rates,
            one.poison, one.settled_seconds, one.seconds, len(one.differences),
        )  # fmt: skip
        lines.append("".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


CONTROL: Final[dict[str, Any]] = {
    "modules": {"aggregator": "tests.faults.careless"}, "kinds": ("kill-aggregator",), "quiet_seconds": 45,
}  # fmt: skip
"""What makes a round lose facts for certain."""


def main() -> int:
    """Rounds from the command line (`make faults`)."""
    # So that the services, which live in sessions of their own, end with this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser = argparse.ArgumentParser(prog="make faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="seed of the first round; the next ones count on")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--faults", type=int, default=60, help="faults in a round")
    parser.add_argument("--inquiries", type=int, default=1500)
    parser.add_argument(
        "--control", action="store_true", help="with an aggregator that commits before it merges: must lose facts"
    )
    parser.add_argument("--stack", action="store_true", help="against the containers of docker-compose.yml")
    parser.add_argument("--json", action="store_true", help="one JSON object per round on standard output")
    asked = parser.parse_args()
    if asked.stack and asked.control:
        parser.error("--control replaces a service by a careless one, and images have none: leave out --stack")
    kind_of_arena = Arena
    if asked.stack:
        # Who does not want containers needs no Docker.
        from tests.faults.containers import ContainerArena

        kind_of_arena = ContainerArena
    results = []
    for seed in range(asked.seed, asked.seed + asked.rounds):
        folder = scratch_folder("replyrate-faults-")
        try:
            result = run(
                seed, faults=asked.faults, inquiries=asked.inquiries, folder=folder, replay=not asked.control,
                progress=True, kind_of_arena=kind_of_arena, **(CONTROL if asked.control else {}),
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
        if asked.json:
            print(json.dumps(asdict(result)), flush=True)
        if asked.control:
            lost = sum("is lost" in difference for difference in result.differences)
            print(f"  seed {seed}: the control lost {lost} facts, {result.behind} not merged yet", file=sys.stderr)
        results.append(result)
    if not asked.json:
        print(table(results))
    if asked.control:
        return 0 if all(any("is lost" in one for one in result.differences) for result in results) else 1
    return 1 if any(result.differences for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
