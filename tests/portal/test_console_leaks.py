"""Who reaches which route of the console, and what its answers tell of what does not exist: nobody without a session, each role its own
pages, and nothing of a company that was erased. A new route without a row fails.
"""

import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

import httpx
import psycopg
import pytest

from services.aggregator.ingest.ledger import Ledger
from services.aggregator.refresh.refresh import Refresher
from services.common.events import CompanyErased
from services.common.hashing import Hasher
from services.common.kafka import Publisher
from services.common.postgres import connect
from services.common.topics import REPLIES
from services.portal.api.figures import DIAGNOSIS, LATEST_RATES
from services.portal.pages.seller import form_proof
from services.registry.api_keys import SCOPES, ApiKeys
from services.registry.erasure import erase
from services.registry.registry import Registry
from services.registry.staff_sessions import StaffRole, StaffSessionLimits, StaffSessions
from services.registry.vault import Vault
from tests.portal.leak_answers import OWN, Ids, Seen, differing, ids_of, open_link, plain, seen, session
from tests.portal.leak_matrix import Row, cursor_of, following, served, unknown, with_cursor
from tests.support.panel_world import seed_world
from tests.support.portal_in_process import ORIGIN, PortalInProcess, console_in_process
from tests.support.portal_lab import portal_login

MAIN, SUB = "lt-main", "lt-sub-chen"
OTHER, OTHER_ACCOUNT = "zz-tools", "zz-main"
OPERATORS_ONLY = "Only operators can do this"


@dataclass(frozen=True, slots=True)
class ConsoleRow:
    """A route: the least role that reaches it ("nobody": also without a session), and the values of its form. `needs_kafka`: an operator
    gets an answer of it only with a broker (tests/portal/test_console_operate.py)."""

    role: StaffRole | str
    form: Mapping[str, str] | None = None
    needs_kafka: bool = False


def operators(**form: str) -> ConsoleRow:
    """A form of operators."""
    return ConsoleRow("operator", form)


READS, OPERATES = ConsoleRow("support"), ConsoleRow("operator")
COMPANY = "/companies/{company_segment}"
LINK = COMPANY + "/accounts/{account_segment}/link"
MAILBOX = COMPANY + "/mailboxes/{mailbox_segment}"
LETTERS = {"operation": "purge", "ends": "0:1", "letters": "1", "digest": 32 * "0"}
ROWS: Mapping[str, ConsoleRow] = {
    "GET /sign-in": ConsoleRow("nobody"),
    "GET /link/{token}": ConsoleRow("nobody"),
    "POST /link/{token}": ConsoleRow("nobody", {}),
    "GET /": READS,
    f"GET {COMPANY}": READS,
    f"GET {MAILBOX}": READS,
    f"GET {COMPANY}/inquiry": READS,
    f"GET {COMPANY}/inquiries/{{inquiry_segment}}": READS,
    f"GET {COMPANY}/inquiries/{{inquiry_segment}}/text": READS,
    f"GET {LINK}": READS,
    f"POST {LINK}": ConsoleRow("support", {"language": "en", "address": "seller@qq.com"}),
    "GET /mailboxes": READS,
    "GET /mailboxes/list": READS,
    "GET /mailboxes/export": READS,
    f"POST {MAILBOX}/{{action}}": operators(etag="x"),
    "GET /overview": ConsoleRow("operator", needs_kafka=True),
    "GET /dead-letters": ConsoleRow("operator", needs_kafka=True),
    "GET /dead-letters/{partition}/{offset}": ConsoleRow("operator", needs_kafka=True),
    "POST /dead-letters/check": ConsoleRow("operator", {"operation": "purge"}, needs_kafka=True),
    "POST /dead-letters/carry-out": ConsoleRow("operator", LETTERS, needs_kafka=True),
    "GET /rule-sets": OPERATES,
    "GET /rule-sets/new": OPERATES,
    "GET /rule-sets/{name}": OPERATES,
    "GET /rule-sets/{name}/progress": OPERATES,
    "GET /rule-sets/{name}/result": OPERATES,
    "GET /rule-sets/{name}/events": OPERATES,
    "POST /rule-sets/compare": operators(definition="name = 1"),
    "POST /rule-sets/activate": operators(name="none", identity="1+000000000000"),
    "POST /rule-sets/{name}/cancel": operators(identity="1+000000000000"),
    "GET /api-keys": OPERATES,
    "GET /api-keys/new": OPERATES,
    "GET /api-keys/{key_id}": OPERATES,
    "POST /api-keys": operators(name="x", scopes="numbers:read"),
    "POST /api-keys/{key_id}/rotate": operators(overlap_hours="1"),
    "POST /api-keys/{key_id}/revoke": operators(),
    "GET /jobs/{work_id}": OPERATES,
    "GET /jobs/{work_id}/result": OPERATES,
    "GET /jobs/{work_id}/events": OPERATES,
    "GET /audit": OPERATES,
    "POST /sign-out": ConsoleRow("support", {}),
}
SEGMENTS = {
    "company_segment": "company_id",
    "account_segment": "account_id",
    "mailbox_segment": "mailbox_id",
    "inquiry_segment": "inquiry_id",
}
CURSORS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    f"GET {COMPANY}": {
        "rates": cursor_of(LATEST_RATES),
        "causes": cursor_of(DIAGNOSIS),
        "accounts": ("{account_id}",),
        "links": ("{linked_company_id}",),
    },
    "GET /mailboxes/list": {"after": ("{company_id}", "{mailbox_id}")},
}
"""Route → parameters with a cursor → the parts of its key."""
FIXED = {"action": "pause", "name": "default", "partition": "0", "offset": "0"}
LIMITS = StaffSessionLimits(60, 60, 90)


