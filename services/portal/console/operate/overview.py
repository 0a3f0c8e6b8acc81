"""The overview of operators: what is wrong and where the runbook says what to do, the lag of each service, mailboxes, budgets, recomputes.

Everything is read from the database and from Kafka; no other process is asked.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Depends
from starlette.responses import Response

from services.aggregator import pipeline_state
from services.aggregator.pipeline_state import KafkaState
from services.aggregator.refresh import recompute
from services.common import verify
from services.common.errors import ConfigError, TransientError
from services.common.kafka import Admin
from services.common.postgres import Statements
from services.common.topics import DEAD, INQUIRIES, REPLIES, SENT
from services.portal.console.operate.findings import findings
from services.portal.console.operate.rule_work import SQL
from services.portal.console.staff import Staff, StaffGate
from services.registry import waiting_mailboxes
from services.registry.states import load as load_states

PATH: Final = "/overview"
NAME: Final = "overview"
TOPICS: Final = (INQUIRIES, SENT, REPLIES, DEAD)


def routes(gate: StaffGate) -> APIRouter:
    """The route of the page."""
    router = APIRouter()

    @router.get(PATH)
    def show(staff: Annotated[Staff, Depends(gate.operating_reader)]) -> Response:
        with staff.transaction() as connection:
            statements = Statements(connection, SQL)
            numbers = pipeline_state.numbers(connection)
            mailboxes = waiting_mailboxes.measure(connection)
            budgets, postponed = statements.all("budgets"), statements.all("postponed")
            partitions, recomputes = statements.all("partitions"), recompute.progress(connection)
            merged = pipeline_state.merged_offsets(connection)
        # Without a connection to Postgres: brokers that do not answer take a while.
        kafka, kafka_problems = _kafka(staff, merged)
        return staff.page(
            "console_overview.html", NAME, findings=findings(numbers, kafka, mailboxes, kafka_problems), numbers=numbers,
            kafka=kafka, mailboxes=mailboxes, state_names=load_states().names, budgets=budgets, postponed=postponed,
            partitions=partitions, recomputes=recomputes, docs_url=staff.resources.settings.console.docs_url,
            checked_at=staff.resources.clock(),
        )  # fmt: skip

    return router


def _kafka(staff: Staff, merged: Mapping[tuple[str, int], int]) -> tuple[KafkaState | None, Sequence[str]]:
    """The state of the topics, None when the brokers do not show it; and what is wrong with them or with the access to them."""
    settings = staff.resources.settings
    state = None
    try:
        with Admin(settings.kafka, "replyrate-console") as admin:
            state = pipeline_state.kafka(merged, admin, settings.matcher.app_id)
            problems = admin.check_topics(verify.topics_named(settings.kafka, settings.horizon_days, TOPICS))
    except TransientError:
        return None, ()
    except ConfigError as error:
        return state, error.problems
    return state, problems
