"""What the archive has of one mailbox, for `privacy show`."""

from typing import Final

import psycopg

from services.aggregator.archive.files import ArchiveFolder
from services.common.postgres import Statements, load_statements

SQL: Final = load_statements("services.aggregator.archive", "holdings.sql")


def archived_replies(
    connection: psycopg.Connection, folder: ArchiveFolder | None, company_id: str, mailbox_id: str
) -> int | None:
    """How many archived replies were sent from a mailbox; None when there are files that this process has no folder for, or this
    user may not read which there are.

    ArchiveUnreadable when a file cannot be read.
    """
    try:
        files = Statements(connection, SQL).all("files", company_id=company_id)
    except psycopg.errors.InsufficientPrivilege:
        return None
    if files and folder is None:
        return None
    return sum(
        1
        for file in files
        for unit_row in (folder.read(file["path"], file["sha256"], [company_id]) if folder else [])
        for reply in unit_row["replies"]
        if reply["mailbox_id"] == mailbox_id
    )
