"""Every figure that the panel shows, on its pages and in its files, against the independent recount (services.recount).

`PanelComparison` reads the pages as a browser gets them. A difference is a sentence that names the page, the figure and both values.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from html import unescape
from math import ceil, isclose
from typing import Any, Final

from services.aggregator.judge import days
from services.aggregator.judge.rules import RuleSet
from services.portal.panel.texts import text
from services.recount.company import CompanyRecount
from tests.support.panel_lab import ShownFigures, same, shows_duration, shows_share

Row = Mapping[str, Any]
PARTS: Final = ("timely", "late", "unanswered", "unmeasured", "pending")
WORDS: Final = {
    "timely": "Answered in time", "late": "Answered late", "unanswered": "Not answered", "unmeasured": "Not measured",
    "pending": "Still open", "excluded": "Does not count", "merged": "Counted with another", "final": "Final",
    "provisional": "Provisional", "mail": "mail", "platform": "platform", "status": "marked by the platform", None: "–",
}  # fmt: skip
"""What the English pages say for a code."""
LISTED: Final = ("accounts", "timeline", "histogram", "due-soon", "corrections", "outcomes")
"""Lists of which the recount knows every row."""
API_LISTS: Final = {
    "rates": "accounts", "timeline": "timeline", "histogram": "histogram", "due-soon": "due-soon", "corrections": "corrections",
    "outcomes": "outcomes",
}  # fmt: skip
"""List of the API → list of the panel with the same rows."""


@dataclass(frozen=True, slots=True)
class ExpectedMailbox:
    """A mailbox as it was planned. `complete`: from when to when it was read without a gap; None: not yet."""

    mailbox_id: str
    masked_address: str
    role: str
    state: str
    host: str
    connected_at: datetime
    read_at: datetime | None
    complete: tuple[datetime, datetime] | None


@dataclass(frozen=True)
class Expected:
    """What the panel of a company must show under one rule set. `judged_days`: the days that have a row, None for every one since the
    first inquiry. `corrections`: the newest first; `causes`: account (None: the company) → causes as the command lists them."""

    company_id: str
    accounts: tuple[str, ...]
    rule_set: RuleSet
    recount: CompanyRecount
    now: datetime
    causes: Mapping[str | None, Sequence[str]]
    judged_days: frozenset[date] | None = None
    corrections: tuple[Row, ...] = ()
    mailboxes: Mapping[str, Sequence[ExpectedMailbox]] = field(default_factory=dict)
    """Account → its mailboxes in the order in which they were connected."""

    @property
    def as_of(self) -> date:
        """The day of the newest rate."""
        return days.local_day(self.now, self.rule_set)

    @cached_property
    def newest(self) -> dict[str | None, Row]:
        """The newest row of each account (None: of the company)."""
        return self._with_state(self.as_of, self.recount.rates(self.as_of, self.now))

    @cached_property
    def days(self) -> dict[date, dict[str | None, Row]]:
        """The 30 days of the line, the newest first, each with the rows of the accounts; none for a day that was not judged."""
        shown = [self.as_of - timedelta(days=ago) for ago in range(30)]
        return {
            day: self._with_state(day, self.recount.rates_then(day, self.now))
            if self.judged_days is None or day in self.judged_days
            else {}
            for day in shown
        }

    @cached_property
    def outcomes(self) -> dict[str, Row]:
        """Inquiry → its row."""
        return dict(self.recount.outcomes(self.now))

    def _with_state(self, day: date, rates: Mapping[str | None, Row]) -> dict[str | None, Row]:
        state = self.recount.state(day, self.now) if rates else ""
        return {account_id: {**rate, "state": state} for account_id, rate in rates.items()}

    def line(self, account_id: str | None) -> list[tuple[date, Row | None]]:
        """The days with the row of an account."""
        return [(day, rates.get(account_id)) for day, rates in self.days.items()]

    def due(self, outcomes: Mapping[str, Row], account_id: str | None) -> list[Row]:
        """Open units, the most urgent first."""
        target = timedelta(seconds=self.rule_set.target_seconds)
        due = [
            {
                **{name: outcome[name] for name in ("company_id", "account_id", "inquiry_id")},
                "due_at": datetime.fromisoformat(outcome["received_at"]) + target,
            }
            for outcome in outcomes.values()
            if outcome["outcome"] == "pending" and account_id in (None, outcome["account_id"])
        ]
        return sorted(due, key=lambda unit: (unit["due_at"], unit["inquiry_id"]))


def bars(outcomes: Mapping[str, Row], rate: Row, account_id: str | None) -> list[int]:
    """Answered units of a rate by hours until the answer, from 1 to 24, and later."""
    counts = Counter(
        min(25, max(1, ceil(outcome["reply_seconds"] / 3600)))
        for outcome in outcomes.values()
        if outcome["outcome"] in ("timely", "late")
        and rate["window_start"] <= outcome["unit_day"] <= rate["window_end"]
        and account_id in (None, outcome["account_id"])
    )
    return [counts[bucket] for bucket in range(1, 26)]


def why_missing(rate: Row, rule_set: RuleSet) -> str | None:
    """The reason that a page names for a rate that is missing."""
    if rate["rate"] is not None:
        return None
    if rate["coverage"] is not None and rate["coverage"] < rule_set.min_coverage:
        return "coverage"
    return "small" if rate["counted"] and rule_set.small_sample != "show" else "nothing"


def shows_rate(text: str, rate: Row | None, rule_set: RuleSet, missing: str) -> bool:
    """Whether a text is the rate as the rule set rounds it; `missing` is what it says without one."""
    if rate is None or rate["rate"] is None or rule_set.rounding == "none":
        return shows_share(text, None if rate is None else rate["rate"], missing)
    return text == f"{rate['rate_shown']:g} %"


Fetch = Callable[..., str]
"""Path and query → the text of the answer."""


@dataclass
class PanelComparison:
    """The panel of one account: `expected` is that of its company, `is_main` whether it sees all of it."""

    fetch: Fetch
    expected: Expected
    own_account: str
    is_main: bool
    differences: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)
    """How many were compared, by page."""

    def __post_init__(self) -> None:
        self._rates = self.expected.newest
        self._outcomes = self.expected.outcomes
        self._name = ""

    def pages(self, account_id: str | None) -> None:
        """Every page about an account, None for the company."""
        self.overview(account_id)
        self.inquiries(account_id)
        self.due(account_id)
        self.changes(account_id)
        self.causes(account_id)
        if account_id == self.own_account:
            self.mailboxes()

    def overview(self, account_id: str | None) -> None:
        """The first page."""
        html = self._open("overview", account_id, "/panel")
        page, rate, rules = ShownFigures(html), self._rates[account_id], self.expected.rule_set
        self._is(
            f"Received {rate['window_start']} to {rate['window_end']} · As of {self.expected.as_of}" in html,
            "window",
            rate,
        )
        missing = [tag["data-code"] for tag in page.attributes if "data-code" in tag]
        self._is(missing == [code for code in [why_missing(rate, rules)] if code], "reason", missing, rate)
        self._is(same(page.values["rate"], rate["rate"]), "rate", page.values["rate"], rate["rate"])
        self._is(
            shows_rate(page.value_texts["rate"], rate, rules, "Not measured"), "rate", page.value_texts["rate"], rate
        )
        if rate["rate"] is not None:
            sample = f"Answered in time: {rate['timely']} of {rate['counted']} counted inquiries"
            self._is(sample in html, "sample", sample)
        for name, value in (("counted", rate["counted"]), ("coverage", rate["coverage"]), ("median", rate["median_seconds"]), ("p90", rate["p90_seconds"])):  # fmt: skip
            self._is(same(page.values[name], value), name, page.values[name], value)
        self._is(
            page.value_texts["counted"] == str(rate["counted"]), "counted", page.value_texts["counted"], rate["counted"]
        )
        self._is(shows_share(page.value_texts["coverage"], rate["coverage"]), "coverage", page.value_texts["coverage"])
        for name in ("median", "p90"):
            self._is(shows_duration(page.value_texts[name], rate[f"{name}_seconds"]), name, page.value_texts[name])
        self._is(WORDS[rate["state"]] in page.texts["rate-title"], "state", page.texts["rate-title"], rate["state"])
        parts = [int(text) for text in page.texts.get("parts", "").split() if text.isdigit()] or [0] * len(PARTS)
        for name, shown in zip(PARTS, parts, strict=True):
            self._is(shown == rate[name], name, shown, rate[name])
        excluded = f"Excluded by the rules: {rate['excluded']}<"
        self._is((excluded in html) == bool(rate["excluded"]), "excluded", rate["excluded"])
        self._line(page, account_id)
        answered = bars(self._outcomes, rate, account_id)
        shown_bars = [int(cells[1]) for cells in page.tables["bars-table"]]
        self._all(shown_bars, answered, "bar")
        self._is(sum(tag["tag"] == "rect" and "y" in tag and tag.get("class") != "gap" and tag["height"] != "28" for tag in page.attributes) == sum(map(bool, answered)), "drawn bars")  # fmt: skip
        if account_id is None and len(self.expected.accounts) > 1:
            self._accounts(page)
        self._due_rows(page, self._due(account_id)[:5], account_id)
        self._change_rows(page, self._corrections(account_id)[:5], account_id)

    def inquiries(self, account_id: str | None) -> None:
        """The list, over all of its pages."""
        rows: list[list[str]] = []
        values: list[list[str]] = []
        following: str | None = f"/panel/inquiries?rules={self.expected.rule_set.name}&account={account_id or ''}"
        while following is not None:
            page = ShownFigures(self._open("inquiries", account_id, following))
            rows += page.cells.get("inquiries", [])
            values += page.tables.get("inquiries", [])
            following = next((tag["href"] for tag in page.attributes if tag.get("rel") == "next"), None)
        expected = sorted(
            self._of(account_id),
            key=lambda expected_row: (expected_row["unit_day"], expected_row["inquiry_id"]),
            reverse=True,
        )
        self._is(
            [cells[0] for cells in rows] == [expected_row["inquiry_id"] for expected_row in expected],
            "inquiries",
            len(rows),
            len(expected),
        )
        for cells, machine, expected_row in zip(rows, values, expected, strict=False):
            received = datetime.fromisoformat(expected_row["received_at"]).astimezone(self.expected.rule_set.zone)
            self._is(
                cells[1] == WORDS[expected_row["outcome"]], f"outcome of {cells[0]}", cells[1], expected_row["outcome"]
            )
            self._is(
                same(machine[3], expected_row["reply_seconds"]),
                f"time of {cells[0]}",
                machine[3],
                expected_row["reply_seconds"],
            )
            self._is(
                shows_duration(cells[3], expected_row["reply_seconds"]),
                f"time of {cells[0]}",
                cells[3],
                expected_row["reply_seconds"],
            )
            self._is(
                cells[4] == WORDS[expected_row["reply_source"]],
                f"source of {cells[0]}",
                cells[4],
                expected_row["reply_source"],
            )
            self._is(cells[5] == f"{received:%Y-%m-%d %H:%M}", f"instant of {cells[0]}", cells[5], received)
            self._is(
                account_id is not None or cells[6] == expected_row["account_id"], f"account of {cells[0]}", cells[6]
            )
            self._is(
                cells[-1] == WORDS[expected_row["state"]], f"state of {cells[0]}", cells[-1], expected_row["state"]
            )

    def due(self, account_id: str | None) -> None:
        """What can still be answered in time; no world has more than a page."""
        page = ShownFigures(self._open("due", account_id, "/panel/due"))
        self._due_rows(page, self._due(account_id), account_id)

    def changes(self, account_id: str | None) -> None:
        """Changes of final numbers, over all pages."""
        following: str | None = f"/panel/changes?rules={self.expected.rule_set.name}&account={account_id or ''}"
        shown = ShownFigures("")
        while following is not None:
            page = ShownFigures(self._open("changes", account_id, following))
            shown.cells.setdefault("changes", []).extend(page.cells.get("changes", []))
            following = next((tag["href"] for tag in page.attributes if tag.get("rel") == "next"), None)
        self._change_rows(shown, self._corrections(account_id), account_id)

    def causes(self, account_id: str | None) -> None:
        """The causes in the order of the command; those of another account are its own."""
        page = ShownFigures(self._open("diagnosis", account_id, "/panel/diagnosis"))
        shown = [tag["data-cause"] for tag in page.attributes if "data-cause" in tag]
        seen = account_id in (None, self.own_account)
        self._all(shown, self.expected.causes.get(account_id, ()) if seen else (), "cause")

    def mailboxes(self) -> None:
        """The mailboxes of the reader's own account."""
        html = self._open("mailboxes", self.own_account, "/panel/mailboxes")
        sections = dict(
            re.findall(r'<section class="mailbox" aria-labelledby="([^"]+)">(.*?)</section>', html, re.DOTALL)
        )
        expected = self.expected.mailboxes.get(self.own_account, ())
        self._all([unescape(name) for name in sections], [mailbox.mailbox_id for mailbox in expected], "mailbox")
        for section, mailbox in zip(sections.values(), expected, strict=False):
            facts = [
                " ".join(re.sub(r"<[^>]+>", "", value).split())
                for value in re.findall(r"<dd>(.*?)</dd>", section, re.DOTALL)
            ]
            badge = re.search(r'<h2[^>]*>(.*?) <span class="badge (\w+)">', section)
            name = f"of {mailbox.mailbox_id}"
            heading = None if badge is None else (unescape(badge[1]), badge[2])
            self._is(heading == (mailbox.masked_address, mailbox.state), f"address and state {name}", heading)
            read = None if mailbox.complete is None else " to ".join(map(self._minute, mailbox.complete))
            self._is(facts[0] == mailbox.role, f"role {name}", facts[0], mailbox.role)
            self._is(facts[1] == f"{mailbox.host}:993", f"server {name}", facts[1], mailbox.host)
            self._is(
                facts[2] == self._minute(mailbox.connected_at), f"connection {name}", facts[2], mailbox.connected_at
            )
            last = "not yet" if mailbox.read_at is None else self._minute(mailbox.read_at)
            self._is(facts[3] == last, f"last reading {name}", facts[3], last)
            self._is(facts[5] == (read or "not yet"), f"complete reading {name}", facts[5], read)

    def _minute(self, at: datetime) -> str:
        return f"{at.astimezone(self.expected.rule_set.zone):%Y-%m-%d %H:%M}"

    def exports(self, account_id: str | None) -> None:
        """The lists as CSV, NDJSON and JSON."""
        company = f"/v1/companies/{self.expected.company_id}"
        for name in LISTED:
            for form in ("csv", "ndjson"):
                text = self._open(f"{name}.{form}", account_id, f"/panel/export/{name}", format=form)
                self._records(rows_of(text, form), self._listed(name, account_id), name)
        for path, name in API_LISTS.items():
            account = {} if account_id is None else {"account_id": account_id}
            query = {**account, "rule_set": self.expected.rule_set.name, "limit": 500}
            answer = json.loads(self._open(f"{path}.json", account_id, f"{company}/{path}", **query))
            records = answer["items"]
            while answer["next"] is not None:
                answer = json.loads(
                    self._open(f"{path}.json", account_id, f"{company}/{path}", after=answer["next"], **query)
                )
                records += answer["items"]
            if path == "histogram" and account_id is None:
                records = [record for record in records if record["account_id"] is None]
            if path == "rates":
                records = [record for record in records if record["account_id"] is not None]
            expected = self._listed(name, account_id)
            if path == "rates" and account_id is not None:
                expected = [expected_row for expected_row in expected if expected_row["account_id"] == account_id]
            self._records(records, expected, name)

    def _open(self, page: str, about: str | None, path: str, **query: Any) -> str:
        scope = "company" if about is None else about
        self._name = f"{self.expected.company_id} {self.expected.rule_set.name} {scope} {page}"
        self._page = page
        if path.startswith("/panel") and "?" not in path:
            query = {"rules": self.expected.rule_set.name, "account": about or "", **query}
        return self.fetch(path, **query)

    def _is(self, equal: bool, figure: str, *values: Any) -> None:
        self.figures[self._page] += 1
        if not equal:
            self.differences.append(f"{self._name}: {figure} {values}")

    def _all(self, shown: Sequence[Any], expected: Sequence[Any], figure: str) -> None:
        self._is(len(shown) == len(expected), f"number of {figure}s", shown, expected)
        for number, (figure_shown, figure_expected) in enumerate(zip(shown, expected, strict=False), 1):
            self._is(figure_shown == figure_expected, f"{figure} {number}", figure_shown, figure_expected)

    def _of(self, account_id: str | None) -> Iterator[Row]:
        return (
            expected_row for expected_row in self._outcomes.values() if account_id in (None, expected_row["account_id"])
        )

    def _due(self, account_id: str | None) -> list[Row]:
        return self.expected.due(self._outcomes, account_id)

    def _corrections(self, account_id: str | None) -> list[Row]:
        return [
            expected_row
            for expected_row in self.expected.corrections
            if account_id in (None, expected_row["account_id"])
        ]

    def _line(self, page: ShownFigures, account_id: str | None) -> None:
        line = self.expected.line(account_id)
        self._all([cells[0] for cells in page.tables["line-table"]], [day.isoformat() for day, _ in line], "day")
        for cells, machine, (day, rate) in zip(page.cells["line-table"], page.tables["line-table"], line, strict=False):
            measured = None if rate is None else rate["rate"]
            self._is(same(machine[1], measured), f"rate of {day}", machine[1], measured)
            code = "early" if rate is None else why_missing(rate, self.expected.rule_set)
            says = f"not measured {text(f'missing.{code}_short', 'en')}" if code else ""
            self._is(shows_rate(cells[1], rate, self.expected.rule_set, says), f"rate of {day}", cells[1], measured)
            self._is(cells[2] == ("–" if rate is None else str(rate["counted"])), f"counted of {day}", cells[2])
            self._is(shows_share(cells[3], None if rate is None else rate["coverage"]), f"coverage of {day}", cells[3])
            self._is(cells[4] == ("–" if rate is None else WORDS[rate["state"]]), f"state of {day}", cells[4])
        points = sum(tag["tag"] == "circle" for tag in page.attributes)
        self._is(
            points == sum(rate is not None and rate["rate"] is not None for _, rate in line), "drawn points", points
        )

    def _accounts(self, page: ShownFigures) -> None:
        shown, machine = page.cells["accounts"], page.tables["accounts"]
        self._all([cells[0].partition(" ")[0] for cells in shown], self.expected.accounts, "account")
        for cells, values, account_id in zip(shown, machine, self.expected.accounts, strict=False):
            rate = self._rates[account_id]
            self._is(same(values[1], rate["rate"]), f"rate of {account_id}", values[1], rate["rate"])
            code = why_missing(rate, self.expected.rule_set)
            says = f"Not measured {text(f'missing.{code}_short', 'en')}" if code else ""
            self._is(shows_rate(cells[1], rate, self.expected.rule_set, says), f"rate of {account_id}", cells[1])
            self._is(cells[2] == str(rate["counted"]), f"counted of {account_id}", cells[2], rate["counted"])
            self._is(shows_share(cells[3], rate["coverage"]), f"coverage of {account_id}", cells[3], rate["coverage"])
            self._is(shows_duration(cells[4], rate["median_seconds"]), f"median of {account_id}", cells[4])
            self._is(cells[5] == WORDS[rate["state"]], f"state of {account_id}", cells[5], rate["state"])

    def _due_rows(self, page: ShownFigures, due: Sequence[Row], account_id: str | None) -> None:
        shown = page.cells.get("due", [])
        self._all([cells[0] for cells in shown], [unit["inquiry_id"] for unit in due], "open inquiry")
        for cells, unit in zip(shown, due, strict=False):
            at = f"{unit['due_at'].astimezone(self.expected.rule_set.zone):%Y-%m-%d %H:%M}"
            self._is(cells[2] == at, f"deadline of {cells[0]}", cells[2], at)
            left = (unit["due_at"] - datetime.now(UTC)).total_seconds()
            # The page is older.
            is_right = any(
                shows_duration(cells[1], left + since) if left + since > 0 else cells[1] == text("due.passed", "en")
                for since in (0, 30, 60)
            )
            self._is(is_right, f"time left of {cells[0]}", cells[1], left)
            self._is(account_id is not None or cells[3] == unit["account_id"], f"account of {cells[0]}", cells)

    def _change_rows(self, page: ShownFigures, corrections: Sequence[Row], account_id: str | None) -> None:
        shown = page.cells.get("changes", [])
        self._is(len(shown) == len(corrections), "number of changes", len(shown), len(corrections))
        for cells, expected_row in zip(shown, corrections, strict=False):
            old, new, cause = cells[-4:-1]
            name = f"{expected_row['column_name']} of {expected_row['as_of']}"
            self._is(cells[0] == expected_row["as_of"], name, cells)
            self._is(
                account_id is not None or cells[1] == (expected_row["account_id"] or "company"),
                f"account of {name}",
                cells,
            )
            self._is(
                shows_correction(expected_row["column_name"], old, expected_row["old_value"]),
                f"old {name}",
                old,
                expected_row["old_value"],
            )
            self._is(
                shows_correction(expected_row["column_name"], new, expected_row["new_value"]),
                f"new {name}",
                new,
                expected_row["new_value"],
            )
            column = "all" if expected_row["column_name"] == "*" else expected_row["column_name"]
            self._is(cells[-5] == text(f"column.{column}", "en"), f"column of {name}", cells)
            self._is(cause == text(f"cause.{expected_row['cause']}", "en"), f"cause of {name}", cause)

    def _listed(self, name: str, account_id: str | None) -> list[Row]:
        """The rows of a list, in its order."""
        match name:
            case "accounts":
                return [
                    self._rates[account]
                    for account in self.expected.accounts
                    if self.is_main or account == self.own_account
                ]
            case "timeline":
                return [rate for _, rate in reversed(self.expected.line(account_id)) if rate is not None]
            case "histogram":
                answered = bars(self._outcomes, self._rates[account_id], account_id)
                return [{"bucket": bucket, "answered": units} for bucket, units in enumerate(answered, 1)]
            case "due-soon":
                return self._due(account_id)
            case "corrections":
                return self._corrections(account_id)
            case "outcomes":
                return sorted(
                    self._of(account_id),
                    key=lambda expected_row: (expected_row["unit_day"], expected_row["inquiry_id"]),
                    reverse=True,
                )
        raise ValueError(name)

    def _records(self, records: Sequence[Row], expected: Sequence[Row], name: str) -> None:
        key = {"accounts": "account_id", "timeline": "as_of", "histogram": "bucket"}.get(name, "inquiry_id")
        if name == "corrections":
            key = "column_name"
        self._is(len(records) == len(expected), "number of rows", len(records), len(expected))
        if name in ("outcomes", "corrections"):  # the API has them in another order
            order = ("as_of", "account_id", "column_name") if name == "corrections" else ("inquiry_id",)
            records = sorted(records, key=lambda expected_row: tuple(str(expected_row[part] or "") for part in order))
            expected = sorted(expected, key=lambda expected_row: tuple(str(expected_row[part] or "") for part in order))
        for record, expected_row in zip(records, expected, strict=False):
            for column, value in expected_row.items():
                if column in ("rule_set", "revision", "mailbox_id") or (column, value) == ("evidence", None):
                    continue  # known only when a mailbox was read
                self._is(
                    column in record and equal(record[column], value),
                    f"{column} of {expected_row.get(key)}",
                    record.get(column),
                    value,
                )


