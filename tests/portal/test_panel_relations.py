"""What the panel reads: the views of report_v1 as far as the session sees them, and a short list of other relations.

The list and its reasons are in docs/panel.md. Relations are those that the statements of a request name, so a page that reads a further table
fails here.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import pytest

from services.common.postgres import connect
from services.portal.pages.seller import form_proof
from services.portal.panel.scope import LISTS
from tests.portal import api_document
from tests.portal.leak_answers import OWN as COMPANY
from tests.portal.leak_answers import session
from tests.portal.leak_matrix import served
from tests.support.panel_world import seed_world
from tests.support.portal_in_process import ORIGIN, PortalInProcess, portal_in_process
from tests.support.portal_lab import portal_login

MAIN, SUB = "lt-main", "lt-sub-chen"
REPORT: Final = "report_token_v1."
SESSION: Final = frozenset({"registry.panel_session"})
"""Whose session it is: every request begins with it."""
MAILBOXES: Final = frozenset({"registry.mailboxes"})
PROBE: Final = MAILBOXES | {
    "registry.own_probe", "registry.begin_probe", "registry.sent_mail_facts", "registry.messages_since",
}  # fmt: skip
EXPLAINED: Final = frozenset(
    {
        *(f"ledger.{name}" for name in ("inquiries", "statuses", "replies", "outcomes", "outcome_history", "settled", "passed")),
        *(f"ledger.{name}" for name in ("companies", "dirty", "rate_ends", "archive_parts", "archived_inquiries")),
        "registry.coverage", "registry.mailbox_reading", "registry.stored_message",
    }
)  # fmt: skip
"""Relations that the judging statement reads, and those that describe its facts."""
EXCEPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "GET /panel/diagnosis": MAILBOXES,
    "GET /panel/mailboxes": MAILBOXES | {"registry.accounts"},
    "GET /panel/test-mail": PROBE,
    "POST /panel/test-mail": PROBE | {"registry.session"},
    "GET /panel/test-mail/result": PROBE,
    "GET /panel/test-mail/events": PROBE,
    "GET /panel/why": EXPLAINED,
}
"""Route → what it reads besides."""
KNOWN_COMPANIES: Final = frozenset({"registry.companies", "ledger.companies"})
"""Whether the company exists for the token, and the ids of companies that have facts."""
NAMED: Final = re.compile(
    r"\b(?:FROM|JOIN|INTO|UPDATE|LATERAL)\s+(?!LATERAL\b)([a-z_][a-z_0-9]*(?:\.[a-z_0-9]+)?)|\b((?:registry|ledger|access)\.[a-z_0-9]+)"
)
PART: Final = re.compile(r"\b([a-z_][a-z_0-9]*)(?:\s*\([a-z_0-9, ]*\))?\s+AS\s+(?:NOT\s+)?(?:MATERIALIZED\s+)?\(")
"""The name of a part of a statement: WITH name AS (…)."""
TEXT: Final = re.compile(r"--[^\n]*|'[^']*'")
EXISTING: Final = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'v', 'm', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
UNION SELECT n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
"""
"""Every relation and function of the database."""


def relations(statements: list[str], existing: frozenset[str]) -> set[str]:
    """The relations and functions of the database that statements name; a name without a schema is one of the ledger, as in judge.sql."""
    names: set[str] = set()
    for statement in statements:
        text = TEXT.sub("", statement)
        named = {name or qualified for name, qualified in NAMED.findall(text)} - set(PART.findall(text))
        names |= {name if "." in name else f"ledger.{name}" for name in named}
    return names & existing


@dataclass(frozen=True)
class Reader:
    """Who reads: the session of a page or the token of a frame. `inquiry_id`: one that the account sees."""

    account_id: str
    token: str
    is_framed: bool
    inquiry_id: str

    def headers(self) -> dict[str, str]:
        """Of each request."""
        if self.is_framed:
            return {"authorization": f"Bearer {self.token}"}
        return {"cookie": f"replyrate-session={self.token}.00", "origin": ORIGIN}


