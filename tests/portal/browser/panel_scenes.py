"""The way to each state of the panel: accounts of the demo world, changed where the world has no such state."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg

from services.aggregator.judge import judge, rules
from services.aggregator.judge.plan import Delta
from services.common import codec
from services.common.language import Language
from services.connect.probe import Verdict
from services.registry.panel_sessions import PanelSessions
from services.registry.portal_sessions import LinkRequest, PortalSessions
from services.registry.published import PublishedMessage, PublishedMessages
from tests.portal.browser.state_lab import ACCOUNT, MINUTES, RETURN_URL, StateLab
from tests.support.archived_inquiry import put_archived
from tests.support.browser_lab import BrowserVisit
from tests.support.builders import a_sent_message, hash_of
from tests.support.panel_world import PanelWorld, add_rules, seed_world
from tests.support.rates import edit_rates

Scene = Callable[[StateLab, BrowserVisit], Any]
TEXTILE: Final = "lt-textile"
MAIN: Final[dict[str, str]] = {
    "hx-tools": "hx-main", TEXTILE: "lt-main", "rd-lighting": "rd-main", "jh-marine": "jh-main", "bf-valves": "bf-main",
    "ds-toys": "ds-main", "km-plastics": "km-main", "yg-ceramics": "yg-main",
}  # fmt: skip
"""Company of the demo world → its main account."""
CHEN, WU = "lt-sub-chen", "lt-sub-wu"
"""A sub-account, and one that has no mailbox."""
ARCHIVED: Final = "lt-textile-2025-0107"
"""An inquiry of a sub-account that is archived."""
SMALL_RULES: Final = "airbnb"
"""Rules that show no rate of few inquiries."""
NOT_COUNTED: Final = "rate = NULL, rate_shown = NULL, timely = 0, late = 0, unanswered = 0, unmeasured = 0, pending = 0"
ADDRESS_CHANGED: Final = '{"units": 12, "units_changed": 12, "changed_on": "2026-10-12", "connected_on": "2026-03-02"}'


def world(lab: StateLab) -> None:
    """The demo world in the database of a lab, once, with what the states need besides."""
    with lab.database() as owner:
        if owner.execute("SELECT 1 FROM registry.companies WHERE company_id = %s", [TEXTILE]).fetchone() is None:
            _prepare(owner, seed_world(owner, 1, ("default",)))


def _prepare(owner: psycopg.Connection, seeded: PanelWorld) -> None:
    owner.execute("SELECT registry.keep_published(60)")
    with owner.transaction():
        judge.judge_companies(owner, rules.load_builtin(SMALL_RULES), {"ds-toys": Delta()}, now=seeded.now)
    add_rules(owner, (SMALL_RULES,))
    edit_rates(owner, f"{NOT_COUNTED}, counted = 0, coverage = NULL", "company_id = 'km-plastics'")
    edit_rates(owner, "rate = NULL, rate_shown = NULL, counted = 3", "company_id = 'ds-toys'")
    owner.execute(
        "INSERT INTO ledger.corrections (rule_set, rule_version, level, company_id, account_id, as_of, column_name, cause, changed_at,"
        " old_value, new_value) VALUES ('default', '1', 'account', 'hx-tools', 'hx-main', current_date - 9, 'rate', 'late-fact', now(), '0.8', '0.85')"
    )
    owner.execute(
        "UPDATE registry.mailboxes SET state = 'needs_reconnect', state_reason = 'address-changed' WHERE company_id = 'yg-ceramics'"
    )
    put_archived(owner, TEXTILE, CHEN, ARCHIVED)
    owner.execute("DELETE FROM ledger.diagnoses WHERE company_id = 'yg-ceramics'")
    owner.execute(
        "INSERT INTO ledger.diagnoses SELECT 'default', 'yg-ceramics', account_id, 'address-changed', current_date, 'high', %s::jsonb, 'a', 'z',"
        " now() FROM unnest(ARRAY['', 'yg-main']) account_id",
        [ADDRESS_CHANGED],
    )


def open_panel(lab: StateLab, window: BrowserVisit, company_id: str, account_id: str) -> None:
    """A session of the panel in a window, on its first page."""
    with lab.database() as owner:
        request = LinkRequest(
            company_id, account_id, "tests", language=window.language, purpose="panel", return_url=RETURN_URL
        )
        link = PortalSessions(owner).make_link(request, MINUTES)
    window.open(link.url("", window.language))
    window.page.click("form[action^='/link/'] button")


def of_world(company_id: str, path: str, account_id: str | None = None, see: str = "main h1") -> Scene:
    """A page of an account of the world. `see`: what makes it this state."""

    def show(lab: StateLab, window: BrowserVisit) -> None:
        world(lab)
        open_panel(lab, window, company_id, account_id or MAIN[company_id])
        if path:
            window.open(f"/panel{path}")
        window.page.wait_for_selector(see)

    return show


def of_new_company(path: str, *states: dict[str, Any]) -> Scene:
    """A page of an account without figures, with mailboxes in these states."""

    def show(lab: StateLab, window: BrowserVisit) -> None:
        world(lab)
        seller = lab.seller(window)
        for number, changed in enumerate(states):
            seller.mailbox(f"m-{number}", f"sales{number}@qingdao-tools.com", **changed)
        open_panel(lab, window, seller.company_id, ACCOUNT)
        if path:
            window.open(f"/panel{path}")

    return show


def framed(path: str) -> Scene:
    """A page as a frame gets it: with a token in the header instead of a cookie."""

    def show(lab: StateLab, window: BrowserVisit) -> None:
        world(lab)
        window.page.set_extra_http_headers({"Authorization": f"Bearer {_frame_token(lab, window.language)}"})
        window.open(f"/panel{path}")

    return show


def _frame_token(lab: StateLab, language: Language) -> str:
    with lab.database() as owner:
        sessions = PanelSessions(owner)
        return sessions.make_frame_token("rd-lighting", "rd-main", language=language, by="tests", minutes=MINUTES).token


def _frame(lab: StateLab, window: BrowserVisit) -> None:
    """The page that a platform shows in an iframe; without scripts it shows no figure."""
    world(lab)
    window.open(f"/panel/frame?lang={window.language}#token={_frame_token(lab, window.language)}")
    window.page.wait_for_selector("main p" if window.scripts == "no-scripts" else "#rate data")


def _why(outcome: str) -> Scene:
    def show(lab: StateLab, window: BrowserVisit) -> None:
        of_world("hx-tools", f"/inquiries?outcome={outcome}")(lab, window)
        window.page.click("#inquiries a[href*='/why']")

    return show


def _session_ended(lab: StateLab, window: BrowserVisit) -> None:
    window.open(f"/panel?lang={window.language}")


def _link(lab: StateLab, window: BrowserVisit) -> None:
    world(lab)
    with lab.database() as owner:
        request = LinkRequest("hx-tools", "hx-main", "tests", language=window.language, purpose="panel")
        window.open(PortalSessions(owner).make_link(request, MINUTES).url("", window.language))


def _test_mail(verdict: Verdict | None) -> Scene:
    """A test mail that is looked for, or that ended with a verdict."""

    def show(lab: StateLab, window: BrowserVisit) -> None:
        world(lab)
        seller = lab.seller(window)
        mailbox_id = seller.mailbox("m-0", last_attempt_at=datetime.now(UTC))
        open_panel(lab, window, seller.company_id, ACCOUNT)
        window.open("/panel/test-mail")
        window.page.click("form[action^='/panel/test-mail'] button")
        if verdict is None:
            return
        with lab.database() as owner:
            if verdict in ("filed", "others"):
                _file(owner, seller.company_id, mailbox_id, to_self=verdict == "filed")
            change = {
                "failing": "failures = 3, state_reason = 'unreachable'",
                "not-filed": "complete_through = now() + interval '1 hour'",
            }
            if verdict in change:
                owner.execute(
                    f"UPDATE registry.mailboxes SET {change[verdict]} WHERE company_id = %s".encode(),
                    [seller.company_id],
                )
            if verdict == "gone":
                owner.execute(
                    "UPDATE registry.portal_sessions SET probe_gone = '{\"m-0\": -1}' WHERE company_id = %s",
                    [seller.company_id],
                )
            owner.execute(
                "UPDATE registry.portal_sessions SET probe_began_at = probe_began_at - interval '1 hour' WHERE company_id = %s",
                [seller.company_id],
            )
        window.open("/panel/test-mail")
        assert window.page.get_attribute("[data-verdict]", "data-verdict") == verdict

    return show


def _file(owner: psycopg.Connection, company_id: str, mailbox_id: str, *, to_self: bool) -> None:
    """A mail in the Sent folder, as a fetcher saves it."""
    key = {"company_id": company_id, "mailbox_id": mailbox_id}
    stored = owner.execute("SELECT address_hash FROM registry.mailboxes WHERE company_id = %s", [company_id]).fetchone()
    assert stored is not None
    sent_at = datetime.now(UTC) + timedelta(seconds=1)
    recipients = (stored[0] if to_self else hash_of(999),)
    event = a_sent_message(account_id=ACCOUNT, sent_at=sent_at, recipients=recipients, **key)
    record = codec.encode(event, id=event.message_id, source=f"replyrate/fetcher/{mailbox_id}", time=sent_at)
    PublishedMessages(owner).save(key, [PublishedMessage(event, record)])


VERDICTS: Final[tuple[Verdict, ...]] = ("filed", "gone", "others", "failing", "not-filed", "not-read")
NEEDS_RECONNECT: Final = {"state": "needs_reconnect", "state_reason": "login-refused"}
PANEL_SCENES: Final[dict[str, Scene]] = {
    "panel-link": _link,
    "panel": of_world("hx-tools", "", see="#rate data"),
    "panel-company": of_world(TEXTILE, "", see="#accounts"),
    "panel-of-another-account": of_world(TEXTILE, f"?account={CHEN}"),
    "panel-sub-account": of_world(TEXTILE, "", CHEN),
    "panel-zero": of_world("bf-valves", "", see=".reason a.button"),
    "panel-missing-coverage": of_world(TEXTILE, "", WU, see="[data-code=coverage]"),
    "panel-missing-small": of_world("ds-toys", f"?rules={SMALL_RULES}", see="[data-code=small]"),
    "panel-missing-nothing": of_world("km-plastics", "", see="[data-code=nothing]"),
    "panel-empty": of_new_company(""),
    "panel-inquiries": of_world("hx-tools", "/inquiries", see="#inquiries"),
    "panel-inquiries-none": of_world("hx-tools", "/inquiries?outcome=late&from=2001-01-01&to=2001-01-02"),
    "panel-why-timely": _why("timely"),
    "panel-why-unanswered": _why("unanswered"),
    "panel-why-archived": of_world(TEXTILE, f"/why?inquiry={ARCHIVED}", CHEN, see="#sentences"),
    "panel-due": of_world("hx-tools", "/due", see="#due"),
    "panel-due-none": of_new_company("/due"),
    "panel-changes": of_world("hx-tools", "/changes", see="#changes"),
    "panel-changes-none": of_world(TEXTILE, "/changes"),
    "panel-diagnosis": of_world("bf-valves", "/diagnosis?account=bf-main", see=".finding .button"),
    "panel-diagnosis-withdraw": of_world("yg-ceramics", "/diagnosis?account=yg-main", see=".finding a[href$='/withdraw']"),
    "panel-diagnosis-company": of_world("bf-valves", "/diagnosis?account=", see="#concerned"),
    "panel-diagnosis-of-another-account": of_world(TEXTILE, f"/diagnosis?account={WU}"),
    "panel-diagnosis-fine": of_world("hx-tools", "/diagnosis"),
    "panel-mailboxes": of_world("rd-lighting", "/mailboxes", see=".mailbox + .mailbox"),
    "panel-mailboxes-states": of_new_company(
        "/mailboxes", {}, NEEDS_RECONNECT, {"state": "paused", "state_reason": "paused"},
    ),
    "panel-mailboxes-none": of_world(TEXTILE, "/mailboxes", WU),
    "panel-mailboxes-synced": of_world("jh-marine", "/mailboxes", see=".result"),
    "panel-questions": of_world("hx-tools", "/questions"),
    "panel-providers": of_world("hx-tools", "/providers"),
    "panel-test-mail": of_world("rd-lighting", "/test-mail", see="form[action^='/panel/test-mail']"),
    "panel-test-mail-none": of_world(TEXTILE, "/test-mail", WU),
    "panel-test-mail-no-mailbox-read": of_new_company("/test-mail", NEEDS_RECONNECT),
    "panel-test-mail-looking": _test_mail(None),
    **{f"panel-test-mail-{verdict}": _test_mail(verdict) for verdict in VERDICTS},
    "panel-frame": _frame,
    "panel-frame-mailboxes": framed("/mailboxes"),
    "panel-frame-test-mail": framed("/test-mail"),
    "panel-session-ended": _session_ended,
}  # fmt: skip
"""State → the way to it."""
