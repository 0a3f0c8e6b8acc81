"""A change of a template makes the states of its pages, and of no others, be looked at again."""

import shutil
from pathlib import Path

import pytest

from tests.portal.browser import digests, states
from tests.portal.browser.console_states import CONSOLE
from tests.portal.browser.states import SELLERS, SeenState, StatesPage

WITH_PARTS = "panel_due.html"


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the templates, which a test may change, in place of the templates."""
    folder = tmp_path / "templates"
    shutil.copytree(digests.TEMPLATES, folder)
    for module in (digests, states):
        monkeypatch.setattr(module, "TEMPLATES", folder)
    return folder


@pytest.fixture
def page(templates: Path, tmp_path: Path) -> StatesPage:
    """A page with two states, which were looked at."""
    page = StatesPage(tmp_path / "states.md", "# States\n", {"due": "open inquiries", "changes": "changed numbers"})
    page.write([seen("due", WITH_PARTS), seen("changes", "panel_changes.html")], is_part=False)
    return page


def seen(state: str, template: str, passed: int = 31) -> SeenState:
    """A state as a phone shows it."""
    return SeenState(state, template, "en", 390, "scripts", passed, 5000)


@pytest.mark.parametrize(
    ("file", "changed"),
    [(WITH_PARTS, ["due"]), ("panel.html", ["due", "changes"]), ("base.html", ["due", "changes"]), ("login.html", [])],
)
def test_a_change_concerns_the_states_of_its_pages(
    page: StatesPage, templates: Path, file: str, changed: list[str]
) -> None:
    assert page.changed() == []
    with (templates / file).open("a") as template:
        template.write("<p></p>")
    assert page.changed() == changed


def test_a_look_at_the_changed_states_leaves_the_others_as_they_are(page: StatesPage, templates: Path) -> None:
    with (templates / "panel.html").open("a") as template:
        template.write("<p></p>")
    page.write([seen("due", WITH_PARTS, passed=40)], is_part=True)
    assert page.changed() == ["changes"]
    assert "panel_due.html | 40 |" in page.file.read_text() and "panel_changes.html | 31 |" in page.file.read_text()


def test_a_new_state_another_sentence_and_a_removed_template_are_changes(page: StatesPage, templates: Path) -> None:
    again = StatesPage(page.file, page.head, {**page.states, "due": "another sentence", "late": "new"})
    assert again.changed() == ["due", "late"]
    (templates / "panel_changes.html").unlink()
    assert page.changed() == ["changes"]


def test_a_state_without_a_digest_was_not_looked_at(page: StatesPage) -> None:
    text = page.file.read_text()
    page.file.write_text(text.replace(digests.digest(WITH_PARTS), "–"))
    assert page.changed() == ["due"]
    page.write([seen("due", WITH_PARTS)], is_part=True)
    assert (page.file.read_text(), page.changed()) == (text, [])


@pytest.mark.parametrize("template", sorted({*SELLERS.templates().values(), *CONSOLE.templates().values()}))
def test_a_page_is_made_from_its_style_and_texts(template: str) -> None:
    files = {file.name for file in digests.sources(template)}
    assert {template, "portal.css", "texts.toml"} <= files
