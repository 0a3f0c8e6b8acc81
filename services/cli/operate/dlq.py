"""`dlq`: what was rejected and why; send it back, or be done with it."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

import click

from services.cli.context import as_json, errors, guarded, load_config, print_json, print_table, registry, text
from services.common.errors import EXIT_FAILED
from services.common.kafka import Publisher
from services.common.settings import Settings
from services.dead_letters.letters import BATCH, DeadLetterRecord, DeadLetters, LetterReplay, parse, result_of, spans_of

COLUMNS = {
    "position": "position", "state": "state", "at": "at (UTC)", "service": "service", "reason": "reason", "detail": "detail",
    "company_id": "company", "origin": "from", "replayed": "replayed",
}  # fmt: skip
RESULTS = {"position": "position", "reason": "reason", "outcome": "what happens", "why": "why"}


@click.group()
def dlq() -> None:
    """Dead letters: records and mails that no service could read."""


@dlq.command("list")
@click.option(
    "--all", "all_", is_flag=True, help="Also what was replayed or purged before, as long as the topic has it."
)
@click.option("--reason", help="Only letters with this reason.")
@click.option("--limit", type=click.IntRange(1), default=200, show_default=True, help="At most so many.")
@as_json
@guarded
def dlq_list(all_: bool, reason: str | None, limit: int, json_: bool) -> None:
    """Dead letters that wait, oldest first in each partition; with --all also the others, and what became of them.

    \b
    State:
      open      it waits
      replayed  its record was sent back, or its mailbox is read again
      left      it could not be replayed; `dlq replay` told why
      purged    somebody was done with it
      done      one of these; too long ago to tell which
    """
    with DeadLetters(load_config().kafka) as letters:
        spans = letters.everything() if all_ else letters.waiting()
        rows = [letter.row() for letter in islice(_matching(letters.read(spans), reason), limit)]
    if json_:
        print_json(rows)
    elif rows:
        print_table(rows, COLUMNS)
        if len(rows) == limit:
            errors.print(f"only the first {limit}; --limit shows more", style="dim")
    else:
        errors.print("no dead letter waits" if not all_ else "there is no dead letter")


@dlq.command("show")
@click.argument("position")
@as_json
@guarded
def dlq_show(position: str, json_: bool) -> None:
    """One dead letter, POSITION as `dlq list` shows it. With --json its record too, in base64."""
    with DeadLetters(load_config().kafka) as letters:
        letter = letters.at(position)
    data = letter.data
    row = {
        **letter.row(),
        "service_version": data.service_version if data else None,
        "value": data.value if data else None,
        "needs": letter.needs(),
    }
    if json_:
        print_json(row)
        return
    row["value"] = None if row["value"] is None else f"{len(str(row['value'])) * 3 // 4} bytes (--json prints them)"
    for name, value in row.items():
        click.echo(f"{name:16} {text(value)}")


@dlq.command("replay")
@click.argument("positions", nargs=-1)
@click.option("--reason", help="Only letters with this reason.")
@click.option("--most", type=click.IntRange(1), default=3, show_default=True, help="How often one record may go round.")
@click.option("--again", is_flag=True, help="Also letters at POSITIONS that were replayed before.")
@click.option("--yes", is_flag=True, help="Do it; without it only what would happen is told.")
@as_json
@guarded
def dlq_replay(positions: tuple[str, ...], reason: str | None, most: int, again: bool, yes: bool, json_: bool) -> None:
    """Send the records of dead letters back to their topics; for a mail, read its mailbox again.

    Without POSITIONS: everything that waits, or what has --reason of it. What was replayed waits no more, and what could
    not be is told and left. A record that is rejected again becomes a new dead letter that knows how often it went round.
    """
    found = load_config()
    counts: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    with DeadLetters(found.kafka) as letters, _replay(found, most, again, yes) as replay:
        chosen = (
            iter([letters.at(position) for position in positions])
            if positions
            else _matching(letters.read(letters.waiting()), reason)
        )
        while batch := list(islice(chosen, BATCH)):
            if yes:
                letters.done({"replayed": spans_of(batch)}, dry=True)
            results = replay.run(batch)
            if yes:
                letters.done(result_of(results))
            for done in results:
                counts[done.outcome] = counts.get(done.outcome, 0) + 1
                rows.append({**done.letter.row(), "outcome": done.outcome, "why": done.why})
            errors.print(f"{sum(counts.values())} letters", style="dim")
    if json_:
        print_json({"done": yes, "counts": counts, "letters": rows})
    elif rows:
        print_table([row for row in rows if row["why"]] if yes else rows, RESULTS)
    if not rows:
        errors.print("no dead letter waits")
    elif yes:
        errors.print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    else:
        errors.print("nothing was done; --yes does it")
    if yes and set(counts) - {"replayed", "rescan"}:
        sys.exit(EXIT_FAILED)


@dlq.command("purge")
@click.option("--through", help="Only up to this position (PARTITION/OFFSET), in its partition.")
@click.option("--reason", help="Only letters with this reason.")
@click.option("--delete", is_flag=True, help="Delete them from the topic too, for everybody and for ever.")
@click.option("--yes", is_flag=True, help="Do it; without it only what would happen is told.")
@as_json
@guarded
def dlq_purge(through: str | None, reason: str | None, delete: bool, yes: bool, json_: bool) -> None:
    """Be done with dead letters without replaying them: they wait no more."""
    if delete and reason is not None:
        raise click.UsageError("a topic is deleted up to an offset, so --delete takes --through and no --reason")
    with DeadLetters(load_config().kafka) as letters:
        spans = letters.everything() if delete else letters.waiting()
        if through is not None:
            partition, offset = parse(through)
            letters.at(through)
            spans = {partition: [(a, min(b, offset + 1)) for a, b in spans.get(partition, ()) if a <= offset]}
        if reason is not None:
            spans = spans_of(_matching(letters.read(spans), reason))
        count = sum(end - first for found in spans.values() for first, end in found)
        ends = {at: found[-1][1] for at, found in spans.items() if found}
        if yes:
            # What was replayed before stays so.
            waiting = letters.waiting()
            letters.done({"purged": {at: _within(waiting.get(at, ()), found) for at, found in spans.items()}})
            if delete and ends:
                letters.delete(ends)
    if json_:
        print_json({"done": yes, "letters": count, "deleted": delete and yes, "before": ends})
        return
    verb = "deleted" if delete else "done with"
    errors.print(f"{count} letters {verb}" if yes else f"{count} letters would be {verb}; --yes does it")


def _within(waiting: Sequence[tuple[int, int]], chosen: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What two lists of spans have in common."""
    both = [(max(a, first), min(b, end)) for a, b in waiting for first, end in chosen]
    return [(first, end) for first, end in both if first < end]


def _matching(letters: Iterator[DeadLetterRecord], reason: str | None) -> Iterator[DeadLetterRecord]:
    return (letter for letter in letters if reason is None or letter.row()["reason"] == reason)


@contextmanager
def _replay(found: Settings, most: int, again: bool, yes: bool) -> Iterator[LetterReplay]:
    def rescan(company_id: str, mailbox_id: str) -> None:
        with registry(found) as held:
            held.rescan(company_id, mailbox_id)

    with ExitStack() as stack:
        publisher = stack.enter_context(Publisher(found.kafka, "replyrate-cli")) if yes else None
        yield LetterReplay(found.kafka, publisher, rescan, most=most, again=again)
