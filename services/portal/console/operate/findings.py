"""What is wrong with the installation, from its figures: the conditions of the alerts that a reader of the database and of Kafka can
check (deploy/prometheus/alerts.yml). Each has an entry in docs/runbook.md. Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from services.aggregator.pipeline_state import KafkaState, NumbersState
from services.registry.waiting_mailboxes import WaitingMailboxes

Unit = Literal["seconds", "records", "share"]

THRESHOLDS: Final[dict[str, float]] = {
    "ReplyrateMailboxesOverdue": 1800,
    "ReplyratePollsTooOld": 86_400,
    "ReplyrateMailboxesNeedReconnect": 0.1,
    "ReplyrateMatcherLags": 100_000,
    "ReplyrateAggregatorLags": 100_000,
    "ReplyratePipelineStands": 900,
    "ReplyrateDeadLetters": 0,
    "ReplyrateRefreshBehind": 900,
    "ReplyrateSettleBehind": 3600,
}
"""Alert → above which value it is a problem. A test compares them with the rules of Prometheus."""
UNITS: Final[dict[str, Unit]] = {
    "ReplyrateMatcherLags": "records", "ReplyrateAggregatorLags": "records", "ReplyrateDeadLetters": "records",
    "ReplyrateMailboxesNeedReconnect": "share",
}  # fmt: skip
"""Alert → what its value counts, where it is not seconds."""
UNCHECKED: Final = frozenset({
    "ReplyrateServiceMissing", "ReplyrateUnhealthy", "ReplyrateVersionsDiffer", "ReplyrateLoginsFail", "ReplyrateManyRejected",
    "ReplyrateLateFacts", "ReplyrateRerouted", "ReplyrateNothingMatches", "ReplyrateCompanyUnjudged",
})  # fmt: skip
"""Alerts about the metrics of processes, which are neither in the database nor in Kafka. docs/console.md names them."""


@dataclass(frozen=True, slots=True)
class OperatingProblem:
    """A problem: the alert that names it, its value, or what a check says."""

    alert: str
    value: float = 0
    sentences: tuple[str, ...] = ()

    @property
    def unit(self) -> Unit:
        """What the value counts."""
        return UNITS.get(self.alert, "seconds")

    @property
    def runbook(self) -> str:
        """Where its entry is, below the folder of the documentation."""
        return f"runbook.md#{self.alert.lower()}"


def findings(
    numbers: NumbersState, kafka: KafkaState | None, mailboxes: WaitingMailboxes, kafka_problems: Sequence[str]
) -> list[OperatingProblem]:
    """The problems, in the order of the way of a message. `kafka` is None when no broker shows it; `kafka_problems`: what is
    wrong with the topics or with the access to them, and empty when no broker answers."""
    values: dict[str, float | None] = {
        "ReplyrateMailboxesOverdue": mailboxes.delay_seconds,
        "ReplyratePollsTooOld": mailboxes.age_seconds,
        "ReplyrateMailboxesNeedReconnect": _waiting_share(mailboxes),
        "ReplyrateMatcherLags": None if kafka is None else kafka.matcher_lag,
        "ReplyrateAggregatorLags": None if kafka is None else kafka.ledger_lag,
        "ReplyratePipelineStands": numbers.pipeline_age,
        "ReplyrateDeadLetters": None if kafka is None else kafka.open_letters,
        "ReplyrateRefreshBehind": numbers.changed_age,
        "ReplyrateSettleBehind": numbers.settle_lag,
    }
    return [*_of_dependencies(kafka, kafka_problems), *_above(values)]


def _of_dependencies(kafka: KafkaState | None, kafka_problems: Sequence[str]) -> Iterator[OperatingProblem]:
    if kafka_problems:
        yield OperatingProblem("ReplyrateNotReady", sentences=tuple(kafka_problems))
    elif kafka is None:
        yield OperatingProblem("ReplyrateDependencyAway")


def _waiting_share(mailboxes: WaitingMailboxes) -> float | None:
    """The share of mailboxes that their owners have to connect again, of those that should be read; None when there are none."""
    waiting = mailboxes.states.get("needs_reconnect", 0)
    read = waiting + mailboxes.states.get("active", 0)
    return waiting / read if read else None


def _above(values: dict[str, float | None]) -> Iterator[OperatingProblem]:
    for alert, value in values.items():
        if value is not None and value > THRESHOLDS[alert]:
            yield OperatingProblem(alert, value)
