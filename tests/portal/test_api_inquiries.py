"""A batch of facts is published as a whole, acknowledged when Kafka has it, or refused with every invalid fact named."""

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.common import codec
from services.common.errors import TransientError
from services.common.events import INQUIRY_RECEIVED, TYPES, InquiryReceived
from services.common.topics import INPUT_BYTES, INQUIRIES, partition_of
from services.inquiries.facts import CheckedFact
from services.inquiries.publication import AT_ONCE, FactPublisher
from services.inquiries.sentences import load
from services.portal.api.inquiries import MOST_FACTS
from tests.support.api_lab import api_client, new_key, problem
from tests.support.portal_lab import MakePortal, Portal, make_portal, portal, portal_dsn
from tests.support.topics import PARTITIONS, create_topics, kafka_settings, read_all

__all__ = ["make_portal", "portal", "portal_dsn"]

PATH = "/v1/inquiries:batch"
NOW = datetime.now(UTC).replace(microsecond=0)


def fact(inquiry_id: str = "i1", **changes: Any) -> dict[str, Any]:
    """An inquiry of shop-1 in the short form."""
    return {
        "company_id": "shop-1", "account_id": "main", "inquiry_id": inquiry_id, "received_at": NOW.isoformat(),
        "buyer": {"id": "b1", "addresses": ["ann@buyer.example"]}, **changes,
    }  # fmt: skip


def event(**changes: Any) -> dict[str, Any]:
    """A whole event with an id of its own."""
    at = codec.instant_text(NOW)
    return {
        "specversion": "1.0", "id": "e-1", "source": "platform", "type": INQUIRY_RECEIVED, "time": at,
        "data": {**fact("i-event"), "received_at": at}, **changes,
    }  # fmt: skip


def published(kafka: str) -> list[codec.Envelope]:
    records = read_all(kafka_settings(kafka), INQUIRIES)
    for record in records:
        assert record.partition == partition_of(record.key or b"", PARTITIONS)
    return [codec.decode(record.value or b"", accept=frozenset(TYPES)) for record in records]


def test_a_batch_is_in_kafka_when_it_is_acknowledged_and_can_be_sent_again(
    portal: Portal, dsn: str, topics_gone: str
) -> None:
    create_topics(kafka_settings(topics_gone))
    status = {"type": "status", "company_id": "shop-1", "inquiry_id": "i1", "status": "spam", "at": NOW.isoformat()}
    with api_client(portal, new_key(dsn, "shop-").secret) as client:
        for _ in range(2):
            response = client.post(PATH, json=[fact(), event(), status])
            assert (response.status_code, response.json()) == (200, {"published": 3})
        lines = "\r\n".join([json.dumps(fact("i2", company_id="shop-2")), "", json.dumps(fact("i3"))])
        sent = client.post(PATH, content=lines.encode(), headers={"content-type": "application/x-ndjson"})
        assert sent.json() == {"published": 2}
        assert client.post(PATH, json=[]).json() == {"published": 0}
    envelopes = published(topics_gone)
    assert len(envelopes) == 8
    assert len({envelope.id for envelope in envelopes}) == 5, "a fact that is sent again has the same id"
    assert "e-1" in {envelope.id for envelope in envelopes}
    received = [envelope.data for envelope in envelopes if isinstance(envelope.data, InquiryReceived)]
    assert {(data.company_id, data.inquiry_id) for data in received} == {
        ("shop-1", "i1"), ("shop-1", "i-event"), ("shop-2", "i2"), ("shop-1", "i3"),
    }  # fmt: skip


INVALID: list[tuple[Any, str]] = [
    (fact(company_id="other-1"), "not a company of this key"),
    (fact(received_at="yesterday"), "received_at"),
    (fact(received_at=(NOW - timedelta(days=400)).isoformat()), "further back"),
    (fact(buyer={"id": "b", "addresses": ["ann"]}), "is not an e-mail address"),
    (fact(message_ids=["<no-domain>"]), "Message-ID"),
    (fact(type="gossip"), "type"),
    (fact(note="x" * INPUT_BYTES), "bytes"),
    ({"type": "erase", "company_id": "shop-1", "at": NOW.isoformat()}, "type"),
    ({name: value for name, value in fact().items() if name != "inquiry_id"}, "inquiry_id"),
    (event(data={}), "company_id"),
    (event(time="now"), "time"),
    (7, "not a JSON object"),
]


