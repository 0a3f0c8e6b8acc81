"""Values of an inquiry that could never match a mail: the matcher would drop them, so they are refused before they are published.

What is an address or a Message-ID, and what two of them have in common, is decided by services.common.normal_forms, as in the
matcher, and by the way in which the fetcher splits address fields. Pure.
"""

import re
from typing import Final

from services.common.events import InquiryReceived
from services.common.header_lists import message_ids, split_addresses
from services.common.normal_forms import normalise_address, normalise_message_id

_SEPARATOR: Final = re.compile(r"[\s;,；，、|]")
_NOT_IN_DOMAIN: Final = re.compile(r"""[\s;,:；，、：|/\\"'()<>?!&=*%#]""")
ONE_ADDRESS: Final = (
    "one address for each value, like ann@shop.example, several separated by spaces (in NDJSON as a list)"
)
ONE_ID: Final = (
    "one Message-ID for each value, like <id@mail.example>, several separated by spaces (in NDJSON as a list)"
)
WITH_DOMAIN: Final = (
    "the Message-ID that the notification mail has, with its domain; Amazon SES returns only the part before the @, the mail"
    " has <id@email.amazonses.com> or <id@REGION.amazonses.com>"
)


def unmatchable(inquiry: InquiryReceived) -> tuple[str, str] | None:
    """The first such value of an inquiry: what is wrong with it (field and position, never the value) and the cure."""
    for field, addresses in (
        ("buyer.addresses", inquiry.buyer.addresses),
        ("reply_addresses", inquiry.reply_addresses),
    ):
        for number, address in enumerate(addresses, 1):
            if (fault := address_fault(address)) is not None:
                return f"data.{field}: value {number} {fault}, so it can never match", ONE_ADDRESS
    for number, message_id in enumerate(inquiry.message_ids, 1):
        if (fault := message_id_fault(message_id)) is not None:
            cure = WITH_DOMAIN if fault == NO_DOMAIN else ONE_ID
            return f"data.message_ids: value {number} {fault}, so it can never match", cure
    return None


NO_DOMAIN: Final = "is a Message-ID without @"


def address_fault(text: str) -> str | None:
    """Why no mail could have been sent to this address; None when it is a usable one."""
    normal = normalise_address(text)
    parts = [part for part in split_addresses(text) if part.strip()]
    if len(parts) > 1 or (normal is None and text.count("@") > 1 and _SEPARATOR.search(text)):
        return "contains several addresses"
    # A separator at the end would be removed; it is more likely that the values are separated in another way than documented.
    is_separated = text.strip()[-1:] in tuple(";,；，、|")
    if normal is None or not parts or is_separated or normalise_address(parts[0]) != normal:
        return "is not an e-mail address"
    domain = normal.rpartition("@")[2]
    is_literal = domain.startswith("[") and domain.endswith("]")
    return "is not an e-mail address" if not is_literal and _NOT_IN_DOMAIN.search(domain) else None


def message_id_fault(text: str) -> str | None:
    """Why no mail refers to this Message-ID; None when one could (RFC 5322 §3.6.4: left "@" right)."""
    bare = normalise_message_id(text)
    if bare is None:
        return "is not a Message-ID"
    has_brackets = "<" in text
    is_separated = _SEPARATOR.search(bare if has_brackets else text.strip()) is not None
    if len(message_ids(text)) > 1 or (is_separated and bare.count("@") > 1):
        return "contains several Message-IDs"
    if "@" not in bare:
        return NO_DOMAIN
    return "is not a Message-ID" if is_separated and not has_brackets else None
