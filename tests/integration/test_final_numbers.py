"""Provisional, final, corrected: what was shown as final changes only with a line that says so, whatever happens."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace as replace_fields
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from services.aggregator.ingest.ledger import Ledger
from services.aggregator.judge import judge, rules
from services.aggregator.judge.judge import Delta
from services.aggregator.refresh import recompute
from services.aggregator.refresh.refresh import Refresher
from services.common.errors import ReplyrateError
from services.common.events import CompanyErased, HashedBuyer, InquiryReplies, ReplyFact, StatusFact
from services.common.postgres import connect
from services.common.topics import REPLIES

PLAIN = rules.load_builtin("first-reply-24h")
DEFAULT = rules.load_builtin("default")
DAY = timedelta(days=1)
NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    with connect(dsn, "tests") as found:
        yield found


def state(
    inquiry_id: str = "one",
    received_at: datetime = NOON,
    replies: tuple[ReplyFact, ...] = (),
    statuses: tuple[StatusFact, ...] = (),
    account_id: str = "a",
) -> InquiryReplies:
    return InquiryReplies(
        company_id="c1", inquiry_id=inquiry_id, account_id=account_id, received_at=received_at,
        buyer=HashedBuyer(id=f"buyer-{inquiry_id}"), channel="inquiry", facts_id=f"{1:032x}", replies=replies,
        statuses=statuses,
    )  # fmt: skip


def mail(at: datetime, reply_id: str = "r") -> ReplyFact:
    return ReplyFact(
        reply_id=reply_id, source="mail", account_id="a", mailbox_id="m1", replied_at=at, evidence="verified", kind="human",
        matched_by="in-reply-to",
    )  # fmt: skip


def tell(connection: psycopg.Connection, *events: InquiryReplies | CompanyErased) -> None:
    ledger = Ledger(connection, REPLIES)
    (owned,) = ledger.take([0])
    ledger.merge(owned, owned.next_offset + len(events), events)


def judged(
    connection: psycopg.Connection,
    now: datetime,
    changed_from: datetime | None = judge.EVERYTHING,
    rule_set: rules.RuleSet = PLAIN,
    cause: str = judge.LATE_FACT,
) -> None:
    with connection.transaction():
        judge.judge_companies(connection, rule_set, {"c1": Delta(changed_from, cause)}, now=now)


def rows(connection: psycopg.Connection, statement: str) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement.encode()).fetchall()


def company_row(connection: psycopg.Connection, as_of: date) -> dict[str, Any]:
    (row,) = rows(connection, f"SELECT * FROM report_v1.reply_rate WHERE level = 'company' AND as_of = '{as_of}'")
    return row


def corrections(connection: psycopg.Connection) -> dict[str, tuple[str | None, str | None, str]]:
    """Of the company level on 11 November: column → (old, new, cause)."""
    found = rows(connection, "SELECT * FROM report_v1.corrections WHERE level = 'company' AND as_of = '2026-11-11'")
    return {row["column_name"]: (row["old_value"], row["new_value"], row["cause"]) for row in found}


def mailbox(
    connection: psycopg.Connection, complete_through: datetime | None, state: str = "active", name: str = "m1"
) -> None:
    connection.execute("INSERT INTO registry.companies VALUES ('c1') ON CONFLICT DO NOTHING")
    connection.execute(
        "INSERT INTO registry.accounts (company_id, account_id) VALUES ('c1', 'a') ON CONFLICT DO NOTHING"
    )
    connection.execute(
        "INSERT INTO registry.mailboxes (company_id, mailbox_id, account_id, role, state, address_masked, address_hash, host,"
        " port, login_hash, consent_by, consent_at, consent_text_version, complete_through)"
        " VALUES ('c1', %(name)s, 'a', 'registered', %(state)s, 'x', 'x', 'x', 993, %(name)s, 'x', now(), '1', %(through)s)"
        " ON CONFLICT (company_id, mailbox_id) DO UPDATE SET state = excluded.state, complete_through = excluded.complete_through",
        {"name": name, "state": state, "through": complete_through},
    )


def cover(connection: psycopg.Connection, from_at: datetime, through_at: datetime, recorded_at: datetime) -> None:
    connection.execute(
        "INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at, through_at, recorded_at)"
        " VALUES ('c1', 'a', 'm1', %s, %s, %s, %s)", (from_at, from_at, through_at, recorded_at),
    )  # fmt: skip


def test_a_late_fact_changes_a_final_row_with_a_correction_for_each_column(connection: psycopg.Connection) -> None:
    tell(connection, state())
    cover(connection, NOON - DAY, NOON + DAY, NOON + DAY)
    judged(connection, NOON + 3 * DAY)
    before = company_row(connection, date(2026, 11, 11))
    assert (before["state"], before["unanswered"], before["rate"]) == ("final", 1, 0)
    assert corrections(connection) == {}
    tell(connection, state(replies=(mail(NOON + timedelta(hours=2)),)))
    judged(connection, NOON + 4 * DAY, NOON + timedelta(hours=2))
    after = company_row(connection, date(2026, 11, 11))
    assert (after["state"], after["timely"], after["rate"]) == ("final", 1, 1)
    found = corrections(connection)
    assert found["timely"] == ("0", "1", "late-fact")
    assert found["unanswered"] == ("1", "0", "late-fact")
    assert found["rate"] == ("0", "1", "late-fact")
    assert found["median_seconds"] == (None, "7200", "late-fact")
    assert set(found) == {
        column for column in before if before[column] != after[column] and column not in ("computed_at", "rule_version")
    }
    history = rows(
        connection,
        "SELECT rate, valid_from, valid_to FROM report_v1.reply_rate_history"
        " WHERE level = 'company' AND as_of = '2026-11-11' ORDER BY valid_from",
    )
    assert [row["rate"] for row in history] == [0, 1]
    assert history[0]["valid_to"] == history[1]["valid_from"] == NOON + 4 * DAY and history[1]["valid_to"] is None


def test_what_happens_after_a_day_changes_no_row_of_it(connection: psycopg.Connection) -> None:
    """A new owner, a spam report, an answer after the row's end: later rows know of it, the final one does not."""
    tell(connection, state())
    judged(connection, NOON + 3 * DAY, rule_set=replace_fields(PLAIN, attribution="current-owner"))
    later = NOON + 2 * DAY
    tell(
        connection,
        state(
            replies=(mail(later),),
            statuses=(
                StatusFact(status="reassigned", at=later, account_id="b"),
                StatusFact(status="spam", at=later),
            ),
        ),
    )
    judged(connection, NOON + 4 * DAY, later, rule_set=replace_fields(PLAIN, attribution="current-owner"))
    assert corrections(connection) == {}
    by_account = rows(
        connection,
        "SELECT as_of, account_id, late FROM report_v1.reply_rate WHERE level = 'account' AND as_of >= '2026-11-11'"
        " ORDER BY as_of, account_id",
    )
    assert [(row["as_of"].day, row["account_id"], row["late"]) for row in by_account if row["late"]] == [
        (12, "b", 1),
        (13, "b", 1),
        (14, "b", 1),
    ]
    outcome = rows(connection, "SELECT account_id, outcome, revision FROM report_v1.inquiry_outcomes")
    assert outcome == [{"account_id": "b", "outcome": "late", "revision": 2}]


