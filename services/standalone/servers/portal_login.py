"""What portal and console of an embedded installation may do: each has its own database login, and none of the keys.

The other services of an installation on one machine share the owner's login, to which the policies of the tables do not apply.
"""

import secrets
from collections.abc import Mapping
from typing import Final

from psycopg import conninfo, sql

from services.common.postgres import connect, translate

NOT_ITS_OWN: Final = frozenset({
    "REPLYRATE_HASH_KEY_FILE", "REPLYRATE_VAULT_KEY_FILE", "REPLYRATE_VAULT_OLD_KEY_FILE", "REPLYRATE_POSTGRES__PASSWORD",
})  # fmt: skip


def portal_origin(port: int) -> str:
    """Where a browser on this machine reaches a portal or a console."""
    return f"http://127.0.0.1:{port}"


def portal_environ(environ: Mapping[str, str], dsn: str, port: int) -> dict[str, str]:
    """The settings of the portal beside services with the settings `environ`. Gives its login a new password.

    `dsn`: of an administrator of the embedded server, in a database with the schema. A public URL in `environ` stays.
    """
    return _web_environ("portal", environ, dsn, port)


def console_environ(environ: Mapping[str, str], dsn: str, port: int) -> dict[str, str]:
    """The same for the staff console."""
    return _web_environ("console", environ, dsn, port)


def _web_environ(process: str, environ: Mapping[str, str], dsn: str, port: int) -> dict[str, str]:
    password, login = secrets.token_urlsafe(24), f"replyrate_{process}"
    with connect(dsn, "replyrate-standalone") as connection, translate():
        verifier = connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()
        statement = sql.SQL("ALTER ROLE {role} LOGIN PASSWORD {verifier}")
        connection.execute(statement.format(role=sql.Identifier(login), verifier=sql.Literal(verifier)))
    group = f"REPLYRATE_{process.upper()}"
    return {
        f"{group}__PUBLIC_URL": portal_origin(port),
        **{name: text for name, text in environ.items() if name not in NOT_ITS_OWN},
        "REPLYRATE_POSTGRES__DSN": conninfo.make_conninfo(dsn, user=login, password=password),
        f"{group}__PORT": str(port),
    }
