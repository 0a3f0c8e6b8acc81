"""After units are archived, every number, correction and explanation equals that of a twin whose units all stay.

The archived company and its twin get the same facts through the statements that merge records, and are judged together, day by day, at
the instants of a simulated clock.
"""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pyarrow
import pyarrow.parquet
import pytest
from msgspec.structs import replace as replace_fields
from psycopg.rows import dict_row

from services.aggregator.archive import archiver, files, restore
from services.aggregator.archive.archiver import Archiver, warn_without_folder
from services.aggregator.archive.files import ArchiveFolder, ArchiveUnreadable, ArchiveUnusable
from services.aggregator.archive.holdings import archived_replies
from services.aggregator.explain import explain_inquiry
from services.aggregator.explanation_sentences import sentences
from services.aggregator.ingest.ledger import Ledger
from services.aggregator.judge import rules
from services.aggregator.refresh import recompute, refresh
from services.aggregator.refresh.quarantine import JudgementFailed
from services.aggregator.refresh.refresh import Refresher
from services.aggregator.texts import Texts
from services.common.events import CompanyErased, HashedBuyer, InquiryReplies, ReplyFact, StatusFact
from services.common.lifecycle import Stop
from services.common.postgres import Statements, connect
from services.common.topics import REPLIES
from services.registry import storage

DEFAULT = rules.load_builtin("default")
SHORT: dict[str, Any] = {"window_days": 4, "settle_days": 1, "max_settle_days": 2}
RULES = [
    replace_fields(DEFAULT, name="buyer-day", **SHORT),
    replace_fields(rules.load_builtin("airbnb"), name="thread", small_sample=rules.SmallSample("widen", 3, 9), **SHORT),
    replace_fields(
        rules.load_builtin("etsy"), name="deadline", attribution="responder", time_zone="Asia/Kathmandu", **SHORT
    ),
]
ADDED = replace_fields(DEFAULT, name="added", unit="each-inquiry", time_zone="UTC", **SHORT)
BEGIN = datetime(2026, 3, 2, 5, tzinfo=UTC)
DAY = timedelta(days=1)
KEEP_DAYS = 20
ARCHIVED, TWIN = "c1", "c2"
COMPANIES = (ARCHIVED, TWIN)
COMPARED = {
    "rates": "SELECT * FROM report_v1.reply_rate_history WHERE company_id = %s ORDER BY rule_set, account_id, as_of, valid_from",
    "corrections": "SELECT * FROM report_v1.corrections WHERE company_id = %s ORDER BY rule_set, account_id, as_of, column_name, changed_at",
    "days": "SELECT * FROM report_v1.reply_daily WHERE company_id = %s ORDER BY rule_set, level, account_id, day",
    "settled": "SELECT * FROM ledger.settled WHERE company_id = %s ORDER BY rule_set",
}


