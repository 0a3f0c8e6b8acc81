"""Who sends a request to the seller's pages: the session of the cookie, and for forms the proof that our own page sent it."""

import base64
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import psycopg
from fastapi import Form
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from services.common.language import Language
from services.connect import consent
from services.portal.pages.cookies import Cookies, Draft
from services.portal.pages.problems import PageProblem, StepMissing
from services.portal.pages.templates import page, preferred_language
from services.portal.resources import PortalResources
from services.registry.portal_sessions import PortalSessions, SellerSession

START = "/connect"
"""The page that leads to where the seller has to go on."""
CONSENT = "/connect/consent"
"""The first step."""
PANEL = "/panel"
"""The page with the reply rate, for sessions that were opened for it."""


@dataclass(frozen=True, slots=True)
class Seller:
    """The request of a seller with an open session."""

    request: Request
    resources: PortalResources
    token: str = field(repr=False)
    address_key: bytes = field(repr=False)
    session: SellerSession
    language: Language

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection]:
        """A transaction with the rights of the session."""
        with self.resources.database.transaction(self.token) as connection:
            yield connection

    @property
    def has_consented(self) -> bool:
        """Whether the current text was consented to in this session."""
        return self.session.consent_text_version == consent.load().current.version

    def role(self, draft: Draft) -> str:
        """Which address is connected: a session of the panel chooses, any other is for the one of its link."""
        chosen = draft.role if self.session.purpose == "panel" else None
        return chosen or self.session.role

    @property
    def csrf(self) -> str:
        """What a form of this session proves itself with."""
        return form_proof(self.token, "form")

    def page(self, template: str, *, status: int = 200, here: str | None = None, **values: Any) -> HTMLResponse:
        """A page with what every page of a session shows."""
        return page(
            self.request, template, self.language, status=status, here=here, csrf=self.csrf, session=self.session, **values
        )  # fmt: skip


class SellerGate:
    """Lets requests of an open session pass; others end with a page that says how to go on."""

    def __init__(self, resources: PortalResources) -> None:
        self._resources = resources
        self.cookies = Cookies(is_https=resources.is_https)

    def reader(self, request: Request) -> Seller:
        """The seller of any request. PageProblem without an open session."""
        stored = self.cookies.session(request)
        if stored is None:
            raise PageProblem("session-ended")
        token, address_key = stored
        with self._resources.database.transaction(token) as connection:
            session = PortalSessions(connection).own_session()
        if session is None:
            raise PageProblem("session-ended")
        language = preferred_language(request, session.language)
        return Seller(request, self._resources, token, address_key, session, language)

    def sender(self, request: Request, csrf: Annotated[str, Form()] = "") -> Seller:
        """The seller who sent a form. PageProblem when another page, or one of another session, sent it."""
        self.check_origin(request)
        seller = self.reader(request)
        if not hmac.compare_digest(csrf.encode(), seller.csrf.encode()):
            raise PageProblem("form-outdated")
        return seller

    def consenting_reader(self, request: Request) -> Seller:
        """The seller of a request of a step after the consent. StepMissing, and as `reader`."""
        return _consented(self.reader(request))

    def consenting_sender(self, request: Request, csrf: Annotated[str, Form()] = "") -> Seller:
        """The seller who sent a form of a step after the consent. StepMissing, and as `sender`."""
        return _consented(self.sender(request, csrf))

    def check_origin(self, request: Request) -> None:
        """PageProblem when the browser says that another site sent a form."""
        if not is_own_form(request, self._resources.origin):
            raise PageProblem("form-outdated")

    def redirect(self, path: str, draft: Draft | None = None) -> RedirectResponse:
        """To a page of ours, after a form."""
        response = RedirectResponse(path, 303)
        if draft is not None:
            self.cookies.set_draft(response, draft)
        return response


def _consented(seller: Seller) -> Seller:
    if not seller.has_consented:
        raise StepMissing(CONSENT)
    return seller


def is_own_form(request: Request, origin: str) -> bool:
    """Whether the browser says that a page of this site sent a form (Origin, else Sec-Fetch-Site)."""
    stated_origin = request.headers.get("origin")
    if stated_origin is not None:
        return stated_origin == origin
    return request.headers.get("sec-fetch-site") == "same-origin"


def form_proof(secret: str, purpose: str) -> str:
    """A token for forms: it follows from a secret that only this browser and we have."""
    return base64.urlsafe_b64encode(hmac.digest(secret.encode(), purpose.encode(), "sha256")).decode().rstrip("=")
