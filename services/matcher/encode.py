"""Step 4 of the pipeline: what a batch publishes, as records by topic and partition.

The id and time of a record follow from its content alone, so a batch that is joined twice publishes the same bytes.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from services.common import codec
from services.common.events import CompanyErased, InquiryReplies
from services.common.hashing import Hasher
from services.common.topics import DEAD, INQUIRIES, REPLIES, partial_key, partition_of, reply_key
from services.dead_letters import rejected
from services.matcher import state
from services.matcher.decode import DecodedBatch
from services.matcher.handoff import MAX_BATCH_BYTES, Row, Rows
from services.matcher.join import JoinResult
from services.matcher.traces import NO_HEADERS, BatchTraces

SOURCE: Final = "replyrate/matcher"


class OutputEncoder:
    """Makes the records of inquiry-replies.v1, dead-letters.v1 and of inquiries.v1 (rerouted ones)."""

    def __init__(self, hasher: Hasher, partitions: int, version: str, clock: Callable[[], datetime]) -> None:
        """`partitions`: of each topic; `version`: of the software, for dead letters."""
        self._hasher = hasher
        self._partitions = partitions
        self._version = version
        self._clock = clock

    def encode(self, partition: int, batch: DecodedBatch, result: JoinResult) -> dict[str, Rows]:
        """The outputs of a batch; states go to the partition number of their input, `partition`."""
        states = self._states(result, batch.traces)
        return {
            REPLIES: {partition: states} if states else {},
            DEAD: self._dead_letters(batch),
            INQUIRIES: batch.rerouted,
        }

    def _states(self, result: JoinResult, traces: BatchTraces) -> list[Row]:
        """Rows of the compacted topic.

        A state without the inquiry's own facts may follow one with them: the matcher forgets inquiries behind the horizon, and a
        status may still come. It has a key of its own, else a new consumer would find the status and not the inquiry.
        Only an erase takes facts out of the topic.
        """
        rows: list[Row] = []
        erased_companies = {erased.company_id for erased, _ in result.erased}
        for erased, dropped in result.erased:
            company_id = erased.company_id
            for inquiry_id in dropped:
                rows.append((reply_key(company_id, inquiry_id), None, NO_HEADERS))
                rows.append((partial_key(company_id, inquiry_id), None, NO_HEADERS))
            rows.append((reply_key(company_id, ""), self._erasure(erased), NO_HEADERS))
        for inquiry in result.changed:
            key = reply_key(inquiry.company_id, inquiry.inquiry_id)
            state_row = self._state(inquiry), traces.headers_of(key, inquiry)
            if inquiry.received_at is None:
                apart = partial_key(inquiry.company_id, inquiry.inquiry_id)
                if inquiry.company_id not in erased_companies:
                    rows.append((apart, *state_row))
                    continue
                rows.append((apart, None, NO_HEADERS))
            rows.append((key, *state_row))
        return rows

    def _state(self, inquiry: InquiryReplies) -> bytes:
        time = state.latest_instant(inquiry)
        assert time is not None
        identity = self._hasher.content(inquiry.company_id, codec.canonical(inquiry).decode())
        return codec.encode(inquiry, id=identity, source=SOURCE, time=time)

    def _erasure(self, erased: CompanyErased) -> bytes:
        identity = self._hasher.content(erased.company_id, codec.canonical(erased).decode())
        return codec.encode(erased, id=identity, source=SOURCE, time=erased.at)

    def _dead_letters(self, batch: DecodedBatch) -> Rows:
        rows: Rows = {}
        for record, error in batch.rejected:
            letter = rejected.reject(
                record, error, service="matcher", version=self._version, at=self._clock(), most_bytes=MAX_BATCH_BYTES
            )
            rows.setdefault(partition_of(letter.key, self._partitions), []).append(letter)
        return rows