@dataclass(slots=True)
class Simulation:
    """Two companies with the same facts, of which the first is archived."""

    connection: psycopg.Connection
    folder: ArchiveFolder
    chance: random.Random
    refresher: Refresher
    archiver: Archiver
    now: datetime = BEGIN
    received: dict[str, datetime] = field(default_factory=dict)
    archived_seen: set[str] = field(default_factory=set)
    restored: int = 0

    def merge(self, *events: Callable[[str], InquiryReplies | CompanyErased]) -> None:
        """Merge records, each for both companies."""
        ledger = Ledger(self.connection, REPLIES)
        (owned,) = ledger.take([0])
        records = [event(company_id) for event in events for company_id in COMPANIES]
        ledger.merge(owned, owned.next_offset + len(records), records)

    def receive(self, received_at: datetime, inquiry_id: str | None = None) -> None:
        """An inquiry; one that is published again has the same id and perhaps another account, time and thread."""
        chance = self.chance
        number = inquiry_id or f"i{len(self.received):04d}"
        self.received.setdefault(number, received_at)
        account, buyer, thread = (
            chance.choice("ab"),
            f"b{chance.randrange(6)}",
            chance.choice([None, None, f"t{chance.randrange(40)}"]),
        )
        facts_id = f"{chance.randrange(16**8):032x}"
        self.merge(
            lambda company_id: InquiryReplies(
                company_id=company_id, inquiry_id=number, account_id=account, received_at=received_at,
                buyer=HashedBuyer(id=buyer, region=None), thread_id=thread, channel="inquiry", facts_id=facts_id,
            )
        )  # fmt: skip

    def answer(self, inquiry_id: str, at: datetime) -> None:
        """A reply by mail or through the platform, or a status."""
        chance = self.chance
        statuses: tuple[StatusFact, ...] = ()
        replies: tuple[ReplyFact, ...] = ()
        if chance.random() < 0.25:
            status: Any = chance.choice(["declined", "spam", "spam-undone", "withdrawn", "reassigned"])
            statuses = (
                StatusFact(status=status, at=at, account_id=chance.choice("abd") if status == "reassigned" else None),
            )
        elif chance.random() < 0.3:
            replies = (
                ReplyFact(
                    reply_id=f"p{chance.randrange(10**6)}", source="platform", account_id=chance.choice("abe"), replied_at=at,
                    kind=chance.choice(["human", "automatic"]), matched_by="platform",
                ),
            )  # fmt: skip
        else:
            replies = (
                ReplyFact(
                    reply_id=f"{chance.randrange(16**8):032x}", source="mail", account_id="a", mailbox_id="m1", replied_at=at,
                    evidence="verified", kind=chance.choice(["human", "human", "automatic"]), matched_by="in-reply-to",
                ),
            )  # fmt: skip
        self.merge(
            lambda company_id: InquiryReplies(
                company_id=company_id, inquiry_id=inquiry_id, statuses=statuses, replies=replies
            )
        )

    def cover(self, connected_at: datetime, from_at: datetime | None, through_at: datetime | None) -> None:
        """A row of coverage, a while after the one before: its id shows that everything before it was committed."""
        for company_id in COMPANIES:
            self.connection.execute(
                "SELECT setval(pg_get_serial_sequence('registry.coverage', 'coverage_id'), max(coverage_id) + 1) FROM registry.coverage"
            )
            self.connection.execute(
                "INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at, through_at, recorded_at)"
                " VALUES (%s, 'a', 'm1', %s, %s, %s, %s)",
                (company_id, connected_at, from_at, through_at, self.now - timedelta(seconds=1)),
            )

    def judge(self) -> None:
        """Judge both companies together, as often as the refresh has to restore more."""
        before = self.archived()
        for _ in range(20):
            self.refresher._refresh(8, [])
            if self.value("SELECT count(*) FROM ledger.dirty") == 0:
                break
        while recompute.step(self.connection, archive=self.folder):
            pass
        recompute.publish(self.connection)
        self.restored += len(before - self.archived())

    def archive(self) -> None:
        """Archive everything that is due."""
        while self.archiver.archive_units(self.now) or self.archiver.rewrite_outdated():
            pass
        self.archived_seen |= self.archived()

    def archived(self) -> set[str]:
        """The inquiries that are archived now."""
        return {
            inquiry_id
            for (inquiry_id,) in self.connection.execute("SELECT inquiry_id FROM ledger.archived_inquiries").fetchall()
        }

    def companies_in_files(self) -> set[str]:
        """The companies that any file has, listed or not."""
        return {
            company_id
            for path in self.folder.paths()
            for company_id in pyarrow.parquet.read_table(self.folder.folder / path).column("company_id").to_pylist()
        }

    def value(self, statement: str) -> Any:
        """The only value of a statement."""
        (value,) = self.connection.execute(statement.encode()).fetchone() or (None,)
        return value

    def compare(self) -> None:
        """Every number of the archived company is the twin's."""
        for name, statement in COMPARED.items():
            archived, twin = (self.rows(statement, company_id) for company_id in COMPANIES)
            assert archived == twin, (
                name,
                self.now,
                next(pair for pair in zip(archived, twin, strict=False) if pair[0] != pair[1]),
            )

    def rows(self, statement: str, company_id: str) -> list[dict[str, Any]]:
        """Rows without what differs between two companies."""
        with self.connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(statement.encode(), (company_id,)).fetchall()
        return [
            {name: value for name, value in unit_row.items() if name not in ("company_id", "correction_id")}
            for unit_row in rows
        ]

    def compare_explanations(self, inquiries: list[str], *, without_history: bool = False) -> None:
        """Every explanation is the twin's, except when it was made and when the inquiry was archived."""
        for rule_set in RULES:
            for inquiry_id in inquiries:
                archived, twin = (
                    explain_inquiry(self.connection, rule_set, company_id, inquiry_id, self.folder)
                    for company_id in COMPANIES
                )
                assert twin["archived_at"] is None and twin["outcome"] != "unknown"
                for story in (archived, twin):
                    for name in ("company_id", "now", "archived_at", *(["history"] if without_history else [])):
                        del story[name]
                assert archived == twin, (rule_set.name, inquiry_id)


