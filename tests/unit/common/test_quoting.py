"""Quoted strings and comments: every character has one zone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.quoting import zones

INITIAL = {"plain": "p", "quoted": "q", "comment": "c"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a<b>,c", "pppppp"),
        ('"a,b" c', "qqqqqpp"),
        ("(a) b", "cccpp"),
        ("(a (b) c) d", "cccccccccpp"),
        ('"a (b" c', "qqqqqqpp"),
        ('(a "b) c', "ccccccpp"),
        (r'"a\"b" c', "qqqqqqpp"),
        (r"(a\)b) c", "ccccccpp"),
        (r"a\(b) c", "ppccccpp"[:2] + "ccc" + "pp"),
        ("a) b", "pppp"),
        ("(never closed", "ccccccccccccc"),
        ('"never closed', "qqqqqqqqqqqqq"),
    ],
)
def test_zones_of_a_text(text: str, expected: str) -> None:
    assert "".join(INITIAL[zone] for _, zone in zones(text)) == expected


@given(st.text('a"\\()<>,;:', max_size=60))
def test_every_character_is_there_once_in_order(text: str) -> None:
    assert "".join(char for char, _ in zones(text)) == text
