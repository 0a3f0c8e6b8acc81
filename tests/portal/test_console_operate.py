"""The operators' pages of the console over HTTP, with a real broker and database: what they show, change and record, and who may."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import httpx
import psycopg
import pytest
from click.testing import CliRunner
from pydantic import SecretStr
from starlette.requests import Request

from services.aggregator.judge import comparison, rules
from services.aggregator.refresh import recompute
from services.aggregator.refresh.refresh import Refresher
from services.cli.__main__ import main
from services.common.errors import ConfigError, TransientError
from services.common.kafka import Publisher
from services.common.postgres import connect
from services.common.settings import ConsoleConfig
from services.common.topics import INQUIRIES, REPLAYED, SENT
from services.dead_letters import replay
from services.dead_letters.letters import DeadLetters, spans_of
from services.dead_letters.selection import LetterQuery, Selection
from services.portal.console.long_work import LongWork
from services.portal.console.operate import letter_work, overview, rule_work
from services.portal.console.operate.rule_work import ChosenRuleSet
from services.portal.console.resources import ConsoleResources
from services.portal.console.staff import Staff
from services.portal.database import TokenDatabase
from services.registry.staff_actions import StaffActions, StaffSessionEnded
from services.registry.staff_sessions import StaffSessionLimits, StaffSessions
from services.standalone.servers.environment import service_environ
from tests.portal.test_console import rows
from tests.support.connect_lab import Browser
from tests.support.console_lab import NAME, MakeConsole, console_dsn, make_console, staff_browser
from tests.support.operator_lab import RULES, OperatorRoom, letter, of_record, operator_room, room
from tests.support.portal_in_process import console_in_process
from tests.support.portal_lab import MakePortal, Portal, make_portal, portal_dsn
from tests.support.processes import until
from tests.support.topics import PARTITIONS, read_all

__all__ = ["console_dsn", "make_console", "make_portal", "portal_dsn", "room"]

CANARY = "canary@shop.example"
GETS = (
    "/overview", "/dead-letters", "/dead-letters/0/0", "/rule-sets", "/rule-sets/new", "/rule-sets/default",
    "/rule-sets/default/progress", "/rule-sets/default/result", "/rule-sets/default/events", "/api-keys", "/api-keys/new",
    "/api-keys/k-0", "/jobs/j-0", "/jobs/j-0/result", "/jobs/j-0/events",
)  # fmt: skip
POSTS: dict[str, dict[str, Any]] = {
    "/dead-letters/check": {"operation": "purge"},
    "/dead-letters/carry-out": {"operation": "purge", "ends": "0:1", "letters": 1, "digest": 32 * "0"},
    "/rule-sets/compare": {"name": "default"},
    "/rule-sets/activate": {"name": "amazon", "identity": "1+000000000000"},
    "/rule-sets/default/cancel": {"identity": "1+000000000000"},
    "/api-keys": {"name": "x", "scopes": "numbers:read"},
    "/api-keys/k-0/rotate": {"overlap_hours": 1},
    "/api-keys/k-0/revoke": {},
    "/companies/c1/mailboxes/m-c1/pause": {"etag": "x"},
    "/companies/c1/mailboxes/m-c1/resume": {"etag": "x"},
    "/companies/c1/mailboxes/m-c1/rescan": {"etag": "x"},
}


def facts_of(browser: Browser) -> dict[str, str]:
    """The facts of a page (its definition lists), by name."""
    pairs = re.findall(r"<dt>(.*?)</dt><dd[^>]*>(.*?)</dd>", browser.answer.text)
    return {name: re.sub(r"<[^>]+>", "", value).strip() for name, value in pairs}


def test_support_and_strangers_reach_no_page_and_no_form_of_operators(room: OperatorRoom) -> None:
    support = staff_browser(room.console, room.dsn, "support")
    csrf = support.page.forms[0].values["csrf"]
    assert "/overview" not in support.answer.text
    for path in GETS:
        assert support.get(path).status == 403 and support.heading == "Only operators can do this", path
    for path, values in POSTS.items():
        assert support.post(path, values | {"csrf": csrf}).status == 403, path
        assert support.heading == "Only operators can do this"
        own_csrf = room.operator.page.forms[0].values["csrf"]
        for wrong in ({}, {"csrf": "guessed"}, {"csrf": csrf}):
            assert Browser.post(room.operator, path, values | wrong).status == 403, path
        assert room.operator.post(path, values | {"csrf": own_csrf}, Origin="https://other.example").status == 403
        room.operator.get("/")
        assert Browser(room.console.origin).post(path, values).status == 401
    for path in GETS:
        stranger = Browser(room.console.origin).get(path)
        assert stranger.path == "/sign-in", path
    assert room.actions() == []
    assert room.owner.execute("SELECT count(*) FROM registry.api_keys").fetchone() == (0,)
    # The login of the console alone changes nothing either: the policies ask for the session of an operator.
    for token in ("", support.client.cookies.get("staff") or ""):
        with connect(room.console.dsn, "tests") as connection, connection.transaction(force_rollback=True):
            connection.execute("SELECT set_config('replyrate.token', %s, true)", (token,))
            assert connection.execute("SELECT key_id FROM registry.api_keys").fetchall() == []
            assert connection.execute("UPDATE registry.mailboxes SET next_poll_at = now()").rowcount == 0
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(
                    "INSERT INTO ledger.recomputes (rule_set, identity, parameters) VALUES ('x', '1+x', '{}')"
                )


def test_the_login_of_the_console_reads_no_secret(room: OperatorRoom) -> None:
    for statement in (
        "SELECT secret_hash FROM registry.api_keys", "SELECT * FROM registry.secrets", "SELECT holder FROM registry.login_slots",
        "UPDATE registry.mailboxes SET account_id = 'x'", "UPDATE registry.api_keys SET secret_hash = 'x'",
        "INSERT INTO ledger.rule_sets (name, identity, parameters) VALUES ('x', '1+x', '{}')",
        "UPDATE ledger.recomputes SET parameters = '{}'", "SELECT company_id FROM shadow.rates", "DELETE FROM ledger.outcomes",
    ):  # fmt: skip
        with connect(room.console.dsn, "tests") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


MAILBOX = "/companies/c1/mailboxes/m-c1"


def mailbox_values(room: OperatorRoom) -> tuple[str, bool]:
    """The state of the mailbox, and whether it is to be read again."""
    stored = room.owner.execute(
        "SELECT state, reconcile_after IS NOT NULL FROM registry.mailboxes WHERE mailbox_id = 'm-c1'"
    ).fetchone()
    assert stored is not None
    return stored


def offered(browser: Browser) -> list[str]:
    """The actions that the page of the mailbox has forms for."""
    return [form.action.removeprefix(f"{MAILBOX}/") for form in browser.page.forms if form.action.startswith(MAILBOX)]


def test_an_operator_pauses_resumes_and_rereads_a_mailbox_as_its_state_allows(room: OperatorRoom) -> None:
    operator = room.operator.get(MAILBOX)
    assert offered(operator) == ["pause", "rescan"] and operator.shows("replyrate mailbox pause c1 m-c1")
    outdated = next(form.values for form in operator.page.forms if form.action.endswith("/pause"))
    operator.fill_in(f"{MAILBOX}/rescan")
    assert operator.path == f"{MAILBOX}?done=rescan" and operator.shows("will be read again from the newest message")
    assert mailbox_values(room) == ("active", True)
    operator.fill_in(f"{MAILBOX}/pause")
    assert operator.shows("The mailbox is paused.") and mailbox_values(room)[0] == "paused"
    assert offered(operator) == ["resume", "rescan"] and operator.shows("It begins when the mailbox is being read.")
    # A form of the page as it was before, and one with a present ETag for what the state does not allow.
    present = next(form.values for form in operator.page.forms if form.action.endswith("/resume"))
    for values in (outdated, present):
        operator.post(f"{MAILBOX}/pause", values)
        assert (
            operator.status == 409 and operator.shows("Nothing was done") and offered(operator) == ["resume", "rescan"]
        )
    operator.fill_in(f"{MAILBOX}/resume")
    assert operator.shows("being read again") and mailbox_values(room)[0] == "active"
    assert not operator.get(f"{MAILBOX}?done=pause").shows("The mailbox is paused.")
    changes = [action for action, _ in room.actions() if action != "mailbox"]
    assert changes == ["rescan-mailbox", "pause-mailbox", "resume-mailbox"]
    assert room.owner.execute(
        "SELECT count(*) FROM registry.staff_actions WHERE action LIKE '%-mailbox'"
        " AND (company_id, account_id, mailbox_id) = ('c1', 'main', 'm-c1')"
    ).fetchone() == (3,)
    history = room.owner.execute(
        "SELECT from_state, to_state, reason, changed_by FROM registry.mailbox_history WHERE mailbox_id = 'm-c1'"
        " ORDER BY change_id DESC LIMIT 2"
    ).fetchall()
    assert [change[:3] for change in history] == [("paused", "active", "resumed"), ("active", "paused", "paused")]
    assert all(re.fullmatch(rf"{NAME} \(w-[0-9a-f]{{12}}\)", by) for *_, by in history)
    for path in ("/companies/c1/mailboxes/none/pause", "/companies/c2/mailboxes/m-c1/pause"):
        assert operator.post(path, present).status == 404, path
    assert operator.post(f"{MAILBOX}/remove", present).status == 422
    assert operator.get(f"{MAILBOX}?lang=zh").shows("重新读取此邮箱")


@pytest.mark.parametrize(
    ("state", "actions"), [("needs_reconnect", ["rescan"]), ("removed", []), ("synced_by_platform", [])]
)
def test_a_mailbox_that_is_not_read_is_neither_paused_nor_resumed(
    room: OperatorRoom, state: str, actions: list[str]
) -> None:
    room.owner.execute("UPDATE registry.mailboxes SET state = %s WHERE mailbox_id = 'm-c1'", [state])
    operator = room.operator.get(MAILBOX)
    assert offered(operator) == actions
    assert offered(staff_browser(room.console, room.dsn, "support").get(MAILBOX)) == []


def test_the_login_of_the_console_sets_no_other_state(room: OperatorRoom) -> None:
    def set_state(token: str, state: str) -> int:
        with connect(room.console.dsn, "tests") as connection, connection.transaction(force_rollback=True):
            connection.execute("SELECT set_config('replyrate.token', %s, true)", (token,))
            return connection.execute(
                "UPDATE registry.mailboxes SET state = %s WHERE mailbox_id = 'm-c1'", [state]
            ).rowcount

    token = room.operator.client.cookies["replyrate-staff"]
    support = staff_browser(room.console, room.dsn, "support").client.cookies["replyrate-staff"]
    assert set_state(token, "paused") == 1 and set_state(support, "paused") == set_state("", "paused") == 0
    for state in ("removed", "needs_reconnect", "synced_by_platform"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            set_state(token, state)
    with room.owner.transaction(force_rollback=True):
        room.owner.execute("UPDATE registry.mailboxes SET state = 'removed' WHERE mailbox_id = 'm-c1'")


def test_dead_letters_are_listed_by_topic_reason_and_age_page_by_page(room: OperatorRoom) -> None:
    room.plant(*(of_record(number) for number in range(51)), of_record(60, "late", age_hours=30))
    room.plant(letter("unreadable-message", mailbox_id="m-c1", uidvalidity=1, uid=5))
    room.plant(letter(topic=INQUIRIES, partition=0, offset=0), key=b"<b>c9</b>\x00\x1fi1")
    operator = room.operator.get("/dead-letters")
    assert operator.shows("54 open.") and operator.answer.text.count('scope="row"') == 50
    following = re.search(r'href="(/dead-letters\?[^"]*after=[^"]+)"', operator.answer.text)
    assert following is not None
    shown = re.findall(r'href="/dead-letters/(\d+/\d+)"', operator.answer.text)
    shown += re.findall(r'href="/dead-letters/(\d+/\d+)"', operator.get(following[1].replace("&amp;", "&")).answer.text)
    assert len(shown) == len(set(shown)) == 54
    assert "<b>" not in operator.get("/dead-letters?topic=inquiries.v1").answer.text
    for query, expected in {
        "topic=mail": 1, "reason=late": 1, "age=24": 1, "topic=sent-messages.v1&reason=schema": 50, "reason=late&topic=mail": 0,
    }.items():  # fmt: skip
        assert operator.get(f"/dead-letters?{query}").answer.text.count('scope="row"') == expected, query
    assert operator.get("/dead-letters?age=5").status == 422
    assert operator.get("/dead-letters?after=x").status == 404


def test_a_letter_says_what_to_do_and_shows_no_text_of_its_record(room: OperatorRoom) -> None:
    record = {"type": "replyrate.message-sent.v1", "data": {"subject": CANARY, CANARY: 1, "uid": 7}}
    room.plant(of_record(3, value=base64.b64encode(json.dumps(record).encode()).decode()))
    operator = room.operator.get("/dead-letters").follow(re.findall(r">(\d/\d+)</a>", room.operator.answer.text)[0])
    assert operator.shows("A field of the record is missing") and operator.shows("upgrade and replay")
    assert facts_of(operator)["Rejected record"] == "sent-messages.v1/1/3"
    assert operator.shows("data.subject") and operator.shows("replyrate.message-sent.v1")
    assert CANARY not in operator.answer.text and "canary" not in operator.answer.text
    assert operator.get(f"{operator.path}?lang=zh").shows("字段")
    (action, detail), _ = room.actions()
    assert (action, detail) == ("letter", {"position": operator.path.split("?")[0].removeprefix("/dead-letters/")})
    assert operator.get("/dead-letters/0/999").status == 404 and operator.get("/dead-letters/a/b").status == 404


def test_a_replay_is_checked_confirmed_and_recorded(room: OperatorRoom) -> None:
    room.plant(of_record(1), of_record(2, "late"))
    room.plant(letter("unreadable-message", mailbox_id="m-c1", uidvalidity=1, uid=5))
    room.plant(letter(topic="secrets.v1", partition=0, offset=0, value="e30="))
    read_before = read_all(room.kafka, SENT)
    operator = room.operator.get("/dead-letters").fill_in("/dead-letters/check", operation="replay")
    checked = room.finish()
    assert checked.heading == "Replay: what would happen"
    assert facts_of(checked) == {
        "Letters": "4", "sent back": "2", "mailbox read again": "1", "left: cannot be replayed": "1",
    }  # fmt: skip
    assert read_all(room.kafka, SENT) == read_before and room.actions() == [] and room.open_letters() == 4
    assert room.owner.execute(
        "SELECT reconcile_after FROM registry.mailboxes WHERE mailbox_id = 'm-c1'"
    ).fetchone() == (None,)
    room.plant(of_record(9))  # it arrives after the dry run and stays open
    confirmation = operator.page.forms[-1].values
    operator.fill_in("/dead-letters/carry-out")
    assert room.finish().heading == "Replay done"
    assert facts_of(operator) == {"sent back": "2", "mailbox read again": "1", "left: could not be replayed": "1"}
    landed = [record for record in read_all(room.kafka, SENT) if dict(record.headers).get(REPLAYED) == b"1"]
    assert [(record.key, record.value) for record in landed] == [(b"c1", b"{}")] * 2
    assert room.owner.execute(
        "SELECT reconcile_after IS NULL FROM registry.mailboxes WHERE mailbox_id = 'm-c1'"
    ).fetchone() == (False,)
    assert room.open_letters() == 1
    assert [action for action, _ in room.actions()] == ["replay-letters", "rescan-mailbox", "replay-letters-done"]
    assert room.actions()[0][1]["letters"] == 4 and room.actions()[0][1]["digest"] == confirmation["digest"]
    assert room.actions()[2][1]["counts"] == {"replayed": 2, "rescan": 1, "refused": 1}
    # The same confirmation once more: its letters are not open any more.
    operator.post("/dead-letters/carry-out", confirmation)
    assert room.finish().status == 409 and operator.shows("Nothing was done")
    assert len(room.actions()) == 3 and room.open_letters() == 1


@contextmanager
def session_of_operator(room: OperatorRoom) -> Iterator[Staff]:
    """The session of the operator in the process of the tests."""
    database = TokenDatabase(room.console.dsn, 1)
    token = room.operator.client.cookies["replyrate-staff"]
    with database.transaction(token) as connection:
        session = StaffSessions(connection).own_session()
    assert session is not None
    postgres = SimpleNamespace(dsn=SecretStr(room.console.dsn))
    settings = cast(ConsoleConfig, SimpleNamespace(kafka=room.kafka, postgres=postgres))
    resources = ConsoleResources(settings, database, lambda: datetime.now(UTC), cast(LongWork, None))
    yield Staff(cast(Request, None), resources, token, session, "en")
    database.close()


@pytest.fixture
def staff(room: OperatorRoom) -> Iterator[Staff]:
    """The session of the operator beside a console in a thread."""
    with session_of_operator(room) as staff:
        yield staff


def test_a_session_that_ends_during_a_replay_leaves_the_rest_open_and_its_end_recorded(
    room: OperatorRoom, staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (replay, letter_work):
        monkeypatch.setattr(module, "BATCH", 1)
    mail = letter("unreadable-message", mailbox_id="m-c1", uidvalidity=1, uid=5)
    room.plant(of_record(1), mail, of_record(2))
    checked = letter_work.check(staff, "replay", LetterQuery(), lambda done, total: None)
    assert checked.selection.letters == 3

    def end_session(done: int, total: int) -> None:
        # Progress is reported before, too, while the letters of the dry run are compared with the open ones.
        if done and room.actions():
            room.owner.execute("UPDATE registry.staff_sessions SET ended_at = clock_timestamp()")

    sent_before = len(read_all(room.kafka, SENT))
    with pytest.raises(StaffSessionEnded):
        letter_work.carry_out(staff, "replay", checked.query, checked.selection, end_session)
    assert len(read_all(room.kafka, SENT)) == sent_before + 1 and room.open_letters() == 2
    (begun, _), (ended, detail) = room.actions()
    assert (begun, ended) == ("replay-letters", "replay-letters-failed")
    assert detail["counts"] == {"replayed": 1} and detail["error"] == "StaffSessionEnded"
    # Of a session that is over nothing but an end is recorded.
    with staff.transaction() as connection, pytest.raises(StaffSessionEnded):
        StaffActions(connection).note("company")
    with staff.transaction() as connection, pytest.raises(StaffSessionEnded):
        StaffActions(connection).note_outcome("company")
    with pytest.raises(StaffSessionEnded):
        letter_work.carry_out(staff, "purge", checked.query, confirmable(room), end_session)
    assert room.open_letters() == 2 and len(room.actions()) == 2


def confirmable(room: OperatorRoom) -> Selection:
    with DeadLetters(room.kafka) as letters:
        return Selection.of(letters.waiting())


def test_a_confirmation_that_is_sent_twice_at_once_replays_once(room: OperatorRoom) -> None:
    room.plant(*(of_record(number) for number in range(20)))
    operator = room.operator.get("/dead-letters").fill_in("/dead-letters/check", operation="replay")
    confirmation = room.finish().page.forms[-1].values
    sent_before = len(read_all(room.kafka, SENT))
    cookies = dict(operator.client.cookies)
    with (
        ThreadPoolExecutor(2) as threads,
        httpx.Client(base_url=operator.origin, cookies=cookies, headers={"Origin": operator.origin}) as client,
    ):
        answers = threads.map(lambda _: client.post("/dead-letters/carry-out", data=confirmation), range(2))
        paths = [answer.headers["location"] for answer in answers]
    statuses = []
    for path in paths:
        operator.get(path)
        statuses.append(room.finish().status)
    assert sorted(statuses) == [200, 409]
    assert len(read_all(room.kafka, SENT)) == sent_before + 20
    assert [action for action, _ in room.actions()] == ["replay-letters", "replay-letters-done"]


def test_a_replay_excludes_those_of_other_consoles_and_of_the_command_line(
    process_room: OperatorRoom, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first replay runs in this process, the second one in the process of the console, the third one is a command."""
    room = process_room
    room.plant(*(of_record(number) for number in range(3)))
    sent_before = len(read_all(room.kafka, SENT))
    operator = room.operator.get("/dead-letters").fill_in("/dead-letters/check", operation="replay")
    confirmation = room.finish().page.forms[-1].values
    begun, may_end = threading.Event(), threading.Event()

    class HeldReplay(replay.LetterReplay):
        def run(self, letters: Any) -> Any:
            begun.set()
            assert may_end.wait(60)
            return super().run(letters)

    def command(*arguments: str, code: int) -> str:
        for key in ("hash.key", "vault.key"):
            (tmp_path / key).write_bytes(bytes(32))
        environ = service_environ(
            tmp_path, kafka=room.kafka.bootstrap_servers, partitions=PARTITIONS, dsn=room.dsn
        )  # fmt: skip
        done = CliRunner().invoke(main, ["dlq", *arguments], env=environ | {"COLUMNS": "250"})
        assert done.exit_code == code, (arguments, done.stdout, done.stderr, done.exception)
        return str(done.stderr)

    selection = Selection(letter_work.ends_from(confirmation["ends"]), 3, confirmation["digest"])
    with session_of_operator(room) as staff, ThreadPoolExecutor(1) as threads:
        monkeypatch.setattr(letter_work, "LetterReplay", HeldReplay)
        first = threads.submit(letter_work.carry_out, staff, "replay", LetterQuery(), selection, lambda *_: None)
        try:
            assert begun.wait(60)
            operator.post("/dead-letters/carry-out", confirmation)
            assert room.finish().status == 409 and operator.shows("Another replay or purge is running")
            for arguments in (("replay", "--yes"), ("replay", "--yes", operator_position(room)), ("purge", "--yes")):
                assert "another replay or purge of dead letters is running" in command(*arguments, code=69)
            assert "3 letters" in command("replay", code=0), "a dry run changes nothing, and is not excluded"
        finally:
            may_end.set()
        assert first.result().counts == {"replayed": 3}
    assert len(read_all(room.kafka, SENT)) == sent_before + 3
    assert [action for action, _ in room.actions()] == ["replay-letters", "replay-letters-done"]
    # The next one is not excluded: by the database session that is left, or by anything else.
    room.plant(of_record(9))
    assert "1 replayed" in command("replay", "--yes", code=0)
    assert len(read_all(room.kafka, SENT)) == sent_before + 4


