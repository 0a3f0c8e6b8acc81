"""What a page of the panel is about: an account or the whole company, under one rule set; and the lists that it shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from urllib.parse import urlencode

from psycopg import Connection

from services.aggregator.judge.rules import RuleSet
from services.common.postgres import Statements, load_statements
from services.portal.api.figures import Figures, FiguresRequest, Rows, active_rule_sets, with_missing_rate
from services.portal.api.problems import ApiProblem
from services.portal.api.seller_diagnosis import for_sellers
from services.portal.pages.problems import PageProblem
from services.portal.panel.reader import PanelReader
from services.portal.panel.steps import Whose
from services.registry.companies import check_id
from services.registry.errors import RegistryError

SQL: Final = load_statements("services.portal.panel", "figures.sql")
PREFERRED_RULES: Final = "default"
"""The rule set that is shown first, where it is active."""

_INSTANT: Final = ("instant_after", datetime.fromisoformat)
_DAY: Final = ("day_after", date.fromisoformat)
_ACCOUNT: Final = ("account_after", str)
_INQUIRY: Final = ("inquiry_after", str)
LISTS: Final[Mapping[str, Figures]] = {
    "accounts": Figures("account_rates", {"account_id": _ACCOUNT}, with_missing_rate, SQL),
    "timeline": Figures("timeline", {"as_of": _DAY}, with_missing_rate, SQL),
    "histogram": Figures("histogram", {"bucket": ("bucket_after", int)}, statements=SQL),
    "due-soon": Figures("due_soon", {"due_at": _INSTANT, "inquiry_id": _INQUIRY}, statements=SQL),
    "corrections": Figures(
        "corrections",
        {"changed_at": _INSTANT, "as_of": _DAY, "account_id": _ACCOUNT, "column_name": ("column_after", str)},
        statements=SQL,
    ),
    "outcomes": Figures("outcomes", {"unit_day": _DAY, "inquiry_id": _INQUIRY}, statements=SQL),
    "diagnosis": Figures("diagnosis", {"cause": ("cause_after", str)}, for_sellers, SQL),
}
"""Each list that a page shows, by the name of its export."""


@dataclass(frozen=True, slots=True)
class PanelScope:
    """The figures that a reader chose. `account_id`: None for the company, which a main account alone may choose."""

    reader: PanelReader
    account_id: str | None
    rule_set: RuleSet
    rule_sets: tuple[str, ...]
    default_account_id: str | None
    """The account that is shown where none is chosen; None: the company."""

    @property
    def company_id(self) -> str:
        """The company of the reader."""
        return self.reader.session.company_id

    @property
    def whose(self) -> Whose:
        """Whose figures they are."""
        if self.account_id is None:
            return "company"
        return "own" if self.account_id == self.reader.session.account_id else "others"

    def href(self, path: str, **query: Any) -> str:
        """The address of a page of the panel about the same figures; `query` may choose others."""
        values = {"rules": self.rule_set.name if len(self.rule_sets) > 1 else None, **query}
        account_id = values.pop("account", self.account_id)
        chosen = {name: str(value) for name, value in values.items() if value not in (None, "")}
        if account_id != self.default_account_id:
            chosen = {"account": account_id or "", **chosen}
        return f"/panel{path}" + (f"?{urlencode(chosen)}" if chosen else "")

    def under_rules(self, name: str) -> str:
        """The address of the page of this request under another rule set. A list begins with its first row: cursors are of one rule set."""
        request = self.reader.request
        dropped = ("account", "rules", "after", "lang")
        query = {key: value for key, value in request.query_params.items() if key not in dropped}
        return self.href(request.url.path.removeprefix("/panel"), **query, rules=name)

    def key(self) -> dict[str, Any]:
        """The parameters that every statement of figures.sql has."""
        return {"company_id": self.company_id, "account_id": self.account_id, "rule_set": self.rule_set.name}

    def own_key(self) -> dict[str, str]:
        """The parameters of statements about the reader's own account."""
        return {"company_id": self.company_id, "account_id": self.reader.session.account_id}

    def request(self, name: str, **filters: Any) -> FiguresRequest:
        """A request for one of the lists."""
        return FiguresRequest(
            self.reader, self.company_id, LISTS[name], {"account_id": self.account_id, **filters}, self.rule_set
        )

    def page(
        self, connection: Connection, name: str, limit: int, after: str | None = None, **filters: Any
    ) -> tuple[Rows, str | None]:
        """Rows of one of the lists, read in a transaction of the reader, and the cursor of the following page. PageProblem when `after`
        is none of its cursors."""
        try:
            return self.request(name, **filters).page_in(connection, after, limit)
        except ApiProblem:
            raise PageProblem("not-found") from None


def chosen_scope(reader: PanelReader) -> PanelScope:
    """What the query of a request chooses: `account` and `rules`. PageProblem when no rule set is active yet, or for an account that the
    company has not.

    A main account begins with the company where other accounts have figures, else with its own, whose causes have a next step; an empty
    `account` is the company. A sub-account has its own figures only.
    """
    query, own_account = reader.request.query_params, reader.session.account_id
    with reader.transaction() as connection:
        begins_with_company = reader.session.is_main and _has_other_accounts(connection, reader)
        default_account_id = None if begins_with_company else own_account
        account_id = default_account_id
        if reader.session.is_main and "account" in query:
            account_id = query["account"] or None
        active = {rule_set.name: rule_set for rule_set in active_rule_sets(connection)}
        if account_id not in (None, own_account):
            _check_account(connection, reader.session.company_id, account_id)
    if not active:
        raise PageProblem("unavailable")
    first = PREFERRED_RULES if PREFERRED_RULES in active else min(active)
    rule_set = active.get(query.get("rules", ""), active[first])
    return PanelScope(reader, account_id, rule_set, tuple(sorted(active)), default_account_id)


def _has_other_accounts(connection: Connection, reader: PanelReader) -> bool:
    """Whether the company has figures of an account besides the reader's own."""
    own = {"company_id": reader.session.company_id, "account_id": reader.session.account_id}
    return bool(Statements(connection, SQL).all("other_account", **own))


def _check_account(connection: Connection, company_id: str, account_id: str) -> None:
    """PageProblem for an account without figures in the company: whether the registry has it is not shown."""
    try:
        check_id("account", account_id)
    except RegistryError:
        raise PageProblem("not-found") from None
    if not Statements(connection, SQL).all("account_known", company_id=company_id, account_id=account_id):
        raise PageProblem("not-found")
