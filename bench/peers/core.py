"""The parts that every peer shares with our matcher: decode, join, encode. Only the machinery around them differs."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bench.traffic import HASH_KEY
from services.common import codec
from services.common.events import DeadLetter, InquiryReceived, InquiryReplies
from services.common.hashing import Hasher
from services.common.topics import ACCEPTED, reply_key
from services.matcher import join, matching, state
from services.matcher.encode import SOURCE
from services.matcher.entries import Read

HORIZON = timedelta(days=60)
HASHER = Hasher(HASH_KEY)


@dataclass(frozen=True, slots=True)
class Out:
    """The result of a batch of records."""

    changes: dict[bytes, bytes | None]
    states: list[tuple[bytes, bytes]]


def joined(records: Sequence[tuple[str, bytes]], read: Read) -> Out:
    """Join records (topic, value) with the entries that `read` returns."""
    facts: list[join.Fact] = []
    for topic, value in records:
        envelope = codec.decode(value, accept=ACCEPTED[topic])
        event = envelope.data
        assert not isinstance(event, InquiryReplies | DeadLetter)
        if isinstance(event, InquiryReceived):
            event, _ = matching.hashed_inquiry(event, codec.facts_text(envelope), HASHER)
        facts.append(event)
    result = join.apply(read, lambda _: (), facts, earliest=datetime.now(UTC) - HORIZON)
    states = [(reply_key(inquiry.company_id, inquiry.inquiry_id), _state(inquiry)) for inquiry in result.changed]
    return Out(result.changes, states)


def _state(inquiry: InquiryReplies) -> bytes:
    at = state.latest_instant(inquiry)
    assert at is not None
    identity = HASHER.content(inquiry.company_id, codec.canonical(inquiry).decode())
    return codec.encode(inquiry, id=identity, source=SOURCE, time=at)


class FirstRecord:
    """Prints the time of the first record to standard output, once."""

    def __init__(self) -> None:
        self._printed = False

    def now(self) -> None:
        """Call it for every record or batch."""
        if not self._printed:
            self._printed = True
            os.write(1, f"first {time.time()}\n".encode())  # Faust takes sys.stdout for its log
