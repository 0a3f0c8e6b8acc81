"""The connect page over HTTP, without JavaScript: a real web process, a real fetcher, real mail servers, both languages."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from services.common.language import Language
from services.common.postgres import connect
from services.connect import consent, texts
from services.portal.pages import live
from services.portal.pages import texts as page_texts
from services.providers import catalog
from services.registry import holdings
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.imap import EmbeddedImap
from tests.imap_lab.mailbox import Folder
from tests.imap_lab.profiles import DOVECOT
from tests.imap_lab.server import LabServer
from tests.support.connect_lab import Browser, ConnectLab, make_connect_lab, running_fetcher
from tests.support.fetcher_lab import USER, letter, make_lab
from tests.support.panel_lab import panel_browser
from tests.support.portal_lab import make_portal, portal_dsn
from tests.support.servers import USERS

__all__ = ["make_connect_lab", "make_lab", "make_portal", "portal_dsn"]

MakeConnectLab = Callable[..., ConnectLab]


@pytest.fixture
def connect_lab(make_connect_lab: MakeConnectLab, pymap: EmbeddedImap) -> ConnectLab:
    """With a mailbox that has sent mail."""
    return make_connect_lab(with_sent_mail(pymap))


def with_sent_mail(server: EmbeddedImap) -> EmbeddedImap:
    sent_at = datetime.now(UTC)
    server.append(USER, "Sent", letter(1, sent_at), sent_at)
    return server


def type_login(browser: Browser, lab: ConnectLab, **values: Any) -> Browser:
    """From the page of the address to the page of the test."""
    browser.fill_in("/connect/address", address=USER).until_finished()
    return browser.fill_in(
        "/connect/login", **({"host": "localhost", "port": str(lab.server.port), "password": USERS[USER]} | values)
    )


@pytest.mark.parametrize(
    ("language", "tag", "connected", "failed", "says"),
    [
        ("en", "en", "Your mailbox is connected", "Your mailbox is not connected yet", "The mail server refused user name or password."),
        ("zh", "zh-CN", "邮箱已连接", "邮箱尚未连接", "邮件服务器拒绝了用户名或密码。"),
    ],
)  # fmt: skip
def test_a_seller_connects_a_mailbox(
    connect_lab: ConnectLab, language: Language, tag: str, connected: str, failed: str, says: str
) -> None:
    browser = connect_lab.browser(connect_lab.link(language=language))
    assert f'<html lang="{tag}">' in browser.answer.text
    assert browser.path == "/connect/consent"
    browser.fill_in("/connect/consent", name="Li Wei", agreed="yes")
    assert browser.path == "/connect/address"
    type_login(browser, connect_lab, password="wrong").until_finished()
    assert browser.heading == failed
    assert browser.shows(says)
    assert USER not in browser.path
    retry = next(link for link in browser.page.links.values() if link.startswith("/connect/login"))
    browser.get(retry)
    assert browser.page.forms[-1].values["host"] == "localhost"
    browser.fill_in("/connect/login", password=USERS[USER]).until_finished()
    assert browser.heading == connected
    browser.get("/connect")
    assert browser.shows("s***@mail.test")
    with connect_lab.lab.registry() as registry:
        (summary,) = registry.mailboxes.summaries("c1")
        (given,) = [
            entry
            for entry in registry.mailboxes.details("c1", summary["mailbox_id"])["consents"]
            if entry["session_id"]
        ][-1:]
    assert summary["state"] == "active"
    assert (given["consented_by"], given["language"], given["text_sha256"]) == (
        "Li Wei",
        language,
        consent.load().current.sha256,
    )


@pytest.fixture
def page_only(make_connect_lab: MakeConnectLab, pymap: EmbeddedImap) -> ConnectLab:
    """Without a fetcher: whatever a page shows, it shows by itself."""
    return make_connect_lab(pymap, with_fetcher=False)


ROWS = [(provider, provider.domains[0] if provider.domains else "") for provider in catalog.load().providers]
"""Every provider with a domain of its own; "" where sellers have domains of theirs and choose the provider."""


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_provider_is_filled_in_from_the_address_alone(page_only: ConnectLab, language: Language) -> None:
    browser = page_only.seller(language)
    assert len(ROWS) > 30
    for provider, domain in ROWS:
        address = f"seller@{domain or '163.com'}"
        browser.get("/connect/address").fill_in("/connect/address", address=address)
        assert browser.path == "/connect/login", provider.id
        if not domain:
            browser.get(f"/connect/login?provider={provider.id}")
        assert browser.shows(provider.advice.text(language)), provider.id
        fields = browser.page.forms[-1].values
        if provider.support == "unsupported" or set(provider.auth) == {"oauth2"}:
            assert "password" not in fields, provider.id
            continue
        assert (fields["host"], fields["port"]) == (
            provider.servers(domain or "163.com")[0].host,
            str(provider.port),
        ), provider.id
        assert ("starttls" in fields) is (provider.security == "starttls"), provider.id
        words = [texts.word(kind, language).lower() for kind in provider.auth if kind != "oauth2"]
        assert any(all(word in shown.lower() for word in words) for shown in browser.page.texts), provider.id


FAILURES: dict[str, tuple[dict[str, str], str]] = {
    "a web password": ({"password": "wrong"}, "login-refused"),
    "the POP server": ({"host": "pop.mail.test"}, "pop-host"),
    "a POP port": ({"port": "995"}, "pop-port"),
    "a port for sending": ({"port": "587"}, "smtp-port"),
    "a web page": ({"host": "https://mail.mail.test/inbox"}, "web-address"),
    "an unknown server": ({"host": "imap.no-such-server.test"}, "host-refused"),
    "a private address": ({"host": "10.0.0.1"}, "host-refused"),
    "a port that is not allowed": ({"port": "6379"}, "host-refused"),
}


def test_each_failure_has_the_sentence_and_the_next_step_of_the_command_line(connect_lab: ConnectLab) -> None:
    sentences = texts.load()["code"]
    browser = connect_lab.seller()
    for what, (typed, code) in FAILURES.items():
        type_login(browser.get("/connect/address"), connect_lab, **typed).until_finished()
        assert browser.heading == "Your mailbox is not connected yet", what
        for language in ("en", "zh"):
            browser.get(browser.path.partition("?")[0] + f"?lang={language}")
            for part in ("says", "next"):
                assert browser.shows(sentences[code][language][part].partition("{")[0].strip()), (what, language, part)
        browser.get(browser.path.partition("?")[0] + "?lang=en")


def test_a_seller_chooses_the_sent_folder_when_none_is_recognised(
    make_connect_lab: MakeConnectLab, tmp_path: Path, ca: CertificateAuthority
) -> None:
    with LabServer(tmp_path / "imap", ca, DOVECOT) as server:
        server.folders.remove(server.sent)
        server.folders += [Folder(b"&W6JiNw-", b""), Folder(b"Firm", b"\\Noselect")]
        lab = make_connect_lab(server)
        browser = lab.seller()
        browser.fill_in("/connect/address", address=server.user).until_finished()
        login = {"host": "localhost", "port": str(server.port), "password": server.secret}
        browser.fill_in("/connect/login", **login).until_finished()
        assert browser.shows("No Sent folder was found.")
        browser.get(next(link for link in browser.page.links.values() if link.startswith("/connect/login")))
        assert browser.page.forms[-1].choices["folders"] == ["Drafts", "Trash", "&W6JiNw-"]
        assert browser.shows("客户")
        browser.fill_in("/connect/login", password=server.secret, folders=["&W6JiNw-"]).until_finished()
        assert browser.heading == "Your mailbox is connected", browser.answer.text


def test_a_mailbox_is_connected_again_shown_and_withdrawn(connect_lab: ConnectLab) -> None:
    browser = type_login(connect_lab.seller(return_url="https://marketplace.example/x"), connect_lab).until_finished()
    assert browser.page.links["Back to marketplace.example"] == "https://marketplace.example/x"
    with connect_lab.lab.registry() as registry:
        (mailbox_id,) = [mailbox["mailbox_id"] for mailbox in registry.mailboxes.summaries("c1")]
    browser.get("/connect").fill_in(f"/connect/mailboxes/{mailbox_id}/reconnect")
    assert browser.path == "/connect/address"
    type_login(browser, connect_lab).until_finished()
    assert browser.heading == "Your mailbox is connected"
    browser.get(f"/connect/mailboxes/{mailbox_id}/stored")
    assert browser.shows("registry.consents: 2")
    assert browser.shows("registry.secrets: 1")
    assert browser.shows("Li Wei")
    shown = {stored.table.name for stored in _stored(connect_lab, mailbox_id) if stored.rows}
    assert all(browser.shows(f"{name}: ") for name in shown)
    panel = panel_browser(connect_lab.portal, connect_lab.lab.dsn)
    assert panel.get("/connect").fill_in("/connect/new", role="of somebody").status == 422
    panel.get("/connect").fill_in("/connect/new", role="backup").fill_in(
        "/connect/consent", name="Li Wei", agreed="yes"
    )
    browser.get(f"/connect/mailboxes/{mailbox_id}/withdraw").fill_in(
        "/connect/mailboxes/.*/withdraw", name="seller@mail.test"
    )
    assert browser.status == 422
    browser.fill_in("/connect/mailboxes/.*/withdraw", name="Li Wei").until_finished()
    assert browser.heading == "Your consent is withdrawn"
    assert browser.shows(consent.load().remains["en"][0])
    details = connect_lab.lab.mailbox(mailbox_id)
    assert details["state"] == "removed"
    assert {entry["withdrawn_by"] for entry in details["consents"]} == {"Li Wei"}
    assert browser.get("/connect").path == "/connect/address"
    assert browser.get(f"/connect/mailboxes/{mailbox_id}/stored").status == 404

    # A session of the panel chooses which address it connects.
    assert panel.path == "/connect/address"
    type_login(panel, connect_lab).until_finished()
    assert panel.heading == "Your mailbox is connected"
    with connect_lab.lab.registry() as registry:
        mailboxes = registry.mailboxes.summaries("c1")
    (role,) = [mailbox["role"] for mailbox in mailboxes if mailbox["state"] == "active"]
    assert role == "backup"
    (mailbox_id,) = [mailbox["mailbox_id"] for mailbox in mailboxes if mailbox["state"] == "active"]

    # A link is for the mailboxes of its role alone.
    of_backup = connect_lab.browser(connect_lab.link(role="backup"))
    assert of_backup.path == "/connect" and of_backup.get(f"/connect/mailboxes/{mailbox_id}/stored").status == 200
    assert browser.get("/connect").path == "/connect/address"
    csrf = browser.page.forms[-1].values["csrf"]
    assert browser.get(f"/connect/mailboxes/{mailbox_id}/stored").status == 404
    for change in ("withdraw", "reconnect", "folders"):
        assert browser.post(f"/connect/mailboxes/{mailbox_id}/{change}", {"csrf": csrf, "name": "Li Wei"}).status == 404
    assert connect_lab.lab.mailbox(mailbox_id)["state"] == "active"


def _stored(lab: ConnectLab, mailbox_id: str) -> list[holdings.StoredValue]:
    with connect(lab.lab.dsn, "tests") as connection:
        return holdings.read(connection, "c1", mailbox_id)


def test_another_address_than_the_expected_one_is_refused_before_anything_is_stored(page_only: ConnectLab) -> None:
    browser = page_only.seller(expected_address="seller@163.com")
    browser.fill_in("/connect/address", address="other@163.com")
    assert browser.status == 422
    assert browser.shows("The platform asked for the mailbox of another address; nothing was stored.")
    browser.fill_in("/connect/address", address=" Seller@163.COM ")
    assert browser.path == "/connect/login"
    browser.fill_in("/connect/login", mailbox_address="other@163.com", password="x")
    assert browser.path == "/connect/address"
    with connect(page_only.lab.dsn, "tests") as connection:
        assert connection.execute("SELECT count(*) FROM registry.connect_requests").fetchone() == (0,)


def test_back_reload_a_second_tab_and_the_switch_of_the_language_keep_the_place(page_only: ConnectLab) -> None:
    browser = page_only.browser(page_only.link())
    assert browser.get("/connect/address").path == "/connect/consent", "the first step comes first"
    assert browser.get("/connect/login").path == "/connect/consent"
    browser.fill_in("/connect/consent", name="Li Wei", agreed="yes")
    assert browser.get("/connect/login").path == "/connect/address"
    browser.fill_in("/connect/address", address="seller@163.com")
    assert browser.get(browser.path).page.forms[-1].values["host"] == "imap.163.com"
    assert browser.get("/connect/address").page.forms[-1].values["address"] == "seller@163.com"
    browser.get("/connect/login").follow("中文")
    assert browser.path == "/connect/login?lang=zh"
    assert '<html lang="zh-CN">' in browser.get("/connect/address").answer.text, "the language stays"
    second_tab = browser.client.get("/connect", headers={"accept-language": "en"})
    assert second_tab.url.path == "/connect/address"
    assert browser.get("/connect/consent").page.forms[-1].values["name"] == "Li Wei"


def test_a_request_waits_for_a_fetcher_and_goes_on_when_there_is_one(
    make_connect_lab: MakeConnectLab, pymap: EmbeddedImap
) -> None:
    lab = make_connect_lab(with_sent_mail(pymap), with_fetcher=False)
    browser = lab.seller().fill_in("/connect/address", address=USER)
    assert browser.status == 503, "no fetcher has published a key yet"
    with running_fetcher(lab.lab) as fetcher:
        browser.get("/connect/address").fill_in("/connect/address", address=USER).until_finished()
        fetcher.kill()
    browser.fill_in("/connect/login", host="localhost", port=str(pymap.port), password=USERS[USER])
    waiting = browser.path
    assert browser.shows("The test begins in a moment.")
    assert browser.get("/connect").page.links["Show it"] == waiting
    with running_fetcher(lab.lab):
        assert browser.get(waiting).until_finished().heading == "Your mailbox is connected"


def test_the_stages_come_live(connect_lab: ConnectLab) -> None:
    browser = type_login(connect_lab.seller(), connect_lab)
    with browser.client.stream("GET", f"{browser.path}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        received = stream.read().decode()
    assert "event: finished" in received
    assert "data: <h1>Testing your mailbox</h1>" in received
    assert browser.get(browser.path).heading == "Your mailbox is connected"


def test_the_result_is_held_until_there_is_one_or_for_so_long() -> None:
    states = iter([False, False, True, True])
    asyncio.run(live.hold(lambda: next(states), 60))
    assert list(states) == [True], "it looks until the request is finished, and no further"
    looks = count()
    asyncio.run(live.hold(lambda: next(looks) < 0, 0))
    assert next(looks) == 1, "one look when the time is over"


def test_an_ended_session_is_gone_in_every_tab(page_only: ConnectLab) -> None:
    browser = page_only.seller()
    cookies = dict(browser.client.cookies)
    browser.fill_in("/connect/end")
    assert browser.heading == "The session is ended"
    other_tab = page_only.browser()
    other_tab.client.cookies.update(cookies)
    for path in ("/connect", "/connect/consent", "/connect/address", "/connect/login", "/connect/requests/r-1"):
        assert other_tab.get(path).status == 401
        assert other_tab.heading == "Your session has ended"


def test_every_text_exists_in_both_languages_with_the_same_placeholders() -> None:
    fields = Formatter()
    for table, keys in page_texts.load().items():
        for key, languages in keys.items():
            assert languages.keys() == {"en", "zh"}, f"{table}.{key}"
            names = [{name for _, name, _, _ in fields.parse(shown) if name} for shown in languages.values()]
            assert names[0] == names[1], f"{table}.{key}"
