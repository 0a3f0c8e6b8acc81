"""Refreshes judge only what can have changed; a full judgement afterwards changes nothing."""

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from services.aggregator.ingest.ledger import Ledger
from services.aggregator.judge import days, judge, plan
from services.aggregator.refresh.refresh import Refresher
from services.common.events import HashedBuyer, InquiryReplies, ReplyFact, StatusFact
from services.common.postgres import connect
from services.common.topics import REPLIES
from services.recount.company import AskedInquiry, CompanyFacts, GivenReply
from tests.integration.test_judge import RULES, random_facts
from tests.support.processes import until

DAY = timedelta(days=1)
STEPS = 5


def shifted(facts: CompanyFacts, by: timedelta) -> CompanyFacts:
    """The same facts at another time."""
    from dataclasses import replace

    return CompanyFacts(
        facts.accounts,
        [replace(inquiry, received_at=inquiry.received_at + by) for inquiry in facts.asked],
        [replace(status, at=status.at + by) for status in facts.marked],
        [replace(reply, replied_at=reply.replied_at + by) for reply in facts.replied],
        [
            replace(
                line,
                connected_at=line.connected_at + by,
                recorded_at=line.recorded_at + by,
                removed_at=line.removed_at and line.removed_at + by,
                from_at=line.from_at and line.from_at + by,
                through_at=line.through_at and line.through_at + by,
            )
            for line in facts.covered
        ],
    )


def states(facts: CompanyFacts, chance: random.Random) -> list[InquiryReplies]:
    """One state for each fact, in random order."""
    states: list[InquiryReplies] = []
    for inquiry in facts.asked:
        buyer = HashedBuyer(id=inquiry.buyer_id, region="CN" if inquiry.from_china else "US")
        states.append(
            InquiryReplies(
                company_id="c1", inquiry_id=inquiry.inquiry_id, account_id=inquiry.account_id, received_at=inquiry.received_at, buyer=buyer,
                thread_id=inquiry.thread_id, channel="inquiry", facts_id="0" * 32,
            )
        )  # fmt: skip
    for mark in facts.marked:
        status: Any = mark.status
        fact = StatusFact(status=status, at=mark.at, account_id=mark.account_id or None)
        states.append(InquiryReplies(company_id="c1", inquiry_id=mark.inquiry_id, statuses=(fact,)))
    for reply in facts.replied:
        fields: dict[str, Any] = {
            name: getattr(reply, name)
            for name in ("reply_id", "source", "account_id", "replied_at", "kind", "matched_by")
        }
        mail: dict[str, Any] = (
            {"mailbox_id": reply.mailbox_id, "evidence": reply.evidence} if reply.source == "mail" else {}
        )
        states.append(
            InquiryReplies(company_id="c1", inquiry_id=reply.inquiry_id, replies=(ReplyFact(**fields, **mail),))
        )
    chance.shuffle(states)
    return states


