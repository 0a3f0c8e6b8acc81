"""AUTHENTICATE with an access token: XOAUTH2 (Google's and Microsoft's) and OAUTHBEARER (RFC 7628); with a password: PLAIN
(RFC 4616) and LOGIN (draft-murchison-sasl-login), for servers that disable the command LOGIN."""

import json
import re

MECHANISMS = ("OAUTHBEARER", "XOAUTH2")
PASSWORD_MECHANISMS = ("PLAIN", "LOGIN")
"""Each in order of preference."""


class PasswordExchange:
    """The client's answers with user name and password. imaplib calls it with each challenge."""

    def __init__(self, mechanism: str, user: str, password: str) -> None:
        self._answers = [f"\0{user}\0{password}"] if mechanism == "PLAIN" else [user, password]

    def __call__(self, challenge: bytes) -> bytes | None:
        """The next answer; None, which ends the exchange, when the server asks for more."""
        return self._answers.pop(0).encode() if self._answers else None


class BearerExchange:
    """The client's side of the exchange: the token, then the empty answer to an error that the server explains, then the end.

    imaplib calls it with each challenge.
    """

    def __init__(self, mechanism: str, user: str, token: str, host: str, port: int) -> None:
        if mechanism == "XOAUTH2":
            text, self._end = f"user={user}\x01auth=Bearer {token}\x01\x01", b""
        else:
            name = user.replace("=", "=3D").replace(",", "=2C")
            text = f"n,a={name},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01"
            self._end = b"\x01"
        self._initial = text.encode()
        self._challenges = 0
        self.status = ""
        """The status of the explained error: three digits, or empty."""

    @property
    def server_failed(self) -> bool:
        """Whether the server reported trouble of its own and no fault of the token."""
        return self.status.startswith("5") or self.status == "429"

    def __call__(self, challenge: bytes) -> bytes | None:
        self._challenges += 1
        if self._challenges == 1:
            return self._initial
        if self._challenges > 2:
            return None
        try:
            status = str(json.loads(challenge)["status"])
        except (ValueError, TypeError, KeyError, RecursionError):
            status = ""
        self.status = status if re.fullmatch(r"[0-9]{3}", status) else ""
        return self._end
