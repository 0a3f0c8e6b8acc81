"""Pages that are made from the code are fresh, and links between pages lead somewhere."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import services
from bench import page as speed
from services.cli.setup import pages
from services.standalone.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "schemas").glob("*.md")])


@pytest.mark.parametrize("name", sorted(pages()))
def test_rendered_pages_are_fresh(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == pages()[name], "run `make docs`"


def test_the_page_of_figures_shows_the_newest_results() -> None:
    assert (ROOT / "docs" / "speed.md").read_text("utf-8") == speed.render(), "run `python -m bench.page`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_bounds_are_those_of_the_code() -> None:
    rows = re.findall(r"\| `(services[\w.]+)` \| (\d+) \|", (ROOT / "docs" / "operations.md").read_text("utf-8"))
    assert len(rows) > 10
    for name, told in rows:
        value: Any = services
        for part in name.split(".")[1:]:
            value = getattr(value, part, None) or import_module(f"{value.__name__}.{part}")
            value = value() if isinstance(value, type) else value
        assert value == int(told), name


def test_commands_that_pages_name_exist() -> None:
    from services.cli.__main__ import main

    told = set(re.findall(r"`replyrate ([a-z]+)", "".join(page.read_text("utf-8") for page in PAGES)))
    assert told
    assert told <= set(main.commands)
