"""The header parser by example."""

from datetime import UTC, datetime

import pytest

from services.mail import headers
from services.mail.headers import Headers, Skipped, parse


def parsed(*lines: str) -> Headers:
    read = parse("\r\n".join([*lines, "", ""]).encode())
    assert isinstance(read, Headers)
    return read


def test_no_field_at_all_is_skipped() -> None:
    assert parse(b"") == parse(b"\r\nTo: a@b\r\n") == Skipped("empty")


def test_folded_and_repeated_fields() -> None:
    read = parsed(
        "From seller Mon Nov 23", "To: a@b.c,", " d@e.f", "to: g@h.i", "Subject: two", "\twords", "Subject: later"
    )
    assert read.to == ("a@b.c", "d@e.f", "g@h.i")
    assert read.subject == "two\twords"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a@b.c", ("a@b.c",)),
        ('"Last, First" <a@b.c>, d@e.f', ('"Last, First" <a@b.c>', "d@e.f")),
        ("(a, comment (nested, too)) a@b.c; d@e.f", ("(a, comment (nested, too)) a@b.c", "d@e.f")),
        ("Buyers: a@b.c, d@e.f;", ("a@b.c", "d@e.f")),
        ("<@route,@relay:a@b.c>", ("<@route,@relay:a@b.c>",)),
        ('"a \\" quote, here" <a@b.c>', ('"a \\" quote, here" <a@b.c>',)),
        ("undisclosed-recipients:;", ()),
        ("a@b.c, a@b.c", ("a@b.c",)),
    ],
)
def test_addresses(value: str, expected: tuple[str, ...]) -> None:
    assert parsed(f"To: {value}").to == expected


def test_recipients_are_to_cc_and_bcc_each_once_and_at_most_64() -> None:
    read = parsed("To: a@b.c", "Cc: d@e.f, a@b.c", "Bcc: " + ", ".join(f"{number}@h.i" for number in range(70)))
    assert read.recipients[:3] == ("a@b.c", "d@e.f", "0@h.i")
    assert len(read.recipients) == headers.MAX_RECIPIENTS == 64


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("<a@b>", ("a@b",)),
        ("<a@b> <c@d>\r\n <a@b>", ("a@b", "c@d")),
        ("<<a@b>", ("a@b",)),
        ("<a\r\n @b>", ("a@b",)),
        ("a@b, c@d", ("a@b", "c@d")),
        ("<a@b", ("a@b",)),
        ("none", ()),
    ],
)
def test_message_ids(value: str, expected: tuple[str, ...]) -> None:
    assert parsed(f"References: {value}").references == expected


def test_the_first_and_the_last_19_references_and_the_first_4_in_reply_to_are_kept() -> None:
    read = parsed(*(f"{name}: " + " ".join(f"<{n}@x>" for n in range(30)) for name in ("References", "In-Reply-To")))
    assert read.references == ("0@x", *(f"{n}@x" for n in range(11, 30)))
    assert read.in_reply_to == tuple(f"{n}@x" for n in range(4))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fri, 20 Nov 2026 19:59:30 +0800", datetime(2026, 11, 20, 11, 59, 30, tzinfo=UTC)),
        ("20 Nov 26 19:59 +0800", datetime(2026, 11, 20, 11, 59, tzinfo=UTC)),
        ("Thu, 31 Dec 2026 23:59:60 GMT", datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("Fri, 31 Dec 1999 23:59:59 +0000", None),
        ("Fri, 1 Jan 2100 00:00:00 +0000", None),
        ("Mon, 99 Foo 99999 99:99:99 +9999", None),
        ("yesterday", None),
    ],
)
def test_dates(text: str, expected: datetime | None) -> None:
    read = parsed(f"Date: {text}")
    assert (read.date, read.date_text) == (expected, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=?utf-8?B?6Ieq5Yqo5Zue5aSN?=", "自动回复"),
        ("=?UTF-8?Q?a_b?= =?utf-8?q?=20c?=", "a b c"),
        ("Re: =?gb18030?B?suLK1A==?= x", "Re: 测试 x"),
        ("=?x-unknown?B?QQ==?=", "=?x-unknown?B?QQ==?="),
        ("=?utf-8*en?Q?hi?=", "hi"),
        ("自动回复", "自动回复"),
    ],
)
def test_subjects_are_decoded(text: str, expected: str) -> None:
    assert parsed(f"Subject: {text}").subject == expected
