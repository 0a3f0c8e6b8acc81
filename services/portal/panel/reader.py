"""Who sends a request to the panel: the session of the cookie, or within a frame the token of the Authorization header."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg
from starlette.requests import Request
from starlette.responses import HTMLResponse

from services.common.display import duration_in_words
from services.common.language import Language
from services.portal.api.rate_limits import RateLimiter
from services.portal.pages.cookies import Cookies
from services.portal.pages.problems import BEARER, PageProblem
from services.portal.pages.seller import form_proof
from services.portal.pages.templates import page, preferred_language
from services.portal.panel import display
from services.portal.panel.texts import text
from services.portal.resources import PortalResources
from services.registry.panel_sessions import PanelSession, PanelSessions


@dataclass(frozen=True, slots=True)
class PanelReader:
    """The request of a seller who may read figures."""

    request: Request
    resources: PortalResources
    token: str = field(repr=False)
    session: PanelSession
    language: Language

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection]:
        """A transaction with the rights of the session."""
        with self.resources.database.transaction(self.token) as connection:
            yield connection

    def says(self, name: str, /, **values: Any) -> str:
        """A text of the panel in the language of the reader."""
        return text(name, self.language, **values)

    def values(self) -> dict[str, Any]:
        """What every page of the panel shows, and parts of one."""
        return {
            "session": self.session, "p": self.says, "show": display,
            "duration": partial(duration_in_words, language=self.language),
        }  # fmt: skip

    def page(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """A page with what every page of the panel shows."""
        response = page(
            self.request,
            template,
            self.language,
            status=status,
            csrf=form_proof(self.token, "form"),
            **self.values(),
            **values,
        )
        if self.session.is_framed:
            del response.headers["set-cookie"]  # of the chosen language: the frame's script remembers it
        return response


@dataclass(frozen=True, slots=True)
class OpenTransactions:
    """Transactions for an answer that is read page by page: without a session every row is hidden, and the answer would look complete."""

    reader: PanelReader

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection]:
        """A transaction with the rights of the session. PageProblem when the session has ended before everything was read."""
        with self.reader.transaction() as connection:
            yield connection
            if PanelSessions(connection).own_session() is None:
                raise PageProblem("session-ended")


class PanelGate:
    """Lets requests of an open session pass; others end with a page that says how to go on."""

    def __init__(self, resources: PortalResources) -> None:
        self._resources = resources
        self._cookies = Cookies(is_https=resources.is_https)
        self._limiter = RateLimiter(resources.settings.portal.api_requests_per_minute, time.monotonic)

    def reader(self, request: Request) -> PanelReader:
        """The reader of any request. PageProblem without an open session of the panel, or when its account sends too
        many: as many requests a minute are answered as of a key of the API.

        A token in the header is that of a frame, and one in the cookie is not: the cookie is not sent from within frames.
        """
        header = request.headers.get("authorization", "")
        is_framed = header.startswith(BEARER)
        token = header.removeprefix(BEARER) if is_framed else (self._cookies.session(request) or ("", b""))[0]
        with self._resources.database.transaction(token) as connection:
            session = PanelSessions(connection).own_session()
        if session is None or session.is_framed != is_framed:
            raise PageProblem("session-ended")
        if not self._limiter.take(f"{session.company_id} {session.account_id}").allowed:
            raise PageProblem("too-often")
        return PanelReader(request, self._resources, token, session, preferred_language(request, session.language))
