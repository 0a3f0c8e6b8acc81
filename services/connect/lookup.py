"""Looking a provider up: brings `lookup_decision.decide` the facts it asks for. No password is ever sent here."""

import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from services.common.errors import TransientError
from services.imap.connection import connect
from services.imap.errors import MailboxError
from services.imap.host_policy import HostPolicy
from services.imap.limits import SessionLimits
from services.providers.catalog import ProviderCatalog
from services.providers.lookup_decision import DomainFacts, LookupAnswer, SrvRecord, decide, guesses
from services.providers.typed_server import HostMistake, find_mistake, parse_server

T = TypeVar("T")
PROBE: Final = SessionLimits(
    session_bytes=64 * 1024, line_bytes=4096, command_seconds=5, session_seconds=8, connect_seconds=4
)


class DomainRecords(Protocol):
    """What the DNS is asked (`dns_records.DnsRecords`)."""

    def mx(self, domain: str) -> tuple[str, ...]:
        """MX servers, the preferred one first."""
        ...

    def srv(self, domain: str) -> tuple[SrvRecord, ...]:
        """`_imaps._tcp` records."""
        ...


def look_up(
    directory: ProviderCatalog,
    domain: str,
    *,
    records: DomainRecords,
    hosts: HostPolicy,
    context: ssl.SSLContext,
    offline: bool = False,
) -> tuple[LookupAnswer, list[str]]:
    """The answer for a domain, and sentences about what could not be asked."""
    facts, problems = DomainFacts(), list[str]()
    while True:
        step = decide(directory, domain, facts, offline=offline)
        match step:
            case "mx":
                facts = replace(facts, mx=_asked(lambda: records.mx(domain), "MX", problems))
            case "srv":
                facts = replace(facts, srv=_asked(lambda: records.srv(domain), "SRV", problems))
            case "guess":
                candidates = guesses(domain, hosts.allowed_ports)
                found = tuple(one for one in candidates if answers(*one, hosts, context))
                facts = replace(facts, answering=found)
            case LookupAnswer():
                return step, problems


def mistaken(
    directory: ProviderCatalog,
    host: str,
    port: int,
    address: str,
    *,
    hosts: HostPolicy,
    context: ssl.SSLContext,
) -> HostMistake | None:
    """What is wrong with a typed server, known before a password is asked for; None when nothing is seen.

    A server that only has the name of a POP or SMTP server is greeted first, without user name or password.
    """
    found = find_mistake(directory, host, port, address)
    if found is not None and not found.certain and answers(parse_server(host).host, port, hosts, context):
        return None
    return found


def answers(host: str, port: int, hosts: HostPolicy, context: ssl.SSLContext) -> bool:
    """Whether a guessed host greets as an IMAP server over verified TLS, at an address that may be connected to."""
    try:
        connection = connect(hosts.check(host, port), context, PROBE)
    except MailboxError:
        return False
    connection.logout()
    return True


def _asked(ask: Callable[[], tuple[T, ...]], kind: str, problems: list[str]) -> tuple[T, ...]:
    try:
        return ask()
    except TransientError as error:
        problems.append(f"{kind} records: {error}")
        return ()
