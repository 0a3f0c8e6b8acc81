"""The page of a link of `replyrate console-link`, and the end of a session.

The page itself changes nothing, since programs that check mail or chat open links, too; the button on it begins the session.
"""

import hmac
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Form
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.common.language import Language
from services.portal.console.problems import SIGN_IN_PATH, ConsoleProblem
from services.portal.console.staff import SESSION_COOKIE, Staff, StaffGate
from services.portal.console.texts import text
from services.portal.pages.seller import form_proof
from services.portal.pages.templates import page, preferred_language
from services.registry.portal_sessions import derived_token
from services.registry.staff_actions import StaffActions
from services.registry.staff_sessions import STAFF_PREFIX, StaffSessions

BROWSER_COOKIE: Final = "staff-browser"
BROWSER_SECONDS: Final = 3600


def routes(gate: StaffGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()
    resources = gate.resources

    @router.get("/link/{token}")
    def show_link(request: Request, token: str) -> HTMLResponse:
        # The form needs the secret before the response exists that sets it.
        holder = Response()
        secret = gate.cookies.random_secret(request, BROWSER_COOKIE) or gate.cookies.new_random_secret(
            holder, BROWSER_COOKIE, BROWSER_SECONDS
        )
        response = outside_page(
            request, "console_link.html", preferred_language(request), csrf=form_proof(secret, token), token=token
        )
        response.raw_headers.extend(header for header in holder.raw_headers if header[0] == b"set-cookie")
        return response

    @router.post("/link/{token}")
    def open_link(request: Request, token: str, csrf: Annotated[str, Form()] = "") -> Response:
        gate.check_origin(request)
        secret = gate.cookies.random_secret(request, BROWSER_COOKIE)
        if secret is None:
            raise ConsoleProblem("cookies-missing")
        if not hmac.compare_digest(csrf.encode(), form_proof(secret, token).encode()):
            raise ConsoleProblem("form-outdated")
        opened = derived_token(STAFF_PREFIX, token, secret)
        with resources.database.transaction(opened) as connection:
            sessions = StaffSessions(connection)
            # A form that is sent twice finds the session that it opened before.
            is_new = sessions.open_link(token, opened, resources.limits)
            if not is_new and sessions.own_session() is None:
                raise ConsoleProblem("link-unusable")
            if is_new:
                StaffActions(connection).note("sign-in", method="link")
        end_session(gate, request, but=opened)
        response = RedirectResponse("/", 303)
        gate.cookies.set(response, SESSION_COOKIE, opened, None)
        return response

    @router.post("/sign-out")
    def sign_out(staff: Annotated[Staff, Depends(gate.sender)]) -> Response:
        end_session(gate, staff.request)
        response = RedirectResponse(f"{SIGN_IN_PATH}?signed-out=1", 303)
        gate.cookies.drop(response, SESSION_COOKIE)
        return response

    return router


def end_session(gate: StaffGate, request: Request, but: str | None = None) -> None:
    """End the session of a browser, if it has one, but for that of a token; a browser has one session at a time."""
    token = gate.token(request)
    if token is None or token == but:
        return
    with gate.resources.database.transaction(token) as connection:
        sessions = StaffSessions(connection)
        if sessions.own_session() is not None:
            StaffActions(connection).note("sign-out")
            sessions.end()


def outside_page(request: Request, template: str, language: Language, **values: Any) -> HTMLResponse:
    """A page for somebody who has no session."""

    def says(name: str, /, **texts: Any) -> str:
        return text(name, language, **texts)

    return page(request, template, language, site_name=says("site.name"), p=says, **values)
