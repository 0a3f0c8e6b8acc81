"""Sellers of the tests: a web process and a fetcher as processes, links, and a browser without JavaScript that fills in forms.

`connect_lab` is a fixture to import, with those of portal_lab and fetcher_lab that it needs.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from services.common.language import Language
from services.common.postgres import connect
from services.registry.accounts import Accounts
from services.registry.companies import Companies
from services.registry.portal_sessions import LinkRequest, PortalSessions
from tests.support.fetcher_lab import Lab, Server
from tests.support.portal_lab import MakePortal, Portal
from tests.support.processes import Process

COMPANY, ACCOUNT = "c1", "main"
OTHER_SITE_PATHS = (
    "//evil.example", "///evil.example", "//evil.example/%2f..", "/%2Fevil.example", "/%5Cevil.example", "/%09/evil.example",
)  # fmt: skip
"""Paths that browsers would take for another site if a page linked to them as they are."""
LEADS_AWAY = re.compile(r"https?:|[/\\\s]{2}")
"""The beginning of a link to another site; browsers take a backslash for a slash, and leave tabs and line breaks out."""
RESULT_LINK = re.compile(r"/connect/requests/[^/]+/result")


@dataclass
class Form:
    """A form of a page: where it is sent to, and its fields as the page fills them in."""

    action: str
    method: str
    values: dict[str, str] = field(default_factory=dict)
    choices: dict[str, list[str]] = field(default_factory=dict)
    """Boxes to tick: name → values."""


class PageParser(HTMLParser):
    """Reads the forms that change something, the links and the texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: dict[str, str] = {}
        self.texts: list[str] = []
        self.refresh: str | None = None
        self._link: str | None = None
        self.feed(html)
        self.forms = [form for form in self.forms if form.method == "post"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(values["action"], values["method"]))
        elif tag == "input" and values.get("type") == "checkbox":
            self.forms[-1].choices.setdefault(values["name"], []).append(values["value"])
            if "checked" in values:
                self.forms[-1].values[values["name"]] = values["value"]
        elif tag == "input":
            self.forms[-1].values[values["name"]] = values.get("value", "")
        elif tag == "a":
            self._link = values["href"]
        elif tag == "meta" and values.get("http-equiv") == "refresh":
            self.refresh = values["content"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._link = None

    def handle_data(self, data: str) -> None:
        shown = " ".join(data.split())
        if shown:
            self.texts.append(shown)
            if self._link is not None:
                self.links[shown] = self._link


class Browser:
    """A browser without JavaScript: follows redirects, has cookies, sends forms with the Origin of the page."""

    def __init__(self, origin: str, transport: httpx.BaseTransport | None = None, /, **headers: str) -> None:
        self.origin = origin
        self.client = httpx.Client(
            base_url=origin, timeout=30, follow_redirects=True, headers=headers, transport=transport
        )
        self.answer: httpx.Response

    def get(self, path: str) -> "Browser":
        """Open a page."""
        self.answer = self.client.get(path)
        return self

    def post(self, path: str, values: Mapping[str, Any], **headers: str) -> "Browser":
        """Send a form as a page of the portal would, with further headers."""
        self.answer = self.client.post(path, data=dict(values), headers={"Origin": self.origin, **headers})
        return self

    def fill_in(self, action: str, **values: Any) -> "Browser":
        """Send the form of this page that goes to `action`, with these values in its fields."""
        form = next(form for form in self.page.forms if re.fullmatch(action, form.action))
        return self.post(form.action, form.values | values)

    def follow(self, text: str) -> "Browser":
        """Open the link with this text."""
        return self.get(urljoin(str(self.answer.url), self.page.links[text]))

    @property
    def page(self) -> PageParser:
        """The page that is shown."""
        return PageParser(self.answer.text)

    @property
    def path(self) -> str:
        """Path and query of the page."""
        return str(self.answer.url).removeprefix(self.origin)

    @property
    def status(self) -> int:
        """Status of the last answer."""
        return self.answer.status_code

    @property
    def heading(self) -> str:
        """The page's heading."""
        match = re.search(r"<h1[^>]*>(.*?)</h1>", self.answer.text, re.DOTALL)
        return match[1] if match else ""

    def shows(self, text: str) -> bool:
        """Whether the page has this text."""
        return text in " ".join(self.page.texts)

    def until_finished(self, processes: tuple[Process, ...] = (), looks: int = 12) -> "Browser":
        """Follow the link to the result until the page no longer has it."""
        for _ in range(looks):
            result = next((link for link in self.page.links.values() if RESULT_LINK.fullmatch(link)), None)
            if result is None:
                return self
            for process in processes:
                assert process.running(), process.log.read_text("utf-8")[-3000:]
            self.get(result)  # held for some seconds
        raise AssertionError(f"not finished: {self.answer.text}")


@dataclass
class SellerPages:
    """A web process and its database, with links and browsers for sellers."""

    dsn: str
    portal: Portal

    def link(self, *, minutes: int = 30, **wanted: Any) -> str:
        """The path of a new link."""
        request = LinkRequest(**({"company_id": COMPANY, "account_id": ACCOUNT, "created_by": "tests"} | wanted))
        with connect(self.dsn, "tests") as connection:
            made_link = PortalSessions(connection).make_link(request, minutes)
        return made_link.url("", wanted.get("language", "en"))

    def browser(self, link: str | None = None, **headers: str) -> Browser:
        """A browser; with a link, one that has opened it."""
        browser = Browser(self.portal.origin, **headers)
        if link is not None:
            browser.get(link).fill_in("/link/.*")
        return browser

    def seller(self, language: Language = "en", **wanted: Any) -> Browser:
        """A browser that has opened a link and consented."""
        browser = self.browser(self.link(language=language, **wanted))
        return browser.fill_in("/connect/consent", name="Li Wei", agreed="yes")


@dataclass
class ConnectLab(SellerPages):
    """A database with an account, an IMAP server, and the processes that a seller meets."""

    lab: Lab
    server: Server


def add_account(dsn: str, company_id: str = COMPANY, account_id: str = ACCOUNT) -> None:
    """Register an account."""
    with connect(dsn, "tests") as connection:
        Companies(connection).add(company_id)
        Accounts(connection).add(company_id, account_id)


@pytest.fixture
def make_connect_lab(make_lab: Callable[[Server], Lab], make_portal: MakePortal) -> Iterator[Callable[..., ConnectLab]]:
    """Starts a web process beside an IMAP server: make_connect_lab(server, with_fetcher=True)."""
    with ExitStack() as stack:

        def make(server: Server, *, with_fetcher: bool = True) -> ConnectLab:
            lab = make_lab(server)
            add_account(lab.dsn)
            portal = stack.enter_context(make_portal())
            if with_fetcher:
                stack.enter_context(running_fetcher(lab))
            return ConnectLab(lab.dsn, portal, lab, server)

        yield make


@contextmanager
def running_fetcher(lab: Lab) -> Iterator[Process]:
    """A fetcher that has published its key."""
    with lab.fetcher() as process, connect(lab.dsn, "tests") as connection:
        while connection.execute("SELECT count(*) FROM registry.sealing_keys").fetchone() == (0,):
            assert process.running(), process.log.read_text("utf-8")[-3000:]
        yield process
