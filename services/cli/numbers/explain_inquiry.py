"""The explanation of one inquiry for people: its sentences and the tables behind them, in English or Chinese."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console

from services.aggregator.explanation_sentences import sentences
from services.aggregator.texts import Texts
from services.cli.numbers.story_parts import print_section, print_table
from services.cli.output import SafeConsole
from services.common.display import instant_text, minute_text, utc_text


def print_explanation(story: dict[str, Any], text: Texts) -> None:
    """Print the whole explanation for people."""
    out = SafeConsole()
    rules = f"{story['rule_set']} {story['rule_version']}"
    title = text("label", "title", inquiry=story["inquiry_id"], company=story["company_id"], rules=rules)
    out.print(f"\n{title}", style="bold", markup=False)
    for sentence in sentences(story, text):
        out.print(sentence, markup=False)
    if story["waiting"]:
        out.print(text("history", "waiting"), style="yellow", markup=False)
    if "unit" in story:
        unit = story["unit"]
        is_alone = all(member == story["inquiry_id"] for member in unit["members"])
        line = text(
            "unit", "line", account=story["account_id"], day=unit["unit_day"], zone=story["parameters"]["time_zone"],
            start=utc_text(unit["start_at"]), due=utc_text(unit["due_at"]),
        )  # fmt: skip
        together = text("unit", "alone") if is_alone else text("unit", "members", members=", ".join(unit["members"]))
        print_section(out, text("label", "unit"))
        out.print(f"{line} {together}", markup=False)
    print_table(
        out, text("label", "facts"), (text("label", "time"), text("label", "what")), list(_facts(story, text)), text
    )
    if "considered" in story:
        replies = [
            (instant_text(reply["at"]), _considered_text(reply, text), text("verdict", reply["verdict"]))
            for reply in _considered_once(story)
        ]
        columns = (text("label", "time"), text("label", "what"), text("label", "verdict"))
        print_table(out, text("label", "considered"), columns, replies, text)
        if story["unit"]["first_reply_at"] is None:
            _print_coverage(out, story, text)
    if story["outcome"] == "unknown":
        return
    rows = [(name, _value_text(value)) for name, value in story["parameters"].items()]
    print_table(out, text("label", "rules"), (text("label", "parameter"), text("label", "value")), rows, text)
    history = [
        (
            minute_text(version["changed_at"]),
            text("name", version["outcome"]),
            text("name", version["state"]),
            version["rule_version"],
        )
        for version in story["history"]
    ]
    heads = (text("label", "changed"), text("label", "outcome"), text("label", "state"), "")
    print_table(out, text("label", "history"), heads, history, text)


def _facts(story: dict[str, Any], text: Texts) -> list[tuple[str, str]]:
    """Time and description of every fact, earliest first."""
    facts = story["facts"]
    lines = [
        *(_inquiry_line(inquiry, text) for inquiry in facts["inquiries"] if inquiry["received_at"] is not None),
        *(_status_line(status, text) for status in facts["statuses"]),
        *_reply_lines(facts["replies"], text),
    ]
    return [(instant_text(at), line) for at, line in sorted(lines, key=lambda line: line[0])]


def _inquiry_line(inquiry: dict[str, Any], text: Texts) -> tuple[datetime, str]:
    regions = inquiry["buyer_region"] or inquiry["buyer_sent_from_region"]
    region = {"region": inquiry["buyer_region"] or "–", "sent_from": inquiry["buyer_sent_from_region"] or "–"}
    values = {
        "inquiry": inquiry["inquiry_id"], "account": inquiry["account_id"], "buyer": inquiry["buyer_id"],
        "regions": text("source", "regions", **region) if regions else "",
    }  # fmt: skip
    return inquiry["received_at"], text("source", "inquiry", **values)


def _status_line(status: dict[str, Any], text: Texts) -> tuple[datetime, str]:
    code = "reassigned" if status["status"] == "reassigned" else "status"
    return status["at"], text("fact", code, status=text("status", status["status"]), account=status["account_id"])


def _reply_lines(replies: Sequence[dict[str, Any]], text: Texts) -> Iterator[tuple[datetime, str]]:
    """A line for each reply, with every way in which it was matched."""
    by_reply: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for reply in replies:
        key = (
            reply["replied_at"], reply["source"], reply["reply_id"], reply["account_id"], reply["mailbox_id"], reply["kind"],
        )  # fmt: skip
        by_reply.setdefault(key, []).append(reply)
    for (at, *_), entries in by_reply.items():
        reply = entries[0]
        ways = ", ".join(text("matched_by", way) for way in dict.fromkeys(entry["matched_by"] for entry in entries))
        values = {
            "mailbox": reply["mailbox_id"], "account": reply["account_id"], "kind": _kind_text(reply, text), "matched": ways,
        }  # fmt: skip
        parts = [text("fact", reply["source"], **values)]
        if reply["evidence"]:
            parts.append(text("evidence", reply["evidence"]))
        if reply["clock"]:
            parts.append(text("basis", reply["clock"]["basis"]))
        yield at, "; ".join(parts)


def _considered_once(story: dict[str, Any]) -> list[dict[str, Any]]:
    """Each reply of each mailbox once, by its strongest evidence; replies from the future at the end."""
    seen: set[tuple[Any, ...]] = set()
    considered = []
    for reply in story["considered"]:
        key = (
            reply["at"], reply["source"], reply["reply_id"], reply["mailbox_id"], reply["account_id"], reply["verdict"],
        )  # fmt: skip
        if key not in seen:
            seen.add(key)
            considered.append(reply)
    future = [reply for reply in story["facts"]["replies"] if reply["replied_at"] >= story["now"]]
    return considered + [{**reply, "at": reply["replied_at"], "verdict": "not-yet"} for reply in future]


def _considered_text(reply: dict[str, Any], text: Texts) -> str:
    if reply["source"] == "status":
        return text("source", "status", status=text("status", reply["reply_id"]))
    parts = [text("source", reply["source"]), _kind_text(reply, text)]
    if reply["source"] == "mail":
        parts += [reply["mailbox_id"], text("matched_by", reply["matched_by"]), text("evidence", reply["evidence"])]
    return ", ".join(parts)


def _kind_text(reply: dict[str, Any], text: Texts) -> str:
    kind = text("kind", reply["kind"])
    return f"{kind} ({text('kind_reason', reply['kind_reason'])})" if reply["kind_reason"] else kind


def _print_coverage(out: Console, story: dict[str, Any], text: Texts) -> None:
    rows = []
    for interval in story["coverage"]:
        if interval["covers"]:
            coverage = text("coverage", "covers")
        elif interval["complete_from"] is None:
            coverage = text("coverage", "never")
        else:
            from_, through = minute_text(interval["complete_from"]), minute_text(interval["complete_through"])
            coverage = text("coverage", "gap", **{"from": from_, "through": through})
        if not interval["due"] and interval["mailbox_id"] is not None:
            code = "later" if interval["connected_at"] > story["unit"]["due_at"] else "removed"
            at = interval["connected_at"] if code == "later" else interval["removed_at"]
            coverage = text("coverage", code, at=minute_text(at), rest=coverage)
        rows.append((interval["mailbox_id"] or text("coverage", "platform"), coverage))
    if not rows:
        rows.append(("–", text("coverage", "nobody")))
    print_table(out, text("label", "coverage"), (text("label", "mailbox"), text("label", "what")), rows, text)


def _value_text(value: Any) -> str:
    """A parameter as text; of a table, the values alone."""
    if isinstance(value, list | tuple):
        return ", ".join(_value_text(part) for part in value) or "–"
    if isinstance(value, dict):
        return " ".join(str(part) for part in value.values() if part is not None)
    return str(value)
