"""What the console does with dead letters in long work: a dry run, and the replay or purge that confirms it.

The use cases are those of `replyrate dlq` (services/dead_letters). A change in Kafka cannot be in one transaction with its record in the
audit, so the audit has a record before it, with the letters that were chosen, and one after it, with what became of them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from services.common.errors import ReplyrateError
from services.common.kafka import Publisher
from services.dead_letters.letters import DeadLetterRecord, DeadLetters, Spans, spans_of
from services.dead_letters.purge import purge
from services.dead_letters.replay import BATCH, LetterReplay, ReplayResult, replay_in_batches
from services.dead_letters.selection import LetterQuery, Selection, confirmed, count, open_spans
from services.portal.console.long_work import Report
from services.portal.console.staff import Staff
from services.registry.errors import RegistryError
from services.registry.mailboxes import Mailboxes
from services.registry.staff_actions import Subject

Operation = Literal["replay", "purge"]
MOST_REPLAYS: Final = 3
"""How often a record is replayed at most; more often only by `replyrate dlq replay --most`."""
SHOWN: Final = 100
"""Letters that a result names."""
REPLAYED: Final = ("replayed", "rescan")
"""Outcomes of letters that were sent back."""


@dataclass(frozen=True, slots=True)
class LetterReport:
    """A dry run or what was done: how many letters ended how (by outcome of a replay, or by reason), and some of them."""

    operation: Operation
    query: LetterQuery
    selection: Selection
    counts: Mapping[str, int]
    shown: list[ReplayResult]


def check(staff: Staff, operation: Operation, query: LetterQuery, report: Report) -> LetterReport:
    """A dry run: which open letters a replay or purge takes, and what would become of each."""
    kafka = staff.resources.settings.kafka
    with DeadLetters(kafka) as letters:
        spans = open_spans(letters, query)
        read = filter(query.matches, _reporting(letters.read(spans), count(spans), report))
        chosen: list[DeadLetterRecord] = []
        tally = _Tally(SHOWN)
        if operation == "purge":
            for letter in read:
                chosen.append(letter)
                tally.add(letter.reason, ReplayResult(letter, "replayed"))
        else:
            replay = LetterReplay(kafka, None, lambda company_id, mailbox_id: None, most=MOST_REPLAYS)
            for results in replay_in_batches(letters, read, replay):
                for result in results:
                    chosen.append(result.letter)
                    tally.add(result.outcome, result)
    return LetterReport(operation, query, Selection.of(spans_of(chosen)), tally.counts, tally.shown)


def carry_out(
    staff: Staff, operation: Operation, query: LetterQuery, selection: Selection, report: Report
) -> LetterReport:
    """Replay or purge the letters of a dry run. SelectionChanged when they are not the open ones any more; nothing is done then."""
    with DeadLetters(staff.resources.settings.kafka) as letters:
        spans = confirmed(letters, query, selection)
        with staff.noted(
            f"{operation}-letters", topic=query.topic, reason=query.reason, letters=selection.letters,
            digest=selection.digest, partitions=len(selection.ends), through=max(selection.ends.values(), default=0) - 1,
        ):  # fmt: skip
            pass
        tally = _Tally(SHOWN)
        try:
            if operation == "purge":
                purge(letters, spans)
                tally.counts["purged"] = selection.letters
            else:
                _replay(staff, letters, spans, selection.letters, tally, report)
        except Exception as error:
            with staff.noted(
                f"{operation}-letters-failed",
                digest=selection.digest,
                error=type(error).__name__,
                counts=dict(tally.counts),
            ):
                pass
            raise
        with staff.noted(f"{operation}-letters-done", digest=selection.digest, counts=dict(tally.counts)):
            pass
    return LetterReport(operation, query, selection, tally.counts, tally.shown)


def _replay(staff: Staff, letters: DeadLetters, spans: Spans, total: int, tally: "_Tally", report: Report) -> None:
    kafka = staff.resources.settings.kafka

    def rescan(company_id: str, mailbox_id: str) -> None:
        try:
            with staff.noted("rescan-mailbox", Subject(company_id, mailbox_id=mailbox_id)) as connection:
                Mailboxes(connection).rescan(company_id, mailbox_id)
        except RegistryError as error:
            raise ReplyrateError(error.reason.text(staff.language) if error.reason else str(error)) from None

    with Publisher(kafka, "replyrate-console") as publisher:
        replay = LetterReplay(kafka, publisher, rescan, most=MOST_REPLAYS)
        for results in replay_in_batches(letters, letters.read(spans), replay):
            for result in results:
                tally.add(result.outcome, None if result.outcome in REPLAYED else result)
            report(sum(tally.counts.values()), total)


class _Tally:
    """Counts outcomes, and remembers the first letters."""

    def __init__(self, most: int) -> None:
        self.counts: dict[str, int] = {}
        self.shown: list[ReplayResult] = []
        self._most = most

    def add(self, outcome: str, result: ReplayResult | None) -> None:
        """Count a letter, and remember its result if there is room."""
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        if result is not None and len(self.shown) < self._most:
            self.shown.append(result)


def _reporting(letters: Iterable[DeadLetterRecord], total: int, report: Report) -> Iterator[DeadLetterRecord]:
    for number, letter in enumerate(letters):
        if number % BATCH == 0:
            report(number, total)
        yield letter


def form_values(report: LetterReport) -> dict[str, Any]:
    """The hidden fields of the form that confirms a dry run."""
    query, selection = report.query, report.selection
    return {
        "operation": report.operation, "topic": query.topic, "reason": query.reason, "position": query.position,
        "before": "" if query.before is None else query.before.isoformat(),
        "ends": ",".join(f"{partition}:{end}" for partition, end in sorted(selection.ends.items())),
        "letters": selection.letters, "digest": selection.digest,
    }  # fmt: skip


def ends_from(text: str) -> dict[int, int]:
    """The ends of a selection from a form: `0:17,3:5`. ValueError when the text has another form."""
    pairs = (entry.split(":") for entry in text.split(","))
    return {int(partition): int(end) for partition, end in pairs}
