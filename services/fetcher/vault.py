"""Seals passwords, user names and addresses: AES-256-GCM, a random data key for each value, wrapped by the vault's key.

sealed = version ‖ key id ‖ nonce ‖ wrapped data key ‖ nonce ‖ ciphertext. Where a value belongs is authenticated with
it, so a row copied to another company, mailbox or host does not open.
"""

import hashlib
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.common.errors import ConfigError, ReplyrateError

VERSION: Final = b"\x01"
_KEY_ID: Final = 8
_NONCE: Final = 12
_WRAPPED: Final = 32 + 16


class Misplaced(ReplyrateError):
    """A sealed value does not belong where it stands, or was changed."""


class Vault:
    """One vault key (32 bytes, REPLYRATE_VAULT_KEY_FILE)."""

    def __init__(self, key: bytes) -> None:
        self._wrapping = AESGCM(key)
        self._key_id = hashlib.sha256(b"replyrate vault key id" + key).digest()[:_KEY_ID]

    @property
    def key_id(self) -> str:
        """Tells keys apart without telling anything about them."""
        return self._key_id.hex()

    def seal(self, value: str, *belongs_to: str) -> bytes:
        """`value` sealed for the place that `belongs_to` names (company, mailbox, host, port, user …)."""
        where = self._where(belongs_to)
        data_key = AESGCM.generate_key(256)
        first, second = os.urandom(_NONCE), os.urandom(_NONCE)
        wrapped = self._wrapping.encrypt(first, data_key, where)
        sealed = AESGCM(data_key).encrypt(second, value.encode(), where)
        return VERSION + self._key_id + first + wrapped + second + sealed

    def open(self, sealed: bytes, *belongs_to: str) -> str:
        """The value again. ConfigError when it was sealed with another key; Misplaced for another place, or changed."""
        head = len(VERSION) + _KEY_ID
        if sealed[: len(VERSION)] != VERSION or sealed[len(VERSION) : head] != self._key_id:
            raise ConfigError("a stored secret was sealed with another key; set REPLYRATE_VAULT_KEY_FILE to that one")
        where = self._where(belongs_to)
        first = sealed[head : head + _NONCE]
        wrapped = sealed[head + _NONCE : head + _NONCE + _WRAPPED]
        rest = sealed[head + _NONCE + _WRAPPED :]
        try:
            data_key = self._wrapping.decrypt(first, wrapped, where)
            return AESGCM(data_key).decrypt(rest[:_NONCE], rest[_NONCE:], where).decode()
        except (InvalidTag, ValueError):
            raise Misplaced("a stored secret does not belong to this mailbox; connect the mailbox again") from None

    def _where(self, belongs_to: tuple[str, ...]) -> bytes:
        return "\x1f".join((*belongs_to, self.key_id)).encode()


def masked(address: str) -> str:
    """`z***@163.com`: enough for its owner to know it again."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}" if at else "***"
