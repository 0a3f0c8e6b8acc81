"""Every code that the test of a mailbox can end with."""

from services.imap import errors
from services.imap.errors import MailboxError
from services.providers import server_texts

LOGIN = {"oauth2-login-refused", "oauth2-not-offered", "no-login-method"}
"""Codes of services.imap.connection about ways to log in that a server does not offer or refuses."""


def codes() -> set[str]:
    """Every code that a test of a mailbox can end with."""
    mistakes = {"pop-host", "smtp-host", "pop-port", "smtp-port", "plain-port", "other-domains-host", "web-address"}
    return (
        {kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MailboxError)}
        - {"broken"}
        | {entry["code"] for entry in server_texts.texts()}
        | mistakes
        | LOGIN
    )
