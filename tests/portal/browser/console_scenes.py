"""The way to each state of the console's pages, in a console whose database has companies of the demo world."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psycopg
import pytest
from msgspec.structs import replace

from services.aggregator.judge import rules
from services.aggregator.refresh import recompute
from services.aggregator.refresh.refresh import Refresher
from services.common.postgres import connect
from services.common.topics import INQUIRIES
from services.dead_letters.letters import DeadLetters
from services.dead_letters.selection import LetterQuery, open_spans
from services.registry.api_keys import ApiKeys
from services.registry.staff_sessions import StaffRole
from tests.support.archived_inquiry import put_archived
from tests.support.browser_lab import BrowserVisit
from tests.support.console_lab import MakeConsole, console_in_thread, console_link, staff_browser
from tests.support.operator_lab import RULES, OperatorRoom, letter, of_record
from tests.support.panel_world import seed_world
from tests.support.topics import PARTITIONS, create_topics, kafka_settings

COMPANY: Final = "lt-textile"
NEW_LINK: Final = f"/companies/{COMPANY}/accounts/lt-sub-wu/link"
RECONNECTED: Final = (
    "UPDATE registry.mailboxes SET state = 'active', state_reason = NULL WHERE company_id = 'yg-ceramics'"
)
NOT_CONNECTED: Final = "UPDATE registry.mailboxes SET state = 'needs_reconnect', state_reason = 'address-changed' WHERE company_id = 'yg-ceramics'"
FAST: Final = "fast-shop"
NEWER: Final = RULES.replace("14400", "7200").replace("version = 1", "version = 2")
"""The next version of the definition."""
TEXT_OF_RECORD: Final = (
    "eyJ0eXBlIjogInJlcGx5cmF0ZS5tZXNzYWdlLXNlbnQudjEiLCAiZGF0YSI6IHsidWlkIjogNywgInN1YmplY3QiOiAiLi4uIn19"
)
"""A JSON document in Base64."""
KEY: Final = COMPANY.encode()


@dataclass
class ConsoleStates:
    """A console with what its states need, and windows in which staff have signed in."""

    room: OperatorRoom
    rules_folder: Path
    roles: dict[int, StaffRole] = field(default_factory=dict)
    """Window → the role of its session."""
    until_next: ExitStack = field(default_factory=ExitStack)
    """What lasts as long as a state is looked at."""

    @property
    def owner(self) -> psycopg.Connection:
        """The owner's connection."""
        return self.room.owner

    def sign_in(self, window: BrowserVisit, role: StaffRole) -> None:
        """Begin a session in a window, unless it has one with this role."""
        if self.roles.get(id(window)) != role:
            self.open_link(window, role)
            press(window, "form[action^='/link/'] button")
            self.roles[id(window)] = role

    def open_link(self, window: BrowserVisit, role: StaffRole = "operator") -> str:
        """Show the page of a new link; returns its path."""
        path = f"{console_link(self.room.dsn, role)}?lang={window.language}"
        window.open(path)
        return path

    def first(self, column: str, table: str) -> str:
        """The first id of a company's rows."""
        statement = f"SELECT min({column}) FROM {table} WHERE company_id = %s"
        smallest = self.owner.execute(statement.encode(), [COMPANY]).fetchone()
        assert smallest is not None
        return str(smallest[0])

    def clear_letters(self) -> None:
        """Purge every open letter."""
        with DeadLetters(self.room.kafka) as letters:
            letters.mark({"purged": open_spans(letters, LetterQuery())})

    def plant_letters(self) -> None:
        """Letters of several reasons, among them some that cannot be replayed; others are purged."""
        self.clear_letters()
        mailbox_id = self.first("mailbox_id", "registry.mailboxes")
        self.room.plant(
            of_record(1, value=TEXT_OF_RECORD), of_record(2, "late", age_hours=30), of_record(3, "not-json"),
            of_record(90_000, value=None), replace(letter(), detail="not a dead letter of this version"),
            letter("unreadable-message", mailbox_id=mailbox_id, uidvalidity=1, uid=5),
            letter("unreadable-message", mailbox_id="m-removed", uidvalidity=1, uid=6),
            key=KEY,
        )  # fmt: skip
        self.room.plant(letter(topic=INQUIRIES, partition=0, offset=90_000), key=b"<no id>\x00")

    @contextmanager
    def work_stands(self) -> Iterator[None]:
        """Work that is recorded in the audit waits meanwhile."""
        with self.owner.transaction(force_rollback=True):
            self.owner.execute("LOCK TABLE registry.staff_actions IN SHARE MODE")
            yield

    def compute(self) -> None:
        """Finish every computation."""
        refresher = Refresher(self.owner, [])
        while refresher.refresh():
            pass

    def cancel_computations(self) -> None:
        """End every computation without a result."""
        for progress in recompute.progress(self.owner):
            recompute.cancel(self.owner, progress["rule_set"], progress["identity"])

    def begin_computation(self, text: str = RULES) -> None:
        """Have a definition computed, and no other."""
        self.cancel_computations()
        recompute.request(self.owner, rules.parse(text, "tests"))


