"""A short fault run on the containers: every kind of fault once, and not one number differs. Long ones: `make faults STACK=1`."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.standalone.servers.postgres import scratch_folder
from tests.faults.containers import ContainerArena
from tests.faults.run import run
from tests.faults.schedule import ON_CONTAINERS
from tests.stack.conftest import FIGURES


@pytest.fixture
def scratch() -> Iterator[Path]:
    scratch = scratch_folder("replyrate-faults-")
    yield scratch
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.mark.timeout(1500)
def test_every_kind_of_fault_on_containers_changes_no_number(images: None, scratch: Path) -> None:
    result = run(1, faults=len(ON_CONTAINERS), inquiries=400, folder=scratch, kind_of_arena=ContainerArena, replay=True)
    assert result.differences == [] and result.behind == 0
    assert set(result.faults) == set(ON_CONTAINERS)
    assert result.outcomes == 2 * result.inquiries > 700 and result.rates > 20
    assert result.replies > 300 and result.poison >= 9
    FIGURES[f"fault run of {len(ON_CONTAINERS)} faults, settled after, s"] = (
        f"{result.seconds:.0f}, {result.settled_seconds:.0f}"
    )
