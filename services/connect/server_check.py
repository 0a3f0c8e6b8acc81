"""Checks the server that a person typed or confirmed, before a password is sent to it."""

import ssl

from services.connect.lookup import check_server
from services.connect.onboarding import MailboxRefused
from services.connect.report import mistyped
from services.imap.host_policy import HostPolicy
from services.providers import catalog
from services.providers.mail_server import MailServer, usual_mode, usual_port
from services.providers.typed_server import parse_server


def check_typed_server(
    host: str, port: int | None, starttls: bool, address: str, *, hosts: HostPolicy, context: ssl.SSLContext
) -> MailServer:
    """The server that was typed, normalised; on port 143 or with `starttls` TLS starts after STARTTLS.

    MailboxRefused when it is known to be no IMAP server, or one that offers TLS from the first byte.
    """
    typed = parse_server(host)
    port = port or typed.port or usual_port("starttls" if starttls else "implicit")
    server = MailServer(typed.host, port, "starttls" if starttls else usual_mode(port))
    return check_known_server(server, host, address, hosts=hosts, context=context)


def check_known_server(
    server: MailServer, typed: str, address: str, *, hosts: HostPolicy, context: ssl.SSLContext
) -> MailServer:
    """A server as it is. MailboxRefused when it is known to be no IMAP server; `typed` is how a person wrote its name."""
    providers = catalog.load()
    mistake = check_server(providers, typed, server.port, address, hosts=hosts, context=context, tls=server.tls)
    if mistake is not None:
        raise MailboxRefused(mistyped(server.host, server.port, address, providers, mistake))
    return server
