"""Header faults that public bug reports describe, as synthetic messages: what the parser must find in them."""

import base64
from datetime import UTC, datetime
from email.header import Header
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.hashing import Hasher
from services.common.normal_forms import normalise_address, normalise_message_id
from services.mail import messages
from services.mail.headers import MAX_BYTES, Headers, parse
from services.mail.values import FetchedHeader

HASHER = Hasher(bytes(32))
BUYER = "buyer@shop.example"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def parsed(*lines: str) -> Headers:
    headers = parse("\r\n".join([*lines, "", ""]).encode())
    assert isinstance(headers, Headers)
    return headers


def recipients(*lines: str) -> list[str | None]:
    return [normalise_address(recipient) for recipient in parsed(*lines).recipients]


@pytest.mark.parametrize(
    "to",
    [
        "<'buyer@shop.example'>", '<"buyer@shop.example">', '"buyer@shop.example"', "'buyer@shop.example'", "Bob <`buyer@shop.example`>",
        "\u2018buyer@shop.example\u2019", "<\u201cBuyer@shop.example\u201d>", "<buyer@shop.example'>", "\"'buyer@shop.example'\"",
        r"<\'buyer@shop.example\'>",
        "\u200bbuyer@shop.example", "<\ufeffbuyer@shop.example>", "buyer@shop.example\u200e", "bu\u200byer@shop.exam\u00adple",
        "\u202abuyer@shop.example\u202c", "buyer\u2060@shop.example", "buyer@\u200cshop.example", "buyer@shop.example\u00a0",
        "buyer\r\n @shop.example", "buyer@\r\n\tshop.example", "<buyer@shop\r\n .example>", "<buyer@sh\r\n op.example>",
        "buyer @ shop.example", "buyer@shop . example", "Bob <buyer @shop.example>",
        "buyer@shop.example.", "<buyer@shop.example.>", "<buyer@shop.example,>", "mailto:buyer@shop.example",
        "<mailto:buyer@shop.example?subject=x>", "<SMTP:buyer@shop.example>", "<@relay.example,@b.example:buyer@shop.example>",
        "buyer\uff20shop.example", "buyer@shop\u3002example", '"buyer"@shop.example', "\uff1cbuyer@shop.example\uff1e", "buyer@shop.example\uff0c",
        '"Buyer Ltd <buyer@shop.example>', "(Buyer Ltd <buyer@shop.example>", "Bob <buyer@shop.example", "Bob buyer@shop.example>",
        "Bob buyer@shop.example", '"Bob" buyer@shop.example', "Bob Q. Smith buyer@shop.example", "Bob <> <buyer@shop.example>",
        "Bob <Sales> <buyer@shop.example>", "buyer@shop.example <>", "<<buyer@shop.example>>", "Bob<buyer@shop.example>",
        "Bob (buyer@shop.example)", "\u3008buyer@shop.example\u3009", "\u674e\u4f1f\u300abuyer@shop.example\u300b", "\u674e\u4f1f\uff08buyer@shop.example\uff09",
        "\u3010buyer@shop.example\u3011", "\u300cbuyer@shop.example\u300d", "buyer@shop.example\uff08\u674e\u4f1f\uff09",
        "\u674e\u4f1f\u300ebuyer@shop.example\u300f", "\u674e\u4f1f\u3014buyer@shop.example\u3015", "\u674e\u4f1f\uff3bbuyer@shop.example\uff3d",
        "\u674e\u4f1f\uff1abuyer@shop.example", "\uff42\uff55\uff59\uff45\uff52@shop.example", "buyer\ufe6bshop.example",
        "{buyer@shop.example}", "*buyer@shop.example*", "buyer@shop.example!", "buyer@shop.example\ufffc", "\u2800buyer@shop.example",
        "<e-mail: buyer@shop.example>", "mailto:mailto:buyer@shop.example", "buyer@shop.example:", "Bob: buyer@shop.example", r'"bu\yer"@shop.example',
        "Bob <=?utf-8?Q?buyer?=@shop.example>", "=?utf-8?Q?buyer?=@shop.example",
        "=?utf-8?Q?Bob_=3Cbuyer=40shop=2Eexample=3E?=", "<=?utf-8?Q?buyer=40shop.example?=>",
    ],
)  # fmt: skip
def test_what_programs_add_to_an_address_is_removed(to: str) -> None:
    assert recipients(f"To: {to}") == [BUYER]


