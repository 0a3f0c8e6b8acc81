"""What a browser takes to a provider and brings back from it."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.common.settings import OAuth2PublicSettings
from services.imap.errors import SignInNotConfigured
from services.signin.authorization import (
    AuthorizationAnswer,
    SignInSecrets,
    authorization_url,
    new_state,
    parse_answer,
    refusal_of,
    secrets_of,
)
from services.signin.clients import RedirectClient, is_issuer, redirect_client_for
from services.signin.refusals import AT_THE_BROWSER

TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"
HOSTS = {"microsoft": "outlook.office365.com", "google": "imap.gmail.com", "other": "imap.corp.example"}


def client(name: str, **changes: Any) -> RedirectClient:
    return redirect_client_for(HOSTS[name], OAuth2PublicSettings.model_validate({name: {"client_id": "c", **changes}}))


def test_the_challenge_is_the_one_of_the_standard() -> None:
    # RFC 7636, appendix B.
    sign_in = SignInSecrets("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "")
    assert sign_in.challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_verifier_and_nonce_belong_to_one_session_and_one_state() -> None:
    states = [new_state() for _ in range(3)]
    derived = [secrets_of(token, state) for token in ("rrs_a", "rrs_b") for state in states]
    values = {value for sign_in in derived for value in (sign_in.verifier, sign_in.nonce)}
    assert len(values) == 12 and all(len(value) == 43 for value in values)
    assert secrets_of("rrs_a", states[0]) == derived[0]
    assert derived[0].verifier not in repr(derived[0]) and derived[0].nonce not in repr(derived[0])


@pytest.mark.parametrize(
    ("name", "origin", "expected"),
    [
        (
            "microsoft", "https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
            {"prompt": "select_account", "scope": "https://outlook.office.com/IMAP.AccessAsUser.All offline_access openid email profile"},
        ),
        (
            "google", "https://accounts.google.com/o/oauth2/v2/auth",
            {"prompt": "consent select_account", "access_type": "offline", "scope": "https://mail.google.com/ openid email"},
        ),
    ],
)  # fmt: skip
def test_the_address_of_each_provider(name: str, origin: str, expected: dict[str, str]) -> None:
    state = new_state()
    sign_in = secrets_of("rrs_a", state)
    url = authorization_url(
        client(name), f"https://r.example/connect/sign-in/callback/{name}", state, sign_in, "a+b@mail.test"
    )
    assert url.startswith(f"{origin}?")
    assert parse_qs(urlsplit(url).query) == {
        name: [value]
        for name, value in {
            "response_type": "code", "client_id": "c", "redirect_uri": f"https://r.example/connect/sign-in/callback/{name}",
            "state": state, "code_challenge": sign_in.challenge, "code_challenge_method": "S256", "nonce": sign_in.nonce,
            "login_hint": "a+b@mail.test", **expected,
        }.items()
    }  # fmt: skip
    assert sign_in.verifier not in url


def test_a_provider_without_id_tokens_is_asked_for_none() -> None:
    without_issuer = client(
        "other", hosts="imap.corp.example", authorize_url="https://corp.example/auth?x=1", scopes="mail"
    )
    url = authorization_url(without_issuer, "https://r.example/", "s", secrets_of("t", "s"), "a@b.example")
    assert url.startswith("https://corp.example/auth?x=1&")
    assert parse_qs(urlsplit(url).query)["scope"] == ["mail"] and "nonce" not in url


def test_a_provider_without_an_authorization_endpoint_has_no_sign_in_by_redirect() -> None:
    with pytest.raises(SignInNotConfigured, match="OTHER__AUTHORIZE_URL"):
        client("other", hosts="imap.corp.example")
    with pytest.raises(SignInNotConfigured, match="CLIENT_ID"):
        redirect_client_for("imap.gmail.com", OAuth2PublicSettings.model_validate({}))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ([("state", "s"), ("code", "c")], ("c", None, None)),
        ([("state", "s"), ("code", "c"), ("iss", "https://i"), ("session_state", "x")], ("c", None, "https://i")),
        ([("state", "s"), ("error", "access_denied")], (None, "access_denied", None)),
        ([("state", "s")], None),
        ([("code", "c")], None),
        ([("state", ""), ("code", "c")], None),
        ([("state", "s"), ("code", "c"), ("error", "access_denied")], None),
        ([("state", "s"), ("code", "c"), ("code", "d")], None),
        ([("state", "s"), ("state", "t"), ("code", "c")], None),
        ([("state", "s"), ("code", "c"), ("iss", "https://i"), ("iss", "https://j")], None),
        ([("state", "s"), ("code", "")], None),
        ([("state", "s"), ("code", "c d")], None),
        ([("state", "s"), ("code", "c\r\nSet-Cookie: x")], None),
        ([("state", "s"), ("code", "c" * 9000)], None),
        ([("state", "s" * 17_000), ("code", "c")], None),
        ([], None),
    ],
)
def test_answers_and_what_is_none(parameters: list[tuple[str, str]], expected: tuple[Any, ...] | None) -> None:
    answer = parse_answer(parameters)
    assert (None if answer is None else (answer.code, answer.error, answer.issuer)) == expected


def answer(error: str | None = None, description: str = "", issuer: str | None = None) -> AuthorizationAnswer:
    return AuthorizationAnswer("s", None if error else "c", error, description, issuer)


@pytest.mark.parametrize(
    ("name", "given", "code"),
    [
        ("microsoft", answer(), None),
        ("microsoft", answer(issuer=f"https://login.microsoftonline.com/{TENANT}/v2.0"), None),
        ("microsoft", answer(issuer="https://login.microsoftonline.com/common/v2.0"), "issuer-differs"),
        ("microsoft", answer(issuer=f"https://login.microsoftonline.com/{TENANT}/v2.0/"), "issuer-differs"),
        ("microsoft", answer(issuer="https://accounts.google.com"), "issuer-differs"),
        ("microsoft", answer("access_denied", issuer="https://accounts.google.com"), "issuer-differs"),
        ("google", answer(issuer="https://accounts.google.com"), None),
        ("google", answer(issuer=""), "issuer-differs"),
        ("microsoft", answer("access_denied"), "sign-in-declined"),
        ("microsoft", answer("access_denied", "AADSTS65004: the user declined"), "sign-in-declined"),
        (
            "microsoft",
            answer("access_denied", "AADSTS90094: an administrator has set a policy"),
            "admin-consent-needed",
        ),
        ("microsoft", answer("consent_required", "AADSTS65001: not consented"), "admin-consent-needed"),
        ("google", answer("admin_policy_enforced"), "admin-consent-needed"),
        ("google", answer("access_denied", "AADSTS90094: not Google's"), "sign-in-declined"),
        ("google", answer("server_error"), "sign-in-unavailable"),
        ("google", answer("temporarily_unavailable"), "sign-in-unavailable"),
        ("google", answer("unauthorized_client"), "client-refused"),
        ("google", answer("invalid_scope"), "client-refused"),
        ("google", answer("something_else"), "sign-in-incomplete"),
        ("google", answer("<script>"), "sign-in-incomplete"),
    ],
)
def test_each_answer_has_its_code(name: str, given: AuthorizationAnswer, code: str | None) -> None:
    assert refusal_of(given, client(name)) == code
    assert code is None or code in AT_THE_BROWSER


def test_a_tenant_that_is_configured_by_its_id_is_the_only_issuer() -> None:
    assert is_issuer(client("microsoft", tenant=TENANT).issuer, f"https://login.microsoftonline.com/{TENANT}/v2.0")
    another_tenant = "https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000/v2.0"
    assert not is_issuer(client("microsoft", tenant=TENANT).issuer, another_tenant)
    assert is_issuer(client("microsoft", tenant="contoso.com").issuer, another_tenant)
