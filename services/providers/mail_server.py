"""An IMAP server as it is connected to: its name, its port, and when TLS starts. Pure."""

from typing import Final, Literal, NamedTuple

TlsMode = Literal["implicit", "starttls"]
"""`implicit`: TLS from the first byte. `starttls`: after the command STARTTLS, before anything else is sent (RFC 3501 §6.2.1)."""

TLS_PORT: Final = 993
STARTTLS_PORT: Final = 143
USUAL_PORTS: Final = (TLS_PORT, STARTTLS_PORT)
"""Both lead to one server."""


class MailServer(NamedTuple):
    """One server. There is no mode without TLS."""

    host: str
    port: int
    tls: TlsMode = "implicit"


def usual_mode(port: int) -> TlsMode:
    """When TLS starts at a port for which nobody said it: on 143 after STARTTLS, everywhere else at once (RFC 8314 §3.2)."""
    return "starttls" if port == STARTTLS_PORT else "implicit"


def usual_port(mode: TlsMode) -> int:
    """The port of a server for which nobody named it."""
    return STARTTLS_PORT if mode == "starttls" else TLS_PORT