@pytest.mark.parametrize("text", [
    "buyer@", "buyer@.example", "buyer@shop..example", "buyer@shop!example", "buyer@sho p.example", "buyer@" + "x" * 64 + ".example",
    "buyer@shop.exam*ple", "bu,yer@shop.example", 'bu"yer@shop.example', "buyer@\u00e4..example", "buyer@[x y]", "buyer@shop/example",
    "bu\ufffdyer@shop.example", "buyer@sh\ufffdp.example", "buyer@\u00ab\u4f8b.example",
])  # fmt: skip
def test_what_cannot_be_an_address_is_dropped_and_counted(text: str) -> None:
    assert normalise_address(text) is None
    header = f"To: <{text}>\r\nDate: Tue, 24 Nov 2026 11:00:00 +0000\r\n\r\n".encode()
    message = messages.parse_message("c", FetchedHeader(1, NOW, None, 1, False, header), HASHER)
    assert isinstance(message, messages.ParsedMessage)
    event, dropped = messages.event("c", "a", "m", message, HASHER, after=None, first_seen=NOW)
    assert (event.recipients, dropped) == ((), 1)


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ('"Buyer Ltd <buyer@shop.example>, other@x.example', [BUYER, "other@x.example"]),
        (
            'first@x.example, "Buyer Ltd <buyer@shop.example>, "Al" <al@x.example>',
            ["first@x.example", BUYER, "al@x.example"],
        ),
        ("a@x.example (desk, buyer@shop.example", ["a@x.example", BUYER]),
        ("Bob <buyer@shop.example, Al <al@x.example>", [BUYER, "al@x.example"]),
        ("Bob <buyer@shop.example; al@x.example", [BUYER, "al@x.example"]),
        ("buyer@shop.example al@x.example", [BUYER, "al@x.example"]),
        ("buyer@shop.example\uff0cal@x.example\uff1b c@x.example", [BUYER, "al@x.example", "c@x.example"]),
        ('"Last, First" <buyer@shop.example>, al@x.example', [BUYER, "al@x.example"]),
        ("<buyer@shop.example> <al@x.example>", [BUYER, "al@x.example"]),
        ("<buyer@shop.example><al@x.example>", [BUYER, "al@x.example"]),
        ('Bob <buyer@shop.example> "Al, B" <al@x.example>', [BUYER, "al@x.example"]),
        ("buyer@shop.example: al@x.example", [BUYER, "al@x.example"]),
    ],
)
def test_one_flaw_does_not_void_the_list(to: str, expected: list[str]) -> None:
    assert recipients(f"To: {to}") == expected


def test_a_parenthesis_in_an_id_belongs_to_it() -> None:
    hashes = set()
    for number in (1, 2, 3):
        header = f"Message-ID: <20261128({number})@crm.example>\r\n\r\n".encode()
        message = messages.parse_message("c", FetchedHeader(1, NOW, None, 1, False, header), HASHER)
        assert isinstance(message, messages.ParsedMessage)
        assert message.message_id == HASHER.message("c", f"<20261128({number})@crm.example>")
        assert message.message_id == HASHER.message("c", f"20261128({number})@crm.example")
        hashes.add(message.message_id)
    assert len(hashes) == 3
    assert normalise_message_id("Ab@c (comment)") == normalise_message_id("Ab@c(comment)") == "Ab@c"
    assert normalise_message_id("(comment) <a(b>") == "a(b"


