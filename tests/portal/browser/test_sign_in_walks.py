"""Sign-in by redirect in a browser, there and back: with and without scripts, with the keyboard alone, and in Chinese with an alias.

Cookies of another site's redirects and the policy of our pages are what only a browser applies.
"""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from services.connect import texts
from services.portal.pages.texts import text
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.profiles import OUTLOOK
from tests.imap_lab.server import LabServer
from tests.imap_lab.world import fill
from tests.portal.browser.keyboard import Keyboard
from tests.portal.browser.seller_steps import SellerSteps
from tests.portal.browser.states import SCRIPTS, WIDTHS, Scripts
from tests.support.browser_lab import BrowserVisit, Visit
from tests.support.builders import now
from tests.support.provider_lab import topics
from tests.support.seller_lab import MakeSellerLab, SellerLab, make_seller_lab
from tests.support.sign_in_provider import SignInProvider

__all__ = ["make_seller_lab", "topics"]

PHONE, DESKTOP = WIDTHS
DOMAINS = (*(f"{scripts}.example" for scripts in SCRIPTS), "keyboard.example", "alias.example")
"""Of companies whose mailboxes are at one provider, with a server each."""
SIGN_IN = "button[formaction='/connect/sign-in']"


@pytest.fixture(scope="module")
def provider(ca: CertificateAuthority) -> Iterator[SignInProvider]:
    with SignInProvider(ca) as started:
        yield started


@pytest.fixture(scope="module")
def lab(make_seller_lab: MakeSellerLab, provider: SignInProvider, ca: CertificateAuthority) -> Iterator[SellerLab]:
    settings = provider.settings(hosts=tuple(f"imap.{domain}" for domain in DOMAINS))
    environ = {
        f"OAUTH2__OTHER__{name.upper()}": value if isinstance(value, str) else ",".join(value)
        for name, value in settings.items()
    }
    secret = {
        f"OAUTH2__OTHER__{name}": environ.pop(f"OAUTH2__OTHER__{name}") for name in ("CLIENT_SECRET", "TOKEN_URL")
    }
    lab = make_seller_lab(environ, {**secret, "OAUTH2__CA_FILE": str(ca.ca_file)})
    with lab.fetcher():
        yield lab


def serve(lab: SellerLab, provider: SignInProvider, domain: str) -> LabServer:
    """The server of a company, with sent mail, which accepts the tokens of the provider."""
    server = lab.serve(f"imap.{domain}", OUTLOOK, f"seller@{domain}")
    fill(server, [now() - timedelta(days=20), now() - timedelta(hours=3)])
    server.access_tokens = provider.given
    return server


def begin(window: BrowserVisit, lab: SellerLab, domain: str, width: int) -> SellerSteps:
    """From the link to the page of the address, in a company of its own."""
    window.page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    steps = SellerSteps(window)
    steps.open_link(lab.link(language=window.language, company_id=f"c-{domain}"))
    with window.page.expect_navigation():
        steps.consent()
    return steps


def authorize(window: BrowserVisit, provider: SignInProvider, account: str) -> None:
    """Sign in at the provider, which leads back to the page of the request; wait for its result."""
    page = window.page
    page.wait_for_url(f"{provider.issuer}/**")
    page.locator("input[name=sub]").fill(account)
    page.get_by_role("button", name="Authorize").click()
    page.wait_for_url(f"{window.origin}/connect/requests/**")
    SellerSteps(window).until_finished()


@pytest.mark.parametrize("scripts", SCRIPTS)
def test_the_way_there_and_back_is_open(
    lab: SellerLab, provider: SignInProvider, visit: Visit, scripts: Scripts
) -> None:
    domain = f"{scripts}.example"
    server = serve(lab, provider, domain)
    with visit(lab.portal.origin, "en", scripts, provider=provider.issuer) as window:
        page, steps = window.page, begin(window, lab, domain, DESKTOP)
        steps.address(server.user)
        steps.until_looked_up()
        page.get_by_role("button", name="Sign in at your provider").click()
        authorize(window, provider, server.user)
        assert page.inner_text("h1") == text("progress.title_passed", "en"), page.inner_text("main")
        page.go_back()
        assert page.url.startswith((window.origin, provider.issuer))
    assert lab.count(f"company_id = 'c-{domain}' AND purpose IN ('connect', 'reconnect')") == 1


def test_with_the_keyboard_alone(lab: SellerLab, provider: SignInProvider, visit: Visit) -> None:
    server = serve(lab, provider, "keyboard.example")
    with visit(lab.portal.origin, "en", provider=provider.issuer) as window:
        page, keys, steps = window.page, Keyboard(window), begin(window, lab, "keyboard.example", DESKTOP)

        def leave() -> None:
            keys.reach(SIGN_IN)
            assert keys.has_focus(f"{SIGN_IN}:focus-visible")
            keys.follow()
            page.wait_for_url(f"{provider.issuer}/**")
            page.wait_for_selector("input[name=sub]:focus")

        keys.type("#address", server.user)
        keys.follow()
        steps.until_looked_up()
        leave()
        keys.press("Tab", "Tab")
        assert page.evaluate("document.activeElement.value") == "deny"
        keys.follow()
        page.wait_for_url(f"{window.origin}/connect/sign-in/callback/**")
        assert texts.load()["request"]["sign-in-declined"]["en"]["says"] in page.inner_text("[role=alert]")
        keys.reach("main a[href='/connect/login']")
        keys.follow()
        leave()
        page.keyboard.type(server.user)
        keys.follow()
        page.wait_for_url(f"{window.origin}/connect/requests/**")
        steps.until_finished()
        assert page.inner_text("h1") == text("progress.title_passed", "en"), page.inner_text("main")
        keys.reach("main a[href='/connect']")
        keys.follow()
        assert page.inner_text("h1") == text("mailboxes.title", "en")


def test_declined_another_account_and_an_alias_in_chinese_at_the_width_of_a_phone(
    lab: SellerLab, provider: SignInProvider, visit: Visit
) -> None:
    server = serve(lab, provider, "alias.example")
    sentences = texts.load()["request"]
    with visit(lab.portal.origin, "zh", provider=provider.issuer) as window:
        page, steps = window.page, begin(window, lab, "alias.example", PHONE)
        steps.address("sales@alias.example")
        steps.until_looked_up()
        page.click(SIGN_IN)
        page.wait_for_url(f"{provider.issuer}/**")
        page.get_by_role("button", name="Deny").click()
        page.wait_for_url(f"{window.origin}/connect/sign-in/callback/**")
        assert sentences["sign-in-declined"]["zh"]["says"] in page.inner_text("[role=alert]")
        window.look("refused-sign-in-declined", (PHONE,))
        page.get_by_role("link", name=text("sign_in.again", "zh")).click()
        page.click(SIGN_IN)
        authorize(window, provider, server.user)
        assert page.inner_text("h1") == text("progress.title_failed", "zh"), page.inner_text("main")
        said = page.inner_text("[role=status]")
        assert sentences["identity-differs"]["zh"]["says"] in said
        assert text("sign_in.identity", "zh", identity="s***@alias.example") in said
        window.look("failed-identity-differs", (PHONE,))
        steps.press("/connect/sign-in")
        authorize(window, provider, server.user)
        assert page.inner_text("h1") == text("progress.title_passed", "zh"), page.inner_text("main")
        window.look("connected", (PHONE,))
    assert lab.count("company_id = 'c-alias.example' AND code = 'identity-differs'") == 1
