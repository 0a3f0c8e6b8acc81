"""The state of a sent message: published by which mailboxes, matched to which inquiries, counted or not, or never seen.

Reads only. What a rule set makes of the message is taken from the story of each inquiry that it is attached to
(explain.py), so it is what the judge made of it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import psycopg
from psycopg.rows import dict_row

from services.aggregator.explain import explain_inquiry
from services.aggregator.judge.rules import RuleSet
from services.common.errors import ReplyrateError
from services.common.hashing import Hasher
from services.common.normal_forms import normalise_message_id
from services.common.postgres import load_statements, translate
from services.common.stored_message import MailboxPlace, StoredMessage, event_of

SQL: Final = load_statements("services.aggregator", "message_story.sql")
MAX_INQUIRIES: Final = 50
"""Matched inquiries that are explained, and inquiries that share an id or address that are listed."""
COUNTING: Final = ("answer", "unverified-answer")
"""Verdicts on a reply that stops the clock of its inquiry."""

PUBLICATION_KEYS: Final = (
    "mailbox_id", "account_id", "mailbox_state", "published_at", "sent_at", "sent_at_basis", "evidence", "kind",
    "kind_reason", "date_header", "internal_date", "save_date", "filed_after", "filed_before", "recipients", "in_reply_to",
    "references",
)  # fmt: skip
"""Of a publication: recipients, in_reply_to and references are counts of hashes."""

Status = Literal["matched", "published", "never-seen"]
Unknowable = Literal["forgotten", "dead-letters", "dropped", "without-message-id"]
"""What cannot be known of a message: whether it was published before the horizon or by a mailbox that was removed since; is a
dead letter; was dropped as a draft and the like; has a copy without a Message-ID in the Sent folder."""


def message_story(
    connection: psycopg.Connection, rule_sets: Sequence[RuleSet], hasher: Hasher, company_id: str, message_id: str
) -> dict[str, Any]:
    """Everything that is known of a message, as plain values. ReplyrateError when `message_id` is no Message-ID.

    Keys: company_id, message_id, hash, status, company_known, counted_until (what was published later may not be counted
    yet; None: no watermark is kept), publications, inquiries (each with its judgements), inquiries_left_out,
    sharing_inquiries (they share an id or address, and the message is not attached to them), mailboxes, unknowable.
    """
    normal = normalise_message_id(message_id)
    message = hasher.message(company_id, message_id)
    if normal is None or message is None:
        raise ReplyrateError(f"{message_id!r} is not a Message-ID; copy it from the header of the message: <…@…>")
    place = {"company_id": company_id, "message": message}
    with translate(), connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:

        def rows(name: str, **values: Any) -> list[dict[str, Any]]:
            return cursor.execute(SQL[name], {**place, **values}).fetchall()

        (company,) = rows("company")
        publications = [_publication(place, publication) for publication in rows("publications")]
        matches = rows("matches")
        sharing = rows("sharing_inquiries", **_keys(publications), limit=MAX_INQUIRIES) if publications else []
        mailboxes = rows("mailboxes")
    inquiry_ids = list(dict.fromkeys(match["inquiry_id"] for match in matches))
    explained = inquiry_ids[:MAX_INQUIRIES]
    status: Status = "matched" if matches else "published" if publications else "never-seen"
    return {
        "company_id": company_id,
        "message_id": normal,
        "hash": message,
        "status": status,
        "company_known": company["known"],
        "counted_until": company["counted_until"],
        "publications": [{name: publication[name] for name in PUBLICATION_KEYS} for publication in publications],
        "inquiries": [
            {
                "inquiry_id": inquiry_id,
                "matches": [
                    {name: value for name, value in match.items() if name != "inquiry_id"}
                    for match in matches
                    if match["inquiry_id"] == inquiry_id
                ],
                "judgements": [
                    _judgement(explain_inquiry(connection, rule_set, company_id, inquiry_id), message)
                    for rule_set in rule_sets
                ],
            }
            for inquiry_id in explained
        ],
        "inquiries_left_out": len(inquiry_ids) - len(explained),
        "sharing_inquiries": sharing,
        "mailboxes": mailboxes,
        "unknowable": _unknowable(status, publications),
    }


def _publication(place: Mapping[str, str], stored_columns: Mapping[str, Any]) -> dict[str, Any]:
    """A publication with what its record says; its hashes under `ids` and `addresses`. `place`: company and message."""
    publication = dict(stored_columns)
    record = bytes(publication.pop("record"))
    stored = StoredMessage(place["message"], stored_columns["sent_at"], stored_columns["published_at"], record)
    sent = event_of(
        stored, MailboxPlace(place["company_id"], stored_columns["account_id"], stored_columns["mailbox_id"])
    )
    fields = ("sent_at_basis", "evidence", "kind", "kind_reason", "date_header", "internal_date", "save_date",
              "filed_after", "filed_before")  # fmt: skip
    publication |= {name: None if sent is None else getattr(sent, name) for name in fields}
    publication |= {
        name: None if sent is None else len(getattr(sent, name)) for name in ("recipients", "in_reply_to", "references")
    }
    publication["ids"] = [] if sent is None else [*sent.in_reply_to, *sent.references]
    publication["addresses"] = [] if sent is None else list(sent.recipients)
    return publication


def _keys(publications: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a message can be matched by, over all its copies."""
    sent_ats: list[datetime] = [publication["sent_at"] for publication in publications]
    return {
        "sent_at": max(sent_ats),
        "ids": sorted({text for publication in publications for text in publication["ids"]}),
        "addresses": sorted({text for publication in publications for text in publication["addresses"]}),
    }


def _judgement(story: Mapping[str, Any], message: str) -> dict[str, Any]:
    """What a rule set makes of an inquiry, and of the message as a reply to it.

    `verdict` None: the message was not considered (the inquiry does not count, or is not judged yet).
    """
    verdicts = [
        reply["verdict"]
        for reply in story.get("considered", ())
        if reply["source"] == "mail" and reply["reply_id"] == message
    ]
    if not verdicts and any(
        reply["reply_id"] == message and reply["replied_at"] >= story["now"] for reply in story["facts"]["replies"]
    ):
        verdicts = ["not-yet"]
    verdict = next((verdict for verdict in COUNTING if verdict in verdicts), verdicts[0] if verdicts else None)
    return {
        "rule_set": story["rule_set"],
        "rule_version": story["rule_version"],
        "outcome": story["outcome"],
        "reason": story.get("reason"),
        "state": story.get("state"),
        "excluded_by": story.get("excluded_by"),
        "verdict": verdict,
        "counts": verdict in COUNTING,
        "waiting": story["waiting"],
    }


def _unknowable(status: Status, publications: Sequence[object]) -> list[Unknowable]:
    if status == "never-seen":
        return ["forgotten", "dead-letters", "dropped", "without-message-id"]
    return [] if publications else ["forgotten"]
