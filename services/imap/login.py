"""Logging in with a password or an access token: which command a server takes, and what its refusal means.

Relies on private names of imapclient 4.1.0 and imaplib, as services.imap.connection does.
"""

import imaplib
from collections.abc import Collection
from typing import Final

from services.imap.errors import LoginRefused, LoginUnclear, Throttled, Unreachable
from services.imap.limits import BoundedClient
from services.imap.sasl import MECHANISMS, PASSWORD_MECHANISMS, BearerExchange, PasswordExchange
from services.imap.translation import refusal, translated

NOT_THE_TOKEN: Final = ("imap-off", "unsafe-login")
"""Refusals that a fresh token does not change and that say more than that the token was refused."""

SIGN_IN_NEEDED: Final = "oauth2-needed"
NO_LOGIN_METHOD: Final = "no-login-method"
"""Codes of a refusal of every password: with and without a sign-in that the server offers instead."""


def log_in(client: BoundedClient, user: str, password: str) -> None:
    """LOGIN; AUTHENTICATE PLAIN or LOGIN where the command LOGIN is disabled. LoginRefused, Throttled, …"""
    if has_line_break(user) or has_line_break(password):
        raise LoginRefused("login")
    advertised = {str(name).upper() for name in client._imap.capabilities}
    mechanism = next((name for name in PASSWORD_MECHANISMS if f"AUTH={name}" in advertised), None)
    is_disabled = "LOGINDISABLED" in advertised
    if is_disabled and mechanism is None:
        # Not even tried: the secret must not go to a server that accepts none (RFC 3501 §7.2.1).
        raise LoginRefused("login", "the server advertises LOGINDISABLED", code=_needed_instead(advertised))
    with translated("login"):
        # imaplib sends the user name unquoted and encodes ASCII; both fail for names with blanks or accents.
        client._imap._encoding = "utf-8"
        quoted = '"' + user.replace("\\", "\\\\").replace('"', '\\"') + '"'
        try:
            if is_disabled and mechanism is not None:
                # LOGINDISABLED concerns the command LOGIN alone (RFC 3501 §7.2.1).
                client._imap.authenticate(mechanism, PasswordExchange(mechanism, user, password))
            else:
                client.login(quoted, password)
        except imaplib.IMAP4.error as error:
            # The server's own words may repeat the user name: they are not passed on.
            reason = refusal("login", error)
            # imapclient reports a broken connection as a refusal too; it says nothing about user and password.
            was_cut_off = isinstance(error, imaplib.IMAP4.abort) or isinstance(error.__context__, imaplib.IMAP4.abort)
            if was_cut_off and not isinstance(reason, Throttled):
                raise Unreachable("login", "the server closed the connection") from None
            if reason is not None and reason.code == SIGN_IN_NEEDED:
                reason = LoginRefused("login", code=_needed_instead(advertised))
            raise reason or LoginRefused("login") from None


def log_in_with_token(client: BoundedClient, user: str, token: str) -> None:
    """AUTHENTICATE with an access token, OAUTHBEARER (RFC 7628) where it is advertised, else XOAUTH2.

    LoginRefused (`oauth2-login-refused`, `oauth2-not-offered`), Throttled, … The session can be used for another attempt.
    """
    if has_line_break(user):
        raise LoginRefused("login")
    advertised = {str(name).upper() for name in client._imap.capabilities}
    mechanism = next((name for name in MECHANISMS if f"AUTH={name}" in advertised), None)
    if mechanism is None:
        raise LoginRefused("login", "neither XOAUTH2 nor OAUTHBEARER is advertised", code="oauth2-not-offered")
    exchange = BearerExchange(mechanism, user, token, client._imap.host, client._imap.port)
    with translated("login"):
        try:
            client._imap.authenticate(mechanism, exchange)
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error as error:
            reason = refusal("login", error)
            if exchange.server_failed and not isinstance(reason, LoginRefused):
                raise reason or Throttled("login") from None
            if isinstance(reason, Throttled | LoginUnclear) or (reason is not None and reason.code in NOT_THE_TOKEN):
                raise reason from None
            raise LoginRefused("login", exchange.status, code="oauth2-login-refused") from None


def has_line_break(text: str) -> bool:
    """Whether an argument would become another command, or another part of an exchange."""
    return any(char in text for char in "\r\n\0\x01")


def _needed_instead(advertised: Collection[str]) -> str:
    """The code of a refusal of every password, by the capabilities (upper case) of the server."""
    offers_sign_in = any(f"AUTH={name}" in advertised for name in MECHANISMS)
    return SIGN_IN_NEEDED if offers_sign_in else NO_LOGIN_METHOD
