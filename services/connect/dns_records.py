"""DNS queries for the MX, `_imaps._tcp` and `_imap._tcp` records of a domain; host addresses come from the system's resolver.

The domain was typed by a seller, so its records are not trusted: names are taken as text, and the host that one names is
checked like any other (`HostPolicy.check`).
"""

from collections.abc import Sequence
from typing import Any, Final

import dns.exception
import dns.name
import dns.resolver

from services.common.errors import TransientError
from services.providers.lookup_decision import SrvRecord
from services.providers.mail_server import TlsMode

SECONDS: Final = 5.0
"""How long one query may take, including all name servers and retries."""
MOST: Final = 20
"""Records that are used of one answer."""


class DnsRecords:
    """Asks the name servers of the system, or `nameservers` (addresses) at `port`."""

    def __init__(self, nameservers: Sequence[str] | None = None, port: int = 53) -> None:
        self._nameservers = nameservers
        self._port = port

    def mx(self, domain: str) -> tuple[str, ...]:
        """MX servers, the preferred one first, without the final dot; () when there is none. TransientError."""
        records = sorted(self._ask(domain, "MX"), key=lambda record: (record.preference, record.exchange.to_text()))
        return tuple(record.exchange.to_text(omit_final_dot=True).lower() for record in records[:MOST])

    def srv(self, domain: str) -> tuple[SrvRecord, ...]:
        """`_imaps._tcp` records; where they name no server, the `_imap._tcp` records after them. TransientError."""
        records = self._srv(f"_imaps._tcp.{domain}", "implicit")
        if any(record.target != "." for record in records):
            return records
        return records + self._srv(f"_imap._tcp.{domain}", "starttls")

    def _srv(self, name: str, tls: TlsMode) -> tuple[SrvRecord, ...]:
        return tuple(
            SrvRecord(record.target.to_text(), int(record.port), int(record.priority), int(record.weight), tls)
            for record in self._ask(name, "SRV")[:MOST]
        )

    def has_address(self, host: str) -> bool:
        """Whether a host has an A or AAAA record. TransientError."""
        return bool(self._ask(host, "A") or self._ask(host, "AAAA"))

    def exists(self, name: str) -> bool:
        """Whether a name exists, also without records of its own (NOERROR, RFC 8020). TransientError."""
        try:
            self._resolver().resolve(dns.name.from_text(name), "A", search=False, lifetime=SECONDS)
        except dns.resolver.NoAnswer:
            return True
        except dns.resolver.NXDOMAIN:
            return False
        except dns.exception.DNSException as error:
            raise _no_answer(error) from None
        return True

    def _resolver(self) -> dns.resolver.Resolver:
        resolver = dns.resolver.Resolver(configure=self._nameservers is None)
        if self._nameservers is not None:
            resolver.nameservers, resolver.port = list(self._nameservers), self._port
        return resolver

    def _ask(self, name: str, kind: str) -> list[Any]:
        try:
            return list(self._resolver().resolve(dns.name.from_text(name), kind, search=False, lifetime=SECONDS))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.name.LabelTooLong, dns.name.NameTooLong):
            return []
        except dns.exception.DNSException as error:
            raise _no_answer(error) from None


def _no_answer(error: dns.exception.DNSException) -> TransientError:
    return TransientError(f"the DNS does not answer ({type(error).__name__}); check the name servers of this machine")
