"""`replay`: dumps of the two topics through the real join and the real SQL, for what-if, audit and bug reports."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import click

from services.aggregator.judge.rules import RuleSet
from services.cli.context import as_json, environment, guarded, load_config
from services.cli.numbers.rate_table import print_rate_table
from services.cli.numbers.rules import rule_set_named
from services.cli.output import ProgressBars, ReportProgress, errors, print_json
from services.common.errors import ConfigError, ReplyrateError
from services.common.hashing import Hasher
from services.common.kafka import Reader
from services.common.settings import KafkaSettings
from services.common.topics import INQUIRIES, SENT
from services.standalone import replay
from services.standalone.replay import ReplayFacts, ReplayQuestion

DUMP: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
RULES_DIR: Final = "REPLYRATE_AGGREGATOR__RULES_DIR"
KEY_BYTES: Final = 32


@click.command("replay")
@click.option("--inquiries", type=DUMP, help="Dump of inquiries.v1: one record (a CloudEvent) per line.")
@click.option("--sent", type=DUMP, help="Dump of sent-messages.v1.")
@click.option("--from-kafka", is_flag=True, help="Read both topics from Kafka instead, without a consumer group.")
@click.option(
    "--hash-key-file",
    type=DUMP,
    help="Hash key of the installation. Default with --from-kafka: REPLYRATE_HASH_KEY_FILE.",
)
@click.option(
    "--rules", "names", multiple=True, required=True, metavar="R…", help="Rule sets, by name or as files (.toml)."
)
@click.option(
    "--as-of",
    required=True,
    metavar="T",
    help="A day (judged at its end in the time zone of the rule set) or an instant.",
)
@click.option("--coverage", type=DUMP, help="Coverage history. Default: everything counts as covered.")
@click.argument("more", nargs=-1, metavar="")
@as_json
@guarded
def replay_command(
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

    Needs no services and writes nothing but its result. The same facts give the same bytes, in any order. Lines that break
    the contract are left out and reported with their numbers. docs/replay.md describes the formats.
    """
    has_dumps = inquiries is not None and sent is not None
    if from_kafka == has_dumps or (from_kafka and (inquiries or sent)):
        raise click.UsageError("give --inquiries FILE and --sent FILE, or --from-kafka")
    rule_sets = _rule_sets(dict.fromkeys((*names, *more)))
    question = question_at(as_of)
    with ProgressBars() as report:
        if from_kafka:
            facts = _facts_from_kafka(hash_key_file, report)
        else:
            assert inquiries is not None and sent is not None
            facts = _facts_from_dumps(inquiries, sent, hash_key_file, report)
        history, rejected = (None, []) if coverage is None else replay.read_coverage(coverage.name, read(coverage))
        result = replay.replay(facts, history, rule_sets, question, report)
    for line in (*facts.rejected, *rejected):
        errors.print(
            f"{line.source} line {line.line}: left out: {line.detail} ({line.reason})", style="yellow", markup=False,
            soft_wrap=True,
        )  # fmt: skip
    if json_:
        print_json(result)
        return
    for rule_set in rule_sets:
        rows = [rate_row for rate_row in result["reply_rate"] if rate_row["rule_set"] == rule_set.name]
        rows.sort(key=lambda rate_row: (rate_row["company_id"], rate_row["account_id"] or ""))
        if rows:
            print_rate_table(rows, f"{rule_set.name} {rule_set.identity} (as of {rows[0]['as_of']})")
        else:
            errors.print(f"{rule_set.name}: no inquiry is known at {as_of}.", markup=False)


def _rule_sets(names: Iterable[str]) -> list[RuleSet]:
    """The rule sets that were asked for. Raises UsageError when two files have the same name inside."""
    rule_sets = [rule_set_named(name, environment().get(RULES_DIR)) for name in names]
    for name, times in Counter(rule_set.name for rule_set in rule_sets).items():
        if times > 1:
            raise click.UsageError(f"{times} rule sets are called {name}; rename the changed one")
    return rule_sets


