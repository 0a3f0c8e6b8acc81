"""`python -m tests.support.lab_network`: a fetcher on a machine for which the names of mail servers lead to servers of the lab.

The fetcher is the real one; only what its machine does for it is replaced. Names are in a table instead of the system's resolver, MX and SRV
records are asked for at a name server on loopback, and the usual ports of a server lead to those at which it listens in the lab. Any other
name does not exist, so nothing is sent to a real provider.
"""

import ipaddress
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import dns.resolver

from services.common import lifecycle
from services.connect import tester
from services.fetcher.__main__ import main
from services.imap.limits import SessionLimits
from services.standalone.servers.child import LOOPBACK
from tests.imap_lab.names import NameServer

TABLE: Final = "LAB_NETWORK"
"""Environment variable with the file of the table."""
PATIENT_SECONDS: Final = "LAB_PATIENT_SECONDS"
"""Environment variable: how long a connection test waits for each answer, where a test stops it for a while."""
LOOK_SECONDS: Final = 0.05
"""Between two looks at whether an answer of the network is still awaited."""

Halt = Literal["name", "connection"]
"""What a network does not answer for now: where a name leads to, or a connection."""


@dataclass
class LabNetwork:
    """The names of the lab. They may change while fetchers run."""

    file: Path
    name_server: NameServer
    ports: dict[str, dict[int, int]] = field(default_factory=dict)
    """Name of a mail server → its usual port → the port at which it listens."""
    halts: dict[str, Halt] = field(default_factory=dict)
    """Name of a mail server → what is not answered for it."""

    def lead(self, host: str, ports: Mapping[int, int]) -> None:
        """Let a name and its ports lead to a server of the lab."""
        self.ports[host] = dict(ports)
        self.write()

    def halt(self, host: str, halt: Halt | None) -> None:
        """Leave fetchers without this answer about a mail server; None: answer everything again, also what is asked already."""
        self.halts.pop(host, None)
        if halt is not None:
            self.halts[host] = halt
        self.write()

    def write(self) -> None:
        """Write the table, so that fetchers may start."""
        temporary = self.file.with_suffix(".new")
        temporary.write_text(
            json.dumps({"name_server": self.name_server.port, "ports": self.ports, "halts": self.halts}), "utf-8"
        )
        temporary.replace(self.file)


def replace_network(file: Path) -> None:
    """Let this process see the network of a table."""
    look_up, dial = socket.getaddrinfo, socket.create_connection

    def table() -> dict[str, Any]:
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return content

    def addresses() -> dict[str, dict[str, int]]:
        # Each server has an address of its own, since a connection tells no name.
        return {f"127.99.0.{number}": ports for number, ports in enumerate(table()["ports"].values(), 1)}

    def wait(host: str, halt: Halt) -> None:
        while table()["halts"].get(host) == halt:
            time.sleep(LOOK_SECONDS)

    def getaddrinfo(host: Any, *positional: Any, **options: Any) -> Any:
        names = list(table()["ports"])
        if host in names:
            wait(host, "name")
            return look_up(f"127.99.0.{names.index(host) + 1}", *positional, **options)
        if host is None or host in ("", "localhost") or _is_address(host):
            return look_up(host, *positional, **options)
        raise socket.gaierror(socket.EAI_NONAME, "there is no such name in the lab")

    def create_connection(address: tuple[str, int], *positional: Any, **options: Any) -> socket.socket:
        if address[0] not in addresses():
            return dial(address, *positional, **options)
        wait(list(table()["ports"])[list(addresses()).index(address[0])], "connection")
        ports = addresses()[address[0]]
        if str(address[1]) not in ports:
            raise ConnectionRefusedError
        return dial((LOOPBACK, ports[str(address[1])]), *positional, **options)

    def read_resolv_conf(resolver: dns.resolver.Resolver, _: Any) -> None:
        resolver.nameservers, resolver.port = [LOOPBACK], table()["name_server"]

    socket.getaddrinfo = getaddrinfo
    socket.create_connection = create_connection  # type: ignore[assignment]
    dns.resolver.Resolver.read_resolv_conf = read_resolv_conf  # type: ignore[assignment, method-assign]


def _is_address(host: str | bytes) -> bool:
    try:
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    replace_network(Path(os.environ[TABLE]))
    if seconds := float(os.environ.get(PATIENT_SECONDS, "0")):
        setattr(tester, "SessionLimits", partial(SessionLimits, command_seconds=seconds, connect_seconds=seconds))  # noqa: B010
    sys.exit(lifecycle.run(main))
