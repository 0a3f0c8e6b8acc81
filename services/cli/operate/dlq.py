"""`dlq`: dead letters. Show what was rejected and why; send it back, or discard it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, Final

import click

from services.cli import remedies
from services.cli.context import as_json, guarded, load_config, open_registry
from services.cli.output import echo, errors, print_json, print_table, text
from services.common.errors import EXIT_FAILED, ReplyrateError
from services.common.kafka import Publisher
from services.common.settings import Settings
from services.dead_letters import reasons
from services.dead_letters.exclusion import exclusive
from services.dead_letters.letters import DeadLetters, Spans, parse
from services.dead_letters.purge import purge
from services.dead_letters.replay import LetterReplay, replay_in_batches
from services.dead_letters.selection import LetterQuery, chosen, chosen_spans, count, overlap
from services.registry.errors import RegistryError

COLUMNS: Final = {
    "position": "position", "state": "state", "at": "at (UTC)", "service": "service", "reason": "reason", "detail": "detail",
    "company_id": "company", "origin": "from", "replayed": "replayed",
}  # fmt: skip
RESULTS: Final = {"position": "position", "reason": "reason", "outcome": "result", "why": "why"}
DRY_RUN: Final = "Dry run. Pass --yes to apply."

only_reason = click.option("--reason", help="Only letters with this reason.")
apply_changes = click.option("--yes", is_flag=True, help="Apply the changes. Default: a dry run that prints them.")


@click.group()
def dlq() -> None:
    """Dead letters: records and messages that could not be read."""


@dlq.command("list")
@click.option(
    "--all", "all_", is_flag=True, help="Include letters that were replayed or purged, as long as the topic has them."
)
@only_reason
@click.option("--limit", type=click.IntRange(1), default=200, show_default=True, help="Maximum number of letters.")
@as_json
@guarded
def dlq_list(all_: bool, reason: str | None, limit: int, json_: bool) -> None:
    """List dead letters, oldest first in each partition.

    Lists open letters; with --all also the others and what was done with them.

    \b
    State:
      open      not processed yet
      replayed  its record was sent back, or its mailbox is read again
      left      could not be replayed; `dlq replay` reported why
      purged    discarded by an operator
      done      replayed, left or purged; the detail is no longer stored
    """
    with DeadLetters(load_config().kafka) as letters:
        spans = letters.everything() if all_ else letters.waiting()
        wanted = LetterQuery(reason=reason or "")
        rows = [letter.row() for letter in islice(filter(wanted.matches, letters.read(spans)), limit)]
    if json_:
        print_json(rows)
    elif rows:
        print_table(rows, COLUMNS)
        if len(rows) == limit:
            errors.print(f"Only the first {limit} letters are shown; raise --limit to see more.", style="dim")
    else:
        errors.print("No dead letters." if all_ else "No open dead letters.")


@dlq.command("show")
@click.argument("position")
@as_json
@guarded
def dlq_show(position: str, json_: bool) -> None:
    """Show a dead letter, POSITION as in `dlq list`. With --json also its record, in base64."""
    with DeadLetters(load_config().kafka) as letters:
        letter = letters.at(position)
    data, reason = letter.data, reasons.explain(letter.reason)
    fields = {
        **letter.row(),
        "service_version": data.service_version if data else None,
        "value": data.value if data else None,
        "needs": letter.needs(),
        "meaning": reason.meaning.en,
        "cure": reason.cure.en,
    }
    if json_:
        print_json(fields)
        return
    if fields["value"] is not None:
        fields["value"] = f"{len(str(fields['value'])) * 3 // 4} bytes (--json prints them)"
    for name, value in fields.items():
        echo(f"{name:16} {text(value)}")


@dlq.command("replay")
@click.argument("positions", nargs=-1)
@only_reason
@click.option(
    "--most", type=click.IntRange(1), default=3, show_default=True, help="Maximum number of replays of a record."
)
@click.option("--again", is_flag=True, help="Include letters at POSITIONS that were replayed before.")
@apply_changes
@as_json
@guarded
def dlq_replay(positions: tuple[str, ...], reason: str | None, most: int, again: bool, yes: bool, json_: bool) -> None:
    """Send the records of dead letters back to their topics.

    For a mail message, its mailbox is read again. Without POSITIONS: every open letter, or those with --reason. A replayed letter is no longer open; one that cannot be
    replayed is reported and left. A record that is rejected again becomes a new dead letter, which counts its replays.
    """
    config = load_config()
    counts: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    with (
        _exclusive(config, yes) as check,
        DeadLetters(config.kafka) as letters,
        _letter_replay(config, most, again, yes) as replay,
    ):
        chosen_letters = (
            iter([letters.at(position) for position in positions])
            if positions
            else chosen(letters, LetterQuery(reason=reason or ""))
        )
        for results in replay_in_batches(letters, chosen_letters, replay, check):
            for result in results:
                counts[result.outcome] = counts.get(result.outcome, 0) + 1
                rows.append({**result.letter.row(), "outcome": result.outcome, "why": result.why.en})
            errors.print(f"{sum(counts.values())} letters", style="dim")
    if json_:
        print_json({"done": yes, "counts": counts, "letters": rows})
    elif rows:
        print_table([letter for letter in rows if letter["why"]] if yes else rows, RESULTS)
    if not rows:
        errors.print("No open dead letters.")
    elif yes:
        errors.print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    else:
        errors.print(DRY_RUN)
    if yes and set(counts) - {"replayed", "rescan"}:
        sys.exit(EXIT_FAILED)


@dlq.command("purge")
@click.option("--through", help="Only up to this position (PARTITION/OFFSET), in its partition.")
@only_reason
@click.option("--delete", is_flag=True, help="Also delete them from the topic, for every reader and irrevocably.")
@apply_changes
@as_json
@guarded
def dlq_purge(through: str | None, reason: str | None, delete: bool, yes: bool, json_: bool) -> None:
    """Discard dead letters without replaying them."""
    if delete and reason is not None:
        raise click.UsageError("a topic is deleted up to an offset, so --delete takes --through and no --reason")
    config = load_config()
    with _exclusive(config, yes), DeadLetters(config.kafka) as letters:
        spans: Spans = letters.everything() if delete else chosen_spans(letters, LetterQuery(reason=reason or ""))
        if through is not None:
            partition, offset = parse(through)
            letters.at(through)
            spans = overlap(spans, {partition: [(0, offset + 1)]})
        letters_chosen = count(spans)
        ends = {partition: runs[-1][1] for partition, runs in spans.items() if runs}
        if yes:
            purge(letters, spans, delete=delete)
    if json_:
        print_json({"done": yes, "letters": letters_chosen, "deleted": delete and yes, "before": ends})
        return
    verb = "deleted" if delete else "purged"
    errors.print(f"{letters_chosen} letters {verb}." if yes else f"{letters_chosen} letters would be {verb}. {DRY_RUN}")


@contextmanager
def _exclusive(config: Settings, yes: bool) -> Iterator[Callable[[], None]]:
    """Excludes other replays and purges unless it is a dry run; yields what to call before each batch."""
    if yes:
        with exclusive(config.postgres.dsn.get_secret_value(), "replyrate-cli") as check:
            yield check
    else:
        yield lambda: None


@contextmanager
def _letter_replay(config: Settings, most: int, again: bool, yes: bool) -> Iterator[LetterReplay]:
    def rescan(company_id: str, mailbox_id: str) -> None:
        try:
            with open_registry(config) as registry:
                registry.mailboxes.rescan(company_id, mailbox_id)
        except RegistryError as error:
            raise ReplyrateError(remedies.explain(error)) from None

    with ExitStack() as stack:
        publisher = stack.enter_context(Publisher(config.kafka, "replyrate-cli")) if yes else None
        yield LetterReplay(config.kafka, publisher, rescan, most=most, again=again)
