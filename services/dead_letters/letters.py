"""Reading dead letters and sending their records back: `letters | what each needs | re-read | send, acks | progress`.

How far somebody got is what the consumer group `replyrate-dlq` committed: an offset for each partition, before which
everything is done with, and what was chosen behind it (services.dead_letters.progress). A record goes back with a header that counts how often; services hand that header on to the
dead letter when they reject the record again, so that a record which cannot be read does not go round for ever.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Literal, Self

from services.common import codec
from services.common.errors import InvalidEvent, ReplyrateError, TransientError
from services.common.events import DEAD_LETTER, DeadLetter
from services.common.kafka import Admin, Publisher, Reader, Record
from services.common.settings import KafkaSettings
from services.common.topics import DEAD, DEAD_GROUP, INQUIRIES, REPLAYED, REPLIES, SENT, replays
from services.common.trace_context import TRACEPARENT, traceparent
from services.dead_letters.progress import Become, Progress, State

ACCEPT: Final = frozenset({DEAD_LETTER})
TOPICS: Final = frozenset({INQUIRIES, SENT, REPLIES})
BATCH: Final = 500
POLL_SECONDS: Final = 1.0
PATIENCE: Final = 10
"""Empty polls in a row before a read of known records counts as failed."""

Need = Literal["send", "read-again", "rescan", "nothing"]
Outcome = Literal["replayed", "rescan", "loops", "gone", "refused"]
Spans = Mapping[int, Sequence[tuple[int, int]]]
"""(first, behind the last) of runs of letters, by partition."""


class NoSuchLetter(ReplyrateError):
    """A position without a dead letter; the text says how to find one."""


@dataclass(frozen=True, slots=True)
class DeadLetterRecord:
    """A record of dead-letters.v1; `data` is None when it is no dead letter at all."""

    partition: int
    offset: int
    key: bytes
    data: DeadLetter | None
    replayed: int
    state: State = "open"
    trace: bytes | None = None
    """The `traceparent` that the rejected record came with."""

    @property
    def position(self) -> str:
        """`partition/offset`, as the commands take it."""
        return f"{self.partition}/{self.offset}"

    @property
    def origin(self) -> str:
        """Where the rejected record or mail lies."""
        data = self.data
        if data is None:
            return "?"
        if data.topic is not None:
            return f"{data.topic}/{data.partition}/{data.offset}"
        return f"{data.mailbox_id}/{data.uidvalidity}/{data.uid}"

    @property
    def company_id(self) -> str:
        """The company: a dead letter has the key of what it is about."""
        return self.key.partition(b"\x1f")[0].decode("utf-8", "replace")

    def needs(self) -> Need:
        """What a replay has to do for it."""
        data = self.data
        if data is None:
            return "nothing"
        if data.mailbox_id is not None:
            return "rescan"
        if data.topic not in TOPICS or data.partition is None or data.offset is None:
            return "nothing"
        return "read-again" if data.value is None else "send"

    def row(self) -> dict[str, Any]:
        """What a list shows."""
        data = self.data
        return {
            "position": self.position,
            "state": self.state,
            "at": None if data is None else data.at,
            "service": None if data is None else data.service,
            "reason": "no-dead-letter" if data is None else data.reason,
            "detail": "the record is no dead letter" if data is None else data.detail,
            "company_id": self.company_id,
            "origin": self.origin,
            "replayed": self.replayed,
        }


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What became of one letter, and why when it was not replayed."""

    letter: DeadLetterRecord
    outcome: Outcome
    why: str = ""


