"""`doctor COMPANY [ACCOUNT]`: why a rate is 0 or missing; with `--probe`, whether the server files what the seller sends."""

import sys
from collections.abc import Sequence
from typing import Any, Final

import click
from psycopg.rows import dict_row
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from services.aggregator.doctor import diagnosis
from services.aggregator.doctor.causes import BEHIND_SECONDS, Finding
from services.aggregator.doctor.diagnosis import Diagnosis
from services.aggregator.judge import rules, watermark
from services.aggregator.texts import Texts
from services.cli.context import as_json, database, guarded, load_config
from services.cli.numbers.explain import chosen_rule_sets, language
from services.cli.numbers.probe import run_probe
from services.cli.output import SafeConsole, print_json
from services.common.display import percent, printable
from services.common.errors import EXIT_FAILED
from services.common.postgres import clock, load_statements
from services.common.topics import partition_of
from services.connect.probe import PROBE_MOST_SECONDS, PROBE_SECONDS

SQL: Final = load_statements("services.cli.numbers", "doctor.sql")
Case = tuple[dict[str, Any], Diagnosis | None, list[Diagnosis]]
"""A rate, the diagnosis of the company or account it belongs to (None when nothing is wrong), all diagnoses."""


@click.command()
@click.argument("company_id")
@click.argument("account_id", required=False)
@click.option("--rules", "name", help="Rule set. Default: every active one.")
@click.option(
    "--probe", is_flag=True, help="Wait for a mail that the seller sends to themselves, to see if it is filed."
)
@click.option(
    "--wait",
    type=click.IntRange(5, PROBE_MOST_SECONDS),
    help=f"Maximum seconds that --probe waits. Default: {PROBE_SECONDS}, or what the provider needs.",
)
@language
@as_json
@guarded
def doctor(
    company_id: str, account_id: str | None, name: str | None, probe: bool, wait: int | None, lang: str, json_: bool
) -> None:
    """Explain why a rate is 0 or missing, and what to do.

    The rate is that of a company or of one of its accounts. The supporting facts are counted now; report_v1.zero_rate_diagnosis holds the last result of the aggregator. Exit 1 when no rate
    is known, and with --probe when the mail is not found in the Sent folder.
    """
    config, text = load_config(), Texts("doctor", lang)
    with database(config) as connection:
        if probe:
            run_probe(connection, company_id, account_id, wait, text, lang, json_)
            return
        active = chosen_rule_sets(connection, name, lambda missing: rules.load(missing, config.aggregator.rules_dir))
        cursor = connection.cursor(row_factory=dict_row)
        values = {"company": company_id, "account": account_id}
        company_rates = cursor.execute(SQL["rates"], values).fetchall()
        backdating = cursor.execute(SQL["backdating"], values).fetchall()
        now = clock(connection)
        partition = partition_of(company_id.encode(), config.kafka.partitions)
        waiting_seconds = watermark.lag_seconds(connection, partition)
        diagnoses = {rule_set.name: diagnosis.diagnose(connection, rule_set, [company_id], now) for rule_set in active}
    rates = {rate["rule_set"]: rate for rate in company_rates if rate["account_id"] == account_id}
    cases: list[Case] = [
        (rates[rule_set_name], _diagnosis_of(account_id, by_account), by_account)
        for rule_set_name, by_account in diagnoses.items()
        if rule_set_name in rates
    ]
    if json_:
        print_json(
            {
                "company_id": company_id,
                "account_id": account_id,
                "now": now,
                "waiting_seconds": waiting_seconds,
                "diagnoses": [
                    {**rate, "findings": [] if own is None else [_finding_data(finding) for finding in own.findings]}
                    for rate, own, _ in cases
                ],
                "backdating": backdating,
            }
        )
    else:
        out = SafeConsole()
        label = "company" if account_id is None else "account"
        out.print(text("label", label, company=company_id, account=account_id), style="bold", markup=False)
        if not cases:
            code = "none-here" if company_rates else "none-behind" if waiting_seconds > BEHIND_SECONDS else "none"
            out.print(text("verdict", code, company=company_id, waited=waiting_seconds), markup=False)
        _print_cases(out, cases, text, lang, with_accounts=account_id is None)
        _print_backdating(out, backdating, text)
    if not cases:
        sys.exit(EXIT_FAILED)


def _diagnosis_of(account_id: str | None, diagnoses: Sequence[Diagnosis]) -> Diagnosis | None:
    """The diagnosis of an account, or of the company; None when nothing is wrong."""
    return next((candidate for candidate in diagnoses if candidate.account_id == (account_id or "")), None)


