"""The connect page over HTTP, without JavaScript: a real web process, a real fetcher, real mail servers, both languages."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from services.common.language import Language
from services.connect import consent
from services.standalone.servers.imap import EmbeddedImap
from tests.support.connect_lab import Browser, ConnectLab, make_connect_lab
from tests.support.fetcher_lab import USER, letter, make_lab
from tests.support.portal_lab import make_portal, portal_dsn
from tests.support.servers import USERS

__all__ = ["make_connect_lab", "make_lab", "make_portal", "portal_dsn"]

MakeConnectLab = Callable[..., ConnectLab]


@pytest.fixture
def connect_lab(make_connect_lab: MakeConnectLab, pymap: EmbeddedImap) -> ConnectLab:
    return make_connect_lab(pymap)


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
    sent_at = datetime.now(UTC)
    connect_lab.server.append(USER, "Sent", letter(1, sent_at), sent_at)
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
