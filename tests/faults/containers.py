"""The arena on the containers of docker-compose.yml, unchanged, with the images that are here.

Docker starts again what ends; how each process ended is read from Docker's events. A fault is what an operator's machine
does to containers: a process killed inside, a container frozen, taken off its network, or removed with its volume, a
second one of a service. The oracle is the one of tests/faults/run.py.
"""

import json
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Final

import psycopg

from services.common.errors import EXIT_UNAVAILABLE, EXIT_UNSURE
from services.common.hashing import Hasher
from services.common.kafka import Publisher
from services.common.postgres import connect
from services.common.settings import load_settings
from services.registry.registry import Registry
from services.registry.vault import Vault
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.child import LOOPBACK
from services.standalone.servers.kafka import answers_metadata
from tests.faults.arena import FREEZE_SECONDS, Arena
from tests.faults.deployment import PARTITIONS
from tests.faults.schedule import ON_CONTAINERS, SERVICES
from tests.stack.mail import HOST
from tests.stack.stack import Stack, run
from tests.support.containers import ContainerDovecot
from tests.support.processes import until

ACCEPTED: Final = {0, EXIT_UNSURE, EXIT_UNAVAILABLE, 128 + 9}
"""As in deployment.py: on its own with a safe code, by a fault, or after SIGTERM."""
NOT_STARTED: Final = 128 + 15
"""A second worker that was stopped before it handled signals."""
SERVERS_SECONDS: Final = 90
SWAP: Final = "rm -rf /volume/18 && mv /volume/replica /volume/18"


