"""The application of the console: its routes, and what applies to every request."""

from collections.abc import Mapping
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from services.portal.console import (
    audit,
    company,
    inquiry,
    links,
    mailbox_lists,
    mailboxes,
    problems,
    search,
    seller_links,
    sign_in,
)
from services.portal.console.operate import api_keys, dead_letters, overview, rule_sets, work
from services.portal.console.resources import ConsoleResources
from services.portal.console.staff import StaffGate
from services.portal.id_paths import IdPaths
from services.portal.request_limits import LimitCode, RequestLimits
from services.portal.security_headers import SecurityHeaders
from services.portal.static_files import STATIC

ID_PATHS: Final = ("/companies/",)
"""What paths with ids begin with."""
ROOMS: Final = (
    sign_in, links, search, company, seller_links, mailboxes, mailbox_lists, inquiry, overview, dead_letters, rule_sets, api_keys, work, audit,
)  # fmt: skip
"""Modules with pages: each has `routes(gate)`."""


def create_console(resources: ConsoleResources) -> ASGIApp:
    """The application as an ASGI server runs it."""
    app = FastAPI(title="replyrate console", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(IdPaths, prefixes=ID_PATHS)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    gate = StaffGate(resources)
    problems.install(app)
    for room in ROOMS:
        app.include_router(room.routes(gate))

    limited = RequestLimits(
        app,
        origin=resources.origin,
        bulk_paths=frozenset(),
        body_seconds=resources.settings.console.body_seconds,
        refusal=_refusal,
    )
    return SecurityHeaders(limited, is_https=resources.is_https)


def _refusal(request: Request, code: LimitCode, values: Mapping[str, str | int]) -> Response:
    """The page for a request that breaks a limit."""
    return problems.problem_page(request, code)
