"""`traceparent` in the headers of a record."""

import pytest

from services.common.trace_context import is_sampled, trace_id, traceparent

GOOD = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_header_of_the_allowed_form_is_read() -> None:
    assert traceparent([("x", b"y"), ("traceparent", GOOD)]) == GOOD
    assert trace_id(GOOD) == "0af7651916cd43dd8448eb211c80319c"
    assert is_sampled(GOOD) and not is_sampled(GOOD[:-2] + b"02")
    assert traceparent([]) is None


@pytest.mark.parametrize(
    "value",
    [b"", b"seller@mail.test", GOOD + b"\n", GOOD.upper(), b"ff" + GOOD[2:], b"00-" + b"0" * 32 + GOOD[35:], GOOD[:-3], GOOD + b"-x"],
)  # fmt: skip
def test_any_other_form_counts_as_absent(value: bytes) -> None:
    assert traceparent([("traceparent", value)]) is None
