"""No answer of any route tells of others: neither what they have, nor whether they exist (tests/portal/leak_matrix.py).

An id of others and one of nobody get the same status, headers and text, also in the cursor of a list. In place of times the statements that
are sent to Postgres are compared, their texts and their number: a test of times fails on a busy machine and proves nothing on an idle one.
How long Postgres takes for the same statement, and Python for the same page, is not compared.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import httpx
import psycopg
import pytest

from services.aggregator.judge import rules
from services.common.postgres import connect
from services.recount.company import CompanyRecount
from services.registry.api_keys import SCOPES, ApiKeys
from services.registry.connect_requests import ConnectRequests
from services.registry.portal_sessions import LinkRequest, PortalSessions, Purpose
from services.registry.sealing import OpeningKeys
from tests.portal.leak_answers import OWN, Ids, differing, ids_of, in_cursors, open_link, plain, seen, session
from tests.portal.leak_matrix import (
    LISTS_OF_FOLDERS,
    OUTSIDE_THE_DOCUMENT,
    PAGES,
    Case,
    Row,
    Sender,
    cases,
    request,
    rows_of_the_document,
    served,
    unknown,
    with_each_export,
    with_lists_of_folders,
)
from tests.support.archived_inquiry import put_archived
from tests.support.panel_world import seed_world
from tests.support.portal_in_process import PortalInProcess, portal_in_process
from tests.support.portal_lab import portal_login

FOREIGN = "hx-tools"
MAIN, SUB, STRANGER = "lt-main", "lt-sub-chen", "hx-main"
BARE = "lt-sub-wu"
"""A sub-account without a mailbox; the mailbox of the main account answers some of its inquiries."""
OF_MAIN = ("mailbox_id", "request_id", "list_request_id", "folder", "session_id")
"""Kinds of ids of the main account that its sub-accounts may not be sent."""


@dataclass
class Scene:
    """Two companies behind the application, and who sends requests. `login`: that of a web process; `of_main`: ids of the main account that its sub-accounts may not be sent."""

    portal: PortalInProcess
    owner: psycopg.Connection
    login: str
    rows: Mapping[str, Row]
    senders: tuple[Sender, ...]
    foreign: Ids
    of_main: frozenset[str]

    def sent(self, route: str, sender: Sender, ids: Ids) -> tuple[httpx.Response, Counter[str]]:
        """The answer, and the statements that it took."""
        method, path, options = request(route, self.rows[route], sender, ids)
        answer = self.portal.request(method, path, **options)
        return answer, Counter(self.portal.statements)


def senders(owner: psycopg.Connection, main: Ids, sub: Ids, bare: Ids) -> Iterator[Sender]:
    """Every kind of sender, and every reason why a token is good for nothing."""
    keys = ApiKeys(owner)

    def cookie(name: str, purpose: str, change: str = "opened_at = now()", account_id: str = SUB) -> Sender:
        kind, is_main = "frame" if purpose == "frame" else "cookie", account_id == MAIN
        token, is_alive = session(owner, account_id, purpose, change), change == "opened_at = now()"
        sees_company = is_main and purpose != "connect"
        # An explanation for the account without a mailbox names the main account, so it is compared with the other sub-account.
        own, of_colleague = {MAIN: (main, sub), SUB: (sub, main), BARE: (bare, sub)}[account_id]
        return Sender(name, kind, token, is_alive, sees_company, own, of_colleague)  # type: ignore[arg-type]

    def key(name: str, prefix: str, scopes: tuple[str, ...] = SCOPES, change: str = "") -> Sender:
        new_key = keys.add(name, scopes, prefix, by="tests")
        if change:
            owner.execute(f"UPDATE registry.api_keys SET {change} WHERE key_id = %s".encode(), [new_key.key_id])
        return Sender(name, "key", new_key.secret, not change, prefix == "lt-", sub, main)

    yield Sender("no token", "none", "", False, False, sub, main)
    yield cookie("connect session", "connect")
    yield cookie("panel of the main account", "panel", account_id=MAIN)
    yield cookie("panel of a sub-account", "panel")
    yield cookie("frame of the main account", "frame", account_id=MAIN)
    yield cookie("frame of a sub-account", "frame")
    yield cookie("frame of a sub-account without a mailbox", "frame", account_id=BARE)
    yield key("key of the company's prefix", "lt-")
    yield key("key of another prefix", "zz-")
    yield key("key without the scope", "lt-", ("audit:read",))
    for purpose in ("connect", "panel", "frame"):
        yield cookie(f"{purpose}: expired", purpose, "expires_at = now() - interval '1 second'")
        yield cookie(f"{purpose}: ended", purpose, "ended_at = now()")
    yield cookie("panel: never opened", "panel", "opened_at = NULL")
    yield key("expired key", "lt-", change="expires_at = now() - interval '1 second'")
    yield key("revoked key", "lt-", change="revoked_at = now()")


@pytest.fixture(scope="module")
def scene(postgres: Callable[[], str]) -> Iterator[Scene]:
    dsn = postgres()
    with connect(dsn, "tests") as owner, portal_login(dsn) as login, portal_in_process(login) as portal:
        seeded = seed_world(owner, 1, ("default",), (OWN, FOREIGN))
        ConnectRequests(owner).publish_key(OpeningKeys(b"v" * 32).current)
        main, sub, bare = (ids_of(seeded, owner, OWN, account_id) for account_id in (MAIN, SUB, BARE))
        foreign = ids_of(seeded, owner, FOREIGN, STRANGER)
        outcomes = CompanyRecount(OWN, seeded.facts[OWN], rules.load_builtin("default").parameters()).outcomes(
            seeded.now
        )
        # An inquiry that was reassigned belongs to the account that has it now.
        of_main = {inquiry_id for inquiry_id, outcome in outcomes.items() if outcome["account_id"] == MAIN}
        hidden = frozenset({*of_main, *(main[kind] for kind in OF_MAIN)})
        rows = with_lists_of_folders(with_each_export({**PAGES, **rows_of_the_document()}))
        yield Scene(portal, owner, login, rows, tuple(senders(owner, main, sub, bare)), foreign, hidden)


def test_every_route_has_a_row(scene: Scene) -> None:
    routes = served(scene.portal.app)
    assert routes - OUTSIDE_THE_DOCUMENT == {*PAGES, *rows_of_the_document()}, (
        "add the route to PAGES, or its body to BODIES (leak_matrix.py)"
    )


def test_a_list_of_folders_is_shown_to_its_own_account_and_takes_its_choice(scene: Scene) -> None:
    (seller,) = (sender for sender in scene.senders if sender.name == "connect session")
    listed, choice = (route.replace("{request_id}", "{list_request_id}") for route in LISTS_OF_FOLDERS)
    page, _ = scene.sent(listed, seller, seller.own)
    assert page.status_code == 200 and seller.own["folder"] in page.text
    assert scene.sent(choice, seller, {**seller.own, "folder": scene.foreign["folder"]})[0].status_code == 422
    assert scene.sent(choice, seller, seller.own)[0].status_code == 303


def facts_of_others(scene: Scene, sender: Sender, case: Case, answer: httpx.Response) -> set[str]:
    """Texts in an answer that belong to others, the ids that were sent aside."""
    text = plain(answer.text + str(answer.headers), case.ids)
    text += plain(in_cursors(text), case.ids)
    if not sender.is_alive or sender.name in ("key of another prefix", "key without the scope"):
        hidden = {OWN, FOREIGN, *scene.of_main, *scene.foreign.values(), *sender.own.values()}
    elif sender.sees_company:
        hidden = {*scene.foreign.values(), "hx-"}
        if sender.kind != "key":
            hidden.add(sender.of_colleague["mailbox_id"])
    else:
        hidden = {*scene.foreign.values(), "hx-", *scene.of_main}
    sent = set(case.ids.values())
    return {word for word in hidden if word in text and word not in sent}


@pytest.mark.timeout(900)
def test_no_answer_tells_of_others_or_whether_they_exist(scene: Scene) -> None:
    problems: list[str] = []
    counts: Counter[str] = Counter()
    pages_of: Counter[str] = Counter()
    for route, route_row in scene.rows.items():
        for sender in scene.senders:
            for case in cases(route, route_row, sender, scene.foreign):
                name = f"{route} · {sender.name} · {case.name}"
                answer, statements = scene.sent(route, sender, case.ids)
                counts["requests"] += 1
                if case.name == "cursor" and answer.status_code == 200:
                    pages_of[route] += 1
                if answer.status_code >= 500:
                    problems.append(f"{name}: {answer.status_code}")
                if facts := facts_of_others(scene, sender, case, answer):
                    problems.append(f"{name}: {answer.status_code} tells {sorted(facts)[:3]}")
                if case.twin is None:
                    continue
                counts["pairs"] += 1
                twin_answer, twin_statements = scene.sent(route, sender, case.twin)
                answered, twin_answered = seen(answer, case.ids), seen(twin_answer, case.twin)
                if answered != twin_answered:
                    # Pages show the time that is left: a minute may end between two requests, but not twice in a row.
                    answered, twin_answered = (
                        seen(scene.sent(route, sender, ids)[0], ids) for ids in (case.ids, case.twin)
                    )
                if answered != twin_answered:
                    problems.append(f"{name}: {differing(answered, twin_answered)}")
                if statements != twin_statements:
                    extra = [*(statements - twin_statements), *(twin_statements - statements)]
                    problems.append(f"{name}: other statements: {[text.partition(chr(10))[0] for text in extra][:4]}")
    print(f"{len(scene.rows)} routes, {len(scene.senders)} senders, {dict(counts)}")
    assert not problems, "\n".join([f"{len(problems)} problems", *problems])
    assert counts["pairs"] > 700
    assert pages_of.keys() == {route for route, route_row in scene.rows.items() if route_row.cursor}, "a cursor is none"


def test_an_archived_inquiry_of_others_is_answered_as_one_that_never_existed(scene: Scene) -> None:
    archived = {
        account_id: put_archived(scene.owner, company_id, account_id, f"a-{account_id}")
        for company_id, account_id in ((OWN, MAIN), (OWN, SUB), (FOREIGN, STRANGER))
    }
    of_before = put_archived(scene.owner, OWN, None, "a-before")
    seen_archived: dict[str, set[str]] = {}
    for route in ("GET /panel/why", "GET /v1/companies/{company_id}/inquiries/{inquiry_id}/explanation"):
        for sender in scene.senders:
            for inquiry_id in (*archived.values(), of_before):
                company_id = FOREIGN if inquiry_id == archived[STRANGER] else OWN
                # Ids of the sender's own company, too: an id of another company is none of them.
                for asked_company in {OWN, company_id}:
                    ids = {**sender.own, "company_id": asked_company, "inquiry_id": inquiry_id}
                    never = {**ids, "inquiry_id": unknown(inquiry_id)}
                    answer, statements = scene.sent(route, sender, ids)
                    if answer.status_code == 200:
                        assert "2026-03-04 05:06:07" in answer.text
                        assert ("replyrate explain" in answer.text) == (sender.kind == "key"), (
                            "sellers have no commands"
                        )
                        seen_archived.setdefault(sender.name, set()).add(inquiry_id)
                        continue
                    twin_answer, twin_statements = scene.sent(route, sender, never)
                    assert seen(answer, ids) == seen(twin_answer, never), (route, sender.name, inquiry_id)
                    assert statements == twin_statements, (route, sender.name, inquiry_id)
    everything = {archived[MAIN], archived[SUB], of_before}
    assert seen_archived == {
        "panel of the main account": everything,
        "frame of the main account": everything,
        "key of the company's prefix": everything,
        "panel of a sub-account": {archived[SUB]},
        "frame of a sub-account": {archived[SUB]},
    }


def test_the_token_of_a_sub_account_reads_no_row_of_an_archived_inquiry_of_another_one(scene: Scene) -> None:
    put_archived(scene.owner, OWN, SUB, "a-own-row")
    put_archived(scene.owner, OWN, MAIN, "a-row-of-main")
    put_archived(scene.owner, FOREIGN, STRANGER, "a-row-of-stranger")
    for sender, rows in (
        ("frame of a sub-account", {"a-own-row"}),
        ("panel of a sub-account", {"a-own-row"}),
        ("panel of the main account", {"a-own-row", "a-row-of-main"}),
        ("connect session", set()),
    ):
        (token,) = (each.token for each in scene.senders if each.name == sender)
        with connect(scene.login, "tests") as web_process, web_process.transaction():
            web_process.execute("SELECT set_config('replyrate.token', %s, true)", [token])
            stored = web_process.execute(
                "SELECT inquiry_id FROM ledger.archived_inquiries WHERE inquiry_id LIKE 'a-%row%'"
            )
            assert {inquiry_id for (inquiry_id,) in stored} == rows, sender


def unknown_token(token: str) -> str:
    """A token of the same kind that was never made."""
    return f"{token.partition('_')[0]}_{secrets.token_urlsafe(32)}"


@pytest.mark.timeout(900)
def test_a_dead_token_is_answered_as_one_that_never_existed(scene: Scene) -> None:
    problems: list[str] = []
    dead = [sender for sender in scene.senders if not sender.is_alive and sender.kind != "none"]
    assert len(dead) == 9
    for sender in dead:
        never = replace(sender, token=unknown_token(sender.token))
        assert len(never.token) == len(sender.token)
        for route in scene.rows:
            answer, statements = scene.sent(route, sender, sender.own)
            twin_answer, twin_statements = scene.sent(route, never, never.own)
            answered, twin_answered = seen(answer, sender.own), seen(twin_answer, never.own)
            if answered != twin_answered:
                problems.append(f"{route} · {sender.name}: {differing(answered, twin_answered)}")
            if statements != twin_statements:
                problems.append(f"{route} · {sender.name}: other statements")
    assert not problems, "\n".join([f"{len(problems)} problems", *problems])


@pytest.mark.parametrize("purpose", ["connect", "panel"])
def test_a_link_that_cannot_be_opened_is_answered_as_one_that_never_existed(scene: Scene, purpose: Purpose) -> None:
    def link(change: str = "") -> str:
        new_link = PortalSessions(scene.owner).make_link(
            LinkRequest(company_id=OWN, account_id=SUB, created_by="tests", purpose=purpose), 30
        )
        if change:
            scene.owner.execute(
                f"UPDATE registry.portal_sessions SET {change} WHERE session_id = %s".encode(), [new_link.session_id]
            )
        return new_link.token

    used = link()
    assert [answered[0][0] for answered in open_link(scene.portal, used)] == [200, 303]
    never = open_link(scene.portal, unknown_token(used))
    assert [answered[0][0] for answered in never] == [200, 410]
    dead = {
        "used": used,
        "expired": link("expires_at = now() - interval '1 second'"),
        "revoked": link("ended_at = now()"),
    }
    for name, token in dead.items():
        assert open_link(scene.portal, token) == never, name