def test_a_reassignment_and_an_undone_spam_that_come_late_are_corrected(connection: psycopg.Connection) -> None:
    rule_set = replace_fields(PLAIN, attribution="current-owner", exclude=(rules.Exclusion("spam"),))
    tell(connection, state(statuses=(StatusFact(status="spam", at=NOON + timedelta(hours=1)),)))
    judged(connection, NOON + 3 * DAY, rule_set=rule_set)
    assert company_row(connection, date(2026, 11, 11))["excluded"] == 1
    undone = NOON + timedelta(hours=2)
    tell(
        connection,
        state(
            statuses=(
                StatusFact(status="spam-undone", at=undone),
                StatusFact(status="reassigned", at=undone, account_id="b"),
            )
        ),
    )
    judged(connection, NOON + 5 * DAY, undone, rule_set=rule_set)
    found = corrections(connection)
    assert found["excluded"] == ("1", "0", "late-fact") and found["unmeasured"] == ("0", "1", "late-fact")
    accounts = rows(
        connection,
        "SELECT account_id, inquiries FROM report_v1.reply_rate WHERE level = 'account' AND as_of = '2026-11-11'"
        " ORDER BY account_id",
    )
    assert accounts == [{"account_id": "a", "inquiries": 0}, {"account_id": "b", "inquiries": 1}]