@dataclass
class Panel:
    """The application, and the readers by name."""

    portal: PortalInProcess
    readers: dict[str, Reader]
    existing: frozenset[str]

    def request(self, route: str, reader: Reader) -> set[str]:
        """Send a request to a route; what its statements name."""
        method, path = route.split()
        query = {"/panel/why": f"?inquiry={reader.inquiry_id}"}.get(path, "")
        names: set[str] = set()
        for name in LISTS if "{name}" in path else [""]:
            form = {"csrf": form_proof(reader.token, "form")} if method == "POST" else None
            answer = self.portal.request(
                method, path.replace("{name}", name) + query, headers=reader.headers(), data=form
            )
            is_refused = reader.is_framed and method == "POST"
            assert (answer.status_code >= 400) == is_refused, (route, name, answer.status_code)
            names |= relations(self.portal.statements, self.existing)
        return names


@pytest.fixture(scope="module")
def panel(postgres: Callable[[], str]) -> Iterator[Panel]:
    dsn = postgres()
    with connect(dsn, "tests") as owner, portal_login(dsn) as login, portal_in_process(login) as portal:
        seed_world(owner, 1, ("default",), (COMPANY,))
        readers = {}
        for account_id in (MAIN, SUB):
            seen = owner.execute(
                "SELECT min(inquiry_id) FROM report_v1.inquiry_outcomes WHERE account_id = %s", [account_id]
            ).fetchone()
            assert seen is not None
            for purpose in ("panel", "frame"):
                token = session(owner, account_id, purpose)
                readers[f"{purpose} of {account_id}"] = Reader(account_id, token, purpose == "frame", str(seen[0]))
        existing = frozenset(name for (name,) in owner.execute(EXISTING).fetchall())
        yield Panel(portal, readers, existing)


READERS: Final = tuple(f"{purpose} of {account_id}" for purpose in ("panel", "frame") for account_id in (MAIN, SUB))


@pytest.mark.parametrize("name", READERS)
def test_every_page_reads_the_views_of_the_report_and_the_named_exceptions(panel: Panel, name: str) -> None:
    reader = panel.readers[name]
    routes = sorted(route for route in served(panel.portal.app) if route.split()[1].startswith("/panel"))
    assert len(routes) >= 14 and EXCEPTIONS.keys() <= set(routes)
    outside: dict[str, set[str]] = {}
    with_views = set()
    for route in routes:
        names = panel.request(route, reader)
        if any(name.startswith(REPORT) for name in names):
            with_views.add(route)
        beside = {name for name in names if not name.startswith(REPORT)} - SESSION - EXCEPTIONS.get(route, frozenset())
        if beside:
            outside[route] = beside
    assert not outside, " ".join(f"{route}: {sorted(names)}" for route, names in outside.items())
    assert set(routes) - with_views == {"GET /panel/frame", "POST /panel/test-mail"}, "which show no figure"


@pytest.mark.parametrize("name", [f"frame of {MAIN}", f"frame of {SUB}"])
def test_every_list_of_the_api_reads_the_views_of_the_report(panel: Panel, name: str) -> None:
    lists = [
        path
        for path, operations in api_document.described()["paths"].items()
        if operations.get("get", {}).get("tags") == ["numbers"] and not path.endswith("/explanation")
    ]
    assert len(lists) == 10
    outside: dict[str, set[str]] = {}
    for path in lists:
        answer = panel.portal.get(f"/v1{path}".replace("{company_id}", COMPANY), panel.readers[name].token)
        assert answer.status_code == 200, (path, answer.text)
        names = relations(panel.portal.statements, panel.existing)
        assert f"{REPORT}rule_sets" in names, path
        if beside := {name for name in names if not name.startswith(REPORT)} - SESSION - KNOWN_COMPANIES:
            outside[path] = beside
    assert not outside, outside


def test_a_further_table_is_noticed(panel: Panel) -> None:
    statements = [
        "WITH sums AS (SELECT 1) SELECT * FROM sums JOIN report_token_v1.reply_rate USING (a) JOIN ledger.rule_sets USING (b)"
    ]
    assert relations(statements, panel.existing) == {"report_token_v1.reply_rate", "ledger.rule_sets"}
    assert relations(["SELECT * FROM rates, registry.session()"], panel.existing) == {
        "ledger.rates",
        "registry.session",
    }
