"""`rules`: what counts. List, show and check rule sets, switch them on and off."""

import sys
from pathlib import Path
from typing import Any

import click
from psycopg.rows import dict_row

from services.aggregator.judge import comparison
from services.aggregator.judge import rules as sets
from services.aggregator.judge.rules import RuleSet
from services.aggregator.refresh import recompute
from services.cli.context import (
    ProgressBars,
    as_json,
    database,
    errors,
    guarded,
    load_config,
    percent,
    print_json,
    print_table,
)
from services.common.errors import EXIT_FAILED, ConfigError, ReplyrateError

COLUMNS = {
    "name": "rule set",
    "counts": "counts",
    "version": "version",
    "computing": "being computed",
    "title": "title",
}
DIFF = {
    "company_id": "company", "rate_a": "rate {a}", "rate_b": "rate {b}", "counted_a": "counted {a}", "counted_b": "counted {b}",
    "inquiries": "inquiries that differ",
}  # fmt: skip
EACH = {
    "inquiry_id": "inquiry", "outcome_a": "{a}", "reason_a": "why", "in_a": "counts for", "outcome_b": "{b}", "reason_b": "why",
    "in_b": "counts for",
}  # fmt: skip


@click.group()
def rules() -> None:
    """Rule sets: what a reply rate means."""


@rules.command("list")
@as_json
@guarded
def rules_list(json_: bool) -> None:
    """Every rule set there is, and which of them count."""
    found = load_config()
    folder = found.aggregator.rules_dir
    files = sets.names(folder)
    with database(found) as connection, connection.cursor(row_factory=dict_row) as cursor:
        held = {row["name"]: row for row in cursor.execute(recompute.SQL["stored"]).fetchall()}
        under_way = {row["rule_set"]: row for row in recompute.progress(connection)}
    rows: list[dict[str, Any]] = []
    for name in sorted({*files, *held}):
        there = held.get(name)
        counts = "yes" if there is not None and there["active"] else "no"
        try:
            if there is not None and (there["active"] or name not in files):
                rule_set = sets.stored(there["parameters"])
            else:
                rule_set = sets.load(name, folder)
        except ConfigError as error:
            # One broken file of one's own must not hide the others.
            rows.append(
                {"name": name, "counts": counts, "version": "cannot be used", "title": str(error), "computing": None}
            )
            continue
        row = {"name": name, "counts": counts, "version": rule_set.identity, "title": rule_set.title, "computing": None}
        if name in under_way:
            one = under_way[name]
            row["computing"] = f"{one['identity']}: {one['done']} of {one['companies']} companies"
        rows.append(row)
    if json_:
        print_json([{**row, "counts": row["counts"] == "yes"} for row in rows])
    else:
        print_table(rows, COLUMNS)


@rules.command("show")
@click.argument("name")
@as_json
@guarded
def rules_show(name: str, json_: bool) -> None:
    """Every parameter of a rule set."""
    rule_set = sets.load(name, load_config().aggregator.rules_dir)
    if json_:
        print_json({**rule_set.parameters(), "identity": rule_set.identity})
        return
    rows = [{"key": key, "value": _plainly(value)} for key, value in rule_set.parameters().items()]
    print_table(rows, {"key": "parameter", "value": "value"}, f"{rule_set.name} {rule_set.identity}")


@rules.command("validate")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@as_json
@guarded
def rules_validate(file: Path, json_: bool) -> None:
    """Check a file of your own; every problem at once, exit 78 when there is one."""
    found = load_config()
    rule_set = sets.read(file)
    sets.check_horizon(rule_set, found.horizon_days)
    if json_:
        print_json({"name": rule_set.name, "identity": rule_set.identity})
    else:
        errors.print(f"{rule_set.name} {rule_set.identity} can be used", markup=False)


@rules.command("activate")
@click.argument("name")
@guarded
def rules_activate(name: str) -> None:
    """Count by this rule set too. Aggregators judge every company by it first; then its numbers are shown at once."""
    found = load_config()
    rule_set = sets.load(name, found.aggregator.rules_dir)
    sets.check_horizon(rule_set, found.horizon_days)
    with database(found) as connection:
        new = recompute.activate(connection, rule_set)
        waits = any(row["rule_set"] == name for row in recompute.progress(connection))
    if new and not waits:
        errors.print(f"{name} {rule_set.identity} counts from now on", markup=False)
    elif new:
        errors.print(
            f"{name} {rule_set.identity} counts as soon as every company has been judged by it; `replyrate rules list`"
            f" tells how far that is, `replyrate recompute --rules {name}` helps",
            markup=False,
        )
    else:
        errors.print(f"{name} {rule_set.identity} counts already, or is on its way", markup=False)


