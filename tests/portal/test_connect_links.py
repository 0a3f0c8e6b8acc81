"""Attacks on links and sessions: each is refused with a page that tells an honest person how to go on, and changes nothing."""

import base64
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
import psycopg
import pytest

from services.common.language import Language
from services.common.postgres import connect
from services.connect import consent
from services.portal.pages.cookies import Draft
from services.portal.pages.texts import text
from services.portal.request_limits import BODY_BYTES
from services.registry.secret_tokens import token_hash
from services.standalone.servers.imap import EmbeddedImap
from tests.support.connect_lab import (
    LEADS_AWAY,
    OTHER_SITE_PATHS,
    Browser,
    ConnectLab,
    add_account,
    make_connect_lab,
)
from tests.support.fetcher_lab import make_lab
from tests.support.portal_lab import make_portal, portal_dsn

__all__ = ["make_connect_lab", "make_lab", "make_portal", "portal_dsn"]

SECOND_REQUEST, SECOND_MAILBOX = f"r-{'0' * 32}", "m-second"
"""Of another account of the victim's company."""
STRANGE_REQUEST, STRANGE_MAILBOX = f"r-{'1' * 32}", "m-strange"
"""Of another company."""
EVIL: Final = "https://evil.example"
TABLES: Final = (
    "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables WHERE schemaname = 'registry'"
    " ORDER BY 1"
)


@dataclass(frozen=True)
class Scene:
    """A seller in a session, and an attacker with sessions for another account of the same company and for another company."""

    lab: ConnectLab
    database: psycopg.Connection
    victim: Browser
    attacker: Browser
    language: Language
    ready_at: datetime

    def link(self, **wanted: object) -> str:
        return self.lab.link(**wanted).partition("?")[0]  # type: ignore[arg-type]

    def stranger(self) -> Browser:
        return self.lab.browser(**{"accept-language": self.language})

    def says(self, name: str) -> str:
        """A text of the pages."""
        return text(name, self.language)

    def stored(self) -> dict[str, list[str]]:
        """Every row of the registry but sessions that were made after the scene: table → rows as JSON."""
        tables = [str(name) for (name,) in self.database.execute(TABLES)]
        stored = {}
        for table in tables:
            own = " WHERE created_at <= %(ready_at)s" if table == "registry.portal_sessions" else ""
            rows = self.database.execute(
                f"SELECT to_jsonb(stored)::text FROM {table} AS stored{own} ORDER BY 1".encode(),
                {"ready_at": self.ready_at},
            )
            stored[table] = [document for (document,) in rows]
        return stored

    def helps(self, browser: Browser) -> bool:
        """Whether a page says what to do: in a sentence of its own, or at the fields of its form, to which the summary leads."""
        fields = re.findall(r'href="#([^"]+)"', browser.answer.text)
        is_form = browser.shows(self.says("site.error_title")) and bool(fields)
        return browser.shows(self.says("progress.next")) or (
            is_form and all(f'id="{field}"' in browser.answer.text for field in fields)
        )

    def with_cookie(self, name: str, value: str) -> Browser:
        browser = self.stranger()
        browser.client.cookies.set(f"replyrate-{name}", value)
        return browser

    def copy_of_victim(self) -> Browser:
        browser = self.stranger()
        browser.client.cookies.update(self.victim.client.cookies)
        return browser

    def form(self, path: str, **values: str) -> Browser:
        """A form of the victim's own session with values that its page does not offer."""
        browser = self.copy_of_victim()
        browser.get(path)
        csrf = next(form.values["csrf"] for form in browser.page.forms if "csrf" in form.values)
        return browser.post(path, {"csrf": csrf, **values})


def opened(link: str, browser: Browser) -> str:
    """The link, after the browser has opened it."""
    browser.get(link).fill_in("/link/.*")
    assert browser.path == "/connect/consent"
    return link


def refused_link(scene: Scene, token: str) -> Browser:
    return scene.stranger().get(f"/link/{token}").fill_in("/link/.*")


def posted_link(scene: Scene, *, csrf: str | None = None, **headers: str) -> Browser:
    """The page of a fresh link, sent with another proof or other headers."""
    browser, link = scene.stranger(), scene.link()
    proof = browser.get(link).page.forms[-1].values["csrf"]
    return browser.post(link, {"csrf": proof if csrf is None else csrf}, **headers)


def expired_link(scene: Scene) -> Browser:
    link = scene.link()
    scene.database.execute("UPDATE registry.portal_sessions SET expires_at = now() WHERE opened_at IS NULL")
    return refused_link(scene, link.removeprefix("/link/"))