def operator_position(room: OperatorRoom) -> str:
    """The position of an open letter."""
    with DeadLetters(room.kafka) as letters:
        return next(letter.position for letter in letters.read(letters.waiting()))


def test_a_replay_stops_when_it_has_lost_its_exclusion(
    room: OperatorRoom, staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (replay, letter_work):
        monkeypatch.setattr(module, "BATCH", 2)
    room.plant(*(of_record(number) for number in range(5)))
    with DeadLetters(room.kafka) as letters:
        selection = Selection.of(letters.waiting())
    batches = 0

    class CutReplay(replay.LetterReplay):
        def run(self, letters: Any) -> Any:
            nonlocal batches
            batches += 1
            ended = room.owner.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            ).fetchone()
            assert ended == (1,)
            return super().run(letters)

    monkeypatch.setattr(letter_work, "LetterReplay", CutReplay)
    with pytest.raises(TransientError):
        letter_work.carry_out(staff, "replay", LetterQuery(), selection, lambda *_: None)
    assert batches == 1 and room.open_letters() == 3
    assert [action for action, _ in room.actions()] == ["replay-letters", "replay-letters-failed"]


def test_lists_and_checks_are_recorded_and_a_key_that_is_not_an_id_is_not_shown(room: OperatorRoom) -> None:
    room.plant(of_record(1), letter(topic=INQUIRIES, partition=0, offset=0))
    room.plant(of_record(2), key=CANARY.encode())
    room.plant(of_record(3), key=b"not-registered")
    operator = room.operator.get("/dead-letters?reason=schema&topic=" + CANARY)
    operator.get("/dead-letters?reason=schema")
    assert operator.shows("the key is not an id") and operator.shows("not-registered")
    assert CANARY not in operator.answer.text
    positions = re.findall(r'href="/dead-letters/(\d+/\d+)"', operator.answer.text)
    for position in positions:
        assert CANARY not in operator.get(f"/dead-letters/{position}").answer.text
    operator.get("/dead-letters").fill_in("/dead-letters/check", operation="purge")
    assert room.finish().shows("the key is not an id") and CANARY not in operator.answer.text
    recorded = room.owner.execute(
        "SELECT action, company_id, detail FROM registry.staff_actions WHERE action <> 'sign-in' ORDER BY action_id"
    ).fetchall()
    lists = [(company, detail["letters"]) for action, company, detail in recorded if action == "letters"]
    assert lists == [(None, 0), ("c1", 4), ("c1", 4)]
    assert recorded[1][2]["reason"] == "schema" and recorded[1][2]["state"] == "open"
    checks = [(company, detail) for action, company, detail in recorded if action == "check-letters"]
    assert [company for company, _ in checks] == ["c1"]
    assert (checks[0][1]["operation"], checks[0][1]["letters"]) == ("purge", 4)
    of_letters = [company for action, company, _ in recorded if action == "letter"]
    assert sorted(of_letters, key=str) == [None, None, "c1", "c1"]
    assert "canary" not in str(recorded)


