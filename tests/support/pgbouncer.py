"""PgBouncer in transaction mode in front of a server: each transaction gets a session that others used before.

PgBouncer is a Debian package; `.ci/install-pgbouncer` installs it. Of the configuration only the port, the passwords and the
size of the pool are particular to tests; operators get the same lines from docs/install.md.
"""

import shutil
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.standalone.servers.child import LOOPBACK, Child, await_answer
from services.standalone.servers.postgres import EmbeddedPostgres, unprivileged
from services.standalone.servers.server import EmbeddedServer

INSTALL: Final = "PgBouncer is missing: run .ci/install-pgbouncer"
START_SECONDS: Final = 10.0

CONFIGURATION: Final = """\
[databases]
* = host={host} port={server_port} auth_user={user} connect_query='{defaults}'
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
ignore_startup_parameters = options
default_pool_size = {sessions}
max_client_conn = 500
server_login_retry = 1
"""
DEFAULTS: Final = {
    "timezone": "UTC", "statement_timeout": "120s", "idle_in_transaction_session_timeout": "120s",
    "client_min_messages": "warning", "jit": "off",
}  # fmt: skip
"""What `replyrate init` gives the logins of services; the tests' only login is the superuser, who has no defaults."""
SESSIONS: Final = 8
"""Sessions of a database: fewer than the threads of the processes that share them."""


class PgBouncer(EmbeddedServer):
    """A pooler on loopback; a context manager."""

    def __init__(self, data_dir: Path, server: EmbeddedPostgres, *, sessions: int = SESSIONS) -> None:
        super().__init__(data_dir)
        self._server = server
        self._sessions = sessions
        self.left_out = ""
        """Text of the configuration that is missing from the next start on."""

    def pooled(self, dsn: str) -> str:
        """The DSN of the same database through the pooler."""
        place = conninfo_to_dict(dsn)
        return f"postgresql://{place['user']}:{place['password']}@{LOOPBACK}:{self.port}/{place['dbname']}"

    def start(self) -> None:
        """Write the configuration, start, wait until a query is answered."""
        with self._starting():
            program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
            assert program is not None, INSTALL
            user = unprivileged(self.data_dir)
            place = conninfo_to_dict(self._server.dsn())
            users = self.data_dir / "users"
            users.write_text(f'"{place["user"]}" "{place["password"]}"\n', "ascii")
            configuration = self.data_dir / "pgbouncer.ini"
            text = CONFIGURATION.format(
                host=LOOPBACK, server_port=self._server.port, port=self.port, user=place["user"], users=users, sessions=self._sessions,
                defaults="; ".join(f"SET {name} = ''{value}''" for name, value in DEFAULTS.items()),
            )  # fmt: skip
            configuration.write_text(text.replace(self.left_out, "") if self.left_out else text, "ascii")
            self._child = Child(
                "PgBouncer", [program, str(configuration)], self.data_dir / "pgbouncer.log", grace_seconds=5, user=user
            )
            await_answer(self._child, self._answers, START_SECONDS)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(make_conninfo(self.pooled(self._server.dsn()), connect_timeout=5)):
                return True
        except psycopg.OperationalError:
            return False