@pytest.mark.parametrize("field", ["References", "references ", "References\t"])
def test_a_blank_before_the_colon_and_a_line_without_one_lose_no_field(field: str) -> None:
    headers = parsed(
        "a line without a colon", f"{field}: <a@x>", "odd line", " folded", "To: b@c.d", "\xa0odd: 1", "Cc: e@f.g"
    )
    assert (headers.references, headers.to, headers.cc) == (("a@x",), ("b@c.d",), ("e@f.g",))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("<a@x <b@y>", ("a@x", "b@y")), ("a@x,b@y", ("a@x", "b@y")), ("a@x;b@y", ("a@x", "b@y")), ('"a@x"', ("a@x",)), ("'a@x'", ("a@x",)),
        ('<"a"@x>', ('"a"@x',)), ("<a,b@x>", ("a,b@x",)), ("a,b@x", ("a,b@x",)), ("<'a@x'>", ("'a@x'",)),
    ],
)  # fmt: skip
def test_signs_around_and_between_ids(value: str, expected: tuple[str, ...]) -> None:
    assert parsed(f"References: {value}").references == expected


@pytest.mark.parametrize("text", ["a@x", "a@x,", "<a@x>", '"a@x"', "'a@x'", "\u201ca@x\u201d", "<a@x>;", "a@x;"])
def test_a_published_id_has_the_form_that_a_header_has(text: str) -> None:
    assert normalise_message_id(text) == "a@x"
    assert parsed(f"References: {text}").references == ("a@x",)


LONG_ID = "<" + "x" * 90 + "@mail.shop.example>"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=?utf-8?q?=3Ca=40x=2Eexample=3E?=", ("a@x.example",)),
        ("=?us-ascii?B?" + base64.b64encode(b"<a@x.example>").decode() + "?=", ("a@x.example",)),
        (Header(LONG_ID, "utf-8", maxlinelen=60).encode(linesep="\r\n"), (LONG_ID[1:-1],)),
        ("=?utf-8?q?=3Ca=40?=\r\n =?utf-8?q?x=3E?= <b@y>", ("a@x", "b@y")),
        ("<=?utf-8?q?a=40x?=>", ("a@x",)),
        ("<=?utf-8?q?a?=@x>", ("=?utf-8?q?a?=@x",)),
        ("<a=?b?=@x>", ("a=?b?=@x",)),
    ],
)
def test_encoded_ids_are_decoded(value: str, expected: tuple[str, ...]) -> None:
    headers = parsed(f"In-Reply-To: {value}", f"References: {value}", f"Message-ID: {value}")
    assert headers.in_reply_to == headers.references == expected
    assert headers.message_id == expected[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sat, 28 Nov 2026 12:00:00 GMT +0800", (4, 0)), ("Sat, 28 Nov 2026 12:00:00 GMT+08:00", (4, 0)),
        ("Sat, 28 Nov 2026 12:00:00 UTC+8", (4, 0)), ("Sat, 28 Nov 2026 12:00:00 +0800 (CST)", (4, 0)),
        ("Sat, 28 Nov 2026 12:00:00 -0330", (15, 30)), ("Sat, 28 Nov 2026 12:00:00 GMT", (12, 0)),
        ("Sat, 28 Nov 2026 12:00:00 EST", (17, 0)), ("Sat, 28 Nov 2026 12:00:00 -0000", (12, 0)), ("Sat, 28 Nov 2026 12:00 Z", (12, 0)),
        ("Sat, 28 Nov 2026 12:00:00+0800", (4, 0)), ("Sat Nov 28 12:00:00 GMT 2026", (12, 0)), ("Sat Nov 28 12:00:00 2026 +0800", (4, 0)),
        ("Sat (c), 28 (c) Nov 2026 12:00:00 (c) +0800", (4, 0)), ("Sat, 28 Nov 2026 12:00:00.123 +0000", (12, 0)),
        ("Sat, 28 Nov 126 12:00:00 +0000", (12, 0)), ("=?utf-8?q?Sat=2C_28_Nov_2026_12=3A00=3A00_+0000?=", (12, 0)),
        ("Sat, 28 Nov 2026 02:00:00 PM +0800", (6, 0)), ("Sat, 28 Nov 2026 12:00:00 PM +0800", (4, 0)),
        ("Sat, 28 Nov 2026 2:30 p.m. GMT", (14, 30)), ("Sat, 28 Nov 2026 12:30:00AM GMT", (0, 30)),
        ("Sat, 28 Nov 2026 12:00:00 %z", None), ("Sat, 28 Nov 2026 12:00:00 %Z", None), ("Sat, 28 Nov 2026 12:00:00 Asia/Shanghai", None),
        ("Sat, 28 Nov 2026 12:00:00 XYZ", None), ("Sat, 28 Nov 2026 12:00:00 HKT", None), ("Sat, 28 Nov 2026 12:00:00", None),
        ("Sat, 28 Nov 2026 12:00:00 China Standard Time", None), ("Sat, 28 Nov 2026 12:00:00 +9900", None),
    ],
)  # fmt: skip
def test_a_zone_that_is_not_known_is_no_clock(text: str, expected: tuple[int, int] | None) -> None:
    date = parsed(f"Date: {text}").date
    assert date == (None if expected is None else datetime(2026, 11, 28, *expected, tzinfo=UTC))


