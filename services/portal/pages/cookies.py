"""Cookies of the seller's pages. None is readable by scripts; over TLS each belongs to this host alone (`__Host-`).

browser   a random secret of the browser, set by the page of a link before it is opened
session   the token of the session, and the key of the address that its link expects
draft     the address and server that were typed, between the steps; never a password
sign-in   the same while the seller is at the provider to sign in
"""

import base64
import binascii
import secrets
from typing import Final, Literal, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from services.connect.typed_login import are_folder_names
from services.registry.addresses import Role
from services.registry.portal_sessions import SESSION_PREFIX
from services.registry.secret_tokens import is_token

CookieName = Literal["browser", "session", "draft", "sign-in"]
SECONDS: Final[dict[CookieName, int | None]] = {"browser": 86_400, "session": None, "draft": 1800, "sign-in": 600}
"""How long the browser stores each; None: until it is closed."""
SECRET_CHARACTERS: Final = 43
"""Of 256 random bits in base64url."""


"""Which of its addresses an account answers from."""


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a seller typed so far, without the password. `mailbox_id`: the mailbox that is connected again; `role`: which address it is."""

    address: str = ""
    mailbox_id: str | None = None
    host: str = ""
    port: int | None = None
    starttls: bool = False
    user: str = ""
    role: Role | None = None

    def __repr__(self) -> str:
        return "Draft(…)"


class StartedSignIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was typed when the seller left for the provider, for the sign-in with this state only."""

    state_hash: str
    draft: Draft
    folders: tuple[str, ...] = ()
    confirmed_identity: str | None = None

    def __post_init__(self) -> None:
        """ValueError, so that a cookie is malformed in which folders have names that no form sends."""
        if not are_folder_names(self.folders):
            raise ValueError("these are no names of folders")

    def __repr__(self) -> str:
        return "StartedSignIn(…)"


Value = TypeVar("Value", Draft, StartedSignIn)


class HostCookies:
    """Cookies that no script can read. Over TLS each belongs to one host alone (`__Host-`); ports of a host share them."""

    def __init__(self, *, is_https: bool) -> None:
        self._is_https = is_https

    def get(self, request: Request, name: str) -> str:
        """The value of a cookie; "" when there is none."""
        return request.cookies.get(self._name(name), "")

    def set(self, response: Response, name: str, value: str, max_age: int | None) -> None:
        """Set a cookie, until the browser is closed or for some seconds."""
        response.set_cookie(
            self._name(name), value, max_age=max_age, path="/", secure=self._is_https, httponly=True, samesite="lax"
        )  # fmt: skip

    def drop(self, response: Response, *names: str) -> None:
        """Delete cookies."""
        for name in names:
            response.delete_cookie(self._name(name), path="/", secure=self._is_https, httponly=True, samesite="lax")

    def random_secret(self, request: Request, name: str) -> str | None:
        """The random secret in a cookie; None when there is none or it is malformed."""
        value = self.get(request, name)
        return value if len(value) == SECRET_CHARACTERS else None

    def new_random_secret(self, response: Response, name: str, max_age: int | None) -> str:
        """Give the browser a random secret."""
        value = secrets.token_urlsafe(32)
        self.set(response, name, value, max_age)
        return value

    def _name(self, name: str) -> str:
        return f"{'__Host-' if self._is_https else ''}replyrate-{name}"


class Cookies:
    """Reads and sets the cookies. Whatever a request sends is checked: a cookie that is malformed is none."""

    def __init__(self, *, is_https: bool) -> None:
        self._cookies = HostCookies(is_https=is_https)

    def browser_secret(self, request: Request) -> str | None:
        """The secret of the browser."""
        return self._cookies.random_secret(request, "browser")

    def new_browser_secret(self, response: Response) -> str:
        """Give the browser a secret."""
        return self._cookies.new_random_secret(response, "browser", SECONDS["browser"])

    def session(self, request: Request) -> tuple[str, bytes] | None:
        """The token of the session and the key of the expected address."""
        token, _, key = self._get(request, "session").partition(".")
        try:
            return (token, bytes.fromhex(key)) if is_token(token, SESSION_PREFIX) and key else None
        except ValueError:
            return None

    def set_session(self, response: Response, token: str, address_key: bytes) -> None:
        """Start a session in this browser; what was typed in an earlier one is forgotten."""
        self._set(response, "session", f"{token}.{address_key.hex()}")
        self.delete(response, "draft", "sign-in")

    def draft(self, request: Request) -> Draft:
        """What was typed so far."""
        return self._value(request, "draft", Draft) or Draft()

    def set_draft(self, response: Response, draft: Draft) -> None:
        """Store what was typed, for the next step."""
        self._set_value(response, "draft", draft)

    def started_sign_in(self, request: Request) -> StartedSignIn | None:
        """The sign-in that was started last in this browser."""
        return self._value(request, "sign-in", StartedSignIn)

    def set_started_sign_in(self, response: Response, started: StartedSignIn) -> None:
        """Store what was typed until the seller comes back."""
        self._set_value(response, "sign-in", started)

    def delete(self, response: Response, *names: CookieName) -> None:
        """Delete cookies."""
        self._cookies.drop(response, *names)

    def _value(self, request: Request, name: CookieName, kind: type[Value]) -> Value | None:
        """The value in a cookie; None when there is none or it is malformed."""
        try:
            return msgspec.json.decode(base64.urlsafe_b64decode(self._get(request, name)), type=kind)
        except (ValueError, binascii.Error, msgspec.MsgspecError):
            return None

    def _set_value(self, response: Response, name: CookieName, value: msgspec.Struct) -> None:
        self._set(response, name, base64.urlsafe_b64encode(msgspec.json.encode(value)).decode())

    def _set(self, response: Response, name: CookieName, value: str) -> None:
        self._cookies.set(response, name, value, SECONDS[name])

    def _get(self, request: Request, name: CookieName) -> str:
        return self._cookies.get(request, name)
