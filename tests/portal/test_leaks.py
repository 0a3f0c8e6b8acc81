"""No answer of any route tells of others: neither what they have, nor whether they exist (tests/portal/leak_matrix.py).

An id of others and one of nobody get the same status, headers and text, by the same statements in the same number, so the time of an
answer tells nothing either. Times are not compared here: a test of times fails on a busy machine and proves nothing on an idle one.
"""

import json
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

import httpx
import psycopg
import pytest

from services.aggregator.judge import rules
from services.common.postgres import connect
from services.connect import consent
from services.recount.company import CompanyRecount
from services.registry.api_keys import SCOPES, ApiKeys
from services.registry.connect_requests import ConnectRequests
from services.registry.sealing import OpeningKeys
from services.registry.staff_sessions import StaffSessionLimits, StaffSessions
from tests.portal.leak_matrix import (
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
)
from tests.support.panel_world import PanelWorld, seed_world
from tests.support.portal_in_process import ORIGIN, PortalInProcess, console_in_process, portal_in_process
from tests.support.portal_lab import portal_login

OWN, FOREIGN = "lt-textile", "hx-tools"
MAIN, SUB, STRANGER = "lt-main", "lt-sub-chen", "hx-main"
CHANGING = frozenset({"date", "ratelimit-remaining", "ratelimit-reset", "ratelimit", "x-request-id"})
"""Headers that are others with every request of a sender."""
PROOF = re.compile(r'name="csrf" value="[^"]*"')
"""Of a form: it follows from a secret that a browser without cookies gets with each page."""
Ids = Mapping[str, str]


@dataclass
class Scene:
    """Two companies behind the application, and who sends requests. `of_main`: ids of the main account that its sub-accounts may not be sent."""

    portal: PortalInProcess
    rows: Mapping[str, Row]
    senders: tuple[Sender, ...]
    foreign: Ids
    of_main: frozenset[str]

    def sent(self, route: str, sender: Sender, ids: Ids) -> tuple[httpx.Response, Counter[str]]:
        """The answer, and the statements that it took."""
        method, path, options = request(route, self.rows[route], sender, ids)
        answer = self.portal.request(method, path, **options)
        return answer, Counter(self.portal.statements)


def ids_of(seeded: PanelWorld, owner: psycopg.Connection, company_id: str, account_id: str) -> Ids:
    """What belongs to an account, with a finished connect request and a link that was made for it."""
    company = next(company for company in seeded.world.companies if company.company_id == company_id)
    request_id, session_id = f"r-{secrets.token_hex(16)}", f"s-{secrets.token_hex(6)}"
    mailbox_id = next(
        mailbox.key for mailbox in company.mailboxes if mailbox.connected and mailbox.account_id == account_id
    )
    owner.execute(
        "INSERT INTO registry.connect_requests (request_id, company_id, account_id, mailbox_id, purpose, key_id, state, code, finished_at)"
        " VALUES (%s, %s, %s, %s, 'test', 'k', 'failed', 'login-refused', now())",
        [request_id, company_id, account_id, mailbox_id],
    )
    owner.execute(
        "INSERT INTO registry.portal_sessions (session_id, token_hash, company_id, account_id, role, language, created_by, expires_at)"
        " VALUES (%s, sha256(%s), %s, %s, 'registered', 'en', 'tests', now() + interval '1 hour')",
        [session_id, session_id.encode(), company_id, account_id],
    )
    asked = next(asked for asked in seeded.facts[company_id].asked if asked.account_id == account_id)
    return {
        "company_id": company_id, "account_id": account_id, "mailbox_id": mailbox_id, "inquiry_id": asked.inquiry_id,
        "session_id": session_id, "request_id": request_id, "linked_company_id": company_id, "prefix": company_id,
        "token": f"rrl_{secrets.token_urlsafe(32)}",
    }  # fmt: skip


