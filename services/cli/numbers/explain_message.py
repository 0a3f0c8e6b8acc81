"""`explain COMPANY --message MESSAGE-ID`: the state of a sent message, in English or Chinese."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console

from services.aggregator.texts import Texts
from services.cli.numbers.story_parts import print_table
from services.cli.output import SafeConsole
from services.common.display import instant_text, minute_text, printable, utc_text
from services.registry import states


class MessageTexts:
    """The sentences of one language: those about messages, and those about inquiries that both use."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.of_message = Texts("explain-message", language)
        self.of_inquiry = Texts("explain", language)


def message_sentences(story: dict[str, Any], texts: MessageTexts, horizon_days: int) -> list[str]:
    """The state of a message, the reason, and what cannot be known, in whole sentences."""
    text = texts.of_message
    sentences = [text("status", story["status"], inquiries=len(story["inquiries"]) + story["inquiries_left_out"])]
    if not story["company_known"]:
        sentences.append(text("mailboxes", "no-company", company=story["company_id"]))
    if story["status"] == "matched":
        sentences += _verdict_sentences(story, texts)
    if story["status"] == "published":
        sentences += _unmatched_sentences(story, text)
    if story["inquiries_left_out"]:
        sentences.append(text("waiting", "left-out", count=story["inquiries_left_out"]))
    if any(judgement["waiting"] for inquiry in story["inquiries"] for judgement in inquiry["judgements"]):
        sentences.append(text("waiting", "judgement"))
    sentences += [text("unknowable", code, days=horizon_days) for code in story["unknowable"]]
    return sentences


def _verdict_sentences(story: dict[str, Any], texts: MessageTexts) -> Iterator[str]:
    text = texts.of_message
    for inquiry in story["inquiries"]:
        if not inquiry["judgements"]:
            yield text("counted", "no-rules")
            return
        for judgement in inquiry["judgements"]:
            names = {"inquiry": inquiry["inquiry_id"], "rules": judgement["rule_set"]}
            if judgement["counts"]:
                yield text("counted", "yes", **names)
            else:
                yield text("counted", "no", why=_why_not(judgement, texts), **names)


def _why_not(judgement: dict[str, Any], texts: MessageTexts) -> str:
    if judgement["verdict"] is not None:
        return texts.of_inquiry("verdict", judgement["verdict"])
    if judgement["outcome"] == "excluded":
        return texts.of_message(
            "counted", "excluded", why=texts.of_inquiry("excluded", judgement["excluded_by"], within="")
        )  # fmt: skip
    return texts.of_message("counted", "unknown" if judgement["outcome"] == "unknown" else "not-judged")


def _unmatched_sentences(story: dict[str, Any], text: Texts) -> list[str]:
    publications, sentences = story["publications"], []
    first = min(publication["published_at"] for publication in publications)
    if story["counted_until"] is not None and first > story["counted_until"]:
        counted, published = (utc_text(at.replace(microsecond=0)) for at in (story["counted_until"], first))
        sentences.append(text("waiting", "pipeline", counted=counted, published=published))
    keys = sum(
        publication[name] or 0 for publication in publications for name in ("recipients", "in_reply_to", "references")
    )
    if not keys:
        sentences.append(text("unmatched", "no-keys"))
    elif not story["sharing_inquiries"]:
        sentences.append(text("unmatched", "no-shared-key"))
    return sentences


