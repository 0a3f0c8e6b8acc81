"""Keyed hashes of addresses and Message-IDs, which leave the fetcher and the matcher instead of them. Pure.

hash = first 16 bytes, lower-case hex, of HMAC-SHA-256(key, kind ‖ 0x1f ‖ company_id ‖ 0x1f ‖ value). The company is part
of the text so that hashes of one address differ between tenants. Normalising takes time linear in the text, whatever it is.
"""

import hmac
import re
from functools import lru_cache
from typing import Final

import idna

from services.common.quoting import COMMENT, PLAIN, zones

SEPARATOR: Final = "\x1f"
"""Between the parts of a hashed text or a record key; no id may contain it (events.NO_CONTROL)."""
HASH_BYTES: Final = 16
MAX_ADDRESS: Final = 320
"""64 + 1 + 255 (RFC 5321 §4.5.3.1), with some margin: mail to a longer address is not delivered."""
MAX_MESSAGE_ID: Final = 998
"""One line of a mail (RFC 5322 §2.1.1)."""
MAX_RAW: Final = 4096
"""An address or id with display name and comments."""
_CACHE: Final = 65_536
_PLAIN: Final = re.compile(r"[A-Za-z0-9._+=~-]+@(?!.*[Xx][Nn]--)[A-Za-z0-9.-]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class Hasher:
    """Hashes for one installation's key (32 bytes)."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        # The same few addresses occur again and again: each is normalised and hashed once.
        self.address = lru_cache(maxsize=_CACHE)(self._address)
        self.message = lru_cache(maxsize=_CACHE)(self._message)

    def content(self, company_id: str, value: str) -> str:
        """Hash of any text, unchanged."""
        return self._hash("content", company_id, value)

    def mailbox(self, host: str, user: str) -> str:
        """Hash by which one login is found in two companies: HMAC(key, mailbox ‖ 0x1f ‖ host ‖ 0x1f ‖ user)."""
        return self._hash("mailbox", host.lower(), user)

    def _address(self, company_id: str, value: str) -> str | None:
        """Hash of an address; None when `value` is not a valid one."""
        normal = normalise_address(value)
        return None if normal is None else self._hash("address", company_id, normal)

    def _message(self, company_id: str, value: str) -> str | None:
        """Hash of a Message-ID; None when `value` is not a valid one."""
        normal = normalise_message_id(value)
        return None if normal is None else self._hash("message", company_id, normal)

    def _hash(self, kind: str, company_id: str, value: str) -> str:
        # A decoded header may contain a lone surrogate; it must not stop a message.
        text = f"{kind}{SEPARATOR}{company_id}{SEPARATOR}{value}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, "sha256")[:HASH_BYTES].hex()


def normalise_address(text: str) -> str | None:
    """Without comments and display name, local part and domain in lower case, domain as A-labels (UTS 46).

    A domain that UTS 46 refuses is only put into lower case. None when there is no `local@domain`.
    """
    if len(text) > MAX_RAW:
        return None
    if len(text) <= MAX_ADDRESS and _PLAIN.fullmatch(text):
        return text.lower()  # nothing to remove and no label to translate: most addresses
    bare = _without_comments(text)
    bare = (_in_angle_brackets(bare) or bare).strip()
    local, at, domain = bare.rpartition("@")
    local, domain = local.strip(), domain.strip()
    if not at or not local or not domain or len(bare) > MAX_ADDRESS or _has_blank(domain) or _has_control(bare):
        return None
    if "<" in domain or ">" in domain:
        return None
    if not local.startswith('"') and (_has_blank(local) or any(sign in local for sign in "<>@")):
        return None
    return f"{local.lower()}@{_domain(domain)}"


def normalise_message_id(text: str) -> str | None:
    """The text between `<` and `>`, or without them the text without comments; no white space, case kept."""
    if len(text) > MAX_RAW:
        return None
    start = text.find("<")
    end = text.find(">", start + 1) if start >= 0 else -1
    inner = text[start + 1 : end] if end >= 0 else _without_comments(text)
    bare = "".join(inner.split()).strip("<>")
    if not bare or len(bare) > MAX_MESSAGE_ID or _has_control(bare):
        return None
    return bare


@lru_cache(maxsize=16_384)
def _domain(domain: str) -> str:
    lower = domain.lower()
    if lower.isascii() and "xn--" not in lower:
        return lower
    try:
        return idna.encode(domain, uts46=True, transitional=False).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError, ValueError):
        return lower


def _without_comments(text: str) -> str:
    """`text` without (comments), nested ones too; quoted strings stay."""
    return text if "(" not in text else "".join(char for char, zone in zones(text) if zone != COMMENT)


def _in_angle_brackets(text: str) -> str | None:
    """The text in the first <…> outside of quotes."""
    start = -1
    for index, (char, zone) in enumerate(zones(text)):
        if zone != PLAIN:
            continue
        if char == "<":
            start = index + 1
        elif char == ">" and start >= 0:
            return text[start:index]
    return None


def _has_blank(text: str) -> bool:
    return any(char.isspace() for char in text)


def _has_control(text: str) -> bool:
    return _CONTROL.search(text) is not None