def session(owner: psycopg.Connection, account_id: str, purpose: str, change: str = "opened_at = now()") -> str:
    """The token of a session in a browser or a frame that has consented to the current text."""
    token = f"rrs_{secrets.token_urlsafe(32)}"
    owner.execute(
        "INSERT INTO registry.portal_sessions (session_id, token_hash, company_id, account_id, role, language, created_by, purpose,"
        " opened_at, expires_at, consent_by, consent_at, consent_text_version, consent_language)"
        " VALUES (%s, sha256(%s), %s, %s, 'registered', 'en', 'tests', %s, now(), now() + interval '1 hour', 'Li', now(), %s, 'en')",
        [f"s-{secrets.token_hex(6)}", token.encode(), OWN, account_id, purpose, consent.load().current.version],
    )
    owner.execute(
        f"UPDATE registry.portal_sessions SET {change} WHERE token_hash = sha256(%s)".encode(), [token.encode()]
    )
    return token


def senders(owner: psycopg.Connection, main: Ids, sub: Ids) -> Iterator[Sender]:
    """Every kind of sender, and every reason why a token is good for nothing."""
    keys = ApiKeys(owner)

    def cookie(name: str, purpose: str, change: str = "opened_at = now()", account_id: str = SUB) -> Sender:
        kind, is_main = "frame" if purpose == "frame" else "cookie", account_id == MAIN
        token, is_alive = session(owner, account_id, purpose, change), change == "opened_at = now()"
        sees_company = is_main and purpose != "connect"
        return Sender(name, kind, token, is_alive, sees_company, main if is_main else sub, sub if is_main else main)  # type: ignore[arg-type]

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
        main, sub = (ids_of(seeded, owner, OWN, account_id) for account_id in (MAIN, SUB))
        foreign = ids_of(seeded, owner, FOREIGN, STRANGER)
        outcomes = CompanyRecount(OWN, seeded.facts[OWN], rules.load_builtin("default").parameters()).outcomes(
            seeded.now
        )
        # An inquiry that was reassigned belongs to the account that has it now.
        of_main = {inquiry_id for inquiry_id, outcome in outcomes.items() if outcome["account_id"] == MAIN}
        hidden = frozenset({*of_main, main["mailbox_id"], main["request_id"], main["session_id"]})
        yield Scene(portal, {**PAGES, **rows_of_the_document()}, tuple(senders(owner, main, sub)), foreign, hidden)


def test_every_route_has_a_row(scene: Scene) -> None:
    routes = served(scene.portal.app)
    assert routes - OUTSIDE_THE_DOCUMENT == set(scene.rows), (
        "add the route to PAGES, or its body to BODIES (leak_matrix.py)"
    )


def plain(text: str, ids: Ids) -> str:
    """A text without the ids that were sent, in each form in which a page or a problem repeats them."""
    for kind, value in sorted(ids.items(), key=lambda entry: -len(entry[1])):
        for form in {
            value,
            escape(value),
            escape(value, quote=False),
            quote(value, safe=""),
            quote(value),
            json.dumps(value)[1:-1],
        }:
            text = text.replace(form, f"<{kind}>")
    return text


def seen(answer: httpx.Response, ids: Ids) -> tuple[int, list[tuple[str, str]], str]:
    """What a sender sees of an answer."""
    headers = [
        (name, "" if name == "set-cookie" else plain(value, ids))
        for name, value in answer.headers.multi_items()
        if name not in CHANGING
    ]
    return answer.status_code, headers, PROOF.sub("", plain(answer.text, ids))


def facts_of_others(scene: Scene, sender: Sender, case: Case, answer: httpx.Response) -> set[str]:
    """Texts in an answer that belong to others, the ids that were sent aside."""
    text = plain(answer.text + str(answer.headers), case.ids)
    if not sender.is_alive or sender.name in ("key of another prefix", "key without the scope"):
        hidden = {OWN, FOREIGN, *scene.of_main, *scene.foreign.values(), *sender.own.values()}
    elif sender.sees_company:
        hidden = {*scene.foreign.values(), "hx-"}
    else:
        hidden = {*scene.foreign.values(), "hx-", *scene.of_main}
    sent = set(case.ids.values())
    return {word for word in hidden if word in text and word not in sent}