def test_a_confirmation_that_no_longer_matches_does_nothing(room: OperatorRoom) -> None:
    room.plant(of_record(1), of_record(2), of_record(3, "late"))
    operator = room.operator.get("/dead-letters?reason=schema").fill_in("/dead-letters/check", operation="purge")
    assert facts_of(room.finish()) == {"Letters": "2", "schema": "2"}
    with DeadLetters(room.kafka) as letters:
        first = next(record for record in letters.read(letters.waiting()) if record.reason == "schema")
        letters.mark({"replayed": spans_of([first])})
    confirmation = operator.page.forms[-1].values
    operator.fill_in("/dead-letters/carry-out")
    assert room.finish().status == 409 and operator.shows("Nothing was done")
    assert room.open_letters() == 2 and room.actions() == []
    for wrong in ({"letters": "1"}, {"digest": 32 * "0"}, {"ends": "0:9999,1:9999,2:9999,3:9999"}):
        operator.post("/dead-letters/carry-out", confirmation | wrong)
        assert room.finish().status == 409, wrong
    for malformed in (
        {"ends": "x"},
        {"digest": "x"},
        {"letters": "0"},
        {"before": "yesterday"},
        {"operation": "delete"},
    ):
        assert operator.post("/dead-letters/carry-out", confirmation | malformed).status == 422, malformed
    operator.get("/dead-letters?reason=schema").fill_in("/dead-letters/check", operation="purge")
    room.finish()
    operator.fill_in("/dead-letters/carry-out")
    assert room.finish().heading == "Purge done" and facts_of(operator) == {"purged": "1"}
    assert room.open_letters() == 1
    assert [action for action, _ in room.actions()] == ["purge-letters", "purge-letters-done"]
    operator.get("/dead-letters?reason=schema").fill_in("/dead-letters/check", operation="replay")
    assert room.finish().shows("No open letter matches, so nothing would happen.")


