"""An inquiry that is archived, as the archiver lists it in the database; its file, which the portal does not read, is missing."""

from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import psycopg

ARCHIVED_AT: Final = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
RECEIVED_AT: Final = datetime(2025, 10, 1, 9, tzinfo=UTC)


def put_archived(owner: psycopg.Connection, company_id: str, account_id: str | None, inquiry_id: str) -> str:
    """List an inquiry as archived; returns its id. `account_id`: None as in rows from before the migration 0054."""
    values = {
        "file_id": uuid4(), "company_id": company_id, "account_id": account_id, "inquiry_id": inquiry_id,
        "received_at": RECEIVED_AT, "archived_at": ARCHIVED_AT,
    }  # fmt: skip
    owner.execute(
        "INSERT INTO ledger.archive_files (file_id, path, company_group, month, schema_version, inquiries, bytes, sha256)"
        " VALUES (%(file_id)s, %(file_id)s, 0, '2025-10-01', 1, 1, 1, 'x')",
        values,
    )
    owner.execute(
        "WITH part AS ("
        "INSERT INTO ledger.archive_parts (file_id, company_id, inquiries, first_received_at, last_received_at, first_fact_at, last_fact_at,"
        " archived_at) VALUES (%(file_id)s, %(company_id)s, 1, %(received_at)s, %(received_at)s, %(received_at)s, %(received_at)s,"
        " %(archived_at)s) RETURNING part_id)"
        " INSERT INTO ledger.archived_inquiries (company_id, inquiry_id, part_id, account_id, received_at)"
        " SELECT %(company_id)s, %(inquiry_id)s, part_id, %(account_id)s, %(received_at)s FROM part",
        values,
    )
    return inquiry_id
