"""`api-key add|list|rotate|revoke`: the keys with which platforms use the HTTP API."""

from datetime import UTC, datetime

import click

from services.cli.context import as_json, database, guarded, load_config
from services.cli.output import echo, errors, print_json, print_table
from services.common.display import printable
from services.connect.consent import check_name
from services.registry.api_keys import SCOPES, ApiKeys, NewApiKey
from services.registry.state_changes import OPERATOR

COLUMNS = {
    "key_id": "key", "name": "name", "state": "state", "scopes": "scopes", "company_prefix": "companies", "created_at": "created",
    "expires_at": "expires", "revoked_by": "revoked by", "last_used_on": "last used",
}  # fmt: skip

by_operator = click.option("--by", default=OPERATOR, show_default=True, help="Operator to record as the author.")


@click.group("api-key")
def api_key() -> None:
    """Keys of platforms for the HTTP API."""


@api_key.command("add")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="What the key may do; needed, may be repeated.",
)
@click.option(
    "--companies",
    "company_prefix",
    default="",
    metavar="PREFIX",
    help="Beginning of the ids of the companies that it may use. Default: every company.",
)
@click.option(
    "--expires",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="UTC day on which it becomes invalid. Default: never.",
)
@by_operator
@as_json
@guarded
def api_key_add(
    name: str, scopes: tuple[str, ...], company_prefix: str, expires: datetime | None, by: str, json_: bool
) -> None:
    """Create a key and print its secret.

    The secret is printed once and stored as a hash only.
    """
    check_name("--by", by)
    expires_at = None if expires is None else expires.replace(tzinfo=UTC)
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise click.UsageError("--expires is in the past; name a later day")
    with database(load_config()) as connection:
        key = ApiKeys(connection).add(name, scopes, company_prefix, by=by, expires_at=expires_at)
    _print_secret(key, json_=json_)


@api_key.command("list")
@as_json
@guarded
def api_key_list(json_: bool) -> None:
    """List all keys with their scopes and the day of their last use.

    "revoked by" is the operator who revoked a key or replaced it by another.
    """
    with database(load_config()) as connection:
        stored = ApiKeys(connection).all()
    if json_:
        print_json(stored)
    elif stored:
        print_table([{**key, "scopes": " ".join(key["scopes"])} for key in stored], COLUMNS)
    else:
        errors.print("There is no key. Create one: replyrate api-key add --help")


@api_key.command("rotate")
@click.argument("key_id")
@click.option(
    "--overlap-hours",
    type=click.IntRange(0, 24 * 90),
    default=24,
    show_default=True,
    help="How long the previous key stays valid.",
)
@by_operator
@as_json
@guarded
def api_key_rotate(key_id: str, overlap_hours: int, by: str, json_: bool) -> None:
    """Replace a key by a new one with the same scopes.

    The previous key stays valid for a while, so that the platform can change over without an interruption.
    """
    check_name("--by", by)
    with database(load_config()) as connection:
        key = ApiKeys(connection).rotate(key_id, overlap_hours, by=by)
    _print_secret(key, json_=json_)
    errors.print(f"Key {printable(key_id)} is valid for {overlap_hours} more hours at most.")


@api_key.command("revoke")
@click.argument("key_id")
@by_operator
@guarded
def api_key_revoke(key_id: str, by: str) -> None:
    """Make a key invalid at once."""
    check_name("--by", by)
    with database(load_config()) as connection:
        ApiKeys(connection).revoke(key_id, by=by)
    errors.print(f"Key {printable(key_id)} is revoked.")


def _print_secret(key: NewApiKey, *, json_: bool) -> None:
    if json_:
        print_json({"key_id": key.key_id, "secret": key.secret})
        return
    errors.print(f"Key {key.key_id}. Its secret is shown only now; store it where the platform's secrets are:")
    echo(key.secret)