def test_work_belongs_to_the_session_that_began_it(room: OperatorRoom) -> None:
    room.plant(of_record(1))
    room.operator.get("/dead-letters").fill_in("/dead-letters/check", operation="purge")
    path = room.finish().path
    colleague = staff_browser(room.console, room.dsn, "operator", "Li Na")
    assert colleague.get(path).status == 404
    assert "event: finished" in room.operator.get(f"{path}/events").answer.text


def test_a_rule_set_is_compared_activated_computed_and_shown(room: OperatorRoom) -> None:
    operator = room.operator.get("/rule-sets/new")
    wrong = operator.fill_in("/rule-sets/compare", definition=RULES.replace("each-inquiry", "each-day"))
    assert wrong.status == 422 and wrong.shows("each-inquiry") and "fast-shop" in wrong.answer.text
    operator.get("/rule-sets/new").fill_in("/rule-sets/compare", definition=RULES, against="default")
    assert room.finish().heading == "Comparison of rule sets"
    assert operator.shows("2 of 2 companies differ") and 'data-company="c1"' in operator.answer.text
    comparison_path = operator.path
    before = room.owner.execute("SELECT count(*) FROM report_v1.reply_rate WHERE rule_set = 'fast-shop'").fetchone()
    assert before == (0,) and [action for action, _ in room.actions()] == ["rules-diff", *["rules-diff-done"] * 2]
    assert room.owner.execute(
        "SELECT array_agg(company_id ORDER BY company_id) FROM registry.staff_actions WHERE action = 'rules-diff-done'"
    ).fetchone() == (["c1", "c2"],), "a record for each company that is shown"
    operator.fill_in("/rule-sets/activate")
    assert operator.path == "/rule-sets/fast-shop/progress" and operator.shows("0 of 2 companies")
    action, detail = room.actions()[-1]
    assert action == "activate-rules" and detail["rule_set"] == "fast-shop" and detail["is_new"] is True
    assert detail["without_comparison"] is False
    refresher = Refresher(room.owner, [])
    while refresher.refresh():
        pass
    assert operator.get("/rule-sets/fast-shop/progress").shows("Nothing is being computed. fast-shop: active")
    slow, fast = (
        room.owner.execute(
            "SELECT timely FROM report_v1.reply_rate_latest WHERE rule_set = %s AND company_id = 'c1' AND level = 'company'",
            [name],
        ).fetchone()
        for name in ("default", "fast-shop")
    )
    assert slow is not None and fast is not None and fast[0] < slow[0]
    # A change needs a higher version, and a cancelled computation leaves the numbers as they are.
    changed = RULES.replace("14400", "7200")
    assert operator.get("/rule-sets/new").fill_in("/rule-sets/compare", definition=changed).shows("write version = 2")
    changed = changed.replace("version = 1", "version = 2")
    operator.get("/rule-sets/new").fill_in("/rule-sets/compare", definition=changed, company="c1")
    assert room.finish().shows("target_seconds") and operator.shows("Inquiries that differ")
    assert operator.shows("it is about one company only")
    assert operator.fill_in("/rule-sets/activate").status == 409 and operator.heading == "Nothing was activated"
    # The comparison with the default rule set was about the first version, before it was active.
    operator.get(comparison_path).fill_in("/rule-sets/activate")
    assert operator.status == 409 and recompute.progress(room.owner) == []
    operator.get("/rule-sets/new").fill_in("/rule-sets/compare", definition=changed)
    room.finish().fill_in("/rule-sets/activate")
    operator.fill_in("/rule-sets/fast-shop/cancel")
    assert operator.shows("Nothing is being computed") and room.actions()[-1][0] == "cancel-rules"
    assert recompute.progress(room.owner) == []
    # A confirmation for something else than what is defined now, and an unknown company.
    form = {"csrf": operator.page.forms[0].values["csrf"], "name": "amazon", "identity": "1+000000000000"}
    assert operator.post("/rule-sets/activate", form).status == 409 and operator.shows("Nothing was activated")
    operator.post("/rule-sets/compare", {"csrf": form["csrf"], "name": "amazon", "company": "nobody"})
    assert room.finish().shows("the company nobody is not known")
    assert operator.post("/rule-sets/compare", {"csrf": form["csrf"], "name": "no-such"}).status == 422
    assert operator.post("/rule-sets/activate", form | {"name": "airbnb"}).shows("REPLYRATE_HORIZON_DAYS=114")
    # Without a comparison the form asks for a confirmation, which the audit has.
    operator.get("/rule-sets/first-reply-24h").fill_in("/rule-sets/activate")
    assert operator.status == 409 and recompute.progress(room.owner) == []
    operator.get("/rule-sets/first-reply-24h").fill_in("/rule-sets/activate", without_comparison="true")
    action, detail = room.actions()[-1]
    assert action == "activate-rules" and detail["without_comparison"] is True
    assert operator.get("/audit").shows("without_comparison=True")
    assert operator.get("/rule-sets/none").status == 404


