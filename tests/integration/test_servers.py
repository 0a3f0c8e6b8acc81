"""The servers that the other tests use: they start, answer, keep their data and leave nothing behind."""

import imaplib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from services.common.errors import ConfigError, TransientError
from services.standalone.servers.child import LOOPBACK, Child, free_port, reserve_port
from services.standalone.servers.imap import EmbeddedImap, modified_utf7
from services.standalone.servers.kafka import EmbeddedKafka, answers_metadata
from services.standalone.servers.paths import ROOT
from services.standalone.servers.postgres import EmbeddedPostgres, scratch_folder
from tests.support.dovecot import Dovecot
from tests.support.processes import until
from tests.support.servers import USERS, delete_topics

MAIL = b"Message-ID: <1@seller.test>\r\nDate: Tue, 03 Nov 2026 09:00:00 +0800\r\nTo: b@buyer.test\r\n\r\nHello\r\n"
USER = next(iter(USERS))
WHEN = datetime(2026, 11, 3, 1, 0, 2, tzinfo=UTC)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int, seconds: float = 15) -> bool:
    """Whether a process ends within `seconds`."""
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def test_kafka_keeps_records_over_stop_and_kill(own_kafka: EmbeddedKafka) -> None:
    admin = KafkaAdminClient(bootstrap_servers=own_kafka.bootstrap_servers)
    admin.create_topics([NewTopic(name="kept", num_partitions=3, replication_factor=1)])
    admin.close()
    for end in (own_kafka.stop, own_kafka.kill):
        producer = KafkaProducer(bootstrap_servers=own_kafka.bootstrap_servers)
        before = producer.send("kept", b"x", partition=1).get(10).offset
        producer.close()
        end()
        assert not answers_metadata("127.0.0.1", own_kafka.port)
        own_kafka.start()
        producer = KafkaProducer(bootstrap_servers=own_kafka.bootstrap_servers)
        assert producer.send("kept", b"y", partition=1).get(10).offset == before + 1
        producer.close()


def test_topics_can_be_deleted_and_created_again(topics_gone: str) -> None:
    def is_known() -> bool:
        (topic,) = admin.describe_topics(["again"])
        return topic["error_code"] == 0 and len(topic["partitions"]) == 12

    for _ in range(2):
        with closing(KafkaAdminClient(bootstrap_servers=topics_gone)) as admin:
            admin.create_topics([NewTopic(name="again", num_partitions=12, replication_factor=1)])
            until(is_known, 60, "the broker knows the topic")
        delete_topics(topics_gone)


def test_second_broker_on_one_folder_is_refused(kafka_server: EmbeddedKafka) -> None:
    with pytest.raises(ConfigError, match="in use by another process"):
        EmbeddedKafka(kafka_server.data_dir).start()
    assert answers_metadata("127.0.0.1", kafka_server.port)


def test_postgres_keeps_data_over_stop_and_kill_and_asks_for_a_password() -> None:
    folder = scratch_folder("replyrate-test-")
    with EmbeddedPostgres(folder / "postgres") as server:
        server.sql("CREATE TABLE kept (n int)")
        for end in (server.stop, server.kill):
            server.sql("INSERT INTO kept VALUES (1)")
            end()
            server.start()
        assert server.sql("SELECT count(*) FROM kept") == "2"
        with pytest.raises(ConfigError, match="in use"):
            EmbeddedPostgres(folder / "postgres").start()
        right = server.dsn()
        server._password = "wrong"
        with pytest.raises(TransientError, match="password authentication failed"):
            server.sql("SELECT 1")
        server._password = right.split(":")[2].split("@")[0]
        pid = server.pid
    assert pid is not None and gone(pid)
    subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.mark.parametrize("folder", ["Sent", "已发送", "Sent Messages", 'odd "name" & more'])
def test_pymap_stores_mail_with_its_date(pymap: EmbeddedImap, folder: str) -> None:
    pymap.append(USER, folder, MAIL, WHEN)
    session = pymap.client.session(USER)
    name = modified_utf7(folder).replace('"', r"\"")
    assert session.select(f'"{name}"', readonly=True) == ("OK", [b"1"])
    answer = str(session.fetch("1", "(INTERNALDATE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")[1])
    assert "<1@seller.test>" in answer and "03-Nov-2026 01:00:02 +0000" in answer


