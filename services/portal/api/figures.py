"""Lists of figures: rates and what belongs to them, page by page, or whole as CSV or NDJSON.

A list is a statement of figures.sql about one company and one rule set. Its pages go through the chosen rule sets in the order of
their names, and within one through the key of its rows:

    cursor (rule set, key) | rows of the statement after it, rule set by rule set, until the page is full | the next cursor
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal, LiteralString, Protocol

from fastapi import Query
from psycopg import Connection
from starlette.responses import Response, StreamingResponse

from services.aggregator.doctor import diagnosis
from services.aggregator.judge import rules
from services.aggregator.judge.rules import RuleSet
from services.aggregator.missing_rate import missing_rate, missing_rate_text
from services.aggregator.texts import LANGUAGES, Texts
from services.common.postgres import Statements, load_statements
from services.common.tabular import as_csv, plain
from services.portal.api.problems import ApiProblem, FieldProblem
from services.portal.api.values import decode_cursor, encode_cursor

SQL: Final = load_statements("services.portal.api", "figures.sql")
EXPORT_ROWS: Final = 1000
"""Rows of an export that are read in one transaction."""

Rows = list[dict[str, Any]]
Amend = Callable[[dict[str, Any], RuleSet], dict[str, Any]]
"""Adds to a row what its rule set or a text says."""
ExportFormat = Literal["json", "csv", "ndjson"]
MEDIA_TYPES: Final[Mapping[str, str]] = {"csv": "text/csv; charset=utf-8", "ndjson": "application/x-ndjson"}
EXPORTS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            "text/csv": {"schema": {"type": "string", "description": "All rows, with a header line. Text that a spreadsheet would take for a formula has a ' before it."}},
            "application/x-ndjson": {"schema": {"type": "string", "description": "All rows, one JSON object a line, as in `items`."}},
        }
    }
}  # fmt: skip
"""The other forms of a list, for the document of the API."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A list: its statement, the key by which its rows are ordered, and what is added to a row."""

    statement: str
    key: Mapping[str, tuple[str, Callable[[str], Any]]]
    """Column → its parameter in the statement, and how its text in a cursor is read (ValueError when it cannot be)."""
    amend: Amend = field(default=lambda figures_row, _: figures_row)
    statements: Mapping[str, LiteralString] = field(default_factory=lambda: SQL)


def with_missing_rate(rate: dict[str, Any], rule_set: RuleSet) -> dict[str, Any]:
    """A row of reply_rate with the reason why it has no rate, and what to do."""
    code = missing_rate(rate, rule_set)
    if code is None:
        return {**rate, "rate_missing": None}
    texts = {language: Texts("rate", language) for language in LANGUAGES}
    reasons = {language: missing_rate_text(code, rate, rule_set, text) for language, text in texts.items()}
    next_steps = {f"next_{language}": text("next_step", code) for language, text in texts.items()}
    return {**rate, "rate_missing": {"code": code, **reasons, **next_steps}}


def with_title(cause: dict[str, Any], _: RuleSet) -> dict[str, Any]:
    """A row of zero_rate_diagnosis with the title of its cause."""
    titles = diagnosis.texts()[cause["cause"]]["title"]
    return {**cause, "title_en": titles["en"], "title_zh": titles["zh"]}


def _bucket(text: str) -> int:
    bucket = int(text)
    if not 1 <= bucket <= 25:
        raise ValueError(text)
    return bucket


_ACCOUNT: Final = ("account_after", str)
_DAY: Final = ("day_after", date.fromisoformat)
_INSTANT: Final = ("instant_after", datetime.fromisoformat)
LATEST_RATES: Final = Figures("latest_rates", {"account_id": _ACCOUNT}, with_missing_rate)
RATES: Final = Figures("rates", {"as_of": _DAY, "account_id": _ACCOUNT}, with_missing_rate)
TIMELINE: Final = Figures("timeline", {"as_of": _DAY}, with_missing_rate)
HISTORY: Final = Figures("history", {"as_of": _DAY, "account_id": _ACCOUNT, "valid_from": _INSTANT}, with_missing_rate)
HISTOGRAM: Final = Figures("histogram", {"account_id": _ACCOUNT, "bucket": ("bucket_after", _bucket)})
DAILY: Final = Figures("daily", {"day": _DAY, "account_id": _ACCOUNT})
OUTCOMES: Final = Figures("outcomes", {"unit_day": _DAY, "inquiry_id": ("inquiry_after", str)})
CORRECTIONS: Final = Figures(
    "corrections",
    {"as_of": _DAY, "changed_at": _INSTANT, "account_id": _ACCOUNT, "column_name": ("column_after", str)},
)
DUE_SOON: Final = Figures("due_soon", {"due_at": _INSTANT, "inquiry_id": ("inquiry_after", str)})
DIAGNOSIS: Final = Figures("diagnosis", {"account_id": _ACCOUNT, "cause": ("cause_after", str)}, with_title)


def active_rule_sets(connection: Connection) -> list[RuleSet]:
    """The active rule sets as the report shows them, by name: target, days, minimum coverage and what else is named of them."""
    return [rules.stored(stored["parameters"]) for stored in Statements(connection, SQL).all("rule_sets")]


