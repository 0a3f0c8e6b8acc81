"""The tests' Kafka, Postgres and Dovecot as containers, for the same integration tests: SERVERS=containers pytest …

The images are those of docker-compose.yml. testcontainers starts and removes them; its own reaper is off, since that
would be one more image, and the fixtures stop what they started.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import yaml

from services.standalone.servers.ca import LOOPBACK_NAMES, CertificateAuthority
from services.standalone.servers.child import LOOPBACK, free_port
from services.standalone.servers.imap import answers_greeting
from services.standalone.servers.kafka import PROPERTIES, EmbeddedKafka, answers_metadata
from services.standalone.servers.paths import ROOT
from services.standalone.servers.postgres import EmbeddedPostgres
from tests.stack.mail import HOST, IMAGE
from tests.support.dovecot import Dovecot
from tests.support.processes import until

START_SECONDS = 60


def wanted() -> bool:
    """Whether this run uses containers."""
    return os.environ.get("SERVERS") == "containers"


def image(service: str) -> str:
    """The image that docker-compose.yml names for a service, at its default."""
    named: str = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"][service]["image"]
    name, _, tag = named.removeprefix("${REGISTRY:-}").partition(":")
    return f"{name}:{tag.partition(':-')[2].rstrip('}')}"


def container(name: str, inside: int, port: int) -> Any:
    """A container of testcontainers, not started; its port `inside` will be `port` on loopback."""
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
    from testcontainers.core.container import DockerContainer

    docker_container = DockerContainer(name)
    # The library supports only ports on every address; Docker accepts a pair.
    docker_container.ports[str(inside)] = (LOOPBACK, port)  # type: ignore[assignment]
    return docker_container


def started(docker_container: Any, answers: Callable[[], bool], what: str) -> None:
    """Start a container and wait until it answers; remove it if it does not."""
    docker_container.start()
    try:
        until(answers, START_SECONDS, what)
    except BaseException:
        docker_container.stop()
        raise


class ContainerKafka(EmbeddedKafka):
    """apache/kafka with the settings of the embedded broker."""

    def start(self) -> None:
        """Start, wait for a metadata answer."""
        settings = dict(line.split("=", 1) for line in PROPERTIES.splitlines())
        settings |= {
            "controller.quorum.voters": "1@localhost:9093", "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{self.port}", "log.dirs": "/var/lib/kafka/data",
        }  # fmt: skip
        self._container = container(image("kafka"), 9092, self.port)
        for name, value in settings.items():
            self._container.with_env("KAFKA_" + name.replace(".", "_").upper(), value)
        self._container.with_env("KAFKA_HEAP_OPTS", "-Xms256m -Xmx256m")
        started(self._container, lambda: answers_metadata(LOOPBACK, self.port), "Kafka answers")

    def stop(self) -> None:
        """Remove it with its data."""
        self._container.stop()


class ContainerPostgres(EmbeddedPostgres):
    """postgres in the release of docker-compose.yml."""

    def start(self) -> None:
        """Start, wait until a query answers."""
        self._password = "a-password-of-the-tests"
        self._container = container(image("postgres"), 5432, self.port)
        self._container.with_env("POSTGRES_PASSWORD", self._password).with_command(
            "postgres -c max_connections=200 -c fsync=off"
        )
        started(self._container, self._answers, "Postgres answers")

    def stop(self) -> None:
        """Remove it with its data."""
        self._container.stop()

    def sql(self, statement: str, dbname: str = "postgres") -> str:
        """Run one statement outside a transaction, its rows as unaligned text."""
        with psycopg.connect(self.dsn(dbname), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            rows = cursor.fetchall() if cursor.description else []
        return "\n".join("|".join("" if value is None else str(value) for value in result_row) for result_row in rows)

    def _answers(self) -> bool:
        try:
            return self.sql("SELECT 1") == "1"
        except psycopg.OperationalError:
            return False


class ContainerDovecot(Dovecot):
    """dovecot/dovecot with the settings of the private one; its mail is in the folder, outside the container.

    `network`: a Docker network in which other containers reach it as HOST, on the same port.
    """

    names = (*LOOPBACK_NAMES, HOST)
    listens = "*"

    def __init__(
        self, data_dir: Path, users: Mapping[str, str], ca: CertificateAuthority, *, savedate: bool = True,
        network: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(data_dir, users, ca, savedate=savedate)
        self._network = network
        self._container: Any = None

    def start(self) -> None:
        """Write the configuration, start, wait for a greeting over verified TLS."""
        self._write_configuration()
        file = self.data_dir / "dovecot.conf"
        log = f"log_path = {self.data_dir}/dovecot.log"
        file.write_text(file.read_text("utf-8").replace("log_path = /dev/stderr", log), "utf-8")
        # A process of an earlier container may have had the same number.
        (self.data_dir / "run" / "master.pid").unlink(missing_ok=True)
        self._container = container(IMAGE, self.port, self.port)
        for folder in (self.data_dir, self._ca.folder):
            self._container.with_volume_mapping(str(folder), str(folder), "rw")
        self._container.with_command(["/usr/sbin/dovecot", "-F", "-c", str(file)])
        started(self._container, self._greets, "Dovecot answers")

    def _greets(self) -> bool:
        networks = self._container.get_docker_client().client.networks
        wrapped = self._container.get_wrapped_container()
        if self._network is not None:
            wrapped.reload()
            if self._network not in wrapped.attrs["NetworkSettings"]["Networks"]:
                networks.get(self._network).connect(wrapped.id, aliases=[HOST])
        return answers_greeting(self.host, self.port, self.ca_file)

    def stop(self) -> None:
        """Remove the container, if there is one."""
        self.close_client()
        if self._container is not None:
            self._container.stop()
            self._container = None

    def kill(self) -> None:
        """Kill and remove it."""
        self.stop()

    def pause(self) -> None:
        """Freeze its processes, so that connections hang."""
        self._container.get_wrapped_container().pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._container.get_wrapped_container().unpause()


def kafka(folder: Path) -> EmbeddedKafka:
    """The session's broker, not started."""
    return ContainerKafka(folder, free_port()) if wanted() else EmbeddedKafka(folder)


def postgres(folder: Path) -> EmbeddedPostgres:
    """A database server, not started."""
    return ContainerPostgres(folder, free_port()) if wanted() else EmbeddedPostgres(folder)


def dovecot(folder: Path, users: Mapping[str, str], ca: CertificateAuthority, *, savedate: bool = True) -> Dovecot:
    """A mail server, not started."""
    return (ContainerDovecot if wanted() else Dovecot)(folder, users, ca, savedate=savedate)
