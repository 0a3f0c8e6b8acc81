"""Looks up the mail server of a domain: gets the facts that `lookup_decision.decide` asks for. It never sends a password."""

import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol, TypeVar, get_args

from services.common.errors import TransientError
from services.imap.connection import connect
from services.imap.errors import MailboxError
from services.imap.host_policy import HostPolicy
from services.imap.limits import SessionLimits
from services.providers.catalog import ProviderCatalog
from services.providers.lookup_decision import DomainFacts, LookupAnswer, SrvRecord, decide, guesses
from services.providers.mail_server import MailServer, TlsMode
from services.providers.typed_server import HostMistake, find_mistake, parse_server

RecordT = TypeVar("RecordT")
PROBE: Final = SessionLimits(
    session_bytes=64 * 1024, line_bytes=4096, command_seconds=5, session_seconds=8, connect_seconds=4
)


class DomainRecords(Protocol):
    """The DNS queries of a look-up (`dns_records.DnsRecords`)."""

    def mx(self, domain: str) -> tuple[str, ...]:
        """MX servers, the preferred one first."""
        ...

    def srv(self, domain: str) -> tuple[SrvRecord, ...]:
        """`_imaps._tcp` records, else `_imap._tcp` records."""
        ...


def look_up(
    catalog: ProviderCatalog,
    domain: str,
    *,
    records: DomainRecords,
    hosts: HostPolicy,
    context: ssl.SSLContext,
    offline: bool = False,
) -> tuple[LookupAnswer, list[str]]:
    """The answer for a domain, and sentences about queries that failed."""
    facts, problems = DomainFacts(), list[str]()
    while True:
        step = decide(catalog, domain, facts, offline=offline)
        match step:
            case "mx":
                facts = replace(facts, mx=_asked(lambda: records.mx(domain), "MX", problems))
            case "srv":
                facts = replace(facts, srv=_asked(lambda: records.srv(domain), "SRV", problems))
            case "guess":
                facts = replace(facts, answering=_answering(domain, hosts, context))
            case LookupAnswer():
                return step, problems


def check_server(
    catalog: ProviderCatalog,
    host: str,
    port: int,
    address: str,
    *,
    hosts: HostPolicy,
    context: ssl.SSLContext,
    tls: TlsMode = "implicit",
) -> HostMistake | None:
    """What is wrong with a typed server, before a password is asked for; None when nothing is.

    A server whose name only looks like a POP or SMTP server is connected to first, without user name or password.
    """
    mistake = find_mistake(catalog, host, port, address)
    server = MailServer(parse_server(host).host, port, tls)
    if mistake is not None and not mistake.certain and answers(server, hosts, context):
        return None
    return mistake


def answers(server: MailServer, hosts: HostPolicy, context: ssl.SSLContext) -> bool:
    """Whether a server answers as an IMAP server over verified TLS, at an address that may be connected to."""
    try:
        connection = connect(hosts.check(*server), context, PROBE)
    except MailboxError:
        return False
    connection.logout()
    return True


def _answering(domain: str, hosts: HostPolicy, context: ssl.SSLContext) -> tuple[MailServer, ...]:
    """Guessed servers that answer; with STARTTLS only where none does with TLS from the first byte."""
    for tls in get_args(TlsMode):
        servers = [server for server in guesses(domain, hosts.allowed_ports, tls) if answers(server, hosts, context)]
        if servers:
            return tuple(servers)
    return ()


def _asked(ask: Callable[[], tuple[RecordT, ...]], kind: str, problems: list[str]) -> tuple[RecordT, ...]:
    try:
        return ask()
    except TransientError as error:
        problems.append(f"{kind} records: {error}")
        return ()
