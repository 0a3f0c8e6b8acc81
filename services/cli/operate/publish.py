"""`publish FILE`: validate inquiry facts from CSV or NDJSON and publish them to inquiries.v1."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from services.cli.context import as_json, guarded, load_config
from services.cli.output import errors, print_json
from services.common.errors import EXIT_FAILED
from services.common.kafka import Publisher
from services.common.topics import INQUIRIES
from services.inquiries.facts import FactProblem, check
from services.inquiries.lines import check_header, decoded, lines


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--skip-invalid", is_flag=True, help="Publish the valid lines even if other lines are invalid.")
@as_json
@guarded
def publish(file: str, skip_invalid: bool, json_: bool) -> None:
    """Publish inquiry facts from a CSV or NDJSON file.

    FILE is CSV with a header line if its name ends in .csv, otherwise NDJSON; `-` is standard input.

    NDJSON: one CloudEvent per line, or only its `data` with a field `type` (inquiry, status, reply, erase).

    CSV: the columns are the fields of `data`, `buyer_id`, `buyer_addresses`, …; several values in a cell are separated by
    spaces; a column `type` as above, inquiry if it is missing. Nothing is published if any line is invalid. A line is also
    invalid if it has an address or a Message-ID that can never match. Lines end with LF or CRLF.
    """
    config = load_config()
    text = decoded(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    is_csv = file.lower().endswith(".csv")
    check_header(text, csv_form=is_csv)
    facts, problems = check(lines(text, csv_form=is_csv), datetime.now(UTC), config.horizon_days)
    for problem in problems:
        _print_problem(problem)
    published = 0
    if facts and (skip_invalid or not problems):
        with Publisher(config.kafka, "replyrate-cli") as publisher:
            sent = [publisher.send(INQUIRIES, fact.company_id.encode(), fact.value) for fact in facts]
            published = len(sent) - len(publisher.wait(sent))
    if json_:
        print_json({"published": published, "invalid": [_problem_data(problem) for problem in problems]})
    else:
        errors.print(f"{published} published, {len(problems)} invalid.")
        if problems and not skip_invalid:
            errors.print("Nothing was published. Fix the lines, or pass --skip-invalid to publish the valid ones.")
    if problems or published < len(facts):
        sys.exit(EXIT_FAILED)


def _problem_data(problem: FactProblem) -> dict[str, Any]:
    """An invalid line as --json prints it."""
    return {
        "line": problem.number, "column": problem.field if problem.is_column else None, "reason": problem.reason,
        "detail": problem.detail.en, "cure": problem.cure.en,
    }  # fmt: skip


def _print_problem(problem: FactProblem) -> None:
    column = f", column {problem.field}" if problem.is_column and problem.field else ""
    errors.print(
        f"line {problem.number}{column}: {problem.detail.en} ({problem.reason}); write {problem.cure.en}", style="red", markup=False,
        soft_wrap=True,
    )  # fmt: skip
