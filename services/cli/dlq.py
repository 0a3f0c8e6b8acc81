"""`dlq`: what was rejected and why; send it back, or be done with it."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

import click

from services.cli.context import as_json, errors, guarded, print_json, print_table, registry, settings, text
from services.common.dead_letters import BATCH, DeadLetters, Letter, Replay, parse, progress
from services.common.errors import EXIT_FAILED
from services.common.kafka import Publisher
from services.common.settings import Settings

COLUMNS = {
    "position": "position", "at": "at (UTC)", "service": "service", "reason": "reason", "detail": "detail",
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
    """Dead letters that wait, oldest first in each partition."""
    with DeadLetters(settings().kafka) as letters:
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
    with DeadLetters(settings().kafka) as letters:
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
@click.option("--yes", is_flag=True, help="Do it; without it only what would happen is told.")
@as_json
@guarded
def dlq_replay(positions: tuple[str, ...], reason: str | None, most: int, yes: bool, json_: bool) -> None:
    """Send the records of dead letters back to their topics; for a mail, read its mailbox again.

    Without POSITIONS: everything that waits, and then it waits no more. A record that is rejected again becomes a new
    dead letter that knows how often it went round. Letters chosen by position or reason stay in the list.
    """
    found = settings()
    counts: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    with DeadLetters(found.kafka) as letters, _replay(found, most, yes) as replay:
        chosen = (
            iter([letters.at(position) for position in positions])
            if positions
            else _matching(letters.read(letters.waiting()), reason)
        )
        while batch := list(islice(chosen, BATCH)):
            results = replay.run(batch)
            if yes and not positions and reason is None:
                letters.done(progress(batch))
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
@click.option("--delete", is_flag=True, help="Delete them from the topic too, for everybody and for ever.")
@click.option("--yes", is_flag=True, help="Do it; without it only what would happen is told.")
@as_json
@guarded
def dlq_purge(through: str | None, delete: bool, yes: bool, json_: bool) -> None:
    """Be done with dead letters without replaying them: they wait no more."""
    with DeadLetters(settings().kafka) as letters:
        spans = letters.everything() if delete else letters.waiting()
        if through is not None:
            partition, offset = parse(through)
            letters.at(through)
            first, end = spans.get(partition, (0, 0))
            spans = {partition: (first, min(end, offset + 1))} if first <= offset else {}
        ends = {at: end for at, (_, end) in spans.items()}
        count = sum(end - first for first, end in spans.values())
        if yes:
            # Never back: what another one was done with meanwhile stays so.
            waiting = letters.waiting()
            letters.done({at: end for at, end in ends.items() if at in waiting and waiting[at][0] < end})
            if delete and ends:
                letters.delete(ends)
    if json_:
        print_json({"done": yes, "letters": count, "deleted": delete and yes, "before": ends})
        return
    verb = "deleted" if delete else "done with"
    errors.print(f"{count} letters {verb}" if yes else f"{count} letters would be {verb}; --yes does it")


def _matching(letters: Iterator[Letter], reason: str | None) -> Iterator[Letter]:
    return (letter for letter in letters if reason is None or letter.row()["reason"] == reason)


@contextmanager
def _replay(found: Settings, most: int, yes: bool) -> Iterator[Replay]:
    def rescan(company_id: str, mailbox_id: str) -> None:
        with registry(found) as held:
            held.rescan(company_id, mailbox_id)

    with ExitStack() as stack:
        publisher = stack.enter_context(Publisher(found.kafka, "replyrate-cli")) if yes else None
        yield Replay(found.kafka, publisher, rescan, most=most)
