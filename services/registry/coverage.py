"""Coverage: for which time a mailbox is known to be complete, as it was known at every instant that a judgement can ask for.

Each good poll adds a row and deletes the rows that no judgement can need any more (coverage.sql, `thin`), so a mailbox has a
row for each day that ended in a zone of the rule sets, and a few for the present, at any poll interval. docs/decisions/0054
says which instants can be asked for. Every write happens under the lock of the mailbox's row in registry.mailboxes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.common import metrics
from services.common.lifecycle import Stop
from services.common.postgres import ConnectionSource, Statements, load_statements

SQL: Final = load_statements("services.registry", "coverage.sql")
STATEMENTS: Final = {
    "record": SQL["spans_of_polls"] + "\n" + SQL["thin"],
    "compact": SQL["spans_of_mailbox"] + "\n" + SQL["thin"],
    **SQL,
}
MOST_WAITING: Final = 3
"""Rows of a mailbox that stay while they wait to be counted, besides the newest: as many polls as it takes usually, and
more only while the matcher or the aggregator is down."""
MOST_OPEN: Final = 16
"""Rows of a mailbox that nothing supersedes: polls leave fewer, and a poll looks at no more."""
PIECE_ROWS: Final = 5_000
"""Rows that one transaction compacts: some tens of milliseconds for which a poll of the mailbox waits."""
PAGE_MAILBOXES: Final = 500


@dataclass(frozen=True, slots=True)
class PolledSpan:
    """What a good poll shows: everything sent from `from_at` through `through_at` is known."""

    company_id: str
    account_id: str
    mailbox_id: str
    connected_at: datetime
    from_at: datetime
    through_at: datetime


class CoverageRecords:
    """Writes of registry.coverage over one connection (not to be shared by threads) or a pool."""

    def __init__(self, connection: ConnectionSource) -> None:
        self._sql = Statements(connection, STATEMENTS, most_waiting=MOST_WAITING)

    def record(self, spans: Sequence[PolledSpan], recorded_at: datetime | None = None) -> None:
        """Record what polls have shown, in one statement for any number of mailboxes, each of them once.

        To be called in the transaction that has locked the rows of these mailboxes and checked the epochs of their leases.
        `recorded_at`: when it became known, for simulations; otherwise Postgres' clock.
        """
        self._sql.run(
            "record",
            company_ids=[span.company_id for span in spans],
            account_ids=[span.account_id for span in spans],
            mailbox_ids=[span.mailbox_id for span in spans],
            connected_ats=[span.connected_at for span in spans],
            from_ats=[span.from_at for span in spans],
            through_ats=[span.through_at for span in spans],
            recorded_at=recorded_at,
            most=MOST_OPEN,
        )

    def compact(self, stop: Stop) -> Iterator[int]:
        """Delete what releases before migration 0020 have written for each poll; yields the deleted rows of each transaction.

        A mailbox at a time, PIECE_ROWS in a transaction: what is done stays done, and another call continues. A mailbox whose
        poll is ending is left to the next call.
        """
        company_id = mailbox_id = ""
        while not stop.is_set():
            page = self._sql.all(
                "crowded", company_id=company_id, mailbox_id=mailbox_id, most=MOST_OPEN, mailboxes=PAGE_MAILBOXES
            )
            if not page:
                return
            for mailbox in page:
                if mailbox["is_crowded"]:
                    yield from self._compact_mailbox(
                        mailbox["company_id"], mailbox["account_id"], mailbox["mailbox_id"], stop
                    )
            company_id, mailbox_id = page[-1]["company_id"], page[-1]["mailbox_id"]

    def _compact_mailbox(self, company_id: str, account_id: str, mailbox_id: str, stop: Stop) -> Iterator[int]:
        while not stop.is_set():
            with self._sql.transaction():
                if self._sql.one("lock_mailbox", company_id=company_id, mailbox_id=mailbox_id) is None:
                    return
                thinned = self._sql.one(
                    "compact", company_id=company_id, account_id=account_id, mailbox_id=mailbox_id, most=PIECE_ROWS
                )
            assert thinned is not None
            metrics.ROWS_EXPIRED.labels("registry.coverage").inc(thinned["deleted"])
            yield thinned["deleted"]
            if not thinned["deleted"] + thinned["superseded"]:
                return
