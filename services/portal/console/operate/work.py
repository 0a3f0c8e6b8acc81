"""The pages of long work: how far it is, and its result."""

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Depends
from starlette.responses import RedirectResponse, Response

from services.common.errors import ReplyrateError, TransientError
from services.common.language import Bilingual
from services.dead_letters.exclusion import LettersBusy
from services.dead_letters.letters import NoSuchLetter
from services.dead_letters.progress import TooScattered
from services.dead_letters.selection import SelectionChanged
from services.portal.console.long_work import Work, WorkKind, WorkStopped
from services.portal.console.operate import work_results
from services.portal.console.operate.started_work import PATH
from services.portal.console.problems import ConsoleProblem
from services.portal.console.staff import Staff, StaffGate
from services.portal.pages import live
from services.portal.pages.problems import PageProblem
from services.portal.pages.templates import render

PAGES: Final[dict[WorkKind, str]] = {
    "replay-check": "letters", "replay": "letters", "purge-check": "letters", "purge": "letters", "rules-diff": "rules",
}  # fmt: skip
"""Kind of work → the page of the navigation that it belongs to."""
ERRORS: Final[tuple[tuple[type[ReplyrateError], str], ...]] = (
    (SelectionChanged, "changed"), (LettersBusy, "busy"), (NoSuchLetter, "no-letter"), (TooScattered, "scattered"),
    (TransientError, "unavailable"), (WorkStopped, "stopped"),
)  # fmt: skip
"""Errors with a text of their own, [work_error] CODE."""


def routes(gate: StaffGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()

    @router.get(PATH + "{work_id}")
    def show(staff: Annotated[Staff, Depends(gate.operating_reader)], work_id: str) -> Response:
        work = _work(gate, staff, work_id)
        if not work.is_finished:
            return staff.page("console_work.html", PAGES[work.kind], work=work, path=PATH + work_id)
        if work.error is not None:
            code = next((code for kind, code in ERRORS if isinstance(work.error, kind)), "")
            return staff.page(
                "console_work_failed.html", PAGES[work.kind], status=409 if code in ("changed", "busy") else 200, work=work, code=code,
                sentences=_sentences(work.error),
            )  # fmt: skip
        template, values = work_results.page_of(work)
        return staff.page(template, PAGES[work.kind], work=work, **values)

    @router.get(PATH + "{work_id}/result")
    async def show_result(staff: Annotated[Staff, Depends(gate.operating_reader)], work_id: str) -> Response:
        await live.hold(lambda: _work(gate, staff, work_id).is_finished)
        return RedirectResponse(PATH + work_id, 303)

    @router.get(PATH + "{work_id}/events")
    def follow(staff: Annotated[Staff, Depends(gate.operating_reader)], work_id: str) -> Response:
        _work(gate, staff, work_id)
        return live.follow(partial(_part, gate, staff, work_id))

    return router


def _work(gate: StaffGate, staff: Staff, work_id: str) -> Work:
    """The work as it is now; the session is checked at every look. ConsoleProblem when either is over."""
    gate.operating_reader(staff.request)
    work = staff.resources.work.get(work_id, staff.session.session_id)
    if work is None:
        raise ConsoleProblem("not-found")
    return work


def _part(gate: StaffGate, staff: Staff, work_id: str) -> str | None:
    """What changes while the work runs; None when it is finished. PageProblem when the session or the work is over."""
    try:
        work = _work(gate, staff, work_id)
    except ConsoleProblem:
        raise PageProblem("session-ended") from None
    if work.is_finished:
        return None
    return render("console_work_part.html", staff.language, work=work, p=staff.says)


def _sentences(error: Exception) -> tuple[str | Bilingual, ...]:
    """What an error says where its kind has no text of its own."""
    return error.sentences if isinstance(error, ReplyrateError) else ()
