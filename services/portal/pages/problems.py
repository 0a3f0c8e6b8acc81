"""Pages for requests that are refused: what happened, and how an honest person goes on. Texts: [problem-CODE] of texts.toml."""

from typing import Any, Final, Literal

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from services.common.errors import TransientError
from services.portal.pages.templates import page, preferred_language
from services.portal.request_limits import LimitCode

ProblemCode = Literal[
    "link-unusable", "cookies-missing", "session-ended", "form-outdated", "form-incomplete", "not-found", "too-many",
    "unavailable", "failed", "too-often",
]  # fmt: skip
PageCode = ProblemCode | LimitCode
STATUS: Final[dict[PageCode, int]] = {
    "link-unusable": 410, "cookies-missing": 400, "session-ended": 401, "form-outdated": 403, "form-incomplete": 422,
    "not-found": 404, "too-many": 429, "unavailable": 503, "failed": 500,
}  # fmt: skip
BEARER: Final = "Bearer "
"""What the Authorization header of a request from within a frame begins with; a browser sends none by itself."""
LIMITS: Final[dict[PageCode, int]] = {"wrong-host": 421, "body-too-large": 413, "body-too-slow": 408, "too-often": 429}
"""Status of requests that break a limit of request_limits.py, or that of an account in the panel."""
GOES_ON: Final = (
    "link-unusable",
    "form-outdated",
    "form-incomplete",
    "not-found",
    "too-many",
    "unavailable",
    "failed",
    "body-too-large",
    "body-too-slow",
)
"""Codes whose page has a link to the seller's own start page, which says where to go on."""


class PageProblem(Exception):
    """The request is refused with a page."""

    def __init__(self, code: ProblemCode) -> None:
        self.code: ProblemCode = code
        super().__init__(code)


class StepMissing(Exception):
    """The request belongs to a later step than the one that the seller has to take first; `path` leads there."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(path)


def install(app: FastAPI) -> None:
    """Answer refused requests and errors with pages."""
    app.add_exception_handler(PageProblem, _refused)
    app.add_exception_handler(StepMissing, _earlier_step)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(TransientError, _unavailable)
    app.add_exception_handler(Exception, _failed)


def problem_page(request: Request, code: PageCode, **values: Any) -> HTMLResponse:
    """The page of a code."""
    language = preferred_language(request)
    # The address of a request for another host may be none.
    has_address = request.method == "GET" and code != "wrong-host"
    is_framed = request.headers.get("authorization", "").startswith(BEARER)
    response = page(
        request, "problem.html", language, status=(STATUS | LIMITS)[code], here=None if has_address else "/?lang=", code=code,
        goes_on=code in GOES_ON, is_framed=is_framed, **values,
    )  # fmt: skip
    if is_framed:
        del response.headers["set-cookie"]  # of the chosen language: a frame sets none
    return response


def _refused(request: Request, error: Exception) -> HTMLResponse:
    assert isinstance(error, PageProblem)
    return problem_page(request, error.code)


def _earlier_step(request: Request, error: Exception) -> RedirectResponse:
    assert isinstance(error, StepMissing)
    return RedirectResponse(error.path, 303)


def _invalid(request: Request, error: Exception) -> HTMLResponse:
    return problem_page(request, "form-incomplete")


def _http_error(request: Request, error: Exception) -> HTMLResponse:
    assert isinstance(error, HTTPException)
    response = problem_page(request, "not-found" if error.status_code in (404, 405) else "form-incomplete")
    response.status_code = error.status_code
    return response


def _unavailable(request: Request, error: Exception) -> HTMLResponse:
    return problem_page(request, "unavailable")


def _failed(request: Request, error: Exception) -> HTMLResponse:
    """The framework logs the error, without any value of the request."""
    return problem_page(request, "failed")