def cover(connection: psycopg.Connection, facts: CompanyFacts, step: int) -> None:
    """The part of the coverage that is recorded in this step."""
    lines = sorted(facts.covered, key=lambda line: line.recorded_at)
    for line in lines[len(lines) * step // STEPS : len(lines) * (step + 1) // STEPS]:
        connection.execute(
            "INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, removed_at, from_at, through_at)"
            " VALUES ('c1', %s, %s, %s, %s, %s, %s)",
            (line.account_id, line.mailbox_id, line.connected_at, line.removed_at, line.from_at, line.through_at),
        )


def passed(connection: psycopg.Connection, by: timedelta) -> None:
    """Set the watermark, if there is one."""
    connection.execute("UPDATE ledger.pipeline SET passed_at = clock_timestamp() + %s", (by,))


@pytest.mark.parametrize("seed", range(300, 312))
def test_a_full_judgement_after_narrow_refreshes_changes_nothing(dsn: str, seed: int) -> None:
    """Facts in any order over several refreshes, some dated in the future, deadlines that pass meanwhile; with every other
    seed they are counted long after they were published."""
    chance = random.Random(seed)
    plan_now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    # The latest facts are a little in the future: they are published first and happen while this runs.
    facts = shifted(random_facts(seed, plan_now), datetime.now(UTC) - plan_now + timedelta(seconds=1.5))
    events = states(facts, chance)
    narrow = 0
    with connect(dsn, "tests") as connection:
        lags = seed % 2 == 1
        refresher = Refresher(connection, RULES, partitions=1 if lags else None)
        refresher.activate()
        passed(connection, timedelta(days=-60))
        ledger = Ledger(connection, REPLIES)
        (owned,) = ledger.take([0])
        for step in range(STEPS):
            part = events[len(events) * step // STEPS : len(events) * (step + 1) // STEPS]
            ledger.merge(owned, owned.next_offset + 1, part)
            cover(connection, facts, step)
            while refresher.refresh():
                pass
            passed(connection, timedelta(days=-60 + 12 * step + chance.randrange(12), seconds=chance.randrange(86_400)))
            time.sleep(0.4)
        passed(connection, timedelta(hours=1))
        deadline = max(
            [datetime.now(UTC), *(at for at in (inquiry.received_at for inquiry in facts.asked) if at < datetime.now(UTC) + 5 * timedelta(seconds=1))]
        )  # fmt: skip
        while datetime.now(UTC) <= deadline + timedelta(seconds=0.2) or refresher.refresh():
            refresher.refresh()
        with connection.cursor(row_factory=dict_row) as cursor:
            (company,) = cursor.execute("SELECT judged_at FROM ledger.companies").fetchall()
            assert cursor.execute("SELECT count(*) AS n FROM ledger.dirty").fetchone() == {"n": 0}
        for rule_set in RULES:
            with connection.transaction():
                judge.use_schema(connection, "ledger")
                (span,) = judge.planning_inputs(connection, rule_set, ["c1"], company["judged_at"])
                narrow += plan.first_touched_receipt(rule_set, span, plan.Delta(None)) > days.EVER
                full = judge.judge_companies(connection, rule_set, {"c1": plan.Delta()}, now=company["judged_at"])
            assert (full.outcomes_changed, full.rates_written) == (0, 0), rule_set.name
    assert narrow, "no refresh was narrow, so nothing was tested"


@pytest.mark.parametrize(
    ("inquiry_id", "before", "after"), [("old", "unmeasured", "late"), ("due", "pending", "unmeasured")]
)
def test_time_alone_closes_open_units_and_applies_future_facts(
    dsn: str, inquiry_id: str, before: str, after: str
) -> None:
    """No new fact arrives: a deadline passes, or a reply to an old, final inquiry happens that was published before."""
    rule_set = next(each for each in RULES if each.name == "first-reply-24h")
    with connect(dsn, "tests") as connection:
        refresher = Refresher(connection, [rule_set])
        refresher.activate()
        ledger = Ledger(connection, REPLIES)
        (owned,) = ledger.take([0])

        def outcome(number: int) -> str:
            while refresher.refresh():
                pass
            outcomes = connection.execute(
                "SELECT outcome FROM report_v1.inquiry_outcomes WHERE inquiry_id = %s", (f"{inquiry_id}-{number}",)
            ).fetchall()
            return str(outcomes[0][0])

        # A slow machine may reach the instant before the first outcome was read; then the next instant is further away.
        for number in range(10):
            happens_at = datetime.now(UTC) + timedelta(seconds=2**number)
            received = {"old": happens_at - 30 * DAY, "due": happens_at - DAY}[inquiry_id]
            name = f"{inquiry_id}-{number}"
            facts = CompanyFacts({"a"}, [AskedInquiry(name, "a", received, "b")])
            if inquiry_id == "old":
                facts.replied = [GivenReply(name, "r", "platform", "a", happens_at, "human", "platform")]
            ledger.merge(owned, owned.next_offset + 1, states(facts, random.Random(1)))
            first = outcome(number)
            if datetime.now(UTC) < happens_at:
                break
        assert first == before
        until(lambda: outcome(number) == after, 2**number + 60, "what follows from time alone")
