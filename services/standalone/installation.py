"""An installation in one folder: embedded Postgres and Kafka that keep their data, and the services.

For the user's own mailboxes. The folder has the data of both servers, keys, logs, and `settings.env`, which every other
command reads with `--data`. The numbers survive stop, kill and restart: the servers keep what they acknowledged, and the
services are those of production.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from services.common import migrations
from services.common.errors import ConfigError
from services.common.kafka import Admin
from services.common.postgres import connect
from services.common.settings import PREFIX, ConsoleSettings, PortalSettings, Settings, load_settings
from services.common.topics import specs
from services.standalone.servers.assembly import Assembly
from services.standalone.servers.child import free_port, reserve_port
from services.standalone.servers.environment import service_environ
from services.standalone.servers.kafka import EmbeddedKafka
from services.standalone.servers.portal_login import console_environ, portal_environ, portal_origin
from services.standalone.servers.postgres import EmbeddedPostgres
from services.standalone.servers.server import start_together
from services.standalone.servers.supervisor import Supervisor

PARTITIONS: Final = 4
SETTINGS_FILE: Final = "settings.env"
PORTS: Final[Mapping[str, int]] = {
    "portal": PortalSettings.model_fields["port"].default, "console": ConsoleSettings.model_fields["port"].default,
}  # fmt: skip
Progress = Callable[[str], None]


class Installation(Assembly):
    """The servers and services of one folder. `keep` runs them until it is stopped."""

    def __init__(self, folder: Path, environ: Mapping[str, str], progress: Progress) -> None:
        """The services also get the settings in `environ`, except those of the embedded servers."""
        self.folder = folder.absolute()
        self._environ = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
        self._progress = progress
        super().__init__()
        self.dsn = ""
        self.portal_url = ""
        self.console_url = ""
        self.bootstrap_servers = ""

    def keep(self, stopping: Callable[[float], bool]) -> None:
        """Keep the services running until `stopping(seconds)` is true. ConfigError when one refuses its configuration."""
        while not stopping(0.5):
            for name, code in self._supervisor.revive():
                self._progress(f"the {name} ended with exit code {code} and is restarted")

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        # Under root, Postgres runs as an unprivileged user, who must be able to enter the folder; its files stay closed.
        self.folder.chmod(0o711)
        ports = self._ports()
        postgres = EmbeddedPostgres(self.folder / "postgres", ports["postgres"], durable=True)
        kafka = EmbeddedKafka(self.folder / "kafka", ports["kafka"])
        self._progress("starting Postgres and Kafka")
        start_together(self._stack, postgres, kafka)
        # Written only now: another process that uses this folder keeps its ports.
        (self.folder / "ports.json").write_text(json.dumps(ports), "utf-8")
        if postgres.sql("SELECT 1 FROM pg_database WHERE datname = 'replyrate'") != "1":
            postgres.create_database("replyrate")
        self.dsn, self.bootstrap_servers = postgres.dsn("replyrate"), kafka.bootstrap_servers
        settings = self._write_settings(ports["portal"], ports["console"])
        self._progress("checking schema and topics")
        with connect(self.dsn, "replyrate-standalone") as connection:
            migrations.migrate(connection, lambda _: None)
        with Admin(settings.kafka, "replyrate-standalone") as admin:
            admin.create_topics(specs(partitions=PARTITIONS, horizon_days=settings.horizon_days))
        environ = read_settings(self.folder)
        portal = portal_environ(environ, self.dsn, ports["portal"])
        self.portal_url = portal["REPLYRATE_PORTAL__PUBLIC_URL"]
        self._supervisor = self._stack.enter_context(Supervisor(self.folder / "logs", environ, portal))
        self._progress("starting fetcher, matcher, aggregator, portal and console")
        self._supervisor.start()
        console = console_environ(environ, self.dsn, ports["console"])
        self.console_url = console["REPLYRATE_CONSOLE__PUBLIC_URL"]
        self._supervisor.start_console(console)

    def _ports(self) -> dict[str, int]:
        """The ports of the last start, where they are still free. Portal and console begin with those of their settings."""
        file = self.folder / "ports.json"
        last = {**PORTS, **(json.loads(file.read_text("utf-8")) if file.exists() else {})}
        return {
            name: last[name] if name in last and reserve_port(last[name]) else free_port()
            for name in ("postgres", "kafka", "portal", "console")
        }

    def _write_settings(self, portal_port: int, console_port: int) -> Settings:
        servers = service_environ(self.folder, kafka=self.bootstrap_servers, partitions=PARTITIONS, dsn=self.dsn)
        store = servers.pop("REPLYRATE_MATCHER__STORE")
        # The user's settings have precedence over the defaults, and the addresses of the servers over both.
        values = {
            "REPLYRATE_AGGREGATOR__SESSION_TIMEOUT_SECONDS": "10",
            "REPLYRATE_MATCHER__SESSION_TIMEOUT_SECONDS": "10",
            "REPLYRATE_MATCHER__STORE": store,
            "REPLYRATE_IMAP__POLL_INTERVAL_SECONDS": "60",
            "REPLYRATE_FETCHER__WORKERS": "2",
            "REPLYRATE_PORTAL__PUBLIC_URL": portal_origin(portal_port),
            "REPLYRATE_CONSOLE__PUBLIC_URL": portal_origin(console_port),
            **self._environ,
            **servers,
            "REPLYRATE_PORTAL__PORT": str(portal_port),
            "REPLYRATE_CONSOLE__PORT": str(console_port),
        }
        values.pop("REPLYRATE_DATA", None)
        settings = load_settings(values)
        file = self.folder / SETTINGS_FILE
        file.touch(mode=0o600)
        file.write_text("".join(f"{name}={text}\n" for name, text in sorted(values.items())), "utf-8")
        return settings


def read_settings(folder: Path) -> dict[str, str]:
    """The settings of the installation in `folder`, running or not. ConfigError when there is none."""
    file = folder / SETTINGS_FILE
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError:
        raise ConfigError(
            f"{folder} has no installation; create one with replyrate standalone --data {folder}"
        ) from None
    return dict(line.split("=", 1) for line in lines if "=" in line)