def _print_cases(out: Console, cases: Sequence[Case], text: Texts, lang: str, *, with_accounts: bool) -> None:
    """A section for each rule set; causes that were printed for another rule set are not repeated."""
    printed: list[Sequence[tuple[str, str]]] = []
    for rate, own, diagnoses in cases:
        values = {"first": rate["window_start"], "last": rate["window_end"], "as_of": rate["as_of"]}
        out.print(f"\n{text('label', 'window', rules=rate['rule_set'], **values)}", style="bold cyan", markup=False)
        causes = [] if own is None else [(finding.cause, finding.confidence) for finding in own.findings]
        if own is None:
            out.print(text("verdict", "fine", rate=_rate_text(rate, text)), markup=False)
        elif causes in printed:
            out.print(text("verdict", "same", rate=_rate_text(rate, text)), markup=False)
        else:
            _print_findings(out, own, rate, text, lang)
        printed.append(causes)
        accounts = [account for account in diagnoses if account.account_id and with_accounts]
        if len(accounts) > 1 or (accounts and own is None):
            for account in accounts:
                titles = ", ".join(diagnosis.title(finding, lang) for finding in _most_likely(account.findings))
                out.print(f"  {account.account_id}: {titles}", markup=False)


def _print_findings(out: Console, own: Diagnosis, rate: dict[str, Any], text: Texts, lang: str) -> None:
    most_likely = _most_likely(own.findings)
    first = own.findings[0]
    confidence = _word("confidence", first.confidence, lang)
    values = {
        "rate": _rate_text(rate, text), "confidence": confidence[:1].upper() + confidence[1:], "count": len(most_likely),
    }  # fmt: skip
    code = "zero" if len(most_likely) == 1 else "several"
    out.print(text("verdict", code, title=diagnosis.title(first, lang), **values), style="bold", markup=False)
    for number, finding in enumerate(most_likely, 1):
        out.print(f"\n{number}. {diagnosis.title(finding, lang)}", style="bold", markup=False)
        out.print(Padding(diagnosis.advice(finding, lang), (0, 0, 0, 3), expand=False), markup=False)
        out.print(Padding(_facts_table(finding, text, lang), (0, 0, 0, 3), expand=False))
    if less_likely := [finding for finding in own.findings if finding not in most_likely]:
        out.print(f"\n{text('label', 'lesser')}", markup=False)
        for finding in less_likely:
            word = _word("confidence", finding.confidence, lang)
            out.print(f"   {diagnosis.title(finding, lang)} ({word})", style="dim", markup=False)


def _facts_table(finding: Finding, text: Texts, lang: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(text("label", "fact"))
    table.add_column(text("label", "value"), justify="right")
    for name, value in finding.facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{reason} {count}" for reason, count in value.items())
        table.add_row(_word("fact", name, lang), "–" if value is None else printable(str(value)))
    return table


def _print_backdating(out: Console, backdating: Sequence[dict[str, Any]], text: Texts) -> None:
    """Messages of each mailbox whose time is in doubt."""
    out.print(f"\n{text('label', 'backdating')}", style="bold cyan", markup=False)
    if not backdating:
        out.print(text("label", "no_mailbox"), markup=False)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("mailbox", "messages", "suspect", "share", "first", "last"):
        table.add_column(text("label", head), justify="left" if head == "mailbox" else "right")
    for mailbox in backdating:
        share = percent(mailbox["suspect"] / mailbox["messages"]) if mailbox["messages"] else "–"
        days = (str(mailbox["first_suspect_on"] or "–"), str(mailbox["last_suspect_on"] or "–"))
        table.add_row(mailbox["mailbox_id"], str(mailbox["messages"]), str(mailbox["suspect"]), share, *days)
    out.print(table)


def _rate_text(rate: dict[str, Any], text: Texts) -> str:
    return text("verdict", "missing") if rate["rate"] is None else percent(rate["rate"])


def _most_likely(findings: Sequence[Finding]) -> list[Finding]:
    """The findings with the highest confidence; they are sorted by it."""
    return [finding for finding in findings if finding.confidence == findings[0].confidence]


def _word(section: str, code: str, lang: str) -> str:
    return str(diagnosis.texts()[section][code][lang])


def _finding_data(finding: Finding) -> dict[str, Any]:
    return {
        "cause": finding.cause,
        "confidence": finding.confidence,
        "facts": finding.facts,
        "advice_en": diagnosis.advice(finding, "en"),
        "advice_zh": diagnosis.advice(finding, "zh"),
    }