def test_a_comparison_begins_with_the_largest_changes_and_rounds_as_sellers_see_rates(
    room: OperatorRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_work, "SHOWN_COMPANIES", 1)
    monkeypatch.setattr(comparison, "BATCH_COMPANIES", 1)
    room.owner.execute("DELETE FROM ledger.replies WHERE company_id = 'c1' AND inquiry_id > 'i2'")
    definition = RULES.replace("window_days = 30", "window_days = 20") + 'rounding = "half-up-0"\n'
    room.operator.get("/rule-sets/new").fill_in("/rule-sets/compare", definition=definition, against="default")
    assert room.finish().shows("2 of 2 companies differ") and room.operator.shows("Only the first 1 of them are shown.")
    (company,) = comparison.compare(
        room.owner, rules.load_builtin("default"), rules.parse(definition, "x"), ["c2"], lambda *_: None
    )
    shown = [f"{company['rate_a'] * 100:.1f} %", f"{(company['rate_b'] * 100).quantize(Decimal(1), ROUND_HALF_UP)} %"]
    assert [cells[:3] for cells in rows(room.operator, "companies")] == [["c2", *shown]]
    room.operator.get("/rule-sets/new").fill_in(
        "/rule-sets/compare", definition=definition, against="default", company="c1"
    )
    assert room.finish().shows("within the counted days") and room.operator.shows("outside the counted days")


