"""Which IMAP server the password of a mailbox goes to: given, or looked up from the address and confirmed."""

import sys

import click

from services.cli.output import errors
from services.common.display import printable
from services.common.settings import ImapSettings
from services.connect import texts
from services.connect.dns_records import DnsRecords
from services.connect.lookup import check_server, look_up
from services.connect.onboarding import MailboxRefused
from services.connect.report import mistyped, unsupported
from services.imap.host_policy import HostPolicy, resolve
from services.imap.tls import tls_context
from services.providers import catalog
from services.providers.addresses import domain_of
from services.providers.lookup_decision import LookupAnswer
from services.providers.typed_server import TLS_PORT, parse_server
from services.registry.errors import RegistryError


def server_of(
    address: str, host: str | None, port: int | None, settings: ImapSettings, *, quiet: bool
) -> tuple[str, int]:
    """Host and port of the server of `address`. A server that is not in the provider directory needs a person's consent.

    `quiet`: print nothing and ask nothing. Raises MailboxRefused for a host or port that is known to be no IMAP server and
    for a provider that cannot be read, before any password is asked for; RegistryError when no server is known.
    """
    if host:
        return checked_server(host, port, address, settings)
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
    found_host, found_port = answer.servers[0]
    how = texts.phrase(f"how-{answer.how}", "en")
    if not answer.trusted and (quiet or not _confirmed(found_host)):
        raise RegistryError(
            f"{found_host} may be the IMAP server of {domain} ({how}). The password is sent there only if you confirm it:"
            f" --host {found_host}" + (f" --port {found_port}" if found_port != TLS_PORT else "")
        )
    if not quiet:
        errors.print(f"server {found_host}:{found_port} ({how})", markup=False)
    return checked_server(found_host, port or found_port, address, settings)


def checked_server(host: str, port: int | None, address: str, settings: ImapSettings) -> tuple[str, int]:
    """Host and port, normalised. Raises MailboxRefused when they are known not to belong to an IMAP server."""
    providers, typed = catalog.load(), parse_server(host)
    server, port = typed.host, port or typed.port or TLS_PORT
    mistake = check_server(
        providers, host, port, address, hosts=HostPolicy.of(settings, resolve), context=tls_context(settings.ca_file)
    )
    if mistake is not None:
        raise MailboxRefused(mistyped(server, port, address, providers, mistake))
    return server, port


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