@pytest.fixture
def lab(make_console: MakeConsole, dsn: str, topics_gone: str, tmp_path: Path) -> Iterator[ConsoleStates]:
    """A console beside a broker, companies of the demo world, and an operator's folder for rule sets."""
    kafka = kafka_settings(topics_gone)
    create_topics(kafka)
    with connect(dsn, "tests") as owner:
        seed_world(owner, 1, ("default",), ("lt-textile", "bf-valves", "yg-ceramics"))
        owner.execute("INSERT INTO registry.companies (company_id) VALUES ('new-company')")
        owner.execute(NOT_CONNECTED)
        with make_console(KAFKA__PARTITIONS=str(PARTITIONS), AGGREGATOR__RULES_DIR=str(tmp_path)) as console:
            yield ConsoleStates(
                OperatorRoom(console, dsn, owner, kafka, staff_browser(console, dsn, "operator")), tmp_path
            )


Scene = Callable[[ConsoleStates, BrowserVisit], Any]


def press(window: BrowserVisit, selector: str) -> None:
    """Click what leads to another page, and wait for that."""
    with window.page.expect_navigation():
        window.page.click(selector)


def finish(window: BrowserVisit, template: str) -> None:
    """Wait for the result of the work that is shown, a page of a template: with scripts by its events, else by the link."""
    page, result = window.page, f"body[data-template='{template}.html']"
    if window.scripts == "scripts":
        page.wait_for_selector(result)
        page.wait_for_load_state()
        return
    for _ in range(12):
        if page.locator(result).count() == 1:
            return
        press(window, "a[href$='/result']")
    raise AssertionError(page.content())


def at(path: str, see: str = "main h1") -> Scene:
    """A page of an operator. `see`: what makes it this state."""

    def show(lab: ConsoleStates, window: BrowserVisit) -> None:
        window.open(path)
        window.page.wait_for_selector(see)

    return show


def at_company(path: str = "", company_id: str = COMPANY) -> Scene:
    """A page below that of a company."""
    return at(f"/companies/{company_id}{path}")


def at_mailbox(state: str) -> Scene:
    """The page of a mailbox in a state."""

    def show(lab: ConsoleStates, window: BrowserVisit) -> None:
        mailbox = lab.owner.execute(
            "SELECT company_id, mailbox_id FROM registry.mailboxes WHERE state = %s ORDER BY company_id DESC LIMIT 1",
            [state],
        ).fetchone()
        assert mailbox is not None
        window.open(f"/companies/{mailbox[0]}/mailboxes/{quote(mailbox[1], safe='')}")

    return show


def new_link_reconnect(lab: ConsoleStates, window: BrowserVisit) -> None:
    at_mailbox("needs_reconnect")(lab, window)
    press(window, "main a[href*='/link?mailbox=']")


