"""`demo`: the whole pipeline on embedded servers, then what it found."""

import signal
import sys
import threading
from typing import Any

import click
from rich.console import Console

from services.cli.context import as_json, errors, guarded, print_json, text
from services.cli.numbers.rate import draw, show
from services.cli.texts import Texts
from services.common.errors import EXIT_FAILED
from services.standalone.demo import demo as stage


@click.command()
@click.option("--keep", is_flag=True, help="Stay up afterwards and print the addresses, until Ctrl-C.")
@click.option("--seed", type=int, default=1, show_default=True, help="Another world.")
@as_json
@guarded
def demo(keep: bool, seed: int, json_: bool) -> None:
    """Run eight sellers through real servers and the real services, and show their reply rates.

    Needs nothing but `make setup`. Every number is compared with an independent recount before it is shown; exit 1
    with the differences when they disagree.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        # Remembered: a library that is in the middle of a callback may swallow the exception.
        interrupted.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)

    def staying(report: stage.DemoReport) -> None:
        print_report(report, json_)
        errors.print(
            f"\nPostgres  {report.postgres}\nKafka     {report.kafka}\nlogs      {report.folder}/services", markup=False
        )
        errors.print("everything stays up; Ctrl-C ends it")
        threading.Event().wait()

    with errors.status("starting") as status:

        def progress(line: str) -> None:
            if interrupted.is_set():
                raise KeyboardInterrupt
            status.update(line)
            if not errors.is_terminal:
                errors.print(line, markup=False)

        def kept(report: stage.DemoReport) -> None:
            status.stop()
            staying(report)

        try:
            report = stage.run(seed=seed, progress=progress, keep=kept if keep else None)
            if interrupted.is_set():
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            errors.print("\nstopped; nothing is left behind")
            sys.exit(0 if keep else 130)
    print_report(report, json_)
    if report.differences:
        sys.exit(EXIT_FAILED)


def print_report(report: stage.DemoReport, json_: bool) -> None:
    """Print what was found; with differences, those first."""
    for line in report.differences[:50]:
        errors.print(line, style="red", markup=False)
    if json_:
        print_json(
            {
                "agrees": not report.differences,
                "rates_checked": report.checked_rows,
                "outcomes_checked": report.checked_outcomes,
                "seconds": round(report.seconds, 1),
                "companies": report.companies,
                "histogram": report.histogram,
                "stories": report.stories,
            }
        )
        return
    console = Console(highlight=False)
    names = {row["company_id"]: row["title"] for row in report.companies}
    console.print()
    show(
        [row for row in report.companies if row["rule_set"] == "default"],
        "Reply rates of the last 30 settled days (rule set default)",
        names,
    )
    console.print("\n[bold]Time until the answer[/] (all companies)")
    draw([row["answered"] for row in report.histogram], Texts("rate", "en"))
    console.print("\n[bold]What the figures say[/]")
    for story in report.stories:
        console.print(f"  {story['title']}: {figures(story)}", markup=False, soft_wrap=True)
        if found := story["diagnosis"]:
            equal = [one["title"] for one in found if one["confidence"] == found[0]["confidence"]]
            console.print(
                f"    doctor ({found[0]['confidence']}): {'; or: '.join(equal)}",
                style="yellow",
                markup=False,
                soft_wrap=True,
            )
    verdict = "agree with the recount" if not report.differences else "DO NOT agree with the recount"
    console.print(
        f"\n{report.checked_rows} rates and {report.checked_outcomes} outcomes {verdict}; {report.seconds:.0f} s."
    )
    console.print("Next: `replyrate demo --keep` and look into Postgres (schema report_v1); README.md; docs/rules.md.")


def figures(story: dict[str, Any]) -> str:
    """One line of figures out of the views and the registry; no conclusions."""
    parts = [f"mailboxes {story['mailboxes']} ({story['mailbox_states'] or 'none'})"]
    if story["addresses"]:
        parts.append(f"addresses: {story['addresses']}")
    seen = story["seen"] or {}
    parts.append("sent mail seen: " + (", ".join(f"{count} {kind}" for kind, count in sorted(seen.items())) or "none"))
    parts.append(f"replies matched {story['matched']}")
    if story["platform_replies"]:
        parts.append(f"through the platform {story['platform_replies']}")
    if story["synced_from"]:
        parts.append(f"synced by the platform from {text(story['synced_from'])}")
    if story["complete_through"]:
        parts.append(f"last complete poll {text(story['complete_through'])}")
    return "; ".join(parts)
