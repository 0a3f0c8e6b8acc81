"""The hash key of the installation: its fingerprint is noted at the first start and compared at every other. SQL is in hash_key.sql.

With another key nothing fails: every new hash differs from those that are stored, and replies are attached to nothing.
"""

from typing import Final

import psycopg

from services.common.errors import ConfigError
from services.common.hashing import Hasher
from services.common.postgres import Statements, load_statements

SQL: Final = load_statements("services.registry", "hash_key.sql")


def check_hash_key(connection: psycopg.Connection, hasher: Hasher) -> None:
    """ConfigError when the registry was filled with another key. Notes the fingerprint if there is none yet."""
    sql = Statements(connection, SQL)
    if sql.one("noted") is None:
        sql.run("note", fingerprint=hasher.fingerprint())
    compare_hash_key(connection, hasher)


def compare_hash_key(connection: psycopg.Connection, hasher: Hasher) -> None:
    """The same for a process that only reads the database."""
    noted = Statements(connection, SQL).one("noted")
    if noted is not None and noted["fingerprint"] != hasher.fingerprint():
        raise ConfigError(
            "the hash key is not the one that this database was filled with, so its hashes can never be equal to new ones; point"
            " REPLYRATE_HASH_KEY_FILE to the file that the other processes use, or restore it from the backup of the keys. To"
            " start over with a new key, see docs/keys-and-backup.md"
        )
