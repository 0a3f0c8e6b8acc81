"""A DNS server on loopback that answers from a table, or not at all."""

import contextlib
import socket
import threading
from types import TracebackType

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

Table = dict[tuple[str, str], list[str]]
"""(name without the dot at the end, kind) → texts of its records."""


class NameServer:
    """UDP on 127.0.0.1. A context manager; `asked` holds every question, `silent` switches its answers off; names in `failing`
    are answered with SERVFAIL."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.asked: list[tuple[str, str]] = []
        self.silent = False
        self.failing: set[str] = set()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "NameServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closing:
            closing.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            data, sender = self._socket.recvfrom(4096)
            if not data:
                return
            query = dns.message.from_wire(data)
            question = query.question[0]
            name, kind = question.name.to_text(omit_final_dot=True).lower(), question.rdtype.name
            self.asked.append((name, kind))
            if self.silent:
                continue
            answer = dns.message.make_response(query)
            answer.flags |= dns.flags.RA
            exists = any(table_name == name for table_name, _ in self.table)
            if name in self.failing:
                answer.set_rcode(dns.rcode.SERVFAIL)
            elif texts := self.table.get((name, kind)):
                answer.answer.append(dns.rrset.from_text_list(question.name, 60, "IN", kind, texts))
            elif not exists:
                answer.set_rcode(dns.rcode.NXDOMAIN)
            self._socket.sendto(answer.to_wire(), sender)
