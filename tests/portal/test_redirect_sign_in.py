"""Sign-in by redirect over HTTP: a real web process and fetcher, an OpenID provider, a mail server that accepts its tokens."""

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
import pytest
from playwright.sync_api import Request

from services.common.language import Language
from services.common.postgres import connect
from services.connect import texts
from services.portal.pages.cookies import Draft
from services.portal.pages.texts import text
from services.registry.connect_requests import ConnectRequests
from services.registry.sealing import OpeningKeys
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.profiles import OUTLOOK
from tests.imap_lab.server import LabServer
from tests.imap_lab.world import fill
from tests.support.browser_lab import UNLISTED, Visit
from tests.support.builders import now
from tests.support.connect_lab import Browser, ConnectLab, add_account, running_fetcher
from tests.support.fetcher_lab import Lab, Server, make_lab
from tests.support.portal_lab import MakePortal, make_portal, portal_dsn
from tests.support.provider_lab import Serve, serve
from tests.support.sign_in_provider import SignInProvider

__all__ = ["make_lab", "make_portal", "portal_dsn", "serve"]

ADDRESS = "seller@corp.test"
CALLBACK = "/connect/sign-in/callback/other"
MICROSOFT, GOOGLE = "login.microsoftonline.com", "accounts.google.com"


@dataclass
class SignInPages:
    """The connect page beside a provider. The web process has the client's id, and the fetcher its secret as well."""

    connect_lab: ConnectLab
    provider: SignInProvider
    server: LabServer

    def seller(self, language: Language = "en", address: str = ADDRESS, **wanted: Any) -> Browser:
        """A browser of a seller who has consented and entered an address."""
        browser = self.connect_lab.seller(language=language, **wanted)
        return browser.fill_in("/connect/address", address=address).until_finished()

    def leave(self, browser: Browser, **values: Any) -> str:
        """Start a sign-in; the address of the provider to which the page leads."""
        actions = ("/connect/login", "/connect/sign-in")
        form = next(form for form in browser.page.forms if form.action in actions and "csrf" in form.values)
        typed = {"host": "localhost", "port": str(self.server.port), **values}
        browser.post("/connect/sign-in", form.values | typed)
        assert browser.status == 200, browser.answer.text
        refresh = browser.page.refresh
        assert refresh is not None
        return refresh.partition(";url=")[2]

    def come_back(self, browser: Browser, location: str) -> Browser:
        """Follow the provider back to the page."""
        origin = self.connect_lab.portal.origin
        assert location.startswith(f"{origin}{CALLBACK}?"), location
        return browser.get(location.removeprefix(origin))

    def requests(self) -> int:
        """How many requests to connect a mailbox there are."""
        with connect(self.connect_lab.lab.dsn, "tests") as connection:
            count = connection.execute(
                "SELECT count(*) FROM registry.connect_requests WHERE purpose IN ('connect', 'reconnect')"
            ).fetchone()
        return 0 if count is None else int(count[0])


MakePages = Callable[..., SignInPages]


@pytest.fixture
def make_pages(
    make_lab: Callable[[Server], Lab], make_portal: MakePortal, serve: Serve, ca: CertificateAuthority
) -> Iterator[MakePages]:
    with ExitStack() as stack:

        def make(*, with_fetcher: bool = True, **options: Any) -> SignInPages:
            server = serve(OUTLOOK)
            server.user = ADDRESS
            fill(server, [now() - timedelta(days=20), now() - timedelta(hours=3)])
            provider = stack.enter_context(SignInProvider(ca, **options))
            server.access_tokens = provider.given
            lab = make_lab(server)
            add_account(lab.dsn)
            settings = provider.settings()
            secret = {name: settings.pop(name) for name in ("client_secret", "token_url")}
            public = {
                f"OAUTH2__OTHER__{name.upper()}": value if isinstance(value, str) else ",".join(value)
                for name, value in settings.items()
            }
            public |= {f"OAUTH2__{name}__CLIENT_ID": "our-client" for name in ("MICROSOFT", "GOOGLE")}
            secret = {f"OAUTH2__OTHER__{name.upper()}": value for name, value in secret.items()}
            portal = stack.enter_context(make_portal(**public))
            lab.environ |= {f"REPLYRATE_{name}": value for name, value in (public | secret).items()}
            lab.environ["REPLYRATE_OAUTH2__CA_FILE"] = str(ca.ca_file)
            if with_fetcher:
                stack.enter_context(running_fetcher(lab))
            return SignInPages(ConnectLab(lab.dsn, portal, lab, server), provider, server)

        yield make


