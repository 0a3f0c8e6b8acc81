"""Claims of id tokens: who signed in, and which tokens are refused."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from services.common.settings import OAuth2PublicSettings
from services.signin.clients import redirect_client_for
from services.signin.id_token import LEEWAY_SECONDS, identities
from services.signin.refusals import SignInRefused

NOW = datetime(2026, 11, 29, tzinfo=UTC)
TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"
MICROSOFT = redirect_client_for(
    "outlook.office365.com", OAuth2PublicSettings.model_validate({"microsoft": {"client_id": "c"}})
)
GOOGLE = redirect_client_for("imap.gmail.com", OAuth2PublicSettings.model_validate({"google": {"client_id": "c"}}))
CLAIMS: dict[str, Any] = {
    "iss": "https://accounts.google.com", "aud": "c", "azp": "c", "nonce": "n", "exp": NOW.timestamp() + 60, "email": "a@gmail.com",
    "email_verified": True,
}  # fmt: skip


def token(claims: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.c2ln"


def test_the_addresses_of_the_account() -> None:
    assert identities(token(CLAIMS), GOOGLE, "n", NOW) == ("a@gmail.com",)
    microsoft = CLAIMS | {
        "iss": f"https://login.microsoftonline.com/{TENANT}/v2.0", "preferred_username": "upn@corp.example", "email": "mail@corp.example",
    }  # fmt: skip
    assert identities(token(microsoft), MICROSOFT, "n", NOW) == ("upn@corp.example", "mail@corp.example")
    assert identities(token(microsoft | {"preferred_username": "+49 170 1"}), MICROSOFT, "n", NOW) == (
        "mail@corp.example",
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"iss": "https://accounts.google.com.evil.test"}, "issuer-differs"),
        ({"iss": None}, "issuer-differs"),
        ({"aud": "another"}, "issuer-differs"),
        ({"aud": None}, "issuer-differs"),
        ({"azp": "another"}, "issuer-differs"),
        ({"aud": ["c", "another"], "azp": "another"}, "issuer-differs"),
        ({"nonce": "m"}, "other-session"),
        ({"nonce": None}, "other-session"),
        ({"nonce": "\ud800"}, "other-session"),
        ({"exp": NOW.timestamp() - LEEWAY_SECONDS - 1}, "code-expired"),
        ({"exp": "never"}, "code-expired"),
        ({"exp": None}, "code-expired"),
        ({"exp": float("nan")}, "code-expired"),
    ],
)
def test_a_token_that_is_not_for_this_sign_in_is_refused(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(SignInRefused) as refused:
        identities(token(CLAIMS | changes), GOOGLE, "n", NOW)
    assert refused.value.code == code


def test_several_audiences_need_the_party_that_the_token_was_issued_to() -> None:
    assert identities(token(CLAIMS | {"aud": ["c", "another"]}), GOOGLE, "n", NOW)
    without = {name: value for name, value in CLAIMS.items() if name != "azp"}
    assert identities(token(without), GOOGLE, "n", NOW)
    with pytest.raises(SignInRefused):
        identities(token(without | {"aud": ["c", "another"]}), GOOGLE, "n", NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"email_verified": False}, {"email_verified": "false"}, {"email": 7}, {"email": "no address"}, {"email": None},
        {"email": "a\ud800@gmail.com"}, {"email": "a\n@gmail.com"}, {"email": f"{'a' * 400}@gmail.com"},
    ],
)  # fmt: skip
def test_what_is_no_address_of_the_account(changes: dict[str, Any]) -> None:
    assert identities(token(CLAIMS | changes), GOOGLE, "n", NOW) == ()


@pytest.mark.parametrize(
    "given",
    [None, "", "a.b", "a.b.c", "a.!!.c", "a.e30.c.d", 7, [], token([]), token(7), f"a.{'W' * 60_000}.c", "a.\u00e9.c"],
)
def test_what_is_no_token(given: object) -> None:
    with pytest.raises(SignInRefused) as refused:
        identities(given, GOOGLE, "n", NOW)
    assert refused.value.code == "sign-in-unavailable"
