"""The state behind the health pages: progress, and dependencies that threads probe."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from services.common.errors import TransientError
from services.common.health import ConsumerProgress, DependencyProbe, behind
from services.common.lifecycle import Heartbeat
from tests.support.processes import until


def test_work_that_waits_at_one_position_for_too_long_is_a_problem() -> None:
    now = [0.0]
    progress = ConsumerProgress("record was merged", 300, lambda: now[0])
    progress.note(True, {0: 7})
    now[0] = 300
    progress.note(True, {0: 7})
    assert progress.problems() == []
    now[0] = 301
    progress.note(True, {0: 7})
    assert progress.problems() == ["no record was merged for 301 s although records wait"]
    progress.note(True, {0: 8})
    assert progress.problems() == [], "it moved"
    now[0] = 1000
    assert progress.problems() == [], "without a newer measurement nothing is known"
    progress.note(True, {0: 8})
    assert progress.problems() != []
    progress.note(False, {0: 8})
    assert progress.problems() == [], "nothing waits"


def test_measurements_before_a_failed_one_prove_nothing() -> None:
    now = [0.0]
    progress = ConsumerProgress("offset was committed", 300, lambda: now[0])
    progress.note(True, 1)
    now[0] = 400
    progress.unknown()
    assert progress.problems() == []
    progress.note(True, 1)
    assert progress.problems() == []


def test_expired_records_are_no_lag() -> None:
    spans = {("t", 0): (10, 20), ("t", 1): (50, 50), ("t", 2): (0, 5)}
    assert behind(spans, {("t", 0): 15}) == {("t", 0): 5, ("t", 1): 0, ("t", 2): 5}
    assert behind(spans, {("t", 0): -1, ("t", 2): 9}) == {("t", 0): 10, ("t", 1): 0, ("t", 2): 0}


def test_a_loop_without_progress_is_named() -> None:
    now = [0.0]
    heartbeat = Heartbeat(300, lambda: now[0])
    assert heartbeat.problems("join") == []
    now[0] = 301
    assert heartbeat.problems("join") == ["the join loop has not progressed for 301 s"]


def test_a_dependency_that_fails_or_hangs_does_not_answer_until_it_does() -> None:
    opened, failures, state = [0], [0], {"good": True, "hang": False}

    @contextmanager
    def open() -> Iterator[int]:
        opened[0] += 1
        yield opened[0]

    def ask(_: int) -> None:
        while state["hang"]:
            time.sleep(0.01)
        if not state["good"]:
            raise TransientError("away")

    def failed() -> None:
        failures[0] += 1

    probe = DependencyProbe("tests", "postgres", open, ask, failed=failed, ask_seconds=0.01, fresh_seconds=0.5)
    assert probe.problems() == ["postgres does not answer"], "no probe has run yet"
    with probe:
        until(lambda: probe.problems() == [], 30, "answers")
        assert opened == [1]
        state["good"] = False
        until(lambda: probe.problems() == ["postgres does not answer"], 30, "does not answer")
        until(lambda: failures[0] > 1, 30, "asked again")
        state["good"] = True
        until(lambda: probe.problems() == [], 30, "answers again")
        assert opened[0] > 1
        state["hang"] = True
        until(lambda: probe.problems() == ["postgres does not answer"], 30, "a probe that hangs is no answer")
        state["hang"] = False
        until(lambda: probe.problems() == [], 30, "and again")
