"""`doctor COMPANY [ACCOUNT]`: why a rate is 0 or missing; `--probe`: does the server file what the seller sends?"""

import sys
import time
from collections.abc import Sequence
from typing import Any

import click
import psycopg
from psycopg.rows import dict_row
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from services.aggregator import passage
from services.aggregator import rules as sets
from services.aggregator.doctor import diagnosis
from services.aggregator.doctor.causes import BEHIND_SECONDS, Finding
from services.aggregator.doctor.diagnosis import Diagnosis
from services.cli.context import as_json, database, errors, guarded, percent, print_json, settings
from services.cli.explain import chosen, language
from services.cli.texts import Texts
from services.common.errors import EXIT_FAILED
from services.common.postgres import clock
from services.common.topics import partition_of
from services.fetcher.probe import Look, Probe

RATES = """
SELECT rule_set, account_id, as_of, window_start, window_end, rate FROM report_v1.reply_rate_latest
WHERE company_id = %(company)s
"""
BACKDATING = """
SELECT h.account_id, c.mailbox_id, sum(c.messages)::bigint AS messages, sum(c.suspect)::bigint AS suspect,
    min(c.day) FILTER (WHERE c.suspect > 0) AS first_suspect_on, max(c.day) FILTER (WHERE c.suspect > 0) AS last_suspect_on
FROM registry.message_counts c JOIN registry.mailboxes h USING (company_id, mailbox_id)
WHERE c.company_id = %(company)s AND (%(account)s::text IS NULL OR h.account_id = %(account)s)
GROUP BY h.account_id, c.mailbox_id ORDER BY h.account_id, c.mailbox_id
"""
ASK_SECONDS = 20
"""A probe reads a mailbox no more often: every reading is a login."""


@click.command()
@click.argument("company_id")
@click.argument("account_id", required=False)
@click.option("--rules", "name", help="Rule set; every active one when not given.")
@click.option("--probe", is_flag=True, help="Wait for a mail that the seller sends to themselves: is it filed?")
@click.option(
    "--wait", type=click.IntRange(5, 1800), default=180, show_default=True, help="Seconds that --probe waits at most."
)
@language
@as_json
@guarded
def doctor(
    company_id: str, account_id: str | None, name: str | None, probe: bool, wait: int, lang: str, json_: bool
) -> None:
    """Why a company's (or an account's) rate is 0 or missing, with the facts that speak for it and what to do.

    The facts are counted now; report_v1.zero_rate_diagnosis holds what the aggregator found last. Exit 1 when no rate is
    known, and with --probe when the mail is not found in the Sent folder.
    """
    found = settings()
    with database(found) as connection:
        if probe:
            _probe(connection, company_id, account_id, wait, Texts("doctor", lang), json_)
            return
        active = chosen(connection, name, lambda other: sets.load(other, found.aggregator.rules_dir))
        cursor = connection.cursor(row_factory=dict_row)
        place = {"company": company_id, "account": account_id}
        known = cursor.execute(RATES, place).fetchall()
        rates = {row["rule_set"]: row for row in known if row["account_id"] == account_id}
        backdating = cursor.execute(BACKDATING, place).fetchall()
        now = clock(connection)
        waited = passage.waiting_seconds(connection, partition_of(company_id.encode(), found.kafka.partitions))
        looked = {one.name: diagnosis.look(connection, one, [company_id], now) for one in active}
    cases = [
        (rates[rules], next((one for one in held if one.account_id == (account_id or "")), None), held)
        for rules, held in looked.items()
        if rules in rates
    ]
    if json_:
        print_json(
            {
                "company_id": company_id,
                "account_id": account_id,
                "now": now,
                "waiting_seconds": waited,
                "diagnoses": [
                    {**row, "findings": [] if one is None else [_plain(finding) for finding in one.findings]}
                    for row, one, _ in cases
                ],
                "backdating": backdating,
            }
        )
    else:
        _tell(company_id, account_id, cases, backdating, lang, known=bool(known), waited=waited)
    if not cases:
        sys.exit(EXIT_FAILED)


