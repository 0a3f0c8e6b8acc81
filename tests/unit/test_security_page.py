"""docs/security.md names tests that exist, for every threat."""

import ast
import re

from services.standalone.servers.paths import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


def threats() -> list[list[str]]:
    """The cells of each row of the table of threats."""
    section = PAGE.partition("## Threats and defences")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return rows[1:]


def test_every_threat_has_a_defence_and_a_test() -> None:
    assert len(threats()) >= 20
    for cells in threats():
        assert len(cells) == 3 and all(cell.strip() for cell in cells), cells
        assert NAMED.search(cells[2]), f"no test is named for: {cells[0]}"


def test_every_named_test_exists() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) == PAGE.count("`tests/"), "a test is not written as `tests/FILE.py::test_NAME`"
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path}::{name}"