def word(text: str, charset: str, codec: str, encoding: str = "B") -> str:
    return f"=?{charset}?{encoding}?{base64.b64encode(text.encode(codec)).decode()}?="


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (word("自動回覆：鎔", "gb2312", "gb18030"), "自動回覆：鎔"),
        (word("สวัสดี", "windows-874", "cp874"), "สวัสดี"),
        (word("שלום", "iso-8859-8-i", "iso-8859-8"), "שלום"),
        (word("①", "shift_jis", "cp932"), "①"),
        ("=?utf-8?Q?Automatic reply: x?=", "Automatic reply: x"),
        ("=?utf-8?B?6Ieq 5Yqo 5Zue5aSN?=", "自动回复"),
        ("=?utf-8?B?6Ieq5Yqo5Zu?= =?utf-8?B?e5aSN?=", None),
        ("=?utf-8?Q?=E8=87?= =?utf-8?Q?=AA?=", "自"),
        ("=?utf-8?Q?a?= b =?utf-8?Q?c?=", "a b c"),
        (word("自动回复", "cn-gb", "gbk"), "自动回复"),
        (word("自動回覆", "windows-950", "cp950"), "自動回覆"),
        (word("자동 회신", "ks_c_5601-1989", "cp949"), "자동 회신"),
        (word("自動応答①", "windows-31j", "cp932"), "自動応答①"),
        (word("自動応答", "iso-2022-jp-ms", "iso2022_jp"), "自動応答"),
        (word("автоответ", "win-1251", "cp1251"), "автоответ"),
        (word("автоответ", "cp-866", "cp866"), "автоответ"),
        (word("автоответ", "koi8r", "koi8-r"), "автоответ"),
        (word("été", "unknown-8bit", "utf-8"), "été"),
        (word("été", "us-ascii", "utf-8"), "été"),
        (word("l\u2019été", "iso-8859-1", "cp1252"), "l\u2019été"),
        (word("ตอบ", "tis-620", "cp874"), "ตอบ"),
        (word("ğ", "iso-8859-9e", "iso-8859-9"), "ğ"),
        (word("תשובה", "logical", "iso-8859-8"), "תשובה"),
        *(
            (word("自动回复", name, "gb18030"), "自动回复")
            for name in ("gb-2312", "GB-18030", "ms936", "x-mswin-936", "x-cp936")
        ),
        *((word("自動回覆", name, "big5"), "自動回覆") for name in ("big-5", "ms950", "x-windows-950")),
        *((word("自動応答", name, "cp932"), "自動応答") for name in ("x-ms-cp932", "ms932", "windows-932")),
        *((word("自動応答", name, "euc_jp"), "自動応答") for name in ("eucjp-ms", "cp51932", "csEUCPkdFmtJapanese")),
        *((word("자동 회신", name, "cp949"), "자동 회신") for name in ("iso-ir-149", "ms949", "uhc")),
        *((word("автоответ", name, "cp1251"), "автоответ") for name in ("csWindows1251", "ansi-1251", "ms-cyrl")),
        *((word("תשובה", name, "iso-8859-8"), "תשובה") for name in ("csISO88598I", "hebrew", "iso88598")),
        *((word("odpověď", name, "iso-8859-2"), "odpověď") for name in ("iso88592", "ISO_8859_2", "csISOLatin2")),
        (word("été", '"utf-8"', "utf-8"), "été"),
        ("=?utf-8?Q?Price??=", "Price?"),
        ("=?utf-8?Q?Is_it? Yes?= =?utf-8?Q?_or no??=", "Is it? Yes or no?"),
        ("=?unknown-8bit?B?/w==?=", "=?unknown-8bit?B?/w==?="),
        ("=?x-unknown?Q?a?= =?utf-8?Q?c?=", "=?x-unknown?Q?a?=c"),
    ],
)
def test_subjects_in_odd_charsets_are_decoded(subject: str, expected: str | None) -> None:
    decoded = parsed(f"Subject: {subject}").subject
    assert expected is None or decoded == expected


