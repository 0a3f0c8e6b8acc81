"""Dead letters: reading the topic, and the progress of the group `replyrate-dlq`.

The progress is what the group committed: for each partition an offset before which every letter is processed, and the letters
behind it that were chosen singly (progress.py). replay.py sends records back.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from services.common import codec
from services.common.errors import InvalidEvent, ReplyrateError, TransientError
from services.common.events import DeadLetter
from services.common.kafka import Admin, KafkaClient, Reader, Record
from services.common.settings import KafkaSettings
from services.common.topics import ACCEPTED, DEAD, DEAD_GROUP, INQUIRIES, REPLIES, SENT, company_of, replays
from services.common.trace_context import traceparent
from services.dead_letters.progress import Disposition, Progress, State

REPLAYABLE_TOPICS: Final = frozenset({INQUIRIES, SENT, REPLIES})
POLL_SECONDS: Final = 1.0
MAX_EMPTY_POLLS: Final = 10
"""Empty polls in a row after which reading records that exist counts as failed."""

Need = Literal["send", "read-again", "rescan", "nothing"]
Spans = Mapping[int, Sequence[tuple[int, int]]]
"""Runs of letters (first, end) by partition; `end` is behind the last one."""


class NoSuchLetter(ReplyrateError):
    """A position without a dead letter; the text says how to find one."""


@dataclass(frozen=True, slots=True)
class DeadLetterRecord:
    """A record of dead-letters.v1; `data` is None when it is not a dead letter at all."""

    partition: int
    offset: int
    key: bytes
    data: DeadLetter | None
    replayed: int
    state: State = "open"
    trace: bytes | None = None
    """The `traceparent` that the rejected record had."""

    @property
    def position(self) -> str:
        """`partition/offset`, as the commands take it."""
        return f"{self.partition}/{self.offset}"

    @property
    def origin(self) -> str:
        """The position of the rejected record or mail."""
        data = self.data
        if data is None:
            return "?"
        if data.topic is not None:
            return f"{data.topic}/{data.partition}/{data.offset}"
        return f"{data.mailbox_id}/{data.uidvalidity}/{data.uid}"

    @property
    def company_id(self) -> str:
        """The company: a dead letter has the key of the record it is about."""
        return company_of(self.key)

    @property
    def reason(self) -> str:
        """The code of the reason for the rejection."""
        return "no-dead-letter" if self.data is None else self.data.reason

    @property
    def topic(self) -> str:
        """The topic of the rejected record; `mail` for a mail message, `?` when the letter names neither."""
        if self.data is None:
            return "?"
        return self.data.topic or ("mail" if self.data.mailbox_id is not None else "?")

    def needs(self) -> Need:
        """What a replay has to do for it."""
        data = self.data
        if data is None:
            return "nothing"
        if data.mailbox_id is not None:
            return "rescan"
        if data.topic not in REPLAYABLE_TOPICS or data.partition is None or data.offset is None:
            return "nothing"
        return "read-again" if data.value is None else "send"

    def row(self) -> dict[str, Any]:
        """The letter as a list shows it."""
        data = self.data
        return {
            "position": self.position,
            "state": self.state,
            "at": None if data is None else data.at,
            "service": None if data is None else data.service,
            "reason": self.reason,
            "detail": "the record is no dead letter" if data is None else data.detail,
            "company_id": self.company_id,
            "origin": self.origin,
            "replayed": self.replayed,
        }


class DeadLetters(KafkaClient):
    """The topic of dead letters and the progress of its group."""

    def __init__(self, settings: KafkaSettings) -> None:
        """TransientError when no broker answers."""
        self._reader = Reader(settings, "replyrate-dlq", DEAD)
        self._admin = Admin(settings, "replyrate-dlq-admin")

    def waiting(self) -> dict[int, list[tuple[int, int]]]:
        """The open letters; partitions without any are left out."""
        progress = self._progress()
        open_spans = {
            partition: progress.get(partition, Progress()).open_spans(*span)
            for partition, span in self._existing().items()
        }
        return {partition: spans for partition, spans in open_spans.items() if spans}

    def everything(self) -> dict[int, list[tuple[int, int]]]:
        """Every letter that still exists."""
        return {partition: [span] for partition, span in self._existing().items()}

    def read(self, spans: Spans) -> Iterator[DeadLetterRecord]:
        """The letters of `spans`, partition by partition, in order."""
        progress = self._progress()
        for record in read_spans(self._reader, spans):
            letter = _letter(record)
            yield replace(letter, state=progress.get(letter.partition, Progress()).state(letter.offset))

    def at(self, position: str) -> DeadLetterRecord:
        """One letter by its position. NoSuchLetter when there is none."""
        partition, offset = parse(position)
        first, end = self._existing().get(partition, (0, 0))
        if first <= offset < end:
            for letter in self.read({partition: [(offset, offset + 1)]}):
                return letter
        raise NoSuchLetter(f"there is no dead letter {position}; see: replyrate dlq list --all")

    def mark(self, dispositions: Mapping[Disposition, Spans], *, dry_run: bool = False) -> None:
        """Mark these letters as processed; letters that were processed before stay so.

        TooScattered when there are too many gaps between them to store the progress; with `dry_run` only that is checked. TransientError when
        the broker does not accept the commit.
        """
        stored, first = self._progress(), {partition: span[0] for partition, span in self._existing().items()}
        changed: dict[int, Progress] = {}
        for disposition, spans in dispositions.items():
            for partition, runs in spans.items():
                progress = changed.get(partition, stored.get(partition, Progress()))
                changed[partition] = progress.mark(runs, disposition)
        commits = {
            partition: (progress.offset(first.get(partition, 0)), progress.to_metadata(first.get(partition, 0)))
            for partition, progress in changed.items()
        }
        if commits and not dry_run:
            self._admin.commit(DEAD_GROUP, DEAD, commits)

    def delete(self, offsets: Mapping[int, int]) -> None:
        """Delete every letter before these offsets from the topic, for every reader."""
        self._admin.delete_before(DEAD, offsets)

    def close(self) -> None:
        """Close the connections to the brokers."""
        self._reader.close()
        self._admin.close()

    def _progress(self) -> dict[int, Progress]:
        commits = self._admin.commits(DEAD_GROUP)
        return {tp[1]: Progress.from_commit(*commit) for tp, commit in commits.items() if tp[0] == DEAD}

    def _existing(self) -> dict[int, tuple[int, int]]:
        spans = {tp[1]: span for tp, span in self._admin.spans((DEAD,)).items()}
        return {partition: (first, end) for partition, (first, end) in sorted(spans.items()) if first < end}


def parse(position: str) -> tuple[int, int]:
    """(partition, offset) of `partition/offset`. NoSuchLetter when the text has another form."""
    partition, slash, offset = position.partition("/")
    if not (slash and partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit()):
        raise NoSuchLetter(f"{position} is no position; write PARTITION/OFFSET as `replyrate dlq list` shows it")
    return int(partition), int(offset)


def spans_of(letters: Iterable[DeadLetterRecord]) -> dict[int, list[tuple[int, int]]]:
    """The positions of these letters; adjacent ones are joined as they come."""
    spans: dict[int, list[tuple[int, int]]] = {}
    for letter in letters:
        runs, first = spans.setdefault(letter.partition, []), letter.offset
        if runs and runs[-1][1] == letter.offset:
            first, _ = runs.pop()
        runs.append((first, letter.offset + 1))
    return spans


def read_spans(reader: Reader, spans: Spans) -> Iterator[Record]:
    """The records of `spans`, partition by partition; records between two spans are skipped."""
    for partition, runs in spans.items():
        if not runs:
            continue
        last_end, following_runs = runs[-1][1], iter(runs)
        first, end = next(following_runs)
        reader.assign([partition])
        reader.seek(partition, first)
        empty_polls = 0
        # By position, not by the last offset seen: the end of a transaction is an offset without a record.
        while (position := reader.position(partition)) is not None and position < last_end:
            batch = reader.poll(POLL_SECONDS).get(partition, [])
            empty_polls = 0 if batch else empty_polls + 1
            if empty_polls > MAX_EMPTY_POLLS:
                raise TransientError("Kafka does not return the records of a dead letter; try again")
            for record in batch:
                while record.offset >= end and (following := next(following_runs, None)) is not None:
                    first, end = following
                if first <= record.offset < end:
                    yield record


def _letter(record: Record) -> DeadLetterRecord:
    try:
        data = codec.decode(record.value or b"", accept=ACCEPTED[DEAD]).data
    except InvalidEvent:
        data = None
    assert data is None or isinstance(data, DeadLetter)
    return DeadLetterRecord(
        record.partition,
        record.offset,
        record.key or b"",
        data,
        replays(record.headers),
        trace=traceparent(record.headers),
    )
