"""The records of the poison table on the topics of one installation: where each was put, and what must become of it."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Final

from kafka import KafkaProducer

from services.common import codec
from services.common.events import Buyer, Event
from services.common.settings import KafkaSettings
from services.common.topics import INQUIRIES, REPLIES, SENT, partition_of, reply_key
from tests.poison.kinds import KINDS, TOPICS, RecordKind
from tests.poison.raw_records import RawRecord, append_to_log, batch, produce
from tests.support.builders import a_received_inquiry, a_sent_message, an_inquiry, hash_of
from tests.support.matching import HASHER, NOW, record
from tests.support.topics import PARTITIONS, publish

TRANSACTION_MS: Final = 1_000
SENT_AT: Final = NOW - timedelta(days=1)
ASKED_AT: Final = SENT_AT - timedelta(hours=1)
SIDES: Final = 3
"""Beginning, middle and end."""
GOOD: Final = RecordKind("", "", "counts")
Position = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What a record says: an inquiry (inquiries.v1, inquiry-replies.v1) or an answer to one (sent-messages.v1)."""

    topic: str
    company_id: str
    inquiry_id: str
    kind: str


@dataclass(repr=False)
class PoisonField:
    """Puts every kind on every topic, each of them at the beginning, in the middle and at the end of a batch."""

    settings: KafkaSettings
    counting: set[Fact] = field(default_factory=set)
    """Those that must count."""
    silent: set[Fact] = field(default_factory=set)
    """Those that must not."""
    letters: dict[Position, str] = field(default_factory=dict)
    """By position, the reason of its dead letter."""
    kinds: dict[Position, str] = field(default_factory=dict)
    """By position, the kind of what is there."""
    refused: dict[tuple[str, str], set[int]] = field(default_factory=lambda: defaultdict(set))
    """By kind and topic, the broker's errors."""
    _numbers: Iterator[int] = field(default_factory=count)

    def send(self) -> None:
        """Every kind that can be sent to a broker."""
        for kind in KINDS:
            for topic in TOPICS if not kind.in_log else ():
                self._put(kind, topic, lambda topic, partition, raw: produce(self._server, topic, partition, raw))

    def write(self, folder: Path, ends: Mapping[tuple[str, int], int]) -> None:
        """Every kind that lies on the disk only. The broker is stopped, its data are in `folder`, its offsets end at `ends`."""
        next_offsets = dict(ends)

        def append(topic: str, partition: int, raw: bytes) -> tuple[int, int]:
            base = next_offsets[topic, partition]
            append_to_log(folder, topic, partition, base.to_bytes(8, "big") + raw[8:])
            next_offsets[topic, partition] = base + int.from_bytes(raw[23:27], "big") + 1
            return 0, base

        for kind in KINDS:
            for topic in TOPICS if kind.in_log else ():
                self._put(kind, topic, append)

    def send_asked(self) -> None:
        """The inquiries that the messages of sent-messages.v1 answer."""
        inquiries = [
            a_received_inquiry(
                company_id=fact.company_id, inquiry_id=fact.inquiry_id, received_at=ASKED_AT,
                buyer=Buyer(id="b", addresses=(address_of(fact.inquiry_id),)),
            )
            for fact in sorted(self.counting | self.silent, key=str) if fact.topic == SENT
        ]  # fmt: skip
        publish(self.settings, INQUIRIES, [record(inquiry) for inquiry in inquiries])

    @property
    def _server(self) -> str:
        return self.settings.bootstrap_servers

    def _put(self, kind: RecordKind, topic: str, put: Callable[[str, int, bytes], tuple[int, int]]) -> None:
        outcome, company_id = kind.on(topic), company_of(kind, topic)
        partition = partition_of(company_id.encode(), PARTITIONS)
        if not (kind.is_batch or kind.transaction or outcome == "refused"):
            mixed = [kind, GOOD, GOOD, kind, GOOD, GOOD, kind]
            facts = [self._record(part, topic, company_id) for part in mixed]
            error, base = put(topic, partition, batch([raw for raw, _ in facts]))
            assert error == 0, (kind.name, topic, error)
            for delta, (part, (_, fact)) in enumerate(zip(mixed, facts, strict=True)):
                self._note(part, topic, fact, (topic, partition, base + delta))
            return
        for _ in range(SIDES if kind.transaction != "open" else 1):
            facts = [self._record(kind, topic, company_id) for _ in range(SIDES)]
            records = [raw for raw, _ in facts]
            if kind.transaction:
                self._transact(kind.transaction, topic, partition, records)
                error, base = 0, -1
            else:
                packed = batch(records, kind.codec, damage=kind.damage)
                error, base = put(topic, partition, packed)
                if outcome == "refused":
                    self.refused[kind.name, topic].add(error)
                else:
                    assert error == 0, (kind.name, topic, error)
                last = base + int.from_bytes(packed[23:27], "big")
            for _, fact in facts:
                self._note(kind, topic, fact, (topic, partition, last if base >= 0 else -1))
            goods = [self._record(GOOD, topic, company_id) for _ in range(SIDES)]
            error, _ = put(topic, partition, batch([raw for raw, _ in goods]))
            assert error == 0
            self.counting |= {fact for _, fact in goods}

    def _note(self, kind: RecordKind, topic: str, fact: Fact, position: Position) -> None:
        outcome = kind.on(topic)
        self.kinds[position] = kind.name
        if outcome in ("counts", "moved"):
            self.counting.add(fact)
            return
        if outcome not in ("nothing", "refused"):
            self.letters[position] = outcome
        if not kind.in_log:
            # Of a damaged batch some records may be readable.
            self.silent.add(fact)

    def _record(self, kind: RecordKind, topic: str, company_id: str) -> tuple[RawRecord, Fact]:
        number = next(self._numbers)
        event = event_of(topic, company_id, f"i{number}", number)
        key, _ = record(event) if topic != REPLIES else (reply_key(company_id, f"i{number}"), b"")
        at = ASKED_AT if topic != SENT else SENT_AT
        value = codec.encode(event, id=f"p{number}", source="tests", time=at)
        changed = kind.change(RawRecord(key, value, (), int(NOW.timestamp() * 1000)))
        if kind.on(topic) in ("counts", "moved"):
            data = json.loads(changed.value or b"", parse_int=str)["data"]
            company_id = data["company_id"]
        return changed, Fact(topic, company_id, f"i{number}", kind.name)

    def _transact(self, ending: str, topic: str, partition: int, records: list[RawRecord]) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self._server,
            transactional_id=f"tests-{next(self._numbers)}",
            transaction_timeout_ms=TRANSACTION_MS if ending == "open" else 60_000,
        )
        try:
            producer.init_transactions()
            producer.begin_transaction()
            for raw in records:
                producer.send(topic, raw.value, key=raw.key, partition=partition)
            producer.flush()
            if ending == "commit":
                producer.commit_transaction()
            elif ending == "abort":
                producer.abort_transaction()
        finally:
            producer.close(timeout=0 if ending == "open" else 5)


def address_of(inquiry_id: str) -> str:
    """The buyer's address of an inquiry."""
    return f"{inquiry_id}@shop.example"


def company_of(kind: RecordKind, topic: str) -> str:
    """A company of its own for each kind and topic, in another partition than `elsewhere`."""
    number = KINDS.index(kind) * len(TOPICS) + TOPICS.index(topic)
    names = (f"c{number}-{suffix}" for suffix in count())
    away = partition_of(b"elsewhere", PARTITIONS)
    return next(name for name in names if partition_of(name.encode(), PARTITIONS) != away)


def event_of(topic: str, company_id: str, inquiry_id: str, number: int) -> Event:
    """A valid event of the topic."""
    if topic == INQUIRIES:
        return a_received_inquiry(company_id=company_id, inquiry_id=inquiry_id, received_at=ASKED_AT)
    if topic == REPLIES:
        return an_inquiry(company_id=company_id, inquiry_id=inquiry_id, received_at=ASKED_AT)
    return a_sent_message(
        company_id=company_id, message_id=hash_of(number), sent_at=SENT_AT,
        recipients=(HASHER.address(company_id, address_of(inquiry_id)),),
    )  # fmt: skip
