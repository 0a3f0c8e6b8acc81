"""`rules`: the rule sets, which define what a reply rate means. List, show, check, activate, deactivate, compare."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from services.aggregator.archive.files import archive_folder
from services.aggregator.archive.restore import Restorer
from services.aggregator.judge import comparison, rules
from services.aggregator.judge.rules import RuleSet
from services.aggregator.refresh import recompute, rule_set_states
from services.aggregator.refresh.rule_set_states import RuleSetState
from services.cli.context import as_json, database, guarded, load_config
from services.cli.output import ProgressBars, errors, print_json, print_table
from services.common.display import parameter_text, percent
from services.common.errors import EXIT_FAILED, ReplyrateError

COLUMNS: Final = {
    "name": "rule set", "counts": "active", "version": "version", "computing": "being computed", "title": "title",
}  # fmt: skip
DIFF: Final = {
    "company_id": "company", "rate_a": "rate {a}", "rate_b": "rate {b}", "counted_a": "counted {a}", "counted_b": "counted {b}",
    "inquiries": "inquiries that differ",
}  # fmt: skip
INQUIRY_DIFF: Final = {
    "inquiry_id": "inquiry", "outcome_a": "{a}", "reason_a": "reason", "in_a": "counts for", "outcome_b": "{b}",
    "reason_b": "reason", "in_b": "counts for",
}  # fmt: skip

UNUSABLE: Final = "cannot be used"
"""Version of a rule set whose file is invalid."""


@click.group("rules")
def rules_group() -> None:
    """Rule sets: they define what a reply rate means."""


@rules_group.command("list")
@as_json
@guarded
def rules_list(json_: bool) -> None:
    """List every rule set and whether it is active."""
    config = load_config()
    with database(config) as connection:
        states = rule_set_states.states(connection, config.aggregator.rules_dir)
    rows = [_list_columns(state) for state in states]
    if json_:
        print_json([{**columns, "counts": columns["counts"] == "yes"} for columns in rows])
    else:
        print_table(rows, COLUMNS)


def _list_columns(state: RuleSetState) -> dict[str, Any]:
    columns = {"name": state.name, "counts": "yes" if state.status == "active" else "no", "computing": None}
    if state.rule_set is None:
        return {**columns, "version": UNUSABLE, "title": state.problem}
    if (running := state.computation) is not None:
        columns["computing"] = f"{running.identity}: {running.done} of {running.companies} companies"
    return {**columns, "version": state.identity, "title": state.rule_set.title}


@rules_group.command("show")
@click.argument("name")
@as_json
@guarded
def rules_show(name: str, json_: bool) -> None:
    """Show every parameter of a rule set."""
    rule_set = rules.load(name, load_config().aggregator.rules_dir)
    if json_:
        print_json({**rule_set.parameters(), "identity": rule_set.identity})
        return
    rows = [{"key": key, "value": parameter_text(value)} for key, value in rule_set.parameters().items()]
    print_table(rows, {"key": "parameter", "value": "value"}, f"{rule_set.name} {rule_set.identity}")


@rules_group.command("validate")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@as_json
@guarded
def rules_validate(file: Path, json_: bool) -> None:
    """Check the file of a rule set.

    All problems are reported at once; exit 78 if there are any.
    """
    config = load_config()
    rule_set = rules.read(file)
    rules.check_horizon(rule_set, config.horizon_days)
    if json_:
        print_json({"name": rule_set.name, "identity": rule_set.identity})
    else:
        errors.print(f"{rule_set.name} {rule_set.identity} is valid.", markup=False)


@rules_group.command("activate")
@click.argument("name")
@guarded
def rules_activate(name: str) -> None:
    """Activate a rule set beside the others.

    Aggregators first judge every company by it; then its numbers are shown.
    """
    config = load_config()
    rule_set = rules.load(name, config.aggregator.rules_dir)
    rules.check_horizon(rule_set, config.horizon_days)
    with database(config) as connection:
        is_new = recompute.activate(connection, rule_set)
        is_computing = any(progress["rule_set"] == name for progress in recompute.progress(connection))
    if is_new and not is_computing:
        errors.print(f"{name} {rule_set.identity} is active.", markup=False)
    elif is_new:
        errors.print(
            f"{name} {rule_set.identity} becomes active as soon as every company has been judged by it; `replyrate rules"
            f" list` shows the progress, `replyrate recompute --rules {name}` speeds it up.",
            markup=False,
        )
    else:
        errors.print(f"{name} {rule_set.identity} is already active or being activated.", markup=False)


@rules_group.command("deactivate")
@click.argument("name")
@guarded
def rules_deactivate(name: str) -> None:
    """Deactivate a rule set.

    Its rates are kept in report_v1.reply_rate_history only.
    """
    with database(load_config()) as connection:
        was_active = recompute.deactivate(connection, name)
    errors.print(f"{name} is no longer active." if was_active else f"{name} is not active; see `replyrate rules list`.")
    if not was_active:
        sys.exit(EXIT_FAILED)


@rules_group.command("cancel")
@click.argument("name")
@guarded
def rules_cancel(name: str) -> None:
    """End the unfinished computation of a rule set.

    The numbers that are shown stay.
    """
    with database(load_config()) as connection:
        running = {progress["rule_set"]: progress["identity"] for progress in recompute.progress(connection)}
        identity = running.get(name)
        if identity is None or not recompute.cancel(connection, name, identity):
            errors.print(f"Nothing is being computed for {name}; see `replyrate rules list`.", markup=False)
            sys.exit(EXIT_FAILED)
    errors.print(f"The computation of {name} {identity} has ended; the numbers that are shown stay.", markup=False)


def rule_set_named(name: str, folder: Path | str | None) -> RuleSet:
    """A rule set by name (also from the operator's folder), or from a file (.toml)."""
    return rules.read(Path(name)) if name.endswith(".toml") else rules.load(name, Path(folder) if folder else None)


@rules_group.command("diff")
@click.argument("name_a", metavar="A")
@click.argument("name_b", metavar="B")
@click.option("--company", help="Compare one company and show every inquiry whose outcome differs.")
@as_json
@guarded
def rules_diff(name_a: str, name_b: str, company: str | None, json_: bool) -> None:
    """Compare two rule sets over the real facts.

    Shows today's rate and the outcomes of each company by A and by B, which are names or files (.toml). Nothing is written.
    """
    config = load_config()
    rule_set_a, rule_set_b = (rule_set_named(name, config.aggregator.rules_dir) for name in (name_a, name_b))
    with database(config) as connection, ProgressBars() as report:
        restorer = Restorer(connection, archive_folder(config.aggregator))
        company_ids = comparison.companies(connection, company)
        if company is not None and not company_ids:
            raise ReplyrateError(f"the company {company} is not known; check its id")
        companies = list(
            comparison.compare(connection, rule_set_a, rule_set_b, company_ids, report, restorer.restore_for_today)
        )
    if json_:
        print_json({"a": rule_set_a.identity, "b": rule_set_b.identity, "companies": companies})
        return
    _print_diff(companies, _diff_titles(rule_set_a, rule_set_b), with_inquiries=company is not None)
    changed = sum(comparison.differs(difference) for difference in companies)
    inquiries = sum(len(difference["inquiries"]) for difference in companies)
    errors.print(f"{changed} of {len(companies)} companies differ, {inquiries} inquiries count differently.")


def _print_diff(companies: list[dict[str, Any]], titles: Mapping[str, str], *, with_inquiries: bool) -> None:
    columns = _with_titles(DIFF, titles)
    print_table(
        [_diff_columns(difference, difference["company_id"], len(difference["inquiries"])) for difference in companies],
        columns,
    )
    for difference in companies if with_inquiries else ():
        accounts = difference["accounts"]
        print_table([_diff_columns(account, f"  {account['account_id']}", None) for account in accounts], columns)
        inquiries = [
            {**inquiry, "in_a": _counts_for(inquiry, "a"), "in_b": _counts_for(inquiry, "b")}
            for inquiry in difference["inquiries"]
        ]
        print_table(inquiries, _with_titles(INQUIRY_DIFF, titles))


def _diff_titles(rule_set_a: RuleSet, rule_set_b: RuleSet) -> dict[str, str]:
    """How the two are called in headings: by identity where name and version are the same."""
    is_same = (rule_set_a.name, rule_set_a.version) == (rule_set_b.name, rule_set_b.version)
    return {
        letter: f"{rule_set.name} {rule_set.identity if is_same else rule_set.version}"
        for letter, rule_set in (("a", rule_set_a), ("b", rule_set_b))
    }


def _with_titles(columns: dict[str, str], titles: Mapping[str, str]) -> dict[str, str]:
    return {key: heading.format(**titles) for key, heading in columns.items()}


def _diff_columns(difference: dict[str, Any], name: str, inquiries: int | None) -> dict[str, Any]:
    return {
        **difference, "company_id": name, "inquiries": inquiries, "rate_a": percent(difference["rate_a"]),
        "rate_b": percent(difference["rate_b"]),
    }  # fmt: skip


def _counts_for(inquiry: dict[str, Any], letter: str) -> str:
    """Account and day that an inquiry counts for by one of the two rule sets."""
    outside = "" if inquiry[f"in_window_{letter}"] else " (not in the window)"
    return f"{inquiry[f'account_{letter}']} {inquiry[f'day_{letter}']}{outside}"
