"""Reply rates for people: a table with bars or sparklines, a histogram of reply times, and why a rate is missing."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from services.aggregator.judge.rules import RuleSet
from services.aggregator.missing_rate import missing_rate, missing_rate_text
from services.aggregator.texts import Texts
from services.cli.output import SafeConsole
from services.common.display import bar, duration, percent, printable

TREND_DAYS: Final = 30
RowKey = tuple[str, str, str | None]
"""Rule set, company and account of a row."""


def print_rule_set(
    rows: list[dict[str, Any]],
    rule_set: RuleSet,
    trends: Mapping[RowKey, Sequence[Any]],
    histograms: Mapping[str, Sequence[int]],
    text: Texts,
) -> None:
    """Print the rates of a rule set: the table, why a rate is missing, and the histogram."""
    out = SafeConsole()
    days = {
        "first": min(rate_row["window_start"] for rate_row in rows),
        "last": max(rate_row["window_end"] for rate_row in rows),
    }
    as_of: date = max(rate_row["as_of"] for rate_row in rows)
    out.print()
    print_rate_table(rows, text("head", "title", rules=rule_set.name, as_of=as_of, **days), trends=trends, text=text)
    first_day = as_of - timedelta(days=TREND_DAYS - 1)
    out.print(text("head", "trend", first=first_day), style="dim", markup=False)
    if any(rate_row["state"] == "provisional" for rate_row in rows):
        code = "settling" if rule_set.settle_days else "settling_at_once"
        out.print(text("no_rate", code, days=rule_set.settle_days), style="dim", markup=False)
    for rate_row in rows:
        if (reason := missing_rate(rate_row, rule_set)) is not None:
            out.print(missing_rate_text(reason, rate_row, rule_set, text), style="yellow", markup=False)
    if histograms:
        out.print(f"\n{text('head', 'histogram')}", style="bold", markup=False)
        print_histogram([sum(counts) for counts in zip(*histograms.values(), strict=True)], text)


def print_histogram(counts: Sequence[int], text: Texts) -> None:
    """Print 25 bars: one for each hour until the answer, and one for later."""
    out = SafeConsole()
    most = max(counts) or 1
    for number, answered in enumerate(counts):
        hours = {"from": number, "to": number + 1}
        label = text("head", "later") if number == 24 else text("head", "hours", **hours)
        out.print(Text.assemble(f"  {label:>8}  {answered:>4} ", (bar(answered / most, 40), "cyan")))


def spark(rates: Sequence[Any]) -> str:
    """A character for each rate: eight heights from 0 to 1, a dot for no rate."""
    return "".join("·" if rate is None else "▁▂▃▄▅▆▇█"[min(7, int(float(rate) * 8))] for rate in rates)


def print_rate_table(
    rows: list[dict[str, Any]],
    title: str,
    names: Mapping[str, str] | None = None,
    trends: Mapping[RowKey, Sequence[Any]] | None = None,
    text: Texts | None = None,
) -> None:
    """Print a table of rates; `names` are titles of companies, `trends` are drawn below each name."""
    text, out = text or Texts("rate", "en"), SafeConsole()
    is_wide = trends is None and out.width >= 100
    table = Table(
        title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold"
    )  # fmt: skip
    table.add_column(text("head", "who"), overflow="fold", min_width=TREND_DAYS if trends else 20)
    table.add_column(text("head", "rate"), justify="right", no_wrap=True)
    if is_wide:
        table.add_column("", width=8, no_wrap=True)
    for heading in ("counted", "parts", "median", *(("p90",) if is_wide else ()), "coverage"):
        table.add_column(text("head", heading), justify="right", no_wrap=True)
    table.add_column(text("head", "state"), no_wrap=True)
    for rate_row in rows:
        company = rate_row["account_id"] is None
        name = (
            (names or {}).get(rate_row["company_id"], rate_row["company_id"])
            if company
            else f"  {rate_row['account_id']}"
        )
        table.add_row(
            Text.assemble(printable(name), *(("\n", (spark(trends[row_key(rate_row)]), "green")) if trends else ())),
            percent(rate_row["rate"]),
            *((Text(bar(float(rate_row["rate"] or 0), 8), "green"),) if is_wide else ()),
            str(rate_row["counted"]),
            f"{rate_row['timely']}/{rate_row['late']}/{rate_row['unanswered']}/{rate_row['unmeasured']}",
            duration(rate_row["median_seconds"]),
            *((duration(rate_row["p90_seconds"]),) if is_wide else ()),
            percent(rate_row["coverage"]),
            text("state", rate_row["state"]),
        )
    out.print(table)


def row_key(rate_row: Mapping[str, Any]) -> RowKey:
    """The key of a row among the rows of one day."""
    return rate_row["rule_set"], rate_row["company_id"], rate_row["account_id"]
