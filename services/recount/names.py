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


JUNK = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
MARKS = "\\\"'`\u2018\u2019\u201c\u201d"


def normal_address(text: str) -> str | None:
    """`Buyer <Buyer@Bücher.example>` as `buyer@xn--bcher-kva.example`; None when it is not an address."""
    plain = without_comments(JUNK.sub("", text))
    pointed = re.search(r"<([^<>]*@[^<>]*)>", plain)
    bare = re.sub(r"\s*([@.])\s*", r"\1", pointed[1] if pointed else plain.replace("<", " ").replace(">", " ")).strip()
    if not pointed and not bare.startswith('"'):
        bare = bare.split()[-1] if bare else ""
    bare = re.sub(r"^(mailto|smtp):", "", bare, flags=re.IGNORECASE)
    trimmed = bare.rstrip(MARKS + ".,;:>)")
    if set(bare[len(trimmed) :]) & set(MARKS):
        trimmed = trimmed.lstrip(MARKS)
    local, at_sign, domain = trimmed.rpartition("@")
    if not at_sign or not local or not domain or re.search(r"\s", domain):
        return None
    if not local.startswith('"') and re.search(r"[\s<>@]", local):
        return None
    try:
        domain = idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        domain = domain.lower()
    if not all(domain.split(".")):
        return None
    return f"{local.lower()}@{domain}"


def normal_message_id(text: str) -> str | None:
    """`<A@b>` as `A@b`; None when nothing is left. A parenthesis inside an id belongs to it."""
    pointed = re.search(r"<([^<>]*)>", text)
    inside = re.search(r"(?:^|\s)([^\s()<>]+(?:\([^\s()]*\)[^\s()<>]+)+)(?:\s|$)", text)
    bare = pointed[1] if pointed else inside[1] if inside and "@" in inside[1] else without_comments(text)
    return re.sub(r"\s", "", JUNK.sub("", bare)) or None
