"""A process whose hash key is another one than the installation's says so and ends with 78 before it does anything."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.common import verify
from services.common.errors import ConfigError
from services.common.hashing import Hasher
from services.common.postgres import connect
from services.common.topics import HASH_KEY, SENT
from services.registry.hash_key import check_hash_key, compare_hash_key
from services.standalone.servers.environment import service_environ
from tests.support.commands import run  # noqa: F401 # a fixture
from tests.support.processes import Process
from tests.support.topics import create_topics, kafka_settings

OURS, ANOTHER = Hasher(bytes(32)), Hasher(bytes(range(32)))


@pytest.fixture
def connection(dsn: str) -> Any:
    with connect(dsn, "tests") as opened:
        yield opened


def test_the_first_process_notes_its_key_and_every_later_one_is_compared(connection: psycopg.Connection) -> None:
    compare_hash_key(connection, ANOTHER)  # nothing is noted yet, and a reader notes nothing
    check_hash_key(connection, OURS)
    check_hash_key(connection, OURS)
    for check in (check_hash_key, compare_hash_key):
        with pytest.raises(
            ConfigError, match=r"the hash key is not the one .* REPLYRATE_HASH_KEY_FILE .* docs/keys-and-backup"
        ):
            check(connection, ANOTHER)
    (fingerprint,) = connection.execute("SELECT fingerprint FROM registry.hash_key").fetchone() or ("",)
    assert fingerprint == OURS.fingerprint() and bytes(32).hex() not in fingerprint


def test_commands_that_hash_refuse_another_key(run: Any, tmp_path: Path) -> None:  # noqa: F811
    run("company", "add", "c1")
    run("mailbox", "list")
    (tmp_path / "hash.key").write_bytes(bytes(range(32)))
    for command in (("company", "add", "c2"), ("mailbox", "list"), ("explain", "c1", "--message", "<a@b.example>")):
        done = run(*command, code=78)
        assert "the hash key is not the one" in done.stderr and "REPLYRATE_HASH_KEY_FILE" in done.stderr


def test_a_fetcher_with_another_key_ends_at_its_start(dsn: str, topics_gone: str, tmp_path: Path) -> None:
    create_topics(kafka_settings(topics_gone))
    with connect(dsn, "tests") as opened:
        check_hash_key(opened, OURS)
    (tmp_path / "hash.key").write_bytes(bytes(range(32)))
    environ = service_environ(tmp_path, kafka=topics_gone, partitions=4, dsn=dsn)
    with Process("services.fetcher", environ, tmp_path / "log") as fetcher:
        assert fetcher.wait(60) == 78
        assert "the hash key is not the one" in fetcher.log.read_text("utf-8")


def test_a_matcher_with_another_key_than_the_fetcher_ends_at_its_start(topics_gone: str, tmp_path: Path) -> None:
    settings = kafka_settings(topics_gone)
    create_topics(settings)
    verify.hash_key_of_messages(settings, OURS, "tests")
    from services.common.kafka import Publisher

    with Publisher(settings, "tests") as publisher:

        def send(key: bytes, hasher: Hasher) -> None:
            headers = [(HASH_KEY, hasher.fingerprint().encode())]
            publisher.wait([publisher.send(SENT, key, b"{", headers=headers) for _ in range(30)])

        send(b"c0", OURS)
        verify.hash_key_of_messages(settings, OURS, "tests")
        (tmp_path / "hash.key").write_bytes(bytes(range(32)))
        environ = service_environ(tmp_path, kafka=topics_gone, partitions=4, dsn="postgresql://unused")
        with Process("services.matcher", environ, tmp_path / "log") as matcher:
            assert matcher.wait(60) == 78
            assert "hashed with another hash key" in matcher.log.read_text("utf-8")
        # Somebody else's fingerprint on one record stops nobody.
        publisher.wait([publisher.send(SENT, b"c0", b"{", headers=[(HASH_KEY, b"x" * 32)])])
        verify.hash_key_of_messages(settings, OURS, "tests")
