"""From a code that a seller's browser brought back to a login with a refresh token.

The account that signed in must be the one of the mailbox's address. Where it is another one, its owner sees which and may confirm that
the address is an alias of it; nothing of the sign-in is stored before that, so the owner signs in again.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from services.common.hashing import Hasher
from services.common.normal_forms import normalise_address
from services.common.settings import OAuth2Settings
from services.connect.typed_login import TypedLogin
from services.imap.errors import SignInNotConfigured
from services.registry.vault import masked
from services.signin.access_tokens import AccessTokens
from services.signin.clients import client_for, redirect_client_for, token_context
from services.signin.code_exchange import SignedIn, exchange
from services.signin.refusals import SignInRefused
from services.signin.token_store import KIND


@dataclass(frozen=True, slots=True)
class RedirectedLogin:
    """Exchanges codes over the network of this process."""

    settings: OAuth2Settings
    hasher: Hasher
    tokens: AccessTokens
    clock: Callable[[], datetime]

    def of(self, typed: TypedLogin, company_id: str, host: str) -> TypedLogin:
        """The login with a refresh token for a mail server. SignInRefused; the code is used up by then."""
        returned = typed.sign_in
        if returned is None:
            raise SignInRefused("sign-in-incomplete")
        try:
            client = client_for(host, self.settings)
            redirect = redirect_client_for(host, self.settings)
        except SignInNotConfigured as error:
            raise SignInRefused("sign-in-not-set-up", str(error)) from None
        if returned.client != client.name:
            raise SignInRefused("issuer-differs", f"the mail server belongs to {client.name}")
        signed_in = exchange(client, redirect, returned, self._context(), self.clock())
        own_user = self._user(typed, company_id, signed_in) if redirect.issuer else None
        user = typed.user or own_user
        refresh = signed_in.grant.refresh
        if refresh is None:
            raise SignInRefused("lasting-access-missing")
        self.tokens.put(host, user or typed.address, refresh, signed_in.grant)
        return msgspec.structs.replace(typed, kind=KIND, password=refresh, user=user, sign_in=None)

    def _user(self, typed: TypedLogin, company_id: str, signed_in: SignedIn) -> str | None:
        """The user name at the mail server; None: the address. SignInRefused when another account signed in."""
        addresses = [identity for identity in signed_in.identities if normalise_address(identity) is not None]
        if not addresses:
            raise SignInRefused("sign-in-incomplete", "the id token names no address")
        address = normalise_address(typed.address)
        if any(normalise_address(identity) == address for identity in addresses):
            return None
        assert typed.sign_in is not None
        for identity in addresses:
            if typed.sign_in.confirmed_identity == self.hasher.address(company_id, identity):
                return identity
        confirm = self.hasher.address(company_id, addresses[0])
        raise SignInRefused("identity-differs", report={"identity": masked(addresses[0]), "confirm": confirm})

    def _context(self) -> ssl.SSLContext:
        return token_context(self.settings.ca_file)
