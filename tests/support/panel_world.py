"""A demo world in the database alone: facts as the services would have stored them, judged and diagnosed, and what must result."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.types.json import Jsonb

from services.aggregator.doctor import diagnosis
from services.aggregator.judge import judge, rules
from services.aggregator.judge.plan import Delta
from services.common.hashing import Hasher
from services.recount.company import CompanyFacts, CoveredInterval, GivenReply
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.standalone.demo.planned import planned_facts
from services.standalone.world.cast import build
from services.standalone.world.world import World, WorldCompany
from tests.integration.test_judge import put
from tests.support.mailboxes import connected

RULES = ("default", "first-reply-24h")
READ_DAYS = 60
"""How far back every connected mailbox was read."""


@dataclass(frozen=True, slots=True)
class PanelWorld:
    """What is in the database. `now`: when everything was judged."""

    world: World
    now: datetime
    facts: Mapping[str, CompanyFacts]
    facts_before: Mapping[str, CompanyFacts]
    """What was known when everything was judged for the first time."""


def seed_world(
    connection: psycopg.Connection,
    seed: int,
    rule_sets: tuple[str, ...] = RULES,
    companies: Collection[str] | None = None,
    *,
    is_late: bool = False,
) -> PanelWorld:
    """Put the world of a seed into an empty database, or only some of its companies.

    `is_late`: one answer of each company becomes known after everything was judged, so that final numbers change.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    whole = build(seed, now)
    shown = tuple(company for company in whole.companies if companies is None or company.company_id in companies)
    world = replace(whole, companies=shown)
    registry = Registry(connection, Hasher(bytes(32)), Vault(bytes(32)))
    loaded = [rules.load_builtin(name) for name in rule_sets]
    facts: dict[str, CompanyFacts] = {}
    facts_before: dict[str, CompanyFacts] = {}
    for company in world.companies:
        company_id = company.company_id
        _register(registry, company)
        connection.execute(
            "UPDATE registry.mailboxes SET complete_from = %(from_at)s, complete_through = %(now)s, last_success_at = %(now)s,"
            " connected_at = %(from_at)s WHERE company_id = %(company_id)s",
            {"from_at": now - timedelta(days=READ_DAYS), "now": now, "company_id": company_id},
        )
        # What the registry wrote when the mailboxes were connected is replaced by a reading in one piece.
        connection.execute("DELETE FROM registry.coverage WHERE company_id = %s", [company_id])
        facts[company_id] = planned_facts(world, company_id, _coverage(company, now))
        late = _late_answer(facts[company_id], now) if is_late else []
        facts_before[company_id] = replace(
            facts[company_id], replied=[reply for reply in facts[company_id].replied if reply not in late]
        )
        put(connection, company_id, facts_before[company_id])
        connection.execute("INSERT INTO ledger.companies (company_id) VALUES (%s)", [company_id])
        _judge(connection, loaded, company_id, now)
        if late:
            put(connection, company_id, CompanyFacts(replied=late))
            _judge(connection, loaded, company_id, now)
    add_rules(connection, rule_sets)
    with connection.transaction():
        diagnosis.record(connection, loaded, list(facts), now)
    return PanelWorld(world, now, facts, facts_before)


def _judge(connection: psycopg.Connection, rule_sets: list[rules.RuleSet], company_id: str, now: datetime) -> None:
    for rule_set in rule_sets:
        with connection.transaction():
            judge.judge_companies(connection, rule_set, {company_id: Delta()}, now=now)


def _late_answer(facts: CompanyFacts, now: datetime) -> list[GivenReply]:
    """A mail that answered an inquiry of a day that is final by now, with every inquiry that it is matched to."""
    mails = [
        reply
        for reply in facts.replied
        if (reply.source, reply.kind) == ("mail", "human")
        and now - timedelta(days=32) < reply.replied_at < now - timedelta(days=22)
    ]
    return [reply for reply in facts.replied if mails and reply.reply_id == mails[0].reply_id]


def add_rules(connection: psycopg.Connection, names: Collection[str]) -> None:
    """Make rule sets active, unless they are."""
    for rule_set in map(rules.load_builtin, names):
        connection.execute(
            "INSERT INTO ledger.rule_sets (name, identity, parameters) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [rule_set.name, rule_set.identity, Jsonb(rule_set.parameters())],
        )


def _register(registry: Registry, company: WorldCompany) -> None:
    registry.companies.add(company.company_id)
    for account in company.accounts:
        registry.accounts.add(
            company.company_id, account.account_id, kind=account.kind, synced_from=account.synced_from
        )
    for mailbox in company.mailboxes:
        if mailbox.connected:
            connected(
                registry, company.company_id, mailbox.account_id, mailbox.key, address=mailbox.address, role=mailbox.role
            )  # fmt: skip


def _coverage(company: WorldCompany, now: datetime) -> list[CoveredInterval]:
    from_at = now - timedelta(days=READ_DAYS)
    read = [
        CoveredInterval(mailbox.account_id, mailbox.key, from_at, from_at, from_at=from_at, through_at=now)
        for mailbox in company.mailboxes
        if mailbox.connected
    ]
    synced = [
        CoveredInterval(account.account_id, None, account.synced_from, account.synced_from, from_at=account.synced_from)
        for account in company.accounts
        if account.synced_from is not None
    ]
    return read + synced