def test_an_outage_delays_what_is_final_and_not_for_ever(connection: psycopg.Connection) -> None:
    rule_set = replace_fields(PLAIN, max_settle_days=3)
    tell(connection, state())
    mailbox(connection, NOON)
    for days, wanted in ((2, "provisional"), (3, "provisional"), (4, "final")):
        judged(connection, NOON + days * DAY, None, rule_set)
        assert company_row(connection, date(2026, 11, 11))["state"] == wanted, days
    mailbox(connection, NOON + 20 * DAY)
    judged(connection, NOON + 5 * DAY, None, rule_set)
    assert company_row(connection, date(2026, 11, 14))["state"] == "final"


def test_final_stays_final_when_another_mailbox_is_connected(connection: psycopg.Connection) -> None:
    tell(connection, state())
    judged(connection, NOON + 3 * DAY)
    assert company_row(connection, date(2026, 11, 12))["state"] == "final"
    mailbox(connection, None)
    judged(connection, NOON + 3 * DAY + timedelta(hours=1))
    assert company_row(connection, date(2026, 11, 12))["state"] == "final"
    outcome = rows(connection, "SELECT state, revision FROM report_v1.inquiry_outcomes")
    assert outcome == [{"state": "final", "revision": 1}]
    judged(connection, NOON + 5 * DAY)
    assert company_row(connection, date(2026, 11, 14))["state"] == "provisional"
    assert corrections(connection) == {}


def test_downtime_over_days_makes_each_missed_row_once(connection: psycopg.Connection) -> None:
    tell(connection, state())
    judged(connection, NOON + timedelta(hours=1))
    judged(connection, NOON + 9 * DAY, None)
    judged(connection, NOON + 9 * DAY + timedelta(hours=1), None)
    found = rows(
        connection,
        "SELECT as_of, count(*) AS versions FROM report_v1.reply_rate_history WHERE level = 'company' GROUP BY as_of ORDER BY as_of",
    )
    assert [(row["as_of"].day, row["versions"]) for row in found] == [(day, 1) for day in range(10, 20)]
    assert rows(connection, "SELECT * FROM report_v1.corrections") == []


