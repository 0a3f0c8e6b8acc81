"""What is saved of each Sent folder: its cursor, the messages published from it (published.py), and counts. SQL is in folder_records.sql.

The caller holds the mailbox's lease and opens the transaction around each write (services/registry/leases.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from psycopg.types.json import Jsonb

from services.common.postgres import ConnectionSource, Statements, load_statements
from services.common.stored_message import MailboxPlace
from services.mail.cursors import Cursor
from services.registry.published import PublishedMessage, PublishedMessages

SQL = load_statements("services.registry", "folder_records.sql")


@dataclass(frozen=True, slots=True)
class Refusal:
    """When the server first refused to show a message for now, and how often it has done so."""

    first_at: datetime
    count: int


@dataclass(frozen=True, slots=True)
class SavedCursor:
    """How far a folder is published. `lower_bound_at`: messages that the scan sees first were sent after this instant."""

    cursor: Cursor
    lower_bound_at: datetime | None
    scan_began_at: datetime | None = None
    scan_below: int | None = None
    """Sequence number below which the scan goes on; None: from the newest message."""
    refused: Mapping[int, Refusal] = field(default_factory=dict)
    """Messages to ask for again, by UID."""


@dataclass(frozen=True, slots=True)
class FolderProgress:
    """What one step of a poll adds to what is known of a folder; it is saved together with the cursor behind it."""

    published: Sequence[PublishedMessage] = ()
    scan_started: bool = False
    messages_scanned: int = 0
    uids_passed: int = 0
    """UIDs that the server assigned since the last poll."""
    uids_found: int = 0
    """Those of them whose messages were present."""


MAX_RETIRED_FOLDERS: Final = 50
"""Cursors of a mailbox that are kept for folders that are gone or renumbered: one that comes back continues where it was."""
NO_PROGRESS: Final = FolderProgress()


class FolderRecords:
    """Cursors, published records and counts of the folders of mailboxes, over one connection.

    `mailbox`: the columns `company_id` and `mailbox_id` that name the mailbox.
    """

    def __init__(self, connection: ConnectionSource) -> None:
        self._sql = Statements(connection, SQL)
        self._published = PublishedMessages(connection)

    def cursor(self, mailbox: Mapping[str, str], folder: bytes) -> SavedCursor | None:
        """The saved cursor of a folder; None when the folder was never read."""
        stored = self._sql.one("cursor", **mailbox, folder=folder)
        if stored is None:
            return None
        return _saved_cursor(stored)

    def published(self, place: MailboxPlace, message_ids: Sequence[str]) -> dict[str, tuple[datetime, bytes]]:
        """(sent_at, record) of those messages that were published before; the record byte for byte."""
        return self._published.records(place, message_ids)

    def save(
        self, mailbox: Mapping[str, str], folder: bytes, saved: SavedCursor, messages: int, progress: FolderProgress
    ) -> None:
        """Save the cursor of a folder and what was published up to it. `messages`: how many messages the folder has."""
        cursor = saved.cursor
        self._sql.run("retire_cursors", **mailbox, folder=folder, uidvalidity=cursor.uidvalidity)
        self._sql.run(
            "save_cursor",
            **mailbox,
            folder=folder,
            uidvalidity=cursor.uidvalidity,
            high=cursor.high,
            scan_down_to=cursor.scan_down_to,
            uidnext=cursor.uidnext,
            recent=list(cursor.recent),
            messages=messages,
            lower_bound_at=saved.lower_bound_at,
            scan_below=saved.scan_below,
            refused=Jsonb(
                {str(uid): [refusal.first_at.isoformat(), refusal.count] for uid, refusal in saved.refused.items()}
            ),
            messages_scanned=progress.messages_scanned,
            scan_started=progress.scan_started,
            uids_passed=progress.uids_passed,
            uids_found=progress.uids_found,
        )
        if progress.scan_started:
            self._sql.run("trim_folders", **mailbox, most=MAX_RETIRED_FOLDERS)
        if progress.published:
            self._save_published(mailbox, folder, progress.published)

    def _save_published(self, mailbox: Mapping[str, str], folder: bytes, published: Sequence[PublishedMessage]) -> None:
        self._published.save(mailbox, published)
        self._sql.run(
            "count_messages",
            **mailbox,
            folder=folder,
            days=[message.sent_at.date() for message in published],
            kinds=[message.kind for message in published],
            suspects=[message.suspect for message in published],
        )

    def set_sent_folders(self, mailbox: Mapping[str, str], folders: Sequence[bytes]) -> None:
        """These are the Sent folders now; cursors of others are kept for a while, the newest ones."""
        self._sql.run("retire_folders", **mailbox, folders=list(folders))
        self._sql.run("trim_folders", **mailbox, most=MAX_RETIRED_FOLDERS)

    def set_unread_folders(self, mailbox: Mapping[str, str], messages: Mapping[bytes, int]) -> None:
        """Folders with the name of a Sent folder that are not read, and how many messages are in each."""
        self._sql.run("save_unread_folders", **mailbox, folders=list(messages), counts=list(messages.values()))


def cursors_of(stored: Sequence[Mapping[str, Any]] | None) -> dict[bytes, SavedCursor]:
    """The cursors that come with a lease (leases.sql, `lease`), by folder."""
    return {
        bytes.fromhex(folder["folder"]): _saved_cursor(
            {**folder, **{name: _instant(folder[name]) for name in ("lower_bound_at", "scan_began_at")}}
        )
        for folder in stored or ()
    }


def _saved_cursor(stored: Mapping[str, Any]) -> SavedCursor:
    cursor = Cursor(
        stored["uidvalidity"],
        stored["high_uid"],
        stored["scan_down_to_uid"],
        stored["uidnext"],
        tuple(stored["recent_uids"]),
    )
    refused = {
        int(uid): Refusal(datetime.fromisoformat(first_at), count)
        for uid, (first_at, count) in stored["refused"].items()
    }
    return SavedCursor(cursor, stored["lower_bound_at"], stored["scan_began_at"], stored["scan_below"], refused)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
