"""Moves final units that are old enough from Postgres to files of the archive.

One `archive_units`, in one transaction, for some companies of a group and the oldest month of theirs:

1. lock      the archive, so that one process writes at a time, and the companies, so that none is judged meanwhile
2. choose    groups of final units received before the first of the month that is `keep_days` old
3. take      their facts, outcomes and history: DELETE … RETURNING
4. write     a new file, flushed to the disk
5. list      the file, and what stays known of its inquiries; commit

Killed before the commit, the rows are where they were, and the file, which is not listed, is removed by `remove_unlisted`. The
same holds for `rewrite_outdated`, which writes a file again without companies that were erased or restored. The file that this
supersedes stays for a day, for those who have just looked up its path, and for a backup that is copied meanwhile.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from logging import getLogger
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
import psycopg

from services.aggregator.archive.files import ArchiveFile, ArchiveFolder, ArchiveUnreadable, ArchiveUnusable
from services.aggregator.archive.groups import ArchiveCandidate, UnitGroup, day_zones, final_groups
from services.aggregator.archive.unit_rows import (
    NESTED,
    SCHEMA_VERSION,
    Row,
    accounts,
    day_counts,
    fact_instants,
    outcome_account,
    unit_rows,
)
from services.aggregator.judge import rules
from services.aggregator.judge.rules import RuleSet
from services.common.lifecycle import Stop
from services.common.postgres import Statements, clock, load_statements

log = getLogger(__name__)

SQL: Final = load_statements("services.aggregator.archive", "archiver.sql")
MOST_COMPANIES: Final = 64
"""How many companies one transaction looks at."""
MOST_INQUIRIES: Final = 20_000
"""How many inquiries of a company one transaction looks at, and about how many it archives."""
FIRST: Final = datetime.min.replace(tzinfo=UTC)
PAUSE_SECONDS: Final = 60.0
UNUSABLE_SECONDS: Final = 300.0
"""How long to wait when the folder cannot be used."""
CLEAN_SECONDS: Final = 3600.0
GRACE: Final = timedelta(days=1)
"""How long files stay that do not count (any more)."""
MOST_NAMED: Final = 20
"""How many missing files the log names."""
UNJUDGED_RETRY: Final = timedelta(hours=1)
"""How long to wait before a company whose facts are not judged yet is considered again."""


class _ArchivableGroups(NamedTuple):
    """The groups of a company that can be archived."""

    company_id: str
    groups: list[UnitGroup]


class Archiver:
    """The archive of one database over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, folder: ArchiveFolder, keep_days: int | None) -> None:
        """`keep_days`: how long units stay in Postgres; None: nothing more is archived."""
        self._connection = connection
        self._sql = Statements(connection, SQL)
        self._folder = folder
        self._keep_days = keep_days
        self._unreadable: set[UUID] = set()

    def verify(self) -> bool:
        """ArchiveUnusable when the folder is not that of this database. The folder of a database without files becomes it; False
        if it is not even needed: nothing was archived and nothing is to be."""
        identity = self._sql.one("identity")
        assert identity is not None
        if not identity["has_files"]:
            if self._keep_days is None:
                return False
            self._folder.begin(identity["archive_id"])
        self._folder.verify(identity["archive_id"])
        return True

    def run(self, stop: Stop, monotonic: Any) -> None:
        """Archive, rewrite and clean until `stop` is set. TransientError when Postgres is away.

        A folder that cannot be used is logged and tried again: refreshes go on without it.
        """
        clean_after = monotonic()
        while not stop.is_set():
            try:
                if not self.verify():
                    stop.wait(PAUSE_SECONDS)
                    continue
                if monotonic() >= clean_after:
                    self._unreadable.clear()
                    self.remove_unlisted()
                    clean_after = monotonic() + CLEAN_SECONDS
                if not self.rewrite_outdated() and not self.archive_units(clock(self._connection)):
                    stop.wait(PAUSE_SECONDS)
            except ArchiveUnusable as error:
                log.error("%s", error, extra={"action": "archive-unusable"})
                stop.wait(UNUSABLE_SECONDS)

    def archive_units(self, now: datetime) -> bool:
        """One transaction of the steps above; False when nothing was due or another process is writing."""
        if self._keep_days is None:
            return False
        with self._sql.transaction():
            if not self._lock() or not self._may_archive():
                return False
            rule_sets = self._active_rule_sets()
            group = self._sql.one("due_group", now=now)
            if group is None or not rule_sets:
                return False
            company_group = group["company_group"]
            due = self._sql.all("due", now=now, company_group=company_group, most=MOST_COMPANIES)
            # Only now is it certain that the companies were judged by these rule sets, and that no recompute has judged them.
            if not due or not self._may_archive() or rule_sets != self._active_rule_sets():
                return False
            ready = [company for company in due if company["judged_at"] is not None and not company["is_dirty"]]
            if waiting := [company["company_id"] for company in due if company not in ready]:
                self._sql.run("look_again", companies=waiting, due_at=now + UNJUDGED_RETRY)
            received_before = first_of_month(now - timedelta(days=self._keep_days))
            companies = [self._groups_of_company(company, rule_sets, received_before) for company in ready]
            done = self._archive_month(companies, company_group, now)
            if done:
                next_look = first_of_month(received_before + timedelta(days=32)) + timedelta(days=self._keep_days)
                self._sql.run("look_again", companies=done, due_at=next_look)
        return True

    def rewrite_outdated(self) -> bool:
        """Write a file again without what is no longer archived; False when there is none or another process is writing.

        One that cannot be read is logged and tried again after an hour.
        """
        with self._sql.transaction():
            if not self._lock():
                return False
            outdated = self._sql.one("outdated_file", unreadable=list(self._unreadable))
            if outdated is None:
                return False
            companies = [part["company_id"] for part in self._sql.all("parts_of_file", file_id=outdated["file_id"])]
            if companies:
                try:
                    rows = self._folder.read(outdated["path"], outdated["sha256"], companies)
                except ArchiveUnreadable as error:
                    log.error("%s", error, extra={"action": "archive-unreadable"})
                    self._unreadable.add(outdated["file_id"])
                    return True
                new_file = self._write(outdated["company_group"], outdated["month"], rows)
                self._sql.run("move_parts", file_id=outdated["file_id"], new_file_id=new_file.file_id)
            self._sql.run("supersede_file", file_id=outdated["file_id"])
        return True

    def remove_unlisted(self) -> int:
        """Remove files that have not counted for GRACE: superseded, or left by killed processes. Returns how many.

        0 if another process is writing, or while a file that counts is missing: then it may be the wrong folder.
        """
        with self._sql.transaction():
            if not self._lock():
                return 0
            before = clock(self._connection) - GRACE
            paths = set(self._folder.paths())
            listed = self._sql.all("listed")
            if missing := sorted(file["path"] for file in listed if file["counts"] and file["path"] not in paths):
                log.error(
                    "files of the archive are missing in %s; restore them from the backup: %s",
                    self._folder.folder,
                    ", ".join(missing[:MOST_NAMED]),
                    extra={"action": "archive-incomplete", "count": len(missing)},
                )
                return 0
            superseded = [file["path"] for file in self._sql.all("remove_superseded", before=before)]
            unlisted = paths - {file["path"] for file in listed}
            removed = superseded + [
                path for path in sorted(unlisted) if (at := self._folder.written_at(path)) is not None and at <= before
            ]
            for path in removed:
                self._folder.remove(path)
        if removed:
            log.info("removed unlisted files", extra={"action": "archive-cleaned", "count": len(removed)})
        return len(removed)

    def _lock(self) -> bool:
        """Whether this process may write now: no other one does, and the folder is that of this database."""
        archive = self._sql.one("lock")
        if archive is None:
            return False
        self._folder.verify(archive["archive_id"])
        return True

    def _may_archive(self) -> bool:
        begun, recomputes = self._sql.one("begin"), self._sql.one("unfinished")
        assert begun is not None and recomputes is not None
        return bool(begun["may_begin"] and not recomputes["unfinished"])

    def _active_rule_sets(self) -> list[RuleSet]:
        return [rules.stored(stored["parameters"]) for stored in self._sql.all("active_rule_sets")]

    def _groups_of_company(
        self, company: Mapping[str, Any], rule_sets: Sequence[RuleSet], received_before: datetime
    ) -> _ArchivableGroups:
        """The groups of the oldest inquiries; of more of them while these have no group, so that no number of them is in the way."""
        company_id = company["company_id"]
        oldest: list[Row] = []
        while True:
            last = oldest[-1] if oldest else {"received_at": FIRST, "inquiry_id": ""}
            page = self._sql.all(
                "candidates", company_id=company_id, judged_at=company["judged_at"], received_before=received_before,
                after_received_at=last["received_at"], after_inquiry_id=last["inquiry_id"], most=MOST_INQUIRIES,
                rule_sets=[rule_set.name for rule_set in rule_sets], identities=[rule_set.identity for rule_set in rule_sets],
            )  # fmt: skip
            oldest += page
            groups = self._groups(company_id, oldest, rule_sets) if page else []
            if groups or len(page) < MOST_INQUIRIES:
                return _ArchivableGroups(company_id, groups)

    def _groups(self, company_id: str, oldest: Sequence[Row], rule_sets: Sequence[RuleSet]) -> list[UnitGroup]:
        threads = {
            (inquiry["buyer_id"], inquiry["thread_id"])
            for inquiry in oldest
            if inquiry["buyer_id"] is not None and inquiry["thread_id"] is not None
        }
        buyers, thread_ids = zip(*sorted(threads), strict=True) if threads else ((), ())
        younger = self._sql.all(
            "later_mates", company_id=company_id, last_received_at=oldest[-1]["received_at"], last_inquiry_id=oldest[-1]["inquiry_id"],
            buyers=list(buyers), threads=list(thread_ids),
        )  # fmt: skip
        candidates = [ArchiveCandidate(**inquiry) for inquiry in oldest]
        candidates += [ArchiveCandidate(**inquiry, is_final=False) for inquiry in younger]
        return final_groups(candidates, day_zones(rule_sets))

    def _archive_month(self, companies: Sequence[_ArchivableGroups], company_group: int, now: datetime) -> list[str]:
        """Archive the groups of the oldest month, up to about MOST_INQUIRIES; returns the companies with nothing left."""
        done = [company.company_id for company in companies if not company.groups]
        month = min((company.groups[0].month for company in companies if company.groups), default=None)
        if month is None:
            return done
        rows: list[Row] = []
        for company in companies:
            chosen: list[str] = []
            for group in company.groups:
                if group.month == month and (len(rows) + len(chosen) < MOST_INQUIRIES):
                    chosen += group.inquiry_ids
            if chosen:
                rows += self._take(company.company_id, chosen)
        if rows:
            rows.sort(key=lambda unit_row: unit_row["company_id"])
            file = self._write(company_group, month, rows)
            for company_id, of_company in groupby(rows, key=lambda unit_row: unit_row["company_id"]):
                self._list(file, company_id, list(of_company), now)
            log.info(
                "archived units",
                extra={
                    "action": "units-archived",
                    "inquiries": len(rows),
                    "bytes": file.bytes,
                    "month": f"{month:%Y-%m}",
                },
            )
        return done

    def _take(self, company_id: str, inquiries: Sequence[str]) -> list[Row]:
        rule_sets = [stored["name"] for stored in self._sql.all("stored_rule_sets")]
        key = {"company_id": company_id, "inquiries": list(inquiries)}
        return unit_rows(
            {name: self._sql.all(f"take_{name}", **key, rule_sets=rule_sets) for name in ("inquiries", *NESTED)}
        )

    def _write(self, company_group: int, month: Any, rows: Sequence[Row]) -> ArchiveFile:
        file = self._folder.write(company_group, month, rows)
        self._sql.run(
            "add_file", file_id=file.file_id, path=file.path, company_group=company_group, month=month,
            schema_version=SCHEMA_VERSION, inquiries=len(rows), bytes=file.bytes, sha256=file.sha256,
        )  # fmt: skip
        return file

    def _list(self, file: ArchiveFile, company_id: str, rows: Sequence[Row], now: datetime) -> None:
        received, facts, named = [unit_row["received_at"] for unit_row in rows], fact_instants(rows), accounts(rows)
        part = self._sql.one(
            "add_part", file_id=file.file_id, company_id=company_id, count=len(rows), first_received_at=min(received),
            last_received_at=max(received), first_fact_at=min(facts), last_fact_at=max(facts), now=now,
        )  # fmt: skip
        assert part is not None
        self._sql.run(
            "add_archived", company_id=company_id, part_id=part["part_id"],
            inquiry_ids=[unit_row["inquiry_id"] for unit_row in rows], received_ats=received,
            outcome_accounts=[outcome_account(unit_row) for unit_row in rows],
            buyer_ids=[unit_row["buyer_id"] for unit_row in rows], thread_ids=[unit_row["thread_id"] for unit_row in rows],
            account_ids=[account.account_id for account in named], named_ats=[account.named_at for account in named],
            days=msgspec.json.encode(day_counts(rows)).decode(),
        )  # fmt: skip


def warn_without_folder(connection: psycopg.Connection) -> None:
    """Log an error when units are archived and this process has no folder of the archive."""
    identity = Statements(connection, SQL).one("identity")
    if identity is not None and identity["has_files"]:
        log.error(
            "units are archived and REPLYRATE_AGGREGATOR__ARCHIVE_DIR is not set: erases do not reach the files, and companies"
            " whose archived units are needed are not judged; set it to the folder of the archive",
            extra={"action": "archive-unusable"},
        )


def first_of_month(at: datetime) -> datetime:
    """The first instant of the UTC month of an instant."""
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
