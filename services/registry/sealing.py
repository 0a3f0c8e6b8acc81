"""Seals what a seller types for the fetchers, so that the process which takes it cannot open it afterwards.

HPKE (RFC 9180, base mode): X25519, HKDF-SHA256, AES-256-GCM, by the library `cryptography`. The public key can only seal;
fetchers have the private key, which opens. The private key is derived from the vault key, so it exists wherever a fetcher
runs, needs no file of its own, and is replaced whenever the vault key is: while `replyrate keys rotate` runs, fetchers have both.

sealed = version ‖ key id ‖ HPKE encapsulated key and ciphertext. What the value belongs to is HPKE's `info`: a value that is copied
to another request or company cannot be opened.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.registry.vault import UnknownKey, WrongContext

VERSION: Final = b"\x01"
PUBLIC_KEY_BYTES: Final = 32
_KEY_ID: Final = 8
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class SealingKey:
    """The public key: seals, and cannot open. ValueError when `public` is not 32 bytes of an X25519 key."""

    def __init__(self, public: bytes) -> None:
        self._key = X25519PublicKey.from_public_bytes(public)
        self.public = public
        self.key_id = _identity(public)
        """Distinguishes keys, in hexadecimal."""

    def seal(self, value: bytes, *belongs_to: str) -> bytes:
        """`value`, sealed for what `belongs_to` names (a request, a company)."""
        return VERSION + bytes.fromhex(self.key_id) + _SUITE.encrypt(value, self._key, _info(belongs_to))


class OpeningKeys:
    """The private keys of a fetcher: those that follow from its vault key and, during a rotation, from the previous one."""

    def __init__(self, vault_key: bytes, old_vault_key: bytes | None = None) -> None:
        private = [_derived(key) for key in (vault_key, old_vault_key) if key is not None]
        self.current = SealingKey(_public(private[0]))
        """What sellers' requests should be sealed with from now on."""
        self._keys = {_identity(_public(key)): key for key in private}

    @property
    def key_ids(self) -> Sequence[str]:
        """The ids of all keys that open, in hexadecimal."""
        return tuple(self._keys)

    def open(self, sealed: bytes, *belongs_to: str) -> bytes:
        """The value. UnknownKey when it was sealed for another key, WrongContext when for another place or when changed."""
        head = len(VERSION) + _KEY_ID
        key = self._keys.get(sealed[len(VERSION) : head].hex())
        if sealed[: len(VERSION)] != VERSION or key is None:
            raise UnknownKey("a request was sealed for a key that this fetcher does not have")
        try:
            return _SUITE.decrypt(sealed[head:], key, _info(belongs_to))
        except (InvalidTag, ValueError):
            raise WrongContext("a sealed request does not belong to its place, or was changed") from None


def _derived(vault_key: bytes) -> X25519PrivateKey:
    """The private key that belongs to a vault key: HKDF (RFC 5869) with a purpose of its own, so neither reveals the other."""
    derivation = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"replyrate connect requests 1")
    return X25519PrivateKey.from_private_bytes(derivation.derive(vault_key))


def _public(key: X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _identity(public: bytes) -> str:
    return hashlib.sha256(b"replyrate sealing key id" + public).digest()[:_KEY_ID].hex()


def _info(belongs_to: Sequence[str]) -> bytes:
    """The parts with their lengths, so that no two lists of parts look the same."""
    parts = [part.encode() for part in belongs_to]
    return VERSION + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
