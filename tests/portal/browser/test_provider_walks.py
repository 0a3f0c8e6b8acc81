"""Mailboxes of different providers on the connect page, in a browser: what is filled in, the secret that is refused, and the one that works."""

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import playwright.sync_api as playwright
import pytest

from services.common.language import Language
from services.common.postgres import connect
from services.connect import texts
from services.portal.pages.texts import text
from services.providers import catalog
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.mailbox import Folder
from tests.imap_lab.profiles import ALIBABA, DOVECOT, EXMAIL, GMAIL, NETEASE, OUTLOOK, QQ, YAHOO, Defect, Profile
from tests.imap_lab.server import LabServer
from tests.imap_lab.world import fill
from tests.portal.browser.seller_steps import SellerSteps
from tests.support.browser_lab import UNLISTED, BrowserVisit, Visit
from tests.support.builders import now
from tests.support.dovecot import Dovecot
from tests.support.fetcher_lab import USER
from tests.support.provider_lab import topics
from tests.support.seller_lab import STARTTLS_PORT, MakeSellerLab, SellerLab, make_seller_lab
from tests.support.servers import USERS
from tests.support.sign_in_provider import SignInProvider

__all__ = ["make_seller_lab", "topics"]

PHONE, DESKTOP = 390, 1280
MX = {
    "firm-on-exmail.example": "mxbiz1.qq.com.", "firm-on-alibaba.example": "mxn.mxhichina.com.",
    "firm-on-microsoft.example": "firm-on-microsoft.mail.protection.outlook.com.",
}  # fmt: skip
"""Domain of a company → its MX server; nothing else shows which provider it has."""


@dataclasses.dataclass(frozen=True)
class ProviderWalk:
    """A mailbox of a provider, and the secret that its owner tries first: the web password, or a wrong one."""

    address: str
    host: str
    profile: Profile
    provider_id: str
    refused_with: str
    language: Language
    width: int


