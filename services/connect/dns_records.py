"""The door to the DNS: MX and `_imaps._tcp` records of a domain, and nothing else. Addresses come from the system.

A seller typed the domain, so its records are hostile: names are taken as text, and where they lead is checked like any
host (`session.check_host`).
"""

from collections.abc import Sequence
from typing import Any, Final

import dns.exception
import dns.name
import dns.resolver

from services.common.errors import TransientError
from services.providers.lookup_decision import SrvRecord

SECONDS: Final = 5.0
"""How long one question may take, with every name server and repetition."""
MOST: Final = 20
"""Records that are looked at."""


class DnsRecords:
    """Asks the name servers of the system, or `nameservers` (addresses) at `port`."""

    def __init__(self, nameservers: Sequence[str] | None = None, port: int = 53) -> None:
        self._nameservers = nameservers
        self._port = port

    def mx(self, domain: str) -> tuple[str, ...]:
        """MX servers, the preferred one first, without the dot at the end; () when there is none. TransientError."""
        found = sorted(self._ask(domain, "MX"), key=lambda one: (one.preference, one.exchange.to_text()))
        return tuple(one.exchange.to_text(omit_final_dot=True).lower() for one in found[:MOST])

    def srv(self, domain: str) -> tuple[SrvRecord, ...]:
        """`_imaps._tcp` records; () when there is none. TransientError."""
        found = self._ask(f"_imaps._tcp.{domain}", "SRV")
        return tuple(
            SrvRecord(one.target.to_text(), int(one.port), int(one.priority), int(one.weight)) for one in found[:MOST]
        )

    def _ask(self, name: str, kind: str) -> list[Any]:
        try:
            resolver = dns.resolver.Resolver(configure=self._nameservers is None)
            if self._nameservers is not None:
                resolver.nameservers, resolver.port = list(self._nameservers), self._port
            return list(resolver.resolve(dns.name.from_text(name), kind, search=False, lifetime=SECONDS))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.name.LabelTooLong, dns.name.NameTooLong):
            return []
        except dns.exception.DNSException as error:
            raise TransientError(
                f"the DNS does not answer ({type(error).__name__}); check the name servers of this machine"
            ) from None
