"""Sign-in with a code (device authorization grant, RFC 8628): show an address and a code, wait for the person."""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from services.common.clocks import boot_seconds
from services.common.errors import ReplyrateError
from services.imap.errors import TokenUnavailable
from services.signin.clients import OAuthClient
from services.signin.token_endpoint import TokenGrant, error_of, is_token, parse_grant, request, seconds_of

DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"


class SignInFailed(ReplyrateError):
    """A sign-in with a code was not completed; the text says what to do."""


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """A sign-in that waits for a person: `code` is typed at `url`."""

    url: str
    code: str = field(repr=False)
    seconds: float
    interval: float
    secret: str = field(repr=False)


def start_sign_in(client: OAuthClient, context: ssl.SSLContext) -> DeviceCode:
    """Start a sign-in with a code (RFC 8628 §3.1). SignInFailed when the provider offers none for mail."""
    if not client.device_url:
        raise SignInFailed(
            f"there is no sign-in with a code for mail at {client.name}; get a refresh token with the provider's own tools"
            " and pass it: --password-file FILE (docs/oauth.md)"
        )
    status, answer = request(client, client.device_url, {"scope": " ".join(client.scopes)}, context)
    if status != 200:
        raise error_of(status, answer)
    url = answer.get("verification_uri", answer.get("verification_url"))
    code, secret = answer.get("user_code"), answer.get("device_code")
    if not (_is_printable(url) and str(url).startswith("https://") and _is_printable(code) and is_token(secret)):
        raise TokenUnavailable("login", "an answer without a code or an address")
    return DeviceCode(
        url=str(url),
        code=str(code),
        seconds=seconds_of(answer.get("expires_in"), 900),
        interval=seconds_of(answer.get("interval"), 5),
        secret=str(secret),
    )


def wait_for_sign_in(
    client: OAuthClient,
    device: DeviceCode,
    context: ssl.SSLContext,
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = boot_seconds,
) -> TokenGrant:
    """Ask until the person has signed in (RFC 8628 §3.4, §3.5). SignInFailed with what to do when they do not."""
    ends, interval = monotonic() + device.seconds, device.interval
    form = {"grant_type": DEVICE_GRANT, "device_code": device.secret}
    while monotonic() + interval < ends:
        sleep(interval)
        try:
            status, answer = request(client, client.token_url, form, context)
        except TokenUnavailable:
            interval *= 2
            continue
        error = answer.get("error")
        if status == 200:
            grant = parse_grant(answer)
            if grant.refresh is None:
                raise SignInFailed(
                    "the provider gave no refresh token; request lasting access for the client (the scope offline_access)"
                )
            return grant
        if error == "authorization_pending":
            continue
        if error == "slow_down":
            interval += 5
        elif error in ("access_denied", "authorization_declined"):
            raise SignInFailed("the sign-in was declined; start again when the owner agrees")
        elif error == "expired_token":
            break
        elif status == 429 or status >= 500:
            interval *= 2
        else:
            raise error_of(status, answer)
    raise SignInFailed("the code expired before the sign-in was completed; start again for a new code")


def _is_printable(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 300 and value.isascii() and value.isprintable()
