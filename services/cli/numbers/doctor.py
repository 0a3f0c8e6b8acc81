"""`doctor COMPANY [ACCOUNT]`: why a rate is 0 or missing; `--probe`: does the server file what the seller sends?"""

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import click
import psycopg
from psycopg.rows import dict_row
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from services.aggregator.doctor import diagnosis
from services.aggregator.doctor.causes import BEHIND_SECONDS, Finding
from services.aggregator.doctor.diagnosis import Diagnosis
from services.aggregator.judge import rules as sets
from services.aggregator.judge import watermark
from services.cli.context import as_json, database, errors, guarded, load_config, percent, print_json
from services.cli.numbers.explain import chosen, language
from services.cli.texts import Texts
from services.common.errors import EXIT_FAILED
from services.common.postgres import clock
from services.common.topics import partition_of
from services.connect import texts as connection_texts
from services.connect.probe import ASK_SECONDS, SEND_SECONDS, MailboxSighting, ProbeReading, TestMailProbe
from services.providers.catalog import Language
from services.registry import states
from services.registry.states import State

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
PROBE_SECONDS, PROBE_MOST_SECONDS = 180, 1800
"""How long --probe waits when nobody says otherwise, and at most where a provider lets us read seldom."""
READING_SECONDS = 60
"""From when a mailbox may be read to when that has been published."""


@click.command()
@click.argument("company_id")
@click.argument("account_id", required=False)
@click.option("--rules", "name", help="Rule set; every active one when not given.")
@click.option("--probe", is_flag=True, help="Wait for a mail that the seller sends to themselves: is it filed?")
@click.option(
    "--wait",
    type=click.IntRange(5, PROBE_MOST_SECONDS),
    help=f"Seconds that --probe waits at most; {PROBE_SECONDS}, or what the provider needs, when not given.",
)
@language
@as_json
@guarded
def doctor(
    company_id: str, account_id: str | None, name: str | None, probe: bool, wait: int | None, lang: str, json_: bool
) -> None:
    """Why a company's (or an account's) rate is 0 or missing, with the facts that speak for it and what to do.

    The facts are counted now; report_v1.zero_rate_diagnosis holds what the aggregator found last. Exit 1 when no rate is
    known, and with --probe when the mail is not found in the Sent folder.
    """
    found = load_config()
    with database(found) as connection:
        if probe:
            _probe(connection, company_id, account_id, wait, Texts("doctor", lang), lang, json_)
            return
        active = chosen(connection, name, lambda other: sets.load(other, found.aggregator.rules_dir))
        cursor = connection.cursor(row_factory=dict_row)
        place = {"company": company_id, "account": account_id}
        known = cursor.execute(RATES, place).fetchall()
        rates = {row["rule_set"]: row for row in known if row["account_id"] == account_id}
        backdating = cursor.execute(BACKDATING, place).fetchall()
        now = clock(connection)
        waited = watermark.watermark_lag_seconds(connection, partition_of(company_id.encode(), found.kafka.partitions))
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
    connection: psycopg.Connection,
    company_id: str,
    account_id: str | None,
    wait: int | None,
    text: Texts,
    lang: str,
    json_: bool,
) -> None:
    probe = TestMailProbe(connection, company_id, account_id)
    started = time.monotonic()
    look = _watch(probe, wait, text, lang)
    seconds = round(time.monotonic() - started)
    if json_:
        print_json({"company_id": company_id, "account_id": account_id, "since": probe.since, "seconds": seconds,
                    "verdict": look.verdict, "mailboxes": [_box(one) for one in look.mailboxes]})  # fmt: skip
    else:
        Console(highlight=False).print(text("probe", look.verdict), markup=False)
    if look.verdict != "filed":
        sys.exit(EXIT_FAILED)


def _box(one: MailboxSighting) -> dict[str, Any]:
    return {
        **{name: getattr(one, name) for name in ("mailbox_id", "state", "state_reason", "failing", "read", "new", "own", "gone")},
        "reading_at": one.reading_at,
        "spacing_seconds": one.spacing_seconds,
    }  # fmt: skip


def _watch(probe: TestMailProbe, wait: int | None, text: Texts, lang: str) -> ProbeReading:
    """Ask for polls and look, until the mail is there, nothing can be read, or time is up."""
    began, told = time.monotonic(), dict[str, tuple[bool, datetime]]()
    look = probe.look()
    seconds = waiting_seconds(probe.since, look, wait)
    if not look.over:
        errors.print(text("probe", "begin", seconds=seconds), markup=False)
    with errors.status("") as status:
        while True:
            for one in look.mailboxes:
                if told.get(one.mailbox_id) != (one.failing, one.reading_at):
                    told[one.mailbox_id] = (one.failing, one.reading_at)
                    _plan(probe.since, one, seconds, text, lang)
            left = began + seconds - time.monotonic()
            if look.over or left <= 0:
                return look
            probe.ask(look)
            status.update(text("probe", "waiting", left=round(left)))
            time.sleep(min(1, left))
            look = probe.look()
            seconds = max(seconds, waiting_seconds(probe.since, look, wait))


def waiting_seconds(since: datetime, look: ProbeReading, wait: int | None) -> int:
    """Seconds from the start that a probe waits: those that a person named, else until the seldom read mailboxes are read."""
    if wait is not None:
        return wait
    late = [
        (one.reading_at - since).total_seconds() + READING_SECONDS
        for one in look.mailboxes
        if not one.failing and not one.read and one.spacing_seconds > ASK_SECONDS
    ]
    return round(min(max([PROBE_SECONDS, *late]), PROBE_MOST_SECONDS))


def _plan(since: datetime, one: MailboxSighting, seconds: int, text: Texts, lang: str) -> None:
    """What a person is told of one mailbox: why it is not read, or when it is where that takes long."""
    values = {"mailbox": one.mailbox_id, "spacing": round(one.spacing_seconds), "at": f"{one.reading_at:%H:%M:%S} UTC"}
    if one.failing:
        language = cast(Language, lang)
        code = "failing-again" if one.state == "active" else "failing-over"
        name = (
            text("probe", "failed")
            if one.state == "active"
            else states.load().names[cast(State, one.state)].text(language)
        )
        because = connection_texts.state_reason(one.state_reason, language) or name + ("。" if lang == "zh" else ".")
        errors.print(text("probe", code, because=because, **values), style="yellow", markup=False, soft_wrap=True)
    elif one.spacing_seconds > ASK_SECONDS and not one.read:
        due = round((one.reading_at - since).total_seconds())
        errors.print(text("probe", "spaced", due=due, send=SEND_SECONDS, **values), markup=False, soft_wrap=True)
        if due + READING_SECONDS > seconds:
            errors.print(
                text("probe", "too-short", seconds=min(due + READING_SECONDS, PROBE_MOST_SECONDS), **values),
                style="yellow", markup=False, soft_wrap=True,
            )  # fmt: skip
