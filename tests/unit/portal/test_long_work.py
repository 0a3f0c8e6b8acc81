"""Long work of the console: its progress, result and error, whose it is, what is forgotten, and its end with the process."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from services.common.errors import TransientError
from services.common.language import Language
from services.portal.console import long_work
from services.portal.console.long_work import LongWork, Report, TooMuchWork, WorkStopped
from services.portal.console.texts import text
from services.portal.pages.templates import render

SECONDS = 30


@pytest.fixture
def works() -> Iterator[LongWork]:
    works = LongWork()
    yield works
    works.close()


def finished(works: LongWork, work_id: str) -> long_work.Work:
    work = works.get(work_id, "s-1")
    assert work is not None
    for _ in range(SECONDS * 100):
        if work.is_finished:
            return work
        threading.Event().wait(0.01)
    raise AssertionError(work)


def test_work_has_progress_a_result_and_an_owner(works: LongWork) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def count(report: Report) -> str:
        report(3, 7)
        begun.set()
        assert goes_on.wait(SECONDS)
        return "all seven"

    work_id = works.start("replay", "s-1", count)
    assert begun.wait(SECONDS)
    work = works.get(work_id, "s-1")
    assert work is not None and (work.done, work.total, work.is_finished) == (3, 7, False)
    assert work.is_begun
    assert works.get(work_id, "s-2") is None and works.get("j-none", "s-1") is None
    goes_on.set()
    assert finished(works, work_id).result == "all seven"


def test_an_error_ends_the_work_and_not_the_process(works: LongWork) -> None:
    def fail(report: Report) -> None:
        raise TransientError("Kafka does not answer")

    def break_down(report: Report) -> None:
        raise ZeroDivisionError

    failed = finished(works, works.start("purge", "s-1", fail))
    assert isinstance(failed.error, TransientError) and failed.result is None
    assert isinstance(finished(works, works.start("purge", "s-1", break_down)).error, ZeroDivisionError)


def test_finished_work_makes_room_and_unfinished_work_does_not(works: LongWork) -> None:
    goes_on = threading.Event()
    first = works.start("purge", "s-1", lambda report: None)
    finished(works, first)
    for _ in range(long_work.MOST):
        works.start("purge", "s-1", lambda report: goes_on.wait(SECONDS))
    assert works.get(first, "s-1") is None
    with pytest.raises(TooMuchWork):
        works.start("purge", "s-1", lambda report: None)
    goes_on.set()


def test_a_result_is_shown_for_an_hour(works: LongWork) -> None:
    work_id = works.start("rules-diff", "s-1", lambda report: "result")
    work = finished(works, work_id)
    assert work.ended_at is not None and works.get(work_id, "s-1") is work
    work.ended_at -= long_work.KEPT_SECONDS
    assert works.get(work_id, "s-1") is None


def test_work_stops_at_its_next_report_when_the_process_ends() -> None:
    works, begun = LongWork(), threading.Event()

    def go_on(report: Report) -> None:
        while True:
            report(1, 2)
            begun.set()

    work_id = works.start("rules-diff", "s-1", go_on)
    assert begun.wait(SECONDS)
    works.close()
    assert isinstance(finished(works, work_id).error, WorkStopped)


def test_a_page_tells_work_that_waits_from_work_whose_size_is_not_known() -> None:
    def shown(work: long_work.Work) -> str:
        return render("console_work_part.html", "en", work=work, p=partial(_text, "en"))

    work = long_work.Work("j-1", "purge", "s-1")
    assert "It begins as soon as earlier work is done." in shown(work)
    work.is_begun = True
    assert "It is running;" in shown(work) and "earlier work" not in shown(work)
    work.total = 9
    assert "0 of 9 done." in shown(work)


def _text(language: Language, name: str, /, **values: object) -> str:
    return text(name, language, **values)