def rows_of(text: str, form: str) -> list[Row]:
    """The rows of an export; a cell without text is a missing value."""
    if form == "ndjson":
        return [json.loads(line) for line in text.splitlines()]
    return [
        {name: None if cell == "" else cell for name, cell in cells.items()}
        for cells in csv.DictReader(io.StringIO(text))
    ]


def equal(shown: Any, expected: Any) -> bool:
    """Whether a value of a file is what was recounted: instants by their time, numbers to nine digits, missing only for missing."""
    if shown is None or expected is None:
        return shown is expected
    if isinstance(expected, datetime):
        return datetime.fromisoformat(str(shown)) == expected
    if isinstance(expected, int | float) and not isinstance(expected, bool):
        return isclose(float(shown), float(expected), rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(expected, str) and expected.endswith("Z") and "T" in expected:
        return datetime.fromisoformat(str(shown)) == datetime.fromisoformat(expected)
    return bool(str(shown) == str(expected))


def shows_correction(column: str, text: str, value: Any) -> bool:
    """Whether a text is an old or new figure of a correction."""
    if value is None:
        return text == "–"
    if column in ("rate", "coverage"):
        return text.endswith(" %") and abs(float(text[:-2]) - 100 * float(value)) < 0.00501
    if column.endswith("_seconds"):
        return shows_duration(text, float(value))
    if column == "rate_shown":
        return text == f"{float(value):g} %"
    return text == (
        WORDS[value] if column == "state" else f"{float(value):g}" if not column.startswith("window") else value
    )
