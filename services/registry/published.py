"""The messages that were published from mailboxes within the horizon: looked up, saved, and kept by the week. SQL is in published.sql.

A week of `sent_at` is a table of its own, which is dropped as a whole. What a release before the compact form stored is read through the
view `registry.published_records` and moved in pieces; a fetcher of such a release does not know the new rows, so they are written only
once none is left to run: a day after the upgrade (docs/decisions/0064-published-messages-compact.md).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from services.common.events import MessageSent
from services.common.lifecycle import Stop
from services.common.postgres import ConnectionSource, Statements, load_statements
from services.common.stored_message import (
    MailboxPlace,
    StoredMessage,
    event_of,
    record_of,
    sent_event,
    stored_message,
)

SQL: Final = load_statements("services.registry", "published.sql")
PIECE_ROWS: Final = 1_000
"""Rows of an earlier release that are moved in one transaction."""


@dataclass(frozen=True, slots=True)
class PublishedMessage:
    """A message that was published for the first time. `record` is the event as sent, byte for byte."""

    event: MessageSent
    record: bytes

    @property
    def message_id(self) -> str:
        """Its identity."""
        return self.event.message_id

    @property
    def sent_at(self) -> datetime:
        """The time that was given to it."""
        return self.event.sent_at

    @property
    def kind(self) -> str:
        """What kind of mail it is."""
        return self.event.kind

    @property
    def suspect(self) -> bool:
        """Whether its time cannot be trusted."""
        return self.event.evidence == "suspect"


class PublishedMessages:
    """Published messages of all mailboxes, over one connection or a pool."""

    def __init__(self, connection: ConnectionSource) -> None:
        self._sql = Statements(connection, SQL)
        self._is_compact = False

    def records(self, place: MailboxPlace, message_ids: Sequence[str]) -> dict[str, tuple[datetime, bytes]]:
        """(sent_at, record) of those messages of a mailbox that were published before; the record byte for byte."""
        rows = self._sql.all(
            "of_mailbox", company_id=place.company_id, mailbox_id=place.mailbox_id, message_ids=list(message_ids)
        )
        stored = {message.message_id: message for message in map(_stored, rows)}
        return {
            message_id: (stored[message_id].sent_at, record_of(stored[message_id], place))
            for message_id in message_ids
            if message_id in stored
        }

    def since(self, place: MailboxPlace, first_seen: datetime, sent_at: datetime) -> list[MessageSent | None]:
        """Messages of a mailbox that were first seen and sent after these instants; None for one that this release cannot read."""
        rows = self._sql.all(
            "since", company_id=place.company_id, mailbox_id=place.mailbox_id, first_seen=first_seen, sent_at=sent_at
        )
        return [event_of(message, place) for message in map(_stored, rows)]

    def save(self, mailbox: Mapping[str, str], published: Sequence[PublishedMessage]) -> None:
        """Save messages of a mailbox (its `company_id` and `mailbox_id`); none of them was published before."""
        if self._writes_compact():
            self._insert(mailbox, [stored_message(message.event, message.record) for message in published])
            return
        self._sql.run(
            "save_records",
            **mailbox,
            message_ids=[message.message_id for message in published],
            sent_ats=[message.sent_at for message in published],
            records=[message.record for message in published],
        )

    def keep_weeks(self, horizon_days: int) -> int:
        """Create the tables of the weeks that messages may be sent in, and drop those of weeks before the horizon; returns how many
        rows they had, as Postgres estimates them. A table that others read is left to the next call."""
        dropped = self._sql.one("keep_weeks", horizon_days=horizon_days)
        assert dropped is not None
        return int(dropped["rows"])

    def move_records(self, horizon_days: int, stop: Stop) -> Iterator[int]:
        """Move what an earlier release stored into the compact form; yields the rows of each transaction.

        What is done stays done, and another call continues. Ends at once while fetchers of an earlier release may run.
        """
        after = ("", "", "")
        while self._writes_compact() and not stop.is_set():
            company_id, mailbox_id, message_id = after
            with self._sql.transaction():
                rows = self._sql.all(
                    "take_records", company_id=company_id, mailbox_id=mailbox_id, message_id=message_id,
                    horizon_days=horizon_days, most=PIECE_ROWS,
                )  # fmt: skip
                for key, stored in _by_mailbox(rows).items():
                    self._insert({"company_id": key[0], "mailbox_id": key[1]}, stored)
            if not rows:
                return
            yield len(rows)
            after = max((record["company_id"], record["mailbox_id"], record["message_id"]) for record in rows)

    def _insert(self, mailbox: Mapping[str, str], stored: Sequence[StoredMessage]) -> None:
        self._sql.run(
            "save",
            **mailbox,
            message_ids=[message.message_id for message in stored],
            sent_ats=[message.sent_at for message in stored],
            first_seens=[message.first_seen for message in stored],
            records=[message.record for message in stored],
        )

    def _writes_compact(self) -> bool:
        """Whether the compact form is written; once it is, it stays so."""
        if not self._is_compact:
            form = self._sql.one("form")
            self._is_compact = form is not None and form["compact"]
        return self._is_compact


def _by_mailbox(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[StoredMessage]]:
    """Rows of an earlier release in their new form, by company and mailbox."""
    mailboxes: dict[tuple[str, str], list[StoredMessage]] = {}
    for record in rows:
        place = MailboxPlace(record["company_id"], record["account_id"], record["mailbox_id"])
        mailboxes.setdefault((place.company_id, place.mailbox_id), []).append(_moved(_stored(record), place))
    return mailboxes


def _moved(stored: StoredMessage, place: MailboxPlace) -> StoredMessage:
    event = sent_event(stored.record)
    if event is None or (event.message_id, event.sent_at) != (stored.message_id, stored.sent_at):
        return stored
    return stored_message(event, stored.record, place)


def _stored(message: Mapping[str, Any]) -> StoredMessage:
    return StoredMessage(message["message_id"], message["sent_at"], message["first_seen"], bytes(message["record"]))
