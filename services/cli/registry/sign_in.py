"""Signing in at a provider that takes no password: shows an address and a code, and waits (RFC 8628)."""

from pathlib import Path

import click

from services.cli.context import errors
from services.cli.registry.connection import asked_password
from services.common.settings import OAuth2Settings
from services.imap.session import MailboxError
from services.registry.registry import RegistryError
from services.signin import oauth
from services.signin.oauth import AccessTokens, SignInFailed

sign_in_option = click.option(
    "--oauth2",
    is_flag=True,
    help="Sign in at the provider instead of a password; with --password-file the file holds a refresh token.",
)

CURES = {
    "oauth2-not-set-up": "set what docs/oauth.md lists",
    "oauth2-client-refused": "compare the client with docs/oauth.md",
}
"""What to do about a code, where it is not to try again later."""


def asked_secret(
    secret_file: Path | None, host: str, user: str, tokens: AccessTokens | None, settings: OAuth2Settings
) -> str:
    """The password, or with `tokens` a refresh token: out of a file, or by signing in. RegistryError says what to do."""
    if tokens is None or secret_file is not None:
        return asked_password(secret_file)
    try:
        client = oauth.client_of(host, settings)
        context = oauth.token_context(settings.ca_file)
        device = oauth.begin(client, context)
        # Bare lines, so that they can be handed to the owner of the mailbox as they are.
        errors.print(
            f"open {device.url} and type the code {device.code} (it holds {device.seconds / 60:.0f} minutes)",
            markup=False,
            soft_wrap=True,
        )
        errors.print("waiting for the sign-in …", style="dim")
        found = oauth.finish(client, device, context)
    except SignInFailed as error:
        raise RegistryError(str(error)) from None
    except MailboxError as error:
        raise RegistryError(f"nobody can sign in now: {error}; {CURES.get(error.code, 'try again later')}") from None
    assert found.refresh is not None
    tokens.put(host, user, found.refresh, found)
    return found.refresh
