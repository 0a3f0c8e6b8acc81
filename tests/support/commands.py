"""Fixtures that run the command line in this process; to be imported."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from services.cli.__main__ import main
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.server import LabServer


@pytest.fixture
def run(dsn: str, tmp_path: Path) -> Any:
    """Runs `replyrate` on a database of its own, without Kafka."""
    for key in ("hash.key", "vault.key"):
        (tmp_path / key).write_bytes(bytes(32))
    env = {
        "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "REPLYRATE_POSTGRES__DSN": dsn, "COLUMNS": "200",
        "REPLYRATE_HASH_KEY_FILE": str(tmp_path / "hash.key"), "REPLYRATE_VAULT_KEY_FILE": str(tmp_path / "vault.key"),
    }  # fmt: skip

    def call(*args: object, code: int = 0, dsn: str = dsn) -> Result:
        done = CliRunner().invoke(main, [str(arg) for arg in args], env={**env, "REPLYRATE_POSTGRES__DSN": dsn})
        assert done.exit_code == code, (args, done.stdout, done.stderr, done.exception)
        return done

    return call


@pytest.fixture
def command(dsn: str, tmp_path: Path, ca: CertificateAuthority) -> Callable[..., Result]:
    """Runs `replyrate` against this database and one server."""
    for key in ("hash.key", "vault.key"):
        (tmp_path / key).write_bytes(bytes(32))

    def call(server: LabServer, *args: object, code: int = 0, **options: Any) -> Result:
        env = {
            "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9", "REPLYRATE_POSTGRES__DSN": dsn, "COLUMNS": "220",
            "REPLYRATE_HASH_KEY_FILE": str(tmp_path / "hash.key"), "REPLYRATE_VAULT_KEY_FILE": str(tmp_path / "vault.key"),
            "REPLYRATE_IMAP__CA_FILE": str(ca.ca_file), "REPLYRATE_IMAP__ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128",
            "REPLYRATE_IMAP__ALLOWED_PORTS": str(server.port),
        } | options.pop("env", {})  # fmt: skip
        done = CliRunner().invoke(main, [str(arg) for arg in args], env=env, **options)
        assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
        return done

    return call