@pytest.fixture
def pages(make_pages: MakePages) -> SignInPages:
    return make_pages()


@pytest.mark.parametrize(
    ("language", "heading", "button"),
    [("en", "Your mailbox is connected", "Sign in at your provider"), ("zh", "邮箱已连接", "在服务商处登录")],
)
def test_a_seller_signs_in_instead_of_typing_a_password(
    pages: SignInPages, language: Language, heading: str, button: str
) -> None:
    browser = pages.seller(language)
    assert browser.shows(button)
    url = pages.leave(browser)
    query = parse_qs(urlsplit(url).query)
    assert query["login_hint"] == [ADDRESS] and query["code_challenge_method"] == ["S256"]
    location = pages.provider.sign_in(url, ADDRESS)
    pages.come_back(browser, location).until_finished()
    assert browser.heading == heading, browser.answer.text
    with pages.connect_lab.lab.registry() as registry:
        [mailbox] = registry.mailboxes.summaries("c1")
        [given] = registry.mailboxes.details("c1", mailbox["mailbox_id"])["consents"]
    assert (mailbox["state"], mailbox["login_kind"]) == ("active", "oauth2")
    assert given["consented_by"] == "Li Wei" and given["session_id"]
    # The callback for the second time: nothing happens again, and an honest person finds the result.
    pages.come_back(browser, location)
    assert browser.status == 409 and pages.requests() == 1
    result = next(link for link in browser.page.links.values() if link.startswith("/connect/requests/"))
    assert browser.get(result).heading == heading
    for log_file in (pages.connect_lab.portal.process.log, pages.connect_lab.lab.folder / "fetcher.log"):
        log = log_file.read_text("utf-8")
        assert "started" in log or "answering" in log
        assert ADDRESS not in log and "canary" not in log and query["state"][0] not in log


def test_another_account_is_named_and_an_alias_is_confirmed(pages: SignInPages) -> None:
    browser = pages.seller(address="sales@corp.test")
    pages.come_back(browser, pages.provider.sign_in(pages.leave(browser), ADDRESS)).until_finished()
    assert browser.heading == "Your mailbox is not connected yet"
    assert browser.shows("You signed in as s***@corp.test.")
    assert browser.shows("Sign in with the account of the address.")
    browser.fill_in("/connect/sign-in")
    refresh = browser.page.refresh
    assert refresh is not None
    pages.come_back(browser, pages.provider.sign_in(refresh.partition(";url=")[2], ADDRESS)).until_finished()
    assert browser.heading == "Your mailbox is connected", browser.answer.text


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_no_alias_is_confirmed_where_the_link_names_the_address(pages: SignInPages, language: Language) -> None:
    browser = pages.seller(language, "sales@corp.test", expected_address="sales@corp.test")
    csrf = next(form.values["csrf"] for form in browser.page.forms if "csrf" in form.values)
    pages.come_back(browser, pages.provider.sign_in(pages.leave(browser), ADDRESS)).until_finished()
    result = browser.path
    assert browser.shows(sentence("identity-differs", language))
    assert "/connect/sign-in" not in [form.action for form in browser.page.forms]
    assert browser.shows(text("sign_in.address_named", language))
    # A form that the page does not have.
    browser.post("/connect/sign-in", {"csrf": csrf, "confirms": result.rpartition("/")[2]})
    url = (browser.page.refresh or "").partition(";url=")[2]
    pages.come_back(browser, pages.provider.sign_in(url, ADDRESS)).until_finished()
    assert browser.path != result and browser.shows(sentence("identity-differs", language))
    with pages.connect_lab.lab.registry() as registry:
        assert registry.mailboxes.summaries("c1") == []


