"""Answers to requests with an Idempotency-Key: a request that is sent again gets the answer of the first one. SQL is in api_answers.sql.

An answer may hold a link that is shown once, so it is sealed with a key that follows from the secret of the API key: the database
holds neither. Entries live for a day.
"""

import hmac
import os
from typing import Final

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.common.postgres import Statements, load_statements

SQL: Final = load_statements("services.registry", "api_answers.sql")
MOST_BYTES: Final = 256 * 1024
"""The longest sealed answer."""
_NONCE: Final = 12


class AnotherRequest(Exception):
    """The name was used for another request before."""


class ApiAnswers:
    """Reads and writes registry.api_answers in a transaction of one API key; not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, key_id: str, secret: str) -> None:
        self._sql = Statements(connection, SQL)
        self._key_id = key_id
        self._secret = secret

    def begin(self, name: str, request: bytes) -> bytes | None:
        """The answer to an earlier request of this name; None when there is none, and then this transaction has the name.

        A second request of the name waits here until the transaction of the first one ends. AnotherRequest when `request`
        (whatever distinguishes requests) is not what it was before.
        """
        request_hash = self._digest(b"request" + request)
        values = {"key_id": self._key_id, "name_hash": self._digest(b"name" + name.encode())}
        self._sql.run("forget_answer", **values)
        if self._sql.one("claim_name", **values, request_hash=request_hash) is not None:
            return None
        stored = self._sql.one("answer", **values)
        if stored is None or bytes(stored["request_hash"]) != request_hash:
            raise AnotherRequest
        sealed = bytes(stored["answer_sealed"])
        try:
            return self._cipher(name).decrypt(sealed[:_NONCE], sealed[_NONCE:], None)
        except InvalidTag:
            raise AnotherRequest from None

    def finish(self, name: str, answer: bytes) -> None:
        """Store the answer of this transaction's request. ValueError when it is too long."""
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._cipher(name).encrypt(nonce, answer, None)
        if len(sealed) > MOST_BYTES:
            raise ValueError(f"an answer of {len(answer)} bytes cannot be stored")
        self._sql.run(
            "store_answer", key_id=self._key_id, name_hash=self._digest(b"name" + name.encode()), sealed=sealed
        )

    def _cipher(self, name: str) -> AESGCM:
        return AESGCM(self._derived(b"replyrate api answer 1" + name.encode()))

    def _digest(self, data: bytes) -> bytes:
        """A keyed hash: a request may hold a password, which an unkeyed hash would let a reader of the database guess."""
        return hmac.digest(self._derived(b"replyrate api request 1"), data, "sha256")

    def _derived(self, purpose: bytes) -> bytes:
        """A key for a purpose: HKDF (RFC 5869) from a secret of 256 random bits."""
        derivation = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=purpose)
        return derivation.derive(self._secret.encode())
