"""Which IMAP server belongs to a domain: the decision, fact by fact. Pure; services.connect.lookup gets the facts.

In order:
1. the domain is in the provider directory;
2. one of its MX servers is;
3. it has an `_imaps._tcp` record, else an `_imap._tcp` record, which means STARTTLS (RFC 6186 §3.2);
4. `imap.` or `mail.` before it answers as an IMAP server;
5. the person is asked.

Only a host of the directory is `trusted`: a password goes to any other one after a person has confirmed it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from services.providers.addresses import suffixes
from services.providers.catalog import ProviderCatalog
from services.providers.mail_server import MailServer, TlsMode, usual_mode
from services.providers.provider import Provider, UnconfirmedServer

FoundBy = Literal["name", "domain", "mx", "srv", "guess", "ask"]
MissingFact = Literal["mx", "srv", "guess"]

GUESSES: Final = ("imap.{domain}", "mail.{domain}")


@dataclass(frozen=True, slots=True)
class SrvRecord:
    """One `_imaps._tcp` or (`tls` starttls) `_imap._tcp` record; target "." means that the domain does not offer it."""

    target: str
    port: int
    priority: int = 0
    weight: int = 0
    tls: TlsMode = "implicit"


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """What is known about a domain so far; None: not looked up yet."""

    mx: tuple[str, ...] | None = None
    srv: tuple[SrvRecord, ...] | None = None
    answering: tuple[MailServer, ...] | None = None


@dataclass(frozen=True, slots=True)
class LookupAnswer:
    """Where the mailboxes of a domain may be. `evidence` is what decided: a domain, an MX server, a record, a host."""

    domain: str
    how: FoundBy
    provider: Provider | None
    servers: tuple[MailServer, ...]
    evidence: str
    trusted: bool


def decide(
    catalog: ProviderCatalog, domain: str, facts: DomainFacts, *, offline: bool = False
) -> LookupAnswer | MissingFact:
    """The answer for a domain (A-labels, lower case), or the fact that is needed to find it."""
    if (provider := catalog.by_domain(domain)) is not None:
        return _by_directory(domain, "domain", provider, domain)
    if offline:
        return LookupAnswer(domain, "ask", None, (), "the domain is not in the provider directory", False)
    if facts.mx is None:
        return "mx"
    for server in facts.mx:
        if (provider := catalog.by_mx(server)) is not None:
            return _by_directory(domain, "mx", provider, server.rstrip(".").lower())
    if facts.srv is None:
        return "srv"
    records = sorted(
        facts.srv, key=lambda record: (record.tls == "starttls", record.priority, -record.weight, record.target)
    )
    named = [record for record in records if record.target.rstrip(".")]
    servers = tuple(MailServer(record.target.rstrip(".").lower(), record.port, record.tls) for record in named)
    if records and not servers:
        return LookupAnswer(domain, "ask", None, (), "its DNS says that it offers no IMAP", False)
    if servers:
        provider = catalog.by_host(servers[0].host)
        service = "_imaps" if servers[0].tls == "implicit" else "_imap"
        return LookupAnswer(domain, "srv", provider, servers, f"{service}._tcp.{domain}", provider is not None)
    if facts.answering is None:
        return "guess"
    if facts.answering:
        return LookupAnswer(domain, "guess", None, facts.answering, facts.answering[0].host, False)
    return LookupAnswer(domain, "ask", None, (), "nothing is known about the domain", False)


def guesses(domain: str, ports: Sequence[int], tls: TlsMode) -> tuple[MailServer, ...]:
    """Servers that a domain may have, at those of the `ports` at which TLS usually starts so."""
    usual = [port for port in ports if usual_mode(port) == tls]
    return tuple(MailServer(host.format(domain=domain), port, tls) for host in GUESSES for port in usual)


def unconfirmed_servers(answer: LookupAnswer) -> tuple[UnconfirmedServer, ...]:
    """What no current source confirms of an answer: the MX server that decided, the servers that it names."""
    provider = answer.provider
    if provider is None:
        return ()
    deciding_mx = [name for name in suffixes(answer.evidence) if name in provider.mx][:1] if answer.how == "mx" else []
    notes = [provider.unconfirmed_server("mx", name) for name in deciding_mx]
    notes += [provider.unconfirmed_server("hosts", host) for host, *_ in answer.servers]
    return tuple(note for note in notes if note is not None)


def _by_directory(domain: str, how: FoundBy, provider: Provider, evidence: str) -> LookupAnswer:
    return LookupAnswer(domain, how, provider, provider.servers(domain), evidence, True)
