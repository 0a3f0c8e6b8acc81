"""The page of a link, and the end of a session.

The page itself changes nothing, since programs that check mail open links, too; the button on it opens the session.
"""

import hmac
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from services.portal.pages.problems import PageProblem
from services.portal.pages.seller import PANEL, START, Seller, SellerGate, form_proof
from services.portal.pages.templates import page, preferred_language
from services.portal.resources import PortalResources
from services.registry.portal_sessions import PortalSessions, Purpose, address_key, link_purpose, session_token

TEXTS: Final[dict[Purpose, str]] = {"connect": "link", "panel": "link_panel"}
"""Tables of texts.toml."""


def routes(resources: PortalResources, gate: SellerGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()

    @router.get("/link/{token}")
    def show_link(request: Request, token: str) -> HTMLResponse:
        secret = gate.cookies.browser_secret(request)
        # The form needs the secret before the response exists that sets it.
        holder = Response()
        browser_secret = secret or gate.cookies.new_browser_secret(holder)
        response = page(
            request, "link.html", preferred_language(request), csrf=form_proof(browser_secret, token), token=token,
            purpose_texts=TEXTS[link_purpose(token)],
        )  # fmt: skip
        response.raw_headers.extend(header for header in holder.raw_headers if header[0] == b"set-cookie")
        return response

    @router.post("/link/{token}")
    def open_link(request: Request, token: str, csrf: Annotated[str, Form()] = "") -> Response:
        gate.check_origin(request)
        browser_secret = gate.cookies.browser_secret(request)
        if browser_secret is None:
            raise PageProblem("cookies-missing")
        if not hmac.compare_digest(csrf.encode(), form_proof(browser_secret, token).encode()):
            raise PageProblem("form-outdated")
        opened = session_token(token, browser_secret)
        with resources.database.transaction(opened) as connection:
            sessions = PortalSessions(connection)
            # A form that is sent twice finds the session that it opened before.
            is_open = sessions.open_link(token, opened, resources.settings.portal.session_minutes)
            is_open = is_open or sessions.own_session() is not None
        if not is_open:
            raise PageProblem("link-unusable")
        response = gate.redirect(PANEL if link_purpose(token) == "panel" else START)
        earlier = gate.cookies.session(request)
        if earlier is None or earlier[0] != opened:
            # A browser has one session at a time, and what was typed in another one, or planted, is not for this account.
            _end_session(earlier)
            gate.cookies.delete(response, "draft", "sign-in")
        gate.cookies.set_session(response, opened, address_key(token))
        return response

    def _end_session(session: tuple[str, bytes] | None) -> None:
        if session is not None:
            with resources.database.transaction(session[0]) as connection:
                PortalSessions(connection).end_session()

    @router.post("/connect/end")
    def end(seller: Annotated[Seller, Depends(gate.sender)]) -> HTMLResponse:
        with seller.database() as connection:
            PortalSessions(connection).end_session()
        response = seller.page("ended.html", here="/?lang=")
        gate.cookies.delete(response, "session", "draft", "sign-in")
        return response

    return router
