"""docs/dev/lab.md shows the current results of the connection test."""

from pathlib import Path

import pytest

from services.connect import texts
from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.paths import ROOT
from tests.imap_lab import matrix

PAGE = ROOT / "docs" / "dev" / "lab.md"
BLOCKS = {
    name: (f"<!-- {name}: rendered by `python -m tests.imap_lab` -->\n", f"<!-- end of {name} -->")
    for name in ("providers", "defects")
}


def block(name: str) -> str:
    """A rendered block of the page."""
    begin, end = BLOCKS[name]
    text = PAGE.read_text("utf-8")
    return text[text.index(begin) + len(begin) : text.index(end)]


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_the_page_shows_the_results_of_the_connection_test(name: str, tmp_path: Path, ca: CertificateAuthority) -> None:
    render = matrix.providers if name == "providers" else matrix.defects
    assert block(name) == render(tmp_path, ca), "run `python -m tests.imap_lab`"


def test_every_code_on_the_page_has_its_sentences() -> None:
    sentences = texts.load()
    shown = set(block("providers").split("`")[1::2]) | {
        line.split("`")[-2] for line in block("defects").splitlines()[2:]
    }
    codes = set(sentences["code"]) | set(sentences["warning"])
    assert shown - {"filing-unknown"} <= codes and len(shown) > 10
