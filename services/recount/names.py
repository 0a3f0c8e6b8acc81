"""Addresses and Message-IDs in their normal form, and the hashes that replace them outside the vault."""

import hashlib
import hmac
import re

import idna


def hashed(key: bytes, kind: str, company_id: str, value: str) -> str:
    """The hash that replaces an address, a Message-ID or a content outside the vault."""
    text = "\x1f".join((kind, company_id, value)).encode()
    return hmac.new(key, text, hashlib.sha256).digest()[:16].hex()


def without_comments(text: str) -> str:
    """Text without comments in parentheses, which may be nested; quoted parentheses are text."""
    letters, depth, quoted, escaped = [], 0, False, False
    for letter in text:
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == '"' and depth == 0:
            quoted = not quoted
        elif letter == "(" and not quoted:
            depth += 1
            continue
        elif letter == ")" and not quoted and depth > 0:
            depth -= 1
            continue
        if depth == 0:
            letters.append(letter)
    return "".join(letters)


def normal_address(text: str) -> str | None:
    """`Buyer <Buyer@Bücher.example>` as `buyer@xn--bcher-kva.example`; None when it is not an address."""
    plain = without_comments(text)
    pointed = re.search(r"<([^<>]*)>", plain)
    bare = (pointed[1] if pointed else plain).strip()
    local, at_sign, domain = bare.rpartition("@")
    local, domain = local.strip(), domain.strip()
    if not at_sign or not local or not domain or re.search(r"\s", bare):
        return None
    try:
        domain = idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        domain = domain.lower()
    return f"{local.lower()}@{domain}"


def normal_message_id(text: str) -> str | None:
    """`<A@b>` as `A@b`; None when nothing is left."""
    pointed = re.search(r"<([^>]*)>", text)
    bare = pointed[1] if pointed else without_comments(text)
    return re.sub(r"\s", "", bare) or None
