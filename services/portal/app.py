"""The web application: its routes, and what applies to every request."""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from services.portal.pages import landing
from services.portal.request_limits import RequestLimits
from services.portal.resources import PortalResources
from services.portal.security_headers import SecurityHeaders

STATIC: Final = Path(__file__).parent / "static"
BULK_PATHS: Final[frozenset[str]] = frozenset()
"""Paths that take large bodies."""


def create_app(resources: PortalResources) -> ASGIApp:
    """The application as an ASGI server runs it."""
    app = FastAPI(title="replyrate", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BaseHTTPMiddleware, dispatch=SecurityHeaders(is_https=resources.is_https))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.include_router(landing.routes())
    return RequestLimits(app, hosts=frozenset({urlsplit(resources.origin).netloc}), bulk_paths=BULK_PATHS)
