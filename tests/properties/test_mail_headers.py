"""Laws of the header parser: total, linear, and equal to the standard library's where that is right."""

import io
import re
import sys
from collections.abc import Callable
from email.parser import BytesHeaderParser
from email.policy import compat32
from functools import partial

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from services.common import header_lists, normal_forms
from services.common.encoded_words import decode_words
from services.common.normal_forms import normalise_address
from services.mail import headers
from services.mail.classify import classify
from services.mail.headers import Headers, Skipped, parse

pieces = st.sampled_from(
    [b"From: ", b"To: ", b"Subject: ", b"Message-ID: ", b"References: ", b"Date: ", b"\r\n", b"\n ", b"<", b">", b"@", b'"', b"(", b")",
     b",", b";", b":", b"\\", b"=?", b"?=", b"=?utf-8?B?", b"a", b"\xff", b"\x00", b"x@y.z", b"5byg", b" "]
)  # fmt: skip
soup = st.lists(pieces, max_size=60).map(b"".join) | st.binary(max_size=400)


@given(soup)
@settings(max_examples=300)
def test_no_bytes_make_the_parser_raise(raw: bytes) -> None:
    headers = parse(raw)
    assert isinstance(headers, Headers | Skipped)
    if isinstance(headers, Headers):
        kind, reason = classify(headers)
        assert kind in ("human", "automatic", "bulk", "bounce", "forward")
        assert (reason is None) == (kind == "human")
        assert len(headers.recipients) <= 64 and len(headers.references) <= 20 and len(headers.in_reply_to) <= 4
        for address in headers.recipients:
            normal = normalise_address(address)
            assert normal is None or normal.count("@") >= 1


lines = st.sampled_from(
    ["From seller Mon", "From: a@x", "To : b@x", "Cc: b@x", ": nameless", "Subject: one", " folded", "\tfolded", "", "no field", "X-\x7f: 1",
     "subject:two", "To:\x0bc@x", "Cc:", "\xa0odd: 1", "Date:  \t x ", "To: \u5f20"]
)  # fmt: skip
blocks = st.lists(st.tuples(lines, st.sampled_from(["\r\n", "\n", "\r", "\r\r\n", "\x0c", "\x85"])), max_size=12)


@given(st.lists(st.tuples(lines, st.sampled_from([*8 * ["\r\n"], "\n", "\r", "\r\r\n", ""])), max_size=8))
@settings(max_examples=500)
def test_ordinary_blocks_are_split_as_those_of_any_form(parts: list[tuple[str, str]]) -> None:
    raw = "".join(line + end for line, end in parts).encode()
    assert headers.split_fields(raw) == headers._split_any_fields(raw.decode("ascii", "surrogateescape"))


@given(blocks.map(lambda parts: "".join(line + end for line, end in parts).encode()) | soup)
@settings(max_examples=500, suppress_health_check=[HealthCheck.filter_too_much])
def test_fields_are_split_as_the_standard_library_splits_them(raw: bytes) -> None:
    """Where each line is a field, a folded line or an mbox line; after any other line that parser reads nothing."""
    lines = [line for line in io.StringIO(raw.decode("latin-1"), newline="") if line[0] not in " \t"]
    assume(all(re.match(r"[!-9;-~]*:|From |[\r\n]+$", line) for line in lines))
    expected: dict[str, list[str]] = {}
    for name, value in BytesHeaderParser(policy=compat32).parsebytes(raw).raw_items():
        expected.setdefault(name.strip().lower(), []).append(headers._as_text(str(value)))
    assert headers.split_fields(raw) == expected


address_signs = st.sampled_from(
    ['"', '"A, (B)"', "<", ">", "<a@b.c>", "<A.b@C.d>", "@", "a@b.c", ",", ";", ":", "\\", "(", ")", " ", "\r\n ", "=?utf-8?B?5byg?=",
     "Bob", "\uff20", "\uff1c", "\u200b", "\x00", "\x1f", "\x7f", "xn--a", "mailto:", "'", ".", "[", "<x", "a-"]
)  # fmt: skip
"""What means something in a list of addresses or in an id, and whole addresses, so that ordinary ones are drawn too."""
texts_of_addresses = st.lists(address_signs, max_size=8).map("".join)


@given(texts_of_addresses)
@settings(max_examples=1_000)
def test_ordinary_addresses_and_ids_are_read_as_those_of_any_form(text: str) -> None:
    assert header_lists.split_addresses(text) == header_lists.split_any_addresses(text)
    assert normal_forms.normalise_address(text) == normal_forms.normalise_any_address(text)
    for message_id in (text, f"<{text}>"):
        assert normal_forms.normalise_message_id(message_id) == normal_forms.normalise_any_message_id(message_id)


DATE_PARTS = (
    ["Mon, ", "Mon ", "mon,", "Foo, ", ""], ["30", "31", "0", "1"], [" ", "-", "  "], ["Nov", "Feb", "nov", "November"], [" ", "-"],
    ["2026", "2000", "2099", "2100", "1999", "26"], [" ", ""], ["13:06:01", "00:00:00", "24:00:00", "23:59:60", "9:5", "1:06:01 PM"],
    [" ", ""], ["+0800", "-0000", "+2359", "-2400", "+0060", "GMT", "CEST", "", "GMT +0800"], ["", " (CST)", " (c(d))", " x", "\r\n"],
)  # fmt: skip
"""The parts of a date, the usual one first: nearly all dates have it, so it is drawn more often than all others."""
date_parts = st.tuples(*(st.sampled_from([*(5 * len(parts) * parts[:1]), *parts]) for parts in DATE_PARTS))


@given(date_parts.map("".join))
@settings(max_examples=1_000)
def test_ordinary_dates_are_read_as_those_of_any_form(text: str) -> None:
    assert headers.parse_date(text) == headers.parse_any_date(text)


def executed_lines(call: Callable[[], object]) -> int:
    """Lines of Python that a call executes: a measure that does not depend on the load of the machine."""
    count = 0

    def trace(frame: object, event: str, arg: object) -> object:
        nonlocal count
        count += 1
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        call()
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize(
    "pattern", [b'"', b"(", b"<", b"a@b,", b"<@", b"=?", b"=?a?b?", b"=?a?q?x", b"\n ", b":;", b"(\\", b"a,"]
)
def test_work_grows_no_faster_than_the_text(pattern: bytes) -> None:
    def cost(size: int) -> int:
        text = pattern * (size // len(pattern))
        return sum(executed_lines(partial(parse, name + b": " + text)) for name in (b"To", b"Subject", b"References"))

    assert cost(16_000) < 3 * cost(8_000) + 2_000


@given(st.text(max_size=60))
def test_decoding_a_subject_never_fails(text: str) -> None:
    assert isinstance(decode_words(text), str)