class ContainerArena(Arena):
    """One project of Compose with a Dovecot beside it."""

    deck: Sequence[str] = ON_CONTAINERS
    imap_host = HOST

    @staticmethod
    def resolve(host: str, port: int) -> list[str]:
        """Only containers can resolve the mail server's name; from here it is on loopback, on the same port."""
        return [LOOPBACK]

    def _open(self) -> None:
        ca = CertificateAuthority(self.folder / "ca")
        authorities = self.folder / "authorities"
        authorities.mkdir()
        (authorities / "ca.pem").write_bytes(ca.ca_file.read_bytes())
        self._frozen: dict[str, float] = {}
        self._isolated: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self.stack = Stack(self.folder / "stack")
        users = {mailbox.address: mailbox.password for mailbox in self.world.mailboxes}
        self.dovecot = ContainerDovecot(
            self.folder / "dovecot", users, ca, savedate=False, network=f"{self.stack.project}_outside"
        )
        with (self.stack.folder / ".env").open("a", encoding="utf-8") as settings:
            settings.writelines(
                f"{name}={text}\n"
                for name, text in {
                    "IMAP_CA_DIR": str(authorities),
                    "REPLYRATE_IMAP__PRIVATE_HOSTS": HOST,
                    "REPLYRATE_IMAP__ALLOWED_PORTS": str(self.imap_port),
                    "REPLYRATE_IMAP__POLL_INTERVAL_SECONDS": "2",
                    "REPLYRATE_KAFKA__PARTITIONS": str(PARTITIONS),
                    "REPLYRATE_FETCHER__WORKERS": "2",
                    "REPLYRATE_FETCHER__LEASE_SECONDS": "30",
                    "REPLYRATE_IMAP__SESSION_SECONDS": "20",
                    "REPLYRATE_MATCHER__STORE": self._store,
                    "REPLYRATE_MATCHER__SESSION_TIMEOUT_SECONDS": "6",
                    "REPLYRATE_AGGREGATOR__SESSION_TIMEOUT_SECONDS": "6",
                    "REPLYRATE_AGGREGATOR__REFRESH_INTERVAL_SECONDS": "0.5",
                }.items()
            )
        self.stack.make_secrets()
        self._stack.callback(self.stack.down)
        self._watch(self._stack.enter_context((self.folder / "events").open("w+", encoding="utf-8")))
        self.stack.up()
        self._stack.enter_context(self.dovecot)
        self._stack.callback(self._calm_containers)
        self.direct_dsn = self.stack.dsn("migrator")
        self.settings = load_settings(self.environ())
        self.hasher, vault = Hasher(self.settings.hash_key()), Vault(self.settings.vault_key())
        # In this order: the fetcher is running, and mail that is filed after its first poll would not be history.
        self.file(self.world.mails)
        with connect(self.direct_dsn, "faults") as connection:
            self.register(Registry(connection, self.hasher, vault), self.settings)
        self.publisher = self._stack.enter_context(Publisher(self.settings.kafka, "faults", delivery_seconds=20))

    @property
    def imap_port(self) -> int:
        """The same inside Docker's network and on loopback."""
        return self.dovecot.port

    def environ(self, **changes: str) -> dict[str, str]:
        """The settings of a process on this machine."""
        return {
            "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": f"{LOOPBACK}:{self.stack.ports['KAFKA_PORT']}",
            "REPLYRATE_KAFKA__PARTITIONS": str(PARTITIONS),
            "REPLYRATE_POSTGRES__DSN": self.direct_dsn,
            "REPLYRATE_HASH_KEY_FILE": str(self.stack.folder / "secrets" / "hash.key"),
            "REPLYRATE_VAULT_KEY_FILE": str(self.stack.folder / "secrets" / "vault.key"),
            "REPLYRATE_IMAP__CA_FILE": str(self.dovecot.ca_file),
            "REPLYRATE_IMAP__PRIVATE_HOSTS": HOST,
            "REPLYRATE_IMAP__ALLOWED_PORTS": str(self.imap_port),
            **changes,
        }

    def create_database(self, name: str) -> str:
        """An empty database of Postgres' own administrator."""
        password = (self.stack.folder / "secrets" / "postgres-admin.password").read_text("utf-8").strip()
        server = f"postgresql://postgres:{password}@{LOOPBACK}:{self.stack.ports['POSTGRES_PORT']}"
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"{server}/{name}"

    # The services

    def start(self) -> None:
        """Nothing to do: they run since the stack is up."""

    def step(self) -> None:
        """End the freezes, isolations and second workers whose time is over."""
        now = time.monotonic()
        for container in _due(self._frozen, now):
            run(["docker", "unpause", container])
            del self._frozen[container]
        for container in _due(self._isolated, now):
            self._rejoin(container)
        for container in _due(self._seconds, now):
            if container not in self._frozen:
                run(["docker", "stop", "--time", "30", container])
                run(["docker", "rm", "--force", "--volumes", container])
                del self._seconds[container]

    def end_faults(self) -> None:
        """End every fault: nothing is frozen or isolated, and there is one healthy container of each service."""
        until(self._calm_containers, SERVERS_SECONDS, "everything is resumed and on its network")
        for service in SERVICES:
            until(lambda name=service: self.stack.healthy(name), SERVERS_SECONDS, f"{service} is healthy")  # type: ignore[misc]

    def stop(self) -> dict[str, int]:
        """SIGTERM to each service; its exit code, and earlier exit codes that are not accepted."""
        self.stack.compose("stop", *SERVICES)
        codes = {service: self.stack.inspect(self._first(service))["State"]["ExitCode"] for service in SERVICES}
        return {**{f"{name}, earlier,": code for name, code in self._deaths() if code not in ACCEPTED}, **codes}

    def logs(self) -> str:
        """The end of every container's log."""
        return "\n".join(
            f"--- {service}\n{self.stack.logs(service, 15)}" for service in (*SERVICES, "kafka", "postgres")
        )

    def _calm_containers(self) -> bool:
        """End every lasting fault; whether none is left."""
        self._frozen = dict.fromkeys(self._frozen, 0.0)
        self._isolated = dict.fromkeys(self._isolated, 0.0)
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        self.step()
        return not (self._frozen or self._isolated or self._seconds)

    def _first(self, service: str) -> str:  # type: ignore[override]
        """The container that Compose created for a service."""
        filters = {"project": self.stack.project, "service": service, "oneoff": "False"}
        labels = [f"--filter=label=com.docker.compose.{name}={text}" for name, text in filters.items()]
        (container,) = run(["docker", "ps", "--all", "--quiet", "--no-trunc", *labels]).split()
        return container

    def _state(self, service: str) -> dict[str, Any]:
        state: dict[str, Any] = self.stack.inspect(self._first(service))["State"]
        return state

    def _runs(self, service: str) -> str:
        """The container of a service as soon as its process runs, resumed if it was frozen: a fault needs a running target."""
        self._frozen |= {name: 0.0 for name in (self._first(service),) if name in self._frozen}
        self.step()
        until(lambda: self._state(service)["Status"] == "running", SERVERS_SECONDS, f"{service} runs")
        return self._first(service)

    def _rejoin(self, container: str) -> None:
        """Connect a container to its network; later if Docker is about to restart it."""
        joined = subprocess.run(
            ["docker", "network", "connect", f"{self.stack.project}_inside", container],
            capture_output=True,
            check=False,
        )
        if joined.returncode == 0 or b"already exists" in joined.stderr:
            del self._isolated[container]

    def _watch(self, file: IO[str]) -> None:
        """Record events: Docker keeps only the last 256, and each health check produces some."""
        project = f"label=com.docker.compose.project={self.stack.project}"
        command = ["docker", "events", "--filter", project, "--filter", "event=die", "--format", "{{json .}}"]
        watching = subprocess.Popen(command, stdout=file)
        self._events = Path(file.name)
        self._stack.callback(watching.wait)
        self._stack.callback(watching.terminate)

    def _deaths(self) -> list[tuple[str, int]]:
        """(service, exit code) of every container of a service that ended."""
        ended = [json.loads(line)["Actor"]["Attributes"] for line in self._events.read_text("utf-8").splitlines()]
        return [
            (attributes["com.docker.compose.service"], int(attributes["exitCode"]))
            for attributes in ended
            if attributes.get("com.docker.compose.service") in SERVICES
            and not (
                attributes.get("com.docker.compose.oneoff") == "True" and int(attributes["exitCode"]) == NOT_STARTED
            )
        ]

    # The faults

    def _actions(self) -> dict[str, Callable[[str, random.Random], None]]:
        return super()._actions() | {"isolate": self._isolate}

    def _kill(self, service: str, _: random.Random) -> None:
        self._crash(service)
        if service == "kafka":
            self._kafka_answers()

    def _crash(self, service: str, user: str | None = None) -> None:
        """SIGKILL inside the container; repeated if its process had not started."""

        def crashed() -> bool:
            try:
                self.stack.kill_process(self._runs(service), user)
            except AssertionError:
                return False
            return True

        until(crashed, SERVERS_SECONDS, f"{service} can be killed")

    def _freeze(self, service: str, _: random.Random) -> None:
        container = self._runs(service)
        run(["docker", "pause", container])
        self._frozen[container] = time.monotonic() + FREEZE_SECONDS
        if service == "fetcher":
            with connect(self.direct_dsn, "faults") as connection:
                connection.execute("UPDATE registry.mailboxes SET lease_until = clock_timestamp()")
        self._second(service, random.Random(0))

    def _second(self, service: str, chance: random.Random) -> None:
        # Not --scale: Compose would start the first container, too, which may be frozen.
        container = self.stack.compose("run", "--detach", "--no-deps", service).strip().splitlines()[-1]
        self._seconds[container] = time.monotonic() + (FREEZE_SECONDS + 2 if chance.random() > 0.8 else 6)

    def _isolate(self, _: str, chance: random.Random) -> None:
        """Take a service off the network and back with another address: its connections receive nothing more."""
        container = self._runs(chance.choice(SERVICES))
        if container in self._isolated:
            return
        run(["docker", "network", "disconnect", f"{self.stack.project}_inside", container])
        self._isolated[container] = time.monotonic() + chance.uniform(2, 5)

    def _restart(self, _: str, __: random.Random) -> None:
        """Postgres crashes; Docker starts it again."""
        self._crash("postgres", "postgres")
        self._restart_postgres()

    def _lossy(self, _: str, chance: random.Random) -> None:
        container = self._runs("postgres")
        run(["docker", "kill", container])
        self._in_volume("rm -rf /volume/replica && cp -a /volume/18 /volume/replica")
        run(["docker", "start", container])
        self._restart_postgres()
        self.rest(chance.uniform(1.5, 4))
        run(["docker", "kill", container])
        self._in_volume(SWAP)
        run(["docker", "start", container])
        self._restart_postgres()

    def _delete(self, _: str, __: random.Random) -> None:
        container = self._first("matcher")
        for waiting in (self._frozen, self._isolated):
            waiting.pop(container, None)
        run(["docker", "rm", "--force", "--volumes", container])
        self.stack.compose("up", "--detach", "--no-deps", "--no-build", "--pull", "never", "matcher")

    def _in_volume(self, script: str) -> None:
        """Run a shell script on the volume of Postgres, which must be stopped."""
        image = self.stack.inspect(self._first("postgres"))["Config"]["Image"]
        volume = f"{self.stack.project}_postgres-data:/volume"
        run(
            [
                "docker",
                "run",
                "--rm",
                "--network",
                "none",
                "--volume",
                volume,
                "--entrypoint",
                "sh",
                image,
                "-c",
                script,
            ]
        )

    def _restart_postgres(self) -> None:
        def answers() -> bool:
            try:
                with psycopg.connect(self.direct_dsn, connect_timeout=3) as connection:
                    return connection.execute("SELECT 1").fetchone() == (1,)
            except psycopg.OperationalError:
                return False

        until(answers, SERVERS_SECONDS, "Postgres answers")

    def _kafka_answers(self) -> None:
        port = self.stack.ports["KAFKA_PORT"]
        until(lambda: answers_metadata(LOOPBACK, port), SERVERS_SECONDS, "Kafka answers")


def _due(waiting: dict[str, float], now: float) -> list[str]:
    return [container for container, at in waiting.items() if now >= at]