def cut(lines: list[str]) -> Headers:
    raw = "\r\n".join(lines).encode()
    assert len(raw) > MAX_BYTES
    headers = parse(raw[:MAX_BYTES])
    assert isinstance(headers, Headers)
    return headers


@pytest.mark.parametrize("pad", range(0, 50, 7))
def test_the_tail_of_a_block_that_was_cut_is_dropped(pad: int) -> None:
    whole = {f"buyer{number:05}@shop.example" for number in range(2000)}
    padding = "Subject: " + "x" * pad
    for separator in (", ", ",\r\n "):
        headers = cut([padding, "To: " + separator.join(sorted(whole))])
        assert set(headers.to) <= whole
        assert len(headers.to) > 1000
    ids = [f"{number:05}@shop.example" for number in range(2000)]
    headers = cut([padding, "References: " + "\r\n ".join(f"<{text}>" for text in ids)])
    assert set(headers.references) <= set(ids)
    headers = cut([padding, "X-Autoreply: " + "x" * (MAX_BYTES - 120 - pad), "Message-ID: <" + "y" * 200 + "@z>"])
    assert headers.message_id is None


def test_ids_that_were_fetched_by_themselves_replace_those_of_a_block_that_was_cut() -> None:
    raw = ("To: a@x.example\r\nReferences: " + " ".join(f"<{number}@x>" for number in range(9_000))).encode()
    headers = parse(raw[:MAX_BYTES], b"References: <first@x> <last@x>\r\nIn-Reply-To: <last@x>\r\nTo: b@x\r\n\r\n")
    assert isinstance(headers, Headers)
    assert (headers.references, headers.in_reply_to) == (("first@x", "last@x"), ("last@x",))
    assert headers.to == ("a@x.example",)


local_part = st.from_regex(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,12}(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,8}){0,2}", fullmatch=True
)
domain = st.from_regex(r"([A-Za-z0-9]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?\.){1,3}[A-Za-z]{2,6}", fullmatch=True).filter(
    lambda text: "xn--" not in text.lower()
)


@given(local_part, domain)
def test_a_valid_address_is_only_put_into_lower_case(local: str, domain: str) -> None:
    address = f"{local}@{domain}"
    assert normalise_address(address) == normalise_address(f"Bob <{address}>") == address.lower()
    assert parsed(f"To: {address}, Al <{address.upper()}>").to == (address, f"Al <{address.upper()}>")


@given(local_part, domain)
def test_a_valid_id_is_kept(local: str, domain: str) -> None:
    message_id = f"{local}@{domain}"
    assert normalise_message_id(message_id) == normalise_message_id(f"<{message_id}>") == message_id
    assert parsed(f"References: <{message_id}>").references == (message_id,)


@given(st.text("ab@.<>()\"\\'\u200b ,;:=?\r\n\u00e4[]", max_size=50))
def test_a_normal_form_is_its_own_normal_form(text: str) -> None:
    for normalise in (normalise_address, normalise_message_id):
        normal: Any = normalise(text)
        assert normal is None or normalise(f"<{normal}>") == normal
