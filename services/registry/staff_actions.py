"""What staff read about people and change in the console, as the audit shows it. SQL is in staff_actions.sql.

An action is noted in the transaction that reads or changes, so neither happens without the other. Who did it follows from the session.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from services.common.errors import TransientError
from services.common.postgres import Statements, load_statements

SQL: Final = load_statements("services.registry", "staff_actions.sql")


class StaffSessionEnded(TransientError):
    """The session of the console is over; what it was doing stops, and can be done in a new session."""

    def __init__(self) -> None:
        super().__init__("the session of the console has ended; sign in and do it again")


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom an action is about; None where it is about no single one."""

    company_id: str | None = None
    account_id: str | None = None
    mailbox_id: str | None = None
    inquiry_id: str | None = None


NOBODY: Final = Subject()


@dataclass(frozen=True, slots=True)
class ActionFilter:
    """Which actions a page has; None: all. `who`: a subject or a name."""

    who: str | None = None
    action: str | None = None
    company_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class StaffActions:
    """Reads and writes registry.staff_actions over one connection; not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._sql = Statements(connection, SQL)

    def note(self, action: str, subject: Subject = NOBODY, /, **detail: Any) -> None:
        """Note an action of the session of this transaction. `detail`: numbers, codes and ids.

        StaffSessionEnded when the session has ended in the meantime, so that nothing is read or changed without a record.
        """
        self._note(
            "note", action=action, company_id=subject.company_id, account_id=subject.account_id,
            mailbox_id=subject.mailbox_id, inquiry_id=subject.inquiry_id, detail=Jsonb(detail),
        )  # fmt: skip

    def note_each(self, action: str, company_ids: Iterable[str], /, **detail: Any) -> None:
        """Note an action that shows something of several companies: once for each, or once without a company when there is none.

        StaffSessionEnded as `note`.
        """
        self._note("note_each", action=action, company_ids=sorted(set(company_ids)) or [None], detail=Jsonb(detail))

    def note_outcome(self, action: str, /, **detail: Any) -> None:
        """Note how something ended that the session began, also after its end. `action` ends in `-done` or `-failed`."""
        self._note("note_outcome", action=action, detail=Jsonb(detail))

    def registered(self, company_ids: Iterable[str]) -> list[str]:
        """Those of some ids that are registered companies."""
        return [company["company_id"] for company in self._sql.all("registered", company_ids=sorted(set(company_ids)))]

    def page(self, wanted: ActionFilter, before: int | None, limit: int) -> list[dict[str, Any]]:
        """At most `limit` actions before one (None: from the newest), the newest first. Only operators see any."""
        self._sql.run("plan_with_values")
        name = "page" if wanted.who is None else "page_of_person"
        return self._sql.all(name, before=before, limit=limit, **asdict(wanted))

    def _note(self, statement: str, **values: Any) -> None:
        noted = self._sql.one(statement, **values)
        if noted is None or not noted["noted"]:
            raise StaffSessionEnded
