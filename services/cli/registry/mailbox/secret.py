"""The secret of a login: a password from a file or the terminal, or a sign-in at the provider with a code (RFC 8628)."""

from pathlib import Path
from typing import Final

import click

from services.cli.output import errors
from services.common.settings import OAuth2Settings
from services.imap.errors import MailboxError
from services.registry.errors import RegistryError
from services.signin.access_tokens import AccessTokens
from services.signin.clients import client_for, token_context
from services.signin.device_flow import SignInFailed, start_sign_in, wait_for_sign_in

CURES: Final = {
    "oauth2-not-set-up": "add the settings that docs/oauth.md lists",
    "oauth2-client-refused": "compare the client with docs/oauth.md",
}
"""What to do about a code, where it is not to try again later."""


def read_secret(
    secret_file: Path | None, host: str, user: str, tokens: AccessTokens | None, settings: OAuth2Settings
) -> str:
    """The password; with `tokens`, a refresh token from the file or from a sign-in. Raises RegistryError."""
    if tokens is None or secret_file is not None:
        return read_password(secret_file)
    try:
        client = client_for(host, settings)
        context = token_context(settings.ca_file)
        device = start_sign_in(client, context)
        # On a line of its own, so that it can be passed on to the owner of the mailbox as it is.
        errors.print(
            f"open {device.url} and enter the code {device.code} (valid for {device.seconds / 60:.0f} minutes)",
            markup=False,
            soft_wrap=True,
        )
        errors.print("waiting for the sign-in …", style="dim")
        grant = wait_for_sign_in(client, device, context)
    except SignInFailed as error:
        raise RegistryError(str(error)) from None
    except MailboxError as error:
        raise RegistryError(f"sign-in failed: {error}; {CURES.get(error.code, 'try again later')}") from None
    assert grant.refresh is not None
    tokens.put(host, user, grant.refresh, grant)
    return grant.refresh


def read_password(password_file: Path | None) -> str:
    """The password from a file without its final line break, or typed at a prompt."""
    if password_file is not None:
        try:
            return password_file.read_text("utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError):
            raise RegistryError(
                f"{password_file} cannot be read as UTF-8 text; write the password into that file"
            ) from None
    typed: str = click.prompt("Password or authorization code", hide_input=True, err=True)
    return typed