def test_pymap_refuses_a_wrong_password_and_an_unknown_authority(pymap: EmbeddedImap, tmp_path: Path) -> None:
    pymap.client._users[USER] = "wrong"
    with pytest.raises(imaplib.IMAP4.error):
        pymap.client.session(USER)


@pytest.mark.parametrize("savedate", [True, False])
def test_dovecot_has_a_sent_folder_and_keeps_mail(make_dovecot: Callable[..., Dovecot], savedate: bool) -> None:
    server = make_dovecot(savedate=savedate)
    server.append(USER, "Sent", MAIL, WHEN)
    session = server.client.session(USER)
    assert ("SAVEDATE" in str(session.capability())) is savedate
    assert r"\Sent" in str(session.list())
    first = uid_validity(server)
    server.restart()
    assert uid_validity(server) == first
    server.kill()
    server.start()
    assert uid_validity(server) == first
    time.sleep(1)
    server.stop()
    server.reset_uidvalidity(USER)
    server.start()
    assert uid_validity(server) != first
    assert server.client.session(USER).select("Sent", readonly=True) == ("OK", [b"1"])


def uid_validity(server: Dovecot) -> int:
    session = server.client.session(USER)
    return int(str(session.status("Sent", "(UIDVALIDITY)")[1]).split("UIDVALIDITY ")[1].split(")")[0])


def test_servers_end_with_a_killed_starter(tmp_path: Path) -> None:
    """SIGKILL to the process that started a server: guard and server end, port and folder are free again."""
    program = (
        "import sys, time; from pathlib import Path; from services.standalone.servers.child import Child\n"
        f"child = Child('sleeper', ['sleep', '600'], Path({str(tmp_path / 'log')!r}))\n"
        "print(child.pid, child._guard.pid, flush=True); time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT)
    assert starter.stdout is not None
    child, guard = map(int, starter.stdout.readline().split())
    assert alive(child) and alive(guard)
    starter.kill()
    starter.wait()
    starter.stdout.close()
    assert gone(child) and gone(guard)


def test_a_command_ends_with_its_killed_guard(tmp_path: Path) -> None:
    child = Child("sleeper", ["sleep", "600"], tmp_path / "log")
    os.kill(child._guard.pid, signal.SIGKILL)
    assert gone(child.pid)
    child.stop()


def test_a_command_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    code = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(600)"
    )
    child = Child("deaf", [sys.executable, "-c", code], tmp_path / "log", grace_seconds=0.3)
    while "deaf" not in child.tail():
        time.sleep(0.02)
    assert child.stop() == 128 + signal.SIGKILL
    assert gone(child.pid)


def test_the_exit_code_of_the_command_is_returned(tmp_path: Path) -> None:
    child = Child("seven", [sys.executable, "-c", "raise SystemExit(7)"], tmp_path / "log")
    assert child.wait(10) == 7
    assert child.stop() == 7


def test_a_free_port_is_reserved_for_its_server() -> None:
    port = free_port()
    with socket.create_server((LOOPBACK, 0)) as outsider:
        with pytest.raises(OSError, match="in use"):
            socket.create_connection(outsider.getsockname(), source_address=(LOOPBACK, port))
        assert port not in {free_port() for _ in range(100)}
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, port))
        for _ in range(2):  # a restarted server finds it unchanged
            with socket.create_server((LOOPBACK, port)) as server:
                with socket.create_connection((LOOPBACK, port)) as client, server.accept()[0]:
                    assert client.getpeername() == (LOOPBACK, port)


def test_a_certain_port_is_reserved_unless_it_is_taken() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        assert not reserve_port(port)
        with socket.create_connection((LOOPBACK, port)), server.accept()[0]:
            pass
    assert reserve_port(port)
    with socket.create_server((LOOPBACK, 0)) as outsider, pytest.raises(OSError, match="in use"):
        socket.create_connection(outsider.getsockname(), source_address=(LOOPBACK, port))