def print_message_story(story: dict[str, Any], texts: MessageTexts, horizon_days: int) -> None:
    """Print the whole explanation for people."""
    text, out = texts.of_message, SafeConsole()
    title = text("label", "title", message=printable(story["message_id"]), company=story["company_id"])
    out.print(f"\n{title}", style="bold", markup=False)
    out.print(text("label", "hash", hash=story["hash"]), markup=False)
    for sentence in message_sentences(story, texts, horizon_days):
        out.print(sentence, markup=False)
    if story["publications"]:
        heads = [text("label", name) for name in ("mailbox", "published", "sent", "what")]
        print_table(out, text("label", "publications"), heads, list(_publication_rows(story, texts)), text)
    if story["inquiries"]:
        heads = [text("label", name) for name in ("inquiry", "matched", "rules", "verdict", "outcome")]
        print_table(out, text("label", "inquiries"), heads, list(_inquiry_rows(story, texts)), text)
    if story["sharing_inquiries"]:
        heads = [text("label", name) for name in ("inquiry", "account", "received", "why")]
        print_table(out, text("label", "sharing"), heads, list(_sharing_rows(story, text)), text)
    if story["status"] == "never-seen" and story["company_known"]:
        _print_mailboxes(out, story, texts)


def _publication_rows(story: dict[str, Any], texts: MessageTexts) -> Iterator[tuple[str, ...]]:
    text = texts.of_inquiry
    for publication in story["publications"]:
        parts = []
        if publication["kind"] is not None:
            parts = [
                _kind_text(publication, text),
                text("evidence", publication["evidence"]),
                text("basis", publication["sent_at_basis"]),
            ]
        yield (
            publication["mailbox_id"],
            minute_text(publication["published_at"]),
            instant_text(publication["sent_at"]),
            "; ".join(parts) or "–",
        )


def _inquiry_rows(story: dict[str, Any], texts: MessageTexts) -> Iterator[tuple[str, ...]]:
    text = texts.of_inquiry
    for inquiry in story["inquiries"]:
        ways = dict.fromkeys(way for match in inquiry["matches"] for way in match["matched_by"])
        matched = ", ".join(text("matched_by", way) for way in ways)
        for judgement in inquiry["judgements"]:
            verdict = text("verdict", judgement["verdict"]) if judgement["verdict"] else _why_not(judgement, texts)
            outcome = text("name", judgement["outcome"])
            if judgement["reason"] and judgement["outcome"] != "excluded":
                outcome += f" ({text('reason', judgement['reason'])})"
            yield inquiry["inquiry_id"], matched, judgement["rule_set"], verdict, outcome
        if not inquiry["judgements"]:
            yield inquiry["inquiry_id"], matched, "–", "–", "–"


def _sharing_rows(story: dict[str, Any], text: Texts) -> Iterator[tuple[str, ...]]:
    for inquiry in story["sharing_inquiries"]:
        if inquiry["received_at"] is None:
            code = "no-receipt"
        else:
            code = "received-later" if inquiry["received_later"] else "not-attached"
        yield (
            inquiry["inquiry_id"],
            inquiry["account_id"] or "–",
            minute_text(inquiry["received_at"]),
            text("sharing", code),
        )


def _print_mailboxes(out: Console, story: dict[str, Any], texts: MessageTexts) -> None:
    text, names = texts.of_message, states.load().names
    rows = []
    for mailbox in story["mailboxes"]:
        if mailbox["complete_through"] is None:
            complete = text("mailboxes", "never")
        else:
            complete = f"{minute_text(mailbox['complete_from'])} … {minute_text(mailbox['complete_through'])}"
        unread = "–"
        if mailbox["unread_folders"]:
            unread = text(
                "mailboxes", "unread", folders=mailbox["unread_folders"], messages=mailbox["unread_messages"]
            )  # fmt: skip
        state = getattr(names[mailbox["state"]], texts.language)
        reason = f" ({mailbox['state_reason']})" if mailbox["state_reason"] else ""
        rows.append((mailbox["mailbox_id"], mailbox["account_id"], state + reason, complete, unread))
    heads = [text("label", name) for name in ("mailbox", "account", "state", "complete", "unread")]
    print_table(out, text("label", "mailboxes"), heads, rows, text)
    out.print(text("mailboxes", "rule" if rows else "no-mailbox"), markup=False)


def _kind_text(publication: dict[str, Any], text: Texts) -> str:
    kind = text("kind", publication["kind"])
    return f"{kind} ({text('kind_reason', publication['kind_reason'])})" if publication["kind_reason"] else kind
