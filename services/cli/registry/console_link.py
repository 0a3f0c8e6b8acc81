"""`console-link`: a link with which somebody opens the staff console, where nobody can sign in yet."""

from typing import Final

import click

from services.cli.context import as_json, database, guarded, load_config
from services.cli.output import echo, errors, print_json
from services.common.errors import ReplyrateError
from services.registry.staff_sessions import LINK_MINUTES, NAME_CHARACTERS, STAFF_ROLES, StaffRole, StaffSessions

NAME: Final = "Link of the command line"


@click.command("console-link")
@click.option("--role", type=click.Choice(STAFF_ROLES), default="support", show_default=True,
              help="Role of the session: support reads and makes links for sellers; operator can use every page and action.")  # fmt: skip
@click.option("--name", default=NAME, show_default=True, help="Who opens it, as the audit shows it.")
@click.option(
    "--force", is_flag=True, help="Also when staff sign in at an OpenID provider, for example because it is away."
)
@as_json
@guarded
def console_link(role: StaffRole, name: str, force: bool, json_: bool) -> None:
    """Print a link that opens the staff console.

    The link can be opened once, within 15 minutes. Where staff sign in at an OpenID provider, who has access is decided
    there, so the link is refused without --force.
    """
    if not name.strip() or len(name) > NAME_CHARACTERS or not name.isprintable():
        raise ReplyrateError(f"--name: write the name of a person, at most {NAME_CHARACTERS} characters")
    config = load_config()
    if config.console.issuer and not force:
        raise ReplyrateError(
            f"staff sign in at {config.console.issuer}, which decides who has access: open {config.console.public_url}"
            " and sign in there; if the provider is away, --force prints a link all the same"
        )
    with database(config) as connection:
        link = StaffSessions(connection).make_link(role, name.strip())
    url = link.url(config.console.public_url)
    if json_:
        print_json({"url": url, "session_id": link.session_id, "role": role, "expires_at": link.expires_at})
        return
    echo(url)
    errors.print(f"It can be opened once within {LINK_MINUTES} minutes, and begins a session of the role {role}.")
