"""The test mail of the panel over HTTP: who may begin one, what its page says of each verdict, and what the web process may read for it.

With a fetcher and a mail server: tests/portal/browser/test_connect_states.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import psycopg
import pytest

from services.common import codec
from services.common.postgres import connect
from services.portal.panel.texts import text
from services.registry.published import PublishedMessage, PublishedMessages
from tests.support.api_lab import api_client, new_key
from tests.support.builders import a_sent_message, hash_of
from tests.support.connect_lab import Browser
from tests.support.panel_lab import ShownFigures, panel_browser
from tests.support.panel_world import seed_world
from tests.support.portal_lab import MakePortal, Portal, make_portal, portal_dsn

__all__ = ["make_portal", "portal_dsn"]

COMPANY, MAIN, CHEN, WU = "lt-textile", "lt-main", "lt-sub-chen", "lt-sub-wu"
PAGE = "/panel/test-mail"
FORM = rf"{PAGE}(\?.*)?"


@dataclass
class Scene:
    """A world behind a web process."""

    owner: psycopg.Connection
    portal: Portal
    dsn: str
    numbers: Iterator[int] = field(default_factory=count)

    def browser(self, account_id: str, **wanted: Any) -> Browser:
        """A browser that has opened the panel of an account."""
        return panel_browser(self.portal, self.dsn, COMPANY, account_id, **wanted)

    def mailbox(self, account_id: str) -> str:
        """The mailbox of an account."""
        stored = self.owner.execute(
            "SELECT mailbox_id FROM registry.mailboxes WHERE company_id = %s AND account_id = %s", [COMPANY, account_id]
        ).fetchone()
        assert stored is not None
        return str(stored[0])

    def change(self, account_id: str, change: str) -> None:
        """Change the mailboxes of an account as a fetcher does."""
        self.owner.execute(
            f"UPDATE registry.mailboxes SET {change} WHERE company_id = %s AND account_id = %s".encode(),
            [COMPANY, account_id],
        )

    def file(self, account_id: str, recipients: tuple[str, ...]) -> None:
        """A mail in the Sent folder of an account's mailbox, as a fetcher saves it."""
        key = {"company_id": COMPANY, "mailbox_id": self.mailbox(account_id)}
        event = a_sent_message(
            message_id=hash_of(next(self.numbers)),
            sent_at=datetime.now(UTC),
            recipients=recipients,
            account_id=account_id,
            **key,
        )
        record = codec.encode(
            event, id=event.message_id, source=f"replyrate/fetcher/{key['mailbox_id']}", time=event.sent_at
        )
        PublishedMessages(self.owner).save(key, [PublishedMessage(event, record)])

    def own_hash(self, account_id: str) -> str:
        """The hash of the address of an account's mailbox."""
        stored = self.owner.execute(
            "SELECT address_hash FROM registry.mailboxes WHERE mailbox_id = %s", [self.mailbox(account_id)]
        ).fetchone()
        assert stored is not None
        return str(stored[0])


@pytest.fixture
def scene(dsn: str, make_portal: MakePortal) -> Iterator[Scene]:
    with connect(dsn, "tests") as owner, make_portal() as portal:
        seed_world(owner, 1, ("default",), (COMPANY,))
        owner.execute("SELECT registry.keep_published(60)")
        yield Scene(owner, portal, dsn)


def verdict(browser: Browser) -> str:
    """What the page says: a verdict, `looking` while the mail is looked for, or "" while no test has begun."""
    attributes = ShownFigures(browser.get(PAGE).answer.text).attributes
    if any(tag.get("id") == "probe" for tag in attributes):
        return "looking"
    return next((tag["data-verdict"] for tag in attributes if "data-verdict" in tag), "")


def end_time(scene: Scene) -> None:
    """The time of each test is over."""
    scene.owner.execute("UPDATE registry.portal_sessions SET probe_began_at = probe_began_at - interval '1 hour'")


def test_a_test_mail_is_looked_for_in_the_own_mailbox_alone(scene: Scene) -> None:
    browser, stranger = scene.browser(CHEN), scene.browser(MAIN)
    scene.change(CHEN, "last_attempt_at = now() - interval '1 minute', next_poll_at = now() + interval '1 hour'")
    scene.change(MAIN, "last_attempt_at = now() - interval '1 minute', next_poll_at = now() + interval '1 hour'")
    assert verdict(browser) == ""
    browser.fill_in(FORM)
    assert browser.path.startswith(PAGE) and verdict(browser) == "looking"
    due = "SELECT account_id FROM registry.mailboxes WHERE next_poll_at <= clock_timestamp() AND company_id = %s"
    assert scene.owner.execute(due, [COMPANY]).fetchall() == [(CHEN,)], "nobody else's mailbox is read sooner"
    scene.file(MAIN, (scene.own_hash(CHEN),))
    assert verdict(browser) == "looking" and verdict(stranger) == ""
    scene.file(CHEN, (hash_of(999),))
    assert browser.get(PAGE).shows(text("so_far.others", "en"))
    scene.file(CHEN, (scene.own_hash(CHEN),))
    assert verdict(browser) == "filed"
    browser.get(PAGE).fill_in(FORM)
    assert verdict(browser) == "looking", "another test does not find the mail of the first"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_verdict_has_its_words(scene: Scene, language: Any) -> None:
    browser = scene.browser(CHEN, language=language)
    seen = []
    for change in (
        "complete_through = now() - interval '3 hours'", "complete_through = now() + interval '1 hour'", "failures = 3", "failures = 0",
    ):  # fmt: skip
        browser.get(PAGE).fill_in(FORM)
        if change == "failures = 0":
            scene.file(CHEN, (hash_of(999),))
        scene.change(CHEN, change)
        end_time(scene)
        shown = verdict(browser)
        seen.append(shown)
        assert browser.shows(text(f"verdict.{shown}", language)) and browser.shows(
            text(f"verdict_advice.{shown}", language)
        )
    assert seen == ["not-read", "not-filed", "failing", "others"]