def chosen_rule_sets(connection: Connection, name: str | None) -> list[RuleSet]:
    """The active rule set of that name, or all active ones, by name. ApiProblem when it is not active."""
    active = active_rule_sets(connection)
    if name is None:
        return active
    chosen = [rule_set for rule_set in active if rule_set.name == name]
    if not chosen:
        names = ", ".join(rule_set.name for rule_set in active) or "–"
        raise ApiProblem(
            "invalid-request", fields=[FieldProblem("rule_set", "query", "rule-set-inactive", {"names": names})]
        )
    return chosen


def check_company(connection: Connection, company_id: str) -> None:
    """ApiProblem when neither the registry nor a fact names the company, or when the key is for others: it does not exist for it."""
    ((is_known,),) = Statements(connection, SQL).tuples("company_known", company_id=company_id)
    if not is_known:
        raise ApiProblem("company-unknown")


class FiguresReader(Protocol):
    """Who reads figures: the key of a platform, or the session of a seller."""

    def transaction(self) -> AbstractContextManager[Connection]:
        """A transaction that sees what the reader's token allows."""


@dataclass(frozen=True, slots=True)
class FiguresRequest:
    """A request for a list about one company."""

    caller: FiguresReader
    company_id: str
    figures: Figures
    filters: Mapping[str, Any]
    rule_set: str | RuleSet | None
    """The name of one; None: all. A RuleSet when the caller has read the active ones and knows the company."""

    def page(self, after: str | None, limit: int) -> tuple[Rows, str | None]:
        """Up to `limit` rows after a cursor, and the cursor of the following page; None on the last one. ApiProblem."""
        with self.caller.transaction() as connection:
            return self.page_in(connection, after, limit)

    def page_in(self, connection: Connection, after: str | None, limit: int) -> tuple[Rows, str | None]:
        """The same in a transaction of the caller's."""
        first_rule_set, key = self._position(after)
        page: Rows = []
        statements = Statements(connection, self.figures.statements)
        for rule_set in self._rule_sets(connection):
            if rule_set.name < first_rule_set:
                continue
            values = key if rule_set.name == first_rule_set else dict.fromkeys(key)
            read = statements.all(
                self.figures.statement,
                **values,
                **self.filters,
                company_id=self.company_id,
                rule_set=rule_set.name,
                limit=limit - len(page),
            )
            page += [self.figures.amend(figures_row, rule_set) for figures_row in read]
            if len(page) == limit:
                return page, self.cursor(page[-1])
        return page, None

    def export(self, form: ExportFormat) -> Response:
        """Every row, as it is read. The first page is read before the answer begins, so that its problems are problems."""
        first = self.page(None, EXPORT_ROWS)
        render = TEXTS[form]
        disposition = f'attachment; filename="{self.figures.statement.replace("_", "-")}.{form}"'
        return StreamingResponse(
            self._texts(first, render), media_type=MEDIA_TYPES[form], headers={"Content-Disposition": disposition}
        )

    def _texts(self, page: tuple[Rows, str | None], render: Callable[[Rows, bool], str]) -> Iterator[str]:
        rows, following = page
        yield render(rows, True)
        while following is not None:
            rows, following = self.page(following, EXPORT_ROWS)
            yield render(rows, False)

    def _rule_sets(self, connection: Connection) -> list[RuleSet]:
        if isinstance(self.rule_set, RuleSet):
            return [self.rule_set]
        check_company(connection, self.company_id)
        return chosen_rule_sets(connection, self.rule_set)

    def _position(self, after: str | None) -> tuple[str, dict[str, Any]]:
        """Rule set and key of a cursor, as parameters of the statement; the first ones when there is none."""
        first = ("",) * (1 + len(self.figures.key))
        rule_set, *texts = decode_cursor(after, first)
        parameters = self.figures.key.values()
        if after is None:
            return "", {name: None for name, _ in parameters}
        try:
            return rule_set, {name: read(text) for (name, read), text in zip(parameters, texts, strict=True)}
        except ValueError:
            raise ApiProblem("invalid-request", fields=[FieldProblem("after", "query", "cursor")]) from None

    def cursor(self, last: Mapping[str, Any]) -> str:
        """The cursor behind a row."""
        key = ["" if last[column] is None else str(plain(last[column])) for column in self.figures.key]
        return encode_cursor(last["rule_set"], *key)


def _csv_text(rows: Rows, is_first: bool) -> str:
    """Rows as CSV; of texts in both languages the code, and the header line on the first page."""
    cells = [{name: _cell(value) for name, value in figures_row.items()} for figures_row in rows]
    text = as_csv(cells)
    return text if is_first else text.partition("\r\n")[2]


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return value["code"] if "code" in value else json.dumps(plain(value), ensure_ascii=False)
    return value


def _ndjson_text(rows: Rows, _: bool) -> str:
    return "".join(json.dumps(plain(figures_row), ensure_ascii=False) + "\n" for figures_row in rows)


TEXTS: Final[Mapping[str, Callable[[Rows, bool], str]]] = {"csv": _csv_text, "ndjson": _ndjson_text}
"""Form of an export → the text of a page of its rows, and whether it is the first page."""


FormatQuery = Annotated[
    ExportFormat,
    Query(description="`csv` and `ndjson`: every row, not a page; `after` and `limit` do not apply.", alias="format"),
]
