"""STARTTLS (RFC 3501 §6.2.1) on a connection that is still plain text.

Whatever is read here may come from somebody between us and the server, so all of it is thrown away: no capability, no
greeting and no other answer from before TLS reaches imaplib, which starts after the handshake. Nothing but STARTTLS is sent.

1. The greeting must be `* OK`. PREAUTH would put the session past the login, where STARTTLS is not permitted (CVE-2020-12398).
2. The command has a tag that nobody can guess, so an answer cannot have been written before the command was.
3. Before the tagged OK only status and CAPABILITY lines may come; any other is an answer that was injected (CVE-2021-38370).
4. Behind the tagged OK nothing may have been received: a client that keeps bytes from before the handshake and reads them after
   it takes them for the server's (CVE-2021-29969; all these attacks: https://nostarttls.secvuln.info, 2021).

Whether STARTTLS is advertised decides nothing: an attacker can remove it from the list, and a server without it refuses the
command. The connection ends then; it never goes on in plain text.
"""

import imaplib
import re
import secrets
from collections.abc import Callable
from typing import Final

from services.imap.errors import ServerBroken, SessionLimitReached, StarttlsMissing, StarttlsUnsafe, Unreachable
from services.imap.wire import Wire

MAX_LINES: Final = 50
_HARMLESS: Final = re.compile(rb"\* (OK|NO|BAD|CAPABILITY)\b[^{]*", re.I)
_BYE: Final = re.compile(rb"\* BYE\b", re.I)


def negotiate(wire: Wire, send: Callable[[bytes], None]) -> None:
    """Read the greeting and send STARTTLS; returns when the handshake may begin. StarttlsMissing,
    StarttlsUnsafe, ServerBroken, Unreachable, SessionLimitReached; imaplib's error for BYE, whose words the caller translates."""
    greeting = _line(wire)
    if re.match(rb"\* PREAUTH\b", greeting, re.I):
        raise StarttlsUnsafe("tls", "PREAUTH before TLS")
    if not re.match(rb"\* OK\b", greeting, re.I):
        raise ServerBroken("tls", "no greeting of an IMAP server")
    tag = b"S" + secrets.token_hex(4).encode()
    send(tag + b" STARTTLS\r\n")
    for _ in range(MAX_LINES):
        line = _line(wire)
        if line.startswith(tag + b" "):
            break
        if not _HARMLESS.fullmatch(line):
            raise StarttlsUnsafe("tls", "an answer that nobody asked for before TLS")
    else:
        raise SessionLimitReached("tls", "too many lines before TLS")
    if not re.match(rb"OK\b", line[len(tag) + 1 :], re.I):
        raise StarttlsMissing("tls", "the server refuses STARTTLS")
    if wire.pending:
        raise StarttlsUnsafe("tls", "plain text after the answer to STARTTLS")


def _line(wire: Wire) -> bytes:
    line = wire.line()
    if not line.endswith(b"\n"):
        raise Unreachable("tls", "the server closed the connection before TLS")
    line = line.rstrip(b"\r\n")
    if _BYE.match(line):
        raise imaplib.IMAP4.error(line.decode("ascii", "replace"))
    return line
