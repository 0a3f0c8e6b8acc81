"""How a connection test is shown: for people on standard output, exactly with `--json`.

Everything on standard output may be shown to a seller. Lines for the operator go to standard error as log lines.
"""

import sys
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from services.cli.output import SafeConsole, errors, print_json
from services.common import logs
from services.common.errors import EXIT_FAILED
from services.common.language import Language
from services.common.settings import Settings
from services.common.version import version
from services.connect import texts
from services.connect.onboarding import MailboxRefused
from services.connect.report import PASSED, SKIPPED, ConnectionTestReport
from services.connect.tester import ConnectionTester
from services.imap.host_policy import resolve
from services.signin.access_tokens import AccessTokens


def connection_tester(config: Settings, tokens: AccessTokens) -> ConnectionTester:
    """A connection test that prints each stage as it starts."""
    return ConnectionTester(config.imap, resolve, version(), config.horizon_days, progress=_print_stage, tokens=tokens)


def operators_log(config: Settings) -> None:
    """Send warnings of this command to standard error as log lines, like those of the services."""
    logs.configure(config.log.format, "warning", "cli")


def print_report(report: ConnectionTestReport, language: Language) -> None:
    """A connection test for people."""
    console = SafeConsole()
    server = [f"{report.host}:{report.port}"] if report.host else []
    provider = [report.provider.name] if report.provider is not None else []
    console.print(", ".join(server + provider), markup=False, style="bold")
    console.print(_stages(report, language), markup=False)
    console.print(texts.phrase("passed" if report.passed else "failed", language), style="bold")
    colon = "：" if language == "zh" else ": "
    if step := texts.next_step(report, language):
        _print_line(console, texts.phrase("next", language) + colon + step)
    if report.provider is not None and not report.passed:
        heading = texts.phrase("provider", language, provider=report.provider.name)
        reasons = [report.provider.reason] if report.provider.support == "unsupported" else []
        sentences = [sentence.text(language) for sentence in (*reasons, report.provider.advice)]
        _print_line(console, heading + colon + ("" if language == "zh" else " ").join(sentences))
    for warning in report.warnings:
        note = texts.warning(warning, language)
        _print_line(console, texts.phrase("note", language) + colon + note)


def print_result(report: ConnectionTestReport, language: Language, *, json_: bool) -> None:
    """A connection test for people or as JSON; exits with 1 when it failed."""
    if json_:
        print_json(texts.as_data(report))
    else:
        print_report(report, language)
    if not report.passed:
        sys.exit(EXIT_FAILED)


def exit_refused(error: MailboxRefused, company_id: str, language: Language, *, json_: bool) -> NoReturn:
    """Print why a mailbox was not connected and exit with 1."""
    if json_:
        print_json(
            {
                "company_id": company_id,
                "mailbox_id": error.mailbox_id or None,
                "state": error.state or None,
                "test": texts.as_data(error.report),
            }
        )
        sys.exit(EXIT_FAILED)
    print_report(error.report, language)
    errors.print(texts.sentence(error.report, language), style="red", markup=False, soft_wrap=True)
    sys.exit(EXIT_FAILED)


def _stages(report: ConnectionTestReport, language: Language) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for stage in report.stages:
        sign, style = {PASSED: ("✓", "green"), SKIPPED: ("·", "dim")}.get(stage.code, ("✗", "red"))
        seconds = "" if stage.seconds is None else f"{stage.seconds:.3f} s"
        result = texts.stage_result(report, stage, language)
        code = "" if stage.code in (PASSED, SKIPPED) else f" [{stage.code}]"
        table.add_row(sign, texts.stage_name(stage.name, language), seconds, result + code, style=style)
    return table


def _print_line(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=not console.is_terminal)


def _print_stage(stage: str) -> None:
    errors.print(f"  {stage} …", style="dim")