def test_every_invalid_fact_is_named_and_nothing_is_published(portal: Portal, dsn: str, topics_gone: str) -> None:
    create_topics(kafka_settings(topics_gone))
    facts = [fact(), *(invalid for invalid, _ in INVALID)]
    with api_client(portal, new_key(dsn, "shop-").secret) as client:
        by_index = problem(client.post(PATH, json=facts), 422, "facts-invalid")
        lines = "\n".join(json.dumps(entry) for entry in facts)
        by_line = problem(
            client.post(PATH, content=lines.encode(), headers={"content-type": "application/x-ndjson"}),
            422,
            "facts-invalid",
        )
    assert by_index["errors_total"] == by_line["errors_total"] == len(INVALID)
    for number, (_, expected) in enumerate(INVALID, 1):
        error, line = by_index["errors"][number - 1], by_line["errors"][number - 1]
        assert error["field"].partition(".")[0] == str(number) and line["line"] == number + 1
        assert expected in error["detail"] or expected in error["field"], error
        assert "; write " in error["detail"]
        assert "ann@buyer" not in str(error) and "yesterday" not in str(error)
    assert published(topics_gone) == []


def test_a_batch_of_invalid_facts_lists_each_of_them(portal: Portal, dsn: str) -> None:
    with api_client(portal, new_key(dsn, "shop-").secret) as client:
        response = client.post(PATH, json=[fact(buyer={"id": "b", "addresses": ["ann"]})] * MOST_FACTS)
    refused = problem(response, 422, "facts-invalid")
    assert refused["errors_total"] == len(refused["errors"]) == MOST_FACTS
    assert [error["field"].partition(".")[0] for error in refused["errors"]] == [
        str(number) for number in range(MOST_FACTS)
    ]
    assert len(response.content) < MOST_FACTS * 400


CHINESE: list[Any] = [
    *(invalid for invalid, _ in INVALID),
    fact(account_id=7),
    fact(inquiry_id=""),
    fact(inquiry_id="i" * 200),
    fact(account_id="a\n"),
    fact(received_at="2026-02-30T10:00:00Z"),
    fact(received_at="1999-01-01T00:00:00Z"),
    fact(received_at=(NOW + timedelta(days=9)).isoformat()),
    fact(message_ids=["<i@mail.example>"] * 9),
    fact(message_ids=["<1@p.example>;<2@p.example>"]),
    fact(message_ids=["<>"]),
    fact(reply_addresses=["a@x.example;b@x.example"]),
    fact(thread_id=[]),
    {**fact(), "buyer": "ann"},
    {"buyer": "ann", "buyer_id": "b", **{name: value for name, value in fact().items() if name != "buyer"}},
    {"type": "status", "company_id": "shop-1", "inquiry_id": "i", "status": "lost", "at": NOW.isoformat()},
    {"type": "status", "company_id": "shop-1", "inquiry_id": "i", "status": "reassigned", "at": NOW.isoformat()},
    {"type": "status", "company_id": "shop-1", "inquiry_id": "i", "status": "spam", "at": "now"},
    {"type": "reply", "company_id": "shop-1", "account_id": "main", "inquiry_id": "i", "reply_id": "r", "channel": "chat",
     "replied_at": NOW.isoformat(), "automatic": "maybe"},
    event(type="gossip"),
    event(id=""),
    event(data=[]),
    fact(note="\ud800"),
]  # fmt: skip
IN_ENGLISH = re.compile(
    r"(?<![\w.`<@/])(?:a|an|the|is|not|of|or|one|expected|when|write|empty|value|contains)(?![\w.`>@/])"
)
"""Words of an English sentence; names of fields, types and formats stay as they are."""