def test_an_erase_leaves_a_line_and_no_number(connection: psycopg.Connection) -> None:
    tell(connection, state(), state("two", NOON + 2 * DAY))
    judged(connection, NOON + 3 * DAY)
    tell(connection, state(replies=(mail(NOON + timedelta(hours=2)),)))
    judged(connection, NOON + 4 * DAY, NOON)
    assert corrections(connection)
    connection.execute("INSERT INTO ledger.rule_sets (name, identity, parameters) SELECT %s, %s, %s", (
        PLAIN.name, PLAIN.identity, Jsonb(PLAIN.parameters()),
    ))  # fmt: skip
    tell(connection, CompanyErased(company_id="c1", at=NOON + DAY))
    assert rows(connection, "SELECT DISTINCT cause FROM ledger.dirty WHERE company_id = 'c1' ORDER BY 1")[0] == {
        "cause": "erase"
    }
    settler = Refresher(connection, [])
    while settler.refresh():
        pass
    # Nothing of the first inquiry is left: its days are gone, with a line each; what stays is the second one's.
    found = rows(
        connection, "SELECT column_name, old_value, cause, as_of FROM report_v1.corrections WHERE level = 'company'"
    )
    assert {row["cause"] for row in found} == {"erase"}
    assert {row["old_value"] for row in found} == {None}
    assert {row["as_of"].day for row in found if row["column_name"] == "*"} == {10, 11}
    assert rows(connection, "SELECT inquiry_id FROM report_v1.inquiry_outcomes") == [{"inquiry_id": "two"}]
    history = rows(
        connection, "SELECT min(as_of) AS first, count(*) FILTER (WHERE valid_to IS NOT NULL) AS old FROM ledger.rates"
    )
    assert history[0]["first"] == date(2026, 11, 12)
    tell(connection, CompanyErased(company_id="c1", at=NOON + 30 * DAY))
    while settler.refresh():
        pass
    assert rows(connection, "SELECT * FROM ledger.rates") == []
    assert rows(connection, "SELECT * FROM ledger.outcome_history") == []
    assert {row["column_name"] for row in rows(connection, "SELECT * FROM report_v1.corrections")} == {"*"}


def accounts(connection: psycopg.Connection) -> dict[str, int]:
    """Inquiries by account on 12 November."""
    found = rows(
        connection,
        "SELECT account_id, inquiries FROM report_v1.reply_rate WHERE level = 'account' AND as_of = '2026-11-12'",
    )
    return {row["account_id"]: row["inquiries"] for row in found}


def test_an_account_that_only_erased_facts_named_has_no_row(connection: psycopg.Connection) -> None:
    tell(connection, state(account_id="b"), state("two", NOON + 2 * DAY))
    judged(connection, NOON + 3 * DAY)
    assert accounts(connection) == {"a": 1, "b": 1}
    connection.execute("INSERT INTO ledger.rule_sets (name, identity, parameters) SELECT %s, %s, %s", (
        PLAIN.name, PLAIN.identity, Jsonb(PLAIN.parameters()),
    ))  # fmt: skip
    tell(connection, CompanyErased(company_id="c1", at=NOON + DAY))
    settler = Refresher(connection, [])
    while settler.refresh():
        pass
    assert accounts(connection) == {"a": 1}
    assert rows(connection, "SELECT * FROM report_v1.reply_rate_history WHERE account_id = 'b'") == []
    told = rows(connection, "SELECT DISTINCT cause, column_name FROM report_v1.corrections WHERE account_id = 'b'")
    assert told == [{"cause": "erase", "column_name": "*"}]


def test_an_account_that_an_earlier_record_replaces_has_no_row(connection: psycopg.Connection) -> None:
    """Two records of one inquiry name two receivers: the earlier one's holds, and accounts add up all the while."""
    tell(connection, state(account_id="b"))
    judged(connection, NOON + 3 * DAY)
    assert accounts(connection) == {"b": 1}
    earlier = NOON - timedelta(hours=1)
    tell(connection, state(received_at=earlier))
    judged(connection, NOON + 4 * DAY, earlier)
    assert accounts(connection) == {"a": 1}
    told = rows(
        connection,
        "SELECT cause, column_name FROM report_v1.corrections WHERE account_id = 'b' AND as_of = '2026-11-12'",
    )
    assert told == [{"cause": "late-fact", "column_name": "*"}]
    history = rows(
        connection, "SELECT valid_to FROM report_v1.reply_rate_history WHERE account_id = 'b' AND as_of = '2026-11-12'"
    )
    assert history == [{"valid_to": NOON + 4 * DAY}]


@pytest.mark.parametrize(
    ("changes", "rate"),
    [
        ({"min_coverage": 0.5, "unmeasured": "separate"}, None),
        ({"min_coverage": 0, "unmeasured": "separate"}, None),
        ({"min_coverage": 0, "unmeasured": "unanswered"}, 0),
        ({"min_coverage": 0, "unmeasured": "unanswered", "small_sample": rules.SmallSample("hide", 2)}, None),
    ],
)
def test_a_false_zero_is_never_shown(connection: psycopg.Connection, changes: dict[str, Any], rate: int | None) -> None:
    """One inquiry, no answer, nobody looked: 0 only where the rule set says in so many words that this is unanswered."""
    tell(connection, state())
    judged(connection, NOON + 3 * DAY, rule_set=replace_fields(PLAIN, **changes))
    assert company_row(connection, date(2026, 11, 12))["rate"] == rate


