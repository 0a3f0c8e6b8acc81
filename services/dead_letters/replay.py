"""Replay: sends the records of dead letters back to their topics.

1. Read the records again that their letters do not contain (inquiries.v1), from their positions.
2. Decide for each letter: send its record, have its mailbox read again, or report why it cannot be replayed.
3. Wait until every record is acknowledged.

A record goes back with a header that counts its replays. Services copy that header to the dead letter when they reject the
record again, so that a record which can never be read is not sent round for ever.
"""

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from services.common.codec import UnreadableBatch
from services.common.errors import ReplyrateError, TransientError
from services.common.kafka import Pending, Publisher, Reader
from services.common.language import Bilingual
from services.common.settings import KafkaSettings
from services.common.topics import DEAD_GROUP, REPLAYED, REPLIES
from services.common.trace_context import TRACEPARENT
from services.dead_letters.letters import DeadLetterRecord, DeadLetters, Spans, read_spans, spans_of
from services.dead_letters.progress import Disposition
from services.dead_letters.refusals import NONE, refusal

BATCH: Final = 500

Outcome = Literal["replayed", "rescan", "loops", "gone", "refused"]


CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The result of one letter, and why when it was not replayed, in both languages."""

    letter: DeadLetterRecord
    outcome: Outcome
    why: Bilingual = NONE


class LetterReplay:
    """Replays letters; `rescan` requests that a mailbox is read again."""

    def __init__(
        self,
        settings: KafkaSettings,
        publisher: Publisher | None,
        rescan: Callable[[str, str], None],
        *,
        most: int,
        again: bool = False,
    ) -> None:
        """Without a publisher it is a dry run. A record that was replayed `most` times is left, and, unless `again`, so is a
        letter that was replayed before: the count of its record does not show that.

        `rescan(company_id, mailbox_id)` may raise ReplyrateError: its letters cannot be replayed. TransientError ends the replay; the
        letters of the batch stay open, and none of its records was sent.
        """
        self._settings = settings
        self._publisher = publisher
        self._rescan = rescan
        self._most = most
        self._again = again
        self._rescan_refusals: dict[tuple[str, str], Bilingual] = {}
        """By mailbox, why it cannot be read again; NONE when it will be."""

    @property
    def is_dry_run(self) -> bool:
        """Whether nothing is sent or requested."""
        return self._publisher is None

    def run(self, letters: Sequence[DeadLetterRecord]) -> list[ReplayResult]:
        """Replay letters; when this returns, every record that was sent is acknowledged or reported as refused."""
        to_read = [letter for letter in letters if letter.needs() == "read-again" and letter.replayed < self._most]
        values = self._read_again(to_read)
        results: list[ReplayResult] = []
        sent: list[tuple[int, Pending]] = []
        # All are decided first: when a mailbox cannot be asked for, nothing of the batch was sent yet.
        for result, value in [self._decide(letter, values) for letter in letters]:
            if result.outcome == "replayed" and self._publisher is not None and value is not None:
                sent.append((len(results), self._send(self._publisher, result.letter, value)))
            results.append(result)
        if self._publisher is not None:
            for refused in self._publisher.wait([pending for _, pending in sent]):
                index = sent[refused][0]
                results[index] = ReplayResult(results[index].letter, "refused", refusal("broker"))
        return results

    def _decide(self, letter: DeadLetterRecord, values: dict[str, bytes | None]) -> tuple[ReplayResult, bytes | None]:
        """The result of a letter, and the value to send when it is to be replayed."""
        data = letter.data
        if letter.state == "replayed" and not self._again:
            return ReplayResult(letter, "refused", refusal("replayed-before")), None
        match letter.needs():
            case "nothing":
                return ReplayResult(letter, "refused", refusal("no-origin")), None
            case "rescan":
                assert data is not None and data.mailbox_id is not None
                return self._request_rescan(letter, data.mailbox_id), None
        assert data is not None
        value = values.get(letter.origin) if data.value is None else _from_base64(data.value)
        if letter.replayed >= self._most:
            return ReplayResult(letter, "loops", refusal("replays-spent", count=letter.replayed)), None
        if value is None:
            return ReplayResult(letter, "gone", refusal("gone", origin=letter.origin)), None
        if data.topic == REPLIES and (data.partition or 0) >= self._settings.partitions:
            why = refusal("no-partition", topic=REPLIES, partition=data.partition or 0)
            return ReplayResult(letter, "refused", why), None
        if isinstance(value, UnreadableBatch):
            return ReplayResult(letter, "refused", refusal("unreadable", detail=value.detail)), None
        return ReplayResult(letter, "replayed"), value

    def _send(self, publisher: Publisher, letter: DeadLetterRecord, value: bytes) -> Pending:
        data = letter.data
        assert data is not None and data.topic is not None
        # The matcher keeps a company in the partition of its input; inputs go to the partition of their key.
        partition = data.partition if data.topic == REPLIES else None
        headers = [(REPLAYED, str(letter.replayed + 1).encode())]
        if letter.trace is not None:
            headers.append((TRACEPARENT, letter.trace))
        return publisher.send(data.topic, letter.key, value, partition=partition, headers=headers)

    def _request_rescan(self, letter: DeadLetterRecord, mailbox_id: str) -> ReplayResult:
        mailbox = (letter.company_id, mailbox_id)
        if CONTROL.search(letter.company_id):
            # No id has such a character, and Postgres takes no NUL.
            return ReplayResult(letter, "refused", refusal("no-company"))
        if self._publisher is None:
            return ReplayResult(letter, "rescan")
        if mailbox not in self._rescan_refusals:
            try:
                self._rescan(*mailbox)
                self._rescan_refusals[mailbox] = NONE
            except TransientError:
                raise
            except ReplyrateError as error:
                self._rescan_refusals[mailbox] = error.bilingual
        why = self._rescan_refusals[mailbox]
        return ReplayResult(letter, "rescan") if why is NONE else ReplayResult(letter, "refused", why)

    def _read_again(self, letters: Sequence[DeadLetterRecord]) -> dict[str, bytes | None]:
        """The values of the records that still exist, by origin."""
        values: dict[str, bytes | None] = {}
        for topic in sorted({letter.data.topic for letter in letters if letter.data and letter.data.topic}):
            wanted: dict[int, set[int]] = {}
            for letter in letters:
                data = letter.data
                if data is not None and data.topic == topic and data.partition is not None and data.offset is not None:
                    wanted.setdefault(data.partition, set()).add(data.offset)
            with Reader(self._settings, DEAD_GROUP, topic) as reader:
                partitions = wanted.keys() & reader.partitions()
                first, end = reader.beginning_offsets(partitions), reader.end_offsets(partitions)
                for partition in first:
                    for offset in sorted(wanted[partition]):
                        if first[partition] <= offset < end[partition]:
                            for record in read_spans(reader, {partition: [(offset, offset + 1)]}):
                                values[f"{topic}/{partition}/{offset}"] = record.value
        return values


def replay_in_batches(
    letters: DeadLetters,
    chosen: Iterable[DeadLetterRecord],
    replay: LetterReplay,
    check: Callable[[], None] = lambda: None,
) -> Iterator[list[ReplayResult]]:
    """Replay letters and mark them as processed, batch by batch; a dry run marks none. What `check` raises ends it before a batch.

    TooScattered before anything of a batch is sent, TransientError.
    """
    remaining = iter(chosen)
    while batch := list(islice(remaining, BATCH)):
        check()
        if not replay.is_dry_run:
            letters.mark({"replayed": spans_of(batch)}, dry_run=True)
        results = replay.run(batch)
        if not replay.is_dry_run:
            letters.mark(dispositions_of(results))
        yield results


def dispositions_of(results: Iterable[ReplayResult]) -> dict[Disposition, Spans]:
    """How a replay leaves its letters: an open one that could not be replayed is `left`, earlier states stay."""
    replayed, left = [], []
    for result in results:
        if result.outcome in ("replayed", "rescan"):
            replayed.append(result.letter)
        elif result.letter.state == "open":
            left.append(result.letter)
    return {"replayed": spans_of(replayed), "left": spans_of(left)}


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one; text that is not ASCII is another
        return None
