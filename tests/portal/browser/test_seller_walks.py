"""The connect page from the link to the withdrawal for further people: in Chinese at the width of a phone, and with the keyboard alone."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from services.connect import consent, texts
from services.portal.pages.texts import text
from tests.imap_lab.profiles import DOVECOT, Profile
from tests.imap_lab.server import LabServer
from tests.imap_lab.world import fill
from tests.portal.browser.keyboard import Keyboard
from tests.portal.browser.seller_steps import SellerSteps
from tests.support.browser_lab import Visit
from tests.support.builders import now
from tests.support.provider_lab import topics
from tests.support.seller_lab import MakeSellerLab, SellerLab, make_seller_lab

__all__ = ["make_seller_lab", "topics"]

PLATFORM = "https://marketplace.example/mailboxes"


@pytest.fixture(scope="module")
def lab(make_seller_lab: MakeSellerLab) -> Iterator[SellerLab]:
    lab = make_seller_lab()
    with lab.fetcher():
        yield lab


def serve(lab: SellerLab, domain: str, profile: Profile = DOVECOT) -> LabServer:
    """A server of a company's own, with sent mail."""
    server = lab.serve(f"imap.{domain}", profile, f"seller@{domain}")
    fill(server, [now() - timedelta(days=20), now() - timedelta(hours=3)])
    return server


def test_in_chinese_at_the_width_of_a_phone(lab: SellerLab, visit: Visit) -> None:
    server = serve(lab, "phone.example")
    with visit(lab.portal.origin, "zh") as window:
        page, steps = window.page, SellerSteps(window)
        page.set_viewport_size({"width": 390, "height": 844})

        def shows(name: str) -> bool:
            """Whether the page has this heading, is in Chinese and no wider than the window."""
            fits = page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            is_chinese = page.get_attribute("html", "lang") == "zh-CN"
            return bool(fits and is_chinese and page.inner_text("h1") == text(name, "zh"))

        window.open(lab.link(language="zh", company_id="c-phone", return_url=PLATFORM))
        assert shows("link.title")
        steps.press("/link/")
        assert shows("consent.title")
        paragraph = consent.load().current.texts["zh"].split("\n\n")[0]
        assert paragraph in page.inner_text("main")
        steps.press("/connect/consent")
        assert text("consent.name_wrong", "zh") in page.inner_text("#errors")
        steps.consent("李伟")
        assert shows("address.title")
        steps.address(server.user)
        steps.until_looked_up()
        assert shows("login.title") and text("login.server_check", "zh") in page.inner_text("main")
        steps.login(password="wrong")
        steps.until_finished()
        assert shows("progress.title_failed")
        assert texts.load()["code"]["login-refused"]["zh"]["next"] in page.inner_text("[role=status]")
        steps.go_on("/connect/login")
        steps.login(password=server.secret)
        steps.until_finished()
        assert shows("progress.title_passed") and texts.phrase("visible-now", "zh") in page.inner_text(".result")
        assert page.get_attribute(f"a[href='{PLATFORM}']", "rel") == "noreferrer"
        page.click("a[href='/connect']")
        assert shows("mailboxes.title")
        page.click("a[href$='/stored']")
        assert shows("stored.title") and "李伟" in page.inner_text("main")
        page.click("main a[href='/connect']")
        page.click("a[href$='/withdraw']")
        assert shows("withdraw.title") and page.input_value("#name") == "李伟"
        steps.press("/connect/mailboxes/")
        steps.until_finished()
        assert shows("progress.title_withdrawn") and consent.load().remains["zh"][0] in page.inner_text("main")
        steps.press("/connect/end")
        assert shows("ended.title")


def test_with_the_keyboard_alone(lab: SellerLab, visit: Visit) -> None:
    server = serve(lab, "keyboard.example")
    with visit(lab.portal.origin, "en") as window:
        page, keys, steps = window.page, Keyboard(window), SellerSteps(window)
        window.open(lab.link(company_id="c-keyboard"))
        keys.press("Tab")
        assert keys.has_focus("a.skip"), "the first stop is the way past the header"
        keys.press("Enter")
        assert keys.has_focus("#content")
        keys.press("Tab")
        assert keys.has_focus("form[action^='/link/'] button")
        keys.follow()

        keys.send("/connect/consent")
        assert keys.has_focus("#errors"), "what is wrong gets the focus"
        keys.reach("#errors a")
        keys.press("Enter")
        assert keys.has_focus("#name"), "and leads to the field"
        page.keyboard.type("Li Wei")
        keys.reach("#agreed")
        keys.press("Space")
        assert page.is_checked("#agreed")
        keys.reach("#name", "Shift+Tab")
        keys.follow()  # Enter in a field sends its form

        keys.type("#address", server.user)
        keys.follow()
        steps.until_looked_up()
        keys.reach("#provider")
        page.keyboard.type("Tencent")
        assert page.eval_on_selector("#provider", "list => list.value") == "exmail"
        keys.press("Tab", "Shift+Tab", "ArrowDown", "ArrowUp")
        keys.reach(".pick button")
        keys.follow()
        assert page.input_value("#host") == "imap.exmail.qq.com"

        keys.type("#password", "wrong")
        keys.reach("details summary")
        keys.press("Enter")
        page.wait_for_selector("#host")
        keys.type("#host", f"imap.{server.user.partition('@')[2]}")
        keys.reach("#starttls")
        keys.press("Space", "Space")
        assert not page.is_checked("#starttls")
        keys.send("/connect/login")
        steps.until_finished()
        assert keys.has_focus(".summary"), "what failed gets the focus"
        keys.reach("a[href^='/connect/login']")
        keys.follow()
        keys.type("#password", server.secret)
        keys.send("/connect/login")
        steps.until_finished()
        assert page.inner_text("h1") == text("progress.title_passed", "en")

        keys.reach("main a[href='/connect']")
        keys.follow()
        keys.reach("a[href$='/withdraw']")
        keys.follow()
        keys.type("#name", "Li Wei")
        keys.follow()
        steps.until_finished()
        assert page.inner_text("h1") == text("progress.title_withdrawn", "en")
        keys.send("/connect/end")
        assert page.inner_text("h1") == text("ended.title", "en")
