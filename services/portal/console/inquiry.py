"""Why an inquiry counts as it does: as a page, and as text in both languages for a mail or a ticket."""

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from psycopg import Connection
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from services.aggregator.explain import explain_inquiry
from services.aggregator.explanation_page import explanation_page, plain_text
from services.aggregator.texts import LANGUAGES, Texts
from services.portal.console.lookups import check_stored, checked_id, chosen_rules
from services.portal.console.problems import ConsoleProblem
from services.portal.console.staff import Staff, StaffGate
from services.portal.id_paths import path_id
from services.registry.staff_actions import Subject

UNKNOWN = "unknown"
"""Outcome of an inquiry without any fact."""


def routes(gate: StaffGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()

    @router.get("/companies/{company_segment}/inquiries/{inquiry_segment}")
    def show_explanation(request: Request, company_segment: str, inquiry_segment: str) -> Response:
        staff = gate.reader(request)
        company_id, inquiry_id = _ids(company_segment, inquiry_segment)
        with staff.noted("explanation", Subject(company_id, inquiry_id=inquiry_id)) as connection:
            story, names = _story(staff, connection, company_id, inquiry_id)
        return staff.page(
            "console_inquiry.html", "search", company_id=company_id, inquiry_id=inquiry_id, story=story, rule_sets=names,
            explanation=explanation_page(story, Texts("explain", staff.language), "support"),
            texts={language: _text_for_seller(story, language) for language in LANGUAGES},
        )  # fmt: skip

    @router.get("/companies/{company_segment}/inquiry")
    def lead_to_explanation(request: Request, company_segment: str) -> Response:
        """The form of the page of a company sends the id as a parameter."""
        gate.reader(request)
        company_id, inquiry_id = _ids(company_segment, request.query_params.get("inquiry", "").strip())
        return RedirectResponse(f"/companies/{quote(company_id, safe='')}/inquiries/{quote(inquiry_id, safe='')}", 303)

    @router.get("/companies/{company_segment}/inquiries/{inquiry_segment}/text")
    def download_explanation(request: Request, company_segment: str, inquiry_segment: str) -> Response:
        staff = gate.reader(request)
        company_id, inquiry_id = _ids(company_segment, inquiry_segment)
        with staff.noted("explanation", Subject(company_id, inquiry_id=inquiry_id)) as connection:
            story, _ = _story(staff, connection, company_id, inquiry_id)
        return PlainTextResponse(
            _text_for_seller(story, staff.language),
            headers={"Content-Disposition": f'attachment; filename="explanation-{staff.language}.txt"'},
        )

    return router


def _ids(company_segment: str, inquiry_segment: str) -> tuple[str, str]:
    return checked_id(path_id(company_segment)), checked_id(path_id(inquiry_segment))


def _text_for_seller(story: dict[str, Any], language: str) -> str:
    return plain_text(explanation_page(story, Texts("explain", language), "seller"))


def _story(staff: Staff, connection: Connection, company_id: str, inquiry_id: str) -> tuple[dict[str, Any], object]:
    """The explanation under the chosen rule set, and the names of all. ConsoleProblem when nothing is stored of the inquiry."""
    check_stored(connection, company_id)
    rule_set, names = chosen_rules(connection, staff.request.query_params.get("rules"))
    story = explain_inquiry(connection, rule_set, company_id, inquiry_id)
    if story["outcome"] == UNKNOWN and story["archived_at"] is None and not any(story["facts"].values()):
        raise ConsoleProblem("not-found")
    return story, names
