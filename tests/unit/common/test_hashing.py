"""Hashes and normal forms of addresses and Message-IDs."""

import hashlib
import hmac
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.hashing import Hasher
from services.common.normal_forms import MAX_ADDRESS, MAX_RAW, normalise_address, normalise_message_id

KEY = bytes(range(32))
HASHER = Hasher(KEY)
_plain = st.text('abcXYZ019.-_+@<>()"\\ ,;:[]äß買ı\u200b\t\r\n\u0000\ud800', max_size=60)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("buyer@example.com", "buyer@example.com"),
        (" Buyer@EXAMPLE.Com ", "buyer@example.com"),
        ("Buyer Name <Buyer@Example.com>", "buyer@example.com"),
        ('"Name, (not a comment) <x>" <buyer@example.com>', "buyer@example.com"),
        ("(one (nested \\) one)) buyer@example.com (two)", "buyer@example.com"),
        ("buyer@(here)example.com", "buyer@example.com"),
        ("buyer@example.com (never closed", "buyer@example.com"),
        ("買家 <Mai@Example.com>", "mai@example.com"),
        ('"A B"@example.com', '"a b"@example.com'),
        ('"a@b"@example.com', '"a@b"@example.com'),
        ('"a<b"@example.com', '"a<b"@example.com'),
        ('"a(b"@example.com', '"a(b"@example.com'),
        ("x@Bücher.example", "x@xn--bcher-kva.example"),
        ("x@XN--BCHER-KVA.example", "x@xn--bcher-kva.example"),
        ("x@BU\u0308CHER.example", "x@xn--bcher-kva.example"),
        ("x@例え。テスト", "x@xn--r8jz45g.xn--zckzah"),
        ("x@stra\u00dfe.example", "x@xn--strae-oqa.example"),
        ("ÄÖ@example.com", "äö@example.com"),
        # Refused by UTS 46 or IDNA 2008: unchanged but for lower case.
        ("x@\u2615.Example", "x@\u2615.example"),
        ("x@" + "Ü" * 64 + ".example", "x@" + "ü" * 64 + ".example"),
        ("x@Under_Score.example", "x@under_score.example"),
        ("x@-a-.example", "x@-a-.example"),
        ("x@xn--zzzzzz99999.example", "x@xn--zzzzzz99999.example"),
        ("x@[192.0.2.1]", "x@[192.0.2.1]"),
    ],
)
def test_an_address_in_normal_form(text: str, normal: str) -> None:
    assert normalise_address(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "@", "buyer", "@example.com", "buyer@", "<>", "Name <>", "buyer example.com",
        "a@b@example.com", "buyer@exa mple.com", "bu\u0000yer@example.com",
        "(buyer@example.com)", "x" * MAX_ADDRESS + "@example.com",
        "buyer@example.com" + " " * MAX_RAW, "undisclosed-recipients:;",
    ],
)  # fmt: skip
def test_no_address(text: str) -> None:
    assert normalise_address(text) is None
    assert HASHER.address("c-1", text) is None


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("<Ab.1@Example.com>", "Ab.1@Example.com"),
        ("Ab.1@Example.com", "Ab.1@Example.com"),
        ("  < Ab.1@\r\n Example.com >  ", "Ab.1@Example.com"),
        ("(comment) Ab.1@Example.com (comment)", "Ab.1@Example.com"),
        ("<a(b)c@example.com>", "a(b)c@example.com"),
        ("first <a@example.com> <b@example.com>", "a@example.com"),
        ("<never.closed@example.com", "never.closed@example.com"),
        ("no-at-sign", "no-at-sign"),
        ("<買@例え>", "買@例え"),
    ],
)
def test_a_message_id_in_normal_form(text: str, normal: str) -> None:
    assert normalise_message_id(text) == normal


@pytest.mark.parametrize(
    "text", ["", "  ", "<>", "< >", "(only a comment)", "<a\u0000b@c>", "x" * 999, "<" + "x" * 5000 + ">"]
)
def test_no_message_id(text: str) -> None:
    assert normalise_message_id(text) is None
    assert HASHER.message("c-1", text) is None


def test_a_hash_is_what_the_contract_says() -> None:
    def by_hand(kind: str, company_id: str, value: str) -> str:
        text = "\x1f".join((kind, company_id, value)).encode()
        return hmac.new(KEY, text, hashlib.sha256).digest()[:16].hex()

    assert HASHER.address("c-1", "Buyer <Buyer@Example.com>") == by_hand("address", "c-1", "buyer@example.com")
    assert HASHER.message("買", "<Ab@c>") == by_hand("message", "買", "Ab@c")
    assert HASHER.content("c-1", " unchanged ") == by_hand("content", "c-1", " unchanged ")


def test_a_known_hash() -> None:
    assert Hasher(b"\x01" * 32).address("c-1", "buyer@example.com") == "89d2a6732c773c8b30288ace3a82b34e"


def test_companies_kinds_and_keys_are_apart() -> None:
    value = "a@example.com"
    assert len({
        HASHER.address("c-1", value), HASHER.address("c-2", value), HASHER.message("c-1", value),
        HASHER.content("c-1", value), Hasher(bytes(32)).address("c-1", value),
    }) == 5  # fmt: skip


def test_half_a_surrogate_pair_stops_nothing() -> None:
    assert HASHER.address("c-1", "\ud800@example.com") is not None
    assert HASHER.content("c-1", "\ud800") is not None


@given(_plain)
def test_any_text_has_an_answer(text: str) -> None:
    normal = normalise_address(text)
    if normal is not None:
        local, _, domain = normal.rpartition("@")
        assert local
        assert domain
        assert normal == normal.strip()
    message_id = normalise_message_id(text)
    assert message_id is None or (message_id and not any(char.isspace() for char in message_id))


@given(
    st.from_regex(r"[A-Za-z0-9.+_-]{1,20}@[A-Za-z0-9-]{1,20}\.(com|cn|例え)", fullmatch=True),
    st.sampled_from(["Name", '"N <x> (y"', "買家", ""]),
)
def test_name_comment_and_case_make_no_difference(address: str, name: str) -> None:
    normal = normalise_address(address)
    assert normal is not None
    assert normalise_address(f"{name} <{address}> (a comment)") == normal
    assert normalise_address(address.swapcase()) == normal
    assert normalise_address(normal) == normal


@pytest.mark.parametrize(
    "unit", ["(", "()", "<", '"', "\\", "@", "a@", "((a)", '"<', "xn--", "ä.", "\u0300", "ß\u200d"]
)
def test_hostile_text_costs_no_more_than_its_length(unit: str) -> None:
    started = time.perf_counter()
    for size in (100, 1_000, 4_000, 100_000, 1_000_000):
        text = unit * (size // len(unit))
        normalise_address(text)
        normalise_address(f"a@{text}")
        normalise_message_id(text)
    assert time.perf_counter() - started < 1