@pytest.fixture
def simulate(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Simulation]]:
    with connect(dsn, "tests") as connection:

        def make(seed: int) -> Simulation:
            folder = ArchiveFolder(tmp_path / "archive")
            archiver_ = Archiver(connection, folder, KEEP_DAYS)
            archiver_.verify()
            simulation = Simulation(
                connection, folder, random.Random(seed), Refresher(connection, RULES, archive=folder), archiver_
            )
            for module in (refresh, recompute):
                monkeypatch.setattr(module, "clock", lambda _: simulation.now)
            for company_id in COMPANIES:
                connection.execute("INSERT INTO registry.companies (company_id) VALUES (%s)", (company_id,))
                for account_id in "ab":
                    connection.execute(
                        "INSERT INTO registry.accounts (company_id, account_id) VALUES (%s, %s)",
                        (company_id, account_id),
                    )
            connection.execute(
                "INSERT INTO ledger.companies (company_id, archive_due_at) VALUES (%s, 'infinity')", (TWIN,)
            )
            simulation.refresher.activate()
            return simulation

        yield make


def run(simulation: Simulation, days: int, late: float) -> None:
    """Days with inquiries, answers and polls; `late`: how often a fact concerns an old inquiry."""
    chance = simulation.chance
    connected_at, from_at = BEGIN - DAY, BEGIN - 30 * DAY
    simulation.cover(connected_at, None, None)
    end = simulation.now + days * DAY
    while simulation.now < end:
        before, simulation.now = simulation.now, simulation.now + chance.choice([1, 1, 2, 3]) * DAY
        seconds = (simulation.now - before).total_seconds()

        for _ in range(chance.randrange(5)):
            simulation.receive(before + timedelta(seconds=chance.uniform(0, seconds)))
            newest = list(simulation.received)[-1]
            if chance.random() < 0.7:
                simulation.answer(
                    newest, simulation.received[newest] + timedelta(hours=chance.choice([1, 20, 24, 30, 50]))
                )
        if simulation.received and chance.random() < late:
            old = chance.choice(list(simulation.received))
            match chance.randrange(5):
                case 0 | 1:
                    simulation.answer(old, before + timedelta(seconds=chance.uniform(0, seconds)))
                case 2:
                    simulation.answer(old, simulation.received[old] + timedelta(hours=chance.choice([2, 30, 100])))
                case 3:
                    simulation.receive(simulation.received[old] + timedelta(hours=chance.choice([-3, 0, 5, 2000])), old)
                case _:
                    simulation.receive(simulation.received[old] + timedelta(minutes=chance.randrange(2000)))
        if chance.random() < late / 4:
            connected_at = simulation.now - timedelta(hours=2)
            from_at = simulation.now - chance.choice([1, 10, 60]) * DAY
            simulation.cover(connected_at, None, None)
        if chance.random() < 0.8:
            simulation.cover(connected_at, from_at, simulation.now - timedelta(minutes=1))
        simulation.judge()
        simulation.archive()
        if chance.random() < 0.2:
            simulation.compare()


