"""The provider directory: providers.toml, checked against its schema, and the ways to find a provider in it. Pure."""

import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from services.common import tables
from services.common.errors import ConfigError
from services.providers.addresses import domain_of, host_name, parent_domain, suffixes
from services.providers.provider import Provider


class ProviderCatalog:
    """All providers, found by domain, MX server, host or name."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self.providers = tuple(providers)
        self._by_domain = {domain: provider for provider in providers for domain in provider.domains}
        self._by_mx = {suffix: provider for provider in providers for suffix in provider.mx}
        self._by_host: dict[str, Provider] = {}
        self._by_wrong_host = {host: provider for provider in providers for host in provider.not_imap}
        for provider in providers:
            for host in provider.hosts:
                if "{" not in host:
                    self._by_host.setdefault(host, provider)
        self._by_server_domain = {
            **self._by_domain,
            **{parent_domain(host): provider for host, provider in self._by_host.items()},
            **{domain: provider for provider in providers for domain in provider.server_domains},
        }

    def by_domain(self, domain: str) -> Provider | None:
        """The provider of a domain that is in the directory."""
        return self._by_domain.get(domain)

    def by_mx(self, server: str) -> Provider | None:
        """The provider whose MX server this is: by the whole name, or by what follows one of its dots."""
        return next((self._by_mx[name] for name in suffixes(server) if name in self._by_mx), None)

    def by_host(self, host: str) -> Provider | None:
        """The provider that an IMAP server belongs to."""
        return self._by_host.get(host_name(host))

    def hosts_of(self, provider_id: str) -> list[str] | None:
        """The servers that lead to the provider with an id; None when there is none."""
        for provider in self.providers:
            if provider.id == provider_id:
                return [host for host in provider.hosts if self.by_host(host) is provider]
        return None

    def by_wrong_host(self, host: str) -> Provider | None:
        """The provider to whose POP, SMTP or web servers a host belongs (`not_imap`)."""
        return self._by_wrong_host.get(host)

    def of_mailbox(self, address: str, host: str) -> Provider | None:
        """The provider of a mailbox: by the domain of its address, else by its server."""
        domain = domain_of(address)
        return (self.by_domain(domain) if domain else None) or self.by_host(host)

    def named(self, text: str) -> Provider | None:
        """The provider of that id, name or name in the FAQ, or the only one with `text` in one of its names."""
        wanted = _folded(text)
        names = {
            provider.id: {
                _folded(name) for name in (provider.id, provider.name, *(faq_row.name for faq_row in provider.faq))
            }
            for provider in self.providers
        }
        exact = [provider for provider in self.providers if wanted in names[provider.id]]
        partial = [provider for provider in self.providers if any(wanted in name for name in names[provider.id])]
        matches = exact or (partial if wanted else [])
        return matches[0] if len(matches) == 1 else None

    def files_all_sent(self, host: str) -> bool:
        """Whether a server files every message that is sent through it, whatever program sends (`files_sent = "always"`).

        There a reply that is missing in the Sent folder can only have been sent through another server; everywhere else
        filing depends on a setting or on the mail program. A host that is not in the directory belongs to the provider
        whose domain, server's domain or `server_domains` it ends with.
        """
        provider = self.by_host(host) or next(
            (self._by_server_domain[name] for name in suffixes(host) if name in self._by_server_domain), None
        )
        return provider is not None and provider.files_sent == "always"


@cache
def load() -> ProviderCatalog:
    """services/providers/providers.toml."""
    return parse(tables.read_text("services.providers", "providers.toml"), "services/providers/providers.toml")


def parse(text: str, origin: str) -> ProviderCatalog:
    """The directory from TOML. ConfigError that names `origin`, the block, the key, its value and what is allowed."""
    data = tables.parse_table(text, origin)
    families = data.get("families", {})
    problems = [
        f"{origin}: {key}: no such table; write [[provider]] or [families.NAME]"
        for key in data
        if key not in ("provider", "families")
    ]
    blocks: list[dict[str, Any]] = []
    for number, own_keys in enumerate(data.get("provider", []), 1):
        name, family = own_keys.get("id", f"number {number}"), own_keys.get("family")
        if family is not None and family not in families:
            problems.append(f"{origin}: provider {name}: family: {family!r} is none of {', '.join(sorted(families))}")
            continue
        blocks.append(block := {**families.get(family, {}), **own_keys})
        problems += tables.schema_problems(block, "provider", f"{origin}: provider {name}")
    if not problems:
        problems = [f"{origin}: {problem}" for problem in _contradictions(blocks)]
    if problems:
        raise ConfigError(problems)
    return ProviderCatalog(msgspec.convert(blocks, list[Provider]))


def _contradictions(blocks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Ids, domains, MX servers and rows of the FAQ that two blocks claim, so that a look-up could not decide; and doubts
    about entries that the block does not have."""
    owners: dict[tuple[str, str], str] = {}
    problems = []
    for block in blocks:
        for doubt in block.get("doubts", []):
            if doubt["name"] not in block[doubt["key"]]:
                problems.append(f"provider {block['id']}: doubts: {doubt['name']!r} is not in {doubt['key']}")
        claims = [("id", block["id"]), *(("faq.row", str(faq_row["row"])) for faq_row in block["faq"])]
        claims += [(key, value) for key in ("domains", "mx") for value in block[key]]
        for claim in claims:
            if claim in owners:
                problems.append(
                    f"provider {block['id']}: {claim[0]}: {claim[1]!r} is already in provider {owners[claim]}"
                )
            owners.setdefault(claim, block["id"])
    return problems


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()
