"""Provisional, final, corrected: a number shown as final changes only together with a correction."""

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
from services.aggregator.judge import judge, plan, rules
from services.aggregator.judge.plan import Delta
from services.aggregator.refresh import recompute
from services.aggregator.refresh.refresh import Refresher
from services.common.errors import ReplyrateError
from services.common.events import CompanyErased, HashedBuyer, InquiryReplies, ReplyFact, StatusFact
from services.common.postgres import connect
from services.common.topics import REPLIES
from tests.support.rates import edit_rates

PLAIN = rules.load_builtin("first-reply-24h")
DEFAULT = rules.load_builtin("default")
DAY = timedelta(days=1)
NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    with connect(dsn, "tests") as connection:
        yield connection


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


def merge(connection: psycopg.Connection, *events: InquiryReplies | CompanyErased) -> None:
    ledger = Ledger(connection, REPLIES)
    (owned,) = ledger.take([0])
    ledger.merge(owned, owned.next_offset + len(events), events)


def judged(
    connection: psycopg.Connection,
    now: datetime,
    changed_from: datetime | None = plan.EVERYTHING,
    rule_set: rules.RuleSet = PLAIN,
    cause: str = plan.LATE_FACT,
) -> None:
    with connection.transaction():
        judge.judge_companies(connection, rule_set, {"c1": Delta(changed_from, cause)}, now=now)


def rows(connection: psycopg.Connection, statement: str) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement.encode()).fetchall()


def company_row(connection: psycopg.Connection, as_of: date) -> dict[str, Any]:
    (rate,) = rows(connection, f"SELECT * FROM report_v1.reply_rate WHERE level = 'company' AND as_of = '{as_of}'")
    return rate


def corrections(connection: psycopg.Connection) -> dict[str, tuple[str | None, str | None, str]]:
    """Corrections at company level for 11 November: column → (old, new, cause)."""
    corrections = rows(
        connection, "SELECT * FROM report_v1.corrections WHERE level = 'company' AND as_of = '2026-11-11'"
    )
    return {
        correction["column_name"]: (correction["old_value"], correction["new_value"], correction["cause"])
        for correction in corrections
    }


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
    merge(connection, state())
    cover(connection, NOON - DAY, NOON + DAY, NOON + DAY)
    judged(connection, NOON + 3 * DAY)
    before = company_row(connection, date(2026, 11, 11))
    assert (before["state"], before["unanswered"], before["rate"]) == ("final", 1, 0)
    assert corrections(connection) == {}
    merge(connection, state(replies=(mail(NOON + timedelta(hours=2)),)))
    judged(connection, NOON + 4 * DAY, NOON + timedelta(hours=2))
    after = company_row(connection, date(2026, 11, 11))
    assert (after["state"], after["timely"], after["rate"]) == ("final", 1, 1)
    recorded = corrections(connection)
    assert recorded["timely"] == ("0", "1", "late-fact")
    assert recorded["unanswered"] == ("1", "0", "late-fact")
    assert recorded["rate"] == ("0", "1", "late-fact")
    assert recorded["median_seconds"] == (None, "7200", "late-fact")
    assert set(recorded) == {
        column for column in before if before[column] != after[column] and column not in ("computed_at", "rule_version")
    }
    history = rows(
        connection,
        "SELECT rate, valid_from, valid_to FROM report_v1.reply_rate_history"
        " WHERE level = 'company' AND as_of = '2026-11-11' ORDER BY valid_from",
    )
    assert [version["rate"] for version in history] == [0, 1]
    assert history[0]["valid_to"] == history[1]["valid_from"] == NOON + 4 * DAY and history[1]["valid_to"] is None