def _tell(
    company_id: str,
    account_id: str | None,
    cases: Sequence[tuple[dict[str, Any], Diagnosis | None, list[Diagnosis]]],
    backdating: Sequence[dict[str, Any]],
    lang: str,
    *,
    known: bool,
    waited: int,
) -> None:
    out, text = Console(highlight=False), Texts("doctor", lang)
    code = "company" if account_id is None else "account"
    out.print(text("label", code, company=company_id, account=account_id), style="bold", markup=False)
    if not cases:
        code = "none-here" if known else "none-behind" if waited > BEHIND_SECONDS else "none"
        out.print(text("verdict", code, company=company_id, waited=waited), markup=False)
    told: list[list[tuple[str, str]]] = []
    for row, one, held in cases:
        values = {"first": row["window_start"], "last": row["window_end"], "as_of": row["as_of"]}
        out.print(f"\n{text('label', 'window', rules=row['rule_set'], **values)}", style="bold cyan", markup=False)
        said: list[tuple[str, str]] = (
            [] if one is None else [(finding.cause, finding.confidence) for finding in one.findings]
        )
        if one is None:
            out.print(text("verdict", "fine", rate=_rate(row, text)), markup=False)
        elif said in told:
            out.print(text("verdict", "same", rate=_rate(row, text)), markup=False)
        else:
            _findings(out, one, row, text, lang)
        told.append(said)
        others = [other for other in held if other.account_id and account_id is None]
        if len(others) > 1 or (others and one is None):
            for other in others:
                titles = ", ".join(diagnosis.title(finding, lang) for finding in _top(other.findings))
                out.print(f"  {other.account_id}: {titles}", markup=False)
    out.print(f"\n{text('label', 'backdating')}", style="bold cyan", markup=False)
    if not backdating:
        out.print(text("label", "no_mailbox"), markup=False)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("mailbox", "messages", "suspect", "share", "first", "last"):
        table.add_column(text("label", head), justify="left" if head == "mailbox" else "right")
    for line in backdating:
        share = percent(line["suspect"] / line["messages"]) if line["messages"] else "–"
        days = (str(line["first_suspect_on"] or "–"), str(line["last_suspect_on"] or "–"))
        table.add_row(line["mailbox_id"], str(line["messages"]), str(line["suspect"]), share, *days)
    out.print(table)


def _findings(out: Console, one: Diagnosis, row: dict[str, Any], text: Texts, lang: str) -> None:
    top = _top(one.findings)
    first = one.findings[0]
    confidence = _word("confidence", first.confidence, lang)
    values = {"rate": _rate(row, text), "confidence": confidence[:1].upper() + confidence[1:], "count": len(top)}
    code = "zero" if len(top) == 1 else "several"
    out.print(text("verdict", code, title=diagnosis.title(first, lang), **values), style="bold", markup=False)
    for number, finding in enumerate(top, 1):
        out.print(f"\n{number}. {diagnosis.title(finding, lang)}", style="bold", markup=False)
        out.print(Padding(diagnosis.advice(finding, lang), (0, 0, 0, 3), expand=False), markup=False)
        out.print(Padding(_facts(finding, text, lang), (0, 0, 0, 3), expand=False))
    if rest := [finding for finding in one.findings if finding not in top]:
        out.print(f"\n{text('label', 'lesser')}", markup=False)
        for finding in rest:
            word = _word("confidence", finding.confidence, lang)
            out.print(f"   {diagnosis.title(finding, lang)} ({word})", style="dim", markup=False)


def _facts(finding: Finding, text: Texts, lang: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(text("label", "fact"))
    table.add_column(text("label", "value"), justify="right")
    for name, value in finding.facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{reason} {count}" for reason, count in value.items())
        table.add_row(_word("fact", name, lang), "–" if value is None else str(value))
    return table


def _rate(row: dict[str, Any], text: Texts) -> str:
    return text("verdict", "missing") if row["rate"] is None else percent(row["rate"])


def _top(findings: Sequence[Finding]) -> list[Finding]:
    return [one for one in findings if one.confidence == findings[0].confidence]


def _word(section: str, code: str, lang: str) -> str:
    return str(diagnosis.texts()[section][code][lang])


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "cause": finding.cause,
        "confidence": finding.confidence,
        "facts": finding.facts,
        "advice_en": diagnosis.advice(finding, "en"),
        "advice_zh": diagnosis.advice(finding, "zh"),
    }


def _probe(
    connection: psycopg.Connection, company_id: str, account_id: str | None, wait: int, text: Texts, json_: bool
) -> None:
    probe = Probe(connection, company_id, account_id)
    errors.print(text("probe", "begin", seconds=wait, every=ASK_SECONDS), markup=False)
    started = time.monotonic()
    look = _watch(probe, wait, text)
    seconds = round(time.monotonic() - started)
    if json_:
        print_json({"company_id": company_id, "account_id": account_id, "since": probe.since, "seconds": seconds,
                    "verdict": look.verdict, "mailboxes": look.mailboxes})  # fmt: skip
    else:
        Console(highlight=False).print(text("probe", look.verdict), markup=False)
    if look.verdict != "filed":
        sys.exit(EXIT_FAILED)


def _watch(probe: Probe, wait: int, text: Texts) -> Look:
    """Ask for polls and look, until the mail is there or time is up."""
    ends, asked = time.monotonic() + wait, float("-inf")
    with errors.status("") as status:
        while True:
            look, now = probe.look(), time.monotonic()
            if look.verdict == "filed" or now >= ends:
                return look
            if now - asked >= ASK_SECONDS:
                probe.ask()
                asked = now
            status.update(text("probe", "waiting", left=round(ends - now)))
            time.sleep(min(1, ends - now))
