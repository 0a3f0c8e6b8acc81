"""The HTTP API as an application of its own: routes, problems instead of pages for every error, and its document."""

import time
from functools import cached_property
from typing import Any, Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from services.common.tables import read_text
from services.portal.api import (
    addresses,
    answers,
    bulk_import,
    changes,
    companies,
    connect,
    failures,
    inquiries,
    key,
    mailbox_links,
    mailboxes,
    numbers,
    panel,
    reference,
    requests,
)
from services.portal.api.edge import ApiEdge
from services.portal.api.fact_schemas import fact_schemas
from services.portal.api.problem_schema import PROBLEM_RESPONSE, PROBLEM_SCHEMAS
from services.portal.api.rate_limits import RateLimiter
from services.portal.resources import PortalResources

PATH: Final = "/v1"
"""Where the API begins."""
BULK_PATHS: Final = frozenset({f"{PATH}/import", f"{PATH}/inquiries:batch"})
"""Paths that take large bodies."""
DESCRIPTION: Final = """\
Registers companies, accounts and mailboxes, hands links to sellers, publishes inquiries, and reads reply rates.

Every request has a key (`Authorization: Bearer`), which allows the operations of its scopes for the companies of its prefix; the
`security` of each operation lists the scopes that it needs. Instants are in RFC 3339.
Every error is a problem (RFC 9457) with a code, in English or Chinese (Accept-Language). Lists have pages: pass `next` of an answer
as `after` to get the following page.
"""


class ApiApplication(FastAPI):
    """The application under `/v1`."""

    def openapi(self) -> dict[str, Any]:
        """The document of the API (OpenAPI 3.1). schemas/api.v1.yaml is rendered from it; a test compares both."""
        document = super().openapi()
        schemas = bulk_import.line_schemas() | fact_schemas() | document["components"]["schemas"] | PROBLEM_SCHEMAS
        document["components"]["schemas"] = dict(sorted(schemas.items()))
        answers.describe(document)
        return document

    @cached_property
    def reference_page(self) -> str:
        """The document as a page (reference.py)."""
        return reference.render(self.openapi())


def create_api(resources: PortalResources) -> ApiApplication:
    """The application. ConfigError when schemas/api.v1.yaml is missing."""
    app = ApiApplication(
        title="replyrate",
        version="1",
        description=DESCRIPTION,
        servers=[{"url": PATH}],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        responses={"default": PROBLEM_RESPONSE},
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.resources = resources
    app.state.limiter = RateLimiter(resources.settings.portal.api_requests_per_minute, time.monotonic)
    app.add_middleware(ApiEdge)
    failures.install(app)
    for router in ROUTERS:
        app.include_router(router)
    text = read_text("schemas", "api.v1.yaml")

    @app.get("/openapi.yaml", include_in_schema=False)
    def openapi_document(_: Request) -> Response:
        return Response(text, media_type="application/yaml")

    @app.get(reference.PATH, include_in_schema=False)
    def reference_page(_: Request) -> Response:
        return HTMLResponse(app.reference_page)

    return app


ROUTERS: Final = (
    companies.router,
    addresses.router,
    mailboxes.router,
    mailbox_links.router,
    bulk_import.router,
    connect.router,
    requests.router,
    inquiries.router,
    numbers.router,
    panel.router,
    key.router,
    changes.router,
)
"""The routes of each group of resources."""
