"""`init`: the roles, the schema and the topics of an installation; runs before the services start.

It may run any number of times: roles get the current passwords of their files, missing migrations and topics are added.
An upgrade is therefore the same command of the new release.
"""

import sys
from pathlib import Path
from typing import Final

import click
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from services.cli.context import database, guarded, load_config
from services.cli.output import errors
from services.common import lifecycle, migrations, retry
from services.common.errors import EXIT_FAILED, ConfigError
from services.common.kafka import Admin
from services.common.lifecycle import Stop
from services.common.postgres import connect, load_statements, translate
from services.common.settings import dsn_with_password, secret_in
from services.common.verify import wanted_topics

OWNER: Final = "replyrate_migrator"
SERVICE: Final = {"timezone": "UTC", "client_min_messages": "warning", "jit": "off"}
"""What services begin their sessions with (services/common/postgres.py), for connections through a pooler, which drops it."""
LOGINS: Final[dict[str, dict[str, str]]] = {
    OWNER: {},
    "replyrate_fetcher": {**SERVICE, "statement_timeout": "120s", "idle_in_transaction_session_timeout": "120s"},
    "replyrate_aggregator": {**SERVICE, "statement_timeout": "120s", "idle_in_transaction_session_timeout": "120s"},
    "replyrate_portal": {**SERVICE, "statement_timeout": "30s", "idle_in_transaction_session_timeout": "30s"},
    "replyrate_console": {**SERVICE, "statement_timeout": "30s", "idle_in_transaction_session_timeout": "30s"},
    "replyrate_dashboard": {
        "statement_timeout": "30s", "idle_in_transaction_session_timeout": "30s",
        "default_transaction_read_only": "on", "search_path": "report_v1",
    },
}  # fmt: skip
"""Login → default parameters of its sessions, which each session may change (docs/dashboards.md, Limits). Its privileges are granted by the migrations."""

CONNECTION_LIMITS: Final[dict[str, int]] = {"replyrate_dashboard": 20}
"""Login → how many sessions it may have at once, which it cannot change."""
TEMPORARY_FILES: Final[dict[str, str]] = {"replyrate_dashboard": "1GB"}
"""Login → what the temporary files of one of its sessions may hold. Only a superuser can set this, or lift it."""

GROUPS: Final = ("replyrate_company",)
"""Roles without login that migrations grant privileges to and that only an administrator can create."""

SQL: Final = load_statements("services.cli.operate", "init.sql")


@click.command()
@click.option(
    "--admin-dsn", help="DSN of a user who may create roles and databases. Default: leave the roles as they are."
)
@click.option("--admin-password-file", type=click.Path(path_type=Path), help="File with the password of that user.")
@click.option(
    "--passwords", type=click.Path(path_type=Path),
    help="Folder with the passwords of the logins: postgres-migrator, postgres-fetcher, …",
)  # fmt: skip
@guarded
def init(admin_dsn: str | None, admin_password_file: Path | None, passwords: Path | None) -> None:
    """Create the roles, schema and topics that are missing.

    Waits until Postgres and Kafka have started. Run it again for an upgrade.
    """
    config = load_config()
    dbname = str(conninfo_to_dict(config.postgres.dsn.get_secret_value()).get("dbname") or "replyrate")
    stop = Stop()

    def roles() -> None:
        assert admin_dsn is not None and passwords is not None
        dsn = dsn_with_password(admin_dsn, secret_in(admin_password_file)) if admin_password_file else admin_dsn
        make_roles(dsn, dbname, {login: secret_in(passwords / _file(login)) for login in LOGINS})

    def schema() -> None:
        with database(config) as connection:
            migrations.migrate(connection, lambda name: errors.print(f"applying {name}", markup=False))

    def topics() -> list[str]:
        with Admin(config.kafka, "replyrate-init") as admin:
            for name in admin.create_topics(wanted_topics(config)):
                errors.print(f"created {name}", markup=False)
            return admin.check_topics(wanted_topics(config))

    if admin_dsn is not None and passwords is None:
        raise click.UsageError("--admin-dsn needs --passwords, the folder with the passwords of the logins")
    problems: list[str] = []
    with lifecycle.on_signals(stop):
        is_done = (
            (admin_dsn is None or retry.until_answers(stop, "postgres", roles))
            and retry.until_answers(stop, "postgres", schema)
            and retry.until_answers(stop, "kafka", lambda: problems.extend(topics()))
        )
    for problem in problems:
        errors.print(problem, style="red", markup=False, soft_wrap=True)
    if problems or not is_done:
        sys.exit(EXIT_FAILED)
    errors.print(f"{'Roles, schema' if admin_dsn else 'Schema'} and topics are up to date.")


def make_roles(admin_dsn: str, dbname: str, passwords: dict[str, str]) -> None:
    """Create the roles and the database that are missing; set every login's password and parameters, and the owner.

    `passwords` maps login to password. They are sent as SCRAM verifiers, so no server log can contain one. Raises
    ConfigError when the administrator may not do this.
    """
    owner, database_name = sql.Identifier(OWNER), sql.Identifier(dbname)
    with connect(admin_dsn, "replyrate-init") as connection, translate():
        try:
            for role in (*passwords, *GROUPS):
                if connection.execute(SQL["role_exists"], {"name": role}).fetchone() is None:
                    connection.execute(_statement("create_role", role=sql.Identifier(role)))
            is_superuser = connection.execute(SQL["is_superuser"]).fetchone() == (True,)
            for login, password in passwords.items():
                _set_login(connection, login, password, is_superuser=is_superuser)
            if connection.execute(SQL["database_exists"], {"name": dbname}).fetchone() is None:
                connection.execute(_statement("create_database", database=database_name))
            if not is_superuser:
                connection.execute(_statement("join_owner", owner=owner))
            connection.execute(_statement("grant_database", database=database_name, owner=owner))
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigError(
                f"the user of --admin-dsn may not create roles and databases ({error.diag.message_primary});"
                " name one with CREATEROLE and CREATEDB, or create the roles by hand (docs/dashboards.md, Roles)"
            ) from None


def _set_login(connection: psycopg.Connection, login: str, password: str, *, is_superuser: bool) -> None:
    verifier = connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256")
    role = sql.Identifier(login)
    connection.execute(_statement("set_password", role=role, verifier=sql.Literal(verifier.decode())))
    if login in CONNECTION_LIMITS:
        limit = sql.Literal(CONNECTION_LIMITS[login])
        connection.execute(_statement("set_connection_limit", role=role, limit=limit))
    parameters = dict(LOGINS[login])
    if is_superuser and login in TEMPORARY_FILES:
        parameters["temp_file_limit"] = TEMPORARY_FILES[login]
    for name, value in parameters.items():
        connection.execute(
            _statement("set_parameter", role=role, parameter=sql.Identifier(name), value=sql.Literal(value))
        )


def _statement(name: str, **parts: sql.Composable) -> sql.Composed:
    """A statement of init.sql with identifiers and literals, which Postgres does not take as parameters here."""
    return sql.SQL(SQL[name]).format(**parts)


def _file(login: str) -> str:
    return "postgres-" + login.removeprefix("replyrate_")