def test_a_fact_told_before_it_happens_counts_when_it_has(connection: psycopg.Connection) -> None:
    tell(connection, state(received_at=NOON + timedelta(hours=3)))
    with connection.transaction():
        found = judge.judge_company(connection, PLAIN, "c1", now=NOON)
    assert rows(connection, "SELECT * FROM report_v1.inquiry_outcomes") == []
    assert found.next_due == {"c1": NOON + timedelta(hours=3)}
    judged(connection, NOON + timedelta(hours=3, microseconds=1))
    assert [row["outcome"] for row in rows(connection, "SELECT outcome FROM report_v1.inquiry_outcomes")] == ["pending"]
    due = rows(connection, "SELECT rule_set, company_id, account_id, inquiry_id, due_at FROM report_v1.due_soon")
    assert due == [
        {
            "rule_set": PLAIN.name, "company_id": "c1", "account_id": "a", "inquiry_id": "one",
            "due_at": NOON + timedelta(hours=27),
        }
    ]  # fmt: skip


def test_a_recompute_is_shown_at_once_and_goes_on_after_a_kill(connection: psycopg.Connection, dsn: str) -> None:
    """A changed rule set: readers see the old version of every company until all of the new one is there."""
    companies = [f"c{number}" for number in range(1, 21)]
    for company_id in companies:
        event = state()
        tell(connection, InquiryReplies(**{name: getattr(event, name) for name in event.__struct_fields__} | {"company_id": company_id}))  # fmt: skip
    settler = Refresher(connection, [PLAIN])
    settler.activate()
    while settler.refresh():
        pass
    versions = "SELECT DISTINCT rule_version FROM report_v1.reply_rate"
    assert rows(connection, versions) == [{"rule_version": PLAIN.identity}]
    changed = replace_fields(PLAIN, version=2, unmeasured="unanswered", min_coverage=0.0)
    assert recompute.activate(connection, changed)
    assert len(recompute.step(connection, 7)) == 7
    # A process dies in the middle of a step: what it had of it is gone, what was done before is not.
    with connect(dsn, "killed") as killed:
        with pytest.raises(psycopg.errors.AdminShutdown):
            with killed.transaction():
                for one in recompute.unfinished(killed):
                    judge_in = {row[0]: Delta() for row in killed.execute(recompute.SQL["lacking"], {"name": PLAIN.name, "most": 3, "aside": []}).fetchall()}  # fmt: skip
                    recompute.judge_in_shadow(killed, one, judge_in, datetime.now(UTC))
                connection.execute("SELECT pg_terminate_backend(%s)", (killed.info.backend_pid,))
                killed.execute("SELECT 1")
    (progress,) = recompute.progress(connection)
    assert (progress["done"], progress["companies"]) == (7, 20)
    assert recompute.finish(connection) == []
    assert rows(connection, versions) == [{"rule_version": PLAIN.identity}]
    # Facts that come meanwhile reach both.
    answered = state(replies=(mail(NOON + timedelta(hours=1)),))
    tell(connection, answered)
    while recompute.step(connection, 7):
        assert rows(connection, versions) == [{"rule_version": PLAIN.identity}]
    settler_again = Refresher(connection, [])
    while settler_again.refresh():
        pass
    assert rows(connection, versions) == [{"rule_version": changed.identity}]
    latest = rows(
        connection,
        "SELECT company_id, rate FROM report_v1.reply_rate WHERE level = 'company' AND as_of = '2026-11-12' ORDER BY company_id",
    )
    assert {row["company_id"]: row["rate"] for row in latest} == {
        company_id: int(company_id == "c1") for company_id in companies
    }
    causes = rows(connection, "SELECT DISTINCT cause FROM report_v1.corrections WHERE company_id <> 'c1'")
    assert causes == [{"cause": "rule-version"}]
    for table in ("rates", "outcomes", "corrections", "settled", "outcome_history"):
        assert rows(connection, f"SELECT * FROM shadow.{table}") == []
    assert rows(connection, "SELECT identity, active FROM ledger.rule_sets") == [
        {"identity": changed.identity, "active": True}
    ]


