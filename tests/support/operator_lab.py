"""What the tests of the operators' pages share: a console beside a broker and a database with two companies, and dead letters.

`room` is a fixture to import, with `console_dsn`.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from services.common import codec
from services.common.events import DeadLetter
from services.common.postgres import connect
from services.common.settings import KafkaSettings
from services.common.topics import DEAD, SENT
from services.dead_letters.letters import DeadLetters
from tests.support.connect_lab import Browser
from tests.support.console_lab import console_in_thread, staff_browser
from tests.support.portal_lab import ServedPages
from tests.support.seeded import seed
from tests.support.topics import PARTITIONS, create_topics, kafka_settings, publish

RULES = """\
name = "fast-shop"
version = 1
title = "30 days, every inquiry, answered within four hours"
source = "Service agreement of 2026"
time_zone = "America/Los_Angeles"
target_seconds = 14400
window_days = 30
settle_days = 5
unit = "each-inquiry"
answered_by = ["human-reply", "platform-reply"]
attribution = "owner-at-receipt"
"""
"""The definition of a rule set that no installation has."""


@dataclass
class OperatorRoom:
    """A console, its database and broker, and an operator who has signed in."""

    console: ServedPages
    dsn: str
    owner: psycopg.Connection
    kafka: KafkaSettings
    operator: Browser

    def actions(self) -> list[tuple[str, dict[str, Any]]]:
        """What the audit has but for the sign-in, lists and checks, the oldest first: action and detail."""
        return self.owner.execute(
            "SELECT action, detail FROM registry.staff_actions WHERE action NOT IN ('sign-in', 'letters', 'check-letters')"
            " ORDER BY action_id"
        ).fetchall()

    def finish(self) -> Browser:
        """Wait for the work whose page the operator sees."""
        for _ in range(12):
            result = re.search(r'href="(/(?:jobs|rule-sets)/[^/"]+/result)"', self.operator.answer.text)
            if result is None:
                return self.operator
            self.operator.get(result[1])  # held for some seconds
        raise AssertionError(f"not finished: {self.operator.answer.text}")

    def plant(self, *letters: DeadLetter, key: bytes = b"c1") -> None:
        """Publish dead letters as a service would."""
        records: list[tuple[bytes, bytes | None]] = [
            (key, codec.encode(letter, id="x", source="tests", time=letter.at)) for letter in letters
        ]
        publish(self.kafka, DEAD, records)

    def open_letters(self) -> int:
        """How many letters are open."""
        with DeadLetters(self.kafka) as letters:
            return sum(end - first for spans in letters.waiting().values() for first, end in spans)


def letter(reason: str = "schema", age_hours: int = 0, **place: Any) -> DeadLetter:
    """A dead letter about a record or a mail."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=age_hours)
    return DeadLetter(reason=reason, detail="data.x: wrong", service="matcher", service_version="0", at=at, **place)


def of_record(offset: int, reason: str = "schema", value: str | None = "e30=", age_hours: int = 0) -> DeadLetter:
    """A dead letter with a copy of its record."""
    return letter(reason, age_hours, topic=SENT, partition=1, offset=offset, value=value)


@contextmanager
def operator_room(
    dsn: str, bootstrap_servers: str, serve_console: Callable[..., AbstractContextManager[ServedPages]]
) -> Iterator[OperatorRoom]:
    """Two companies, no dead letter, and a console that `serve_console(settings)` starts."""
    kafka = kafka_settings(bootstrap_servers)
    create_topics(kafka)
    with connect(dsn, "tests") as owner, serve_console(KAFKA__PARTITIONS=str(PARTITIONS)) as console:
        seed(owner, ("default",))
        yield OperatorRoom(console, dsn, owner, kafka, staff_browser(console, dsn, "operator"))


@pytest.fixture
def room(console_dsn: str, dsn: str, topics_gone: str) -> Iterator[OperatorRoom]:
    with operator_room(dsn, topics_gone, partial(console_in_thread, topics_gone, console_dsn)) as made_room:
        yield made_room
