"""`make bench` finds what is missing before it measures, and keeps every figure that it has."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import needs
from bench.__main__ import ALL, LONG, Part, run
from bench.measure import Figure


def a_part(name: str, measured: list[str], seen: Callable[[], object] = lambda: None, *, fails: bool = False) -> Part:
    """A part with one figure; `seen` is called while it is measured."""

    def measure(repeats: int) -> list[Figure]:
        measured.append(name)
        seen()
        if fails:
            raise RuntimeError("the server ended")
        return [Figure(name, "a test", None, values=[1.0] * repeats)]

    return Part(measure, ("Dovecot",), 1)


def written(folder: Path) -> dict[str, set[str]]:
    """The figures in each file of results."""
    return {file.name: set(json.loads(file.read_text("utf-8"))["figures"]) for file in folder.glob("*.json")}


def test_nothing_is_measured_when_something_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured: list[str] = []
    parts = {"first": a_part("first", measured)}
    assert run(parts, 3, tmp_path, lambda wanted: [f"{', '.join(wanted)}: install it"]) == 1
    assert measured == [] and written(tmp_path) == {}
    assert "Dovecot: install it" in capsys.readouterr().err


def test_figures_are_written_as_soon_as_a_part_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshots: list[dict[str, set[str]]] = []
    measured: list[str] = []
    parts = {
        "first": a_part("first", measured),
        "second": a_part("second", measured, lambda: snapshots.append(written(tmp_path))),
    }
    assert run(parts, 2, tmp_path, lambda _: []) == 0
    (partial,) = snapshots[0].items()
    assert partial[0].startswith("partial-bench-") and partial[1] == {"first"}
    (final,) = written(tmp_path).items()
    assert final[0].startswith("bench-") and final[1] == {"first", "second"}
    assert "about 4 min for 2 of 2 parts remain" in capsys.readouterr().err


def test_a_part_that_fails_costs_no_figure_of_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured: list[str] = []
    parts = {
        "first": a_part("first", measured), "broken": a_part("broken", measured, fails=True),
        "third": a_part("third", measured),
    }  # fmt: skip
    assert run(parts, 1, tmp_path, lambda _: []) == 1
    assert measured == ["first", "broken", "third"]
    (file,) = written(tmp_path).items()
    assert file[0].startswith("partial-bench-") and file[1] == {"first", "third"}
    assert 'make bench PARTS="broken"' in capsys.readouterr().err


def test_every_part_names_needs_that_can_be_checked() -> None:
    assert {need for part in ALL.values() for need in part.needs} == set(needs.CHECKS)
    assert LONG.keys() <= ALL.keys()


def test_a_missing_dovecot_is_reported_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    (problem,) = needs.missing(["Dovecot"])
    assert "apt-get install" in problem and "dovecot-imapd" in problem