def _facts_from_kafka(hash_key_file: Path | None, report: ReportProgress) -> ReplayFacts:
    config, facts = load_config(), ReplayFacts()
    hasher = Hasher(hash_key(hash_key_file) if hash_key_file is not None else config.hash_key())
    for topic in (INQUIRIES, SENT):
        facts.add(topic, topic, records(config.kafka, topic, report), hasher)
    return facts


def _facts_from_dumps(inquiries: Path, sent: Path, hash_key_file: Path | None, report: ReportProgress) -> ReplayFacts:
    if hash_key_file is None:
        raise click.UsageError("give --hash-key-file FILE: the key that the hashes of --sent were made with")
    hasher, facts = Hasher(hash_key(hash_key_file)), ReplayFacts()
    for topic, file in ((INQUIRIES, inquiries), (SENT, sent)):
        lines = list(replay.numbered(read(file)))
        facts.add(topic, file.name, _reporting(lines, file.name, len(lines), report), hasher)
    return facts


def question_at(text: str) -> Callable[[RuleSet], ReplayQuestion]:
    """What `--as-of` asks of a rule set: the end of a day in its time zone, or an instant. Raises BadParameter."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        pass
    else:
        if not 2000 <= day.year <= 2200:
            raise click.BadParameter(
                f"{text} is outside of the years that can be counted; write a day from 2000 to 2200",
                param_hint="--as-of",
            )
        return lambda rule_set: ReplayQuestion.of(day, rule_set)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise click.BadParameter(
            f"{text!r} is neither a day nor an instant; write 2026-11-20 or 2026-11-20T08:00:00Z", param_hint="--as-of"
        )
    return lambda _: ReplayQuestion(at.astimezone(UTC))


def hash_key(file: Path) -> bytes:
    """The hash key in a file. Raises ConfigError when its length is wrong."""
    raw = read(file)
    if len(raw) != KEY_BYTES:
        raise ConfigError(
            f"--hash-key-file: {file.name} contains {len(raw)} bytes; the hash key of an installation has {KEY_BYTES}"
        )
    return raw


def read(file: Path) -> bytes:
    """The content of a file. Raises ReplyrateError when it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise ReplyrateError(f"{file} cannot be read ({error.strerror}); check its path and permissions") from None


def records(kafka: KafkaSettings, topic: str, report: ReportProgress) -> Iterator[tuple[int, bytes]]:
    """What a topic holds now, as (number, record); the position of no consumer group changes."""
    with Reader(kafka, "replyrate-replay", topic) as reader:
        partitions = sorted(reader.partitions())
        if not partitions:
            raise ReplyrateError(f"there is no topic {topic}; run `replyrate topics check`")
        begins, ends = reader.beginning_offsets(partitions), reader.end_offsets(partitions)
        unread = {partition: end for partition, end in ends.items() if end > begins[partition]}
        reader.assign(partitions)
        for partition in partitions:
            reader.seek(partition, begins[partition])
        number, total = 0, sum(ends[partition] - begins[partition] for partition in partitions)
        while unread:
            for partition, batch in reader.poll(1.0).items():
                for record in batch:
                    if record.offset >= ends[partition]:
                        break
                    number += 1
                    yield number, record.value or b""
                report(topic, number, total)
            # By position, not by the last record: an offset may have none (the end of a transaction, an aborted one, a
            # record that compaction removed). https://issues.apache.org/jira/browse/KAFKA-12980
            for partition in list(unread):
                position = reader.position(partition)
                if position is not None and position >= unread[partition]:
                    del unread[partition]
        report(topic, total, total)


def _reporting(
    lines: Iterable[tuple[int, bytes]], name: str, total: int, report: ReportProgress
) -> Iterator[tuple[int, bytes]]:
    """The same lines; reports after every 1,000 of them and after the last."""
    for count, line in enumerate(lines, 1):
        if count % 1_000 == 0 or count == total:
            report(name, count, total)
        yield line
