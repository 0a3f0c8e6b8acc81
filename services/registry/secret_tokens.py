"""Tokens that open something: 256 random bits, of which the database stores the SHA-256 only.

So many random bits cannot be guessed, and a fast hash of them cannot be reversed: a slow one would only cost time in each request.
"""

import hashlib
import re
import secrets
from typing import Final

_RANDOM_PART: Final = re.compile(r"[A-Za-z0-9_-]{20,100}")
"""Of a token, after its prefix."""


def new_id(prefix: str) -> str:
    """An id of 48 random bits. `prefix` tells people what it names: `m` a mailbox, `s` a session, `k` a key."""
    return f"{prefix}-{secrets.token_hex(6)}"


def new_token(prefix: str) -> str:
    """A token. `prefix` tells people and secret scanners what it is: `rrk_` a key, `rrl_` and `rrp_` a link, `rrs_` a session."""
    return prefix + secrets.token_urlsafe(32)


def is_token(text: str, prefix: str) -> bool:
    """Whether a text from outside looks like a token with this prefix; Postgres is not asked about any other, which may contain NUL."""
    return text.startswith(prefix) and _RANDOM_PART.fullmatch(text.removeprefix(prefix)) is not None


def token_hash(token: str) -> bytes:
    """What the database stores of it, as its function registry.token_hash() computes it."""
    return hashlib.sha256(token.encode()).digest()
