"""Twenty seconds of `make fuzz`, and a proof that it would find a leak."""

import random

import pytest

from services.mail import messages
from tests.fuzz import headers

SECONDS = 20


def test_mutated_headers_give_valid_events_that_hold_no_plain_text() -> None:
    kinds = headers.run(random.randrange(2**32), SECONDS)
    assert sum(kinds.values()) > 1000
    assert {"human", "automatic", "bulk"} <= set(kinds)


def test_a_leak_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "classify", lambda headers: ("human", headers.subject_text[:64] or None))
    with pytest.raises((AssertionError, ValueError)):
        headers.run(1, 10, out=False)
