"""The event of a message: what it says about its sender."""

from datetime import UTC, datetime

import pytest

from services.common.hashing import Hasher
from services.mail import messages
from services.mail.messages import ParsedMessage
from services.mail.values import FetchedHeader

NOW = datetime(2026, 11, 24, tzinfo=UTC)
HASHER = Hasher(bytes(32))


def senders(from_line: str, login: str = "seller@firm.example") -> tuple[str, ...]:
    raw = f"Message-ID: <a@x>\r\nFrom: {from_line}\r\nTo: b@shop.example\r\n\r\n".encode()
    message = messages.parse_message("c", FetchedHeader(1, NOW, None, 100, False, raw), HASHER)
    assert isinstance(message, ParsedMessage)
    event, _ = messages.event("c", "a", "m", message, HASHER, after=None, first_seen=NOW, login=login)
    return event.senders


def hashes(*addresses: str) -> tuple[str | None, ...]:
    return tuple(HASHER.address("c", address) for address in addresses)


@pytest.mark.parametrize("from_line", ["seller@firm.example", '"Li, Wei" <Seller@FIRM.example>', "", "undisclosed"])
def test_mail_from_the_login_of_the_mailbox_has_no_sender(from_line: str) -> None:
    assert senders(from_line) == ()


@pytest.mark.parametrize(
    "from_line", ["buyer@shop.example", "Buyer <'buyer@shop.example'>", "=?utf-8?q?B=C3=BC?= <buyer@shop.example>"]
)
def test_any_other_sender_is_hashed_as_the_addresses_of_buyers_are(from_line: str) -> None:
    assert senders(from_line) == hashes("buyer@shop.example")


def test_a_user_name_that_is_no_address_leaves_every_sender() -> None:
    assert senders("seller@firm.example", login="u123") == hashes("seller@firm.example")


def test_at_most_four_senders_are_used() -> None:
    assert senders(", ".join(f"s{number}@firm.example" for number in range(9))) == hashes(
        *(f"s{number}@firm.example" for number in range(4))
    )