def test_events_after_a_day_do_not_change_its_row(connection: psycopg.Connection) -> None:
    """A new owner, a spam report, an answer after the row's end: later rows include them, the final one does not."""
    merge(connection, state())
    judged(connection, NOON + 3 * DAY, rule_set=replace_fields(PLAIN, attribution="current-owner"))
    later = NOON + 2 * DAY
    merge(
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
    assert [(rate["as_of"].day, rate["account_id"], rate["late"]) for rate in by_account if rate["late"]] == [
        (12, "b", 1),
        (13, "b", 1),
        (14, "b", 1),
    ]
    outcome = rows(connection, "SELECT account_id, outcome, revision FROM report_v1.inquiry_outcomes")
    assert outcome == [{"account_id": "b", "outcome": "late", "revision": 2}]


def test_a_late_reassignment_and_a_late_spam_undone_cause_corrections(connection: psycopg.Connection) -> None:
    rule_set = replace_fields(PLAIN, attribution="current-owner", exclude=(rules.Exclusion("spam"),))
    merge(connection, state(statuses=(StatusFact(status="spam", at=NOON + timedelta(hours=1)),)))
    judged(connection, NOON + 3 * DAY, rule_set=rule_set)
    assert company_row(connection, date(2026, 11, 11))["excluded"] == 1
    undone = NOON + timedelta(hours=2)
    merge(
        connection,
        state(
            statuses=(
                StatusFact(status="spam-undone", at=undone),
                StatusFact(status="reassigned", at=undone, account_id="b"),
            )
        ),
    )
    judged(connection, NOON + 5 * DAY, undone, rule_set=rule_set)
    recorded = corrections(connection)
    assert recorded["excluded"] == ("1", "0", "late-fact") and recorded["unmeasured"] == ("0", "1", "late-fact")
    accounts = rows(
        connection,
        "SELECT account_id, inquiries FROM report_v1.reply_rate WHERE level = 'account' AND as_of = '2026-11-11'"
        " ORDER BY account_id",
    )
    assert accounts == [{"account_id": "a", "inquiries": 0}, {"account_id": "b", "inquiries": 1}]


def test_an_outage_delays_final_rows_but_not_for_ever(connection: psycopg.Connection) -> None:
    rule_set = replace_fields(PLAIN, max_settle_days=3)
    merge(connection, state())
    mailbox(connection, NOON)
    for days, wanted in ((2, "provisional"), (3, "provisional"), (4, "final")):
        judged(connection, NOON + days * DAY, None, rule_set)
        assert company_row(connection, date(2026, 11, 11))["state"] == wanted, days
    mailbox(connection, NOON + 20 * DAY)
    judged(connection, NOON + 5 * DAY, None, rule_set)
    assert company_row(connection, date(2026, 11, 14))["state"] == "final"


def test_a_final_row_stays_final_when_another_mailbox_is_connected(connection: psycopg.Connection) -> None:
    merge(connection, state())
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


def test_each_row_missed_during_downtime_is_made_once(connection: psycopg.Connection) -> None:
    merge(connection, state())
    judged(connection, NOON + timedelta(hours=1))
    judged(connection, NOON + 9 * DAY, None)
    judged(connection, NOON + 9 * DAY + timedelta(hours=1), None)
    versions = rows(
        connection,
        "SELECT as_of, count(*) AS versions FROM report_v1.reply_rate_history WHERE level = 'company' GROUP BY as_of ORDER BY as_of",
    )
    assert [(day["as_of"].day, day["versions"]) for day in versions] == [(day, 1) for day in range(10, 20)]
    assert rows(connection, "SELECT * FROM report_v1.corrections") == []


def test_an_erase_leaves_a_correction_and_no_number(connection: psycopg.Connection) -> None:
    merge(connection, state(), state("two", NOON + 2 * DAY))
    judged(connection, NOON + 3 * DAY)
    merge(connection, state(replies=(mail(NOON + timedelta(hours=2)),)))
    judged(connection, NOON + 4 * DAY, NOON)
    assert corrections(connection)
    connection.execute("INSERT INTO ledger.rule_sets (name, identity, parameters) SELECT %s, %s, %s", (
        PLAIN.name, PLAIN.identity, Jsonb(PLAIN.parameters()),
    ))  # fmt: skip
    merge(connection, CompanyErased(company_id="c1", at=NOON + DAY))
    assert rows(connection, "SELECT DISTINCT cause FROM ledger.dirty WHERE company_id = 'c1' ORDER BY 1")[0] == {
        "cause": "erase"
    }
    refresher = Refresher(connection, [])
    while refresher.refresh():
        pass
    # Nothing of the first inquiry is left: its days are deleted, with a correction each; only the second one's rows remain.
    recorded = rows(
        connection, "SELECT column_name, old_value, cause, as_of FROM report_v1.corrections WHERE level = 'company'"
    )
    assert {correction["cause"] for correction in recorded} == {"erase"}
    assert {correction["old_value"] for correction in recorded} == {None}
    assert {correction["as_of"].day for correction in recorded if correction["column_name"] == "*"} == {10, 11}
    assert rows(connection, "SELECT inquiry_id FROM report_v1.inquiry_outcomes") == [{"inquiry_id": "two"}]
    history = rows(
        connection,
        "SELECT min(as_of) AS first, count(*) FILTER (WHERE valid_to IS NOT NULL) AS old FROM ledger.rate_rows",
    )
    assert history[0]["first"] == date(2026, 11, 12)
    merge(connection, CompanyErased(company_id="c1", at=NOON + 30 * DAY))
    while refresher.refresh():
        pass
    assert rows(connection, "SELECT * FROM ledger.rate_rows") == []
    assert rows(connection, "SELECT * FROM ledger.outcome_history") == []
    assert {correction["column_name"] for correction in rows(connection, "SELECT * FROM report_v1.corrections")} == {
        "*"
    }


def accounts(connection: psycopg.Connection) -> dict[str, int]:
    """Inquiries by account on 12 November."""
    accounts = rows(
        connection,
        "SELECT account_id, inquiries FROM report_v1.reply_rate WHERE level = 'account' AND as_of = '2026-11-12'",
    )
    return {account["account_id"]: account["inquiries"] for account in accounts}


def test_an_account_named_only_by_erased_facts_has_no_row(connection: psycopg.Connection) -> None:
    merge(connection, state(account_id="b"), state("two", NOON + 2 * DAY))
    judged(connection, NOON + 3 * DAY)
    assert accounts(connection) == {"a": 1, "b": 1}
    connection.execute("INSERT INTO ledger.rule_sets (name, identity, parameters) SELECT %s, %s, %s", (
        PLAIN.name, PLAIN.identity, Jsonb(PLAIN.parameters()),
    ))  # fmt: skip
    merge(connection, CompanyErased(company_id="c1", at=NOON + DAY))
    refresher = Refresher(connection, [])
    while refresher.refresh():
        pass
    assert accounts(connection) == {"a": 1}
    assert rows(connection, "SELECT * FROM report_v1.reply_rate_history WHERE account_id = 'b'") == []
    recorded = rows(connection, "SELECT DISTINCT cause, column_name FROM report_v1.corrections WHERE account_id = 'b'")
    assert recorded == [{"cause": "erase", "column_name": "*"}]


def test_an_account_replaced_by_an_earlier_record_has_no_row(connection: psycopg.Connection) -> None:
    """Two records of an inquiry name two receivers: the earlier record decides, and accounts add up at all times."""
    merge(connection, state(account_id="b"))
    judged(connection, NOON + 3 * DAY)
    assert accounts(connection) == {"b": 1}
    earlier = NOON - timedelta(hours=1)
    merge(connection, state(received_at=earlier))
    judged(connection, NOON + 4 * DAY, earlier)
    assert accounts(connection) == {"a": 1}
    recorded = rows(
        connection,
        "SELECT cause, column_name FROM report_v1.corrections WHERE account_id = 'b' AND as_of = '2026-11-12'",
    )
    assert recorded == [{"cause": "late-fact", "column_name": "*"}]
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
    """One inquiry, no answer, no mailbox read: the rate is 0 only if the rule set explicitly counts this as unanswered."""
    merge(connection, state())
    judged(connection, NOON + 3 * DAY, rule_set=replace_fields(PLAIN, **changes))
    assert company_row(connection, date(2026, 11, 12))["rate"] == rate


def test_a_fact_dated_in_the_future_counts_once_it_has_happened(connection: psycopg.Connection) -> None:
    merge(connection, state(received_at=NOON + timedelta(hours=3)))
    with connection.transaction():
        result = judge.judge_companies(connection, PLAIN, {"c1": Delta()}, now=NOON)
    assert rows(connection, "SELECT * FROM report_v1.inquiry_outcomes") == []
    assert result.next_due == {"c1": NOON + timedelta(hours=3)}
    judged(connection, NOON + timedelta(hours=3, microseconds=1))
    assert [outcome["outcome"] for outcome in rows(connection, "SELECT outcome FROM report_v1.inquiry_outcomes")] == [
        "pending"
    ]
    due = rows(connection, "SELECT rule_set, company_id, account_id, inquiry_id, due_at FROM report_v1.due_soon")
    assert due == [
        {
            "rule_set": PLAIN.name, "company_id": "c1", "account_id": "a", "inquiry_id": "one",
            "due_at": NOON + timedelta(hours=27),
        }
    ]  # fmt: skip


def test_a_recompute_is_published_as_a_whole_and_continues_after_a_kill(
    connection: psycopg.Connection, dsn: str
) -> None:
    """A changed rule set: readers see the old version of every company until the new one is complete."""
    companies = [f"c{number}" for number in range(1, 21)]
    for company_id in companies:
        event = state()
        merge(connection, InquiryReplies(**{name: getattr(event, name) for name in event.__struct_fields__} | {"company_id": company_id}))  # fmt: skip
    refresher = Refresher(connection, [PLAIN])
    refresher.activate()
    while refresher.refresh():
        pass
    versions = "SELECT DISTINCT rule_version FROM report_v1.reply_rate"
    assert rows(connection, versions) == [{"rule_version": PLAIN.identity}]
    changed = replace_fields(PLAIN, version=2, unmeasured="unanswered", min_coverage=0.0)
    assert recompute.activate(connection, changed)
    assert len(recompute.step(connection, 7)) == 7
    # A process dies in the middle of a step: this step is lost, earlier ones are not.
    with connect(dsn, "killed") as killed:
        with pytest.raises(psycopg.errors.AdminShutdown):
            with killed.transaction():
                for unfinished in recompute.unfinished(killed):
                    judge_in = {company[0]: Delta() for company in killed.execute(recompute.SQL["remaining"], {"name": PLAIN.name, "most": 3, "quarantined": []}).fetchall()}  # fmt: skip
                    recompute.judge_in_shadow(killed, unfinished, judge_in, datetime.now(UTC))
                connection.execute("SELECT pg_terminate_backend(%s)", (killed.info.backend_pid,))
                killed.execute("SELECT 1")
    (progress,) = recompute.progress(connection)
    assert (progress["done"], progress["companies"]) == (7, 20)
    assert recompute.publish(connection) == []
    assert rows(connection, versions) == [{"rule_version": PLAIN.identity}]
    # Facts that arrive meanwhile reach both schemas.
    answered = state(replies=(mail(NOON + timedelta(hours=1)),))
    merge(connection, answered)
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
    assert {rate["company_id"]: rate["rate"] for rate in latest} == {
        company_id: int(company_id == "c1") for company_id in companies
    }
    causes = rows(connection, "SELECT DISTINCT cause FROM report_v1.corrections WHERE company_id <> 'c1'")
    assert causes == [{"cause": "rule-version"}]
    for table in ("rates", "outcomes", "corrections", "settled", "outcome_history"):
        assert rows(connection, f"SELECT * FROM shadow.{table}") == []
    assert rows(connection, "SELECT identity, active FROM ledger.rule_sets") == [
        {"identity": changed.identity, "active": True}
    ]


def test_a_recompute_with_the_same_rules_repairs_numbers_with_corrections(connection: psycopg.Connection) -> None:
    merge(connection, state())
    refresher = Refresher(connection, [PLAIN])
    refresher.activate()
    while refresher.refresh():
        pass
    before = rows(connection, "SELECT * FROM report_v1.reply_rate_history ORDER BY as_of, level, account_id")
    assert recompute.start(connection, PLAIN) and not recompute.start(connection, PLAIN)
    while refresher.refresh():
        pass
    assert rows(connection, "SELECT * FROM report_v1.reply_rate_history ORDER BY as_of, level, account_id") == before
    # The numbers were edited by hand.
    edit_rates(connection, "unmeasured = 7", "as_of IN ('2026-11-11', '2026-11-12') AND level = 'company'")
    assert recompute.start(connection, PLAIN, date(2026, 11, 11), date(2026, 11, 11))
    while refresher.refresh():
        pass
    assert [company_row(connection, date(2026, 11, day))["unmeasured"] for day in (11, 12)] == [1, 7]
    assert corrections(connection) == {"unmeasured": ("7", "1", "recompute")}


def versions(connection: psycopg.Connection) -> list[dict[str, Any]]:
    return rows(connection, "SELECT count(*) FILTER (WHERE valid_to IS NOT NULL) AS old FROM ledger.rate_rows")


def counting(connection: psycopg.Connection, rule_set: rules.RuleSet = PLAIN) -> Refresher:
    refresher = Refresher(connection, [rule_set])
    refresher.activate()
    while refresher.refresh():
        pass
    return refresher


def test_an_erase_seen_first_by_a_recompute_keeps_its_corrections(connection: psycopg.Connection) -> None:
    merge(connection, state(), state("two", NOON + timedelta(hours=30)))
    refresher = counting(connection)
    merge(connection, CompanyErased(company_id="c1", at=NOON + timedelta(hours=1)))
    assert recompute.start(connection, PLAIN)
    assert len(recompute.step(connection)) == 1 and recompute.publish(connection)
    while refresher.refresh():
        pass
    lines = rows(connection, "SELECT column_name, old_value, cause FROM report_v1.corrections WHERE level = 'company'")
    assert {line["cause"] for line in lines} == {"erase"} and {line["old_value"] for line in lines} == {None}
    assert {"*", "inquiries"} <= {line["column_name"] for line in lines}
    assert versions(connection) == [{"old": 0}]


def test_an_erase_removes_all_earlier_versions(connection: psycopg.Connection) -> None:
    merge(connection, state(), state("two", NOON + timedelta(hours=30)))
    refresher = counting(connection)
    merge(connection, state("two", NOON + timedelta(hours=30), (mail(NOON + timedelta(hours=31)),)))
    while refresher.refresh():
        pass
    assert versions(connection) != [{"old": 0}]
    merge(connection, CompanyErased(company_id="c1", at=NOON + timedelta(hours=1)))
    while refresher.refresh():
        pass
    assert versions(connection) == [{"old": 0}]
    assert rows(
        connection, "SELECT DISTINCT inquiries FROM ledger.rate_rows WHERE as_of = '2026-11-12' AND level = 'company'"
    ) == [{"inquiries": 1}]


def test_changes_while_a_rule_set_was_inactive_are_corrected(connection: psycopg.Connection) -> None:
    merge(connection, state())
    refresher = counting(connection)
    assert recompute.deactivate(connection, PLAIN.name)
    merge(connection, state(replies=(mail(NOON + timedelta(hours=2)),)))
    while refresher.refresh():
        pass
    assert recompute.activate(connection, PLAIN)
    while refresher.refresh():
        pass
    assert corrections(connection)["timely"][:2] == ("0", "1")
    today = rows(connection, "SELECT max(as_of) AS as_of FROM ledger.rate_rows WHERE valid_to IS NOT NULL")
    assert today[0]["as_of"] < datetime.now(UTC).date()


def test_a_new_version_is_computed_as_a_whole(connection: psycopg.Connection) -> None:
    merge(connection, state())
    counting(connection)
    changed = replace_fields(PLAIN, version=2, target_seconds=3600)
    assert recompute.activate(connection, changed)
    with pytest.raises(ReplyrateError, match="is not active yet"):
        recompute.start(connection, changed, date(2026, 11, 11))
    # An aggregator with the previous version in its settings starts meanwhile, and again afterwards.
    assert not recompute.activate(connection, PLAIN, at_start=True)
    refresher = Refresher(connection, [PLAIN])
    while refresher.refresh():
        pass
    refresher.activate()
    assert rows(connection, "SELECT DISTINCT rule_version FROM report_v1.reply_rate") == [
        {"rule_version": changed.identity}
    ]


def test_processes_that_start_the_same_recompute_at_once_agree(connection: psycopg.Connection, dsn: str) -> None:
    merge(connection, state())
    counting(connection)
    begun: list[bool] = []
    with connect(dsn, "other") as second:
        with connection.transaction():
            assert recompute.start(connection, PLAIN)
            thread = threading.Thread(target=lambda: begun.append(recompute.start(second, PLAIN)))
            thread.start()
            until_waiting(dsn)
        thread.join(20)
    assert begun == [False]


@pytest.mark.parametrize(
    ("statement", "has_recompute"),
    [("SELECT FROM ledger.recomputes FOR UPDATE", True), ("UPDATE ledger.rule_sets SET active = active", False)],
    ids=["published", "deactivated"],
)
def test_a_refresh_does_not_wait_for_a_long_publication_or_deactivation(
    connection: psycopg.Connection, dsn: str, statement: str, has_recompute: bool
) -> None:
    """Both may take longer than a statement may wait. The companies stay due, and everything is judged afterwards."""
    merge(connection, state())
    refresher = counting(connection)
    if has_recompute:
        recompute.start(connection, PLAIN)
    merge(connection, state(replies=(mail(NOON + timedelta(hours=1)),)))
    connection.execute("SET lock_timeout = '1s'")  # a statement that waits for a lock fails
    with connect(dsn, "other") as publisher, publisher.transaction():
        publisher.execute(statement.encode())
        refresher.refresh()
        assert rows(connection, "SELECT DISTINCT company_id FROM ledger.dirty") == [{"company_id": "c1"}]
    while refresher.refresh():
        pass
    assert rows(connection, "SELECT FROM ledger.dirty") == [] and recompute.progress(connection) == []
    assert company_row(connection, date(2026, 11, 12))["rate"] == 1


def test_a_recompute_ends_only_as_it_was_named_and_may_take_long(connection: psycopg.Connection) -> None:
    merge(connection, state())
    counting(connection)
    newer, newest = replace_fields(PLAIN, version=2), replace_fields(PLAIN, version=3)
    recompute.start(connection, newer)
    # A large schema `shadow` takes longer to clear than the statements of a page may.
    limit = "SELECT current_setting('statement_timeout') AS limit"
    with connection.transaction():
        assert recompute.request(connection, newest)
        assert rows(connection, limit) == [{"limit": "1h"}]
    assert not recompute.cancel(connection, PLAIN.name, newer.identity)
    assert [progress["identity"] for progress in recompute.progress(connection)] == [newest.identity]
    with connection.transaction():
        assert recompute.cancel(connection, PLAIN.name, newest.identity)
        assert rows(connection, limit) == [{"limit": "1h"}]
    assert not recompute.cancel(connection, PLAIN.name, newest.identity) and recompute.progress(connection) == []
    assert rows(connection, limit) == [{"limit": "2min"}]


def until_waiting(dsn: str) -> None:
    """Return when a session of this test waits for a lock of another."""
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
    merge(connection, *events)
    judged(connection, NOON + 9 * DAY)
    wanted = rows(connection, "SELECT * FROM report_v1.reply_rate_history ORDER BY as_of, level, account_id")
    outcomes = rows(connection, "SELECT * FROM ledger.outcomes ORDER BY inquiry_id")
    connection.execute("TRUNCATE ledger.rate_ranges, ledger.outcomes, ledger.settled")
    monkeypatch.setattr(plan, "STATEMENT_ROWS", 1)
    with connection.transaction():
        judge.use_schema(connection, "ledger")
        (span,) = judge.planning_inputs(connection, PLAIN, ["c1"], NOON + 9 * DAY)
    assert len([*plan.portions([plan.plan_company(PLAIN, span, Delta(), NOON + 9 * DAY)])]) > 1
    judged(connection, NOON + 9 * DAY)
    assert rows(connection, "SELECT * FROM report_v1.reply_rate_history ORDER BY as_of, level, account_id") == wanted
    assert rows(connection, "SELECT * FROM ledger.outcomes ORDER BY inquiry_id") == outcomes


def test_an_account_registered_later_has_rows_from_the_first_day_on(connection: psycopg.Connection) -> None:
    merge(connection, state())
    refresher = counting(connection)
    connection.execute("INSERT INTO registry.companies VALUES ('c1')")
    connection.execute("INSERT INTO registry.accounts (company_id, account_id) VALUES ('c1', 'z')")
    while refresher.refresh():
        pass
    first = rows(
        connection,
        "SELECT account_id, min(as_of) AS first FROM report_v1.reply_rate WHERE level = 'account' GROUP BY 1",
    )
    assert {account["account_id"]: account["first"] for account in first} == {"a": NOON.date(), "z": NOON.date()}