def changed_session(scene: Scene, change: str) -> Browser:
    browser = scene.lab.seller(scene.language)
    scene.database.execute(
        f"UPDATE registry.portal_sessions SET {change} WHERE session_id = (SELECT session_id FROM registry.portal_sessions"
        " ORDER BY opened_at DESC NULLS LAST LIMIT 1)".encode()
    )
    return browser.get("/connect")


def stored_hash(scene: Scene) -> str:
    link = scene.link().removeprefix("/link/")
    return token_hash(link).hex()


def after_the_end(scene: Scene) -> Browser:
    browser, link = scene.stranger(), scene.link()
    opened(link, browser)
    browser.fill_in("/connect/end")
    return browser.get(link).fill_in("/link/.*")


def other_csrf(scene: Scene) -> Browser:
    csrf = scene.attacker.get("/connect/address").page.forms[-1].values["csrf"]
    return scene.copy_of_victim().post("/connect/address", {"csrf": csrf, "address": "seller@163.com"})


def csrf_of_another_link(scene: Scene) -> Browser:
    browser = scene.stranger()
    proof = browser.get(scene.link()).page.forms[-1].values["csrf"]
    return browser.post(scene.link(), {"csrf": proof})


def victim_form(scene: Scene, **headers: str) -> Browser:
    browser = scene.copy_of_victim().get("/connect/address")
    csrf = browser.page.forms[-1].values["csrf"]
    return browser.post("/connect/address", {"csrf": csrf, "address": "seller@163.com"}, **headers)


def without_origin(browser: Browser, path: str, values: dict[str, str], **headers: str) -> Browser:
    browser.answer = browser.client.post(path, data=values, headers=headers)
    return browser


def consent_form(scene: Scene, **values: str) -> Browser:
    current = {"name": "Li Wei", "agreed": "yes", "text_version": consent.load().current.version, "text_language": "en"}
    return scene.form("/connect/consent", **(current | values))


def login_page(scene: Scene) -> Browser:
    return scene.copy_of_victim().get("/connect/address").fill_in("/connect/address", address="seller@163.com")


def login_form(page: Browser, **values: object) -> Browser:
    return page.fill_in("/connect/login", **({"password": "Typed-canary"} | values))


def with_draft(browser: Browser, mailbox_id: str) -> Browser:
    """The browser with a mailbox in the cookie of what was typed, as if it were connected again."""
    draft = Draft("seller@163.com", mailbox_id)
    cookies = browser.client.cookies
    cookies.delete("replyrate-draft")
    cookies.set("replyrate-draft", base64.urlsafe_b64encode(msgspec.json.encode(draft)).decode(), domain="127.0.0.1")
    return browser


def victim_post(scene: Scene, path: str, **values: str) -> Browser:
    csrf = scene.victim.get("/connect/address").page.forms[-1].values["csrf"]
    return scene.copy_of_victim().post(path, {"csrf": csrf, "name": "Li Wei", **values})


def sent(scene: Scene, method: str, path: str, **options: object) -> Browser:
    browser = scene.copy_of_victim()
    browser.answer = browser.client.request(method, path, headers={"Origin": browser.origin}, **options)  # type: ignore[arg-type]
    return browser


def foreign(of: str, request_id: str, mailbox_id: str) -> dict[str, tuple[int, Callable[[Scene], Browser]]]:
    """What a seller's own session asks for that belongs to others."""
    mailbox = f"/connect/mailboxes/{mailbox_id}"
    return {
        f"{of}'s request": (404, lambda scene: scene.copy_of_victim().get(f"/connect/requests/{request_id}")),
        f"{of}'s stages": (404, lambda scene: scene.copy_of_victim().get(f"/connect/requests/{request_id}/events")),
        f"{of}'s result": (404, lambda scene: scene.copy_of_victim().get(f"/connect/requests/{request_id}/result")),
        f"{of}'s request as an earlier one": (404, lambda scene: login_page(scene).get(f"/connect/login?request={request_id}")),
        f"{of}'s request as one whose identity is confirmed": (404, lambda scene: victim_post(scene, "/connect/sign-in", confirms=request_id)),
        f"{of}'s stored data": (404, lambda scene: scene.copy_of_victim().get(f"{mailbox}/stored")),
        f"{of}'s mailbox is withdrawn": (404, lambda scene: victim_post(scene, f"{mailbox}/withdraw")),
        f"{of}'s folders are listed": (404, lambda scene: victim_post(scene, f"{mailbox}/folders")),
        f"{of}'s list of folders is used": (404, lambda scene: victim_post(scene, f"/connect/requests/{request_id}/folders", folders="Sent")),
        f"{of}'s mailbox is connected again": (404, lambda scene: victim_post(scene, f"{mailbox}/reconnect")),
        f"{of}'s mailbox in the cookie of what was typed": (404, lambda scene: login_form(with_draft(login_page(scene), mailbox_id))),
    }  # fmt: skip


