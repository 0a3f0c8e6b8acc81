"""Cursors of lists: what a client sends instead of one is an ordinary problem."""

import pytest

from services.portal.api.problems import ApiProblem
from services.portal.api.values import CURSOR_CHARACTERS, decode_cursor, encode_cursor
from tests.support.api_lab import NESTED_CURSOR


def test_the_key_of_a_cursor_comes_back() -> None:
    assert decode_cursor(encode_cursor("公司 1", 7), ("", 0)) == ("公司 1", 7)
    assert decode_cursor(None, ("", 0)) == ("", 0)


@pytest.mark.parametrize(
    "cursor",
    [
        NESTED_CURSOR, encode_cursor("a"), encode_cursor("a", "b"), encode_cursor("a", -1), encode_cursor("a", 2**63), encode_cursor("\x00", 1),
        encode_cursor("x" * CURSOR_CHARACTERS, 1), "W10", "e30", "W3RydWUsMV0", "", "x", "é",
    ],
)  # fmt: skip
def test_anything_else_is_an_invalid_request(cursor: str) -> None:
    with pytest.raises(ApiProblem) as problem:
        decode_cursor(cursor, ("", 0))
    assert [(field.name, field.code) for field in problem.value.fields] == [("after", "cursor")]
