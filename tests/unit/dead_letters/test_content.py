"""What is shown of a rejected record: never a text that may be personal."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.common import metrics
from services.common.events import DeadLetter
from services.dead_letters import content, reasons
from services.dead_letters.letters import DeadLetterRecord

CANARY = "canary"
texts = st.text(max_size=20).map(lambda text: f"{text}{CANARY}")
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def letter(value: str | None) -> DeadLetterRecord:
    data = DeadLetter(
        reason="schema",
        detail="",
        service="matcher",
        service_version="0",
        at=datetime(2026, 11, 30, tzinfo=UTC),
        value=value,
    )
    return DeadLetterRecord(0, 0, b"c1", data, 0)


def encoded(document: Any) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


@given(documents)
def test_no_text_of_a_record_is_shown(document: Any) -> None:
    shown = content.fields(letter(encoded(document)))
    assert len(shown) <= content.MAX_FIELDS
    assert all(CANARY not in field.value for field in shown)
    assert all(len(name) <= content.MAX_NAME for field in shown for name in field.path.split("."))


def test_fields_have_their_kind_length_and_harmless_values() -> None:
    document = {
        "type": "replyrate.inquiry-received.v1", "time": "2026-11-30T10:00:00Z", "id": "buyer@shop.example",
        "data": {"company_id": 7, "phone": 13800138000, "buyer": {"addresses": ["a@b.example"]}, "read": True, "none": None},
        "a b@c.example": 1,
    }  # fmt: skip
    shown = {field.path: (field.kind, field.length, field.value) for field in content.fields(letter(encoded(document)))}
    assert shown == {
        "type": ("text", 29, "replyrate.inquiry-received.v1"),
        "time": ("text", 20, "2026-11-30T10:00:00Z"),
        "id": ("text", 18, ""),
        "data.company_id": ("number", None, "7"),
        "data.phone": ("number", None, ""),
        "data.buyer.addresses": ("list", 1, ""),
        "data.read": ("boolean", None, "true"),
        "data.none": ("null", None, "null"),
        "?": ("number", None, "1"),
    }
    assert content.size(letter(encoded(document))) == len(json.dumps(document))


def test_a_letter_without_a_readable_copy_has_no_fields() -> None:
    for value in (
        None,
        "",
        "no base64!",
        base64.b64encode(b"no json").decode(),
        base64.b64encode(b"[" * 100_000).decode(),
    ):
        assert content.fields(letter(value)) == []
    assert content.size(letter(None)) is None


def test_every_reason_of_the_services_is_explained_in_both_languages() -> None:
    codes = {code for codes in metrics.REASONS.values() for code in codes} | {"no-dead-letter"}
    assert codes | {"other"} == set(reasons.load())
    assert reasons.explain("from-the-future") == reasons.load()["other"]
    for explained in reasons.load().values():
        assert all((explained.meaning.en, explained.meaning.zh, explained.cure.en, explained.cure.zh))