def test_without_lasting_access_the_page_says_so(make_pages: MakePages) -> None:
    pages = make_pages(gives_refresh_token=False)
    browser = pages.seller()
    pages.come_back(browser, pages.provider.sign_in(pages.leave(browser), ADDRESS)).until_finished()
    assert browser.shows(sentence("lasting-access-missing"))


def test_a_provider_that_is_away_is_not_the_sellers_fault(pages: SignInPages) -> None:
    browser = pages.seller("zh")
    location = pages.provider.sign_in(pages.leave(browser), ADDRESS)
    pages.provider.is_away = True
    pages.come_back(browser, location).until_finished()
    assert browser.shows(sentence("sign-in-unavailable", "zh"))
    pages.provider.is_away = False
    retry = next(link for link in browser.page.links.values() if link.startswith("/connect/login"))
    browser.get(retry)
    pages.come_back(browser, pages.provider.sign_in(pages.leave(browser), ADDRESS)).until_finished()
    assert browser.heading == "邮箱已连接"


def sentence(code: str, language: Language = "en") -> str:
    sentences = texts.request_sentences(code, language)
    assert sentences is not None
    return sentences[0]


def changed(location: str, **changes: str | None) -> str:
    """The callback with other parameters; None: without one."""
    parts = urlsplit(location)
    values = {name: shown[0] for name, shown in parse_qs(parts.query).items()} | changes
    query = urlencode({name: value for name, value in values.items() if value is not None})
    return parts._replace(query=query).geturl()


ANSWERS: list[tuple[dict[str, str | None], str]] = [
    ({"state": "A" * 43}, "other-session"),
    ({"state": None}, "sign-in-incomplete"),
    ({"code": None}, "sign-in-incomplete"),
    ({"error": "access_denied"}, "sign-in-incomplete"),
    ({"iss": "https://accounts.google.com"}, "issuer-differs"),
    ({"code": None, "error": "access_denied"}, "sign-in-declined"),
    ({"code": None, "error": "consent_required"}, "admin-consent-needed"),
    ({"code": None, "error": "server_error"}, "sign-in-unavailable"),
    ({"code": None, "error": "unauthorized_client"}, "client-refused"),
    ({"code": None, "error": "<b>", "error_description": "<script>alert(1)</script>"}, "sign-in-incomplete"),
]


@pytest.fixture
def pages_alone(make_pages: MakePages) -> SignInPages:
    """Without a fetcher: what is refused at the callback never reaches one."""
    return make_pages(with_fetcher=False)


def start(pages: SignInPages, browser: Browser, **values: Any) -> str:
    """Start a sign-in from any page of the session; the address of the provider."""
    browser.post(
        "/connect/sign-in",
        {"csrf": browser.page.forms[0].values["csrf"], "mailbox_address": ADDRESS, "host": "localhost", "port": "993"}
        | values,
    )
    return (browser.page.refresh or "").partition(";url=")[2]


def refused_with(browser: Browser, code: str, language: Language = "en") -> bool:
    """Whether the page refuses with this code, and leads on."""
    return (
        browser.status >= 400
        and browser.shows(sentence(code, language))
        and {"/connect/login", "/connect/address"} <= set(browser.page.links.values())
    )


def test_what_comes_back_without_access_has_its_page(pages_alone: SignInPages) -> None:
    for language in texts.LANGUAGES:
        browser = pages_alone.connect_lab.seller(language=language)
        for changes, code in ANSWERS:
            location = pages_alone.provider.sign_in(start(pages_alone, browser), ADDRESS)
            pages_alone.come_back(browser, changed(location, **changes))
            assert refused_with(browser, code, language), (changes, browser.answer.text)
            assert "<script>" not in browser.answer.text and "<b>" not in browser.answer.text
        refusal = pages_alone.provider.refuse(start(pages_alone, browser))
        assert refused_with(pages_alone.come_back(browser, refusal), "sign-in-declined", language)
    assert pages_alone.requests() == 0


