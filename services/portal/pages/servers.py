"""What a seller has to enter for an address: server, port, and the kind of secret, from the directory or a look-up by a fetcher."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from msgspec import structs

from services.common.language import Language
from services.connect import texts
from services.portal.pages.cookies import Draft
from services.portal.pages.texts import text
from services.providers import catalog
from services.providers.addresses import domain_of
from services.providers.mail_server import MailServer, usual_port
from services.providers.provider import Provider
from services.providers.typed_server import parse_server

SIGN_IN: Final = "oauth2"
"""The kind of secret of a provider where people sign in instead of typing a password."""


HOST_CHARACTERS: Final = 253


@dataclass(frozen=True, slots=True)
class ServerChoice:
    """The servers of an address, the likely one first; none when they are not known.

    Not `is_trusted`: the seller must confirm that a password may go there.
    """

    provider: Provider | None
    servers: tuple[MailServer, ...]
    is_trusted: bool

    @property
    def is_unsupported(self) -> bool:
        """Whether the mailboxes of the provider cannot be read at all."""
        return self.provider is not None and self.provider.support == "unsupported"

    @property
    def needs_sign_in(self) -> bool:
        """Whether the provider accepts no password."""
        return self.provider is not None and set(self.provider.auth) == {SIGN_IN}

    def secret(self, language: Language) -> str:
        """What to type as password at this provider: "Authorization code", "Password or app password"."""
        kinds = ["password"] if self.provider is None else [kind for kind in self.provider.auth if kind != SIGN_IN]
        words = [texts.word(kind, language) for kind in kinds or ["password"]]
        joined = text("login.or", language).join(words)
        return joined[:1].upper() + joined[1:]


def in_directory(address: str) -> ServerChoice | None:
    """The servers of an address whose domain is in the provider directory; nothing is asked over the network."""
    domain = domain_of(address)
    provider = catalog.load().by_domain(domain) if domain else None
    return None if provider is None or domain is None else ServerChoice(provider, provider.servers(domain), True)


def named(address: str, provider_id: str) -> ServerChoice | None:
    """The servers of an address at the provider that the seller chose; None when there is no such provider."""
    domain = domain_of(address) or ""
    provider = next((entry for entry in catalog.load().providers if entry.id == provider_id), None)
    return None if provider is None else ServerChoice(provider, provider.servers(domain), True)


def of_look_up(report: Mapping[str, Any]) -> ServerChoice:
    """The servers that a look-up found."""
    found_servers = report.get("servers", [])
    provider_id = report.get("provider")
    provider = next((entry for entry in catalog.load().providers if entry.id == provider_id), None)
    servers = tuple(MailServer(server["host"], server["port"], server["tls"]) for server in found_servers)
    return ServerChoice(provider, servers, bool(report.get("trusted")))


def at_server(address: str, host: str) -> ServerChoice:
    """The servers of the provider that a typed server belongs to: a domain of a company is not in the directory, its provider's
    server is. None of them when it belongs to no provider."""
    provider = catalog.load().by_host(host) if host else None
    domain = domain_of(address) or ""
    return ServerChoice(provider, provider.servers(domain) if provider else (), provider is not None)


def typed_draft(earlier: Draft, address: str, host: str, port: str, starttls: bool, user: str) -> Draft:
    """What was typed, normalised; without a port if it is none, or no host if that is none. `earlier`: what was chosen before."""
    server = parse_server(host)
    number = port.strip() or str(server.port or usual_port("starttls" if starttls else "implicit"))
    is_host = bool(server.host) and len(server.host) <= HOST_CHARACTERS and server.host.isprintable()
    return structs.replace(
        earlier, address=address, host=server.host if is_host else "", port=_port(number), starttls=starttls, user=user.strip()
    )  # fmt: skip


def _port(typed: str) -> int | None:
    """A typed port; None when it is none."""
    return int(typed) if typed.isascii() and typed.isdigit() and len(typed) <= 5 and 1 <= int(typed) <= 65535 else None
