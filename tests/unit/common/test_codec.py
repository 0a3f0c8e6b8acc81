"""Records as bytes: form, rules at their edges, reasons, canonical form."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from services.common import codec
from services.common.errors import InvalidEvent
from services.common.events import (
    COMPANY_ERASED,
    DEAD_LETTER,
    INQUIRY_RECEIVED,
    INQUIRY_REPLIES,
    STATUS_CHANGED,
    TYPES,
    Buyer,
    CompanyErased,
    InquiryReceived,
    InquiryReplies,
    ReplyFact,
    StatusFact,
)

EVERY = frozenset(TYPES)
AT = datetime(2026, 3, 2, 1, 15, tzinfo=UTC)
INQUIRY = {
    "company_id": "c-1",
    "account_id": "a-1",
    "inquiry_id": "i-1",
    "received_at": "2026-03-02T01:15:00Z",
    "buyer": {"id": "b-1"},
}


def record(data: Any, type: str = INQUIRY_RECEIVED, **attributes: Any) -> bytes:
    """A record as a platform would write it."""
    head = {"specversion": "1.0", "id": "e-1", "source": "s", "type": type, "time": "2026-03-02T01:15:00Z"}
    return json.dumps({**head, "data": data, **attributes}, ensure_ascii=False).encode()


def refusal(raw: bytes, accept: frozenset[str] = EVERY) -> tuple[str, str]:
    """Why a record is refused."""
    with pytest.raises(InvalidEvent) as caught:
        codec.decode(raw, accept=accept)
    return caught.value.reason, caught.value.detail


def test_a_record_byte_by_byte() -> None:
    erased = CompanyErased(company_id="買", at=AT.replace(microsecond=120))
    assert codec.encode(erased, id="e-1", source="s", time=AT).decode() == (
        '{"specversion":"1.0","id":"e-1","source":"s","type":"replyrate.company-erased.v1","time":"2026-03-02T01:15:00Z",'
        '"datacontenttype":"application/json","data":{"company_id":"買","at":"2026-03-02T01:15:00.000120Z"}}'
    )


def test_what_decode_returns() -> None:
    raw = record(
        {**INQUIRY, "received_at": "2026-03-02T01:14:00.5Z", "channel": None, "message_ids": None, "new": {"x": 1}},
        new=1,
    )
    envelope = codec.decode(raw, accept=frozenset({INQUIRY_RECEIVED}))
    event = InquiryReceived(
        company_id="c-1",
        account_id="a-1",
        inquiry_id="i-1",
        received_at=datetime(2026, 3, 2, 1, 14, 0, 500_000, tzinfo=UTC),
        buyer=Buyer(id="b-1"),
    )
    assert (envelope.id, envelope.source, envelope.type, envelope.time, envelope.data) == (
        "e-1",
        "s",
        INQUIRY_RECEIVED,
        AT,
        event,
    )
    assert event.channel == "inquiry"


def test_instant_text_is_utc_whatever_the_zone() -> None:
    assert codec.instant_text(AT.astimezone(timezone(timedelta(hours=8)))) == "2026-03-02T01:15:00Z"
    assert codec.instant_text(AT.replace(microsecond=1)) == "2026-03-02T01:15:00.000001Z"


@pytest.mark.parametrize(
    ("time", "at", "answer"),
    [
        ("2026-03-02T01:15:00Z", "2026-03-03T01:15:00Z", None),
        ("2026-03-02T01:15:00Z", "2026-03-03T01:15:00.000001Z", ("limit", "data.at: more than a day after the record's own time")),
        ("2026-03-02T01:15:00Z", "2000-01-01T00:00:00Z", None),
        ("2026-03-02T01:15:00Z", "1999-12-31T23:59:59.999999Z", ("limit", "data.at: an instant before 2000-01-01")),
        ("1999-12-31T23:59:59Z", "2000-01-01T00:00:00Z", ("limit", "time: an instant before 2000-01-01")),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z", None),
        ("2026-03-02T01:15:00Z", "2026-02-29T00:00:00Z", ("schema", "data.at: no such day or time")),
        ("2026-03-02T01:15:00Z", "2024-02-29T23:59:59Z", None),
        ("2026-03-02T01:15:00Z", "2026-03-01T24:00:00Z", ("schema", "data.at: no such day or time")),
        ("2026-03-02T01:15:00Z", "2026-03-01T23:59:60Z", ("schema", "data.at: no such day or time")),
        ("2026-03-02T01:15:00Z", "0000-01-01T00:00:00Z", ("schema", "data.at: no such day or time")),
        ("2026-03-02T01:15:00Z", "2026-03-02T00:00:00.0000001Z", ("schema", "data.at: does not have the allowed form")),
        ("2026-03-02T01:15:00Z", "2026-03-02T00:00:00z", ("schema", "data.at: does not have the allowed form")),
        ("2026-03-02T01:15:00Z", "2026-03-02T00:00:00Z\n", ("schema", "data.at: does not have the allowed form")),
        ("2026-03-02T01:15:00Z", "٢٠٢٦-03-02T00:00:00Z", ("schema", "data.at: does not have the allowed form")),
        ("2026-03-02T01:15:00+00:00", "2026-03-02T00:00:00Z", ("schema", "time: does not have the allowed form")),
    ],
)  # fmt: skip
def test_instants(time: str, at: str, answer: tuple[str, str] | None) -> None:
    raw = record({"company_id": "c-1", "at": at}, COMPANY_ERASED, time=time)
    if answer is None:
        codec.decode(raw, accept=EVERY)
    else:
        assert refusal(raw) == answer


@pytest.mark.parametrize("id", ["x", "x" * 128, "買" * 128, "\U0001f600" * 128, " ", "a\u2028b", "a\u00a0"])
def test_ids_that_are_accepted(id: str) -> None:
    assert codec.decode(record({**INQUIRY, "company_id": id}, id=id), accept=EVERY).id == id


@pytest.mark.parametrize("id", ["", "x" * 129, "a\nb", "a\n", "\u0000", "\u001f", "\u007f", "\u0085", "\u009f"])
def test_ids_that_are_refused(id: str) -> None:
    reason = "limit" if len(id) > 128 else "schema"
    assert refusal(record({**INQUIRY, "company_id": id}))[0] == reason
    assert refusal(record(INQUIRY, id=id))[0] == reason


def test_limits_hold_for_the_list_as_sent() -> None:
    buyer = {"id": "b-1", "addresses": ["b@example.com"] * 9}
    assert refusal(record({**INQUIRY, "buyer": buyer})) == (
        "limit",
        "data.buyer.addresses: expected `array` of length <= 8",
    )


def test_reassigned_needs_an_account() -> None:
    data = {"company_id": "c-1", "inquiry_id": "i-1", "status": "reassigned", "at": "2026-03-02T01:15:00Z"}
    said = ("schema", "data.account_id: required when status is reassigned")
    assert refusal(record(data, STATUS_CHANGED)) == said
    assert refusal(record({**data, "account_id": None}, STATUS_CHANGED)) == said
    codec.decode(record({**data, "account_id": "a-2"}, STATUS_CHANGED), accept=EVERY)


def test_a_type_of_another_topic_is_refused() -> None:
    reason, detail = refusal(record(INQUIRY), frozenset({COMPANY_ERASED}))
    assert (reason, detail) == ("schema", "type: expected one of replyrate.company-erased.v1")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"null null",
        b"{}{}",
        b'{"specversion": 1, ',
        record(INQUIRY)[:-1],
        record(INQUIRY) + b"x",
        record({**INQUIRY, "new": "zz"}).replace(b"zz", b"\xff\xfe"),
        record(INQUIRY, new="zz").replace(b"zz", b"\xc3"),
        record({**INQUIRY, "account_id": "zz"}).replace(b"zz", b"\\ud800"),
        record({**INQUIRY, "new": float("nan")}),
        record({**INQUIRY, "new": 1}).replace(b'"new": 1', b'"new": ' + b"[" * 50_000 + b"]" * 50_000),
    ],
    ids=range(14),
)
def test_what_is_not_json(raw: bytes) -> None:
    assert refusal(raw)[0] == "not-json"


def test_a_list_inside_is_told_by_its_path() -> None:
    reply = {"reply_id": "r", "source": "mail", "account_id": "a", "replied_at": "2027-01-01T00:00:00Z", "kind": "human",
             "matched_by": "references"}  # fmt: skip
    raw = record({"company_id": "c", "inquiry_id": "i", "replies": [reply]}, INQUIRY_REPLIES)
    assert refusal(raw) == ("limit", "data.replies[...].replied_at: more than a day after the record's own time")


@pytest.mark.parametrize("secret", ["hunter2@example.com"])
def test_no_value_in_a_detail(secret: str) -> None:
    letter = {"reason": "x", "detail": "", "service": "s", "service_version": "1", "at": "2026-03-02T01:15:00Z"}
    for raw in (
        record({**INQUIRY, "received_at": secret}),
        record({**INQUIRY, "buyer": secret}),
        record({**INQUIRY, "buyer": {"id": "b", "region": secret}}),
        record({**INQUIRY, "message_ids": secret}),
        record(INQUIRY, type=secret),
        record(INQUIRY, specversion=secret),
        record(INQUIRY, datacontenttype=secret),
        record(INQUIRY, time=secret),
        record({"company_id": "c", "inquiry_id": "i", "status": secret, "at": "2026-03-02T01:15:00Z"}, STATUS_CHANGED),
        record({**letter, "offset": secret}, DEAD_LETTER),
        b'{"' + secret.encode(),
    ):
        assert "hunter2" not in " ".join(refusal(raw))


def test_canonical_form() -> None:
    state = InquiryReplies(
        company_id="c-1",
        inquiry_id="i-1",
        message_ids=("b" * 32, "a" * 32, "b" * 32),
        statuses=(
            StatusFact(status="spam", at=AT),
            StatusFact(status="rejected", at=AT),
            StatusFact(status="spam", at=AT),
        ),
        replies=(
            ReplyFact(
                reply_id="r", source="platform", account_id="a", replied_at=AT, kind="human", matched_by="platform"
            ),
        ),
    )
    assert json.loads(codec.canonical(state)) == {
        "company_id": "c-1",
        "inquiry_id": "i-1",
        "message_ids": ["a" * 32, "b" * 32],
        "reply_addresses": [],
        "statuses": [{"at": "2026-03-02T01:15:00Z", "status": "rejected"}, {"at": "2026-03-02T01:15:00Z", "status": "spam"}],
        "replies": [
            {"account_id": "a", "kind": "human", "matched_by": "platform", "replied_at": "2026-03-02T01:15:00Z",
             "reply_id": "r", "source": "platform"}
        ],
    }  # fmt: skip


def test_facts_text_is_the_data_as_sent() -> None:
    data = {
        **INQUIRY,
        "received_at": "2026-03-02T01:15:00.50Z",
        "buyer": {"region": None, "addresses": ["b@x", "a@x", "b@x"], "id": "b-1", "new": 1},
        "thread_id": None,
        "new": [3],
    }
    assert codec.facts_text(codec.decode(record(data), accept=frozenset({INQUIRY_RECEIVED}))) == (
        '{"account_id":"a-1","buyer":{"addresses":["a@x","b@x"],"id":"b-1"},"company_id":"c-1","inquiry_id":"i-1",'
        '"received_at":"2026-03-02T01:15:00.50Z"}'
    )