ATTACKS: Final[dict[str, tuple[int, Callable[[Scene], Browser]]]] = {
    "a link is opened again in another browser": (410, lambda scene: scene.stranger().get(opened(scene.link(), scene.stranger())).fill_in("/link/.*")),
    "a link is opened again after its session was ended": (410, after_the_end),
    "an expired link": (410, expired_link),
    "a forged link": (410, lambda scene: refused_link(scene, "rrl_" + "A" * 43)),
    "a link without its last character": (410, lambda scene: refused_link(scene, scene.link().removeprefix("/link/")[:-1])),
    "a link with another prefix": (410, lambda scene: refused_link(scene, scene.link().removeprefix("/link/").replace("rrl_", "rrs_"))),
    "a link in capital letters": (410, lambda scene: refused_link(scene, scene.link().removeprefix("/link/").swapcase())),
    "the hash that the database stores, as a link": (410, lambda scene: refused_link(scene, stored_hash(scene))),
    "SQL in a link": (410, lambda scene: refused_link(scene, "rrl_'%20OR%20true--")),
    "NUL in a link": (410, lambda scene: refused_link(scene, "rrl_%00")),
    "a link of 8 kB": (410, lambda scene: refused_link(scene, "rrl_" + "A" * 8000)),
    "a path in a link": (404, lambda scene: scene.stranger().get("/link/..%2f..%2fconnect")),
    "a link is opened without the cookie of its page": (400, lambda scene: scene.stranger().post(scene.link(), {"csrf": "x"})),
    "a link is opened with a malformed cookie": (400, lambda scene: scene.with_cookie("browser", "short").post(scene.link(), {"csrf": "x"})),
    "a link is opened with a cookie that the attacker chose": (403, lambda scene: scene.with_cookie("browser", "A" * 43).post(scene.link(), {"csrf": "x"})),
    "a link is opened without a proof": (403, lambda scene: posted_link(scene, csrf="")),
    "a link is opened with the proof of another link": (403, csrf_of_another_link),
    "a link is opened from another site": (403, lambda scene: posted_link(scene, Origin=EVIL)),
    "a link is opened from a page without origin": (403, lambda scene: posted_link(scene, Origin="null")),
    "a link is changed by PUT": (405, lambda scene: sent(scene, "PUT", scene.link())),
    "a link is deleted": (405, lambda scene: sent(scene, "DELETE", scene.link())),
    "a page without a session": (401, lambda scene: scene.stranger().get("/connect")),
    "a malformed session": (401, lambda scene: scene.with_cookie("session", "x.y.z").get("/connect")),
    "a guessed session": (401, lambda scene: scene.with_cookie("session", "rrs_" + "A" * 43 + ".00").get("/connect/consent")),
    "the token of a link as a session": (401, lambda scene: scene.with_cookie("session", scene.link().removeprefix("/link/") + ".00").get("/connect")),
    "a session that was never opened": (401, lambda scene: changed_session(scene, "opened_at = NULL")),
    "an expired session": (401, lambda scene: changed_session(scene, "expires_at = now()")),
    "an ended session": (401, lambda scene: changed_session(scene, "ended_at = now()")),
    "a form of another session": (403, other_csrf),
    "a form without a proof": (403, lambda scene: scene.copy_of_victim().post("/connect/address", {"address": "seller@163.com"})),
    "a form from another site": (403, lambda scene: victim_form(scene, Origin=EVIL)),
    "a form from another scheme": (403, lambda scene: victim_form(scene, Origin=scene.victim.origin.replace("http:", "https:"))),
    "a form from another port": (403, lambda scene: victim_form(scene, Origin=scene.victim.origin[:-1])),
    "a form from a page without origin": (403, lambda scene: victim_form(scene, Origin="null")),
    "a form that names no origin": (403, lambda scene: without_origin(scene.copy_of_victim(), "/connect/end", {})),
    "a form from a related site": (403, lambda scene: without_origin(scene.copy_of_victim(), "/connect/end", {}, **{"Sec-Fetch-Site": "same-site"})),
    "JSON instead of a form": (403, lambda scene: sent(scene, "POST", "/connect/address", json={"csrf": "x", "address": "a@163.com"})),
    **foreign("another account", SECOND_REQUEST, SECOND_MAILBOX),
    **foreign("another company", STRANGE_REQUEST, STRANGE_MAILBOX),
    "a form whose parts together are too long": (422, lambda scene: login_form(login_page(scene), folders=["A" * 1000] * 20)),
    "consent to another text": (422, lambda scene: consent_form(scene, text_version="1")),
    "consent in a language that is none": (422, lambda scene: consent_form(scene, text_language="xx")),
    "consent by nobody": (422, lambda scene: consent_form(scene, name=" ")),
    "a header in the name": (422, lambda scene: consent_form(scene, name="Li\r\nSet-Cookie: x=y")),
    "a name of 10 kB": (422, lambda scene: consent_form(scene, name="A" * 10_000)),
    "a header in the address": (422, lambda scene: scene.form("/connect/address", address="a@163.com\r\nX: y")),
    "markup in the address": (422, lambda scene: scene.form("/connect/address", address="<script>alert(1)</script>")),
    "an address of 1 kB": (422, lambda scene: scene.form("/connect/address", address="a" * 1000 + "@163.com")),
    "no password": (422, lambda scene: login_form(login_page(scene), password="")),
    "a line break in the password": (422, lambda scene: login_form(login_page(scene), password="x\r\nA1 LOGOUT")),
    "a port that is none": (422, lambda scene: login_form(login_page(scene), port="99999")),
    "a line break in the server": (422, lambda scene: login_form(login_page(scene), host="imap.163.com\r\nX")),
    "a folder that no server lists": (422, lambda scene: login_form(login_page(scene), folders="客户")),
    "another host": (421, lambda scene: sent_to(scene, "evil.example")),
    "two hosts": (421, lambda scene: sent_to(scene, f"evil.example, {scene.victim.origin.removeprefix('http://')}")),
    "a body that is too large": (413, lambda scene: scene.copy_of_victim().post("/connect/address", {"address": "a" * (BODY_BYTES + 1)})),
    "another address than the expected one": (422, lambda scene: scene.lab.seller(scene.language, expected_address="a@163.com").fill_in("/connect/address", address="b@163.com")),
    "a path with two slashes to another site": (404, lambda scene: scene.copy_of_victim().get("/connect//evil.example")),
}  # fmt: skip
"""What is attacked → status, and the attack.

Elsewhere, since it needs other settings, or is ignored and not refused:

- a body that arrives slowly: test_web_server.py
- pages in frames, addresses of another site in the query or in headers: test_no_page_is_framed_and_none_leads_to_an_address_of_the_request
- a return URL that is no address of a site: tests/integration/test_portal_sessions.py
- another identity than the mailbox's, states, callbacks and issuers of a sign-in: test_redirect_sign_in.py
- everything that a web process has in somebody's hands: test_power.py
"""


