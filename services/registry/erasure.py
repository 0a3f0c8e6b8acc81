"""Erases a company: its rows in the registry at once, and one event that makes matcher and ledger forget it.

1. Delete the rows. A poll of the company that is running finds its lease ended and writes nothing more.
2. Publish company-erased. What such a poll has sent to Kafka was sent before its lease ends, so the event covers the time up
   to that end, and a mail whose Date runs ahead of its filing.

In this order an interrupted run leaves nothing that a second run would not finish.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import psycopg

from services.common import codec
from services.common.errors import ReplyrateError
from services.common.events import CompanyErased
from services.common.kafka import Publisher
from services.common.postgres import Statements, load_statements
from services.common.topics import INQUIRIES
from services.mail.trust import SAVE_TOLERANCE

SQL: Final = load_statements("services.registry", "erasure.sql")
SOURCE: Final = "replyrate/erase"


@dataclass(frozen=True, slots=True)
class ErasedCompany:
    """Deleted rows by table of the registry, and the instant up to which matcher and ledger forget facts."""

    rows: Mapping[str, int]
    at: datetime


def count_rows(connection: psycopg.Connection, company_id: str) -> dict[str, int]:
    """How many rows of a company an erase would delete, by table.

    Only the tables that a person asks about: rows of the other ones depend on these and are deleted with them.
    """
    counts = Statements(connection, SQL).one("count_rows", company_id=company_id)
    assert counts is not None
    return dict(counts)


def erase(connection: psycopg.Connection, publisher: Publisher, company_id: str) -> ErasedCompany:
    """Delete the rows of a company, then publish company-erased; may be repeated, also after an interruption.

    TransientError when Postgres or Kafka is away, ReplyrateError when Kafka refuses: what was done by then stays done.
    """
    sql = Statements(connection, SQL)
    with sql.transaction():
        rows = count_rows(connection, company_id)
        forgotten = sql.one("forget_until", company_id=company_id, clock_lead=SAVE_TOLERANCE + timedelta(seconds=1))
        assert forgotten is not None
        at: datetime = forgotten["at"]
        sql.run("erase", company_id=company_id)
    event = CompanyErased(company_id=company_id, at=at)
    value = codec.encode(event, id=f"erase-{codec.instant_text(at)}", source=SOURCE, time=at)
    if publisher.wait([publisher.send(INQUIRIES, company_id.encode(), value)]):
        raise ReplyrateError(
            f"Kafka refuses the event in {INQUIRIES}, so matcher and ledger still have its facts ({company_id}); allow this user to"
            " write there (docs/dashboards.md, Kafka ACLs) and run the same command again"
        )
    return ErasedCompany(rows, at)
