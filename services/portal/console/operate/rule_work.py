"""The comparison of two rule sets as long work, and what its page shows (`replyrate rules diff` prints the same)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.aggregator.judge import comparison
from services.aggregator.judge.rule_problems import rule_problem
from services.aggregator.judge.rules import RuleSet
from services.common.errors import ReplyrateError
from services.common.postgres import Statements, load_statements
from services.portal.console.long_work import Report
from services.portal.console.staff import Staff
from services.registry.staff_actions import Subject

SQL: Final = load_statements("services.portal.console.operate", "operate.sql")
SHOWN_COMPANIES: Final = 200
SHOWN_INQUIRIES: Final = 200


@dataclass(frozen=True, slots=True)
class ChosenRuleSet:
    """A rule set to compare with or to activate; `definition` is its TOML when it was typed in, else empty."""

    rule_set: RuleSet
    definition: str = ""


@dataclass(frozen=True, slots=True)
class RuleComparison:
    """What two rule sets give for the real facts; the companies that differ, at most SHOWN_COMPANIES of them."""

    current: RuleSet
    proposed: ChosenRuleSet
    company_id: str
    parameters: list[tuple[str, Any, Any]]
    """The parameters that differ, with both values."""
    companies: int
    changed: int
    inquiries: int
    shown: list[Mapping[str, Any]]
    with_inquiries: list[Mapping[str, Any]]
    """Of a single company, the inquiries that count differently."""

    @property
    def is_activation(self) -> bool:
        """Whether the proposed rule set would replace the other one, as its new version."""
        return self.current.name == self.proposed.rule_set.name


def compare(staff: Staff, current: RuleSet, proposed: ChosenRuleSet, company_id: str, report: Report) -> RuleComparison:
    """Judge every company, or one, by both rule sets; nothing is written. ReplyrateError for a company without facts."""
    subject = Subject(company_id) if company_id else Subject()
    changed = inquiries = 0
    shown: list[Mapping[str, Any]] = []
    with staff.noted(
        "rules-diff", subject, current=f"{current.name} {current.identity}",
        proposed=f"{proposed.rule_set.name} {proposed.rule_set.identity}",
    ) as connection:  # fmt: skip
        company_ids = comparison.companies(connection, company_id or None)
        if company_id and not company_ids:
            raise ReplyrateError(rule_problem("no-company", company=company_id))
    for start in range(0, len(company_ids), comparison.BATCH_COMPANIES):
        batch = company_ids[start : start + comparison.BATCH_COMPANIES]
        for difference in _differences(staff, current, proposed.rule_set, batch):
            if not comparison.differs(difference) and not company_id:
                continue
            changed += comparison.differs(difference)
            inquiries += len(difference["inquiries"])
            if len(shown) < SHOWN_COMPANIES:
                shown.append(
                    difference | {"inquiries": difference["inquiries"] if company_id else len(difference["inquiries"])}
                )
        report(start + len(batch), len(company_ids))
    with staff.noted("rules-diff-done", subject, companies=len(company_ids), changed=changed):
        pass
    return RuleComparison(
        current, proposed, company_id, _differing(current, proposed.rule_set), len(company_ids), changed, inquiries, shown,
        list(shown[0]["inquiries"][:SHOWN_INQUIRIES]) if company_id and shown else [],
    )  # fmt: skip


def _differences(staff: Staff, current: RuleSet, proposed: RuleSet, company_ids: list[str]) -> list[dict[str, Any]]:
    """What `comparison.compare` gives for some companies, in a transaction of their own: a longer one would keep vacuum from every table.

    StaffSessionEnded.
    """
    with staff.transaction() as connection:
        Statements(connection, SQL).run("extend_timeouts")
        differences = list(comparison.compare(connection, current, proposed, company_ids, lambda *_: None))
    # Without a session every row is hidden, and nothing would differ. Looked up afterwards, so that it was open all the time; and outside
    # of the transaction, because this takes a connection of its own.
    staff.check_open()
    return differences


def _differing(current: RuleSet, proposed: RuleSet) -> list[tuple[str, Any, Any]]:
    before, after = current.parameters(), proposed.parameters()
    return [(name, before[name], after[name]) for name in before if before[name] != after[name]]
