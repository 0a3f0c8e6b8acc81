"""Compares the provider directory with the DNS, so that entries which have aged are found.

    for each provider: servers have an address | MX suffixes exist | domains have MX servers of this provider, SRV fits

No mail server is connected to. A name that the DNS does not answer for is reported as not checked.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeVar

from services.common.errors import TransientError
from services.providers.catalog import ProviderCatalog
from services.providers.lookup_decision import SrvRecord
from services.providers.provider import Provider

AnswerT = TypeVar("AnswerT")
Key = Literal["hosts", "mx", "domains"]
Code = Literal["no-address", "name-gone", "no-mx", "mx-of-another", "srv-differs", "srv-no-imap"]
SENTENCES: Final[dict[Code, str]] = {
    "no-address": "the server has no address any more",
    "name-gone": "the name does not exist any more",
    "no-mx": "the domain has no MX server any more",
    "mx-of-another": "the MX servers belong to another provider",
    "srv-differs": "the SRV record names another IMAP server",
    "srv-no-imap": "the SRV record says that IMAP is not offered",
}
PLAIN_FAMILY: Final = "plain"
"""The family of providers that have nothing in common but their form."""
MOST_FAILURES: Final = 3
"""Queries that fail before any was answered: then no resolver answers."""


class DirectoryRecords(Protocol):
    """The DNS queries of a check (`dns_records.DnsRecords`)."""

    def mx(self, domain: str) -> tuple[str, ...]:
        """MX servers, the preferred one first."""
        ...

    def srv(self, domain: str) -> tuple[SrvRecord, ...]:
        """`_imaps._tcp` records."""
        ...

    def has_address(self, host: str) -> bool:
        """Whether a host has an address."""
        ...

    def exists(self, name: str) -> bool:
        """Whether a name exists, with records or without."""
        ...


@dataclass(frozen=True, slots=True)
class DirectoryChange:
    """An entry that the DNS does not confirm; `as_of` (YYYY-MM) is when it was last confirmed."""

    provider: str
    key: Key
    name: str
    code: Code
    seen: str
    as_of: str


@dataclass(slots=True)
class DirectoryCheck:
    """What a check found, and the queries that were not answered."""

    changes: list[DirectoryChange] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    answered: int = 0

    def ask(self, query: Callable[[str], AnswerT], name: str, kind: str) -> AnswerT | None:
        """The answer of a query; None when it failed. Raises TransientError when no resolver answers at all."""
        try:
            answer = query(name)
        except TransientError:
            self.not_checked.append(f"{kind} {name}")
            if not self.answered and len(self.not_checked) >= MOST_FAILURES:
                raise
            return None
        self.answered += 1
        return answer


def check_directory(catalog: ProviderCatalog, records: DirectoryRecords) -> DirectoryCheck:
    """Compare every entry with the DNS. Raises TransientError when no resolver answers."""
    check = DirectoryCheck()
    for provider in catalog.providers:
        for host in provider.hosts:
            if "{" not in host and check.ask(records.has_address, host, "address") is False:
                check.changes.append(_change(provider, "hosts", host, "no-address"))
        for suffix in provider.mx:
            if check.ask(records.exists, suffix, "name") is False:
                check.changes.append(_change(provider, "mx", suffix, "name-gone"))
        for domain in provider.domains:
            _check_domain(check, catalog, provider, domain, records)
    return check


def _check_domain(
    check: DirectoryCheck, catalog: ProviderCatalog, provider: Provider, domain: str, records: DirectoryRecords
) -> None:
    servers = check.ask(records.mx, domain, "MX")
    if servers is not None:
        owners = {owner.id: owner for server in servers if (owner := catalog.by_mx(server)) is not None}
        if not [server for server in servers if server not in ("", ".")]:
            check.changes.append(_change(provider, "domains", domain, "no-mx", _autoconfig(check, domain, records)))
        elif owners and not any(_related(provider, owner) for owner in owners.values()):
            seen = f"{', '.join(servers)} ({', '.join(owners)})"
            check.changes.append(_change(provider, "domains", domain, "mx-of-another", seen))
    targets = check.ask(records.srv, domain, "SRV")
    if targets:
        named = {target.target.rstrip(".").lower() for target in targets}
        hosts = {server.host for server in provider.servers(domain)}
        if named == {""}:
            if hosts:
                check.changes.append(_change(provider, "domains", domain, "srv-no-imap"))
        elif not named & hosts:
            seen = ", ".join(sorted(named))
            check.changes.append(_change(provider, "domains", domain, "srv-differs", seen))


def _autoconfig(check: DirectoryCheck, domain: str, records: DirectoryRecords) -> str:
    """The host of the domain's autoconfig (Thunderbird), where its present servers can be read, if there is one."""
    host = f"autoconfig.{domain}"
    return f"{host} exists" if check.ask(records.has_address, host, "address") else ""


def _related(provider: Provider, owner: Provider) -> bool:
    """Whether the two are one provider, or of one company's family, whose domains share MX servers."""
    return owner.id == provider.id or (owner.family not in (None, PLAIN_FAMILY) and owner.family == provider.family)


def _change(provider: Provider, key: Key, name: str, code: Code, seen: str = "") -> DirectoryChange:
    return DirectoryChange(provider.id, key, name, code, seen, provider.as_of)