def test_a_callback_belongs_to_its_session_its_browser_its_client_and_its_minutes(pages_alone: SignInPages) -> None:
    pages, lab = pages_alone, pages_alone.connect_lab
    browser, stranger, nobody = lab.seller(), lab.seller(), lab.browser()
    location = pages.provider.sign_in(start(pages, browser), ADDRESS)
    start(pages, stranger)
    assert refused_with(pages.come_back(stranger, location), "other-session")
    assert pages.come_back(nobody, location).status == 401
    # With the callback of another client.
    other_client = location.replace(CALLBACK, "/connect/sign-in/callback/google")
    assert refused_with(browser.get(other_client.removeprefix(lab.portal.origin)), "issuer-differs")
    # A state is used up by a callback that is refused.
    assert refused_with(pages.come_back(browser, location), "sign-in-used")
    # Another sign-in was started in another tab.
    first = pages.provider.sign_in(start(pages, browser), ADDRESS)
    start(pages, browser, mailbox_address="another@corp.test")
    assert refused_with(pages.come_back(browser, first), "other-session")
    # A parameter for the second time.
    location = pages.provider.sign_in(start(pages, browser), ADDRESS)
    assert refused_with(pages.come_back(browser, f"{location}&code=another"), "sign-in-incomplete")
    with connect(lab.lab.dsn, "tests") as connection:
        connection.execute("UPDATE registry.sign_ins SET expires_at = clock_timestamp() WHERE used_at IS NULL")
    assert refused_with(pages.come_back(browser, location), "sign-in-expired")
    with connect(lab.lab.dsn, "tests") as connection:
        connection.execute("UPDATE registry.portal_sessions SET ended_at = now()")
    assert pages.come_back(browser, location).status == 401
    assert pages.requests() == 0 and pages.provider.token_forms == []


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"draft": Draft(ADDRESS, "m-second", "localhost", 993)}, 404), ({"folders": ["已发送"]}, 400), ({"folders": ["A" * 5000] * 4}, 422)],
    ids=["a mailbox of another account", "folders that no form sends", "more folders than fit into a request"],
)  # fmt: skip
def test_the_cookie_of_a_sign_in_is_checked_when_it_comes_back(
    pages_alone: SignInPages, changes: dict[str, Any], status: int
) -> None:
    lab = pages_alone.connect_lab
    add_account(lab.lab.dsn, account_id="second")
    with connect(lab.lab.dsn, "tests") as connection:
        ConnectRequests(connection).publish_key(OpeningKeys(bytes(32)).current)
        connection.execute(
            "INSERT INTO registry.mailboxes (company_id, mailbox_id, account_id, role, address_masked, address_hash, host, port,"
            " login_hash, consent_by, consent_at, consent_text_version) VALUES"
            " ('c1', 'm-second', 'second', 'registered', 'o***@x.example', '', 'x.example', 993, '', 'x', now(), '2')"
        )
    browser = lab.seller()
    location = pages_alone.provider.sign_in(start(pages_alone, browser), ADDRESS)
    cookies = browser.client.cookies
    started = msgspec.json.decode(base64.urlsafe_b64decode(cookies["replyrate-sign-in"])) | changes
    cookies.delete("replyrate-sign-in")
    value = base64.urlsafe_b64encode(msgspec.json.encode(started)).decode()
    cookies.set("replyrate-sign-in", value, domain="127.0.0.1")
    assert pages_alone.come_back(browser, location).status == status, browser.answer.text
    assert browser.shows("What to do:") and pages_alone.requests() == 0


def test_a_sign_in_is_started_by_our_own_page_for_the_expected_address_and_a_known_server(
    pages_alone: SignInPages,
) -> None:
    lab = pages_alone.connect_lab
    browser = lab.seller(expected_address=ADDRESS)
    assert start(pages_alone, browser).startswith(pages_alone.provider.issuer)
    proof = browser.page.forms[0].values["csrf"]
    assert start(pages_alone, browser, mailbox_address="another@corp.test") == ""
    assert browser.path == "/connect/address"
    assert start(pages_alone, browser, host="mail.evil.test") == ""
    assert refused_with(browser, "sign-in-not-set-up")
    browser.post("/connect/sign-in", {"csrf": "guessed", "mailbox_address": ADDRESS, "host": "localhost"})
    assert browser.status == 403
    browser.post(
        "/connect/sign-in", {"csrf": proof, "mailbox_address": ADDRESS, "host": "localhost"}, Origin="https://evil.test"
    )
    assert browser.status == 403
    without_consent = lab.browser(lab.link())
    assert start(pages_alone, without_consent) == "" and without_consent.path == "/connect/consent"