def test_a_computation_is_cancelled_only_as_the_page_showed_it(room: OperatorRoom) -> None:
    shown, activated = (rules.parse(RULES.replace("version = 1", f"version = {version}"), "x") for version in (1, 2))
    recompute.request(room.owner, shown)
    operator = room.operator.get("/rule-sets/fast-shop/progress")
    assert operator.shows(shown.identity)
    recompute.request(room.owner, activated)  # a colleague
    operator.fill_in("/rule-sets/fast-shop/cancel")
    assert operator.status == 409 and operator.shows("Nothing was cancelled.") and operator.shows(activated.identity)
    operator.get("/rule-sets/fast-shop/progress?lang=zh")
    operator.fill_in("/rule-sets/fast-shop/cancel", identity=shown.identity)
    assert operator.status == 409 and operator.shows("未取消任何计算。")
    assert [progress["identity"] for progress in recompute.progress(room.owner)] == [activated.identity]
    assert room.actions() == []
    operator.fill_in("/rule-sets/fast-shop/cancel")
    assert operator.path == "/rule-sets" and operator.status == 200 and recompute.progress(room.owner) == []
    assert room.actions() == [("cancel-rules", {"rule_set": "fast-shop", "identity": activated.identity})]


def test_a_comparison_has_a_short_transaction_for_each_batch_and_ends_with_its_session(
    room: OperatorRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "BATCH_COMPANIES", 1)
    default, proposed = rules.load_builtin("default"), rules.parse(RULES, "x")
    token = room.operator.client.cookies["replyrate-staff"]
    reported: list[tuple[int, int]] = []
    with closing(TokenDatabase(room.console.dsn, 2, "comparison")) as database:
        with database.transaction(token) as connection:
            session = StaffSessions(connection).own_session()
        assert session is not None
        resources = SimpleNamespace(database=database)
        staff = Staff(cast(Request, None), cast(ConsoleResources, resources), token, session, "en")

        def report(done: int, total: int) -> None:
            reported.append((done, total))
            assert [action for action, _ in room.actions()][-1] == "rules-diff", "recorded before anything is read"
            assert room.owner.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'comparison' AND xact_start IS NOT NULL"
            ).fetchone() == (0,)

        result = rule_work.compare(staff, default, ChosenRuleSet(proposed), "", report)
        assert (result.companies, result.changed, reported) == (2, 2, [(1, 2), (2, 2)])

        def end_session(done: int, total: int) -> None:
            with database.transaction(token) as connection:
                StaffSessions(connection).end()

        with pytest.raises(StaffSessionEnded):
            rule_work.compare(staff, default, ChosenRuleSet(proposed), "", end_session)
    assert [action for action, _ in room.actions()] == ["rules-diff", *["rules-diff-done"] * 2, "rules-diff"]


