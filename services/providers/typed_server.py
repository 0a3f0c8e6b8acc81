"""A server as a person typed it: read generously, and checked for the mistakes that people make. Pure."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal

from services.providers.addresses import domain_of, parent_domain
from services.providers.catalog import ProviderCatalog
from services.providers.mail_server import STARTTLS_PORT

POP_PORTS: Final = (110, 995)
SMTP_PORTS: Final = (25, 465, 587, 2525)
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+-]*):/+")
_PORT: Final = re.compile(r"(?P<host>[^:\s]*)[:\s]\s*(?P<port>\d{1,5})")
_SIGNS: Final = str.maketrans({"。": ".", "、": "/", "\u200b": None, "\ufeff": None})
"""What the keys `.` and `/` type in a Chinese input method, and invisible characters."""
_POP_OR_SMTP_LABEL: Final = re.compile(r"(?:hw)?(pop|smtp)3?(?:s|out|com|w|pro|mail|-.*)?")


@dataclass(frozen=True, slots=True)
class TypedServer:
    """The parts of a typed server: `host` in lower case, `port` and `scheme` where they were typed with it."""

    host: str
    port: int | None = None
    scheme: str = ""


@dataclass(frozen=True, slots=True)
class HostMistake:
    """What is wrong with a typed host or port, as a code of services/connect/texts.toml, and the host to write.

    Not `certain`: only the name looks wrong, and a server of that name may well speak IMAP.
    """

    code: str
    host: str
    certain: bool


def parse_server(text: str) -> TypedServer:
    """The server that a person meant: full-width signs, blanks around dots, a scheme, a path or a port with it.

    Whether it is a valid host is for `HostPolicy.check` to decide.
    """
    plain = unicodedata.normalize("NFKC", text).translate(_SIGNS).strip().lower()
    plain = re.sub(r"\s*([.:/])\s*", r"\1", plain)
    scheme = _SCHEME.match(plain)
    authority = re.split(r"[/?#]", plain[scheme.end() :] if scheme else plain, maxsplit=1)[0]
    with_port = _PORT.fullmatch(authority)
    port = int(with_port["port"]) if with_port and 0 < int(with_port["port"]) <= 65535 else None
    host = with_port["host"] if with_port and port else authority
    return TypedServer(host.rstrip("."), port, scheme[1] if scheme else "")


def find_mistake(catalog: ProviderCatalog, host: str, port: int, address: str) -> HostMistake | None:
    """What a person got wrong in host or port, judged from what was typed alone; None when nothing looks wrong."""
    typed, domain = parse_server(host), domain_of(address)
    name = typed.host
    own_provider = catalog.by_domain(domain) if domain else None
    wrong_hosts_provider = catalog.by_wrong_host(name)
    provider = own_provider or wrong_hosts_provider
    if provider is None and typed.scheme:
        provider = catalog.by_domain(parent_domain(name))  # https://mail.163.com
    servers = provider.servers(domain or parent_domain(name)) if provider else ()
    right_host = servers[0][0] if servers else None
    kind = _kind(typed.scheme) or (_kind(name) if "." in name else None)
    if wrong_hosts_provider is not None or kind is not None:
        code = "smtp-host" if kind == "smtp" else "pop-host"
        is_certain = wrong_hosts_provider is not None or _kind(typed.scheme) is not None
        return HostMistake(code, right_host or _imap_of(name), is_certain)
    if name and typed.scheme and typed.scheme not in ("imap", "imaps"):
        return HostMistake("web-address", right_host or (name if catalog.by_host(name) else _imap_of(name)), True)
    if port in POP_PORTS or port in SMTP_PORTS:
        return HostMistake("pop-port" if port in POP_PORTS else "smtp-port", right_host or name, True)
    hosts_provider = catalog.by_host(name)
    if port == STARTTLS_PORT and any(owner and owner.security == "tls" for owner in (own_provider, hosts_provider)):
        # STARTTLS is for servers that offer nothing else.
        return HostMistake("plain-port", right_host or name, True)
    if own_provider and right_host and hosts_provider and hosts_provider is not own_provider:
        are_both_netease = own_provider.family == hosts_provider.family == "netease"
        # Each NetEase domain has its own server, and the others answer "wrong password" to it.
        return HostMistake("other-domains-host", right_host, True) if are_both_netease else None
    return None


def _kind(host: str) -> Literal["pop", "smtp"] | None:
    """The protocol that a host's first label (of several), or a scheme, names: `pop3.`, `smtpout.`, `hwpop.` …"""
    match = _POP_OR_SMTP_LABEL.fullmatch(host.split(".", maxsplit=1)[0])
    return None if match is None else ("smtp" if match[1] == "smtp" else "pop")


def _imap_of(host: str) -> str:
    """The server's name with `imap` in place of its first label."""
    return "imap." + parent_domain(host)
