"""What the measured services need around them: keys, a registry with mailboxes, and the environment they start with."""

from collections.abc import Iterable
from pathlib import Path

from bench.scripted_imap import ScriptedServer
from bench.traffic import HASH_KEY
from services.common import migrations
from services.common.hashing import Hasher
from services.common.postgres import connect
from services.common.settings import ImapSettings, KafkaSettings
from services.connect.onboarding import add_mailbox
from services.connect.requests import ConnectRequest
from services.connect.tester import ConnectionTester
from services.imap.host_policy import resolve
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.standalone.servers.environment import service_environ
from tests.support.dovecot import Dovecot
from tests.support.processes import Process

VAULT_KEY = bytes(range(32, 64))
PASSWORD = "bench"


class World:
    """A migrated database, and processes that use it with one Kafka and one mail server."""

    def __init__(
        self, folder: Path, kafka: KafkaSettings, dsn: str, server: Dovecot | ScriptedServer | None = None
    ) -> None:
        folder.mkdir()
        self.folder, self.dsn = folder, dsn
        self._server = server
        (folder / "hash.key").write_bytes(HASH_KEY)
        (folder / "vault.key").write_bytes(VAULT_KEY)
        self.environ = service_environ(
            folder,
            kafka=kafka.bootstrap_servers,
            partitions=kafka.partitions,
            dsn=dsn,
            ca_file=None if server is None else server.ca_file,
            imap_ports=[] if server is None else [server.port],
            IMAP__LOGINS_PER_HOUR="1000000",
            MATCHER__STORE="rocksdb",
        )
        with connect(dsn, "bench") as connection:
            migrations.migrate(connection, lambda _: None)

    def add_mailboxes(self, users: Iterable[tuple[str, str]]) -> None:
        """(company, user) pairs, one account each."""
        assert self._server is not None
        settings = ImapSettings.model_validate(
            {
                "ca_file": self._server.ca_file,
                "allowed_private_networks": ("127.0.0.0/8", "::1/128"),
                "allowed_ports": (self._server.port,),
            }
        )
        with connect(self.dsn, "bench") as connection:
            registry = Registry(connection, Hasher(HASH_KEY), Vault(VAULT_KEY))
            for company_id, user in users:
                registry.companies.add(company_id)
                registry.accounts.add(company_id, "main")
                request = ConnectRequest(
                    company_id, "main", user, PASSWORD, "bench", host="localhost", port=self._server.port
                )
                add_mailbox(registry, request, ConnectionTester(settings, resolve, "0"))

    def start(self, service: str, **environ: str) -> Process:
        """A service as production starts it; its log is `<service>.log` in the folder."""
        return Process(f"services.{service}", {**self.environ, **environ}, self.folder / f"{service}.log")
