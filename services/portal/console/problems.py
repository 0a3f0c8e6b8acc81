"""Pages of the console for requests that are refused. Texts: [problem-CODE] of texts.toml."""

from typing import Final, Literal

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.common.errors import TransientError
from services.portal.console.texts import text
from services.portal.pages.problems import PageProblem
from services.portal.pages.templates import page, preferred_language
from services.portal.request_limits import LimitCode
from services.registry.staff_actions import StaffSessionEnded

ConsoleCode = Literal[
    "sign-in-needed", "no-role", "sign-in-failed", "operators-only", "not-found", "link-unusable", "cookies-missing",
    "form-outdated", "form-incomplete", "unavailable", "failed", "too-much-work",
]  # fmt: skip
STATUS: Final[dict[ConsoleCode | LimitCode, int]] = {
    "sign-in-needed": 401, "no-role": 403, "sign-in-failed": 403, "operators-only": 403, "not-found": 404,
    "link-unusable": 410, "cookies-missing": 400, "form-outdated": 403, "form-incomplete": 422, "unavailable": 503, "failed": 500,
    "too-much-work": 503,
    "wrong-host": 421, "body-too-large": 413, "body-too-slow": 408,
}  # fmt: skip
SIGN_IN_PATH: Final = "/sign-in"


class ConsoleProblem(Exception):
    """The request is refused with a page."""

    def __init__(self, code: ConsoleCode) -> None:
        self.code: ConsoleCode = code
        super().__init__(code)


def install(app: FastAPI) -> None:
    """Answer refused requests and errors with pages."""
    app.add_exception_handler(ConsoleProblem, _refused)
    app.add_exception_handler(PageProblem, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(StaffSessionEnded, _session_ended)
    app.add_exception_handler(TransientError, _unavailable)
    app.add_exception_handler(Exception, _failed)


def problem_page(request: Request, code: ConsoleCode | LimitCode) -> HTMLResponse:
    """The page of a code."""
    language = preferred_language(request)
    # The address of a request for another host may be none.
    has_address = request.method == "GET" and code != "wrong-host"
    return page(
        request, "console_problem.html", language, status=STATUS[code], here=None if has_address else "/?lang=", code=code,
        site_name=text("site.name", language), p=lambda name, **values: text(name, language, **values),
    )  # fmt: skip


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ConsoleProblem | PageProblem)
    if error.code == "sign-in-needed" and request.method == "GET":
        return RedirectResponse(SIGN_IN_PATH, 303)
    # What other rooms refuse has a page here only if its code has.
    return problem_page(request, error.code if error.code in STATUS else "not-found")


def _invalid(request: Request, error: Exception) -> Response:
    return problem_page(request, "form-incomplete")


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = problem_page(request, "not-found" if error.status_code in (404, 405) else "form-incomplete")
    response.status_code = error.status_code
    return response


def _session_ended(request: Request, error: Exception) -> Response:
    return _refused(request, ConsoleProblem("sign-in-needed"))


def _unavailable(request: Request, error: Exception) -> Response:
    return problem_page(request, "unavailable")


def _failed(request: Request, error: Exception) -> Response:
    """The framework logs the error, without any value of the request."""
    return problem_page(request, "failed")