@dataclass
class ConsoleScene:
    """A console beside a database with a company."""

    console: PortalInProcess
    owner: psycopg.Connection
    ids: Ids

    def staff(self, role: StaffRole, change: str = "") -> str:
        """The token of a new session, after a change of its row."""
        token = StaffSessions(self.owner).begin("s", "Wang Fang", role, LIMITS)
        if change:
            self.owner.execute(
                f"UPDATE registry.staff_sessions SET {change} WHERE token_hash = sha256(%s)".encode(), [token.encode()]
            )
        return token

    def sent(self, route: str, token: str, ids: Ids, cursor: str = "") -> tuple[httpx.Response, Counter[str]]:
        """The answer to a request with a valid form, and the statements that it took. `cursor`: the parameter with the cursor in `ids`."""
        method, _, template = route.partition(" ")
        parts = re.split(r"\{(\w+)[^}]*\}", template)
        values = {**FIXED, **ids}
        path = "".join(
            quote(values.get(SEGMENTS.get(part, part), "x"), safe="") if number % 2 else part
            for number, part in enumerate(parts)
        )
        query = {"company": ids["company_id"], "inquiry": ids["inquiry_id"], "q": ids["company_id"]}
        if cursor:
            query[cursor] = ids["cursor"]
        headers = {"origin": ORIGIN, "cookie": f"replyrate-staff={token}", "authorization": f"Bearer {token}"}
        options: dict[str, Any] = {"params": query, "headers": headers}
        if (form := ROWS[route].form) is not None:
            options["data"] = {"csrf": form_proof(token, "form"), **form}
        answer = self.console.request(method, path, **options)
        return answer, Counter(self.console.statements)

    def seen(self, route: str, token: str, ids: Ids) -> tuple[Seen, Counter[str]]:
        """The same, made comparable."""
        answer, statements = self.sent(route, token, ids)
        return seen(answer, ids), statements


