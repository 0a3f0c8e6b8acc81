"""The comparison of two rule sets as long work, and what its page shows (`replyrate rules diff` prints the same)."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from services.aggregator.judge import comparison
from services.aggregator.judge.rule_problems import rule_problem
from services.aggregator.judge.rules import RuleSet
from services.common.errors import ReplyrateError
from services.common.postgres import Statements, load_statements
from services.portal.console.long_work import Report
from services.portal.console.staff import Staff
from services.registry.staff_actions import StaffActions, Subject

SQL: Final = load_statements("services.portal.console.operate", "operate.sql")
SHOWN_COMPANIES: Final = 200
SHOWN_INQUIRIES: Final = 200


PARTS: Final = ("account", "unit", "day", "window")
"""In what an inquiry can differ beside outcome and reason."""


@dataclass(frozen=True, slots=True)
class ChosenRuleSet:
    """A rule set to compare with or to activate; `definition` is its TOML when it was typed in, else empty."""

    rule_set: RuleSet
    definition: str = ""
    replaces: str = ""
    """The identity of the active rule set with its name; "" when none is active."""


@dataclass(frozen=True, slots=True)
class RuleComparison:
    """What two rule sets give for the real facts; of the companies that differ those with the largest changes, at most SHOWN_COMPANIES."""

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
    def shows_activation(self) -> bool:
        """Whether it shows what activating the proposed rule set changes: for every company, against the version that it replaces."""
        replaced = self.proposed.replaces
        return not self.company_id and (
            not replaced or (self.current.name, self.current.identity) == (self.proposed.rule_set.name, replaced)
        )

    def is_for(self, chosen: ChosenRuleSet) -> bool:
        """Whether it shows what activating this rule set changes, as it is defined and as the installation is now."""
        return self.shows_activation and (
            self.proposed.rule_set.name, self.proposed.rule_set.identity, self.proposed.replaces
        ) == (chosen.rule_set.name, chosen.rule_set.identity, chosen.replaces)  # fmt: skip


def compare(staff: Staff, current: RuleSet, proposed: ChosenRuleSet, company_id: str, report: Report) -> RuleComparison:
    """Judge every company, or one, by both rule sets; nothing is written. ReplyrateError for a company without facts."""
    subject = Subject(company_id) if company_id else Subject()
    changed = inquiries = 0
    shown: list[Mapping[str, Any]] = []
    with_inquiries: list[Mapping[str, Any]] = []
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
            if company_id:
                with_inquiries = [with_parts(inquiry) for inquiry in difference["inquiries"][:SHOWN_INQUIRIES]]
            shown.append(difference | {"inquiries": len(difference["inquiries"])})
        shown = sorted(shown, key=by_change)[:SHOWN_COMPANIES]
        report(start + len(batch), len(company_ids))
    with staff.transaction() as connection:
        StaffActions(connection).note_each(
            "rules-diff-done", [company_id] if company_id else [difference["company_id"] for difference in shown],
            companies=len(company_ids), changed=changed,
        )  # fmt: skip
    return RuleComparison(
        current, proposed, company_id, _differing(current, proposed.rule_set), len(company_ids), changed, inquiries, shown,
        with_inquiries,
    )  # fmt: skip


def by_change(difference: Mapping[str, Any]) -> tuple[bool, Decimal, int, str]:
    """Sorts companies, those first whose rate appears or disappears, then by the change of the rate and the number of inquiries that count
    differently, the largest first."""
    before, after = difference["rate_a"], difference["rate_b"]
    has_both = before is not None and after is not None
    change = abs(after - before) if has_both else Decimal()
    return (before is None) == (after is None), -change, -difference["inquiries"], difference["company_id"]


def with_parts(inquiry: Mapping[str, Any]) -> Mapping[str, Any]:
    """An inquiry of a comparison with `parts_a` and `parts_b`: what differs beside outcome and reason, as pairs of
    a key of the texts [diff_part] and a value."""
    values = {
        side: {
            "account": ("account", inquiry[f"account_{side}"]), "day": ("day", inquiry[f"day_{side}"]),
            "unit": ("own-unit" if inquiry[f"unit_{side}"] == inquiry["inquiry_id"] else "unit", inquiry[f"unit_{side}"]),
            "window": ("window" if inquiry[f"in_window_{side}"] else "outside", None),
        }
        for side in "ab"
    }  # fmt: skip
    differing = [part for part in PARTS if values["a"][part] != values["b"][part]]
    return {**inquiry, **{f"parts_{side}": [values[side][part] for part in differing] for side in "ab"}}


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
