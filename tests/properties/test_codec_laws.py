"""Laws of the codec: there and back, determinism, canonical form, nothing but InvalidEvent for any bytes."""

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from services.common import codec
from services.common.errors import InvalidEvent
from services.common.events import INQUIRY_RECEIVED, TYPES, DeadLetter, Event, InquiryReceived
from tests.support import strategies

EVERY = frozenset(TYPES)
NOON = strategies.BASE + timedelta(hours=12)


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
def test_an_encoded_event_decodes_to_itself(name: str, data: st.DataObject) -> None:
    event = data.draw(strategies.events(TYPES[name]))
    id = data.draw(strategies.ids)
    raw = codec.encode(event, id=id, source="s", time=NOON)
    assert raw == codec.encode(event, id=id, source="s", time=NOON)
    envelope = codec.decode(raw, accept=frozenset({name}))
    assert (envelope.id, envelope.source, envelope.type, envelope.time, envelope.data) == (id, "s", name, NOON, event)
    assert codec.encode(envelope.data, id=id, source="s", time=NOON) == raw


# Dead letters are left out: their offsets may go beyond 2^53, where the numbers of RFC 8785 end.
@given(st.one_of(*[strategies.events(cls) for cls in TYPES.values() if cls is not DeadLetter]))
def test_canonical_is_rfc_8785_of_the_reduced_data(event: Event) -> None:
    canonical = codec.canonical(event)
    assert canonical == rfc8785.dumps(reduced(msgspec.to_builtins(event)))
    assert codec.canonical(json.loads(canonical)) == canonical


def reduced(value: Any) -> Any:
    """The rule of the contract, implemented again: non-null fields, lists sorted and without repeats."""
    if isinstance(value, dict):
        return {name: reduced(part) for name, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        parts = {rfc8785.dumps(reduced(part)): reduced(part) for part in value}
        return sorted(parts.values(), key=lambda part: part if isinstance(part, str) else rfc8785.dumps(part).decode())
    return value


@given(strategies.events(InquiryReceived), st.randoms(use_true_random=False))
def test_facts_text_ignores_order_repeats_nulls_and_what_is_unknown(event: InquiryReceived, random: Any) -> None:
    raw = codec.encode(event, id="e", source="s", time=NOON)
    document = json.loads(raw)
    data = document["data"]
    for name in ("message_ids", "reply_addresses"):
        if data.get(name):
            data[name] = random.sample(data[name], len(data[name]))
    data["buyer"]["new"] = None
    data.update({"zz": [1], "thread_id": data.get("thread_id")})
    shuffled = dict(random.sample(list(data.items()), len(data)))
    reordered = json.dumps({**document, "id": "other", "data": shuffled}).encode()
    first, second = (codec.decode(text, accept=frozenset({INQUIRY_RECEIVED})) for text in (raw, reordered))
    assert codec.facts_text(first) == codec.facts_text(second)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    with pytest.raises(InvalidEvent):
        codec.decode(raw, accept=EVERY)


@given(strategies.broken())
def test_a_broken_record_is_decoded_or_refused_and_facts_text_stands_it(broken: strategies.Broken) -> None:
    refused: InvalidEvent | None = None
    try:
        envelope = codec.decode(broken.record, accept=EVERY)
        assert isinstance(codec.facts_text(envelope), str)
        assert codec.canonical(envelope.data)
    except InvalidEvent as error:
        refused = error
    if refused is not None:
        assert refused.reason in ("not-json", "schema", "limit")
        assert 0 < len(refused.detail) <= 1024
