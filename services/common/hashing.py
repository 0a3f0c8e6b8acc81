"""Keyed hashes of addresses and Message-IDs: what leaves the fetcher and the matcher instead of them.

hash = first 16 bytes, lower-case hex, of HMAC-SHA-256(key, kind ‖ 0x1f ‖ company_id ‖ 0x1f ‖ value). The company in it
keeps two tenants' hashes of one address apart. Normalising is linear in the text, whatever the text is.
"""

import hmac
import re
from functools import lru_cache
from typing import Final

import idna

SEPARATOR: Final = "\x1f"
HASH_BYTES: Final = 16
MAX_ADDRESS: Final = 320
"""64 + 1 + 255 (RFC 5321 §4.5.3.1), generous: longer is no address that anybody answers."""
MAX_MESSAGE_ID: Final = 998
"""One line of a mail (RFC 5322 §2.1.1)."""
MAX_RAW: Final = 4096
"""With display name and comments."""
_CACHE: Final = 65_536
_PLAIN: Final = re.compile(r"[A-Za-z0-9._+=~-]+@(?!.*[Xx][Nn]--)[A-Za-z0-9.-]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class Hasher:
    """Hashes for one installation's key (32 bytes)."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        # The same few addresses come again and again: each costs its normalising and its HMAC once.
        self.address = lru_cache(maxsize=_CACHE)(self._address)
        self.message = lru_cache(maxsize=_CACHE)(self._message)

    def content(self, company_id: str, value: str) -> str:
        """Hash of any text, as it stands."""
        return self._hash("content", company_id, value)

    def mailbox(self, host: str, user: str) -> str:
        """Hash that finds one login in two companies: HMAC(key, mailbox ‖ 0x1f ‖ host ‖ 0x1f ‖ user)."""
        return self._hash("mailbox", host.lower(), user)

    def _address(self, company_id: str, value: str) -> str | None:
        """Hash of an address; None when `value` is none."""
        normal = normalise_address(value)
        return None if normal is None else self._hash("address", company_id, normal)

    def _message(self, company_id: str, value: str) -> str | None:
        """Hash of a Message-ID; None when `value` is none."""
        normal = normalise_message_id(value)
        return None if normal is None else self._hash("message", company_id, normal)

    def _hash(self, kind: str, company_id: str, value: str) -> str:
        # A lone surrogate can stand in a decoded header; it must not stop a message.
        text = f"{kind}{SEPARATOR}{company_id}{SEPARATOR}{value}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, "sha256")[:HASH_BYTES].hex()


def normalise_address(text: str) -> str | None:
    """Comments and display name off, local part and domain in lower case, domain as A-labels (UTS 46).

    A domain that UTS 46 refuses stays as it stands in lower case. None when there is no `local@domain`.
    """
    if len(text) > MAX_RAW:
        return None
    if len(text) <= MAX_ADDRESS and _PLAIN.fullmatch(text):
        return text.lower()  # nothing to take off and no label to translate: most addresses
    bare = _without_comments(text)
    bare = (_angle(bare) or bare).strip()
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
    """What stands between `<` and `>` if there are any, else the text without comments; white space off, case kept."""
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
    """`text` without (comments), nested ones too; quoted strings are left alone. One pass."""
    if "(" not in text:
        return text
    out: list[str] = []
    depth = 0
    quoted = escaped = False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\" and (quoted or depth):
            escaped = True
        elif char == '"' and not depth:
            quoted = not quoted
        elif char == "(" and not quoted:
            depth += 1
            continue
        elif char == ")" and depth and not quoted:
            depth -= 1
            continue
        if not depth:
            out.append(char)
    return "".join(out)


def _angle(text: str) -> str | None:
    """What stands in the first <…> outside of quotes."""
    quoted = escaped = False
    start = -1
    for at, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\" and quoted:
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == "<" and not quoted:
            start = at + 1
        elif char == ">" and not quoted and start >= 0:
            return text[start:at]
    return None


def _has_blank(text: str) -> bool:
    return any(char.isspace() for char in text)


def _has_control(text: str) -> bool:
    return _CONTROL.search(text) is not None
