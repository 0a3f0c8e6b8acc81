"""Sellers of one test file: a web process and a database, fetchers, and mail servers that are reached by the names of their providers.

`make_seller_lab` is a fixture to import, with `topics` of provider_lab; what it makes lives as long as the file, since a browser does, too.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.common.postgres import connect
from services.common.settings import KafkaSettings
from services.registry.accounts import Accounts
from services.registry.companies import Companies
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.environment import service_environ
from tests.imap_lab.names import NameServer
from tests.imap_lab.profiles import Profile
from tests.imap_lab.server import LabServer
from tests.support.connect_lab import ACCOUNT, SellerPages
from tests.support.lab_network import TABLE, LabNetwork
from tests.support.portal_lab import Portal, portal_login, running_portal
from tests.support.processes import Process

TLS_PORT, STARTTLS_PORT = 993, 143


@dataclass
class SellerLab(SellerPages):
    """The processes and servers. Each test has companies of its own."""

    network: LabNetwork
    environ: dict[str, str]
    """Of the fetchers."""
    folder: Path
    ca: CertificateAuthority
    stack: ExitStack = field(repr=False)
    """What ends with the lab."""

    def link(self, *, minutes: int = 30, **wanted: Any) -> str:
        """The path of a new link; its company is registered if it is new."""
        company_id = wanted.setdefault("company_id", "c1")
        with connect(self.dsn, "tests") as connection:
            companies = Companies(connection)
            if (
                connection.execute("SELECT 1 FROM registry.companies WHERE company_id = %s", (company_id,)).fetchone()
                is None
            ):
                companies.add(company_id)
                Accounts(connection).add(company_id, ACCOUNT)
        return super().link(minutes=minutes, **wanted)

    def serve(
        self, host: str, profile: Profile, user: str, *, certified: str | None = None, **options: Any
    ) -> LabServer:
        """A mail server behind the name of a provider's; `certified`: another name that its certificate has."""
        server = LabServer(
            self.folder / f"imap-{len(self.network.ports)}",
            self.ca,
            profile,
            user=user,
            hosts=(certified or host,),
            **options,
        )
        self.stack.enter_context(server)
        self.network.lead(host, {TLS_PORT: server.port})
        return server

    @contextmanager
    def fetcher(self) -> Iterator[Process]:
        """A fetcher that has published its key."""
        environ = {**self.environ, TABLE: str(self.network.file)}
        with (
            Process("tests.support.lab_network", environ, self.folder / "fetcher.log") as process,
            connect(self.dsn, "tests") as connection,
        ):
            while connection.execute("SELECT count(*) FROM registry.sealing_keys").fetchone() == (0,):
                assert process.running(), process.log.read_text("utf-8")[-3000:]
            yield process

    @contextmanager
    def portal_again(self) -> Iterator[Portal]:
        """Another web process in the place of the one that was killed."""
        port = int(self.portal.origin.rpartition(":")[2])
        bootstrap_servers = self.environ["REPLYRATE_KAFKA__BOOTSTRAP_SERVERS"]
        with running_portal(bootstrap_servers, self.portal.dsn, self.folder, port) as portal:
            yield portal

    def count(self, condition: str) -> int:
        """How many requests there are for which a condition of SQL is true."""
        with connect(self.dsn, "tests") as connection:
            counted = connection.execute(f"SELECT count(*) FROM registry.connect_requests WHERE {condition}").fetchone()
        assert counted is not None
        return int(counted[0])


MakeSellerLab = Callable[..., SellerLab]


@pytest.fixture(scope="module")
def make_seller_lab(
    topics: KafkaSettings,
    postgres: Callable[[], str],
    ca: CertificateAuthority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[MakeSellerLab]:
    """make_seller_lab(public, secret): settings of the web process and the fetchers, and of the fetchers alone."""
    with ExitStack() as stack:

        def make(public: Mapping[str, str] | None = None, secret: Mapping[str, str] | None = None) -> SellerLab:
            dsn, folder = postgres(), tmp_path_factory.mktemp("sellers")
            name_server = stack.enter_context(NameServer({}))
            network = LabNetwork(folder / "network.json", name_server)
            network.write()
            settings = dict(public or {})
            environ = service_environ(
                folder,
                kafka=topics.bootstrap_servers,
                partitions=topics.partitions,
                dsn=dsn,
                ca_file=ca.ca_file,
                imap_ports=(TLS_PORT, STARTTLS_PORT),
                **settings,
                **(secret or {}),
            )
            login = stack.enter_context(portal_login(dsn))
            portal = stack.enter_context(running_portal(topics.bootstrap_servers, login, folder, None, **settings))
            return SellerLab(dsn, portal, network, environ, folder, ca, stack)

        yield make