@pytest.fixture
def process_room(make_console: MakeConsole, dsn: str, topics_gone: str) -> Iterator[OperatorRoom]:
    """The console is a process with a log."""
    with operator_room(dsn, topics_gone, make_console) as started:
        yield started


def language_switch(browser: Browser) -> str:
    """The path to which the switch of the language leads; fails when it is no page. The language stays."""
    (address,) = re.findall(r'href="([^"]*lang=)zh"', browser.answer.text)
    assert browser.client.get(f"{address}en").status_code == 200, address
    return str(address).partition("?")[0]


def test_a_key_is_made_used_rotated_and_revoked(process_room: OperatorRoom, make_portal: MakePortal) -> None:
    room = process_room
    assert isinstance(room.console, Portal)
    operator = room.operator.get("/api-keys/new")
    refused = operator.fill_in("/api-keys", name="a@b.example", scopes=[], expires="2020-01-01", companies="x" * 129)
    assert (
        refused.status == 422 and refused.shows("Choose at least one scope.") and refused.shows("a day in the future")
    )
    assert language_switch(operator) == "/api-keys"
    operator.get("/api-keys/new").fill_in(
        "/api-keys", name="order system", scopes=["numbers:read", "registry:read"], companies="c1", expires=""
    )
    secret = operator.page.forms[-1].values.get("secret") or re.findall(r'value="(rrk_[^"]+)"', operator.answer.text)[0]
    assert operator.answer.headers["cache-control"] == "no-store"
    with make_portal() as portal:

        def status(key_secret: str) -> int:
            with portal.client() as client:
                return client.get("/v1/key", headers={"Authorization": f"Bearer {key_secret}"}).status_code

        assert status(secret) == 200
        operator.get("/api-keys")
        assert (
            operator.shows(datetime.now(UTC).strftime("%Y-%m-%d"))
            and operator.shows("numbers:read")
            and operator.shows(f"by {NAME}")
        )
        assert secret not in operator.answer.text
        (key_id,) = re.findall(r'href="/api-keys/(k-[^"]+)"', operator.answer.text)
        operator.get(f"/api-keys/{key_id}").fill_in(".*/rotate", overlap_hours=24)
        (rotated,) = re.findall(r'value="(rrk_[^"]+)"', operator.answer.text)
        assert (status(secret), status(rotated)) == (200, 200)
        assert language_switch(operator) == "/api-keys"
        operator.get(f"/api-keys/{key_id}").fill_in(".*/revoke")
        assert (
            operator.path == f"/api-keys/{key_id}"
            and facts_of(operator)["Revoked (UTC)"].endswith(")")
            and operator.shows(f"by {NAME} (w-")
        )
        assert (status(secret), status(rotated)) == (401, 200)
    form = {"csrf": operator.page.forms[0].values["csrf"]}
    assert operator.post(f"/api-keys/{key_id}/revoke", form).status == 409
    assert operator.post("/api-keys/k-none/revoke", form).status == 404
    assert operator.post(f"/api-keys/{key_id}/rotate", form | {"overlap_hours": 3000}).status == 422
    assert [action for action, _ in room.actions()] == ["create-key", "rotate-key", "revoke-key"]
    log = room.console.process.log.read_text("utf-8")
    assert secret not in log and rotated not in log and secret not in str(room.actions())


