# ruff: noqa: F811
"""Sign-in by redirect at an OpenID provider: the code becomes a connected mailbox, and each way in which it cannot has its code."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from services.common.postgres import connect
from services.common.settings import KafkaSettings, OAuth2Settings
from services.connect.consent import load as consent_texts
from services.connect.redirected_login import RedirectedLogin
from services.connect.request_runner import RequestResult, RequestRunner
from services.connect.tester import ConnectionTester
from services.connect.typed_login import AUTHORIZATION_CODE, TypedLogin, decode
from services.imap.host_policy import resolve
from services.registry.connect_requests import Purpose, TakenRequest
from services.registry.tokens import RegistryTokenStore
from services.registry.vault import Vault
from services.signin.access_tokens import AccessTokens
from services.signin.authorization import (
    AuthorizationAnswer,
    authorization_url,
    new_state,
    parse_answer,
    refusal_of,
    secrets_of,
)
from services.signin.clients import RedirectClient, redirect_client_for
from services.signin.code_exchange import ReturnedCode
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.profiles import OUTLOOK
from tests.imap_lab.server import LabServer
from tests.imap_lab.world import fill
from tests.support.builders import now
from tests.support.provider_lab import HASHER, Lab, Serve, serve, topics  # noqa: F401
from tests.support.sign_in_provider import SignInProvider
from tests.support.token_endpoint import TokenEndpoint

REDIRECT_URI = "https://replies.example/connect/sign-in/callback/microsoft"
SESSION_TOKEN = "rrs_session-canary"
TAKEN = TakenRequest("r-1", "c1", "main", "m-0123456789ab", "connect", b"", 1, datetime.now(UTC) - timedelta(seconds=1))


@dataclass
class SignInLab:
    """A registry, a mail server and a provider; `run` is what a fetcher does with what the browser brought back."""

    lab: Lab
    server: LabServer
    provider: SignInProvider
    oauth2: OAuth2Settings
    tokens: AccessTokens

    def use(self, name: str, client: dict[str, Any]) -> None:
        """Use other settings of clients."""
        self.oauth2 = OAuth2Settings.model_validate({name: client, "ca_file": self.oauth2.ca_file})
        self.tokens = AccessTokens(self.oauth2)

    @property
    def client(self) -> RedirectClient:
        return redirect_client_for("localhost", self.oauth2)

    def address(self, state: str, **changes: Any) -> str:
        return authorization_url(
            replace(self.client, **changes), REDIRECT_URI, state, secrets_of(SESSION_TOKEN, state), self.server.user
        )

    def returned(self, account: str | None = None, **changes: Any) -> ReturnedCode:
        """What the browser brings back after somebody signed in."""
        state = new_state()
        answer = read(self.provider.sign_in(self.address(state), account or self.server.user))
        assert answer.state == state and refusal_of(answer, self.client) is None and answer.code is not None
        sign_in = secrets_of(SESSION_TOKEN, state)
        values = {
            "client": self.client.name, "code": answer.code, "verifier": sign_in.verifier, "nonce": sign_in.nonce,
            "redirect_uri": REDIRECT_URI,
        }  # fmt: skip
        return ReturnedCode(**(values | changes))

    def run(
        self, returned: ReturnedCode, *, purpose: Purpose = "connect", tries: int = 1, **changes: Any
    ) -> RequestResult:
        typed = TypedLogin(
            **{
                "address": self.server.user, "password": "", "consent_by": "seller 1", "language": "en", "host": "localhost",
                "text_version": consent_texts().current.version, "port": self.server.port, "kind": AUTHORIZATION_CODE,
                "sign_in": returned, **changes,
            }
        )  # fmt: skip
        imap = self.lab.settings(self.server).imap
        runner = RequestRunner(
            imap,
            ConnectionTester(imap, resolve, "0", tokens=self.tokens),
            sign_in=RedirectedLogin(self.oauth2, HASHER, self.tokens, lambda: datetime.now(UTC)),
        )
        taken = replace(TAKEN, purpose=purpose, tries=tries)
        with connect(self.lab._dsn, "tests") as connection:
            return runner.run(self.lab.registry(connection), taken, decode(typed.encoded()), lambda _: None)

    def mailboxes(self) -> list[dict[str, Any]]:
        with connect(self.lab._dsn, "tests") as connection:
            return self.lab.registry(connection).mailboxes.summaries("c1")

    def stored_token(self) -> str | None:
        with connect(self.lab._dsn, "tests") as connection:
            return RegistryTokenStore(connection, Vault(bytes(range(32))), "c1", TAKEN.mailbox_id).read()


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """What our code logged; the provider logs in the same process."""
    return "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("services."))


def read(location: str) -> AuthorizationAnswer:
    assert location.startswith(f"{REDIRECT_URI}?")
    answer = parse_answer(parse_qsl(urlsplit(location).query))
    assert answer is not None
    return answer


Make = Callable[..., AbstractContextManager[SignInLab]]


@pytest.fixture
def make(dsn: str, topics: KafkaSettings, tmp_path: Path, ca: CertificateAuthority, serve: Serve) -> Make:
    @contextmanager
    def start(changes: dict[str, Any] | None = None, **options: Any) -> Iterator[SignInLab]:
        lab = Lab(dsn, topics, tmp_path, ca)
        server = serve(OUTLOOK)
        fill(server, [now() - timedelta(days=20), now() - timedelta(hours=3)])
        with connect(dsn, "tests") as connection:
            registry = lab.registry(connection)
            registry.companies.add("c1")
            registry.accounts.add("c1", "main")
        with SignInProvider(ca, **options) as provider:
            server.access_tokens = provider.given
            settings = {"microsoft": provider.settings(**(changes or {})), "ca_file": ca.ca_file}
            oauth2 = OAuth2Settings.model_validate(settings)
            yield SignInLab(lab, server, provider, oauth2, AccessTokens(oauth2))

    return start


@pytest.fixture
def signing_in(make: Make) -> Iterator[SignInLab]:
    with make() as lab:
        yield lab


def test_a_seller_signs_in_and_the_mailbox_is_connected(
    signing_in: SignInLab, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    result = signing_in.run(signing_in.returned())
    assert (result.passed, result.code, result.mailbox_id) == (True, "passed", TAKEN.mailbox_id)
    [mailbox] = signing_in.mailboxes()
    assert (mailbox["state"], mailbox["login_kind"]) == ("active", "oauth2")
    [form] = signing_in.provider.token_forms
    assert set(form) == {"grant_type", "code", "redirect_uri", "code_verifier", "client_id", "client_secret"}
    assert signing_in.stored_token() not in (None, "", form["code"])
    [query] = signing_in.provider.authorize_queries
    assert query["scope"] == "phone openid email profile"
    assert (query["prompt"], query["login_hint"]) == ("select_account", signing_in.server.user)
    for secret in (form["code"], form["code_verifier"], "canary", signing_in.server.user):
        assert secret not in logged(caplog) and secret not in str(result)


def test_a_mailbox_that_was_connected_signs_in_again(signing_in: SignInLab) -> None:
    assert signing_in.run(signing_in.returned()).passed
    first = signing_in.stored_token()
    again = signing_in.run(signing_in.returned(), purpose="reconnect")
    assert again.passed and signing_in.stored_token() not in (None, first)


def test_another_account_is_refused_before_anything_is_stored_and_named_masked(signing_in: SignInLab) -> None:
    result = signing_in.run(signing_in.returned("somebody@else.test"))
    assert (result.passed, result.code) == (False, "identity-differs")
    assert result.report is not None and result.report["identity"] == "s***@else.test"
    assert signing_in.mailboxes() == [] and signing_in.server.bearers == []


def test_an_alias_is_connected_once_its_owner_confirms_it(signing_in: SignInLab) -> None:
    alias = "sales@mail.test"
    refused = signing_in.run(signing_in.returned(), address=alias)
    assert refused.code == "identity-differs" and refused.report is not None
    confirmed = signing_in.returned(confirmed_identity=refused.report["confirm"])
    assert signing_in.run(confirmed, address=alias).passed
    [mailbox] = signing_in.mailboxes()
    assert mailbox["address_masked"] == "s***@mail.test"
    assert len(signing_in.server.bearers) == 1, "the user at the mail server is the account that signed in"


def test_a_confirmation_is_for_the_account_that_was_shown(signing_in: SignInLab) -> None:
    refused = signing_in.run(signing_in.returned("first@else.test"))
    assert refused.report is not None
    second = signing_in.returned("second@else.test", confirmed_identity=refused.report["confirm"])
    result = signing_in.run(second)
    assert result.code == "identity-differs" and result.report is not None
    assert result.report["confirm"] != refused.report["confirm"]


def test_the_account_may_be_named_by_another_claim(signing_in: SignInLab) -> None:
    signing_in.provider.name_account(
        "account-1", preferred_username=signing_in.server.user.upper(), email="a@else.test"
    )
    assert signing_in.run(signing_in.returned("account-1")).passed


def test_an_address_that_the_provider_did_not_verify_is_none(signing_in: SignInLab) -> None:
    signing_in.provider.name_account("account-1", email=signing_in.server.user, email_verified=False)
    assert signing_in.run(signing_in.returned("account-1")).code == "sign-in-incomplete"


def test_a_token_of_another_account_does_not_open_the_mailbox_whatever_its_claims_say(signing_in: SignInLab) -> None:
    signing_in.server.access_tokens = set()
    result = signing_in.run(signing_in.returned())
    assert (result.passed, result.code) == (False, "oauth2-login-refused")


def test_without_a_refresh_token_nothing_is_connected(make: Make) -> None:
    with make(gives_refresh_token=False) as lab:
        assert lab.run(lab.returned()).code == "lasting-access-missing"
        assert lab.mailboxes() == []


def test_consent_that_is_refused_comes_back_as_such(signing_in: SignInLab) -> None:
    answer = read(signing_in.provider.refuse(signing_in.address(new_state())))
    assert answer.code is None and refusal_of(answer, signing_in.client) == "sign-in-declined"


def test_an_answer_of_another_issuer_is_refused(signing_in: SignInLab) -> None:
    answer = read(signing_in.provider.sign_in(signing_in.address(new_state()), signing_in.server.user))
    assert answer.issuer == signing_in.provider.issuer
    assert refusal_of(answer, replace(signing_in.client, issuer="https://other.test")) == "issuer-differs"


def test_a_code_goes_to_the_provider_of_the_mail_server_only(signing_in: SignInLab) -> None:
    result = signing_in.run(signing_in.returned(client="google"))
    assert result.code == "issuer-differs" and signing_in.provider.token_forms == []
    unknown = signing_in.run(signing_in.returned(), host="127.0.0.1")
    assert unknown.code == "sign-in-not-set-up" and signing_in.provider.token_forms == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"verifier": "v" * 43}, "code-expired"),
        ({"code": "guessed"}, "code-expired"),
        ({"redirect_uri": "https://replies.example/other"}, "code-expired"),
        ({"nonce": "n" * 43}, "other-session"),
    ],
)
def test_what_does_not_belong_together_is_refused(signing_in: SignInLab, changes: dict[str, str], code: str) -> None:
    assert signing_in.run(signing_in.returned(**changes)).code == code
    assert signing_in.mailboxes() == []


def test_a_code_is_used_once_and_a_fetcher_that_fell_silent_did_not_use_it_in_vain(signing_in: SignInLab) -> None:
    returned = signing_in.returned()
    assert signing_in.run(returned).passed
    assert signing_in.run(returned).code == "code-expired"
    again = signing_in.run(returned, tries=2)
    assert (again.passed, again.mailbox_id) == (True, TAKEN.mailbox_id)


def test_a_token_endpoint_that_is_away_has_its_code(signing_in: SignInLab) -> None:
    returned = signing_in.returned()
    signing_in.provider.is_away = True
    assert signing_in.run(returned).code == "sign-in-unavailable"
    signing_in.provider.is_away = False
    assert signing_in.run(returned).passed, "the same code, since it was not used"


def test_a_redirect_uri_that_is_not_registered_never_leads_back(make: Make) -> None:
    with make(registered_clients=True) as lab:
        client = lab.provider.register("https://replies.example/connect/sign-in/callback/other")
        page = lab.provider.page(lab.address(new_state(), client_id=client["client_id"]))
        assert page.status_code == 400 and "Location" not in page.headers


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((400, {"error": "redirect_uri_mismatch"}), "client-refused"),
        ((401, {"error": "invalid_client"}), "client-refused"),
        ((400, {"error": "invalid_grant", "error_description": "AADSTS65001: canary"}), "admin-consent-needed"),
        ((400, {"error": "invalid_grant", "error_description": "AADSTS70008: canary"}), "code-expired"),
        ((429, {}), "sign-in-unavailable"),
        ((200, {"access_token": "a", "id_token": "a.b"}), "sign-in-unavailable"),
        ((200, b"not JSON"), "sign-in-unavailable"),
    ],
)
def test_each_answer_of_a_token_endpoint_has_its_code(
    make: Make, ca: CertificateAuthority, answer: tuple[int, Any], code: str, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    with TokenEndpoint(ca) as endpoint, make({"token_url": endpoint.url()}) as lab:
        endpoint.script = [answer]
        result = lab.run(lab.returned())
        assert (result.passed, result.code) == (False, code)
        assert "canary" not in logged(caplog) and "canary" not in str(result)


def test_access_to_mail_that_was_unticked_is_noticed(make: Make, ca: CertificateAuthority) -> None:
    with TokenEndpoint(ca) as endpoint, make() as lab:
        endpoint.script = [(200, {"access_token": "a", "refresh_token": "r", "scope": "openid email"})]
        lab.use("google", lab.provider.settings(token_url=endpoint.url(), scopes=("https://mail.google.com/",)))
        result = lab.run(ReturnedCode("google", "code", "v" * 43, "n" * 43, REDIRECT_URI))
        assert result.code == "sign-in-declined"


def test_a_provider_without_id_tokens_leaves_it_to_its_mail_server_who_signed_in(
    make: Make, ca: CertificateAuthority
) -> None:
    with TokenEndpoint(ca) as endpoint, make() as lab:
        lab.use("other", lab.provider.settings(token_url=endpoint.url(), issuer=None))
        lab.server.access_tokens = endpoint.given
        returned = ReturnedCode("other", "code", "v" * 43, "n" * 43, REDIRECT_URI)
        assert lab.run(returned).passed
        lab.server.access_tokens = set()
        assert lab.run(returned, purpose="test").code == "oauth2-login-refused"