@rules.command("deactivate")
@click.argument("name")
@guarded
def rules_deactivate(name: str) -> None:
    """Count by this rule set no more: its rates stay in report_v1.reply_rate_history only."""
    with database(load_config()) as connection:
        done = recompute.deactivate(connection, name)
    errors.print(f"{name} does not count any more" if done else f"{name} does not count; `replyrate rules list`")
    if not done:
        sys.exit(EXIT_FAILED)


def by_name(name: str, folder: Path | str | None) -> RuleSet:
    """A rule set by name, from the operator's folder too, or from a file (.toml)."""
    return sets.read(Path(name)) if name.endswith(".toml") else sets.load(name, Path(folder) if folder else None)


@rules.command("diff")
@click.argument("a")
@click.argument("b")
@click.option("--company", help="One company, with every inquiry whose outcome differs.")
@as_json
@guarded
def rules_diff(a: str, b: str, company: str | None, json_: bool) -> None:
    """What would be different by the rule set B than by A: today's rate and the outcomes, per company.

    A and B are names or files (.toml). Judges both over the real facts and writes nothing.
    """
    chosen = load_config()
    one, other = (by_name(name, chosen.aggregator.rules_dir) for name in (a, b))
    with database(chosen) as connection, ProgressBars() as tell:
        companies = comparison.companies(connection, company)
        if company is not None and not companies:
            raise ReplyrateError(f"nothing is known of the company {company}; check its id")
        rows = list(comparison.compare(connection, one, other, companies, tell))
    if json_:
        print_json({"a": one.identity, "b": other.identity, "companies": rows})
        return
    same = (one.name, one.version) == (other.name, other.version)
    titles = {
        "a": f"{one.name} {one.identity if same else one.version}",
        "b": f"{other.name} {other.identity if same else other.version}",
    }
    print_table([_told(row, row["company_id"], len(row["inquiries"])) for row in rows], _titled(DIFF, titles))
    if company is not None:
        for row in rows:
            print_table(
                [_told(each, f"  {each['account_id']}", None) for each in row["accounts"]], _titled(DIFF, titles)
            )
            print_table(
                [{**each, "in_a": _in(each, "a"), "in_b": _in(each, "b")} for each in row["inquiries"]],
                _titled(EACH, titles),
            )
    changed = sum(
        bool(row["inquiries"]) or any(row[f"{name}_a"] != row[f"{name}_b"] for name in ("rate", "counted"))
        for row in rows
    )
    errors.print(
        f"{changed} of {len(rows)} companies differ, {sum(len(row['inquiries']) for row in rows)} inquiries count differently"
    )


def _titled(columns: dict[str, str], titles: dict[str, str]) -> dict[str, str]:
    return {key: title.format(**titles) for key, title in columns.items()}


def _told(row: dict[str, Any], name: str, inquiries: int | None) -> dict[str, Any]:
    return {
        **row, "company_id": name, "inquiries": inquiries, "rate_a": percent(row["rate_a"]), "rate_b": percent(row["rate_b"]),
    }  # fmt: skip


def _in(row: dict[str, Any], which: str) -> str:
    return (
        f"{row[f'account_{which}']} {row[f'day_{which}']}{'' if row[f'in_window_{which}'] else ' (not in the window)'}"
    )


def page() -> str:
    """docs/rule-sets.md: every parameter, and every rule set that comes along beside the others."""
    properties = sets.schema()["properties"]
    lines = [
        "# Rule sets",
        "",
        "Rendered by `replyrate config docs --write docs`. [rules.md](rules.md) tells how the parameters work together.",
        "",
        "| Parameter | Default | Meaning |",
        "|---|---|---|",
    ]
    for name, form in properties.items():
        default = "**required**" if name in sets.schema()["required"] else f"`{_plainly(form.get('default'))}`"
        values = f" One of {', '.join(f'`{value}`' for value in form['enum'])}." if "enum" in form else ""
        lines.append(f"| `{name}` | {default} | {form['description']}{values} |")
    found = [sets.load_builtin(name) for name in sets.builtin_names()]
    lines += [
        "",
        "## What comes along",
        "",
        f"| | {' | '.join(f'`{one.name}`' for one in found)} |",
        f"|---|{'---|' * len(found)}",
    ]
    for key in properties:
        if key not in ("name", "title", "source", "calendar"):
            cells = [_plainly(one.parameters()[key]) for one in found]
            lines.append(f"| {key} | {' | '.join(cells)} |")
    lines += ["", "Where each comes from:", ""]
    lines += [f"- `{one.name}` {one.identity}: {one.title}. {one.source}." for one in found]
    return "\n".join(lines) + "\n"


def _plainly(value: Any) -> str:
    match value:
        case list() | tuple():
            return ", ".join(_plainly(part) for part in value) or "–"
        case dict():
            return " ".join(f"{key}={_plainly(part)}" for key, part in value.items() if part is not None)
        case _:
            return str(value)
