"""The worked example of docs/rules-worked.md: dumps as `replyrate replay` reads them, written from the story below.

    python examples/worked/make.py [FOLDER]

One seller, `shop`, has two accounts with a mailbox each. The script imports no code of replyrate. Write a story of your own
in the same way to see what a rule set makes of it, or to report a number that looks wrong (docs/replay.md).
"""

import hashlib
import hmac
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KEY = b"worked example key, not a secret"
COMPANY = "shop"
MAILBOXES = {"main": "main-mail", "desk": "desk-mail"}
"""Account → its mailbox."""

# Inquiry, account that received it, buyer, instant (UTC). The last column has further facts about buyer or conversation.
INQUIRIES: list[tuple[str, str, str, str, dict[str, Any]]] = [
    ("i01", "desk", "olga", "2026-01-05T17:00:00Z", {}),
    ("i02", "main", "ana", "2026-02-23T18:00:00Z", {}),
    ("i03", "main", "ana", "2026-02-23T23:00:00Z", {}),
    ("i04", "main", "ben", "2026-02-24T17:00:00Z", {}),
    ("i05", "main", "cem", "2026-02-25T17:00:00Z", {}),
    ("i06", "main", "dora", "2026-02-26T17:00:00Z", {}),
    ("i07", "main", "eli", "2026-02-26T20:00:00Z", {}),
    ("i08", "main", "fay", "2026-02-27T17:00:00Z", {}),
    ("i09", "main", "gu", "2026-03-02T17:00:00Z", {"region": "CN"}),
    ("i10", "main", "hal", "2026-03-03T17:00:00Z", {}),
    ("i11", "main", "ida", "2026-03-03T19:00:00Z", {}),
    ("i12", "main", "jan", "2026-03-04T17:00:00Z", {}),
    ("i13", "main", "kim", "2026-03-04T19:00:00Z", {}),
    ("i14", "main", "leo", "2026-03-05T16:00:00Z", {}),
    ("i15", "desk", "mia", "2026-03-05T17:00:00Z", {}),
    ("i16", "main", "noa", "2026-03-09T06:50:00Z", {"thread_id": "noa-asks"}),
    ("i17", "main", "noa", "2026-03-09T07:10:00Z", {"thread_id": "noa-asks"}),
    ("i18", "main", "oto", "2026-03-10T17:00:00Z", {}),
    ("i19", "main", "pia", "2026-03-11T17:00:00Z", {}),
    ("i20", "main", "quin", "2026-03-14T17:00:00Z", {}),
    ("i21", "main", "ria", "2026-03-17T17:00:00Z", {}),
    ("i22", "desk", "sam", "2026-03-19T17:00:00Z", {}),
    ("i23", "main", "tom", "2026-03-20T17:00:00Z", {}),
]

# Status changes of inquiries on the platform.
STATUSES: list[tuple[str, str, str, dict[str, Any]]] = [
    ("i07", "spam", "2026-02-27T06:00:00Z", {}),
    ("i08", "spam", "2026-03-01T19:00:00Z", {}),
    ("i10", "declined", "2026-03-03T20:00:00Z", {}),
    ("i11", "trashed", "2026-03-04T00:00:00Z", {}),
    ("i12", "blacklisted", "2026-03-05T13:00:00Z", {}),
    ("i13", "withdrawn", "2026-03-04T21:00:00Z", {}),
    ("i14", "buyer-closed", "2026-03-09T16:00:00Z", {}),
    ("i18", "reassigned", "2026-03-10T18:00:00Z", {"account_id": "desk"}),
]

# Replies through the platform: inquiry, account, instant.
PLATFORM_REPLIES = [("i19", "main", "2026-03-11T22:00:00Z")]

# Messages in the Sent folders: the inquiry whose mail it replies to, the account that sent it, instant, kind.
MAILS = [
    ("i01", "desk", "2026-01-05T20:00:00Z", "human"),
    ("i02", "main", "2026-02-23T20:00:00Z", "human"),
    ("i03", "main", "2026-02-25T05:00:00Z", "human"),
    ("i04", "main", "2026-02-25T17:00:00Z", "human"),
    ("i05", "main", "2026-02-26T17:00:01Z", "human"),
    ("i06", "main", "2026-02-26T17:01:00Z", "automatic"),
    ("i09", "main", "2026-03-02T18:00:00Z", "human"),
    ("i14", "main", "2026-03-06T22:00:00Z", "human"),
    ("i16", "main", "2026-03-09T08:00:00Z", "human"),
    ("i18", "desk", "2026-03-10T23:00:00Z", "human"),
    ("i19", "desk", "2026-03-11T21:00:00Z", "human"),
    ("i20", "main", "2026-03-15T19:00:00Z", "human"),
    ("i22", "desk", "2026-03-20T01:00:00Z", "human"),
]