def new_link_sent(address: str) -> Scene:
    """What the form answers to an address."""

    def show(lab: ConsoleStates, window: BrowserVisit) -> None:
        window.open(NEW_LINK)
        window.page.fill("#address", address)
        press(window, "#link button")

    return show


def mailbox_actions(lab: ConsoleStates, window: BrowserVisit) -> None:
    at_mailbox("active")(lab, window)
    window.page.click("#actions summary >> nth=0")


def mailbox_paused(lab: ConsoleStates, window: BrowserVisit) -> None:
    mailbox_actions(lab, window)
    press(window, "form[action$='/pause'] button")
    lab.until_next.callback(
        lab.owner.execute, "UPDATE registry.mailboxes SET state = 'active', state_reason = NULL WHERE state = 'paused'"
    )


def inquiry(lab: ConsoleStates, window: BrowserVisit) -> None:
    window.open(f"/companies/{COMPANY}/inquiries/{lab.first('inquiry_id', 'ledger.inquiries')}")


def inquiry_archived(lab: ConsoleStates, window: BrowserVisit) -> None:
    window.open(f"/companies/{COMPANY}/inquiries/{put_archived(lab.owner, COMPANY, 'lt-main', 'lt-textile-2025-0107')}")
    lab.until_next.callback(lab.owner.execute, "DELETE FROM ledger.archive_parts")


def signed_out(lab: ConsoleStates, window: BrowserVisit) -> None:
    press(window, "form[action='/sign-out'] button")
    del lab.roles[id(window)]


def sign_in(lab: ConsoleStates, window: BrowserVisit) -> None:
    signed_out(lab, window)
    window.open("/sign-in")


def sign_in_provider(lab: ConsoleStates, window: BrowserVisit) -> None:
    console = lab.until_next.enter_context(
        console_in_thread(
            lab.room.kafka.bootstrap_servers, lab.room.console.dsn, CONSOLE__ISSUER="https://login.example", CONSOLE__CLIENT_ID="console",
            CONSOLE__CLIENT_SECRET="secret",
        )
    )  # fmt: skip
    lab.until_next.callback(window.allowed_origins.remove, console.origin)
    window.allowed_origins.append(console.origin)
    window.open(f"{console.origin}/sign-in?lang={window.language}")
    window.page.wait_for_selector("a[href='/sign-in/start']")


def link_unusable(lab: ConsoleStates, window: BrowserVisit) -> None:
    path, _, query = lab.open_link(window).partition("?")
    window.open(f"{path[:-4]}AAAA?{query}")
    press(window, "form[action^='/link/'] button")


def sign_in_needed(lab: ConsoleStates, window: BrowserVisit) -> None:
    window.open("/api-keys/new")
    window.page.context.clear_cookies()
    del lab.roles[id(window)]
    press(window, "form[action='/api-keys'] button")


def operators_only(lab: ConsoleStates, window: BrowserVisit) -> None:
    lab.sign_in(window, "support")
    window.open("/overview")


def form_outdated(lab: ConsoleStates, window: BrowserVisit) -> None:
    window.open("/api-keys/new")
    set_value(window, "form[action='/api-keys'] [name=csrf]", "earlier")
    press(window, "form[action='/api-keys'] button")


def set_value(window: BrowserVisit, selector: str, value: str) -> None:
    """Change a field, also one that is hidden."""
    window.page.eval_on_selector(selector, "(field, value) => { field.value = value; }", value)


def overview(lab: ConsoleStates, window: BrowserVisit) -> None:
    lab.plant_letters()
    lab.owner.execute(
        "INSERT INTO ledger.pipeline (partition, passed_at) VALUES (0, clock_timestamp() - interval '2 hours')"
        " ON CONFLICT (partition) DO UPDATE SET passed_at = excluded.passed_at"
    )
    lab.owner.execute("UPDATE registry.mailboxes SET next_poll_at = now() - interval '3 hours' WHERE state = 'active'")
    lab.begin_computation()
    window.open("/overview")
    window.page.wait_for_selector("[data-alert=ReplyratePipelineStands]")


