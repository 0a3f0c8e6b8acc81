"""Problems: the answers of the HTTP API to requests that fail (RFC 9457). Codes and texts are in problems.toml.

No text repeats what a request contained, except names of its fields: a field may hold a password.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from services.common.language import Bilingual, Language, in_language
from services.common.tables import read_table
from services.portal.pages.templates import LANGUAGE_TAGS, preferred_language

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:replyrate:problem:"
"""Before the code, in the member `type`."""


@dataclass(frozen=True, slots=True)
class ProblemText:
    """One code of problems.toml."""

    status: int
    title: Bilingual
    detail: Bilingual


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one field. `place`: body, query, path or header; `code` and `values` choose and fill its text."""

    name: str
    place: str
    code: str
    values: Mapping[str, Any] = field(default_factory=dict)
    line: int | None = None
    """The line of a body of lines (NDJSON), from 1."""


class ApiProblem(Exception):
    """Ends a request with a problem. `code` is one of problems.toml, and `values` fill its placeholders. `fields_total`: how many fields
    are wrong, when `fields` has only some of them."""

    def __init__(
        self,
        code: str,
        values: Mapping[str, str | int | Bilingual] | None = None,
        *,
        fields: Sequence[FieldProblem] = (),
        fields_total: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.code = code
        self.fields = fields
        self.fields_total = len(fields) if fields_total is None else fields_total
        self.headers = headers or {}
        self.values = values or {}
        super().__init__(code)


@cache
def load() -> tuple[Mapping[str, ProblemText], Mapping[str, Bilingual]]:
    """The texts of problems by code, and those of fields by code."""
    table = read_table("services.portal.api", "problems.toml")
    problems = {code: msgspec.convert(text, ProblemText) for code, text in table["problem"].items()}
    return problems, msgspec.convert(table["field"], dict[str, Bilingual])


def document(problem: ApiProblem, language: Language) -> dict[str, Any]:
    """The members of a problem in a language."""
    text = load()[0][problem.code]
    members: dict[str, Any] = {
        "type": TYPE_PREFIX + problem.code,
        "title": text.title.text(language),
        "status": text.status,
        "detail": text.detail.text(language).format_map(_in_language(problem.values, language)),
        "code": problem.code,
    }
    if problem.fields:
        members["errors"] = [_field_document(entry, language) for entry in problem.fields]
        members["errors_total"] = problem.fields_total
    return members


def answer(problem: ApiProblem, request: Request) -> Response:
    """The response for a problem in the language of the request."""
    language = preferred_language(request)
    return Response(
        msgspec.json.encode(document(problem, language)),
        load()[0][problem.code].status,
        {"Content-Language": LANGUAGE_TAGS[language], "Vary": "Accept-Language", **problem.headers},
        MEDIA_TYPE,
    )


def _in_language(values: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """Values of placeholders, those that are texts in one language."""
    return {name: in_language(value, language) for name, value in values.items()}


def _field_document(entry: FieldProblem, language: Language) -> dict[str, Any]:
    texts = load()[1]
    code = entry.code if entry.code in texts else "invalid"
    where = {} if entry.line is None else {"line": entry.line}
    return {
        **where,
        "in": entry.place,
        "field": entry.name,
        "code": code.replace("_", "-"),
        "detail": texts[code].text(language).format_map(_in_language(entry.values, language)),
    }
