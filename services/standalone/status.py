"""How far an installation has come: its mailboxes, and what is not processed yet."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg.rows import dict_row

from services.common.kafka import Admin, Reader
from services.common.postgres import connect, load_statements
from services.common.settings import Settings
from services.common.topics import INQUIRIES, REPLIES, SENT

SQL: Final = load_statements("services.standalone", "status.sql")


@dataclass(frozen=True, slots=True)
class InstallationStatus:
    """How far an installation has come. Lags are records that are not processed yet."""

    mailboxes: list[dict[str, Any]]
    matcher_lag: int
    aggregator_lag: int
    companies_waiting: int
    inquiries: int
    last_judged_at: datetime | None

    @property
    def settled(self) -> bool:
        """Whether the numbers include every published fact."""
        return not (self.matcher_lag or self.aggregator_lag or self.companies_waiting)


def status(settings: Settings) -> InstallationStatus:
    """The status, read from Kafka and Postgres. TransientError when one does not answer."""
    with connect(settings.postgres.dsn.get_secret_value(), "replyrate-status") as connection:
        with connection.cursor(row_factory=dict_row) as cursor:
            mailboxes = cursor.execute(SQL["mailboxes"]).fetchall()
            progress = cursor.execute(SQL["progress"], {"topic": REPLIES}).fetchone()
    assert progress is not None
    with Admin(settings.kafka, "replyrate-status") as admin:
        committed = admin.committed(settings.matcher.app_id)
    matcher_lag = sum(
        end - max(first, committed.get((topic, partition), 0))
        for topic in (INQUIRIES, SENT)
        for partition, (first, end) in _spans(settings, topic).items()
    )
    merged = dict(progress["merged"] or ())
    aggregator_lag = sum(
        end - max(first, merged.get(partition, 0)) for partition, (first, end) in _spans(settings, REPLIES).items()
    )
    return InstallationStatus(
        mailboxes, matcher_lag, aggregator_lag, progress["waiting"], progress["inquiries"], progress["judged_at"]
    )


def _spans(settings: Settings, topic: str) -> dict[int, tuple[int, int]]:
    """First and next offset of each partition."""
    with Reader(settings.kafka, "replyrate-status", topic) as reader:
        partitions = reader.partitions()
        first_offsets, end_offsets = reader.beginning_offsets(partitions), reader.end_offsets(partitions)
    return {partition: (first_offsets[partition], end_offsets[partition]) for partition in partitions}
