"""`explain COMPANY INQUIRY`: one number's story, in English or Chinese."""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click
import psycopg
from rich.console import Console
from rich.table import Table

from services.aggregator import explain as account
from services.aggregator.judge.rules import RuleSet
from services.aggregator.refresh import recompute
from services.cli.context import as_json, database, duration, guarded, load_config, print_json
from services.cli.numbers import rules
from services.cli.texts import LANGUAGES, Texts
from services.common.errors import EXIT_FAILED, ReplyrateError

language = click.option(
    "--lang", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Language of the answer."
)


@click.command()
@click.argument("company_id")
@click.argument("inquiry_id")
@click.option("--rules", "name", help="Rule set; every active one when not given.")
@language
@as_json
@guarded
def explain(company_id: str, inquiry_id: str, name: str | None, lang: str, json_: bool) -> None:
    """Why an inquiry counts as it does: facts, what was considered, rules, deadline, outcome, history.

    Exit 1 when the inquiry is not known.
    """
    found = load_config()
    with database(found) as connection:
        stories = [
            account.explain(connection, rule_set, company_id, inquiry_id)
            for rule_set in chosen(connection, name, lambda other: rules.by_name(other, found.aggregator.rules_dir))
        ]
    for story in stories:
        story["sentences"] = {one: sentences(story, Texts("explain", one)) for one in LANGUAGES}
    if json_:
        print_json(stories)
    else:
        for story in stories:
            print_explanation(story, Texts("explain", lang))
    if any(story["outcome"] == "unknown" for story in stories):
        sys.exit(EXIT_FAILED)


def chosen(connection: psycopg.Connection, name: str | None, load: Any) -> list[RuleSet]:
    """The rule set of that name (as it counts, else as its file says), or all that count."""
    active = recompute.active_readonly(connection)
    if name is None:
        if not active:
            raise ReplyrateError("no rule set counts yet; start the aggregator, or name one with --rules")
        return active
    return [one for one in active if one.name == name] or [load(name)]


def sentences(story: dict[str, Any], text: Texts) -> list[str]:
    """What became of the inquiry and why, in whole sentences."""
    outcome = story["outcome"]
    if outcome == "unknown":
        received = [one["received_at"] for one in story["facts"]["inquiries"] if one["received_at"] is not None]
        if received:
            return [text("outcome", "unknown"), text("unknown", "later", at=_utc(received[0]))]
        known = any(story["facts"][name] for name in ("statuses", "replies"))
        return [text("outcome", "unknown"), text("unknown", "facts" if known else "nothing")]
    if outcome == "excluded":
        limit = (story["exclusion"] or {}).get("within_seconds")
        within = "" if limit is None else text("excluded", "within", limit=duration(limit))
        why = text("excluded", story["excluded_by"], within=within)
        return [text("outcome", "excluded", why=why), text("state", story["state"])]
    unit = story["unit"]
    whole = _whole(story, unit["unit_outcome"], text)
    if outcome == "merged":
        kind = text("unit", story["parameters"]["unit"])
        whole = text("outcome", "merged", first=unit["unit_inquiry_id"], unit=kind, whole=whole)
    reasons = [text("reason", unit["unit_reason"])] if unit["unit_reason"] else []
    if story["reading_waits"] and unit["unit_outcome"] in ("unmeasured", "unanswered") and not unit["covered"]:
        reasons.append(text("reason", "reading-waits", counted=_utc(story["counted_until"].replace(microsecond=0))))
    return [whole, *reasons, text("state", story["state"])]


def _whole(story: dict[str, Any], outcome: str, text: Texts) -> str:
    unit = story["unit"]
    # Late although the answer's own clock says that it was in time: the rule set does not trust that clock.
    in_time = outcome == "late" and unit["reply_seconds"] <= story["parameters"]["target_seconds"]
    unread = outcome == "unanswered" and not unit["covered"]
    # Its time is over, and what was sent in that time may still be on its way to be counted.
    if outcome == "pending" and unit["due_at"] <= story["now"]:
        outcome = "pending-uncounted"
    code = "late-unverified" if in_time else "unanswered-unread" if unread else outcome
    return text(
        "outcome", code, taken=duration(unit["reply_seconds"]), target=duration(story["parameters"]["target_seconds"]),
        due=_utc(unit["due_at"]), now=_utc(story["now"].replace(microsecond=0)),
        counted=_utc((story["counted_until"] or story["now"]).replace(microsecond=0)),
    )  # fmt: skip


def print_explanation(story: dict[str, Any], text: Texts) -> None:
    """The whole story for a person."""
    out = Console(highlight=False)
    rules = f"{story['rule_set']} {story['rule_version']}"
    title = text("label", "title", inquiry=story["inquiry_id"], company=story["company_id"], rules=rules)
    out.print(f"\n{title}", style="bold", markup=False)
    for sentence in sentences(story, text):
        out.print(sentence, markup=False)
    if story["waiting"]:
        out.print(text("history", "waiting"), style="yellow", markup=False)
    if "unit" in story:
        unit, others = story["unit"], [one for one in story["unit"]["members"] if one != story["inquiry_id"]]
        line = text(
            "unit", "line", account=story["account_id"], day=unit["unit_day"], zone=story["parameters"]["time_zone"],
            start=_utc(unit["start_at"]), due=_utc(unit["due_at"]),
        )  # fmt: skip
        together = text("unit", "members", members=", ".join(unit["members"])) if others else text("unit", "alone")
        _section(out, text("label", "unit"))
        out.print(f"{line} {together}", markup=False)
    _table(out, text("label", "facts"), (text("label", "time"), text("label", "what")), list(_facts(story, text)), text)
    if "considered" in story:
        replies = [(shown(one["at"]), _considered(one, text), text("verdict", one["verdict"])) for one in _once(story)]
        columns = (text("label", "time"), text("label", "what"), text("label", "verdict"))
        _table(out, text("label", "considered"), columns, replies, text)
        if story["unit"]["first_reply_at"] is None:
            _coverage(out, story, text)
    if story["outcome"] == "unknown":
        return
    rows = [(name, _plainly(value)) for name, value in story["parameters"].items()]
    _table(out, text("label", "rules"), (text("label", "parameter"), text("label", "value")), rows, text)
    past = [
        (_roughly(one["changed_at"]), text("name", one["outcome"]), text("name", one["state"]), one["rule_version"])
        for one in story["history"]
    ]
    heads = (text("label", "changed"), text("label", "outcome"), text("label", "state"), "")
    _table(out, text("label", "history"), heads, past, text)