def test_what_is_wrong_with_a_fact_is_said_in_chinese(portal: Portal, dsn: str) -> None:
    bodies = [
        json.dumps(CHINESE).encode(), b"{}", b"[{", b"\xff", b"[NaN]", b"[" * 100_000,
    ]  # fmt: skip
    lines = b"\n".join(
        [
            *(json.dumps(entry).encode() for entry in CHINESE),
            b"{",
            b"\xff",
            b"{" * 100_000,
            b"[1]",
            b'{"a":NaN}',
            b'{"a":' * 100_000,
        ]
    )
    sent = [("application/json", body) for body in bodies] + [("application/x-ndjson", lines)]
    errors = []
    with api_client(portal, new_key(dsn, "shop-").secret) as client:
        for media_type, body in sent:
            headers = {"content-type": media_type, "accept-language": "zh-CN"}
            refused = problem(client.post(PATH, content=body, headers=headers), 422, "facts-invalid")
            assert refused["errors_total"] == len(refused["errors"])
            errors += refused["errors"]
    assert len(errors) >= 2 * len(CHINESE) + 11
    for error in errors:
        assert "；应填写：" in error["detail"]
        assert not IN_ENGLISH.search(error["detail"]), error
        assert "erase" not in error["detail"], "the route refuses it"


def test_every_sentence_about_a_fact_has_the_same_placeholders_in_both_languages() -> None:
    sentences = load()
    texts = [
        text
        for table in (sentences.detail, sentences.fault, sentences.cure, sentences.words, sentences.column)
        for text in table.values()
    ]
    assert len(texts) > 60
    for text in texts:
        # The parser's own English is left out in Chinese.
        english = set(re.findall(r"\{(\w+)\}", text.en)) - {"problem"}
        assert english == set(re.findall(r"\{(\w+)\}", text.zh)), text
        assert text.zh.isprintable() and (not text.zh.isascii() or text.zh.startswith("{")), text


NO_BATCH: list[tuple[bytes, str, int, str]] = [
    (b"{}", "application/json", 422, "facts-invalid"),
    (b"[{", "application/json", 422, "facts-invalid"),
    (b"\xff", "application/json", 422, "facts-invalid"),
    (b"[NaN]", "application/json", 422, "facts-invalid"),
    (b"[" * 100_000, "application/json", 422, "facts-invalid"),
    (b'{"a":\xff}', "application/x-ndjson", 422, "facts-invalid"),
    (b"[]", "text/csv", 415, "media-type-unsupported"),
    (b"[" + b"{}," * MOST_FACTS + b"{}]", "application/json", 413, "batch-too-large"),
]


def test_a_body_that_is_no_batch_is_refused(portal: Portal, dsn: str) -> None:
    with api_client(portal, new_key(dsn).secret) as client:
        for content, media_type, status, code in NO_BATCH:
            problem(client.post(PATH, content=content, headers={"content-type": media_type}), status, code)


def test_a_key_without_the_scope_publishes_nothing(portal: Portal, dsn: str) -> None:
    with api_client(portal, new_key(dsn, "", ("numbers:read",)).secret) as client:
        problem(client.post(PATH, json=[fact()]), 403, "scope-missing")


def test_while_kafka_is_away_the_batch_is_to_be_sent_again(make_portal: MakePortal, dsn: str) -> None:
    with make_portal(KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1") as away:
        with api_client(away, new_key(dsn).secret) as client:
            response: httpx.Response = client.post(PATH, json=[fact()])
        problem(response, 503, "unavailable")
        assert int(response.headers["retry-after"]) > 0


def test_batches_that_wait_for_kafka_do_not_occupy_more_requests_than_a_few() -> None:
    waiting, over = threading.Semaphore(0), threading.Event()

    def open_publisher() -> Any:
        waiting.release()
        over.wait()
        raise TransientError("away")

    publisher = FactPublisher(open_publisher)

    def publish() -> None:
        with pytest.raises(TransientError, match="away"):
            publisher.publish([CheckedFact("c", b"{}")])

    threads = [threading.Thread(target=publish) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    waiting.acquire()
    with pytest.raises(TransientError, match="other batches wait"):
        publisher.publish([CheckedFact("c", b"{}")])
    over.set()
    for thread in threads:
        thread.join()
