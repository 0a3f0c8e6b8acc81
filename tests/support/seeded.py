"""A ledger of two companies in which every view of report_v1 has rows of both, judged by the real judge."""

from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.types.json import Jsonb

from services.aggregator.doctor import diagnosis
from services.aggregator.judge import judge, rules
from services.aggregator.judge.plan import Delta
from services.aggregator.judge.rules import RuleSet
from services.common.hashing import Hasher
from services.registry.registry import Registry
from services.registry.vault import Vault
from tests.support.mailboxes import connected

COMPANIES = ("c1", "c2")
DAYS = 40
LATE = 45
"""An inquiry (22 days ago) that seemed unanswered until its answer became known."""
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def seed(connection: psycopg.Connection, rule_sets: tuple[str, ...] = ("default", "first-reply-24h")) -> None:
    """Inquiries of 40 days, most of them answered, some late, some never; a late fact that corrects final numbers."""
    registry = Registry(connection, Hasher(bytes(32)), Vault(bytes(32)))
    for company in COMPANIES:
        registry.companies.add(company)
        registry.accounts.add(company, "main")
        registry.accounts.add(company, "idle", kind="sub")  # it has no inquiry, so no rate, and a diagnosis of that
        mailbox_id = f"m-{company}"
        connected(registry, company, mailbox_id=mailbox_id, address=f"{company}@mail.test")
        connection.execute(
            "UPDATE registry.mailboxes SET complete_from = %(from_at)s, complete_through = %(now)s, connected_at = %(from_at)s"
            " WHERE company_id = %(company_id)s",
            {"company_id": company, "from_at": NOW - timedelta(days=DAYS + 10), "now": NOW},
        )
        connection.execute(
            "INSERT INTO registry.coverage (company_id, account_id, mailbox_id, connected_at, from_at, through_at)"
            " VALUES (%(company_id)s, 'main', %(mailbox_id)s, %(from_at)s, %(from_at)s, %(now)s)",
            {"company_id": company, "mailbox_id": mailbox_id, "from_at": NOW - timedelta(days=DAYS + 10), "now": NOW},
        )
        connection.execute("INSERT INTO ledger.companies (company_id) VALUES (%s)", [company])
        for number in range(DAYS * 2):
            received = NOW - timedelta(hours=12 * number + 1)
            inquire(connection, company, number, received)
            if number % 7 != 3 and number > 1:
                reply(connection, company, number, received + timedelta(hours=(number % 5) * 7 + 0.5))
    loaded = [rules.load_builtin(name) for name in rule_sets]
    judged(connection, loaded, NOW)
    # An answer that became known long after its day was final.
    for company in COMPANIES:
        reply(connection, company, LATE, NOW - timedelta(hours=12 * LATE + 1) + timedelta(hours=2))
    judged(connection, loaded, NOW + timedelta(minutes=1))
    for rule_set in loaded:
        connection.execute(
            "INSERT INTO ledger.rule_sets (name, identity, parameters) VALUES (%s, %s, %s)",
            [rule_set.name, rule_set.identity, Jsonb(rule_set.parameters())],
        )
    with connection.transaction():
        diagnosis.record(connection, loaded, COMPANIES, NOW + timedelta(minutes=1))


def inquire(connection: psycopg.Connection, company: str, number: int, received_at: datetime) -> None:
    """One inquiry in the ledger."""
    connection.execute(
        "INSERT INTO ledger.inquiries (company_id, inquiry_id, account_id, received_at, buyer_id)"
        " VALUES (%s, %s, 'main', %s, %s)",
        [company, f"i{number}", received_at, f"b{number}"],
    )


def reply(connection: psycopg.Connection, company: str, number: int, replied_at: datetime) -> None:
    """One mail that answers it."""
    connection.execute(
        "INSERT INTO ledger.replies (company_id, inquiry_id, reply_id, source, account_id, mailbox_id, replied_at, evidence,"
        " kind, matched_by) VALUES (%s, %s, %s, 'mail', 'main', %s, %s, 'verified', 'human', 'buyer-address')",
        [company, f"i{number}", f"r{number}-{replied_at:%s}", f"m-{company}", replied_at],
    )


def judged(connection: psycopg.Connection, rule_sets: list[RuleSet], now: datetime) -> None:
    """Outcomes and rates as of `now`."""
    for company in COMPANIES:
        for rule_set in rule_sets:
            with connection.transaction():
                judge.judge_companies(connection, rule_set, {company: Delta()}, now=now)
