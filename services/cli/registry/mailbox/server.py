"""Which IMAP server the password of a mailbox goes to: given, or looked up from the address and confirmed."""

import sys

import click

from services.cli.output import errors
from services.common.display import printable
from services.common.settings import ImapSettings
from services.connect import texts
from services.connect.dns_records import DnsRecords
from services.connect.lookup import look_up
from services.connect.onboarding import MailboxRefused
from services.connect.report import unsupported
from services.connect.server_check import check_known_server, check_typed_server
from services.imap.host_policy import HostPolicy, resolve
from services.imap.tls import tls_context
from services.providers import catalog
from services.providers.addresses import domain_of
from services.providers.lookup_decision import LookupAnswer
from services.providers.mail_server import MailServer, usual_port
from services.registry.errors import RegistryError


def server_of(
    address: str, host: str | None, port: int | None, starttls: bool, settings: ImapSettings, *, quiet: bool
) -> MailServer:
    """The server of `address`. A server that is not in the provider directory needs a person's consent.

    `quiet`: print nothing and ask nothing. Raises MailboxRefused for a host or port that is known to be no IMAP server and
    for a provider that cannot be read, before any password is asked for; RegistryError when no server is known.
    """
    if host:
        return checked_server(host, port, starttls, address, settings)
    domain = domain_of(address)
    if domain is None:
        raise RegistryError("this is not an e-mail address; write it as name@domain")
    answer, problems = look_up_domain(domain, settings)
    for problem in problems:
        errors.print(f"warning: {problem}", style="yellow", markup=False)
    provider = answer.provider
    if provider is not None and provider.support == "unsupported":
        raise MailboxRefused(unsupported(provider))
    if not answer.servers:
        raise RegistryError(
            f"the IMAP server of {domain} is not known ({answer.evidence}); find it in the provider's help and pass"
            " --host imap.example.com"
        )
    suggested = answer.servers[0]
    how = texts.phrase(f"how-{answer.how}", "en")
    if not answer.trusted and (quiet or not _confirmed(suggested.host)):
        raise RegistryError(
            f"{suggested.host} may be the IMAP server of {domain} ({how}). The password is sent there only if you confirm it:"
            f" --host {suggested.host}{_port_options(suggested)}"
        )
    if not quiet:
        errors.print(f"server {suggested.host}:{suggested.port} ({how})", markup=False)
    if port is None and not starttls:
        hosts, context = HostPolicy.of(settings, resolve), tls_context(settings.ca_file)
        return check_known_server(suggested, suggested.host, address, hosts=hosts, context=context)
    return checked_server(suggested.host, port, starttls, address, settings)


def checked_server(host: str, port: int | None, starttls: bool, address: str, settings: ImapSettings) -> MailServer:
    """The server that was typed, normalised. Raises MailboxRefused (services/connect/server_check.py)."""
    hosts, context = HostPolicy.of(settings, resolve), tls_context(settings.ca_file)
    return check_typed_server(host, port, starttls, address, hosts=hosts, context=context)


def _port_options(server: MailServer) -> str:
    """The options that name port and mode of a server where they are not the usual ones."""
    port = "" if server.port == usual_port(server.tls) else f" --port {server.port}"
    return port + (" --starttls" if server.tls == "starttls" else "")


def look_up_domain(domain: str, settings: ImapSettings, *, offline: bool = False) -> tuple[LookupAnswer, list[str]]:
    """The servers of a domain, and a sentence for each query that failed; uses the DNS and network of this machine."""
    return look_up(
        catalog.load(), domain, records=DnsRecords(), hosts=HostPolicy.of(settings, resolve),
        context=tls_context(settings.ca_file), offline=offline,
    )  # fmt: skip


def _confirmed(host: str) -> bool:
    return sys.stdin.isatty() and click.confirm(
        f"Is {printable(host)} the IMAP server of this mailbox? The password is sent to it", err=True
    )
