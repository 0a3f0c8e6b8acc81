"""Sign-in at the OpenID provider, and the page for somebody without a session.

The state follows from a secret in a cookie of the browser, as verifier and nonce do: nobody finishes the sign-in of another browser, and nothing has
to be stored between the steps. The cookie is deleted when the browser comes back.
"""

import hmac
from logging import getLogger
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.portal.console.links import end_session, outside_page
from services.portal.console.problems import SIGN_IN_PATH, problem_page
from services.portal.console.provider import CALLBACK_PATH, SignedInStaff, StaffProvider
from services.portal.console.staff import SESSION_COOKIE, StaffGate
from services.portal.pages.seller import form_proof
from services.portal.pages.templates import preferred_language
from services.registry.staff_actions import StaffActions
from services.registry.staff_sessions import StaffSessions
from services.signin.authorization import parse_answer, refusal_of, secrets_of
from services.signin.refusals import SignInRefused

log = getLogger(__name__)

SIGN_IN_COOKIE: Final = "staff-sign-in"
SIGN_IN_SECONDS: Final = 600


def routes(gate: StaffGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()
    resources = gate.resources
    settings = resources.settings.console
    provider = StaffProvider(settings, resources.origin) if settings.issuer else None

    @router.get(SIGN_IN_PATH)
    def show(request: Request) -> Response:
        return outside_page(
            request, "console_sign_in.html", preferred_language(request), issuer=settings.issuer,
            has_signed_out="signed-out" in request.query_params,
        )  # fmt: skip

    if provider is None:
        return router

    @router.get(f"{SIGN_IN_PATH}/start")
    def start(request: Request) -> Response:
        holder = Response()
        secret = gate.cookies.new_random_secret(holder, SIGN_IN_COOKIE, SIGN_IN_SECONDS)
        state = form_proof(secret, "state")
        try:
            url = provider.url(state, secrets_of(secret, state), resources.clock())
        except SignInRefused as error:
            return _failed(request, str(error))
        response = RedirectResponse(url, 303)
        response.raw_headers.extend(header for header in holder.raw_headers if header[0] == b"set-cookie")
        return response

    @router.get(CALLBACK_PATH)
    def come_back(request: Request) -> Response:
        response = _finished(request)
        gate.cookies.drop(response, SIGN_IN_COOKIE)
        return response

    def _finished(request: Request) -> Response:
        try:
            staff = _signed_in(gate, provider, request)
        except SignInRefused as error:
            return _failed(request, str(error))
        if staff.role is None:
            log.warning("somebody without a role signed in", extra={"action": "staff-without-role"})
            return problem_page(request, "no-role")
        end_session(gate, request)
        with resources.database.transaction("") as connection:
            token = StaffSessions(connection).begin(staff.subject, staff.display_name, staff.role, resources.limits)
        with resources.database.transaction(token) as connection:
            StaffActions(connection).note("sign-in", method="oidc")
        response = RedirectResponse("/", 303)
        gate.cookies.set(response, SESSION_COOKIE, token, None)
        return response

    return router


def _signed_in(gate: StaffGate, provider: StaffProvider, request: Request) -> SignedInStaff:
    """Who came back from the provider. SignInRefused."""
    answer = parse_answer(request.query_params.multi_items())
    secret = gate.cookies.random_secret(request, SIGN_IN_COOKIE)
    if answer is None or secret is None or not hmac.compare_digest(answer.state, form_proof(secret, "state")):
        raise SignInRefused("other-session", "the answer is of no sign-in of this browser")
    now = gate.resources.clock()
    refusal = refusal_of(answer, provider.client(now))
    if refusal is not None or answer.code is None:
        raise SignInRefused(refusal or "sign-in-incomplete")
    return provider.exchange(answer.code, secrets_of(secret, answer.state), now)


def _failed(request: Request, reason: str) -> Response:
    """The page of a sign-in that ended without access; the log says why, in our own words."""
    log.warning("a sign-in to the console failed: %s", reason, extra={"action": "staff-sign-in-failed"})
    return problem_page(request, "sign-in-failed")