class DeadLetters:
    """The topic of dead letters with the progress of the group. A context manager."""

    def __init__(self, settings: KafkaSettings) -> None:
        """TransientError when no broker answers."""
        self._reader = Reader(settings, "replyrate-dlq", DEAD)
        self._admin = Admin(settings, "replyrate-dlq-admin")

    def waiting(self) -> dict[int, list[tuple[int, int]]]:
        """The letters that nobody is done with; partitions without any are left out."""
        held = self._held()
        found = {at: held.get(at, Progress()).open(*span) for at, span in self._spans().items()}
        return {at: spans for at, spans in found.items() if spans}

    def everything(self) -> dict[int, list[tuple[int, int]]]:
        """The same for every letter that still exists."""
        return {at: [span] for at, span in self._spans().items()}

    def read(self, spans: Spans) -> Iterator[DeadLetterRecord]:
        """The letters of `spans`, partition by partition, in order."""
        held = self._held()
        for record in _records(self._reader, spans):
            letter = _letter(record)
            yield replace(letter, state=held.get(letter.partition, Progress()).state(letter.offset))

    def at(self, position: str) -> DeadLetterRecord:
        """One letter by its position. NoSuchLetter when there is none."""
        partition, offset = parse(position)
        first, end = self._spans().get(partition, (0, 0))
        if first <= offset < end:
            for letter in self.read({partition: [(offset, offset + 1)]}):
                return letter
        raise NoSuchLetter(f"there is no dead letter {position}; see: replyrate dlq list --all")

    def done(self, become: Mapping[Become, Spans], *, dry: bool = False) -> None:
        """These letters are done with; what was done before stays so.

        TooScattered when they lie too far apart to be remembered (with `dry` that is all that is looked at).
        TransientError when the broker did not take it.
        """
        held, first = self._held(), {at: span[0] for at, span in self._spans().items()}
        changed: dict[int, Progress] = {}
        for state, spans in become.items():
            for at, runs in spans.items():
                changed[at] = changed.get(at, held.get(at, Progress())).mark(runs, state)
        offsets = {at: (one.offset(first.get(at, 0)), one.note(first.get(at, 0))) for at, one in changed.items()}
        if offsets and not dry:
            self._admin.commit(DEAD_GROUP, DEAD, offsets)

    def _held(self) -> dict[int, Progress]:
        noted = self._admin.commits(DEAD_GROUP)
        return {where[1]: Progress.read(*one) for where, one in noted.items() if where[0] == DEAD}

    def _spans(self) -> dict[int, tuple[int, int]]:
        spans = {where[1]: span for where, span in self._admin.spans((DEAD,)).items()}
        return {partition: (first, end) for partition, (first, end) in sorted(spans.items()) if first < end}

    def delete(self, offsets: Mapping[int, int]) -> None:
        """Delete every letter before these offsets from the topic, for everybody."""
        self._admin.delete_before(DEAD, offsets)

    def close(self) -> None:
        """Let go of the brokers."""
        self._reader.close()
        self._admin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class LetterReplay:
    """Sends the records of letters back to their topics; `rescan` asks for a mailbox to be read again."""

    def __init__(
        self,
        settings: KafkaSettings,
        publisher: Publisher | None,
        rescan: Callable[[str, str], None],
        *,
        most: int,
        again: bool = False,
    ) -> None:
        """Without a publisher it only looks what would happen. A record that went round `most` times is left, and so is
        a letter that was replayed before, unless `again`: its own count does not know of that.

        `rescan(company_id, mailbox_id)` may raise ReplyrateError.
        """
        self._settings = settings
        self._publisher = publisher
        self._rescan = rescan
        self._most = most
        self._again = again
        self._asked: dict[tuple[str, str], str] = {}

    def run(self, letters: Sequence[DeadLetterRecord]) -> list[ReplayResult]:
        """Replay some letters; every record is acknowledged when this returns, whatever the others came to."""
        again = [letter for letter in letters if letter.needs() == "read-again" and letter.replayed < self._most]
        found = self._read_again(again)
        results: list[ReplayResult] = []
        sent: list[tuple[int, Any]] = []
        for letter in letters:
            data = letter.data
            if letter.state == "replayed" and not self._again:
                results.append(ReplayResult(letter, "refused", "it was replayed before; --again sends it once more"))
                continue
            match letter.needs():
                case "nothing":
                    results.append(ReplayResult(letter, "refused", "it names no topic of ours and no mailbox"))
                    continue
                case "rescan":
                    assert data is not None and data.mailbox_id is not None
                    results.append(self._ask(letter, data.mailbox_id))
                    continue
            assert data is not None and data.topic is not None
            value = found.get(letter.origin) if data.value is None else _bytes(data.value)
            if letter.replayed >= self._most:
                results.append(
                    ReplayResult(letter, "loops", f"it was replayed {letter.replayed} times and always rejected")
                )
            elif value is None:
                results.append(ReplayResult(letter, "gone", f"{letter.origin} does not exist any more"))
            elif self._publisher is None:
                results.append(ReplayResult(letter, "replayed"))
            else:
                # The matcher keeps a company in the partition of its input; inputs go where their key belongs.
                partition = data.partition if data.topic == REPLIES else None
                headers = [(REPLAYED, str(letter.replayed + 1).encode())]
                if letter.trace is not None:
                    headers.append((TRACEPARENT, letter.trace))
                pending = self._publisher.send(data.topic, letter.key, value, partition=partition, headers=headers)
                sent.append((len(results), pending))
                results.append(ReplayResult(letter, "replayed"))
        if self._publisher is not None:
            for index in self._publisher.wait([pending for _, pending in sent]):
                at = sent[index][0]
                results[at] = ReplayResult(results[at].letter, "refused", "the broker refuses the record")
        return results

    def _ask(self, letter: DeadLetterRecord, mailbox_id: str) -> ReplayResult:
        key = (letter.company_id, mailbox_id)
        if self._publisher is None:
            return ReplayResult(letter, "rescan")
        if key not in self._asked:
            try:
                self._rescan(*key)
                self._asked[key] = ""
            except TransientError:
                raise
            except ReplyrateError as error:
                self._asked[key] = str(error)
        why = self._asked[key]
        return ReplayResult(letter, "refused", why) if why else ReplayResult(letter, "rescan")

    def _read_again(self, letters: Sequence[DeadLetterRecord]) -> dict[str, bytes | None]:
        """Values by origin of the records that still exist."""
        found: dict[str, bytes | None] = {}
        for topic in sorted({letter.data.topic for letter in letters if letter.data and letter.data.topic}):
            wanted: dict[int, set[int]] = {}
            for letter in letters:
                data = letter.data
                if data is not None and data.topic == topic and data.partition is not None and data.offset is not None:
                    wanted.setdefault(data.partition, set()).add(data.offset)
            with Reader(self._settings, DEAD_GROUP, topic) as reader:
                there = reader.partitions()
                first = reader.beginning_offsets(wanted.keys() & there)
                end = reader.end_offsets(wanted.keys() & there)
                for partition in first:
                    for offset in sorted(wanted[partition]):
                        if first[partition] <= offset < end[partition]:
                            for record in _records(reader, {partition: [(offset, offset + 1)]}):
                                found[f"{topic}/{partition}/{offset}"] = record.value
        return found