def test_who_may_not_begin_one(scene: Scene) -> None:
    without_mailbox = scene.browser(WU).get(PAGE)
    assert without_mailbox.shows(text("probe.no_mailbox", "en"))
    assert [form.action for form in without_mailbox.page.forms] == ["/connect/end"]

    browser = scene.browser(CHEN)
    for values in ({}, {"csrf": "of-another-session"}):
        assert browser.post(PAGE, values).status == 403
    connect_only = scene.browser(CHEN)
    form = next(form for form in connect_only.get(PAGE).page.forms if form.action.startswith(PAGE))
    scene.owner.execute("UPDATE registry.portal_sessions SET purpose = 'connect'")
    assert connect_only.post(PAGE, form.values).status == 404

    with api_client(scene.portal, new_key(scene.dsn).secret) as client:
        created = client.post("/v1/panel-tokens", json={"company_id": COMPANY, "account_id": CHEN}).json()
    framed = Browser(scene.portal.origin, authorization=f"Bearer {created['token']}")
    assert framed.get(PAGE).status == 200 and framed.shows(text("probe.not_here", "en"))
    assert framed.page.forms == []
    assert framed.post(PAGE, form.values).status == 401

    assert scene.owner.execute("SELECT count(probe_began_at) FROM registry.portal_sessions").fetchone() == (0,)


def test_what_the_web_process_reads_of_a_test_mail(scene: Scene) -> None:
    """With the token of a session: of the own account's mailboxes, and of messages those since the test began."""
    browser = scene.browser(CHEN)
    scene.file(CHEN, (hash_of(999),))
    with api_client(scene.portal, new_key(scene.dsn).secret) as client:
        frame = client.post("/v1/panel-tokens", json={"company_id": COMPANY, "account_id": CHEN}).json()["token"]
    session = browser.client.cookies["replyrate-session"].partition(".")[0]
    own_id, main_id = scene.mailbox(CHEN), scene.mailbox(MAIN)
    facts, begun = "SELECT gone FROM registry.sent_mail_facts(%s, %s)", "SELECT registry.begin_probe('{}')"
    messages = "SELECT message_id FROM registry.messages_since(%s, %s, %s, '-infinity')"
    long_ago, soon = datetime(2000, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(hours=1)
    for token, reads in ((session, True), (frame, False), ("", False)):
        with connect(scene.portal.dsn, "tests") as connection, connection.transaction():
            connection.execute("SELECT set_config('replyrate.token', %s, true)", [token])
            assert connection.execute(messages, [COMPANY, own_id, soon]).fetchall() == [], "no test has begun"
            assert (connection.execute(begun).fetchone() != (None,)) == reads
            assert len(connection.execute(facts, [COMPANY, own_id]).fetchall()) == reads
            assert connection.execute(facts, [COMPANY, main_id]).fetchall() == []
            for mailbox_id, since in ((own_id, long_ago), (main_id, long_ago), (main_id, soon)):
                assert connection.execute(messages, [COMPANY, mailbox_id, since]).fetchall() == []
    assert scene.owner.execute(messages, [COMPANY, own_id, long_ago]).fetchall() != [], "for the command"


def test_beginning_again_and_again_reads_no_sooner(scene: Scene) -> None:
    """Not more than one login in 20 seconds, however often a test is begun."""
    browser = scene.browser(CHEN)
    scene.change(CHEN, "last_attempt_at = now(), next_poll_at = now() + interval '1 hour'")
    form = next(form for form in browser.get(PAGE).page.forms if form.action.startswith(PAGE))
    for _ in range(3):
        browser.post(form.action, form.values)
    assert verdict(browser) == "looking"
    (planned,) = scene.owner.execute(
        "SELECT next_poll_at - last_attempt_at FROM registry.mailboxes WHERE mailbox_id = %s", [scene.mailbox(CHEN)]
    ).fetchall()
    assert planned[0] == timedelta(seconds=20)
