"""The way to each state of the seller's pages: `lead(state, lab, window)` leaves the window at it."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.requests import Request

from services.connect import texts
from services.connect.report import STAGES, MailboxWarning
from services.portal.pages.problems import LIMITS, PageCode, problem_page
from services.portal.security_headers import add_security_headers
from services.providers import catalog
from tests.portal.browser.panel_scenes import PANEL_SCENES
from tests.portal.browser.state_lab import ADDRESS, ADDRESSES, StateLab, failed_report, folder_list, passed_report
from tests.portal.browser.states import SIGN_IN_CODES
from tests.support.browser_lab import BrowserVisit
from tests.support.connect_lab import COMPANY

Scene = Callable[[StateLab, BrowserVisit], Any]
SCENES: Final[dict[str, Scene]] = dict(PANEL_SCENES)
CALLBACK: Final = "/connect/sign-in/callback/microsoft"
PROVIDER: Final = "https://login.microsoftonline.com/"
ANSWERS: Final[dict[str, dict[str, str]]] = {
    "sign-in-declined": {"error": "access_denied"},
    "admin-consent-needed": {"error": "consent_required"},
    "sign-in-unavailable": {"error": "temporarily_unavailable"},
    "client-refused": {"error": "unauthorized_client"},
    "issuer-differs": {"code": "c", "iss": "https://accounts.google.com"},
    "sign-in-incomplete": {"code": "c", "error": "both"},
    "sign-in-expired": {"code": "c"},
    "other-session": {"code": "c", "state": "x" * 43},
}
"""What a provider answers → the page that it leads to."""


def scene(*states: str) -> Callable[[Scene], Scene]:
    """Registers the way to a state."""

    def register(way: Scene) -> Scene:
        SCENES.update(dict.fromkeys(states, way))
        return way

    return register


def lead(state: str, lab: StateLab, window: BrowserVisit) -> None:
    """Bring a window, without cookies of earlier states, to a state."""
    window.page.goto("about:blank")  # a page that follows something would load itself again
    window.page.context.clear_cookies()
    window.page.set_extra_http_headers({})
    SCENES[state](lab, window)


@scene("landing")
def _landing(lab: StateLab, window: BrowserVisit) -> None:
    window.open(f"/?lang={window.language}")


def _open_link(lab: StateLab, window: BrowserVisit, token: str) -> None:
    window.open(f"/link/{token}?lang={window.language}")


@scene("link")
def _link(lab: StateLab, window: BrowserVisit) -> None:
    _open_link(lab, window, lab.link(window, COMPANY))


@scene("link-used")
def _link_used(lab: StateLab, window: BrowserVisit) -> None:
    _open_link(lab, window, "rrl_that-does-not-exist")
    press(window, "/link/")


@scene("cookies-missing")
def _cookies_missing(lab: StateLab, window: BrowserVisit) -> None:
    _link(lab, window)
    window.page.context.clear_cookies(name="replyrate-browser")
    press(window, "/link/")


@scene("consent")
def _consent(lab: StateLab, window: BrowserVisit) -> None:
    lab.seller(window, consented=False).open("/connect/consent")


@scene("consent-errors")
def _consent_errors(lab: StateLab, window: BrowserVisit) -> None:
    _consent(lab, window)
    press(window, "/connect/consent")


@scene("address")
def _address(lab: StateLab, window: BrowserVisit) -> None:
    lab.seller(window).open("/connect/address")


@scene("address-expected")
def _address_expected(lab: StateLab, window: BrowserVisit) -> None:
    lab.seller(window, expected_address="export@qingdao-tools.com").open("/connect/address")


@scene("address-malformed")
def _address_malformed(lab: StateLab, window: BrowserVisit) -> None:
    _address(lab, window)
    window.page.fill("#address", "qingdao tools")
    press(window, "/connect/address")


@scene("address-not-expected")
def _address_not_expected(lab: StateLab, window: BrowserVisit) -> None:
    _address_expected(lab, window)
    window.page.fill("#address", ADDRESS)
    press(window, "/connect/address")


@scene("look-up")
def _look_up(lab: StateLab, window: BrowserVisit) -> None:
    _address(lab, window)
    window.page.fill("#address", ADDRESS)
    press(window, "/connect/address")


LOGINS: Final = {
    "login-authorization-code": "netease-163",
    "login-app-password": "icloud",
    "login-password": "189",
    "login-two-secrets": "exmail",
    "login-caution": "godaddy",
    "login-password-or-sign-in": "gmail",
    "login-sign-in": "outlook",
    "login-sign-in-not-offered": "microsoft-365-21vianet",
    "login-unsupported": "alibaba-chinese-site",
    "login-other-server": "",
}
"""State → a provider of the directory."""


def _login(provider_id: str) -> Scene:
    """The form of the password: at an address of the provider, or after the choice of the provider."""
    domains = [
        domain for provider in catalog.load().providers if provider.id == provider_id for domain in provider.domains
    ]

    def show(lab: StateLab, window: BrowserVisit) -> None:
        seller = lab.seller(window)
        seller.draft(f"liwei@{domains[0]}" if domains else ADDRESS)
        seller.open("/connect/login" if domains else f"/connect/login?provider={provider_id}")

    return show


SCENES.update({state: _login(provider_id) for state, provider_id in LOGINS.items()})


def _after_request(address: str, **request: Any) -> Scene:
    """The form of the password after a request."""

    def show(lab: StateLab, window: BrowserVisit) -> None:
        seller = lab.seller(window)
        seller.draft(address, host="imap.qingdao-tools.com", port=993)
        path = seller.request(**request)
        seller.open(f"/connect/login?request={path.rpartition('/')[2]}")

    return show


FOUND: Final = {
    "provider": None,
    "trusted": False,
    "servers": [{"host": "imap.qingdao-tools.com", "port": 993, "tls": "implicit"}],
}
"""The report of a look-up that found a server by its name."""
SCENES.update(
    {
        "login-server-found": _after_request(ADDRESS, purpose="look-up", state="passed", code="ok", report=FOUND),
        "login-folders": _after_request(
            ADDRESS, purpose="connect", state="failed", code="no-sent-folder", report=failed_report("no-sent-folder")
        ),
    }
)


@scene("login-errors")
def _login_errors(lab: StateLab, window: BrowserVisit) -> None:
    SCENES["login-other-server"](lab, window)
    press(window, "/connect/login")


def _progress(*, mailbox: bool = False, **request: Any) -> Scene:
    """The page of a request. `mailbox`: there is one, also if the request has not passed."""

    def show(lab: StateLab, window: BrowserVisit) -> None:
        seller = lab.seller(window)
        seller.draft(ADDRESSES.get(request.get("code", ""), ADDRESS), host="imap.qingdao-tools.com", port=993)
        mailbox_id = "m-1"
        if mailbox or (request.get("state") == "passed" and request["purpose"] != "withdraw"):
            seller.mailbox(mailbox_id)
        seller.open(seller.request(mailbox_id=mailbox_id, **request))

    return show


NOTES: Final = tuple(
    MailboxWarning(code, {"days": "40", "count": "1,000", "caution": "…", "source": "example.com", "as_of": "2026-11"})
    for code in texts.load()["warning"]
    if code != "caution"
)
SCENES.update(
    {
        "test-waiting": _progress(purpose="connect"),
        "withdrawing": _progress(purpose="withdraw"),
        "test-failed": _progress(
            purpose="connect", state="failed", code="login-refused", report=failed_report("login-refused")
        ),
        "connected": _progress(purpose="connect", state="passed", code="ok", report=passed_report()),
        "connected-notes": _progress(
            purpose="connect",
            state="passed",
            code="ok",
            report=passed_report(folders=("Sent", "Sent Items"), warnings=NOTES),
        ),
        "reconnected": _progress(purpose="reconnect", state="passed", code="ok", report=passed_report()),
        "folders-waiting": _progress(purpose="folders", mailbox=True),
        "folders": _progress(purpose="folders", state="passed", code="passed", report=folder_list()),
        "folders-not-listed": _progress(
            purpose="folders", state="failed", code="login-refused", report=failed_report("login-refused"), mailbox=True
        ),
        "folders-testing": _progress(purpose="folder-choice", state="running", stage="examine", mailbox=True),
        "folders-chosen": _progress(
            purpose="folder-choice", state="passed", code="passed", report=passed_report(folders=("Sent", "Sent/2025"))
        ),
        "folders-not-chosen": _progress(
            purpose="folder-choice",
            state="failed",
            code="folder-missing",
            report=failed_report("folder-missing"),
            mailbox=True,
        ),
        "withdrawn": _progress(purpose="withdraw", state="passed", code="ok"),
        "not-withdrawn": _progress(purpose="withdraw", state="failed", code="request-interrupted"),
    }
)
SCENES.update({f"test-{stage}": _progress(purpose="connect", state="running", stage=stage) for stage in STAGES})
SCENES.update(
    {
        f"failed-{code}": _progress(purpose="connect", state="failed", code=code, report=failed_report(code))
        for code in texts.load()["code"]
    }
)
SCENES.update(
    {
        f"failed-{code}": _progress(
            purpose="connect", state="failed", code=code, report={"identity": "s***@gmail.com", "confirm": "x"}
        )
        for code in texts.load()["request"]
    }
)


@scene("mailboxes")
def _mailboxes(lab: StateLab, window: BrowserVisit) -> None:
    seller = lab.seller(window)
    seller.mailbox("m-1")
    seller.mailbox("m-2", "export@qingdao-tools.com", state="needs_reconnect", state_reason="login-refused")
    seller.mailbox("m-3", "info@qingdao-tools.com", state="paused", state_reason="paused")
    seller.open("/connect")


@scene("mailboxes-running")
def _mailboxes_running(lab: StateLab, window: BrowserVisit) -> None:
    seller = lab.seller(window)
    seller.mailbox("m-1")
    seller.request("connect", "running", stage="login")
    seller.open("/connect")


@scene("mailboxes-reconnect")
def _mailboxes_reconnect(lab: StateLab, window: BrowserVisit) -> None:
    seller = lab.seller(window)
    seller.mailbox("m-1", state="needs_reconnect", state_reason="login-refused")
    token = lab.link(window, seller.company_id, mailbox_id="m-1")
    lab.open(window, seller.company_id, token, consented=False).open("/connect")


@scene("withdraw")
def _withdraw(lab: StateLab, window: BrowserVisit) -> None:
    seller = lab.seller(window)
    seller.open(f"/connect/mailboxes/{seller.mailbox('m-1')}/withdraw")


@scene("withdraw-errors")
def _withdraw_errors(lab: StateLab, window: BrowserVisit) -> None:
    _withdraw(lab, window)
    window.page.fill("#name", "")
    press(window, "/connect/mailboxes/")


@scene("stored")
def _stored(lab: StateLab, window: BrowserVisit) -> None:
    seller = lab.seller(window)
    seller.open(f"/connect/mailboxes/{seller.mailbox('m-1')}/stored")


@scene("ended")
def _ended(lab: StateLab, window: BrowserVisit) -> None:
    lab.seller(window).open("/connect/address")
    press(window, "/connect/end")


@scene("session-ended")
def _session_ended(lab: StateLab, window: BrowserVisit) -> None:
    window.open(f"/connect?lang={window.language}")


@scene("form-outdated")
def _form_outdated(lab: StateLab, window: BrowserVisit) -> None:
    _consent(lab, window)
    window.page.eval_on_selector("form[action='/connect/consent'] [name=csrf]", "field => { field.value = 'earlier' }")
    press(window, "/connect/consent")


@scene("form-incomplete")
def _form_incomplete(lab: StateLab, window: BrowserVisit) -> None:
    _consent(lab, window)
    window.page.eval_on_selector("#name", "field => { field.removeAttribute('maxlength') }")
    window.page.fill("#name", "x" * 2000)
    press(window, "/connect/consent")


@scene("not-found")
def _not_found(lab: StateLab, window: BrowserVisit) -> None:
    lab.seller(window).open(f"/connect/requests/r-0?lang={window.language}")


@scene("too-many")
def _too_many(lab: StateLab, window: BrowserVisit) -> None:
    seller = lab.seller(window)
    for _ in range(5):
        seller.request("connect")
    seller.open("/connect/address")
    window.page.fill("#address", ADDRESS)
    press(window, "/connect/address")


def _limit(code: PageCode) -> Scene:
    """The page of a broken limit, as the process renders it, in place of another page."""

    def way(lab: StateLab, window: BrowserVisit) -> None:
        path, query = "/connect", f"lang={window.language}"
        scope = {"type": "http", "method": "POST", "path": path, "query_string": query.encode(), "headers": []}
        answer = problem_page(Request(scope), code)
        add_security_headers(answer.headers, is_https=False)
        window.page.route(
            f"**{path}?{query}",
            lambda route: route.fulfill(
                status=answer.status_code, headers=dict(answer.headers), body=bytes(answer.body)
            ),
            times=1,
        )
        window.open(f"{path}?{query}")

    return way


SCENES.update({code: _limit(code) for code in LIMITS})


@scene("unavailable")
def _unavailable(lab: StateLab, window: BrowserVisit) -> None:
    seller = lab.seller(window)
    seller.open("/connect/address")
    window.page.fill("#address", ADDRESS)
    with lab.database() as connection:
        keys = connection.execute("DELETE FROM registry.sealing_keys RETURNING key_id, public_key").fetchall()
        press(window, "/connect/address")
        for key in keys:
            connection.execute("INSERT INTO registry.sealing_keys (key_id, public_key) VALUES (%s, %s)", key)


@scene("failed")
def _failed(lab: StateLab, window: BrowserVisit) -> None:
    seller = lab.seller(window)
    with lab.database() as connection:
        connection.execute("ALTER TABLE registry.mailboxes RENAME COLUMN host TO removed_host")
        seller.open(f"/connect?lang={window.language}")
        connection.execute("ALTER TABLE registry.mailboxes RENAME COLUMN removed_host TO host")


def press(window: BrowserVisit, action: str) -> None:
    """The button of the form that goes to `action`, or to what begins with it."""
    window.page.click(f"form[method='post'][action^='{action}'] button[type=submit]")


@scene("sign-in-leave")
def _leave(lab: StateLab, window: BrowserVisit) -> None:
    """The provider answers 204, with which a browser stays where it is."""
    window.allowed_origins.append(PROVIDER)
    window.page.route(f"{PROVIDER}**", lambda route: route.fulfill(status=204))
    SCENES["login-sign-in"](lab, window)
    with window.page.expect_request(f"{PROVIDER}**"):
        press(window, "/connect/sign-in")


def _started_sign_in(lab: StateLab, window: BrowserVisit) -> str:
    """The state of a sign-in that this browser has started."""
    SCENES["login-sign-in"](lab, window)
    fields = window.page.locator("form[action='/connect/sign-in'] input").all()
    values = {field.get_attribute("name") or "": field.input_value() for field in fields}
    answer = window.page.request.post(
        f"{window.origin}/connect/sign-in", form=dict(values), headers={"Origin": window.origin}
    )
    url = re.search(r'content="0;url=([^"]+)"', answer.text())
    assert url is not None, answer.text()
    return parse_qs(urlsplit(unescape(url[1])).query)["state"][0]


def _come_back(answer: dict[str, str], *, is_expired: bool = False) -> Scene:
    def show(lab: StateLab, window: BrowserVisit) -> None:
        query = {"state": _started_sign_in(lab, window)} | answer
        if is_expired:
            with lab.database() as connection:
                connection.execute("UPDATE registry.sign_ins SET expires_at = clock_timestamp()")
        window.open(f"{CALLBACK}?{urlencode(query)}")

    return show


SCENES.update(
    {f"refused-{code}": _come_back(answer, is_expired=code == "sign-in-expired") for code, answer in ANSWERS.items()}
)


@scene("sign-in-used")
def _sign_in_used(lab: StateLab, window: BrowserVisit) -> None:
    callback = f"{CALLBACK}?{urlencode({'state': _started_sign_in(lab, window), 'code': 'c'})}"
    window.open(callback)
    window.open(callback)


@scene("refused-sign-in-not-set-up")
def _sign_in_not_set_up(lab: StateLab, window: BrowserVisit) -> None:
    SCENES["login-sign-in"](lab, window)
    window.page.eval_on_selector("[name=host]", "field => { field.value = 'imap.qingdao-tools.com' }")
    press(window, "/connect/sign-in")


assert {f"refused-{code}" for code in SIGN_IN_CODES} <= SCENES.keys()