def parse(position: str) -> tuple[int, int]:
    """(partition, offset) of `partition/offset`. NoSuchLetter when it is none."""
    partition, slash, offset = position.partition("/")
    if not (slash and partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit()):
        raise NoSuchLetter(f"{position} is no position; write PARTITION/OFFSET as `replyrate dlq list` shows it")
    return int(partition), int(offset)


def _records(reader: Reader, spans: Spans) -> Iterator[Record]:
    """The records of `spans`, partition by partition; what lies between two of them is read over."""
    for partition, found in spans.items():
        if not found:
            continue
        end, left = found[-1][1], iter(found)
        first, behind = next(left)
        reader.assign([partition])
        reader.seek(partition, first)
        empty = 0
        # By position, not by the last offset seen: the end of a transaction is an offset without a record.
        while (position := reader.position(partition)) is not None and position < end:
            batch = reader.poll(POLL_SECONDS).get(partition, [])
            empty = 0 if batch else empty + 1
            if empty > PATIENCE:
                raise TransientError("Kafka does not give the records of a dead letter; try again")
            for record in batch:
                while record.offset >= behind and (following := next(left, None)) is not None:
                    first, behind = following
                if first <= record.offset < behind:
                    yield record


def _letter(record: Record) -> DeadLetterRecord:
    try:
        data = codec.decode(record.value or b"", accept=ACCEPT).data
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


def _bytes(value: str) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return None


def spans_of(letters: Iterable[DeadLetterRecord]) -> dict[int, list[tuple[int, int]]]:
    """Where these letters lie."""
    spans: dict[int, list[tuple[int, int]]] = {}
    for letter in letters:
        spans.setdefault(letter.partition, []).append((letter.offset, letter.offset + 1))
    return spans


def result_of(results: Iterable[ReplayResult]) -> dict[Become, Spans]:
    """What a replay makes of its letters: what it could not replay is told and left, and what was done before stays."""
    sent, left = [], []
    for done in results:
        if done.outcome in ("replayed", "rescan"):
            sent.append(done.letter)
        elif done.letter.state == "open":
            left.append(done.letter)
    return {"replayed": spans_of(sent), "left": spans_of(left)}
