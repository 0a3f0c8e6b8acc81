"""The fetcher's part of a sign-in by redirect: the code becomes tokens (RFC 6749 section 4.1.3), and an id token says who signed in."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from services.imap.errors import ClientRefused, GrantEnded, MailboxError
from services.signin.authorization import needs_admin
from services.signin.clients import OAuthClient, RedirectClient, sign_in_services
from services.signin.id_token import identities
from services.signin.refusals import SignInRefused
from services.signin.token_endpoint import TokenGrant, error_of, parse_grant, request

CODE_GRANT: Final = "authorization_code"


class ReturnedCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a browser brought back from a provider, as it travels sealed from the web process to a fetcher."""

    client: str
    """The section of the settings: microsoft, google or other."""
    code: str
    verifier: str
    nonce: str
    redirect_uri: str
    confirmed_identity: str | None = None
    """Hash of another identity than the address that the seller confirmed as an alias of it."""

    def __repr__(self) -> str:
        return "ReturnedCode(…)"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The tokens of a sign-in, and the addresses of the account as the provider names it; none where it issues no id token."""

    grant: TokenGrant
    identities: tuple[str, ...] = field(repr=False)


def exchange(
    client: OAuthClient, redirect: RedirectClient, returned: ReturnedCode, context: ssl.SSLContext, now: datetime
) -> SignedIn:
    """Exchange a code, which can be done once. SignInRefused."""
    form = {
        "grant_type": CODE_GRANT,
        "code": returned.code,
        "redirect_uri": returned.redirect_uri,
        "code_verifier": returned.verifier,
    }
    try:
        status, answer = request(client, client.token_url, form, context)
        if status != 200:
            raise _refusal(redirect, error_of(status, answer), answer)
        grant = parse_grant(answer)
    except MailboxError as error:
        raise _refusal(redirect, error, {}) from None
    _check_scopes(client, answer)
    addresses = identities(answer.get("id_token"), redirect, returned.nonce, now) if redirect.issuer else ()
    return SignedIn(grant, addresses)


def _refusal(redirect: RedirectClient, error: MailboxError, answer: Mapping[str, Any]) -> SignInRefused:
    """What an error of the token endpoint means for a sign-in."""
    if needs_admin(redirect, str(answer.get("error")), str(answer.get("error_description"))):
        return SignInRefused("admin-consent-needed", str(error))
    if answer.get("error") == "redirect_uri_mismatch" or isinstance(error, ClientRefused):
        return SignInRefused("client-refused", str(error))
    if isinstance(error, GrantEnded):
        return SignInRefused("code-expired", str(error))
    return SignInRefused("sign-in-unavailable", str(error))


def _check_scopes(client: OAuthClient, answer: Mapping[str, Any]) -> None:
    """SignInRefused when the owner unticked the access to mail, where the provider lets people choose."""
    granted = answer.get("scope")
    is_partial = isinstance(granted, str) and not set(client.scopes) <= set(granted.split())
    if is_partial and sign_in_services()[client.name]["partial_consent"]:
        raise SignInRefused("sign-in-declined", "the access to mail was not granted")
