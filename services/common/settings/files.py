"""Secrets in files: what is wrong with a file is said with its path and the fix, never with its content."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from services.common.errors import ConfigError

PREFIX: Final = "REPLYRATE_"
KEY_BYTES: Final = 32
MAX_SECRET_FILE_BYTES: Final = 64 * 1024


def secret_in(path: Path) -> str:
    """The text in the file of a secret. ConfigError with the path and the fix, never with the content."""
    raw = _read_secret(path, MAX_SECRET_FILE_BYTES, f"write the value into it{BY_COMPOSE}")
    if len(raw) > MAX_SECRET_FILE_BYTES:
        raise ConfigError(f"{path} is larger than 64 KiB; write the path of a file that contains only the value")
    try:
        # One line break at the end comes from editors and `echo` and is not part of the secret.
        text = raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text; write the path of a file that contains only the value") from None
    if not text:
        raise ConfigError(f"{path} is empty; write the value into it{BY_COMPOSE}")
    return text


BY_COMPOSE: Final = ", or with docker-compose.yml run `make secrets`, which creates what is missing or empty"
NEW_KEY: Final = (
    f"create one of {KEY_BYTES} random bytes (head -c {KEY_BYTES} /dev/urandom > FILE){BY_COMPOSE}."
    " If there is data already, restore the backup of the key: a new key does not fit the data"
)
OLD_KEY: Final = "write the path of the file with the previous key, or remove the setting"


def read_key(path: Path, name: str, fix: str, lengths: Sequence[int] = (KEY_BYTES,)) -> bytes:
    """The raw bytes of a key file; `name` is its setting. ConfigError with the setting, the path and the `fix`."""
    try:
        key = _read_secret(path, KEY_BYTES, fix)
    except ConfigError as error:
        raise ConfigError(f"{PREFIX}{name}: {error}") from None
    if len(key) not in lengths:
        length = f"{len(key)} bytes" if len(key) <= KEY_BYTES else f"more than {KEY_BYTES} bytes"
        raise ConfigError(f"{PREFIX}{name} names a file with {length} instead of {KEY_BYTES}, {path}; {fix}")
    return key


def _read_secret(path: Path, limit: int, fix: str) -> bytes:
    """At most `limit` + 1 bytes of a secret's file. ConfigError with what is wrong with the file, and the fix."""
    try:
        with path.open("rb") as stream:
            return stream.read(limit + 1)
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}; {fix}") from None
    except IsADirectoryError:
        raise ConfigError(
            f"{path} is a folder, as Docker creates one where a file is missing; remove it, then {fix}"
        ) from None
    except PermissionError:
        raise ConfigError(
            f"user {os.geteuid()} may not read {path}; allow it with `chmod 444` (chmod 700 of the folder keeps others out),"
            " or with docker-compose.yml run `make secrets`, which does both"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or 'it cannot be read').lower()}; {fix}") from None