def overview_in_order(lab: ConsoleStates, window: BrowserVisit) -> None:
    lab.clear_letters()
    lab.owner.execute("DELETE FROM ledger.pipeline")
    lab.owner.execute("UPDATE registry.mailboxes SET next_poll_at = now() + interval '3 hours'")
    lab.cancel_computations()
    lab.owner.execute(RECONNECTED)
    lab.until_next.callback(lab.owner.execute, NOT_CONNECTED)
    window.open("/overview")
    window.page.wait_for_selector("p.result")


def letters(lab: ConsoleStates, window: BrowserVisit) -> None:
    lab.plant_letters()
    window.open("/dead-letters")


def a_letter(reason: str) -> Scene:
    """The page of an open letter."""

    def show(lab: ConsoleStates, window: BrowserVisit) -> None:
        lab.plant_letters()
        window.open(f"/dead-letters?reason={reason}")
        press(window, "#letters a >> nth=0")

    return show


def letter_purged(lab: ConsoleStates, window: BrowserVisit) -> None:
    a_letter("not-json")(lab, window)
    lab.clear_letters()
    window.page.reload()
    assert window.page.locator("form[action='/dead-letters/check']").count() == 0


def check(operation: str, query: str = "") -> Scene:
    """What an operation would do with the letters of a list."""

    def show(lab: ConsoleStates, window: BrowserVisit) -> None:
        lab.plant_letters()
        window.open(f"/dead-letters{query}")
        press(window, f"button[value={operation}]")
        finish(window, "console_letters_check")

    return show


def done(operation: str) -> Scene:
    """What an operation did."""

    def show(lab: ConsoleStates, window: BrowserVisit) -> None:
        check(operation)(lab, window)
        press(window, "form[action='/dead-letters/carry-out'] button")
        finish(window, "console_letters_done")

    return show


def work_changed(lab: ConsoleStates, window: BrowserVisit) -> None:
    check("replay")(lab, window)
    lab.clear_letters()
    press(window, "form[action='/dead-letters/carry-out'] button")
    finish(window, "console_work_failed")


def work_running(lab: ConsoleStates, window: BrowserVisit) -> None:
    lab.plant_letters()
    window.open("/dead-letters")
    lab.until_next.enter_context(lab.work_stands())
    press(window, "button[value=replay]")
    while window.page.locator("progress").count() == 0:  # the letters are read first
        window.page.reload()


def work_waiting(lab: ConsoleStates, window: BrowserVisit) -> None:
    window.open("/rule-sets/default")
    lab.until_next.enter_context(lab.work_stands())
    press(window, "form[action='/rule-sets/compare'] button")
    window.page.wait_for_selector("[role=status]")
    assert window.page.locator("progress").count() == 0


def work_failed(lab: ConsoleStates, window: BrowserVisit) -> None:
    window.open("/rule-sets/default")
    window.page.fill("#company", "nobody")
    press(window, "form[action='/rule-sets/compare'] button")
    finish(window, "console_work_failed")


def rule_sets(lab: ConsoleStates, window: BrowserVisit) -> None:
    lab.begin_computation()
    window.open("/rule-sets")


def with_invalid_file(path: str, see: str) -> Scene:
    """A page while the operator's folder has an invalid file."""

    def show(lab: ConsoleStates, window: BrowserVisit) -> None:
        file = lab.rules_folder / "broken.toml"
        file.write_text(RULES.replace("window_days = 30", 'window_days = "thirty"').replace("fast-shop", "broken"))
        lab.until_next.callback(file.unlink)
        at(path, see)(lab, window)

    return show


def rules_new_refused(lab: ConsoleStates, window: BrowserVisit) -> None:
    window.open("/rule-sets/new")
    window.page.fill("#definition", RULES.replace("each-inquiry", "each-day").replace("window_days = 30\n", ""))
    press(window, "form[action='/rule-sets/compare'] button")


