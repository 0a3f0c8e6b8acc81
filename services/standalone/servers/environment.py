"""The environment of services that run beside each other on servers of this machine."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

LOOPBACK_NETWORKS: Final = "127.0.0.0/8,::1/128"
KEYS: Final = ("hash.key", "vault.key")


def service_environ(
    folder: Path,
    *,
    kafka: str,
    partitions: int,
    dsn: str,
    ca_file: Path | None = None,
    imap_ports: Sequence[int] = (),
    **settings: str,
) -> dict[str, str]:
    """The settings of the services as environment variables.

    `folder` gets the keys, unless it has them, and the matcher's data. `kafka`: bootstrap servers. With `ca_file` mail
    servers on loopback are allowed, on `imap_ports`. `settings`: further ones without the prefix, as in
    `MATCHER__STORE="memory"`; they have precedence.
    """
    for name in KEYS:
        write_key(folder / name)
    environ = {
        "KAFKA__BOOTSTRAP_SERVERS": kafka,
        "KAFKA__PARTITIONS": str(partitions),
        "POSTGRES__DSN": dsn,
        "HASH_KEY_FILE": str(folder / "hash.key"),
        "VAULT_KEY_FILE": str(folder / "vault.key"),
        "MATCHER__DATA_DIR": str(folder / "matcher"),
        "MATCHER__STORE": "memory",
    }
    if ca_file is not None:
        environ |= {
            "IMAP__CA_FILE": str(ca_file),
            "IMAP__ALLOWED_PRIVATE_NETWORKS": LOOPBACK_NETWORKS,
            "IMAP__ALLOWED_PORTS": ",".join(map(str, imap_ports)),
        }
    return {f"REPLYRATE_{name}": value for name, value in {**environ, **settings}.items()}


def write_key(file: Path) -> None:
    """Write a random key that only this user can read; an existing file stays."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_bytes(secrets.token_bytes(32))