@pytest.fixture
def scene(postgres: Callable[[], str]) -> Iterator[ConsoleScene]:
    dsn = postgres()
    with connect(dsn, "tests") as owner, portal_login(dsn, "console") as login, console_in_process(login) as console:
        seeded = seed_world(owner, 1, ("default",), (OWN,))
        yield ConsoleScene(console, owner, ids_of(seeded, owner, OWN, SUB))


def test_every_route_has_a_row(scene: ConsoleScene) -> None:
    assert served(scene.console.app) == set(ROWS), "say in ROWS which role reaches it"


def test_each_role_reaches_its_own_routes_alone(scene: ConsoleScene) -> None:
    problems: list[str] = []
    for route, console_row in ROWS.items():
        for role in ("support", "operator"):
            if role == "operator" and console_row.needs_kafka:
                continue
            answer, _ = scene.sent(route, scene.staff(role), scene.ids)
            is_refused = answer.status_code == 403 and OPERATORS_ONLY in answer.text
            if is_refused != (console_row.role == "operator" and role == "support") or answer.status_code >= 500:
                problems.append(f"{route} · {role}: {answer.status_code}")
            if is_refused and facts_of(scene.ids, plain(answer.text, scene.ids)):
                problems.append(f"{route} · {role}: the refusal tells of the company")
    assert not problems, "\n".join(problems)
    assert scene.owner.execute("SELECT count(*) FROM registry.api_keys").fetchone() == (1,), "the operator's"
    assert scene.owner.execute(
        "SELECT count(*) FROM registry.staff_actions WHERE role = 'support' AND action ~ '^(create|pause|cancel|activate)-'"
    ).fetchone() == (0,)


def test_the_console_answers_all_who_are_no_staff_in_one_way(scene: ConsoleScene) -> None:
    """Every route, with the tokens of everybody else: ids that exist and others, as without a token."""
    of_others = {
        "panel": session(scene.owner, MAIN, "panel"),
        "key": ApiKeys(scene.owner).add("platform", SCOPES, "", by="tests").secret,
        "unopened link": StaffSessions(scene.owner).make_link("operator", "Wang Fang").token,
    }  # fmt: skip
    dead = {
        "expired": scene.staff("operator", "expires_at = now() - interval '1 second'"),
        "ended": scene.staff("operator", "ended_at = now()"),
        "idle": scene.staff("operator", "used_at = now() - interval '61 minutes'"),
    }
    problems: list[str] = []
    for route in ROWS:
        unknown_ids = {kind: unknown(value) for kind, value in scene.ids.items()}
        for ids in (scene.ids, unknown_ids):
            nobody, _ = scene.seen(route, "", ids)
            never = scene.seen(route, f"rrw_{secrets.token_urlsafe(32)}", ids)
            assert nobody[0] < 500, route
            for name, token in {**of_others, **dead}.items():
                answer, statements = scene.sent(route, token, ids)
                if seen(answer, ids) != nobody or nobody != never[0]:
                    problems.append(f"{route} · {name}: {differing(seen(answer, ids), nobody)}")
                if facts_of(scene.ids, plain(answer.text, ids)):
                    problems.append(f"{route} · {name} tells of the company")
                if name in dead and statements != never[1]:
                    problems.append(f"{route} · {name}: other statements than with a token that never existed")
    assert not problems, "\n".join(problems)


def test_a_link_that_cannot_be_opened_is_answered_as_one_that_never_existed(scene: ConsoleScene) -> None:
    def link(change: str) -> str:
        new_link = StaffSessions(scene.owner).make_link("operator", "Wang Fang")
        if change:
            scene.owner.execute(
                f"UPDATE registry.staff_sessions SET {change} WHERE session_id = %s".encode(), [new_link.session_id]
            )
        return new_link.token

    used = link("")
    assert [answered[0][0] for answered in open_link(scene.console, used)] == [200, 303]
    dead = {
        "used": used, "expired": link("expires_at = now() - interval '1 second'"), "ended": link("ended_at = now()"),
        "a session's": scene.staff("operator"),
    }  # fmt: skip
    never = open_link(scene.console, f"rrx_{secrets.token_urlsafe(32)}")
    assert [answered[0][0] for answered in never] == [200, 410]
    for name, token in dead.items():
        assert open_link(scene.console, token) == never, name


