"""What is known about one mail provider, and where it was read. Pure."""

from typing import Literal

import msgspec

from services.common.language import Bilingual
from services.providers.mail_server import MailServer, TlsMode


class Caution(Bilingual, frozen=True):
    """A warning about a provider, with where and when (YYYY-MM) it was read."""

    source: str
    as_of: str


class ProviderLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a provider allows; None: not known."""

    logins_per_hour: int | None = None
    sessions: int | None = None
    visible_days: int | None = None
    visible_messages: int | None = None


class FaqRow(msgspec.Struct, frozen=True):
    """What the platform's FAQ of 2016 said: row of its table, hosts, ports (None: not given)."""

    number: int = msgspec.field(name="row")
    name: str
    hosts: tuple[str, ...] = ()
    plain: int | None = None
    tls: int | None = None
    supported: bool = True


class UnconfirmedServer(msgspec.Struct, frozen=True):
    """An entry of `hosts` or `mx` that no current source confirms, with where and when (YYYY-MM) it was read."""

    key: Literal["hosts", "mx"]
    name: str
    source: str
    as_of: str


class Provider(msgspec.Struct, frozen=True):
    """One provider; schemas/provider.schema.json explains each field."""

    id: str
    name: str
    software: str
    domains: tuple[str, ...]
    mx: tuple[str, ...]
    hosts: tuple[str, ...]
    port: int
    plain_port: int
    security: Literal["tls", "starttls"]
    not_imap: tuple[str, ...]
    auth: tuple[str, ...]
    user_name: Literal["address", "local-part"]
    id_command: str
    sent_folders: tuple[str, ...]
    distrust: tuple[str, ...]
    limits: ProviderLimits
    files_sent: str
    support: str
    reason: Bilingual
    advice: Bilingual
    unconfirmed: tuple[str, ...]
    faq: tuple[FaqRow, ...]
    source: str
    as_of: str
    family: str | None = None
    caution: Caution | None = None
    doubts: tuple[UnconfirmedServer, ...] = ()
    server_domains: tuple[str, ...] = ()

    def servers(self, domain: str) -> tuple[MailServer, ...]:
        """Its servers in the order to try them."""
        tls: TlsMode = "implicit" if self.security == "tls" else "starttls"
        return tuple(MailServer(host.replace("{domain}", domain), self.port, tls) for host in self.hosts)

    def unconfirmed_server(self, key: Literal["hosts", "mx"], name: str) -> UnconfirmedServer | None:
        """The note that no current source confirms an entry of `hosts` or `mx`: this one, or all MX servers together."""
        if key == "mx" and "mx" in self.unconfirmed:
            return UnconfirmedServer("mx", name, self.source, self.as_of)
        return next((doubt for doubt in self.doubts if (doubt.key, doubt.name) == (key, name)), None)
