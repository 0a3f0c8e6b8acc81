"""`init`: the roles, the schema and the topics of an installation, for what starts before the services do.

Everything here may run again: roles get the passwords that their files hold now, migrations and topics are added where
they are missing. So an upgrade is the same command with the new release.
"""

import sys
from pathlib import Path
from typing import Final

import click
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from services.cli.context import database, errors, guarded, load_config
from services.common import lifecycle, migrations
from services.common.errors import EXIT_FAILED, ConfigError
from services.common.kafka import Admin
from services.common.lifecycle import Stop
from services.common.postgres import connect, load_statements, translate
from services.common.settings import dsn_with_password, secret_in
from services.common.verify import wanted_topics

OWNER: Final = "replyrate_migrator"
LOGINS: Final[dict[str, dict[str, str]]] = {
    OWNER: {},
    "replyrate_fetcher": {"statement_timeout": "120s", "idle_in_transaction_session_timeout": "120s"},
    "replyrate_aggregator": {"statement_timeout": "120s", "idle_in_transaction_session_timeout": "120s"},
    "replyrate_dashboard": {
        "statement_timeout": "30s", "idle_in_transaction_session_timeout": "30s",
        "default_transaction_read_only": "on", "search_path": "report_v1",
    },
}  # fmt: skip
"""Login → what holds in its sessions unless they say otherwise. What it may see is granted by the migrations."""

GROUPS: Final = ("replyrate_company",)
"""Roles without login that migrations grant to, and that only an administrator may make."""

HAND_OVER: Final = sql.SQL("GRANT {owner} TO CURRENT_USER")
"""Who is no superuser may give a database only to a role that it is a member of."""

GRANTS: Final = sql.SQL("""
ALTER DATABASE {database} OWNER TO {owner};
REVOKE ALL ON DATABASE {database} FROM PUBLIC;
GRANT CONNECT ON DATABASE {database} TO replyrate_fetcher, replyrate_dashboard, replyrate_company;
-- The judgement of a company works in a temporary table.
GRANT CONNECT, TEMPORARY ON DATABASE {database} TO replyrate_aggregator;
""")


@click.command()
@click.option("--admin-dsn", help="DSN of a user who may make roles and databases; without it roles stay as they are.")
@click.option("--admin-password-file", type=click.Path(path_type=Path), help="File with its password.")
@click.option(
    "--passwords", type=click.Path(path_type=Path),
    help="Folder with the logins' passwords: postgres-migrator, postgres-fetcher, …",
)  # fmt: skip
@guarded
def init(admin_dsn: str | None, admin_password_file: Path | None, passwords: Path | None) -> None:
    """Make roles, schema and topics, as far as they are missing; waits while Postgres or Kafka are starting."""
    found = load_config()
    dbname = str(conninfo_to_dict(found.postgres.dsn.get_secret_value()).get("dbname") or "replyrate")
    stop = Stop()

    def roles() -> None:
        assert admin_dsn is not None and passwords is not None
        dsn = dsn_with_password(admin_dsn, secret_in(admin_password_file)) if admin_password_file else admin_dsn
        make_roles(dsn, dbname, {login: secret_in(passwords / _file(login)) for login in LOGINS})

    def schema() -> None:
        with database(found) as connection:
            migrations.migrate(connection, lambda name: errors.print(f"applying {name}", markup=False))

    def topics() -> list[str]:
        with Admin(found.kafka, "replyrate-init") as admin:
            for name in admin.create_topics(wanted_topics(found)):
                errors.print(f"created {name}", markup=False)
            return admin.check_topics(wanted_topics(found))

    if admin_dsn is not None and passwords is None:
        raise click.UsageError("--admin-dsn needs --passwords, the folder with the logins' passwords")
    problems: list[str] = []
    with lifecycle.on_signals(stop):
        done = (
            (admin_dsn is None or lifecycle.until_answers(stop, "postgres", roles))
            and lifecycle.until_answers(stop, "postgres", schema)
            and lifecycle.until_answers(stop, "kafka", lambda: problems.extend(topics()))
        )
    for problem in problems:
        errors.print(problem, style="red", markup=False, soft_wrap=True)
    if problems or not done:
        sys.exit(EXIT_FAILED)
    errors.print(
        "roles, schema and topics are as they must be" if admin_dsn else "schema and topics are as they must be"
    )


def make_roles(admin_dsn: str, dbname: str, passwords: dict[str, str]) -> None:
    """Give every login its password and settings, and the database to its owner; makes what is missing.

    `passwords` maps login to password; they are sent as SCRAM verifiers, so no log of the server can hold one.
    """
    statements = load_statements("services.cli.operate", "init.sql")
    with connect(admin_dsn, "replyrate-init") as connection, translate():
        try:
            for role in (*passwords, *GROUPS):
                if connection.execute(statements["role_exists"], {"name": role}).fetchone() is None:
                    connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
            for login, password in passwords.items():
                verifier = connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256")
                connection.execute(
                    sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(
                        sql.Identifier(login), sql.Literal(verifier.decode())
                    )
                )
                for name, value in LOGINS[login].items():
                    connection.execute(
                        sql.SQL("ALTER ROLE {} SET {} = {}").format(
                            sql.Identifier(login), sql.Identifier(name), sql.Literal(value)
                        )
                    )
            if connection.execute(statements["database_exists"], {"name": dbname}).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(dbname)))
            if connection.execute(statements["is_superuser"]).fetchone() == (False,):
                connection.execute(HAND_OVER.format(owner=sql.Identifier(OWNER)))
            connection.execute(GRANTS.format(database=sql.Identifier(dbname), owner=sql.Identifier(OWNER)))
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigError(
                f"the user of --admin-dsn may not make roles and databases ({error.diag.message_primary});"
                " name one with CREATEROLE and CREATEDB, or make the roles by hand (docs/dashboards.md, Roles)"
            ) from None


def _file(login: str) -> str:
    return "postgres-" + login.removeprefix("replyrate_")
