"""Seals passwords, user names and addresses: AES-256-GCM, a random data key for each value, wrapped by the vault key.

sealed = version ‖ key id ‖ nonce ‖ wrapped data key ‖ nonce ‖ ciphertext. The place a value belongs to is authenticated with
it as associated data, so a row that is copied to another company, mailbox or host cannot be opened.
"""

import hashlib
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.common.errors import ConfigError, ReplyrateError
from services.common.hashing import SEPARATOR

VERSION: Final = b"\x01"
_KEY_ID: Final = 8
_NONCE: Final = 12
_WRAPPED: Final = 32 + 16


class WrongContext(ReplyrateError):
    """A sealed value does not belong to the place where it was found, or was changed."""


class Vault:
    """The vault key (32 bytes, REPLYRATE_VAULT_KEY_FILE) seals and opens; the previous key, if given, only opens."""

    def __init__(self, key: bytes, old_key: bytes | None = None) -> None:
        self._key_id = _identity(key)
        self._wrapping = {_identity(each): AESGCM(each) for each in (key, old_key) if each is not None}

    @property
    def key_id(self) -> str:
        """Distinguishes keys without revealing anything about them."""
        return self._key_id.hex()

    def is_current(self, sealed: bytes) -> bool:
        """Whether a value is sealed with the current vault key."""
        return sealed.startswith(VERSION + self._key_id)

    def seal(self, value: str, *belongs_to: str) -> bytes:
        """`value` sealed for the place that `belongs_to` names (company, mailbox, host, port, user …)."""
        place = _place(belongs_to, self._key_id)
        data_key = AESGCM.generate_key(256)
        key_nonce, value_nonce = os.urandom(_NONCE), os.urandom(_NONCE)
        wrapped = self._wrapping[self._key_id].encrypt(key_nonce, data_key, place)
        sealed = AESGCM(data_key).encrypt(value_nonce, value.encode(), place)
        return VERSION + self._key_id + key_nonce + wrapped + value_nonce + sealed

    def open(self, sealed: bytes, *belongs_to: str) -> str:
        """The value. ConfigError when it was sealed with another key, WrongContext when for another place or when changed."""
        head = len(VERSION) + _KEY_ID
        key_id = sealed[len(VERSION) : head]
        wrapping = self._wrapping.get(key_id)
        if sealed[: len(VERSION)] != VERSION or wrapping is None:
            raise ConfigError(
                "a stored secret was sealed with another key; set REPLYRATE_VAULT_KEY_FILE to that one,"
                " or REPLYRATE_VAULT_OLD_KEY_FILE while `replyrate keys rotate` is running"
            )
        place = _place(belongs_to, key_id)
        key_nonce = sealed[head : head + _NONCE]
        wrapped = sealed[head + _NONCE : head + _NONCE + _WRAPPED]
        encrypted = sealed[head + _NONCE + _WRAPPED :]
        try:
            data_key = wrapping.decrypt(key_nonce, wrapped, place)
            return AESGCM(data_key).decrypt(encrypted[:_NONCE], encrypted[_NONCE:], place).decode()
        except (InvalidTag, ValueError):
            raise WrongContext("a stored secret does not belong to this mailbox; connect the mailbox again") from None


def _identity(key: bytes) -> bytes:
    return hashlib.sha256(b"replyrate vault key id" + key).digest()[:_KEY_ID]


def _place(belongs_to: tuple[str, ...], key_id: bytes) -> bytes:
    return SEPARATOR.join((*belongs_to, key_id.hex())).encode()


def masked(address: str) -> str:
    """`z***@163.com`: enough for its owner to recognise it."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}" if at else "***"
