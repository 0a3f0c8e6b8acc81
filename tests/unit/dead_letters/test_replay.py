"""What a replay sends and leaves when it cannot go on, without a broker."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from services.common.errors import TransientError
from services.common.events import DeadLetter
from services.common.kafka import Publisher
from services.common.settings import KafkaSettings
from services.dead_letters.letters import DeadLetterRecord
from services.dead_letters.replay import LetterReplay

AT = datetime(2026, 11, 30, tzinfo=UTC)


def letter(at: int, **place: Any) -> DeadLetterRecord:
    data = DeadLetter(reason="schema", detail="", service="matcher", service_version="0", at=AT, **place)
    return DeadLetterRecord(0, at, b"c1", data, 0)


class Sent:
    """A publisher that only remembers."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    def send(self, topic: str, key: bytes, value: bytes, **options: Any) -> None:
        self.values.append(value)

    def wait(self, pending: list[Any]) -> list[int]:
        return []


def test_nothing_of_a_batch_is_sent_when_a_mailbox_cannot_be_asked_for() -> None:
    publisher, asked = Sent(), list[str]()

    def rescan(company_id: str, mailbox_id: str) -> None:
        asked.append(mailbox_id)
        if mailbox_id == "m2":
            raise TransientError("the session has ended")

    settings = cast(KafkaSettings, None)
    replay = LetterReplay(settings, cast(Publisher, publisher), rescan, most=3)
    batch = [
        letter(0, topic="sent-messages.v1", partition=1, offset=7, value="e30="),
        letter(1, mailbox_id="m1"),
        letter(2, mailbox_id="m2"),
    ]
    with pytest.raises(TransientError):
        replay.run(batch)
    assert (publisher.values, asked) == ([], ["m1", "m2"])
    assert [result.outcome for result in replay.run(batch[:2])] == ["replayed", "rescan"]
    assert publisher.values == [b"{}"]
