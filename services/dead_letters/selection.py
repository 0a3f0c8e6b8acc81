"""Which dead letters an operation takes, and what binds a confirmation to the dry run that it confirms.

A dry run chooses open letters up to the end that each partition has at that moment. Its confirmation repeats the query, these ends, the
number of letters and a digest of their positions. Letters that arrived later are not taken, and when somebody has processed one of the
chosen letters meanwhile, nothing is done.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.common.errors import ReplyrateError
from services.dead_letters.letters import DeadLetterRecord, DeadLetters, Spans, parse, spans_of

MAIL: Final = "mail"
"""The origin of letters about a mail message, in place of a topic."""
REPORTED_EACH: Final = 500
Report = Callable[[int, int], None]
"""Called with how many letters were read and how many there are to read."""


class SelectionChanged(ReplyrateError):
    """The letters are no longer those of the dry run."""


@dataclass(frozen=True, slots=True)
class LetterQuery:
    """Letters by the topic of their record (or MAIL), by reason, by age, or a single one by its position; empty texts match all."""

    topic: str = ""
    reason: str = ""
    before: datetime | None = None
    """Only letters from before this instant."""
    position: str = ""

    @property
    def reads_letters(self) -> bool:
        """Whether the letters have to be read to know which match."""
        return bool(self.topic or self.reason or self.before)

    def matches(self, letter: DeadLetterRecord) -> bool:
        """Whether a letter has this topic, reason and age."""
        is_old = self.before is None or (letter.data is not None and letter.data.at < self.before)
        return (
            is_old
            and (not self.topic or letter.topic == self.topic)
            and (not self.reason or letter.reason == self.reason)
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """What a dry run chose: `ends` by partition (behind the last letter), the number of letters, a digest of their positions."""

    ends: Mapping[int, int]
    letters: int
    digest: str

    @classmethod
    def of(cls, spans: Spans) -> "Selection":
        """The selection of these letters."""
        runs = merged(spans)
        text = ";".join(
            f"{partition}:{','.join(f'{first}-{end}' for first, end in runs[partition])}" for partition in runs
        )
        ends = {partition: chosen[-1][1] for partition, chosen in runs.items()}
        return cls(ends, count(runs), hashlib.sha256(text.encode()).hexdigest()[:32])


def open_spans(letters: DeadLetters, query: LetterQuery, ends: Mapping[int, int] | None = None) -> Spans:
    """Where to look for the open letters of a query; with `ends` only before them. NoSuchLetter for a position without a letter."""
    waiting: Spans = letters.waiting()
    if query.position:
        partition, offset = parse(query.position)
        letters.at(query.position)
        waiting = overlap(waiting, {partition: [(offset, offset + 1)]})
    if ends is not None:
        waiting = overlap(waiting, {partition: [(0, end)] for partition, end in ends.items()})
    return waiting


def chosen(
    letters: DeadLetters, query: LetterQuery, ends: Mapping[int, int] | None = None, report: Report | None = None
) -> Iterator[DeadLetterRecord]:
    """The open letters of a query, in order of partition and offset."""
    spans = open_spans(letters, query, ends)
    read = letters.read(spans)
    return filter(query.matches, read if report is None else reporting(read, count(spans), report))


def chosen_spans(
    letters: DeadLetters, query: LetterQuery, ends: Mapping[int, int] | None = None, report: Report | None = None
) -> Spans:
    """The positions of the open letters of a query; letters are read only where the query needs it."""
    if not query.reads_letters:
        return open_spans(letters, query, ends)
    return spans_of(chosen(letters, query, ends, report))


def reporting(letters: Iterable[DeadLetterRecord], total: int, report: Report) -> Iterator[DeadLetterRecord]:
    """The letters; before each REPORTED_EACH of them it is reported how many were read."""
    for number, letter in enumerate(letters):
        if number % REPORTED_EACH == 0:
            report(number, total)
        yield letter


def confirmed(letters: DeadLetters, query: LetterQuery, selection: Selection, report: Report | None = None) -> Spans:
    """The positions of the letters that a dry run chose. SelectionChanged when they are not the open ones any more."""
    spans = chosen_spans(letters, query, selection.ends, report)
    if Selection.of(spans) != selection:
        raise SelectionChanged(
            "some of these letters were processed or have expired since the dry run; nothing was done"
        )
    return spans


def count(spans: Spans) -> int:
    """The number of offsets in spans without overlaps."""
    return sum(end - first for runs in spans.values() for first, end in runs)


def merged(spans: Spans) -> dict[int, list[tuple[int, int]]]:
    """The same spans, sorted, adjacent ones joined, without empty partitions."""
    runs: dict[int, list[tuple[int, int]]] = {}
    for partition in sorted(spans):
        for first, end in sorted(spans[partition]):
            joined = runs.setdefault(partition, [])
            if joined and first <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((first, end))
    return runs


def overlap(left: Spans, right: Spans) -> dict[int, list[tuple[int, int]]]:
    """The offsets that two sets of spans have in common; partitions without any are left out."""
    common = {partition: _intersection(runs, right.get(partition, ())) for partition, runs in left.items()}
    return {partition: runs for partition, runs in common.items() if runs}


def _intersection(left: Iterable[tuple[int, int]], right: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    pairs = [(max(first, first_), min(end, end_)) for first, end in left for first_, end_ in right]
    return [(first, end) for first, end in pairs if first < end]