def test_the_overview_names_problems_with_their_entry_in_the_runbook(room: OperatorRoom) -> None:
    operator = room.operator.get("/overview")
    assert 'data-alert="ReplyrateDeadLetters"' not in operator.answer.text
    room.plant(of_record(1))
    with Publisher(room.kafka, "tests") as publisher:
        assert publisher.wait([publisher.send(INQUIRIES, b"c1", b"{}")]) == []
    room.owner.execute(
        "INSERT INTO ledger.pipeline (partition, passed_at) VALUES (0, clock_timestamp() - interval '2 hours')"
    )
    room.owner.execute(
        "UPDATE registry.mailboxes SET next_poll_at = now() - interval '3 hours' WHERE mailbox_id = 'm-c1'"
    )
    operator.get("/overview")
    problems = set(re.findall(r'data-alert="(\w+)"', operator.answer.text))
    assert {"ReplyrateDeadLetters", "ReplyratePipelineStands", "ReplyrateMailboxesOverdue"} <= problems
    assert operator.shows("docs/runbook.md#replyratepipelinestands")
    values = dict(re.findall(r'<data id="([a-z-]+)" value="(\d*)"', operator.answer.text))
    assert values["open-letters"] == "1" and values["matcher-lag"] == "1" and 7200 <= int(values["pipeline-age"]) < 7300
    assert operator.get("/overview?lang=zh").shows("需要处理的问题")


def test_the_overview_says_that_kafka_does_not_answer(make_console: MakeConsole, dsn: str) -> None:
    with make_console(KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:9") as console:
        operator = staff_browser(console, dsn, "operator").get("/overview")
        assert 'data-alert="ReplyrateDependencyAway"' in operator.answer.text
        assert operator.get("/dead-letters").status == 503
        until(lambda: operator.get("/rule-sets").status == 200, 5, "the pages without Kafka work")


def test_the_overview_shows_why_kafka_refuses_and_asks_it_without_a_connection_to_postgres(
    console_dsn: str, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions: list[Any] = []

    def refusing_admin(*_: Any) -> NoReturn:
        transactions.append(
            owner.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'replyrate-portal' AND xact_start IS NOT NULL"
            ).fetchone()
        )
        raise ConfigError("the broker refuses REPLYRATE_KAFKA__SASL_USERNAME; check user and password")

    monkeypatch.setattr(overview, "Admin", refusing_admin)
    with connect(dsn, "tests") as owner, console_in_process(console_dsn) as console:
        token = StaffSessions(owner).begin("s", NAME, "operator", StaffSessionLimits(30, 30, 30))
        page = console.request("GET", "/overview", headers={"cookie": f"replyrate-staff={token}"}).text
    assert 'data-alert="ReplyrateNotReady"' in page and "the broker refuses REPLYRATE_KAFKA__SASL_USERNAME" in page
    assert "ReplyrateDependencyAway" not in page and transactions == [(0,)]