def sent_to(scene: Scene, host: str) -> Browser:
    browser = scene.copy_of_victim()
    browser.answer = browser.client.get("/connect", headers={"Host": host})
    return browser


@pytest.fixture
def language() -> Language:
    """Of the seller, unless a test has both."""
    return "en"


@pytest.fixture
def scene(make_connect_lab: Callable[..., ConnectLab], pymap: EmbeddedImap, language: Language) -> Iterator[Scene]:
    lab = make_connect_lab(pymap, with_fetcher=False)
    add_account(lab.lab.dsn, "c1", "second")
    add_account(lab.lab.dsn, "c2")
    victim, attacker = lab.seller(language), lab.seller(account_id="second")
    lab.seller(company_id="c2")
    with connect(lab.lab.dsn, "tests") as connection:
        connection.execute(
            "INSERT INTO registry.sealing_keys VALUES ('0123456789abcdef', decode(repeat('09', 32), 'hex'))"
        )
        for company_id, account_id, request_id, mailbox_id in (
            ("c1", "second", SECOND_REQUEST, SECOND_MAILBOX),
            ("c2", "main", STRANGE_REQUEST, STRANGE_MAILBOX),
        ):
            connection.execute(
                "INSERT INTO registry.connect_requests (request_id, company_id, account_id, mailbox_id, purpose, key_id)"
                " VALUES (%s, %s, %s, %s, 'test', '0123456789abcdef')",
                (request_id, company_id, account_id, mailbox_id),
            )
            connection.execute(
                "INSERT INTO registry.mailboxes (company_id, mailbox_id, account_id, role, address_masked, address_hash, host, port,"
                " login_hash, consent_by, consent_at, consent_text_version) VALUES"
                " (%s, %s, %s, 'registered', 'o***@x.example', '', 'x.example', 993, %s, 'x', now(), '2')",
                (company_id, mailbox_id, account_id, mailbox_id),
            )
        ready = connection.execute("SELECT clock_timestamp()").fetchone()
        assert ready is not None
        yield Scene(lab, connection, victim, attacker, language, ready[0])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_attack_is_refused_with_a_page_that_helps_and_changes_nothing(scene: Scene) -> None:
    assert len(ATTACKS) >= 40
    before, wrong = scene.stored(), []
    assert len(before["registry.portal_sessions"]) == 3
    for name, (status, attack) in ATTACKS.items():
        browser = attack(scene)
        if browser.status != status or not scene.helps(browser) or scene.stored() != before:
            wrong.append(f"{name}: {browser.status} {browser.heading}")
        assert "Typed-canary" not in browser.answer.text
        assert "set-cookie: x" not in str(browser.answer.headers).lower()
    assert not wrong, "\n".join(wrong)
    assert scene.victim.get("/connect/address").status == 200, "the honest seller goes on"
    log = scene.lab.portal.process.log.read_text("utf-8")
    assert "Traceback" not in log
    assert not any(secret in log for secret in ("Typed-canary", "seller@163.com", "rrl_", "rrs_"))