def test_a_recompute_of_the_same_rules_repairs_and_says_so(connection: psycopg.Connection) -> None:
    tell(connection, state())
    settler = Refresher(connection, [PLAIN])
    settler.activate()
    while settler.refresh():
        pass
    before = rows(connection, "SELECT * FROM ledger.rates ORDER BY as_of, level, account_id")
    assert recompute.begin(connection, PLAIN) and not recompute.begin(connection, PLAIN)
    while settler.refresh():
        pass
    assert rows(connection, "SELECT * FROM ledger.rates ORDER BY as_of, level, account_id") == before
    # Somebody's hand was in the numbers.
    connection.execute(
        "UPDATE ledger.rates SET unmeasured = 7 WHERE as_of IN ('2026-11-11', '2026-11-12') AND level = 'company'"
    )
    assert recompute.begin(connection, PLAIN, date(2026, 11, 11), date(2026, 11, 11))
    while settler.refresh():
        pass
    assert [company_row(connection, date(2026, 11, day))["unmeasured"] for day in (11, 12)] == [1, 7]
    assert corrections(connection) == {"unmeasured": ("7", "1", "recompute")}


def versions(connection: psycopg.Connection) -> list[dict[str, Any]]:
    return rows(connection, "SELECT count(*) FILTER (WHERE valid_to IS NOT NULL) AS old FROM ledger.rates")


def counting(connection: psycopg.Connection, rule_set: rules.RuleSet = PLAIN) -> Refresher:
    settler = Refresher(connection, [rule_set])
    settler.activate()
    while settler.refresh():
        pass
    return settler


def test_an_erase_that_a_recompute_meets_first_keeps_its_lines(connection: psycopg.Connection) -> None:
    tell(connection, state(), state("two", NOON + timedelta(hours=30)))
    settler = counting(connection)
    tell(connection, CompanyErased(company_id="c1", at=NOON + timedelta(hours=1)))
    assert recompute.begin(connection, PLAIN)
    assert len(recompute.step(connection)) == 1 and recompute.finish(connection)
    while settler.refresh():
        pass
    lines = rows(connection, "SELECT column_name, old_value, cause FROM report_v1.corrections WHERE level = 'company'")
    assert {line["cause"] for line in lines} == {"erase"} and {line["old_value"] for line in lines} == {None}
    assert {"*", "inquiries"} <= {line["column_name"] for line in lines}
    assert versions(connection) == [{"old": 0}]


def test_an_erase_leaves_no_version_of_before(connection: psycopg.Connection) -> None:
    tell(connection, state(), state("two", NOON + timedelta(hours=30)))
    settler = counting(connection)
    tell(connection, state("two", NOON + timedelta(hours=30), (mail(NOON + timedelta(hours=31)),)))
    while settler.refresh():
        pass
    assert versions(connection) != [{"old": 0}]
    tell(connection, CompanyErased(company_id="c1", at=NOON + timedelta(hours=1)))
    while settler.refresh():
        pass
    assert versions(connection) == [{"old": 0}]
    assert rows(
        connection, "SELECT DISTINCT inquiries FROM ledger.rates WHERE as_of = '2026-11-12' AND level = 'company'"
    ) == [{"inquiries": 1}]


