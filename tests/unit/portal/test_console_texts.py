"""The texts of the console: the pages use each of them, and use no other; every page of the navigation and every action has its texts."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from services.common.language import LANGUAGES
from services.portal.console import advice, texts
from services.portal.console.pages import PAGES
from services.portal.console.problems import STATUS
from tests.unit.portal.test_panel_texts import OF_A_CODE, PLAIN

OF_PROBLEMS = frozenset(f"problem-{code}.{part}" for code in STATUS for part in ("title", "says", "next"))


def sources() -> Iterator[str]:
    """Templates and modules of the console."""
    portal = resources.files("services.portal")
    for folder in ("templates", "console"):
        for file in Path(str(portal / folder)).rglob("*"):
            if file.name.endswith((".py", ".html")) and (folder == "console" or file.name.startswith("console")):
                yield file.read_text(encoding="utf-8")


def test_pages_use_every_text_and_no_other() -> None:
    tables = texts.load()
    used = set(OF_PROBLEMS)
    for source in sources():
        used |= set(PLAIN.findall(source))
        table_names = {name for names in OF_A_CODE.findall(source) for name in names if name}
        used |= {f"{name}.{code}" for name in table_names for code in tables[name]}
    used |= {f"nav.{entry.name}" for entry in PAGES} | {f"{entry.name}.title" for entry in PAGES}
    used |= {f"action.{action}" for action in tables["action"]}
    assert used == {f"{name}.{key}" for name, table in tables.items() for key in table}


def test_every_text_is_in_both_languages() -> None:
    for name, table in texts.load().items():
        for key, languages in table.items():
            assert languages.keys() == {"en", "zh"} and all(languages.values()), f"{name}.{key}"


def test_texts_are_shown_as_they_are_and_have_no_markup() -> None:
    shown = {
        f"{name}.{key}": sentence
        for name, table in texts.load().items()
        for key, languages in table.items()
        for sentence in languages.values()
    }
    shown |= {
        f"{name}.{code}": sentence.text(language)
        for name, table in advice.load().items()
        for code, sentence in table.items()
        for language in LANGUAGES
    }
    assert [name for name, sentence in shown.items() if "`" in sentence] == []
