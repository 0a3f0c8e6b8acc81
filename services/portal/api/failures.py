"""Turns every error of a request to the API into a problem (problems.py)."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from logging import getLogger
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.common.errors import TransientError
from services.portal.api.problems import ApiProblem, FieldProblem, answer
from services.registry.errors import RegistryError

log = getLogger(__name__)

RETRY_SECONDS: Final = 5
"""After which a request may be sent again when Postgres or Kafka does not answer."""
UNKNOWN: Final = {
    "company-add": "company-unknown",
    "account-add": "account-unknown",
    "mailbox-list": "mailbox-unknown",
}
"""Remedy of a refusal by the registry → code of the problem. Others have the code `not-possible`."""
BY_STATUS: Final = {
    HTTPStatus.NOT_FOUND: "not-found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method-not-allowed",
    HTTPStatus.BAD_REQUEST: "not-json",
}
"""Status of an error that the framework raises → code of the problem."""
NAME_CHARACTERS: Final = 100
"""Of the name of a field that a problem repeats."""


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem."""
    app.add_exception_handler(ApiProblem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(TransientError, _on_transient)
    app.add_exception_handler(RegistryError, _on_registry_error)


def field_problems(errors: Sequence[Mapping[str, Any]], line: int | None = None) -> list[FieldProblem]:
    """Errors of pydantic without the values that they quote. `line`: they are of one line of a body of lines."""
    listed = []
    for error in errors:
        location = [str(part) for part in error["loc"]]
        place, path = ("body", location) if line is not None else (location[0], location[1:])
        context = {name: str(value) for name, value in error.get("ctx", {}).items() if name != "error"}
        name = ".".join(path)
        name = name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 1]}…"
        listed.append(FieldProblem(name, place, error["type"], context, line))
    return listed


def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiProblem)
    return answer(error, request)


def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if any(entry["type"] == "json_invalid" for entry in error.errors()):
        return answer(ApiProblem("not-json"), request)
    return answer(ApiProblem("invalid-request", fields=field_problems(error.errors())), request)


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = BY_STATUS.get(HTTPStatus(error.status_code), "server-error")
    return answer(ApiProblem(code, headers=error.headers), request)


def _on_transient(request: Request, error: Exception) -> Response:
    log.warning("%s", error, extra={"action": "dependency-away"})
    return answer(ApiProblem("unavailable", headers={"Retry-After": str(RETRY_SECONDS)}), request)


def _on_registry_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RegistryError)
    code = UNKNOWN.get(error.remedy or "", "not-possible")
    return answer(ApiProblem(code, {"reason": error.bilingual}), request)