@pytest.mark.timeout(900)
def test_no_answer_tells_of_others_or_whether_they_exist(scene: Scene) -> None:
    problems: list[str] = []
    counts: Counter[str] = Counter()
    for route, route_row in scene.rows.items():
        for sender in scene.senders:
            for case in cases(route, route_row, sender, scene.foreign):
                name = f"{route} · {sender.name} · {case.name}"
                answer, statements = scene.sent(route, sender, case.ids)
                counts["requests"] += 1
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


def differing(answered: tuple[object, ...], twin_answered: tuple[object, ...]) -> str:
    """Where two answers differ."""
    part = next(number for number in range(3) if answered[number] != twin_answered[number])
    first, second = str(answered[part]), str(twin_answered[part])
    at = next((place for place, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), 0)
    return f"{('status', 'headers', 'text')[part]}: {first[max(0, at - 30) : at + 60]!r} and {second[max(0, at - 30) : at + 60]!r}"


def staff_session(owner: psycopg.Connection, change: str) -> str:
    """The token of a session of an operator that is good for nothing any more."""
    token = StaffSessions(owner).begin("s", "Wang Fang", "operator", StaffSessionLimits(60, 60, 90))
    owner.execute(
        f"UPDATE registry.staff_sessions SET {change} WHERE token_hash = sha256(%s)".encode(), [token.encode()]
    )
    return token


def test_the_console_answers_all_who_are_no_staff_in_one_way(postgres: Callable[[], str]) -> None:
    """Every route of the console, with the tokens of everybody else: ids that exist and others, as without a token."""
    dsn = postgres()
    with connect(dsn, "tests") as owner, portal_login(dsn, "console") as login, console_in_process(login) as console:
        seeded = seed_world(owner, 1, ("default",), (OWN,))
        ids = ids_of(seeded, owner, OWN, SUB)
        tokens = {
            "panel": session(owner, MAIN, "panel"), "key": ApiKeys(owner).add("platform", SCOPES, "", by="tests").secret,
            "unopened link": StaffSessions(owner).make_link("operator", "Wang Fang").token,
            "expired": staff_session(owner, "expires_at = now() - interval '1 second'"), "ended": staff_session(owner, "ended_at = now()"),
            "unknown": f"rrw_{secrets.token_urlsafe(32)}",
        }  # fmt: skip
        routes = served(console.app)
        assert len(routes) >= 5
        for route in routes:
            method, _, template = route.partition(" ")
            for case_ids in (ids, {kind: unknown(value) for kind, value in ids.items()}):
                path = "".join(
                    quote(case_ids.get(part, "x"), safe="") if number % 2 else part
                    for number, part in enumerate(re.split(r"\{(\w+)[^}]*\}", template))
                )
                query = {name: case_ids[name] for name in ("company_id", "account_id", "mailbox_id", "inquiry_id")} | {
                    "q": case_ids["company_id"]
                }
                nobody = console.request(method, path, params=query, headers={"origin": ORIGIN})
                assert nobody.status_code < 500, route
                for name, token in tokens.items():
                    headers = {
                        "origin": ORIGIN,
                        "cookie": f"replyrate-staff={token}",
                        "authorization": f"Bearer {token}",
                    }
                    answer = console.request(method, path, params=query, headers=headers)
                    assert seen(answer, case_ids) == seen(nobody, case_ids), (route, name)
                    assert not facts_of(ids, plain(answer.text, case_ids)), (route, name)


def facts_of(ids: Ids, text: str) -> list[str]:
    """The ids in a text."""
    return [value for value in ids.values() if value in text]
