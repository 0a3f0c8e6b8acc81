"""Erase a company: the registry's rows at once, and one event by which matcher and ledger forget it.

The order is such that a crash leaves nothing half done that a second run would not finish: rows first (whoever polls the
company at this moment finds that its lease is gone), then the event. What is on its way to Kafka from such a poll was sent
before its lease ends, so the event reaches up to there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg

from services.common import codec
from services.common.errors import ReplyrateError
from services.common.events import CompanyErased
from services.common.kafka import Publisher
from services.common.postgres import Statements, load_statements
from services.common.topics import INQUIRIES

SQL: Final = load_statements("services.registry", "erasure.sql")
SOURCE: Final = "replyrate/erase"


@dataclass(frozen=True, slots=True)
class ErasedCompany:
    """What was deleted, rows by table of the registry, and the instant up to which facts are forgotten downstream."""

    rows: Mapping[str, int]
    at: datetime


def held(connection: psycopg.Connection, company_id: str) -> dict[str, int]:
    """Rows of the registry, by table, that an erase would delete."""
    row = Statements(connection, SQL).one("held", company_id=company_id)
    assert row is not None
    return dict(row)


def erase(connection: psycopg.Connection, publisher: Publisher, company_id: str) -> ErasedCompany:
    """Delete what the registry holds, then publish company-erased; may be repeated, also when it was interrupted.

    TransientError when Postgres or Kafka are away, ReplyrateError when Kafka refuses: what was done by then stays done.
    """
    sql = Statements(connection, SQL)
    with sql.transaction():
        rows = held(connection, company_id)
        row = sql.one("until", company_id=company_id)
        assert row is not None
        at: datetime = row["at"]
        sql.run("erase", company_id=company_id)
    event = CompanyErased(company_id=company_id, at=at)
    value = codec.encode(event, id=f"erase-{codec.instant_text(at)}", source=SOURCE, time=at)
    if publisher.wait([publisher.send(INQUIRIES, company_id.encode(), value)]):
        raise ReplyrateError(
            f"Kafka refuses the event in {INQUIRIES}, so matcher and ledger still hold {company_id}; allow this user to"
            " write there (docs/dashboards.md, Kafka ACLs) and run the same command again"
        )
    return ErasedCompany(rows, at)
