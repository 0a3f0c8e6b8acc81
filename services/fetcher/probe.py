"""The test mail: does the server file what a seller sends?

The seller sends a mail to themselves from the program they answer with. Nobody logs in for it: the mailboxes become due,
the fetchers read them as ever (headers only, within their budgets), and what they publish of a mail to the sender's own
address is recognised by its hash. So the probe needs a fetcher that runs, and sees no more than every poll does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import psycopg
from psycopg.rows import dict_row

from services.common.postgres import load_statements, translate
from services.fetcher.registry import RegistryError

SQL: Final = load_statements("services.fetcher", "probe.sql")
Verdict = Literal["filed", "gone", "others", "not-filed", "not-read"]


@dataclass(frozen=True, slots=True)
class Look:
    """What polls found since the start. `verdict` is `filed` as soon as the own mail is there; the others may change
    while there is time:

    filed: a mail to the sender's own address lies in a watched Sent folder. gone: something was filed and deleted before
    it was read. others: mail was filed, none of it to the own address. not-filed: a poll ended and nothing is new.
    not-read: no poll ended since.
    """

    verdict: Verdict
    mailboxes: tuple[Mapping[str, Any], ...]


class Probe:
    """One test over one connection (autocommit)."""

    def __init__(self, connection: psycopg.Connection, company_id: str, account_id: str | None) -> None:
        """RegistryError when there is no mailbox that is being read."""
        self._connection = connection
        rows = self._all("begin", company_id=company_id, account_id=account_id)
        active = [row for row in rows if row["state"] == "active"]
        if not active:
            who = company_id if account_id is None else f"{company_id}, account {account_id}"
            states = ", ".join(f"{row['mailbox_id']} is {row['state']}" for row in rows) or "none is connected"
            raise RegistryError(
                f"no mailbox of company {who} is being read ({states}); connect one first: replyrate mailbox add"
            )
        self.since: datetime = active[0]["now"]
        self._place = {"company_id": company_id, "mailboxes": [row["mailbox_id"] for row in active]}
        self._gone = {row["mailbox_id"]: row["gone"] for row in active}

    def ask(self) -> None:
        """Let the fetchers read the mailboxes soon."""
        with translate():
            self._connection.execute(SQL["soon"], self._place)

    def look(self) -> Look:
        """What is known by now."""
        rows = self._all("look", **self._place, since=self.since)
        found = tuple({**row, "gone": int(max(0, row["gone"] - self._gone[row["mailbox_id"]]))} for row in rows)
        return Look(verdict(found), found)

    def _all(self, name: str, **values: Any) -> list[dict[str, Any]]:
        with translate(), self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(SQL[name], values).fetchall()


def verdict(mailboxes: Sequence[Mapping[str, Any]]) -> Verdict:
    """What the rows of `look` mean together."""
    if any(one["own"] for one in mailboxes):
        return "filed"
    if any(one["gone"] for one in mailboxes):
        return "gone"
    if any(one["new"] for one in mailboxes):
        return "others"
    # Nothing can be said of a mailbox that was not read: it may hold the mail.
    return "not-filed" if all(one["read"] for one in mailboxes) else "not-read"
