"""`migrate`: bring the database to the schema of this release."""

import click

from services.cli.context import database, guarded, load_config
from services.cli.output import errors
from services.common import migrations


@click.command()
@guarded
def migrate() -> None:
    """Migrate the database to the schema of this release."""
    with database(load_config()) as connection:
        count = migrations.migrate(connection, lambda name: errors.print(f"applying {name}", markup=False))
    errors.print(f"{count} migration(s) applied." if count else "The schema is up to date.")
