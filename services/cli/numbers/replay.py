"""`replay`: dumps of the two topics through the real join and the real SQL, for what-if, audit and bug reports."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import click

from services.aggregator.judge.rules import RuleSet
from services.cli.context import ProgressBars, as_json, errors, guarded, load_config, print_json
from services.cli.numbers import rules
from services.cli.numbers.rate import show
from services.common.errors import ConfigError, ReplyrateError
from services.common.hashing import Hasher
from services.common.kafka import Reader
from services.common.settings import KafkaSettings
from services.common.topics import INQUIRIES, SENT
from services.standalone import replay as offline
from services.standalone.replay import ReplayFacts, ReplayQuestion

DUMP = click.Path(exists=True, dir_okay=False, path_type=Path)
RULES_DIR = "REPLYRATE_AGGREGATOR__RULES_DIR"
KEY_BYTES = 32


@click.command()
@click.option("--inquiries", type=DUMP, help="Dump of inquiries.v1: one record (a CloudEvent) per line.")
@click.option("--sent", type=DUMP, help="Dump of sent-messages.v1.")
@click.option("--from-kafka", is_flag=True, help="Read both topics from Kafka instead, without a consumer group.")
@click.option(
    "--hash-key-file", type=DUMP, help="The installation's hash key; REPLYRATE_HASH_KEY_FILE with --from-kafka."
)
@click.option(
    "--rules", "names", multiple=True, required=True, metavar="R…", help="Rule sets, by name or as files (.toml)."
)
@click.option(
    "--as-of", required=True, metavar="T", help="A day (judged at its end in the rule set's zone) or an instant."
)
@click.option("--coverage", type=DUMP, help="Coverage history; without it everything counts as covered.")
@click.argument("more", nargs=-1, metavar="")
@as_json
@guarded
def replay(
    inquiries: Path | None,
    sent: Path | None,
    from_kafka: bool,
    hash_key_file: Path | None,
    names: tuple[str, ...],
    as_of: str,
    coverage: Path | None,
    more: tuple[str, ...],
    json_: bool,
) -> None:
    """Count again, offline: what would the rates have been?

    Needs no services and writes nothing but its result; the same facts give the same bytes, in whatever order they come.
    Lines that break the contract are left out and told with their numbers. docs/replay.md has the formats.
    """
    if from_kafka == (inquiries is not None and sent is not None) or (from_kafka and (inquiries or sent)):
        raise click.UsageError("give --inquiries FILE and --sent FILE, or --from-kafka")
    rule_sets = [rules.by_name(name, os.environ.get(RULES_DIR)) for name in dict.fromkeys((*names, *more))]
    for name, times in Counter(one.name for one in rule_sets).items():
        if times > 1:
            raise click.UsageError(f"{times} rule sets are called {name}; give the changed one a name of its own")
    asked = instant(as_of)
    with ProgressBars() as tell:
        facts = ReplayFacts()
        if from_kafka:
            found = load_config()
            hasher = Hasher(key(hash_key_file) if hash_key_file is not None else found.hash_key())
            for topic in (INQUIRIES, SENT):
                facts.add(topic, topic, records(found.kafka, topic, tell), hasher)
        else:
            assert inquiries is not None and sent is not None
            if hash_key_file is None:
                raise click.UsageError("give --hash-key-file FILE: the key that the hashes of --sent were made with")
            hasher = Hasher(key(hash_key_file))
            for topic, file in ((INQUIRIES, inquiries), (SENT, sent)):
                lines = list(offline.numbered(read(file)))
                facts.add(topic, file.name, counted(lines, file.name, len(lines), tell), hasher)
        history, rejected = (None, []) if coverage is None else offline.read_coverage(coverage.name, read(coverage))
        result = offline.replay(facts, history, rule_sets, asked, tell)
    for line in (*facts.rejected, *rejected):
        errors.print(
            f"{line.source} line {line.line}: left out: {line.detail} ({line.reason})", style="yellow", markup=False,
            soft_wrap=True,
        )  # fmt: skip
    if json_:
        print_json(result)
        return
    for one in rule_sets:
        rows = [row for row in result["reply_rate"] if row["rule_set"] == one.name]
        rows.sort(key=lambda row: (row["company_id"], row["account_id"] or ""))
        if rows:
            show(rows, f"{one.name} {one.identity} (as of {rows[0]['as_of']})")
        else:
            errors.print(f"{one.name}: no inquiry is known at {as_of}", markup=False)


def instant(text: str) -> Callable[[RuleSet], ReplayQuestion]:
    """What `--as-of` means for a rule set: the end of a day in its zone, or an instant for all of them."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        pass
    else:
        if not 2000 <= day.year <= 2200:
            raise click.BadParameter(
                f"{text} lies outside of what is counted; write a day since 2000", param_hint="--as-of"
            )
        return lambda one: ReplayQuestion.of(day, one)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise click.BadParameter(
            f"{text!r} is no day and no instant; write 2026-11-20 or 2026-11-20T08:00:00Z", param_hint="--as-of"
        )
    return lambda _: ReplayQuestion(at.astimezone(UTC))


def key(file: Path) -> bytes:
    """The hash key of a file. ConfigError when it is none."""
    raw = read(file)
    if len(raw) != KEY_BYTES:
        raise ConfigError(
            f"--hash-key-file: {file.name} holds {len(raw)} bytes; the key of an installation has {KEY_BYTES}"
        )
    return raw


def read(file: Path) -> bytes:
    """All of a file. ReplyrateError when it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise ReplyrateError(f"{file} cannot be read ({error.strerror}); check the path and who may read it") from None


def records(kafka: KafkaSettings, topic: str, tell: offline.Progress) -> Iterator[tuple[int, bytes]]:
    """What a topic holds now, as (number, record); nobody else's position moves."""
    with Reader(kafka, "replyrate-replay", topic) as reader:
        partitions = sorted(reader.partitions())
        if not partitions:
            raise ReplyrateError(f"there is no topic {topic}; `replyrate topics check` tells what is missing")
        begins, ends = reader.beginning_offsets(partitions), reader.end_offsets(partitions)
        left = {partition: end for partition, end in ends.items() if end > begins[partition]}
        reader.assign(partitions)
        for partition in partitions:
            reader.seek(partition, begins[partition])
        number, total = 0, sum(ends[partition] - begins[partition] for partition in partitions)
        while left:
            for partition, batch in reader.poll(1.0).items():
                for record in batch:
                    if record.offset >= ends[partition]:
                        break
                    number += 1
                    yield number, record.value or b""
                if partition in left and batch[-1].offset + 1 >= left[partition]:
                    del left[partition]
                tell(topic, number, total)
        tell(topic, total, total)


def counted(
    lines: Iterable[tuple[int, bytes]], name: str, total: int, tell: offline.Progress
) -> Iterator[tuple[int, bytes]]:
    """The same lines, telling how many have passed."""
    for place, line in enumerate(lines, 1):
        if place % 1_000 == 0 or place == total:
            tell(name, place, total)
        yield line
