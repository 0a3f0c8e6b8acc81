"""The join of both topics: inquiries with the statuses and replies that belong to them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import rfc8785

from services.recount.facts import BY_BUYER, MATCHED_BY, Inquiry, Json, Reply, Status
from services.recount.instants import SECOND, instant
from services.recount.names import hashed, normal_address, normal_message_id

GRACE = 300 * SECOND
"""How long before its inquiry a reply may be dated: two clocks never agree exactly."""

WEEK = 7 * 86_400 * SECOND
"""A mail whose Date is older than this when it is filed is an old mail, written at its Date."""


def facts_id(key: bytes, data: Json) -> str:
    """The identity of what one `inquiry-received` says: a hash of its canonical form."""

    def known_fields(part: Json, names: Iterable[str]) -> Json:
        fields = {name: part[name] for name in names if part.get(name) is not None}
        return {name: sorted(set(value)) if isinstance(value, list) else value for name, value in fields.items()}

    names = (
        "company_id", "account_id", "inquiry_id", "received_at", "message_ids", "reply_addresses", "thread_id", "channel",
    )  # fmt: skip
    facts = known_fields(data, names)
    facts["buyer"] = known_fields(data["buyer"], ("id", "addresses", "region", "sent_from_region"))
    return hashed(key, "content", data["company_id"], rfc8785.dumps(facts).decode())


def of_type(events: Iterable[Json], kind: str) -> list[Json]:
    """The `data` of the events of one type."""
    return [event["data"] for event in events if event["type"] == f"replyrate.{kind}.v1"]


def joined(inquiries: Sequence[Json], sent: Sequence[Json], key: bytes, *, bounded: bool = True) -> list[Inquiry]:
    """The join of both topics: every inquiry that was received, with its statuses and replies.

    `bounded` keeps, of many mail replies, the few that the contract promises to keep.
    """
    erased: dict[str, int] = {}
    for data in of_type(inquiries, "company-erased"):
        erased[data["company_id"]] = max(instant(data["at"]), erased.get(data["company_id"], 0))

    def not_erased(events: Iterable[Json], kind: str, when: str) -> list[Json]:
        return [data for data in of_type(events, kind) if instant(data[when]) > erased.get(data["company_id"], -1)]

    records: dict[tuple[str, str], list[Json]] = defaultdict(list)
    for data in not_erased(inquiries, "inquiry-received", "received_at"):
        records[data["company_id"], data["inquiry_id"]].append(data)
    statuses: dict[tuple[str, str], set[Status]] = defaultdict(set)
    for data in not_erased(inquiries, "inquiry-status-changed", "at"):
        status = Status(instant(data["at"]), data["status"], data.get("account_id"))
        statuses[data["company_id"], data["inquiry_id"]].add(status)
    platform_replies: dict[tuple[str, str], set[Reply]] = defaultdict(set)
    for data in not_erased(inquiries, "reply-recorded", "replied_at"):
        kind = "automatic" if data.get("automatic") else "human"
        at, reply_id, account_id = instant(data["replied_at"]), data["reply_id"], data["account_id"]
        reply = Reply(at, "platform", reply_id, account_id, kind=kind, matched_by="platform")
        platform_replies[data["company_id"], data["inquiry_id"]].add(reply)
    messages: dict[str, list[Json]] = defaultdict(list)
    for data in not_erased(sent, "message-sent", "sent_at"):
        messages[data["company_id"]].append(data)

    result = []
    for (company_id, inquiry_id), copies in sorted(records.items()):
        # Of several records for one inquiry the earliest speaks; their addresses and Message-IDs are united.
        first = min(copies, key=lambda data: (instant(data["received_at"]), facts_id(key, data)))
        received_at = instant(first["received_at"])
        keys = _join_keys(copies, key)
        mail = mail_replies(received_at, keys, messages[company_id])
        result.append(
            Inquiry(
                company_id,
                inquiry_id,
                first["account_id"],
                received_at,
                first["buyer"]["id"],
                (first["buyer"].get("region"), first["buyer"].get("sent_from_region")),
                first.get("thread_id"),
                frozenset(statuses[company_id, inquiry_id]),
                frozenset(platform_replies[company_id, inquiry_id] | (smallest(mail) if bounded else mail)),
                reachable=bool(keys.relays or keys.addresses),
            )
        )
    return result


class _JoinKeys(NamedTuple):
    """The hashes by which mail is matched with one inquiry."""

    message_ids: set[str]
    relays: set[str]
    addresses: set[str]


def _join_keys(copies: Sequence[Json], key: bytes) -> _JoinKeys:
    """The join keys of all records of one inquiry."""
    keys = _JoinKeys(set(), set(), set())
    for data in copies:
        for texts, hashes, normal, kind in (
            (data.get("message_ids"), keys.message_ids, normal_message_id, "message"),
            (data.get("reply_addresses"), keys.relays, normal_address, "address"),
            (data["buyer"].get("addresses"), keys.addresses, normal_address, "address"),
        ):
            names = [name for text in texts or () if (name := normal(text)) is not None]
            hashes.update(hashed(key, kind, data["company_id"], name) for name in names)
    return keys


def mail_replies(received_at: int, keys: _JoinKeys, messages: Iterable[Json]) -> set[Reply]:
    """The messages that match an inquiry: one reply for each test of the join that succeeds."""
    replies = set()
    for message in messages:
        sent_at = instant(message["sent_at"])
        if sent_at < received_at - GRACE:
            continue
        date = message.get("date_header")
        written_at = sent_at if date is None or sent_at - instant(date) <= WEEK else instant(date)
        recipients = set(message.get("recipients") or ())
        matches = {
            "in-reply-to": keys.message_ids & set(message.get("in_reply_to") or ()),
            "references": keys.message_ids & set((message.get("references") or ())[-20:]),
            "relay-address": keys.relays & recipients,
            "buyer-address": keys.addresses & recipients if written_at >= received_at - GRACE else set(),
        }
        # A forward keeps the thread and answers no buyer.
        for matched_by in MATCHED_BY[2:] if message["kind"] == "forward" else MATCHED_BY:
            if matches[matched_by]:
                reply = Reply(
                    sent_at,
                    "mail",
                    message["message_id"],
                    message["account_id"],
                    message["mailbox_id"],
                    message["kind"],
                    message.get("kind_reason"),
                    message["evidence"],
                    matched_by,
                )
                replies.add(reply)
                if keys.addresses & set(message.get("senders") or ()):
                    replies.add(replace(reply, kind_reason=BY_BUYER))
    return replies


def smallest(mail: Iterable[Reply]) -> set[Reply]:
    """Of each kind, test and evidence the four earliest; of the marks of the buyer's own mail four more."""
    groups: dict[tuple[str, bool, str | None, str | None], list[Reply]] = defaultdict(list)
    for reply in mail:
        groups[reply.kind, reply.kind_reason == BY_BUYER, reply.matched_by, reply.evidence].append(reply)
    return {reply for group in groups.values() for reply in sorted(group, key=lambda reply: reply.place)[:4]}
