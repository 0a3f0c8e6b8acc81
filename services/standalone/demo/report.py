"""What the demo reports, and how it is printed: rates, answer times, figures, likely causes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from services.common.display import bar, duration, percent
from services.standalone.demo.connect_offer import ConnectOffer

SHOWN_DIFFERENCES = 50


@dataclass(slots=True)
class DemoReport:
    """The results of one demo, all of them read from the views and the registry."""

    companies: list[dict[str, Any]] = field(default_factory=list)
    histogram: list[dict[str, Any]] = field(default_factory=list)
    stories: list[dict[str, Any]] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    checked_rows: int = 0
    checked_outcomes: int = 0
    seconds: float = 0
    postgres: str = ""
    kafka: str = ""
    portal: str = ""
    connect_offer: ConnectOffer | None = None
    console_link: str = ""
    folder: str = ""

    def as_json(self) -> dict[str, Any]:
        """The document that `replyrate demo --json` prints."""
        return {
            "agrees": not self.differences,
            "rates_checked": self.checked_rows,
            "outcomes_checked": self.checked_outcomes,
            "seconds": round(self.seconds, 1),
            "companies": self.companies,
            "histogram": self.histogram,
            "stories": self.stories,
        }


def print_differences(report: DemoReport) -> None:
    """Print where the views and the recount differ, on standard error."""
    errors = Console(stderr=True, highlight=False)
    for line in report.differences[:SHOWN_DIFFERENCES]:
        errors.print(line, style="red", markup=False, soft_wrap=True)


def print_report(report: DemoReport) -> None:
    """Print the report for people, on standard output."""
    out = Console(highlight=False)
    out.print()
    out.print(_rates([company for company in report.companies if company["rule_set"] == "default"], out.width >= 100))
    out.print("\n[bold]Time until the answer[/] (all companies)")
    for line in _bars([hour["answered"] for hour in report.histogram]):
        out.print(line)
    out.print("\n[bold]What was seen[/]")
    for story in report.stories:
        out.print(f"  {story['title']}: {figures(story)}", markup=False, soft_wrap=True)
    out.print("\n[bold]Why a rate is 0[/]")
    for story in report.stories:
        if story["diagnosis"]:
            out.print(f"  {story['title']}: {likely_cause(story)}", style="yellow", markup=False, soft_wrap=True)
    verdict = "agree with the recount" if not report.differences else "DO NOT agree with the recount"
    out.print(
        f"\n{report.checked_rows} rates and {report.checked_outcomes} outcomes {verdict}; {report.seconds:.0f} s."
    )
    out.print(
        "Next: `make demo OPEN=1` opens the portal; `replyrate demo --keep` prints its address, a link to a seller's panel, and Postgres (schema"
        " report_v1); README.md; docs/rules.md."
    )


def figures(story: dict[str, Any]) -> str:
    """One line of figures from the views and the registry, without conclusions."""
    parts = [f"mailboxes {story['mailboxes']} ({story['mailbox_states'] or 'none'})"]
    if story["addresses"]:
        parts.append(f"addresses: {story['addresses']}")
    seen = story["seen"] or {}
    parts.append("sent mail seen: " + (", ".join(f"{count} {kind}" for kind, count in sorted(seen.items())) or "none"))
    parts.append(f"replies matched {story['matched']}")
    if story["platform_replies"]:
        parts.append(f"through the platform {story['platform_replies']}")
    if story["synced_from"]:
        parts.append(f"synced by the platform from {_minute(story['synced_from'])}")
    if story["complete_through"]:
        parts.append(f"last complete poll {_minute(story['complete_through'])}")
    return "; ".join(parts)


def likely_cause(story: dict[str, Any]) -> str:
    """The doctor's first finding, and the command that shows the others."""
    first, *further = story["diagnosis"]
    text = f"{first['title']} ({first['confidence']} confidence)"
    if not further:
        return text
    causes = "1 other possible cause" if len(further) == 1 else f"{len(further)} other possible causes"
    return f"{text}, and {causes}: replyrate doctor {story['company_id']}"


def _rates(companies: Sequence[dict[str, Any]], wide: bool) -> Table:
    table = Table(
        title="Reply rates of the last 30 settled days (rule set default)", title_justify="left", box=None,
        pad_edge=False, padding=(0, 1, 0, 0), header_style="bold",
    )  # fmt: skip
    table.add_column("company", overflow="fold", min_width=20)
    table.add_column("rate", justify="right", no_wrap=True)
    if wide:
        table.add_column("", width=8, no_wrap=True)
    for heading in (
        "units",
        "timely/late/\nunanswered/\nunmeasured",
        "median",
        *(("p90",) if wide else ()),
        "cover-\nage",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for company in companies:
        table.add_row(
            company["title"],
            percent(company["rate"]),
            *((f"[green]{bar(float(company['rate'] or 0), 8)}[/]",) if wide else ()),
            str(company["counted"]),
            f"{company['timely']}/{company['late']}/{company['unanswered']}/{company['unmeasured']}",
            duration(company["median_seconds"]),
            *((duration(company["p90_seconds"]),) if wide else ()),
            percent(company["coverage"]),
            "prov." if company["state"] == "provisional" else company["state"],
        )
    return table


def _bars(counts: Sequence[int]) -> list[str]:
    """A bar for each of the 25 buckets: the hours until the answer, and later."""
    most = max(counts, default=0) or 1
    lines = []
    for number, answered in enumerate(counts):
        label = "later" if number == len(counts) - 1 else f"{number}-{number + 1} h"
        lines.append(f"  {label:>8}  {answered:>4} [cyan]{bar(answered / most, 40)}[/]")
    return lines


def _minute(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M}"
