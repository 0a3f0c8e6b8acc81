"""Answers to FETCH: the usual form is read fast, any other is left to imapclient's lexer."""

from datetime import UTC, datetime

import pytest

from services.imap.fetch_answers import (
    complete_answers,
    is_unsolicited,
    parse_date_time,
    parse_fast,
    parse_headers,
    parse_times,
)
from services.mail.values import FetchedHeader


@pytest.mark.parametrize(
    "data",
    [
        [None],
        [b"1 (UID 5 FLAGS ())"],
        [(b"1 (UID 5 BODY[HEADER.FIELDS (X)]<0> {1}", b"x"), b")", b"2 (FLAGS (\\Seen))"],
        [(b"1 (UID 5 FLAGS {5}", b"\\Seen"), (b" BODY[HEADER.FIELDS (X)] {1}", b"x"), b")"],
        [(b"1 (BODY[HEADER.FIELDS (X)] {1}", b"x"), b")"],
        [(b"1 (UID 5 BODY[HEADER.FIELDS (X)] {1}", b"x"), b")", (b"1 (UID 5 BODY[HEADER.FIELDS (X)] {1}", b"y"), b")"],
        [(b'1 (UID 5 INTERNALDATE "31-Feb-2026 10:00:00 +0000" BODY[HEADER.FIELDS (X)] {1}', b"x"), b")"],
        [(b"1 (UID 5 X-NEW 3 BODY[HEADER.FIELDS (X)] {1}", b"x"), b")"],
    ],
)
def test_any_other_form_is_left_to_the_lexer(data: list[object]) -> None:
    assert parse_fast(data) is None


USUAL = (
    b'1 (UID 5 FLAGS (\\Seen) INTERNALDATE " 1-Nov-2026 09:08:07 +0800" RFC822.SIZE 42 BODY[HEADER.FIELDS (TO)]<0> {9}',
    b"To: a@b\r\n",
)
EXPECTED = FetchedHeader(5, datetime(2026, 11, 1, 1, 8, 7, tzinfo=UTC), None, 42, False, b"To: a@b\r\n")


def test_the_usual_form_is_parsed() -> None:
    assert parse_fast([USUAL, b")"]) == {5: EXPECTED}


def test_only_requested_messages_are_returned_in_the_order_of_the_request() -> None:
    second = (USUAL[0].replace(b"1 (UID 5", b"2 (UID 6"), USUAL[1])
    data = [USUAL, b")", second, b")"]
    assert list(parse_headers(data, [6, 7, 5])) == [6, 5]
    assert parse_headers(data, [5]) == {5: EXPECTED}


@pytest.mark.parametrize("header", [b"NIL", b'""'])
def test_nil_and_an_empty_string_in_place_of_a_header_are_an_empty_header(header: bytes) -> None:
    """The fetcher asks again for a message without a header; what is no answer about it would make it unreadable at once."""
    data = [b"1 (UID 5 FLAGS NIL RFC822.SIZE 42 BODY[HEADER.FIELDS (TO)]<0> " + header + b")"]
    assert parse_headers(data, [5]) == {5: FetchedHeader(5, None, None, 42, False, b"")}


def test_an_answer_that_was_cut_off_is_read_up_to_the_last_whole_message() -> None:
    whole, cut = [USUAL, b")"], (b"2 (UID 6 BODY[HEADER.FIELDS (TO)]<0> {90}", b"To: c@")
    assert complete_answers([*whole, cut]) == whole and complete_answers([cut, cut]) == []
    assert list(complete_answers(whole)) == whole and complete_answers([]) == []


def test_changed_flags_of_another_message_are_ignored() -> None:
    """They carry a sequence number and no UID; imapclient would take the number for a UID."""
    news = b"5 (FLAGS (\\Draft))"
    assert is_unsolicited(news, b"BODY[") and not is_unsolicited(USUAL, b"BODY[")
    assert parse_headers([news, USUAL, b")"], [5]) == {5: EXPECTED}
    times = [b'1 (UID 5 INTERNALDATE " 1-Nov-2026 09:08:07 +0800")', news]
    assert parse_times(times, [5, 6]) == {5: EXPECTED.internal_date}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b" 1-Nov-2026 09:08:07 +0800", datetime(2026, 11, 1, 1, 8, 7, tzinfo=UTC)),
        (b"17-feb-2025 23:59:59 -0530", datetime(2025, 2, 18, 5, 29, 59, tzinfo=UTC)),
        (b"31-Feb-2026 09:08:07 +0000", None),
        (b"01-Jan-0001 00:00:00 +2300", None),
        (b"1 Nov 2026 09:08:07 +0000", None),
    ],
)
def test_date_time_of_rfc_3501(text: bytes, expected: datetime | None) -> None:
    assert parse_date_time(text) == expected
