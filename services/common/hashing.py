"""Keyed hashes of addresses and Message-IDs, which leave the fetcher and the matcher instead of them. Pure.

hash = first 16 bytes, lower-case hex, of HMAC-SHA-256(key, kind ‖ 0x1f ‖ company_id ‖ 0x1f ‖ value). The company is part
of the text so that hashes of one address differ between tenants.
"""

from functools import lru_cache
from hashlib import sha256
from typing import Final

from services.common.normal_forms import normalise_address, normalise_message_id

SEPARATOR: Final = "\x1f"
"""Between the parts of a hashed text or a record key; no id may contain it (events.NO_CONTROL)."""
HASH_BYTES: Final = 16
KEY_BYTES: Final = 64
"""The block of SHA-256, to which a key is padded (RFC 2104 §2); a longer one would have to be hashed first."""
_CACHE: Final = 65_536


class Hasher:
    """Hashes for one installation's key (32 bytes)."""

    def __init__(self, key: bytes) -> None:
        assert len(key) <= KEY_BYTES
        padded = key.ljust(KEY_BYTES, b"\0")
        # The two blocks of the key are hashed once (RFC 2104 §4): `hmac.digest` takes three times as long.
        self._inner = sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in padded))
        # The same few addresses occur again and again: each is normalised and hashed once.
        self.address = lru_cache(maxsize=_CACHE)(self._address)
        self.message = lru_cache(maxsize=_CACHE)(self._message)

    def content(self, company_id: str, value: str) -> str:
        """Hash of any text, unchanged."""
        return self._hash("content", company_id, value)

    def mailbox(self, host: str, user: str, port: int | None = None) -> str:
        """Hash by which one login is found in two companies: HMAC(key, mailbox ‖ 0x1f ‖ host ‖ 0x1f ‖ user).

        `port`: of a server beside the usual one, which may have other mailboxes; the host is `host:port` then.
        """
        return self._hash("mailbox", host.lower() if port is None else f"{host.lower()}:{port}", user)

    def fingerprint(self) -> str:
        """The same text for the same key, and of no use to find the key: HMAC(key, fingerprint ‖ 0x1f ‖ ‖ 0x1f ‖ hash-key)."""
        return self._hash("fingerprint", "", "hash-key")

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
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text)
        outer.update(inner.digest())
        return outer.digest()[:HASH_BYTES].hex()
