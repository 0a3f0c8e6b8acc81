"""The web application: its routes, and what applies to every request."""

from collections.abc import Mapping

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from services.portal.api import app as api
from services.portal.api.problems import ApiProblem, answer
from services.portal.id_paths import IdPaths
from services.portal.pages import (
    address,
    consent,
    folders,
    landing,
    links,
    login,
    mailboxes,
    problems,
    progress,
    redirect_sign_in,
)
from services.portal.pages.seller import SellerGate
from services.portal.panel import app as panel
from services.portal.request_limits import LimitCode, RequestLimits
from services.portal.resources import PortalResources
from services.portal.security_headers import SecurityHeaders
from services.portal.static_files import STATIC


def create_app(resources: PortalResources) -> ASGIApp:
    """The application as an ASGI server runs it."""
    app = FastAPI(title="replyrate", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(IdPaths, prefixes=(f"{api.PATH}/", mailboxes.PATHS))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.mount(api.PATH, api.create_api(resources))
    gate = SellerGate(resources)
    problems.install(app)
    for router in (
        landing.routes(),
        links.routes(resources, gate),
        consent.routes(gate),
        address.routes(gate),
        login.routes(gate),
        redirect_sign_in.routes(gate),
        progress.routes(gate),
        mailboxes.routes(gate),
        folders.routes(gate),
        *panel.routes(resources),
    ):
        app.include_router(router)
    limited = RequestLimits(
        app,
        origin=resources.origin,
        bulk_paths=api.BULK_PATHS,
        body_seconds=resources.settings.portal.body_seconds,
        refusal=_refusal,
    )
    return SecurityHeaders(limited, is_https=resources.is_https)


def _refusal(request: Request, code: LimitCode, values: Mapping[str, str | int]) -> Response:
    """The answer to a request that breaks a limit: a problem of the API, or a page."""
    if request.scope["path"].startswith(f"{api.PATH}/"):
        return answer(ApiProblem(code, values), request)
    return problems.problem_page(request, code)