def rules_diff(company: str = "") -> Scene:
    """A comparison with a definition that was typed in."""

    def show(lab: ConsoleStates, window: BrowserVisit) -> None:
        lab.cancel_computations()
        window.open("/rule-sets/new")
        window.page.fill("#definition", NEWER)
        window.page.fill("#company", company)
        window.page.select_option("#against", "default")
        press(window, "form[action='/rule-sets/compare'] button")
        finish(window, "console_rules_diff")

    return show


def rules_progress(lab: ConsoleStates, window: BrowserVisit) -> None:
    lab.begin_computation()
    window.open(f"/rule-sets/{FAST}/progress")
    window.page.wait_for_selector("progress")


def rules_progress_changed(lab: ConsoleStates, window: BrowserVisit) -> None:
    rules_progress(lab, window)
    recompute.request(lab.owner, rules.parse(NEWER, "tests"))
    press(window, f"form[action='/rule-sets/{FAST}/cancel'] button")
    window.page.wait_for_selector(".summary")


def rules_progress_done(lab: ConsoleStates, window: BrowserVisit) -> None:
    lab.cancel_computations()
    window.open("/rule-sets/default/progress")
    window.page.wait_for_selector("p.result")


def rules_refused(lab: ConsoleStates, window: BrowserVisit) -> None:
    window.open("/rule-sets/airbnb")
    window.page.check("#without_comparison")
    press(window, "form[action='/rule-sets/activate'] button")


def rules_refused_changed(lab: ConsoleStates, window: BrowserVisit) -> None:
    window.open("/rule-sets/first-reply-24h")
    set_value(window, "form[action='/rule-sets/activate'] [name=identity]", "1+000000000000")
    window.page.check("#without_comparison")
    press(window, "form[action='/rule-sets/activate'] button")


def rules_refused_not_compared(lab: ConsoleStates, window: BrowserVisit) -> None:
    window.open("/rule-sets/first-reply-24h")
    window.page.eval_on_selector("#without_comparison", "(field) => { field.required = false; }")
    press(window, "form[action='/rule-sets/activate'] button")


def keys_none(lab: ConsoleStates, window: BrowserVisit) -> None:
    lab.owner.execute("DELETE FROM registry.api_keys")
    window.open("/api-keys")


def keys(lab: ConsoleStates, window: BrowserVisit) -> None:
    keys_none(lab, window)
    with lab.owner.transaction():
        stored = ApiKeys(lab.owner)
        stored.add("order system, production", ("numbers:read",), "lt-", by="tests")
        retired = stored.add("order system, test", ("numbers:read", "registry:read"), "", by="tests")
        stored.revoke(retired.key_id, by="tests")
    window.open("/api-keys")


def key(lab: ConsoleStates, window: BrowserVisit) -> None:
    keys(lab, window)
    press(window, "#keys tr:has(.badge.active) a")


def key_revoked(lab: ConsoleStates, window: BrowserVisit) -> None:
    key(lab, window)
    press(window, "form[action$='/revoke'] button")


def key_not_changed(lab: ConsoleStates, window: BrowserVisit) -> None:
    key(lab, window)
    with lab.owner.transaction():
        ApiKeys(lab.owner).revoke(window.page.url.rpartition("/")[2].partition("?")[0], by="a colleague")
    press(window, "form[action$='/rotate'] button")


def key_new_errors(lab: ConsoleStates, window: BrowserVisit) -> None:
    window.open("/api-keys/new")
    window.page.fill("#expires", "1999")
    press(window, "form[action='/api-keys'] button")


def key_secret(lab: ConsoleStates, window: BrowserVisit) -> None:
    window.open("/api-keys/new")
    window.page.fill("#name", "order system, production")
    window.page.check("#scope-numbers-read")
    press(window, "form[action='/api-keys'] button")


def key_rotated(lab: ConsoleStates, window: BrowserVisit) -> None:
    key(lab, window)
    press(window, "form[action$='/rotate'] button")


