"""A short fault run with every kind of fault once, and the control that must fail. Long runs: `make faults`."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.standalone.servers.postgres import scratch_folder
from tests.faults import schedule
from tests.faults.run import CONTROL, run


@pytest.fixture
def folder() -> Iterator[Path]:
    scratch = scratch_folder("replyrate-faults-")
    yield scratch
    shutil.rmtree(scratch, ignore_errors=True)


def test_a_seed_is_a_schedule() -> None:
    planned = schedule.plan(7, 60)
    assert planned == schedule.plan(7, 60) and planned != schedule.plan(8, 60)
    assert {fault.kind for fault in planned[: len(schedule.KINDS)]} == set(schedule.KINDS)
    assert all(1 <= fault.wait_seconds <= 4 for fault in planned)


@pytest.mark.timeout(2400)
def test_every_kind_of_fault_changes_no_number(folder: Path) -> None:
    result = run(1, faults=len(schedule.KINDS), inquiries=400, folder=folder, replay=True)
    assert result.differences == [] and result.behind == 0
    assert set(result.faults) == set(schedule.KINDS)
    assert result.outcomes == 2 * result.inquiries == 800 and result.rates > 20
    assert result.replies > 300 and result.poison >= 9


@pytest.mark.timeout(1800)
def test_the_harness_sees_loss(folder: Path) -> None:
    """An aggregator whose offset moves before its effects loses facts under kills, and the comparison says so."""
    result = run(4, faults=8, inquiries=300, folder=folder, **CONTROL)
    # It had merged everything that it ever will: what is missing is lost, not late.
    assert result.behind == 0
    assert any("is lost" in difference for difference in result.differences)