def test_a_link_ends_the_session_that_somebody_planted_in_the_browser_and_what_was_typed_in_it(scene: Scene) -> None:
    planted = scene.attacker.get("/connect/address").fill_in("/connect/address", address="attacker@163.com")
    assert planted.path == "/connect/login"
    honest, link = scene.stranger(), scene.link()
    honest.client.cookies.update(planted.client.cookies)
    before = {cookie.name: cookie.value for cookie in honest.client.cookies.jar}
    assert before.keys() >= {"replyrate-browser", "replyrate-session", "replyrate-draft"}
    opened(link, honest)
    after = {cookie.name: cookie.value for cookie in honest.client.cookies.jar}
    assert after["replyrate-session"] != before["replyrate-session"]
    assert base64.urlsafe_b64decode((after["replyrate-draft"] or "").strip('"')) == b"{}", (
        "nothing that the attacker typed stays"
    )
    assert planted.get("/connect").status == 401, "the planted session is over, and does not become the seller's"
    assert honest.fill_in("/connect/consent", name="Li Wei", agreed="yes").path == "/connect/address"
    assert "attacker@163.com" not in honest.answer.text


def test_of_two_browsers_that_open_a_link_at_once_one_gets_it(scene: Scene) -> None:
    link = scene.link()
    browsers = [scene.stranger().get(link) for _ in range(4)]
    start = threading.Barrier(len(browsers))

    def open_link(browser: Browser) -> None:
        start.wait(30)
        browser.fill_in("/link/.*")

    threads = [threading.Thread(target=open_link, args=(browser,)) for browser in browsers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(browser.status for browser in browsers) == [200, 410, 410, 410]


def test_a_form_that_one_browser_sends_twice_leads_to_one_session_and_looking_does_not_use_a_link_up(
    scene: Scene,
) -> None:
    link, browser = scene.link(), scene.stranger()
    for _ in range(3):
        scene.stranger().get(link)
    values = browser.get(link).page.forms[-1].values
    assert browser.post(link, values).path == "/connect/consent"
    assert browser.post(link, values).path == "/connect/consent"
    assert scene.stranger().get(link).fill_in("/link/.*").status == 410


def test_no_page_is_framed_and_none_leads_to_an_address_of_the_request(scene: Scene) -> None:
    paths = ("/", "/connect", "/connect/consent", "/connect/address", "/nowhere", *OTHER_SITE_PATHS, scene.link())
    for path in paths:
        browser = scene.copy_of_victim()
        browser.answer = browser.client.get(
            f"{browser.origin}{path}?return_url={EVIL}&next={EVIL}&lang={EVIL}",
            headers={"X-Forwarded-Host": "evil.example", "Referer": EVIL},
        )
        assert "frame-ancestors 'none'" in browser.answer.headers["content-security-policy"]
        assert browser.answer.headers["x-frame-options"] == "DENY"
        assert not any(LEADS_AWAY.match(target) for target in browser.page.links.values()), path
        assert browser.answer.url.host == "127.0.0.1"


def test_cookies_are_for_this_host_alone_and_not_for_scripts(scene: Scene) -> None:
    browser = scene.stranger().get(scene.link())
    with_form = browser.client.post(
        browser.path, data=browser.page.forms[-1].values, headers={"Origin": browser.origin}, follow_redirects=False
    )
    for cookie in browser.answer.headers.get_list("set-cookie") + with_form.headers.get_list("set-cookie"):
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "Domain" not in cookie