@pytest.mark.parametrize(
    ("address", "button", "host", "client", "has_password"),
    [
        ("seller@outlook.com", "Sign in with Microsoft", MICROSOFT, "microsoft", False),
        ("seller@hotmail.com", "Sign in with Microsoft", MICROSOFT, "microsoft", False),
        ("seller@gmail.com", "Sign in with Google", GOOGLE, "google", True),
    ],
)
def test_microsoft_and_google_are_offered_where_a_client_is_configured(
    pages_alone: SignInPages, address: str, button: str, host: str, client: str, has_password: bool
) -> None:
    browser = pages_alone.connect_lab.seller().fill_in("/connect/address", address=address)
    assert browser.shows(button)
    assert ("/connect/login" in [form.action for form in browser.page.forms]) == has_password
    form = browser.page.forms[-1]
    browser.post("/connect/sign-in", form.values)
    url = urlsplit((browser.page.refresh or "").partition(";url=")[2])
    assert (url.scheme, url.hostname) == ("https", host)
    query = parse_qs(url.query)
    assert query["redirect_uri"] == [f"{pages_alone.connect_lab.portal.origin}/connect/sign-in/callback/{client}"]
    assert query["login_hint"] == [address]


def test_without_a_client_the_page_says_that_signing_in_is_not_set_up(
    make_lab: Callable[[Server], Lab], make_portal: MakePortal, serve: Serve
) -> None:
    server = serve(OUTLOOK)
    lab = make_lab(server)
    add_account(lab.dsn)
    with make_portal() as portal:
        browser = (
            ConnectLab(lab.dsn, portal, lab, server).seller().fill_in("/connect/address", address="seller@outlook.com")
        )
        assert browser.shows("Signing in at this provider is not set up here yet.")
        assert not [form for form in browser.page.forms if form.action == "/connect/sign-in"]


def test_the_pages_of_the_sign_in_are_accessible(pages_alone: SignInPages, visit: Visit) -> None:
    lab = pages_alone.connect_lab
    for language in texts.LANGUAGES:
        with visit(lab.portal.origin, language) as window:
            window.open(lab.link(language=language))
            window.page.locator("main button[type=submit]").click()
            window.page.locator("#name").fill("Li Wei")
            window.page.get_by_role("checkbox").check()
            window.page.locator("main button[type=submit]").click()
            window.page.locator("#address").fill("seller@outlook.com")
            window.page.locator("main button[type=submit]").click()
            window.page.locator("form[action='/connect/sign-in'] button").wait_for()
            window.look(UNLISTED)
            window.open(f"{CALLBACK}?state={'A' * 43}&code=guessed")
            window.page.get_by_role("alert").wait_for()
            window.look(UNLISTED)


def test_neither_the_token_of_a_link_nor_the_code_of_a_sign_in_is_sent_on_as_referrer(
    pages_alone: SignInPages, visit: Visit
) -> None:
    lab = pages_alone.connect_lab
    link = lab.link()
    requests: list[Request] = []

    def note(request: Request) -> None:
        requests.append(request)

    with visit(lab.portal.origin, "en") as window:
        window.page.on("request", note)
        window.open(link)
        window.page.locator("main button[type=submit]").click()
        window.page.locator("#name").fill("Li Wei")
        window.page.get_by_role("checkbox").check()
        window.page.locator("main button[type=submit]").click()
        window.page.locator("#address").wait_for()
        window.open(f"{CALLBACK}?state={'A' * 43}&code=guessed")
        window.page.get_by_role("alert").wait_for()
        window.page.wait_for_load_state("networkidle")
        referrers = {urlsplit(sent.url).path: sent.all_headers().get("referer") for sent in requests}
    assert {CALLBACK, "/static/portal.css", urlsplit(link).path} <= referrers.keys()
    assert set(referrers.values()) <= {None, f"{window.origin}/"}, referrers
