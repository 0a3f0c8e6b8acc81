"""What every peer shares with our matcher: decode, join, encode. Only the machinery around it differs."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bench.traffic import HASH_KEY
from services.common import codec
from services.common.events import DeadLetter, InquiryReceived, InquiryReplies
from services.common.hashing import Hasher
from services.common.topics import reply_key
from services.matcher import join, state
from services.matcher.host import ACCEPT, SOURCE

HORIZON = timedelta(days=60)
HASHER = Hasher(HASH_KEY)


@dataclass(frozen=True, slots=True)
class Out:
    """What a batch of records leads to."""

    changes: dict[bytes, bytes | None]
    states: list[tuple[bytes, bytes]]


def joined(records: Sequence[tuple[str, bytes]], read: join.Read) -> Out:
    """Join records (topic, value) with what `read` finds."""
    facts: list[join.Fact] = []
    for topic, value in records:
        envelope = codec.decode(value, accept=ACCEPT[topic])
        event = envelope.data
        assert not isinstance(event, InquiryReplies | DeadLetter)
        if isinstance(event, InquiryReceived):
            event, _ = join.hashed(event, codec.facts_text(envelope), HASHER)
        facts.append(event)
    applied = join.apply(read, lambda _: (), facts, earliest=datetime.now(UTC) - HORIZON)
    return Out(applied.changes, [(reply_key(one.company_id, one.inquiry_id), _state(one)) for one in applied.changed])


def _state(inquiry: InquiryReplies) -> bytes:
    at = state.latest_instant(inquiry)
    assert at is not None
    identity = HASHER.content(inquiry.company_id, codec.canonical(inquiry).decode())
    return codec.encode(inquiry, id=identity, source=SOURCE, time=at)


class Begin:
    """Says once, on standard output, when the first record was in hand."""

    def __init__(self) -> None:
        self._said = False

    def now(self) -> None:
        """Call it for every record or batch."""
        if not self._said:
            self._said = True
            os.write(1, f"first {time.time()}\n".encode())  # Faust takes sys.stdout for its log