# When each mailbox was completely read. Desk moved to another provider on 7 March and the old mail was not taken along, so
# what was sent between the two intervals is unknown.
COVERAGE = [
    ("main", "2025-12-01T00:00:00Z", "2026-03-20T23:50:00Z"),
    ("desk", "2025-12-01T00:00:00Z", "2026-03-05T10:00:00Z"),
    ("desk", "2026-03-07T09:00:00Z", "2026-03-20T23:50:00Z"),
]
CONNECTED_AT = "2025-12-01T00:00:00Z"


def hashed(kind: str, value: str) -> str:
    """The keyed hash of an address or a Message-ID (schemas/README.md); the values here are already normalised."""
    text = "\x1f".join((kind, COMPANY, value)).encode()
    return hmac.digest(KEY, text, hashlib.sha256)[:16].hex()


def address(buyer: str) -> str:
    """A buyer's address."""
    return f"{buyer}@buyers.example"


def event(kind: str, source: str, name: str, time: str, data: dict[str, Any]) -> dict[str, Any]:
    """A CloudEvent about this seller."""
    return {
        "specversion": "1.0", "id": name, "source": source, "type": f"replyrate.{kind}.v1", "time": time,
        "datacontenttype": "application/json", "data": {"company_id": COMPANY, **data},
    }  # fmt: skip


def inquiries() -> Iterator[dict[str, Any]]:
    """inquiries.v1 as the platform publishes it: addresses of buyers are in plain text here."""
    source = "example/platform"
    for inquiry_id, account_id, buyer, at, more in INQUIRIES:
        person = {"id": buyer, "addresses": [address(buyer)]}
        data: dict[str, Any] = {"account_id": account_id, "inquiry_id": inquiry_id, "received_at": at}
        data["buyer"] = person | ({"region": more["region"]} if "region" in more else {})
        data["message_ids"] = [f"<{inquiry_id}@market.example>"]
        data |= {"thread_id": more["thread_id"]} if "thread_id" in more else {}
        yield event("inquiry-received", source, f"{inquiry_id}/received", at, data)
    for inquiry_id, status, at, more in STATUSES:
        data = {"inquiry_id": inquiry_id, "status": status, "at": at, **more}
        yield event("inquiry-status-changed", source, f"{inquiry_id}/{status}", at, data)
    for inquiry_id, account_id, at in PLATFORM_REPLIES:
        data = {"account_id": account_id, "inquiry_id": inquiry_id, "reply_id": f"{inquiry_id}-chat", "replied_at": at}
        yield event("reply-recorded", source, f"{inquiry_id}/chat", at, {**data, "channel": "chat"})


def sent() -> Iterator[dict[str, Any]]:
    """sent-messages.v1 as the fetcher publishes it: hashes and times, no addresses."""
    buyers = {inquiry_id: buyer for inquiry_id, _, buyer, _, _ in INQUIRIES}
    for inquiry_id, account_id, at, kind in MAILS:
        message_id = hashed("message", f"reply-to-{inquiry_id}@shop.example")
        data = {
            "account_id": account_id, "mailbox_id": MAILBOXES[account_id], "message_id": message_id,
            "sent_at": at, "sent_at_basis": "date", "evidence": "verified", "kind": kind,
            "recipients": [hashed("address", address(buyers[inquiry_id]))],
            "in_reply_to": [hashed("message", f"{inquiry_id}@market.example")],
        }  # fmt: skip
        if kind == "automatic":
            data["kind_reason"] = "auto-submitted"
        yield event("message-sent", f"replyrate/fetcher/{MAILBOXES[account_id]}", message_id, at, data)


def coverage() -> Iterator[dict[str, Any]]:
    """The coverage history of the registry; each line was recorded at the end of its interval."""
    for account_id, start, end in COVERAGE:
        yield {
            "company_id": COMPANY, "account_id": account_id, "mailbox_id": MAILBOXES[account_id],
            "connected_at": CONNECTED_AT, "removed_at": None, "from": start, "through": end, "recorded_at": end,
        }  # fmt: skip


def main(folder: Path) -> None:
    """Write the four files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in (("inquiries", inquiries()), ("sent", sent()), ("coverage", coverage())):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}.ndjson").write_text(text, "utf-8")
    (folder / "hash.key").write_bytes(KEY)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
