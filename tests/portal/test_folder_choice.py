"""The choice of a mailbox's folders over HTTP, without JavaScript: hostile names, names that were not offered, and a refused password."""

from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from services.portal.pages.texts import text
from services.standalone.servers.ca import CertificateAuthority
from tests.imap_lab.mailbox import Folder
from tests.imap_lab.profiles import DOVECOT
from tests.imap_lab.server import LabServer
from tests.support.connect_lab import Browser, ConnectLab, make_connect_lab
from tests.support.fetcher_lab import make_lab
from tests.support.portal_lab import make_portal, portal_dsn

__all__ = ["make_connect_lab", "make_lab", "make_portal", "portal_dsn"]

LIST, CHOICE = "/connect/mailboxes/.*/folders", "/connect/requests/.*/folders"
MARKUP = b'"><script>alert(1)</script>'
HOSTILE = (MARKUP, b"Caf\xc3\xa9", b"Sent" * 300, b"Firm\x07")
"""Names of folders: the first can be chosen; the others are no names of folders (RFC 3501), or too long."""


@pytest.fixture
def server(tmp_path: Path, ca: CertificateAuthority) -> object:
    with LabServer(tmp_path / "imap", ca, DOVECOT) as started:
        yield started


@pytest.fixture
def connected(make_connect_lab: Callable[..., ConnectLab], server: LabServer) -> Browser:
    """At the list of the mailboxes, with one that is connected."""
    browser = make_connect_lab(server).seller()
    browser.fill_in("/connect/address", address=server.user).until_finished()
    browser.fill_in("/connect/login", host="localhost", port=str(server.port), password=server.secret).until_finished()
    assert browser.heading == text("progress.title_passed", "en"), browser.answer.text
    return browser.get("/connect")


def test_only_what_the_server_listed_can_be_chosen_whatever_it_is_called(connected: Browser, server: LabServer) -> None:
    server.folders += [Folder(name, b"") for name in HOSTILE]
    server.wire.clear()
    connected.fill_in(LIST).until_finished()
    assert connected.heading == text("progress.title_folders", "en")
    offered = connected.page.forms[-1].choices["folders"]
    assert MARKUP.decode() in offered and "Sent" in offered
    assert not any(len(name) > 1000 or not name.isprintable() or not name.isascii() for name in offered)
    assert "<script>alert" not in connected.answer.text and MARKUP.decode() in unescape(connected.answer.text)
    listing = connected.path
    assert connected.fill_in(CHOICE, folders=["Sent", "Elsewhere"]).status == 422
    connected.get(listing).fill_in(CHOICE, folders=["Sent", "Drafts"]).until_finished()
    assert connected.heading == text("progress.title_chosen", "en"), connected.answer.text
    assert connected.shows(text("progress.folder", "en", name="Drafts", messages=0))
    assert b"SELECT" not in {sent.name for sent in server.wire}, "folders are opened read-only"
    # The page of another kind of request takes no choice.
    choice_of_a_test = f"{connected.path}/folders"
    proof = connected.page.forms[-1].values["csrf"]
    assert connected.post(choice_of_a_test, {"csrf": proof, "folders": "Sent"}).status == 404


def test_a_refused_password_leads_to_connecting_the_mailbox_again(connected: Browser, server: LabServer) -> None:
    server.secret = "changed-at-the-provider"
    connected.fill_in(LIST).until_finished()
    assert connected.heading == text("progress.title_not_listed", "en")
    assert connected.page.forms[-1].action.endswith("/folders"), "it can be tried again"
    connected.fill_in("/connect/mailboxes/.*/reconnect")
    assert connected.path == "/connect/address"
