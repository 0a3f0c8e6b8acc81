"""Values of an inquiry that could never match a mail: the matcher would drop them, so they are refused before they are published.

What is an address or a Message-ID, and what two of them have in common, is decided by services.common.normal_forms, as in the
matcher, and by the way in which the fetcher splits address fields. Pure.
"""

import re
from typing import Final

from services.common.events import InquiryReceived
from services.common.header_lists import message_ids, split_addresses
from services.common.normal_forms import normalise_address, normalise_message_id
from services.inquiries.lines import InvalidLine
from services.inquiries.sentences import sentence

_SEPARATOR: Final = re.compile(r"[\s;,；，、|]")
_NOT_IN_DOMAIN: Final = re.compile(r"""[\s;,:；，、：|/\\"'()<>?!&=*%#]""")


def unmatchable(inquiry: InquiryReceived) -> InvalidLine | None:
    """The first such value of an inquiry: what is wrong with it (field and position, never the value) and the cure."""
    for field, addresses in (
        ("buyer.addresses", inquiry.buyer.addresses),
        ("reply_addresses", inquiry.reply_addresses),
    ):
        for number, address in enumerate(addresses, 1):
            if (fault := address_fault(address)) is not None:
                return _never_matches(field, number, fault, "each-address")
    for number, message_id in enumerate(inquiry.message_ids, 1):
        if (fault := message_id_fault(message_id)) is not None:
            cure = "message-id-with-domain" if fault == "message-id-without-domain" else "each-message-id"
            return _never_matches("message_ids", number, fault, cure)
    return None


def _never_matches(field: str, number: int, fault: str, cure: str) -> InvalidLine:
    detail = sentence("detail", "never-matches", number=number, fault=sentence("fault", fault))
    return InvalidLine("schema", detail, sentence("cure", cure), path=f"data.{field}")


def address_fault(text: str) -> str | None:
    """Why no mail could have been sent to this address (a code of [fault] in sentences.toml); None when it is a usable one."""
    normal = normalise_address(text)
    parts = [part for part in split_addresses(text) if part.strip()]
    if len(parts) > 1 or (normal is None and text.count("@") > 1 and _SEPARATOR.search(text)):
        return "several-addresses"
    # A separator at the end would be removed; it is more likely that the values are separated in another way than documented.
    is_separated = text.strip()[-1:] in tuple(";,；，、|")
    if normal is None or not parts or is_separated or normalise_address(parts[0]) != normal:
        return "not-an-address"
    domain = normal.rpartition("@")[2]
    is_literal = domain.startswith("[") and domain.endswith("]")
    return "not-an-address" if not is_literal and _NOT_IN_DOMAIN.search(domain) else None


def message_id_fault(text: str) -> str | None:
    """Why no mail refers to this Message-ID (a code as above); None when one could (RFC 5322 §3.6.4: left "@" right)."""
    bare = normalise_message_id(text)
    if bare is None:
        return "not-a-message-id"
    has_brackets = "<" in text
    is_separated = _SEPARATOR.search(bare if has_brackets else text.strip()) is not None
    if len(message_ids(text)) > 1 or (is_separated and bare.count("@") > 1):
        return "several-message-ids"
    if "@" not in bare:
        return "message-id-without-domain"
    return "not-a-message-id" if is_separated and not has_brackets else None