@pytest.mark.parametrize(("seed", "late"), [(1, 0.0), (2, 0.1), (3, 0.4)])
def test_numbers_and_explanations_equal_those_of_a_twin(
    simulate: Callable[[int], Simulation], seed: int, late: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Some restores need several transactions.
    monkeypatch.setattr(restore, "MOST_INQUIRIES", 10)
    simulation = simulate(seed)
    run(simulation, 85, late)
    simulation.compare()
    assert (simulation.value("SELECT count(*) FROM report_v1.corrections") > 20) == bool(late)
    archived = sorted(simulation.archived())
    assert len(simulation.archived_seen) > 20
    assert bool(simulation.restored) == bool(late)
    if not late:
        assert (
            simulation.value("SELECT count(*) FROM ledger.inquiries WHERE company_id = 'c1'")
            < len(simulation.received) / 2
        )
    chosen = simulation.chance.sample(archived, min(8, len(archived)))
    simulation.compare_explanations([*chosen, *simulation.chance.sample(list(simulation.received), 6)])


class Killed(BaseException):
    """A process ends here."""


@pytest.fixture
def archived(simulate: Callable[[int], Simulation]) -> Simulation:
    """Two months, of which one is to be archived."""
    simulation = simulate(7)
    chance = simulation.chance
    simulation.cover(BEGIN - DAY, None, None)
    for day in range(70):
        simulation.now = BEGIN + (day + 1) * DAY
        for _ in range(chance.randrange(3) if day < 40 else 0):
            received_at = BEGIN + day * DAY + timedelta(seconds=chance.randrange(80_000))
            simulation.receive(received_at)
            if chance.random() < 0.7:
                simulation.answer(
                    list(simulation.received)[-1], received_at + timedelta(hours=chance.choice([1, 20, 30]))
                )
        if day % 10 == 9:
            simulation.judge()
    simulation.now += DAY
    simulation.judge()
    return simulation


def kill(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, after: bool) -> None:
    """The process ends when it calls this function, or after it."""
    original = getattr(owner, name)

    def killed(*arguments: Any, **options: Any) -> None:
        if after:
            original(*arguments, **options)
        raise Killed

    monkeypatch.setattr(owner, name, killed)


STEPS = [
    (Archiver, "_take", True), (files, "_write_durably", False), (files, "_write_durably", True), (ArchiveFolder, "write", True),
    (Archiver, "_list", False), (Archiver, "_list", True),
]  # fmt: skip


def test_a_kill_at_any_step_loses_nothing(archived: Simulation, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = "SELECT count(*) FROM ledger.inquiries WHERE company_id = 'c1'"
    whole = archived.value(facts)
    for owner, name, after in STEPS:
        with monkeypatch.context() as patch:
            kill(patch, owner, name, after=after)
            with pytest.raises(Killed):
                archived.archive()
        assert (archived.value(facts), archived.archived()) == (whole, set()), (name, after)
        archived.compare()
    left = list(archived.folder.paths())
    with (
        archived.connection.transaction(force_rollback=True),
        connect(dsn, "tests") as other_process,
    ):
        archived.connection.execute("SELECT FROM ledger.archive FOR UPDATE")
        assert Archiver(other_process, archived.folder, KEEP_DAYS).remove_unlisted() == 0
    assert archived.archiver.remove_unlisted() == 0
    monkeypatch.setattr(archiver, "GRACE", -DAY)
    assert archived.archiver.remove_unlisted() == len(left) == 4
    archived.archive()
    assert archived.value(facts) < whole
    assert archived.archiver.remove_unlisted() == 0
    archived.compare()
    # A late reply brings the units back; the file is then written again, or removed.
    first, *_, last = sorted(archived.archived())
    archived.answer(last, archived.now - timedelta(hours=3))
    archived.judge()
    if first in archived.archived():
        with monkeypatch.context() as patch:
            kill(patch, ArchiveFolder, "write", after=True)
            with pytest.raises(Killed):
                archived.archiver.rewrite_outdated()
    while archived.archiver.rewrite_outdated():
        pass
    with monkeypatch.context() as patch:
        kill(patch, ArchiveFolder, "remove", after=True)
        with pytest.raises(Killed):
            archived.archiver.remove_unlisted()
    assert archived.archiver.remove_unlisted() > 0
    listed = {path for (path,) in archived.connection.execute("SELECT path FROM ledger.archive_files").fetchall()}
    assert set(archived.folder.paths()) == listed
    archived.compare()
    archived.compare_explanations(sorted(archived.received))


def test_what_reads_the_archive(archived: Simulation) -> None:
    archived.archive()
    ids = archived.archived()
    table = pyarrow.parquet.read_table(archived.folder.folder)
    assert set(table.column("inquiry_id").to_pylist()) == ids and set(table.column("month").to_pylist()) == {"2026-03"}
    assert table.schema.field("received_at").type == pyarrow.timestamp("us", tz="UTC")

    stored = storage.measure(archived.connection).archive
    assert (stored.files, stored.inquiries, stored.first_month) == (1, len(ids), BEGIN.date().replace(day=1))
    replies = [reply["mailbox_id"] for unit_row in table.to_pylist() for reply in unit_row["replies"]]
    count = archived_replies(archived.connection, archived.folder, ARCHIVED, "m1")
    assert count == replies.count("m1") > 0
    assert archived_replies(archived.connection, None, ARCHIVED, "m1") is None
    assert archived_replies(archived.connection, None, TWIN, "m1") == 0

    inquiry_id = min(ids)
    story = explain_inquiry(archived.connection, RULES[0], ARCHIVED, inquiry_id)
    assert (
        story["outcome"] == "unknown" and "moved to the archive at 2026-" in sentences(story, Texts("explain", "en"))[0]
    )
    assert "归档" in sentences(story, Texts("explain", "zh"))[0]
    assert "`replyrate explain`" in sentences(story, Texts("explain", "en"))[-1]


def test_the_account_of_an_archived_inquiry_is_that_of_its_outcomes(archived: Simulation) -> None:
    archived.archive()
    outcomes = archived.connection.execute(
        "SELECT inquiry_id, min(account_id), max(account_id) FROM report_v1.inquiry_outcomes WHERE company_id = %s"
        " AND inquiry_id = ANY (%s) GROUP BY inquiry_id",
        (TWIN, list(archived.archived())),
    ).fetchall()
    expected = {inquiry_id: first if first == last else None for inquiry_id, first, last in outcomes}
    stored = archived.connection.execute("SELECT inquiry_id, account_id FROM ledger.archived_inquiries").fetchall()
    assert dict(stored) == expected
    # `responder` attributes some to another account than the one that received them.
    assert {"a", "b", None} <= set(expected.values())


def test_a_folder_that_cannot_be_used_stops_nothing_else(
    archived: Simulation, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder is set, but nothing is archived and nothing is to be: it is left alone.
    unused = ArchiveFolder(tmp_path / "unused")
    assert not Archiver(archived.connection, unused, None).verify() and not unused.folder.exists()
    warn_without_folder(archived.connection)
    assert not caplog.records
    # On a database that an earlier release has used, nothing is archived for a day.
    archived.connection.execute("UPDATE ledger.archive SET begins_at = clock_timestamp() + interval '1 hour'")
    assert not archived.archiver.archive_units(archived.now)
    archived.connection.execute("UPDATE ledger.archive SET begins_at = clock_timestamp()")
    archived.archive()

    with pytest.raises(ArchiveUnusable, match="another database"):
        archived.folder.verify("00000000-0000-0000-0000-000000000000")
    with pytest.raises(ArchiveUnusable, match="cannot be written"):
        unused.write(1, BEGIN.date(), [])
    assert not unused.folder.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveUnusable, match="cannot be used"):
        ArchiveFolder(tmp_path / "file").begin("any")
    monkeypatch.setattr(archiver, "GRACE", -DAY)
    volume_away = archived.folder.folder.rename(tmp_path / "away")
    for change in (
        archived.archiver.remove_unlisted, archived.archiver.rewrite_outdated, partial(archived.archiver.archive_units, archived.now)
    ):  # fmt: skip
        with pytest.raises(ArchiveUnusable, match="lacks the files"):
            change()
    # The loop logs it and goes on.
    stop = Stop()
    monkeypatch.setattr(stop, "wait", lambda _: stop.set())
    archived.archiver.run(stop, time.monotonic)
    warn_without_folder(archived.connection)
    assert [record.__dict__["action"] for record in caplog.records] == ["archive-unusable"] * 2
    # An empty folder with the right name is not the archive: nothing is removed.
    volume_away.rename(archived.folder.folder)
    (path,) = archived.folder.paths()
    (archived.folder.folder / path).rename(archived.folder.folder / path.replace(".parquet", ".moved"))
    caplog.clear()
    assert archived.archiver.remove_unlisted() == 0
    assert path in caplog.text and len(list(archived.folder.paths())) == 1


def test_a_file_that_cannot_be_read_stops_the_company_alone(archived: Simulation) -> None:
    archived.archive()
    (path,) = archived.folder.paths()
    content = (archived.folder.folder / path).read_bytes()
    inquiry_id = min(archived.archived())
    archived.answer(inquiry_id, archived.now - timedelta(hours=3))
    before = archived.rows(COMPARED["rates"], ARCHIVED)
    for damaged in (content[:-1], None):
        if damaged is None:
            (archived.folder.folder / path).unlink()
        else:
            (archived.folder.folder / path).write_bytes(damaged)
        with pytest.raises(JudgementFailed, match=r"could not judge c1, c2|could not judge c2, c1") as failure:
            archived.refresher._refresh(8, [])
        assert failure.value.code == "archive-unreadable" and isinstance(failure.value.__cause__, ArchiveUnreadable)
    archived.refresher._refresh(8, [ARCHIVED])
    assert archived.rows(COMPARED["rates"], ARCHIVED) == before
    with pytest.raises(ArchiveUnreadable, match="restore the file"):
        explain_inquiry(archived.connection, RULES[0], ARCHIVED, min(archived.archived()), archived.folder)
    (archived.folder.folder / path).write_bytes(content)
    archived.judge()
    assert inquiry_id not in archived.archived()


def test_new_rule_sets_and_recomputes(archived: Simulation) -> None:
    archived.archive()
    ids = archived.archived()
    # As late as `rules.check_kept` demands: the first rows of a new rule set do not reach archived units.
    archived.now += 40 * DAY
    archived.judge()
    recompute.activate(archived.connection, ADDED)
    archived.judge()
    assert archived.archived() == ids
    rates = COMPARED["rates"].replace("= %s", "= %s AND rule_set = 'added'")
    assert archived.rows(rates, ARCHIVED) == archived.rows(rates, TWIN) != []
    assert recompute.start(archived.connection, RULES[1], (BEGIN + 8 * DAY).date(), (BEGIN + 20 * DAY).date())
    archived.judge()
    assert not archived.archived() and archived.restored == len(ids)
    assert archived.rows(COMPARED["rates"], ARCHIVED) == archived.rows(COMPARED["rates"], TWIN)


def test_an_erase_reaches_the_files(archived: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    archived.archive()
    until = BEGIN + 12 * DAY
    archived.merge(lambda company_id: CompanyErased(company_id=company_id, at=until))
    archived.judge()
    archived.compare()
    # What is younger than that erase is archived again, now of both companies; then one of them is erased completely.
    archived.connection.execute("UPDATE ledger.companies SET archive_due_at = '-infinity'")
    archived.archive()
    assert archived.companies_in_files() == set(COMPANIES)
    archived.merge(lambda company_id: CompanyErased(company_id=ARCHIVED, at=archived.now))
    assert archived.connection.execute("SELECT DISTINCT company_id FROM ledger.archived_inquiries").fetchall() == [
        (TWIN,)
    ]
    archived.archive()
    # The file of before stays for a day.
    assert archived.archiver.remove_unlisted() == 0 and archived.companies_in_files() == set(COMPANIES)
    monkeypatch.setattr(archiver, "GRACE", -DAY)
    archived.archiver.remove_unlisted()
    assert archived.companies_in_files() == {TWIN}
    archived.judge()
    assert archived.rows(COMPARED["rates"], ARCHIVED) == archived.rows(COMPARED["days"], ARCHIVED) == []
    for table in ("archive_parts", "archived_inquiries", "archived_accounts", "archived_days"):
        assert archived.value(f"SELECT count(*) FROM ledger.{table} WHERE company_id = 'c1'") == 0
    archived.merge(lambda company_id: CompanyErased(company_id=TWIN, at=archived.now))
    archived.archive()
    archived.archiver.remove_unlisted()
    assert list(archived.folder.paths()) == []


def test_a_recompute_judges_again_what_is_restored_meanwhile(archived: Simulation) -> None:
    archived.archive()
    archived.now += 40 * DAY
    archived.judge()
    ids = archived.archived()
    assert recompute.start(archived.connection, RULES[0])
    while recompute.step(archived.connection, archive=archived.folder):
        pass
    assert archived.archived() == ids
    late = max(ids)
    archived.answer(late, archived.now - timedelta(hours=3))
    archived.judge()
    assert late not in archived.archived()
    assert archived.value("SELECT count(*) FROM ledger.recomputes") == 0
    archived.compare()


def test_a_company_with_a_new_account_keeps_its_late_facts(archived: Simulation) -> None:
    archived.archive()
    # The days that a new account has judged again do not reach archived units any more.
    archived.now += 40 * DAY
    archived.judge()
    late = max(archived.archived())
    archived.answer(late, archived.now - timedelta(hours=3))
    for company_id in COMPANIES:
        archived.connection.execute(
            "INSERT INTO registry.accounts (company_id, account_id) VALUES (%s, 'z')", (company_id,)
        )
    archived.judge()
    assert late not in archived.archived()
    archived.compare()


def test_what_happens_while_units_are_archived(archived: Simulation, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A recompute starts after the archiver has looked and before it has locked the companies: it gives up.
    def with_a_recompute(statements: Statements, name: str, **values: Any) -> list[dict[str, Any]]:
        if name == "due":
            recompute.start(archived.connection, RULES[0])
        return all_rows(statements, name, **values)

    all_rows = Statements.all
    with monkeypatch.context() as patch:
        patch.setattr(Statements, "all", with_a_recompute)
        assert not archived.archiver.archive_units(archived.now) and archived.archived() == set()
    archived.judge()
    # An inquiry that is published again waits for the transaction of the archiver and is not overlooked.
    with archived.connection.cursor(row_factory=dict_row) as cursor:
        (stored,) = cursor.execute(
            "SELECT * FROM ledger.inquiries WHERE company_id = 'c1' ORDER BY received_at LIMIT 1"
        ).fetchall()
    again = InquiryReplies(
        company_id=ARCHIVED, inquiry_id=stored["inquiry_id"], account_id=stored["account_id"],
        received_at=stored["received_at"], buyer=HashedBuyer(id=stored["buyer_id"], region=stored["buyer_region"]),
        thread_id=stored["thread_id"], channel=stored["channel"], facts_id=stored["facts_id"],
    )  # fmt: skip
    with connect(dsn, "tests") as ingest, ThreadPoolExecutor(1) as pool:
        ledger = Ledger(ingest, REPLIES)
        (owned,) = ledger.take([0])
        with archived.connection.transaction():
            assert archived.archiver.archive_units(archived.now)
            merging = pool.submit(ledger.merge, owned, owned.next_offset + 1, [again])
            until_waiting(archived.connection)
        merging.result(30)
    assert stored["inquiry_id"] in archived.archived()
    assert archived.value("SELECT company_id FROM ledger.dirty") == ARCHIVED
    archived.judge()
    assert stored["inquiry_id"] not in archived.archived()
    archived.compare()
    # A file is written again while another process is about to restore from it: that reads the new one.
    archived.connection.execute("UPDATE ledger.companies SET archive_due_at = '-infinity' WHERE company_id = 'c1'")
    archived.archive()
    assert archived.archived()
    archived.connection.execute("UPDATE ledger.archive_files SET is_outdated = true WHERE superseded_at IS NULL")
    assert recompute.start(archived.connection, RULES[1], (BEGIN + 8 * DAY).date(), (BEGIN + 20 * DAY).date())
    with connect(dsn, "tests") as recomputing, ThreadPoolExecutor(1) as pool:
        with archived.connection.transaction():
            assert archived.archiver.rewrite_outdated()
            step = pool.submit(recompute.step, recomputing, archive=archived.folder)
            until_waiting(archived.connection)
        step.result(30)
    assert not archived.archived()
    archived.judge()
    archived.compare()


def test_an_erase_reaches_units_that_are_restored_meanwhile(archived: Simulation, dsn: str) -> None:
    archived.archive()
    assert recompute.start(archived.connection, RULES[1], (BEGIN + 8 * DAY).date(), (BEGIN + 20 * DAY).date())
    with connect(dsn, "tests") as ingest, ThreadPoolExecutor(1) as pool:
        ledger = Ledger(ingest, REPLIES)
        (owned,) = ledger.take([0])
        with archived.connection.transaction():
            assert recompute.step(archived.connection, archive=archived.folder)
            erase = CompanyErased(company_id=ARCHIVED, at=archived.now)
            merging = pool.submit(ledger.merge, owned, owned.next_offset + 1, [erase])
            until_waiting(archived.connection)
        merging.result(30)
    assert archived.value("SELECT count(*) FROM ledger.inquiries WHERE company_id = 'c1'") == 0
    assert archived.archived() == set()


def until_waiting(connection: psycopg.Connection) -> None:
    """Until a statement waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + 30
    while connection.execute(waiting).fetchone() == (0,):
        assert time.monotonic() < deadline
        time.sleep(0.01)
        connection.execute("SELECT pg_stat_clear_snapshot()")


def test_inquiries_that_stay_are_not_in_the_way_of_others(
    archived: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiver, "MOST_INQUIRIES", 5)
    oldest = list(archived.received)[:7]
    archived.connection.execute("UPDATE ledger.inquiries SET buyer_id = NULL WHERE inquiry_id = ANY (%s)", (oldest,))
    archived.archive()
    assert archived.archived() and not archived.archived() & set(oldest)