def test_a_cursor_tells_nothing_of_the_ids_in_it(scene: ConsoleScene) -> None:
    """Lists of a company behind ids of another company, behind ids of nobody, and behind ids of its own."""
    registry = Registry(scene.owner, Hasher(bytes(32)), Vault(bytes(32)))
    registry.companies.add(OTHER)
    registry.accounts.add(OTHER, OTHER_ACCOUNT, kind="main")
    foreign_ids = {
        **scene.ids, "company_id": OTHER, "linked_company_id": OTHER, "account_id": OTHER_ACCOUNT, "mailbox_id": "zz-mailbox",
    }  # fmt: skip
    nobody = {kind: following(value) for kind, value in foreign_ids.items()}
    problems: list[str] = []
    token = scene.staff("support")
    for route, parameters in CURSORS.items():
        for parameter, parts in parameters.items():
            answers = []
            for of in (scene.ids, foreign_ids, nobody):
                ids = with_cursor(Row(cursor=parts), scene.ids, of)
                answer, statements = scene.sent(route, token, ids, parameter)
                assert answer.status_code == 200, (route, parameter, answer.text)
                answers.append((seen(answer, ids), statements))
            _, of_others, of_nobody = answers
            if of_others != of_nobody:
                problems.append(f"{route} · {parameter}: {differing(of_others[0], of_nobody[0])}")
    assert not problems, "\n".join(problems)


class NoBroker:
    """Accepts the event of an erasure; the test gives it to the ledger itself."""

    def send(self, *_: Any) -> object:
        return SimpleNamespace()

    def wait(self, _: Any) -> list[int]:
        return []


def test_what_an_erase_has_removed_is_answered_as_what_never_existed(scene: ConsoleScene) -> None:
    """Of the company itself the id stays (docs/privacy.md), and its page shows nothing else."""
    assert scene.sent(f"GET {MAILBOX}", scene.staff("support"), scene.ids)[0].status_code == 200
    erased = erase(scene.owner, cast(Publisher, NoBroker()), OWN)
    ledger = Ledger(scene.owner, REPLIES)
    (owned,) = ledger.take([3])
    ledger.merge(owned, owned.next_offset + 1, [CompanyErased(company_id=OWN, at=erased.at)])
    refresher = Refresher(scene.owner, [])
    while refresher.refresh():
        pass
    never = {kind: unknown(value) for kind, value in scene.ids.items()}
    in_company = {**never, "company_id": OWN}
    routes = [route for route, console_row in ROWS.items() if "{company_segment}" in route or route == "GET /"]
    routes.remove(f"GET {COMPANY}")
    assert len(routes) == 8
    problems: list[str] = []
    roles: tuple[StaffRole, ...] = ("support", "operator")
    for role in roles:
        token = scene.staff(role)
        page, _ = scene.sent(f"GET {COMPANY}", token, scene.ids)
        assert page.status_code == 200 and "Nothing was judged yet." in page.text
        assert not facts_of(scene.ids, plain(page.text, {"company_id": OWN}))
        for route in routes:
            answered, statements = scene.seen(route, token, scene.ids)
            for name, ids in {"another id": in_company, "an id of another company": never}.items():
                twin_answered, twin_statements = scene.seen(route, token, ids)
                if answered != twin_answered:
                    problems.append(f"{route} · {role} · {name}: {differing(answered, twin_answered)}")
                if name == "another id" and statements != twin_statements:
                    problems.append(f"{route} · {role} · {name}: other statements")
    assert not problems, "\n".join(problems)


def facts_of(ids: Ids, text: str) -> list[str]:
    """The ids in a text."""
    return [value for value in ids.values() if value in text]