SCENES: Final[dict[str, Scene]] = {
    "sign-in": sign_in,
    "sign-in-provider": sign_in_provider,
    "signed-out": signed_out,
    "link": lambda lab, window: lab.open_link(window),
    "link-unusable": link_unusable,
    "sign-in-needed": sign_in_needed,
    "operators-only": operators_only,
    "not-found": at("/nothing"),
    "form-outdated": form_outdated,
    "form-incomplete": at("/dead-letters?age=5"),
    "search": at("/"),
    "search-results": at("/?q=lt-", "#companies"),
    "search-empty": at("/?q=", "#companies"),
    "search-nothing": at("/?q=sales@example.com", ".note"),
    "search-too-long": at(f"/?q={'x' * 200}", ".note"),
    "company": at_company(),
    "company-new": at_company(company_id="new-company"),
    "new-link": at(NEW_LINK),
    "new-link-reconnect": new_link_reconnect,
    "new-link-errors": new_link_sent(""),
    "new-link-made": new_link_sent("sales@textile.example"),
    "mailbox": at_mailbox("active"),
    "mailbox-actions": mailbox_actions,
    "mailbox-paused": mailbox_paused,
    "mailbox-reconnect": at_mailbox("needs_reconnect"),
    "inquiry": inquiry,
    "inquiry-archived": inquiry_archived,
    "mailboxes": at("/mailboxes", "#kinds"),
    "mailboxes-none": at("/mailboxes?state=removed"),
    "mailbox-list": at("/mailboxes/list?state=active", "#mailboxes"),
    "mailbox-list-company": at(f"/mailboxes/list?company={COMPANY}", "#mailboxes"),
    "mailbox-list-none": at("/mailboxes/list?state=removed"),
    "audit": at("/audit", "#actions"),
    "audit-none": at("/audit?who=nobody"),
    "overview": overview,
    "overview-in-order": overview_in_order,
    "letters": letters,
    "letters-none": at("/dead-letters?reason=limit"),
    "letter": a_letter("schema"),
    "letter-of-mail": a_letter("unreadable-message"),
    "letter-purged": letter_purged,
    "replay-check": check("replay"),
    "replay-check-none": check("replay", "?reason=limit"),
    "purge-check": check("purge"),
    "replay-done": done("replay"),
    "purge-done": done("purge"),
    "work-waiting": work_waiting,
    "work-running": work_running,
    "work-changed": work_changed,
    "work-failed": work_failed,
    "rules": rule_sets,
    "rule-set": at("/rule-sets/default"),
    "rule-set-inactive": at("/rule-sets/first-reply-24h", "form[action='/rule-sets/activate']"),
    "rules-unusable": with_invalid_file("/rule-sets", "#rules a[href$=broken]"),
    "rule-set-unusable": with_invalid_file("/rule-sets/broken", ".summary"),
    "rules-new": at("/rule-sets/new"),
    "rules-new-refused": rules_new_refused,
    "rules-diff": rules_diff(),
    "rules-diff-company": rules_diff(COMPANY),
    "rules-progress": rules_progress,
    "rules-progress-changed": rules_progress_changed,
    "rules-progress-done": rules_progress_done,
    "rules-refused": rules_refused,
    "rules-refused-changed": rules_refused_changed,
    "rules-refused-not-compared": rules_refused_not_compared,
    "keys": keys,
    "keys-none": keys_none,
    "key": key,
    "key-revoked": key_revoked,
    "key-not-changed": key_not_changed,
    "key-new": at("/api-keys/new"),
    "key-new-errors": key_new_errors,
    "key-secret": key_secret,
    "key-rotated": key_rotated,
}


def lead(state: str, lab: ConsoleStates, window: BrowserVisit) -> None:
    """Show a state to an operator."""
    lab.until_next.close()
    lab.sign_in(window, "operator")
    window.open(f"/?lang={window.language}")
    SCENES[state](lab, window)