def _facts(story: dict[str, Any], text: Texts) -> list[tuple[str, str]]:
    rows: list[tuple[datetime, str]] = []
    for one in story["facts"]["inquiries"]:
        if one["received_at"] is not None:
            regions = one["buyer_region"] or one["buyer_sent_from_region"]
            region = {"region": one["buyer_region"] or "–", "sent_from": one["buyer_sent_from_region"] or "–"}
            values = {
                "inquiry": one["inquiry_id"], "account": one["account_id"], "buyer": one["buyer_id"],
                "regions": text("source", "regions", **region) if regions else "",
            }  # fmt: skip
            rows.append((one["received_at"], text("source", "inquiry", **values)))
    for one in story["facts"]["statuses"]:
        code = "reassigned" if one["status"] == "reassigned" else "status"
        rows.append((one["at"], text("fact", code, status=text("status", one["status"]), account=one["account_id"])))
    replies: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in story["facts"]["replies"]:
        key = (one["replied_at"], one["source"], one["reply_id"], one["account_id"], one["mailbox_id"], one["kind"])
        replies.setdefault(key, []).append(one)
    for (at, *_), entries in replies.items():
        one = entries[0]
        ways = ", ".join(text("matched_by", way) for way in dict.fromkeys(entry["matched_by"] for entry in entries))
        values = {"mailbox": one["mailbox_id"], "account": one["account_id"], "kind": _kind(one, text), "matched": ways}
        parts = [text("fact", one["source"], **values)]
        if one["evidence"]:
            parts.append(text("evidence", one["evidence"]))
        if one["clock"]:
            parts.append(text("basis", one["clock"]["basis"]))
        rows.append((at, "; ".join(parts)))
    return [(shown(at), line) for at, line in sorted(rows, key=lambda row: row[0])]


def _once(story: dict[str, Any]) -> list[dict[str, Any]]:
    """Each reply of each mailbox once, by its strongest evidence; those from the future at the end."""
    seen: set[tuple[Any, ...]] = set()
    rows = []
    for one in story["considered"]:
        key = (one["at"], one["source"], one["reply_id"], one["mailbox_id"], one["account_id"], one["verdict"])
        if key not in seen:
            seen.add(key)
            rows.append(one)
    future = [one for one in story["facts"]["replies"] if one["replied_at"] >= story["now"]]
    return rows + [{**one, "at": one["replied_at"], "verdict": "not-yet"} for one in future]


def _considered(one: dict[str, Any], text: Texts) -> str:
    if one["source"] == "status":
        return text("source", "status", status=text("status", one["reply_id"]))
    parts = [text("source", one["source"]), _kind(one, text)]
    if one["source"] == "mail":
        parts += [one["mailbox_id"], text("matched_by", one["matched_by"]), text("evidence", one["evidence"])]
    return ", ".join(parts)


def _kind(one: dict[str, Any], text: Texts) -> str:
    kind = text("kind", one["kind"])
    return f"{kind} ({text('kind_reason', one['kind_reason'])})" if one["kind_reason"] else kind


def _coverage(out: Console, story: dict[str, Any], text: Texts) -> None:
    rows = []
    for one in story["coverage"]:
        if one["covers"]:
            what = text("coverage", "covers")
        elif one["complete_from"] is None:
            what = text("coverage", "never")
        else:
            spans = {"from": _roughly(one["complete_from"]), "through": _roughly(one["complete_through"])}
            what = text("coverage", "gap", **spans)
        if not one["due"] and one["mailbox_id"] is not None:
            code = "later" if one["connected_at"] > story["unit"]["due_at"] else "removed"
            at = one["connected_at"] if code == "later" else one["removed_at"]
            what = text("coverage", code, at=_roughly(at), rest=what)
        rows.append((one["mailbox_id"] or text("coverage", "platform"), what))
    if not rows:
        rows.append(("–", text("coverage", "nobody")))
    _table(out, text("label", "coverage"), (text("label", "mailbox"), text("label", "what")), rows, text)


def _section(out: Console, title: str) -> None:
    out.print(f"\n{title}", style="bold cyan", markup=False)


def _table(out: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], text: Texts) -> None:
    _section(out, title)
    if not rows:
        out.print(text("label", "none"), markup=False)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, head in enumerate(heads):
        table.add_column(head, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*row)
    out.print(table, markup=False)


def _plainly(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plainly(one) for one in value) or "–"
    if isinstance(value, dict):
        return " ".join(str(part) for part in value.values() if part is not None)
    return str(value)


def shown(at: datetime | None) -> str:
    """An instant for a person: to the second, finer only when it is."""
    if at is None:
        return "–"
    return f"{at:%Y-%m-%d %H:%M:%S}" + (f".{at.microsecond:06}" if at.microsecond else "")


def _utc(at: datetime) -> str:
    return f"{shown(at)} UTC"


def _roughly(at: datetime | None) -> str:
    return "–" if at is None else f"{at:%Y-%m-%d %H:%M}"
