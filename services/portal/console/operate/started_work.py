"""How a form of the console begins work that takes a while."""

from typing import Final

from starlette.responses import RedirectResponse

from services.portal.console.long_work import Task, TooMuchWork, WorkKind
from services.portal.console.problems import ConsoleProblem
from services.portal.console.staff import Staff

PATH: Final = "/jobs/"
"""What the path of the page of some work begins with; its id follows."""


def begin(staff: Staff, kind: WorkKind, task: Task) -> RedirectResponse:
    """Begin work and lead to its page. ConsoleProblem when too much is waiting."""
    try:
        work_id = staff.resources.work.start(kind, staff.session.session_id, task)
    except TooMuchWork:
        raise ConsoleProblem("too-much-work") from None
    return RedirectResponse(PATH + work_id, 303)
