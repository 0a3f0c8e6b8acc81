"""Which mail servers may be connected to.

A seller types the host, so it is hostile until proven otherwise: it may name a machine inside the operator's network. The
name is resolved once, every address must be public (or in a network that the operator allowed), and the socket goes to an
address that was checked while TLS verifies the name. A second resolution could lead elsewhere (DNS rebinding).
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import idna

from services.common.settings import ImapSettings
from services.imap.errors import HostRefused, Unreachable
from services.providers.addresses import host_name
from services.providers.mail_server import TlsMode

Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Sequence[str]]

DENIED: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        # No IPv6 address outside 2000::/3 is global; of those inside, these carry or represent other networks.
        "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
    )
)  # fmt: skip
GLOBAL_V6: Final = ip_network("2000::/3")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host that passed the policy: connect to one of `addresses`, verify `host`."""

    host: str
    port: int
    addresses: tuple[str, ...]
    tls: TlsMode = "implicit"


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, from the system's resolver. OSError."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """Ports, private networks and private host names that the operator allowed; every public address is allowed."""

    allowed_ports: Sequence[int]
    allowed_networks: Sequence[Network] = ()
    private_hosts: Sequence[str] = ()
    """Names whose addresses may be private, whatever network they are in."""
    resolve: Resolver = resolve

    @classmethod
    def of(cls, settings: ImapSettings, resolve: Resolver = resolve) -> "HostPolicy":
        """The policy of the REPLYRATE_IMAP__… settings."""
        return cls(settings.allowed_ports, settings.allowed_private_networks, settings.private_hosts, resolve)

    def check(self, host: str, port: int, tls: TlsMode = "implicit") -> Endpoint:
        """The endpoint behind a name that a person typed. HostRefused or Unreachable; their detail is for the operator only."""
        name = host_name(host)
        if not name or len(name) > 253 or any(char.isspace() or char in "/@:%?#[]\\" or char < " " for char in name):
            raise HostRefused("dns", "not a host name")
        if port not in self.allowed_ports:
            raise HostRefused("dns", f"port {port} is not among REPLYRATE_IMAP__ALLOWED_PORTS")
        try:
            ascii_name = a_labels(name)
            addresses = tuple(dict.fromkeys(self.resolve(ascii_name, port)))
        except (OSError, UnicodeError):
            raise Unreachable("dns", "the name does not resolve") from None
        if not addresses:
            raise Unreachable("dns", "the name does not resolve")
        for address in addresses if ascii_name not in self.private_hosts else ():
            if not _permitted(ip_address(address.partition("%")[0]), self.allowed_networks):
                # One forbidden address is enough: a name that has both is a trap, or a split horizon.
                raise HostRefused("dns", f"{ascii_name} leads to {address}, which is not public")
        return Endpoint(ascii_name, port, addresses, tls)


def a_labels(name: str) -> str:
    """A host name as it is looked up: UTS 46 non-transitional, as domains of addresses are (services.common.hashing).

    Python's own codec is IDNA 2003, in which `straße` is `strasse`: another name, which may belong to somebody else. UnicodeError.
    """
    if not name.isascii():
        return idna.encode(name, uts46=True, transitional=False).decode("ascii").lower()
    if any(not 0 < len(label) < 64 for label in name.split(".")):
        raise UnicodeError("a label is empty or longer than 63 characters")
    return name


def _permitted(address: IPv4Address | IPv6Address, allowed: Sequence[Network]) -> bool:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address.version == network.version and address in network for network in allowed):
        return True
    if isinstance(address, IPv6Address) and address not in GLOBAL_V6:
        return False
    return not any(address.version == network.version and address in network for network in DENIED)