WALKS = [
    ProviderWalk("seller@gmail.com", "imap.gmail.com", GMAIL, "gmail", "app-password-needed", "en", DESKTOP),
    ProviderWalk("seller@qq.com", "imap.qq.com", QQ, "qq", "authorization-code-needed", "zh", PHONE),
    ProviderWalk("seller@163.com", "imap.163.com", NETEASE, "netease-163", "authorization-code-or-server", "zh", DESKTOP),
    ProviderWalk("seller@yahoo.com", "imap.mail.yahoo.com", YAHOO, "yahoo", "login-refused", "en", PHONE),
    ProviderWalk(
        "li@firm-on-exmail.example", "imap.exmail.qq.com", EXMAIL, "exmail", "client-password-needed", "zh", DESKTOP
    ),
    ProviderWalk(
        "li@firm-on-alibaba.example", "imap.qiye.aliyun.com", ALIBABA, "alibaba-enterprise", "login-refused", "zh", PHONE
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def provider(ca: CertificateAuthority) -> Iterator[SignInProvider]:
    """Where mailboxes at Microsoft sign in."""
    with SignInProvider(ca) as started:
        yield started


@pytest.fixture(scope="module")
def lab(make_seller_lab: MakeSellerLab, provider: SignInProvider, ca: CertificateAuthority) -> Iterator[SellerLab]:
    settings = provider.settings()
    public = {
        f"OAUTH2__MICROSOFT__{name.upper()}": value if isinstance(value, str) else ",".join(value)
        for name, value in settings.items()
        if name in ("client_id", "authorize_url", "issuer", "scopes")
    }
    secret = {f"OAUTH2__MICROSOFT__{name.upper()}": settings[name] for name in ("client_secret", "token_url")}
    lab = make_seller_lab(public, {**secret, "OAUTH2__CA_FILE": str(ca.ca_file)})
    lab.network.name_server.table |= {(domain, "MX"): [f"10 {server}"] for domain, server in MX.items()}
    with lab.fetcher():
        yield lab


def filled(server: LabServer) -> LabServer:
    """With mail that was sent."""
    fill(server, [now() - timedelta(days=20), now() - timedelta(hours=3)])
    return server


def begin(window: BrowserVisit, lab: SellerLab, address: str, width: int = DESKTOP) -> SellerSteps:
    """From the link to the page of the password, in a company of its own."""
    window.page.set_viewport_size({"width": width, "height": 844})
    steps = SellerSteps(window)
    steps.open_link(lab.link(language=window.language, company_id=f"c-{address.partition('@')[2]}"))
    steps.consent()
    steps.address(address)
    window.page.wait_for_url("**/connect/login*", timeout=60_000)
    return steps


def result(window: BrowserVisit) -> str:
    """The heading of the result, once it is there."""
    SellerSteps(window).until_finished()
    assert window.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    return window.page.inner_text("h1")


def failed_with(window: BrowserVisit, code: str) -> bool:
    """Whether the result says what a code means, and what to do; the focus is there."""
    language = window.language
    heading, said = result(window), window.page.inner_text("[role=status]")
    sentences = texts.load()["code"][code][language]
    focused = window.page.evaluate("document.activeElement.closest('[role=status]') !== null")
    parts = [part.partition("{")[0] for part in (sentences["says"], sentences.get("page", sentences["next"]))]
    return bool(heading == text("progress.title_failed", language) and focused and all(part in said for part in parts))


def connected(lab: SellerLab, host: str) -> list[tuple[int, str, str]]:
    """Port, TLS and kind of secret of the active mailboxes at a server."""
    with connect(lab.dsn, "tests") as connection:
        return connection.execute(
            "SELECT port, tls, kind FROM registry.mailboxes JOIN registry.secrets USING (company_id, mailbox_id)"
            " WHERE host = %s AND state = 'active'",
            (host,),
        ).fetchall()


@pytest.mark.parametrize("walk", WALKS, ids=[walk.provider_id for walk in WALKS])
def test_a_provider_is_recognised_and_says_which_secret_it_wants(
    lab: SellerLab, visit: Visit, walk: ProviderWalk
) -> None:
    server = filled(lab.serve(walk.host, walk.profile, walk.address))
    provider = next(entry for entry in catalog.load().providers if entry.id == walk.provider_id)
    with visit(lab.portal.origin, walk.language) as window:
        page = window.page
        steps = begin(window, lab, walk.address, walk.width)
        for secret in (server.web_password if walk.profile.web_password else "wrong", server.secret):
            shown = page.inner_text("main")
            assert provider.name in shown and provider.advice.text(walk.language) in shown
            assert page.input_value("#host") == walk.host and page.input_value("#password") == ""
            steps.login(password=secret)
            if secret != server.secret:
                assert failed_with(window, walk.refused_with), page.inner_text("main")
                steps.go_on("/connect/login")
        assert result(window) == text("progress.title_passed", walk.language), page.inner_text("main")
    assert connected(lab, walk.host) == [(993, "implicit", "password")]


def test_a_company_at_microsoft_signs_in_there(
    lab: SellerLab, provider: SignInProvider, chromium: playwright.Browser
) -> None:
    address, host = "seller@firm-on-microsoft.example", "outlook.office365.com"
    server = filled(lab.serve(host, OUTLOOK, address))
    server.access_tokens = provider.given
    # The certificate of the provider is of the tests' own authority.
    context = chromium.new_context(ignore_https_errors=True, locale="zh-CN")
    context.set_default_timeout(60_000)
    page = context.new_page()
    window = BrowserVisit(page, context.new_cdp_session(page), lab.portal.origin, "zh", "scripts")
    begin(window, lab, address)
    for action in ("deny", "allow"):
        assert page.query_selector("#password") is None, "there is no password to type"
        page.get_by_role("button", name=text("sign_in.with_microsoft", "zh")).click()
        page.wait_for_url(f"{provider.issuer}/**")
        if action == "deny":
            page.get_by_role("button", name="Deny").click()
            page.get_by_role("alert").wait_for()
            assert texts.load()["request"]["sign-in-declined"]["zh"]["says"] in page.inner_text("main")
            page.get_by_role("link", name=text("sign_in.again", "zh")).click()
    page.locator("input[name=sub]").fill(address)
    page.get_by_role("button", name="Authorize").click()
    page.wait_for_url(f"{lab.portal.origin}/connect/requests/**")
    assert result(window) == text("progress.title_passed", "zh"), page.inner_text("main")
    context.close()
    assert connected(lab, host) == [(993, "implicit", "oauth2")]


def test_the_sent_folders_are_chosen_when_there_are_several_or_none(lab: SellerLab, visit: Visit) -> None:
    host = "imap.own-server.example"
    server = lab.serve(host, DOVECOT, "seller@own-server.example")
    filled(server)
    server.folders.remove(server.sent)
    with visit(lab.portal.origin, "zh") as window:
        page = window.page
        steps = begin(window, lab, server.user, PHONE)
        page.wait_for_selector("#host")  # it answers; the seller has to confirm it
        assert page.input_value("#host") == host
        steps.login(password=server.secret)
        assert failed_with(window, "no-sent-folder"), page.inner_text("main")
        server.folders += [server.sent, Folder(b"&XfJT0ZAB-", b"")]
        steps.go_on("/connect/login")
        assert page.locator("#folders label").all_inner_texts() == ["Drafts", "Trash"]
        steps.login(password=server.secret)
        assert result(window) == text("progress.title_passed", "zh")
        assert page.locator("#progress ul").first.locator("li").count() == 2, "both are read"
        steps.press("/connect/mailboxes/")
        page.wait_for_selector("#folders", timeout=60_000)
        window.look(UNLISTED)
        for box in page.query_selector_all("#folders input:checked"):
            box.uncheck()
        page.check("#folders input[value='&XfJT0ZAB-']")
        steps.press("/connect/requests/")
        assert result(window) == text("progress.title_chosen", "zh")
        assert page.locator("#progress ul").first.locator("li").all_inner_texts() == [
            text("progress.folder", "zh", name="已发送", messages=0)
        ]
    assert connected(lab, host) == [(993, "implicit", "password")]


def test_a_server_with_starttls_alone_is_found_and_read(
    lab: SellerLab, visit: Visit, server_folder: Path, ca: CertificateAuthority
) -> None:
    dovecot = Dovecot(server_folder / "dovecot-of-walks", USERS, ca)
    dovecot.names = (*Dovecot.names, "imap.mail.test")
    with dovecot:
        lab.network.lead("imap.mail.test", {STARTTLS_PORT: dovecot.starttls_port})
        with visit(lab.portal.origin, "en") as window:
            page = window.page
            steps = begin(window, lab, USER)
            assert (page.input_value("#host"), page.input_value("#port")) == ("imap.mail.test", "143")
            assert page.is_checked("#starttls")
            steps.login(password=USERS[USER])
            assert result(window) == text("progress.title_passed", "en"), page.inner_text("main")
        assert connected(lab, "imap.mail.test") == [(143, "starttls", "password")]


def test_what_a_server_says_is_told_to_the_seller(lab: SellerLab, visit: Visit) -> None:
    """One mailbox whose server refuses for one reason after another; each page leads back to the password."""
    host = "imap.refusing.example"
    server = filled(lab.serve(host, DOVECOT, "seller@refusing.example"))
    lab.serve("imap.misnamed.example", DOVECOT, server.user, certified="imap.elsewhere.example")
    off = dataclasses.replace(DOVECOT, wrong_password=b"NO [ALERT] Your account is not enabled for IMAP use.")
    refusals = {
        Defect.UNSAFE_LOGIN: "unsafe-login", Defect.AMBIGUOUS_LOGIN: "login-unclear", Defect.LOGIN_RATE: "throttled", None: "imap-off",
    }  # fmt: skip
    with visit(lab.portal.origin, "en") as window:
        steps = begin(window, lab, server.user)
        for defect, code in refusals.items():
            server.defects = {defect} if defect else set()
            server.profile = off
            steps.login(password=server.secret if defect else "wrong")
            assert failed_with(window, code), (code, window.page.inner_text("main"))
            steps.go_on("/connect/login")
        steps.login(password=server.secret, host="imap.misnamed.example", port=993)
        assert failed_with(window, "tls-failed"), window.page.inner_text("main")
        steps.go_on("/connect/login")
        steps.login(password=server.secret)
        assert failed_with(window, "tries-spent"), window.page.inner_text("main")


def test_without_a_name_server_the_seller_enters_the_server(lab: SellerLab, visit: Visit) -> None:
    domain = "silent-dns.example"
    lab.network.name_server.failing |= {domain, f"_imaps._tcp.{domain}", f"_imap._tcp.{domain}"}
    server = filled(lab.serve("post.silent-dns.example", DOVECOT, f"seller@{domain}"))
    with visit(lab.portal.origin, "en") as window:
        steps = begin(window, lab, server.user)
        assert text("login.server_not_looked_up", "en") in window.page.inner_text("main")
        window.look(UNLISTED)
        steps.login(password=server.secret, host="post.no-such-server.example", port=993)
        assert failed_with(window, "host-refused"), window.page.inner_text("main")
        steps.go_on("/connect/login")
        steps.login(password=server.secret, host="post.silent-dns.example", port=993)
        assert result(window) == text("progress.title_passed", "en"), window.page.inner_text("main")