def test_what_changed_while_a_rule_set_was_off_is_corrected(connection: psycopg.Connection) -> None:
    tell(connection, state())
    settler = counting(connection)
    assert recompute.deactivate(connection, PLAIN.name)
    tell(connection, state(replies=(mail(NOON + timedelta(hours=2)),)))
    while settler.refresh():
        pass
    assert recompute.activate(connection, PLAIN)
    while settler.refresh():
        pass
    assert corrections(connection)["timely"][:2] == ("0", "1")
    today = rows(connection, "SELECT max(as_of) AS as_of FROM ledger.rates WHERE valid_to IS NOT NULL")
    assert today[0]["as_of"] < datetime.now(UTC).date()


def test_a_new_version_is_computed_as_a_whole(connection: psycopg.Connection) -> None:
    tell(connection, state())
    counting(connection)
    changed = replace_fields(PLAIN, version=2, target_seconds=3600)
    assert recompute.activate(connection, changed)
    with pytest.raises(ReplyrateError, match="does not count yet"):
        recompute.begin(connection, changed, date(2026, 11, 11))
    # An aggregator whose settings hold the version of before starts meanwhile, and afterwards.
    assert not recompute.activate(connection, PLAIN, at_start=True)
    settler = Refresher(connection, [PLAIN])
    while settler.refresh():
        pass
    settler.activate()
    assert rows(connection, "SELECT DISTINCT rule_version FROM report_v1.reply_rate") == [
        {"rule_version": changed.identity}
    ]


def test_processes_that_begin_the_same_recompute_at_once_agree(connection: psycopg.Connection, dsn: str) -> None:
    tell(connection, state())
    counting(connection)
    begun: list[bool] = []
    with connect(dsn, "other") as other:
        with connection.transaction():
            assert recompute.begin(connection, PLAIN)
            thread = threading.Thread(target=lambda: begun.append(recompute.begin(other, PLAIN)))
            thread.start()
            until_waiting(dsn)
        thread.join(20)
    assert begun == [False]


def until_waiting(dsn: str) -> None:
    """Return when a session of the test waits for another one's lock."""
    deadline = time.monotonic() + 20
    with connect(dsn, "watch") as watch:
        while watch.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone() == (0,):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_large_company_is_judged_in_portions_with_the_same_result(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [
        state(f"i{number}", NOON + timedelta(hours=number), (mail(NOON + timedelta(hours=number + number % 40)),))
        for number in range(60)
    ]
    tell(connection, *events)
    judged(connection, NOON + 9 * DAY)
    wanted = rows(connection, "SELECT * FROM ledger.rates ORDER BY as_of, level, account_id")
    outcomes = rows(connection, "SELECT * FROM ledger.outcomes ORDER BY inquiry_id")
    connection.execute("TRUNCATE ledger.rates, ledger.outcomes, ledger.settled")
    monkeypatch.setattr(judge, "STATEMENT_ROWS", 100)
    with connection.transaction():
        judge.use_schema(connection, "ledger")
        (span,) = judge.spans(connection, PLAIN, ["c1"], NOON + 9 * DAY)
    assert len([*judge.slices([judge.plan(PLAIN, span, Delta(), NOON + 9 * DAY)])]) > 4
    judged(connection, NOON + 9 * DAY)
    assert rows(connection, "SELECT * FROM ledger.rates ORDER BY as_of, level, account_id") == wanted
    assert rows(connection, "SELECT * FROM ledger.outcomes ORDER BY inquiry_id") == outcomes


def test_an_account_that_is_registered_later_has_its_rows_from_the_first_day_on(connection: psycopg.Connection) -> None:
    tell(connection, state())
    settler = counting(connection)
    connection.execute("INSERT INTO registry.companies VALUES ('c1')")
    connection.execute("INSERT INTO registry.accounts (company_id, account_id) VALUES ('c1', 'z')")
    while settler.refresh():
        pass
    first = rows(
        connection,
        "SELECT account_id, min(as_of) AS first FROM report_v1.reply_rate WHERE level = 'account' GROUP BY 1",
    )
    assert {row["account_id"]: row["first"] for row in first} == {"a": NOON.date(), "z": NOON.date()}
