"""What the console does with dead letters in long work: a dry run, and the replay or purge that confirms it.

The use cases are those of `replyrate dlq` (services/dead_letters). A change in Kafka cannot be in one transaction with its record in the
audit, so the audit has a record before it, with the letters that were chosen, and one after it, with what became of them.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from services.common.errors import ReplyrateError
from services.common.kafka import Publisher
from services.common.language import Bilingual
from services.common.topics import INQUIRIES, REPLIES, SENT
from services.dead_letters import content, reasons
from services.dead_letters.exclusion import exclusive
from services.dead_letters.letters import DeadLetterRecord, DeadLetters, Spans, spans_of
from services.dead_letters.purge import purge
from services.dead_letters.refusals import refusal
from services.dead_letters.replay import BATCH, LetterReplay, ReplayResult, replay_in_batches
from services.dead_letters.selection import MAIL, LetterQuery, Selection, chosen, confirmed
from services.portal.console.long_work import Report
from services.portal.console.staff import Staff
from services.registry.mailboxes import Mailboxes
from services.registry.staff_actions import Subject

Operation = Literal["replay", "purge"]
MOST_REPLAYS: Final = 3
"""How often a record is replayed at most; more often only by `replyrate dlq replay --most`."""
SHOWN: Final = 100
"""Letters that a result names."""
REPLAYED: Final = ("replayed", "rescan")
"""Outcomes of letters that were sent back."""
TOPICS: Final = (INQUIRIES, SENT, REPLIES, MAIL)
"""Where a rejected record or mail comes from."""
_CHANGING: Final = threading.Lock()
"""One replay or purge of this process at a time, and the next one waits: a confirmation that is sent twice finds the second time that its letters are not open any more."""


@dataclass(frozen=True, slots=True)
class ShownLetter:
    """What a result shows of a letter, and keeps in memory: nothing of its content. `company_id` is "" when its key is not an id."""

    position: str
    reason: str
    topic: str
    company_id: str
    outcome: str
    why: Bilingual

    @classmethod
    def of(cls, result: ReplayResult) -> "ShownLetter":
        """The line of a result."""
        letter = result.letter
        return cls(letter.position, letter.reason, letter.topic, content.company_id(letter), result.outcome, result.why)


@dataclass(frozen=True, slots=True)
class LetterReport:
    """A dry run or what was done: how many letters ended how (by outcome of a replay, or by reason), and some of them."""

    operation: Operation
    query: LetterQuery
    selection: Selection
    counts: Mapping[str, int]
    shown: list[ShownLetter]


def check(staff: Staff, operation: Operation, query: LetterQuery, report: Report) -> LetterReport:
    """A dry run: which open letters a replay or purge takes, and what would become of each."""
    kafka = staff.resources.settings.kafka
    with DeadLetters(kafka) as letters:
        read = chosen(letters, query, report=report)
        judged: Iterable[tuple[str, ReplayResult]]
        if operation == "purge":
            judged = ((letter.reason, ReplayResult(letter, "replayed")) for letter in read)
        else:
            replay = LetterReplay(kafka, None, lambda company_id, mailbox_id: None, most=MOST_REPLAYS)
            batches = replay_in_batches(letters, read, replay)
            judged = ((result.outcome, result) for results in batches for result in results)
        tally = Tally()
        selection = Selection.of(spans_of(tally.counted(judged)))
    staff.note_letters(
        "check-letters", {letter.company_id for letter in tally.shown}, operation=operation, **recorded(query),
        letters=selection.letters, digest=selection.digest,
    )  # fmt: skip
    return LetterReport(operation, query, selection, tally.counts, tally.shown)


def carry_out(
    staff: Staff, operation: Operation, query: LetterQuery, selection: Selection, report: Report
) -> LetterReport:
    """Replay or purge the letters of a dry run. Nothing is done with SelectionChanged, when they are not the open ones any more, and with
    LettersBusy, when another process replays or purges.

    StaffSessionEnded when the session ends meanwhile: the letters that were not processed yet stay open.
    """
    settings = staff.resources.settings
    dsn = settings.postgres.dsn.get_secret_value()
    with _CHANGING, exclusive(dsn, "replyrate-console") as check, DeadLetters(settings.kafka) as letters:
        spans = confirmed(letters, query, selection, report)
        with staff.noted(
            f"{operation}-letters", **recorded(query), letters=selection.letters,
            digest=selection.digest, partitions=len(selection.ends), through=max(selection.ends.values(), default=0) - 1,
        ):  # fmt: skip
            pass
        report(0, selection.letters)
        tally = Tally()
        try:
            if operation == "purge":
                purge(letters, spans)
                tally.counts["purged"] = selection.letters
            else:
                _replay(staff, letters, spans, selection.letters, tally, report, check)
        except Exception as error:
            staff.note_outcome(
                f"{operation}-letters-failed", digest=selection.digest, error=type(error).__name__, counts=dict(tally.counts)
            )  # fmt: skip
            raise
        staff.note_outcome(f"{operation}-letters-done", digest=selection.digest, counts=dict(tally.counts))
    return LetterReport(operation, query, selection, tally.counts, tally.shown)


def _replay(
    staff: Staff,
    letters: DeadLetters,
    spans: Spans,
    total: int,
    tally: "Tally",
    report: Report,
    check: Callable[[], None],
) -> None:
    kafka = staff.resources.settings.kafka

    def rescan(company_id: str, mailbox_id: str) -> None:
        if not content.is_company_id(company_id):
            raise ReplyrateError(refusal("no-company"))
        with staff.noted("rescan-mailbox", Subject(company_id, mailbox_id=mailbox_id)) as connection:
            Mailboxes(connection).rescan(company_id, mailbox_id)

    with Publisher(kafka, "replyrate-console") as publisher:
        replay = LetterReplay(kafka, publisher, rescan, most=MOST_REPLAYS)
        for results in replay_in_batches(letters, _while_open(staff, letters.read(spans)), replay, check):
            for result in results:
                tally.add(result.outcome, None if result.outcome in REPLAYED else result)
            report(sum(tally.counts.values()), total)


@dataclass(slots=True)
class Tally:
    """Counts outcomes, and remembers what is shown of the first letters, at most SHOWN."""

    counts: dict[str, int] = field(default_factory=dict)
    shown: list[ShownLetter] = field(default_factory=list)

    def counted(self, judged: Iterable[tuple[str, ReplayResult]]) -> Iterator[DeadLetterRecord]:
        """The letters of outcomes, each counted when it is read."""
        for outcome, result in judged:
            self.add(outcome, result)
            yield result.letter

    def add(self, outcome: str, result: ReplayResult | None) -> None:
        """Count a letter, and remember its result if there is room."""
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        if result is not None and len(self.shown) < SHOWN:
            self.shown.append(ShownLetter.of(result))


def _while_open(staff: Staff, letters: Iterable[DeadLetterRecord]) -> Iterator[DeadLetterRecord]:
    """The letters, as long as the session is open: it is looked up before each batch. StaffSessionEnded."""
    for number, letter in enumerate(letters):
        if number % BATCH == 0:
            staff.check_open()
        yield letter


def recorded(query: LetterQuery) -> dict[str, Any]:
    """A query that was carried out, as the audit has it: our own names, and no other text that a form may send."""
    return {
        "topic": query.topic if query.topic in TOPICS else "", "reason": query.reason if query.reason in reasons.load() else "",
        "before": "" if query.before is None else query.before.isoformat(timespec="seconds"), "position": query.position,
    }  # fmt: skip


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
