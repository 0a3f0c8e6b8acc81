"""The explanation of one inquiry (explain.py) as a page has it: sentences and the tables behind them, in English or Chinese.

`replyrate explain` prints it, and the panel of sellers shows it, in the same words.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.aggregator.explanation_sentences import Reader, sentences
from services.aggregator.texts import Texts
from services.common.display import instant_text, minute_text, utc_text


@dataclass(frozen=True, slots=True)
class ExplanationTable:
    """A table of an explanation; `name` is its code in explain.toml, [label]."""

    name: str
    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class ExplanationPage:
    """The whole explanation for people. `unit`: what is counted, and until when an answer was in time; "" without a unit.
    `note`: that facts wait to be judged; "" when none does."""

    title: str
    sentences: tuple[str, ...]
    note: str
    unit_title: str
    unit: str
    tables: tuple[ExplanationTable, ...]


def explanation_page(story: dict[str, Any], text: Texts, reader: Reader = "operator") -> ExplanationPage:
    """The page of a story; `text` has the sentences of explain.toml. Without `coverage` (None) the page has no such table."""
    rules = f"{story['rule_set']} {story['rule_version']}"
    return ExplanationPage(
        text("label", "title", inquiry=story["inquiry_id"], company=story["company_id"], rules=rules),
        tuple(sentences(story, text, reader)),
        text("history", "waiting") if story["waiting"] else "",
        text("label", "unit"),
        _unit_text(story, text),
        tuple(_tables(story, text)),
    )


def plain_text(page: ExplanationPage) -> str:
    """The page as text that people copy into a mail or a ticket: the sentences, and each table with a line for each row."""
    blocks = [[page.title], list(page.sentences), [page.note], [page.unit_title, page.unit] if page.unit else []]
    for table in page.tables:
        heads = [head for head in (" | ".join(table.heads),) if head.strip(" |")]
        blocks.append([table.title, *heads, *(" | ".join(cells) for cells in table.rows or [("–",)])])
    return "\n\n".join("\n".join(line for line in block if line) for block in blocks if any(block)) + "\n"


def _unit_text(story: dict[str, Any], text: Texts) -> str:
    if "unit" not in story:
        return ""
    unit = story["unit"]
    is_alone = all(member == story["inquiry_id"] for member in unit["members"])
    line = text(
        "unit", "line", account=story["account_id"], day=unit["unit_day"], zone=story["parameters"]["time_zone"],
        start=utc_text(unit["start_at"]), due=utc_text(unit["due_at"]),
    )  # fmt: skip
    together = text("unit", "alone") if is_alone else text("unit", "members", members=", ".join(unit["members"]))
    return f"{line} {together}"


def _tables(story: dict[str, Any], text: Texts) -> Iterator[ExplanationTable]:
    yield _table("facts", ("time", "what"), _facts(story, text), text)
    if "considered" in story:
        replies = [
            (instant_text(reply["at"]), _considered_text(reply, text), text("verdict", reply["verdict"]))
            for reply in _considered_once(story)
        ]
        yield _table("considered", ("time", "what", "verdict"), replies, text)
        if story["unit"]["first_reply_at"] is None and story["coverage"] is not None:
            yield _table("coverage", ("mailbox", "what"), _coverage_rows(story, text), text)
    if story["outcome"] == "unknown":
        return
    parameters = [(text("parameter", name), _value_text(value)) for name, value in story["parameters"].items()]
    yield _table("rules", ("parameter", "value"), parameters, text)
    history = [
        (
            minute_text(version["changed_at"]),
            text("name", version["outcome"]),
            text("name", version["state"]),
            version["rule_version"],
        )
        for version in story["history"]
    ]
    heads = (*(text("label", head) for head in ("changed", "outcome", "state")), "")
    yield ExplanationTable("history", text("label", "history"), heads, tuple(history))


def _table(name: str, heads: Sequence[str], rows: Sequence[tuple[str, ...]], text: Texts) -> ExplanationTable:
    return ExplanationTable(name, text("label", name), tuple(text("label", head) for head in heads), tuple(rows))


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
        parts += [reply["mailbox_id"], text("matched_by", reply["matched_by"])]
        if reply["evidence"]:
            parts.append(text("evidence", reply["evidence"]))
    return ", ".join(parts)


def _kind_text(reply: dict[str, Any], text: Texts) -> str:
    kind = text("kind", reply["kind"])
    return f"{kind} ({text('kind_reason', reply['kind_reason'])})" if reply["kind_reason"] else kind


def _coverage_rows(story: dict[str, Any], text: Texts) -> list[tuple[str, str]]:
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
    return rows


def _value_text(value: Any) -> str:
    """A parameter as text; of a table, the values alone."""
    if isinstance(value, list | tuple):
        return ", ".join(_value_text(part) for part in value) or "–"
    if isinstance(value, dict):
        return " ".join(str(part) for part in value.values() if part is not None)
    return str(value)
