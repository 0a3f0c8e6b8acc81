"""Options that several mailbox commands share: who acts, and the login of a mailbox (server, user, secret, folders)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Final, TypeVar

import click

from services.imap.folders import folder_name
from services.registry.state_changes import OPERATOR

Result = TypeVar("Result")

acting_operator = click.option(
    "--by", default=OPERATOR, show_default=True, help="Operator to record as the author of the change."
)

NEW_LOGIN: Final = {
    "--host": "IMAP server. Default: looked up from the address (`replyrate provider lookup`).",
    "--port": "Port. Default: 993 (TLS from the first byte), with --starttls 143.",
    "--starttls": "Start TLS with the command STARTTLS, for a server that offers nothing else; implied by port 143.",
    "--user": "User name. Default: the address.",
    "--sent-folder": "Name of the Sent folder as the server lists it; may be repeated.",
}
CHANGED_LOGIN: Final = {
    "--host": "IMAP server. Default: as before.",
    "--port": "Port. Default: as before.",
    "--starttls": "Start TLS with the command STARTTLS, for a server that offers nothing else; implied by port 143.",
    "--user": "User name. Default: as before.",
    "--sent-folder": "Name of the Sent folder as the server lists it; may be repeated. Default: keep the current folders;"
    " '' detects them again.",
}
"""Help of each option of a login that is entered for the first time, and of one that is changed."""


@dataclass(frozen=True, slots=True)
class LoginOptions:
    """The login that the options of a command describe; None or empty where an option was not given."""

    host: str | None
    port: int | None
    starttls: bool
    user: str | None
    password_file: Path | None
    oauth2: bool
    sent_folder: tuple[str, ...]

    @property
    def is_given(self) -> bool:
        """Whether any of the options was given."""
        return any((self.host, self.port, self.starttls, self.user, self.password_file, self.oauth2, self.sent_folder))

    @property
    def sent_override(self) -> tuple[bytes, ...]:
        """Raw names of the given Sent folders; none when only an empty name was given: the folders are detected."""
        return tuple(folder_name(name) for name in self.sent_folder if name)


def login_options(help_texts: dict[str, str]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Add the options of a login to a command, which gets them as one `LoginOptions` in its parameter `options`."""
    decorators = (
        click.option("--host", help=help_texts["--host"]),
        click.option("--port", type=click.IntRange(1, 65535), help=help_texts["--port"]),
        click.option("--starttls", is_flag=True, help=help_texts["--starttls"]),
        click.option("--user", help=help_texts["--user"]),
        click.option(
            "--password-file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="File with the password. Default: ask for it.",
        ),
        click.option(
            "--oauth2",
            is_flag=True,
            help="Sign in at the provider instead of giving a password; --password-file then contains a refresh token.",
        ),
        click.option("--sent-folder", multiple=True, help=help_texts["--sent-folder"]),
    )

    def decorate(command: Callable[..., Result]) -> Callable[..., Result]:
        @wraps(command)
        def run(*args: object, **kwargs: object) -> Result:
            login = {name: kwargs.pop(name) for name in LoginOptions.__dataclass_fields__}
            return command(*args, options=LoginOptions(**login), **kwargs)  # type: ignore[arg-type]

        for decorator in reversed(decorators):
            run = decorator(run)
        return run

    return decorate
