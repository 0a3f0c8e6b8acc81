"""How far the pipeline is: the lag of each service and the age of the numbers, as a reader of the database and of Kafka sees it.

The same figures as the aggregators' gauges (monitor.py), for a process that is no aggregator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psycopg

from services.aggregator.judge import watermark
from services.common import health
from services.common.errors import ConfigError
from services.common.kafka import Admin
from services.common.postgres import load_statements, translate
from services.common.topics import DEAD, DEAD_GROUP, INQUIRIES, REPLIES, SENT
from services.dead_letters import progress

SQL: Final = load_statements("services.aggregator", "monitor.sql")
REFRESH: Final = load_statements("services.aggregator.refresh", "refresh.sql")
INPUTS: Final = (INQUIRIES, SENT)


@dataclass(frozen=True, slots=True)
class NumbersState:
    """Ages in seconds: of the slowest watermark, of the last judgement (None before the first), of the longest wait of a company that
    is due by time alone and of one whose facts changed; and how many companies the latter are."""

    pipeline_age: float
    judged_age: float | None
    settle_lag: float
    changed_age: float
    changed_companies: int


@dataclass(frozen=True, slots=True)
class KafkaState:
    """Records that the matcher and the ledger have not read yet, and open dead letters; None: the broker does not show the group."""

    matcher_lag: int | None
    ledger_lag: int
    open_letters: int | None


def numbers(connection: psycopg.Connection) -> NumbersState:
    """What the database knows."""
    with translate():
        judged = connection.execute(SQL["refresh_lag"]).fetchone()
        changed = connection.execute(REFRESH["waiting"]).fetchone()
        pipeline_age = watermark.max_lag_seconds(connection)
    assert judged is not None and changed is not None
    return NumbersState(pipeline_age, judged[0], judged[1], float(changed[1]), changed[0])


def merged_offsets(connection: psycopg.Connection) -> dict[tuple[str, int], int]:
    """How far the ledger has read, by topic and partition; the database knows that."""
    with translate():
        merged = connection.execute(SQL["merged_offsets"], {"topic": REPLIES}).fetchall()
    return {(REPLIES, partition): next_offset for partition, next_offset in merged}


def kafka(merged: Mapping[tuple[str, int], int], admin: Admin, matcher_group: str) -> KafkaState:
    """What the brokers know, compared with `merged_offsets`. TransientError when no broker answers, ConfigError when one refuses."""
    spans = admin.spans((*INPUTS, REPLIES, DEAD))
    of = {topic: {tp: span for tp, span in spans.items() if tp[0] == topic} for topic in (*INPUTS, REPLIES, DEAD)}
    committed, letters = _commits(admin, matcher_group), _commits(admin, DEAD_GROUP)
    matcher_lag = (
        None
        if committed is None
        else sum(
            sum(health.behind(of[topic], {tp: offset for tp, (offset, _) in committed.items()}).values())
            for topic in INPUTS
        )
    )
    open_spans = None if letters is None else progress.open_letters(of[DEAD], letters)
    return KafkaState(
        matcher_lag,
        sum(health.behind(of[REPLIES], merged).values()),
        None if open_spans is None else sum(end - start for runs in open_spans.values() for start, end in runs),
    )


def _commits(admin: Admin, group: str) -> dict[tuple[str, int], tuple[int, str]] | None:
    try:
        return admin.commits(group)
    except ConfigError:
        return None  # access rules hide the group
