"""Seals passwords, user names and addresses: AES-256-GCM, a random data key for each value, wrapped by the vault key.

sealed = version ‖ key id ‖ nonce ‖ wrapped data key ‖ nonce ‖ ciphertext. The field and the place that a value belongs to are
authenticated with it as associated data, so a value that is copied to another company, mailbox, host or column cannot be opened.

Version 2 states the field first and the length of every part. Version 1, which is still opened, joined the parts and put the field
where a secret has the user name: with the user name `user` a password could be opened as a user name. `replyrate keys rotate`
seals such values again.
"""

import hashlib
import os
from typing import Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.common.errors import ConfigError, ReplyrateError
from services.common.hashing import SEPARATOR

VERSION: Final = b"\x02"
FIRST_VERSION: Final = b"\x01"
Field = Literal["secret", "user", "address", "account-address"]
"""What a value is: a password or refresh token, a user name, the address of a mailbox, an address of an account."""
_KEY_ID: Final = 8
_NONCE: Final = 12
_WRAPPED: Final = 32 + 16


class WrongContext(ReplyrateError):
    """A sealed value does not belong to the place where it was found, or was changed."""


class UnknownKey(ConfigError):
    """A value was sealed with a key that this vault does not have."""


class Vault:
    """The vault key (32 bytes, REPLYRATE_VAULT_KEY_FILE) seals and opens; the previous key, if given, only opens."""

    def __init__(self, key: bytes, old_key: bytes | None = None) -> None:
        self._key_id = _identity(key)
        self._wrapping = {
            _identity(vault_key): AESGCM(vault_key) for vault_key in (key, old_key) if vault_key is not None
        }

    @property
    def key_id(self) -> str:
        """Distinguishes keys without revealing anything about them."""
        return self._key_id.hex()

    @property
    def key_ids(self) -> list[bytes]:
        """The ids of all keys that open."""
        return list(self._wrapping)

    def is_current(self, sealed: bytes) -> bool:
        """Whether a value is sealed with the current vault key, in the current version."""
        return sealed.startswith(VERSION + self._key_id)

    def seal(self, value: str, *belongs_to: str, field: Field) -> bytes:
        """`value` sealed as this field of the place that `belongs_to` names (company, mailbox, host, port, user …)."""
        place = _place(VERSION, field, belongs_to, self._key_id)
        data_key = AESGCM.generate_key(256)
        key_nonce, value_nonce = os.urandom(_NONCE), os.urandom(_NONCE)
        wrapped = self._wrapping[self._key_id].encrypt(key_nonce, data_key, place)
        sealed = AESGCM(data_key).encrypt(value_nonce, value.encode(), place)
        return VERSION + self._key_id + key_nonce + wrapped + value_nonce + sealed

    def open(self, sealed: bytes, *belongs_to: str, field: Field) -> str:
        """The value. UnknownKey when it was sealed with another key, WrongContext when for another place or when changed."""
        head = len(VERSION) + _KEY_ID
        version, key_id = sealed[: len(VERSION)], sealed[len(VERSION) : head]
        wrapping = self._wrapping.get(key_id)
        if version not in (VERSION, FIRST_VERSION) or wrapping is None:
            raise UnknownKey(
                "a stored secret was sealed with another key; set REPLYRATE_VAULT_KEY_FILE to that one,"
                " or REPLYRATE_VAULT_OLD_KEY_FILE while `replyrate keys rotate` is running"
            )
        place = _place(version, field, belongs_to, key_id)
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


def _place(version: bytes, field: Field, belongs_to: tuple[str, ...], key_id: bytes) -> bytes:
    """The associated data of a value in this version."""
    if version == FIRST_VERSION:
        parts = (*belongs_to, field) if field in ("user", "address") else belongs_to
        return SEPARATOR.join((*parts, key_id.hex())).encode()
    encoded = [part.encode() for part in (field, *belongs_to, key_id.hex())]
    return version + b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def masked(address: str) -> str:
    """`z***@163.com`: enough for its owner to recognise it."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}" if at else "***"
